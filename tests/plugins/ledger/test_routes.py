import asyncio
import csv
import datetime as dt
import io
import threading
import tracemalloc
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette

from plugins.ledger import Ledger, export
from plugins.ledger.columns import TOKENS
from plugins.ledger.report import Totals
from plugins.ledger.table import insert
from plugins.ledger.told import NAMES
from proxy.api import IDENTITY, Identity

from .making import a_payload, server

NOW = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger()
    await ledger.start(server(tmp_path))
    yield ledger
    await ledger.stop()


def put(ledger: Ledger, *batch: bytes) -> None:
    assert ledger._keeper.database is not None
    with ledger._keeper.database.begin() as connection:
        insert(connection, batch)


class AsIs:
    """Puts an exchange into the scope, as the engine does on the data port."""

    def __init__(self, app: Any, who: Identity) -> None:
        self._app, self._exchange = app, {IDENTITY: who}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "weir.exchange": self._exchange}, receive, send)


async def ask(ledger: Ledger, path: str, who: Identity | None = None, **headers: str) -> httpx2.Response:
    """On the management port, or as somebody on the data port."""
    app: Any = Starlette(routes=[*(ledger.management_routes() if who is None else ledger.routes())])
    if who is not None:
        app = AsIs(app, who)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://weir.test") as client:
        return await client.get(path, headers=headers)


ROWS = [
    a_payload("a", started_at=NOW, cost_pico=10**12),
    a_payload("b", started_at=NOW, key_id="key-b", user="bob", team="blue", cost_pico=2 * 10**12),
    a_payload("c", started_at=NOW, key_id=None, user="carol", team=None, cost_pico=4 * 10**12),
]
ALICE, BOB, CAROL = (
    Identity("alice", "192.0.2.1", "key-a", "red"),
    Identity("bob", "192.0.2.1", "key-b", "blue"),
    Identity("carol", "192.0.2.1"),
)


async def test_totals_are_told_in_dollars_with_their_span(ledger: Ledger) -> None:
    put(ledger, *ROWS)
    answer = await ask(ledger, "/usage?by=team&since=1d")
    told = answer.json()
    assert (answer.status_code, told["object"], told["by"], told["truncated"]) == (
        200,
        "weir.usage",
        ["team"],
        False,
    )
    assert [(one["team"], one["cost_usd"]) for one in told["data"]] == [
        (None, "4"),
        ("blue", "2"),
        ("red", "1"),
    ]
    assert told["total"]["cost_usd"] == "7"
    assert set(TOKENS) < set(told["total"])
    assert told["since"] < told["until"]


async def test_more_groups_than_wanted_are_cut_and_the_sum_is_of_all(ledger: Ledger) -> None:
    put(ledger, *ROWS)
    told = (await ask(ledger, "/usage?by=user&limit=2")).json()
    assert [one["user"] for one in told["data"]] == ["carol", "bob"]
    assert (told["truncated"], told["total"]["requests"]) == (True, 3)


