"""Keys in a database, between two real servers, the command line and the management port."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from plugins.auth.store import Made, Store
from tests.database import Postgres
from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, json_answer

from .command import run

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

AUTH = {"plugins": [{"use": "auth", "store": "database"}]}
TOKEN = "management-token-0123456789"
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
WITHIN = 2.0
"""Seconds within which a change is seen everywhere."""


async def script(conn: Conn) -> None:
    while True:
        await conn.request()
        await conn.send(json_answer({"id": "x", "object": "chat.completion", "choices": []}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[RawUpstream]:
    async with RawUpstream(script) as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(up: RawUpstream, folder: Path) -> AsyncIterator[tuple[Process, Process]]:
    """Two servers on one database."""
    config = {**AUTH, "state_dir": str(folder), "management_token": TOKEN}
    async with Process(up.base_url, config=config) as one, Process(up.base_url, config=config) as other:
        yield one, other


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


def weir(folder: Path, *arguments: str) -> str:
    """A command on the same database, as an operator types it: elsewhere, and told of nothing but that."""
    ended = run("-m", "proxy", "keys", *arguments, folder=folder, env={"WEIR_STATE_DIR": str(folder)})
    assert ended.status == 0, ended.stderr
    return ended.stdout.strip()


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """The database, as commands and servers have it."""
    store = Store(url)
    store.open()
    try:
        yield store
    finally:
        store.close()


def made(url: str, **said: Any) -> Made:
    """A new key in this database."""
    with opened(url) as store:
        return store.create(said, "test")


async def ask(http: httpx2.AsyncClient, server: Process, key: str, **more: Any) -> httpx2.Response:
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    return await http.post(url, json={**CHAT, **more}, headers={"authorization": f"Bearer {key}"})


async def admin(
    http: httpx2.AsyncClient, server: Process, method: str, path: str, body: Any = None, **headers: str
) -> httpx2.Response:
    url = f"http://127.0.0.1:{server.management}{path}"
    return await http.request(method, url, json=body, headers={"authorization": f"Bearer {TOKEN}", **headers})


async def sees(
    http: httpx2.AsyncClient, server: Process, key: str, status: int, since: float, **more: Any
) -> httpx2.Response:
    """The first answer of this status; it comes within the time that is promised."""
    while True:
        answer = await ask(http, server, key, **more)
        if answer.status_code == status:
            return answer
        assert time.monotonic() - since < WITHIN, answer.text
        await asyncio.sleep(0.02)


async def test_a_key_is_made_listed_changed_rotated_and_revoked_without_a_restart(
    http: httpx2.AsyncClient, two: tuple[Process, Process], folder: Path
) -> None:
    key = weir(
        folder, "create", "--user", "alice", "--team", "search", "--budget", "20/day", "--limit",
        "requests=100/minute", "--models", "gpt-4o*", "--expires", "90d",
    )  # fmt: skip
    now = time.monotonic()
    for server in two:
        assert (await sees(http, server, key, 200, now)).json()["id"] == "x"
        await server.logged(user="alice", status=200)
    id = weir(folder, "list", "--user", "alice").splitlines()[1].split()[0]
    assert key not in weir(folder, "list", "--json")
    # A change: another model.
    weir(folder, "update", id, "--models", "o9")
    now = time.monotonic()
    for server in two:
        refused = await sees(http, server, key, 403, now)
        assert refused.json()["error"]["code"] == "model_not_allowed"
    assert (await ask(http, two[0], key, model="o9")).status_code == 200
    # Another key in its place; the old one has its time.
    new = weir(folder, "rotate", id, "--grace", "1h")
    now = time.monotonic()
    for server in two:
        await sees(http, server, new, 200, now, model="o9")
        assert (await ask(http, server, key, model="o9")).status_code == 200
    # And none of the two.
    weir(folder, "revoke", id)
    now = time.monotonic()
    for server in two:
        for each in (key, new):
            refused = await sees(http, server, each, 401, now, model="o9")
            assert refused.json()["error"]["code"] == "invalid_api_key"
    shown = weir(folder, "show", id)
    assert "revoked" in shown
    for what in ("create", "update", "rotate", "revoke"):
        assert f"{what} by cli" in shown


async def test_an_expired_and_a_rotated_out_key_end_by_themselves(
    http: httpx2.AsyncClient, two: tuple[Process, Process], folder: Path
) -> None:
    made = (await admin(http, two[0], "POST", "/keys", {"user": "bob", "expires": "3s"})).json()
    await sees(http, two[1], made["key"], 200, time.monotonic())
    await sees(http, two[1], made["key"], 401, time.monotonic() + 3)
    lasting = (await admin(http, two[0], "POST", "/keys", {"user": "bob"})).json()
    await sees(http, two[1], lasting["key"], 200, time.monotonic())
    path = f"/keys/{lasting['id']}/rotate"
    assert (await admin(http, two[0], "POST", path, {"grace": "0s"})).status_code == 200
    await sees(http, two[1], lasting["key"], 401, time.monotonic())


async def test_what_one_server_is_told_the_other_does(
    http: httpx2.AsyncClient, two: tuple[Process, Process]
) -> None:
    said = {"user": "carol", "limits": [{"requests": "5/minute"}], "models": ["gpt-4o-mini"]}
    made = await admin(http, two[0], "POST", "/keys", said)
    assert made.status_code == 201
    key, id = made.json()["key"], made.json()["id"]
    await sees(http, two[1], key, 200, time.monotonic())
    assert (await admin(http, two[1], "DELETE", f"/keys/{id}")).json()["state"] == "revoked"
    now = time.monotonic()
    for server in two:
        await sees(http, server, key, 401, now)
    line = await two[0].logged(event="key audit", what="create", key_id=id)
    assert line["who"] == "management:127.0.0.1"
    lines = (await admin(http, two[0], "GET", f"/keys/audit?key={id}")).json()["data"]
    assert [line["what"] for line in lines] == ["revoke", "create"]
    for server in two:
        assert key not in server.stderr


async def test_keys_are_behind_the_management_token(
    http: httpx2.AsyncClient, two: tuple[Process, Process]
) -> None:
    url = f"http://127.0.0.1:{two[0].management}/keys"
    for headers in ({}, {"authorization": "Bearer wrong"}):
        answer = await http.get(url, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_management_token")
    at_data = f"http://127.0.0.1:{two[0].port}/keys"
    assert (await http.get(at_data)).status_code == 401  # forwarded like any path, so: whose key?


async def test_the_document_describes_them(http: httpx2.AsyncClient, two: tuple[Process, Process]) -> None:
    paths = (await admin(http, two[0], "GET", "/openapi.json")).json()["paths"]
    assert set(paths["/keys"]) == {"get", "post"}
    assert set(paths["/keys/{id}"]) == {"get", "patch", "delete", "parameters"}
    made = paths["/keys"]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    assert "key" in made["required"]
    shown = paths["/keys/{id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert "key" not in shown["properties"]


async def test_the_limits_of_a_key_hold_and_change_with_it(
    http: httpx2.AsyncClient, up: RawUpstream, tmp_path: Path
) -> None:
    chain = [*AUTH["plugins"], "precost", {"use": "limiter", "limits": []}, "annotate"]
    config = {"plugins": chain, "state_dir": str(tmp_path)}
    url = f"sqlite:///{tmp_path / 'weir.db'}"
    key = made(url, user="alice", limits=[{"requests": "2/day"}, {"cost": "20/day"}]).key
    other = made(url, user="alice").key
    async with Process(up.base_url, config=config) as server:
        assert [(await ask(http, server, key)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await ask(http, server, other)).status_code == 200
        line = await server.logged(status=200)
        now = time.monotonic()
        with opened(url) as store:
            store.update(str(line["key_id"]), {"limits": [{"requests": "1000/day"}]}, "test")
        await sees(http, server, key, 200, now)


async def test_every_worker_sees_what_one_is_told(
    http: httpx2.AsyncClient, up: RawUpstream, tmp_path: Path
) -> None:
    config = {**AUTH, "state_dir": str(tmp_path), "management_token": TOKEN, "workers": 2}
    async with Process(up.base_url, config=config) as server:
        while (await server.get("/readyz", management=True)).status != 200:
            await asyncio.sleep(0.05)
        made = await admin(http, server, "POST", "/keys", {"user": "erin"})
        assert made.status_code == 201, made.text
        key, id = made.json()["key"], made.json()["id"]
        await asyncio.sleep(WITHIN)
        # Each on a connection of its own, so that both workers get some.
        for status in (200, 401):
            for _ in range(12):
                async with httpx2.AsyncClient(trust_env=False, timeout=10) as another:
                    assert (await ask(another, server, key)).status_code == status
            await admin(http, server, "DELETE", f"/keys/{id}")
            await asyncio.sleep(WITHIN)


async def test_a_lost_database_is_lived_without_for_a_while(
    http: httpx2.AsyncClient, up: RawUpstream, tmp_path: Path, postgres: str, postgres_server: Postgres
) -> None:
    config: Mapping[str, object] = {
        "plugins": [{"use": "auth", "store": "database", "stale": "4s"}],
        "database": postgres,
    }
    key = made(postgres, user="alice").key
    async with Process(up.base_url, config=config) as server:
        assert (await ask(http, server, key)).status_code == 200
        postgres_server.stop()
        try:
            await server.logged(event="keys cannot be read; what is known goes on", source="database")
            assert (await ask(http, server, key)).status_code == 200
            assert (await server.get("/readyz", management=True)).status == 200
            server.signal(signal.SIGHUP)  # a reload forgets nothing either
            await server.logged(20, event="configuration reloaded")
            assert (await ask(http, server, key)).status_code == 200
            await server.logged(10, event="keys are not trusted any more", source="database")
            refused = await ask(http, server, key)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "keys_unavailable")
            ready = await server.get("/readyz", management=True)
            assert (ready.status, ready.json()["reasons"]) == (503, ["auth: database cannot be read"])
        finally:
            postgres_server.start()
        await server.logged(5.0, event="keys can be read again")
        assert (await ask(http, server, key)).status_code == 200
        assert (await server.get("/readyz", management=True)).status == 200
        with opened(postgres) as store:
            store.revoke(str((await server.logged(user="alice"))["key_id"]), "test")
        await sees(http, server, key, 401, time.monotonic())


async def test_a_database_that_is_down_at_the_start_is_waited_for(
    http: httpx2.AsyncClient, up: RawUpstream, tmp_path: Path, postgres: str, postgres_server: Postgres
) -> None:
    key = made(postgres, user="alice").key
    postgres_server.stop()
    try:
        async with Process(up.base_url, config={**AUTH, "database": postgres}) as server:
            refused = await ask(http, server, key)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "keys_unavailable")
            assert (await server.get("/readyz", management=True)).status == 503
            postgres_server.start()
            await server.logged(5.0, event="keys can be read again")
            assert (await ask(http, server, key)).status_code == 200
    finally:
        postgres_server.start()
