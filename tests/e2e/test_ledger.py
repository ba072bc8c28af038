"""What a caller, an operator and a finance person see of the same requests."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest_asyncio

from tests.faults.process import Process

from .command import run

ALICE, BOB = "sk-alice-of-the-red-team", "sk-bob-of-the-blue-team"
CHAIN: list[Any] = [
    {
        "use": "auth",
        "keys": [
            {"key": ALICE, "user": "alice", "team": "red", "id": "key-a"},
            {"key": BOB, "user": "bob", "team": "blue", "id": "key-b"},
        ],
    },
    "precost",
    "ledger",
    {"use": "limiter", "limits": [{"requests": "3/hour", "per": "key"}]},
    "annotate",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed(demos: tuple[str, str], tmp_path_factory: Any) -> AsyncIterator[Process]:
    state = tmp_path_factory.mktemp("state")
    async with Process(demos[1], config={"plugins": CHAIN, "state_dir": str(state)}) as process:
        yield process


def of(process: Process, key: str | None = None) -> httpx2.AsyncClient:
    """On the data port with a key, on the management port without."""
    port = process.management if key is None else process.port
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20)


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], **more}


async def test_everybody_sees_what_is_theirs(keyed: Process) -> None:
    async with of(keyed, ALICE) as alice, of(keyed, BOB) as bob, of(keyed) as operator:
        whole = await alice.post("/v1/chat/completions", json=chat())
        stream = await alice.post("/v1/chat/completions", json=chat(stream=True))
        other = await bob.post("/v1/chat/completions", json=chat(model="gpt-4o"))
        ids = [answer.headers["x-weir-request-id"] for answer in (whole, stream, other)]

        row = (await alice.get(f"/usage/{ids[0]}")).json()
        used = whole.json()["usage"]
        assert (row["user"], row["team"], row["key_id"]) == ("alice", "red", "key-a")
        assert (row["input_tokens"], row["output_tokens"]) == (
            used["prompt_tokens"],
            used["completion_tokens"],
        )
        assert Decimal(row["cost_usd"]) == Decimal(whole.headers["x-weir-cost-usd"])
        assert {"auth", "precost", "upstream"} <= set(row["hops"])
        assert (await alice.get(f"/usage/{ids[1]}")).json()["stream"] is True
        assert (await alice.get(f"/usage/{ids[2]}")).status_code == 404
        assert (await bob.get(f"/usage/{ids[2]}")).status_code == 200

        mine = (await alice.get("/usage?by=model")).json()
        assert [one["requests"] for one in mine["data"]] == [2]
        all_of_them = (await operator.get("/usage?by=team")).json()
        assert {one["team"]: one["requests"] for one in all_of_them["data"]} == {"red": 2, "blue": 1}
        lines = (await operator.get("/usage/rows?format=csv")).text.splitlines()
        assert len(lines) == 4
        assert (await operator.get(f"/usage/{ids[2]}")).json()["user"] == "bob"


async def test_what_the_limiter_refuses_has_its_row_and_costs_nothing(keyed: Process) -> None:
    async with of(keyed, BOB) as bob:
        answers = [await bob.post("/v1/chat/completions", json=chat(), timeout=20) for _ in range(4)]
        refused = answers[-1]
        assert refused.status_code == 429
        row = (await bob.get(f"/usage/{refused.headers['x-weir-request-id']}")).json()
        assert (row["status"], row["attempts"], row["cost_usd"]) == (429, 0, "0")
        assert row["end_code"] == "rate_limit_exceeded"


async def test_who_has_no_key_has_no_row_and_sees_none(keyed: Process) -> None:
    async with of(keyed, "sk-of-a-stranger-with-none") as stranger, of(keyed) as operator:
        before = (await operator.get("/usage")).json()["total"]["requests"]
        assert (await stranger.post("/v1/chat/completions", json=chat())).status_code == 401
        for path in ("/usage", "/usage/rows", "/usage/anything"):
            assert (await stranger.get(path)).status_code == 401
        assert (await operator.get("/usage")).json()["total"]["requests"] == before


async def test_what_is_below_v1_is_the_upstreams(keyed: Process) -> None:
    async with of(keyed, ALICE) as alice:
        assert (await alice.get("/v1/usage")).json().get("object") != "weir.usage"


async def test_the_command_line_reads_the_same(keyed: Process) -> None:
    async with of(keyed) as operator:
        total = (await operator.get("/usage")).json()["total"]
    done = run("-m", "proxy", "usage", "--by", "team", "--config", "weir.yaml", folder=Path(keyed.folder))
    assert (done.status, done.stderr) == (0, "")
    last = done.stdout.splitlines()[-1].split()
    assert last[:2] == ["all", str(total["requests"])]
    assert any(line.startswith("red") and "█" in line for line in done.stdout.splitlines())