async def test_groups_that_clients_make_up_have_a_bound(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.ledger.routes.GROUPS", 2)
    put(ledger, *ROWS)
    answer = await ask(ledger, "/usage?by=user")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_usage_query")
    assert "more than 2 groups" in answer.json()["error"]["message"]
    assert (await ask(ledger, "/usage?by=user&user=bob&user=carol")).status_code == 200


async def test_a_year_that_ends_later_elsewhere_is_no_mistake(ledger: Ledger) -> None:
    put(ledger, *ROWS)
    answer = await ask(ledger, "/usage?until=9999-12-31T23:59-12:00")
    assert (answer.status_code, answer.json()["total"]["requests"]) == (200, 3)


async def test_many_groups_are_told_off_the_loop(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    told = Totals.told

    def noted(totals: Totals) -> dict[str, Any]:
        threads.add(threading.current_thread() is threading.main_thread())
        return told(totals)

    monkeypatch.setattr(Totals, "told", noted)
    put(ledger, *ROWS)
    for path in ("/usage?by=user", "/usage?by=user&format=csv"):
        assert (await ask(ledger, path)).status_code == 200
    assert threads == {False}


@pytest.mark.parametrize("how", ["format", "accept"])
async def test_totals_as_csv(ledger: Ledger, how: str) -> None:
    put(ledger, *ROWS)
    if how == "format":
        answer = await ask(ledger, "/usage?by=day,user&format=csv")
    else:
        answer = await ask(ledger, "/usage?by=day,user", accept="text/csv")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(line["user"], line["cost_usd"]) for line in lines] == [
        ("carol", "4"),
        ("bob", "2"),
        ("alice", "1"),
    ]
    assert all(line["day"] for line in lines)


@pytest.mark.parametrize(("who", "cost"), [(ALICE, "1"), (BOB, "2"), (CAROL, "4")])
async def test_on_the_data_port_everybody_sees_their_own_rows_alone(
    ledger: Ledger, who: Identity, cost: str
) -> None:
    put(ledger, *ROWS)
    assert (await ask(ledger, "/usage", who)).json()["total"]["cost_usd"] == cost
    for trick in (
        "?key=key-a&key=key-b",
        "?user=alice&user=bob&user=carol",
        "?by=user",
        "?team=red&team=blue",
    ):
        total = (await ask(ledger, f"/usage{trick}", who)).json()["total"]
        assert total["cost_usd"] in (cost, "0")
    own = {ALICE: "a", BOB: "b", CAROL: "c"}[who]
    for id_ in "abc":
        answer = await ask(ledger, f"/usage/{id_}", who)
        assert answer.status_code == (200 if id_ == own else 404)
    lines = (await ask(ledger, "/usage/rows", who)).text.splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == [own]


@pytest.mark.parametrize(("who", "own"), [(ALICE, "a"), (CAROL, "c")])
async def test_rows_of_the_same_user_by_another_key_are_anothers(
    ledger: Ledger, who: Identity, own: str
) -> None:
    """A key is what was handed out; whoever has none is not who has one, though the name is the same."""
    put(ledger, *ROWS)
    put(
        ledger,
        *(a_payload(f"x-{user}", started_at=NOW, key_id="key-x", user=user) for user in ("alice", "carol")),
    )
    lines = (await ask(ledger, "/usage/rows", who)).text.splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == [own]
    assert (await ask(ledger, "/usage", who)).json()["total"]["requests"] == 1
    for id_ in ("x-alice", "x-carol"):
        assert (await ask(ledger, f"/usage/{id_}", who)).status_code == 404


async def test_the_row_of_a_request_is_told_whole(ledger: Ledger) -> None:
    put(ledger, *ROWS)
    told = (await ask(ledger, "/usage/a")).json()
    assert tuple(told) == NAMES
    assert (told["user"], told["cost_usd"], told["hops"]) == ("alice", "1", {"upstream": 1400000})


async def test_a_row_that_is_still_in_the_journal_is_found(ledger: Ledger) -> None:
    for n in range(5):
        assert ledger._keeper.end(a_payload(f"{n}", started_at=NOW), patient=True)
        assert (await ask(ledger, f"/usage/{n}")).status_code == 200
        assert (await ask(ledger, "/usage")).json()["total"]["requests"] == n + 1


async def test_a_row_that_another_process_writes_a_moment_later_is_found(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            put(ledger, *ROWS)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert (await ask(ledger, "/usage/a")).status_code == 200
    assert len(slept) == 2


async def test_an_unknown_request_is_404(ledger: Ledger) -> None:
    answer = await ask(ledger, "/usage/none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "usage_not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/usage?by=colour",
        "/usage?since=then",
        "/usage?format=xml",
        "/usage/rows?by=day",
        "/usage/rows?format=json",
    ],
)
async def test_what_cannot_be_asked_is_400(ledger: Ledger, path: str) -> None:
    answer = await ask(ledger, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_usage_query")


async def test_a_database_that_cannot_be_read_is_503(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> None:
        raise ConnectionError("host and password")

    monkeypatch.setattr(ledger._keeper.database, "read", down)
    for path in ("/usage", "/usage/a", "/usage/rows"):
        answer = await ask(ledger, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unreadable")
        assert "password" not in answer.text


async def test_a_ledger_that_is_off_says_so() -> None:
    answer = await ask(Ledger(), "/usage")
    assert answer.status_code == 503
    assert "off" in answer.json()["error"]["message"]


async def test_rows_are_exported_as_lines_and_as_csv(ledger: Ledger) -> None:
    put(ledger, *(a_payload(f"{n:04}", started_at=NOW) for n in range(2500)))
    lines = await ask(ledger, "/usage/rows")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [orjson.loads(line)["id"] for line in lines.text.splitlines()] == [f"{n:04}" for n in range(2500)]
    table = list(csv.DictReader(io.StringIO((await ask(ledger, "/usage/rows?format=csv&team=red")).text)))
    assert len(table) == 2500
    assert sum(Decimal(line["cost_usd"]) for line in table) == 2500 * Decimal("0.0035")


async def stream(ledger: Ledger, receive: Any, send: Any) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/usage/rows",
        "query_string": b"since=2000-01-01",
        "headers": [],
    }
    await Starlette(routes=[*ledger.management_routes()])(scope, receive, send)


async def test_an_export_takes_no_more_memory_than_a_few_pages(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 50)
    many = 6_000
    put(ledger, *(a_payload(f"{n:07}", started_at=NOW) for n in range(many)))
    size = 0

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        nonlocal size
        size += len(message.get("body", b""))

    await stream(ledger, receive, send)  # what is imported and compiled once is not of the export
    size = 0
    tracemalloc.start()
    try:
        await stream(ledger, receive, send)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > many * 800
    assert peak < size / 4


async def test_an_export_ends_when_nobody_listens(ledger: Ledger) -> None:
    put(ledger, *(a_payload(f"{n:07}", started_at=NOW) for n in range(5000)))
    pieces: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pieces.append(message)

    await stream(ledger, receive, send)
    assert len(pieces) < 4
    assert not any(message.get("more_body") is False for message in pieces[1:])
