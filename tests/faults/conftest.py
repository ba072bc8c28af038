"""The stages, and the client that speaks with their upstreams: every test runs over both, or says `once`.

A stage is one process for a module's tests over one client; after each test it must be as it was before.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from .process import Process
from .stage import HASTY, KEYS, TRAITS, UPSTREAM_KEY, MakeProcess, Stage, Traits, a_test

IMPATIENT = {"header_time": "300ms", "body_idle": "300ms", "write_idle": "300ms"}


@pytest.fixture(scope="module", params=["http1", pytest.param("httpx2", marks=pytest.mark.slow)])
def upstream_client(request: pytest.FixtureRequest) -> str:
    """`upstreams[].client`. The second one is part of `make test`, not of `make unit`."""
    name: str = request.param
    return name


@pytest.fixture
def traits(upstream_client: str) -> Traits:
    """What is this client's own."""
    return TRAITS[upstream_client]


@pytest.fixture
def process(upstream_client: str) -> MakeProcess:
    """Makes a process for one test alone."""

    def make(base_url: str, **settings: Any) -> Process:
        return Process(base_url, upstream={"client": upstream_client, **settings})

    return make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(upstream_client: str) -> AsyncIterator[Stage]:
    async with Stage(upstream={"client": upstream_client}) as stage:
        yield stage


@pytest_asyncio.fixture
async def stage(shared: Stage) -> AsyncIterator[Stage]:
    """A process with the default limits and timeouts, and nothing in its chain that changes a byte."""
    async with a_test(shared):
        yield shared


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_hasty(upstream_client: str) -> AsyncIterator[Stage]:
    async with Stage(upstream={"client": upstream_client, "timeouts": HASTY}) as stage:
        yield stage


@pytest_asyncio.fixture
async def hasty(shared_hasty: Stage) -> AsyncIterator[Stage]:
    """A process that does not wait long for its upstream."""
    async with a_test(shared_hasty):
        yield shared_hasty


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_impatient(upstream_client: str) -> AsyncIterator[Stage]:
    async with Stage(upstream={"client": upstream_client}, config={"limits_http": IMPATIENT}) as stage:
        yield stage


@pytest_asyncio.fixture
async def impatient(shared_impatient: Stage) -> AsyncIterator[Stage]:
    """A process that does not wait long for its clients."""
    async with a_test(shared_impatient):
        yield shared_impatient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_small(upstream_client: str) -> AsyncIterator[Stage]:
    settings = {"client": upstream_client, "pool": {"max": 2, "waiting": 2}}
    async with Stage(upstream=settings) as stage:
        yield stage


@pytest_asyncio.fixture
async def small(shared_small: Stage) -> AsyncIterator[Stage]:
    """A process with two upstream connections at most."""
    async with a_test(shared_small):
        yield shared_small


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_keyed(upstream_client: str) -> AsyncIterator[Stage]:
    settings = {"client": upstream_client, "api_key": UPSTREAM_KEY}
    async with Stage(upstream=settings, config={"plugins": KEYS}) as stage:
        yield stage


@pytest_asyncio.fixture
async def keyed(shared_keyed: Stage) -> AsyncIterator[Stage]:
    """A process with client keys and an upstream key."""
    async with a_test(shared_keyed):
        yield shared_keyed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_books(upstream_client: str) -> AsyncIterator[Stage]:
    async with Stage(upstream={"client": upstream_client, "timeouts": HASTY}, books=True) as stage:
        await stage.warmed()
        yield stage


@pytest_asyncio.fixture
async def books(shared_books: Stage) -> AsyncIterator[Stage]:
    """A process that keeps account: estimates, limits on money and requests in flight, and a ledger."""
    async with a_test(shared_books):
        yield shared_books
