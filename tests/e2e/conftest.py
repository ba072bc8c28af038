"""Two demos and a Weir before one of them, for each file."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.faults.process import Process
from tests.ports import free_ports

from .either import Kind, sdk
from .twins import LIMIT, Twins, demo_upstream


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URLs: of the one for direct clients, and of the one behind Weir."""
    folder: Path = tmp_path_factory.mktemp("demos")
    one, two = free_ports(2)
    with demo_upstream(folder / "direct", one) as direct, demo_upstream(folder / "behind", two) as behind:
        yield direct, behind


CHAINS: dict[str, list[Any]] = {
    "auth": ["auth"],
    "all": [
        "tracing",
        "auth",
        "precost",
        {"use": "limiter", "limits": [{"name": "many", "requests": f"{LIMIT}/minute"}]},
        "annotate",
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CHAINS)
async def weir(request: pytest.FixtureRequest, demos: tuple[str, str]) -> AsyncIterator[Process]:
    """The same must come out whether one plugin is on or all are."""
    async with Process(demos[1], config={"plugins": CHAINS[request.param]}) as process:
        yield process


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest_asyncio.fixture
async def twins(kind: Kind, demos: tuple[str, str], weir: Process) -> AsyncIterator[Twins]:
    direct_sent: list[httpx2.Request] = []
    weir_sent: list[httpx2.Request] = []
    async with (
        sdk(kind, demos[0], sent=direct_sent) as direct,
        sdk(kind, f"http://127.0.0.1:{weir.port}/v1", sent=weir_sent) as through,
    ):
        yield Twins(kind, direct, through, direct_sent, weir_sent)
