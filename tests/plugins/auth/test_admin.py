"""Keys over HTTP, without a server in between."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from jsonschema_rs import Draft202012Validator
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette

from plugins.auth.admin import LARGEST, routes
from plugins.auth.store import Store
from proxy.admin.openapi import document
from proxy.core.config import Settings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'weir.db'}")
    opened.open()
    yield opened
    opened.close()


def client(store: Any) -> httpx2.AsyncClient:
    app = Starlette(routes=routes(store))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://weir.test")


@pytest_asyncio.fixture
async def http(store: Store) -> AsyncIterator[httpx2.AsyncClient]:
    async with client(lambda: store) as made:
        yield made


def refused(answer: httpx2.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    message: str = answer.json()["error"]["message"]
    assert "\n" not in message
    assert message.endswith(".")
    return message


async def test_a_key_from_its_making_to_its_end(http: httpx2.AsyncClient, store: Store) -> None:
    said = {"user": "alice", "team": "red", "limits": [{"cost": "20/day"}], "models": "o9", "expires": "90d"}
    made = await http.post("/keys", json=said)
    assert made.status_code == 201
    key, id = made.json()["key"], made.json()["id"]
    assert store.get(id).created_by == "management:127.0.0.1"
    shown = (await http.get(f"/keys/{id}")).json()
    assert {**shown, "key": key} == made.json()
    assert (shown["user"], shown["models"], shown["state"]) == ("alice", ["o9"], "active")
    listed = (await http.get("/keys")).json()
    assert listed == {"object": "list", "data": [shown], "has_more": False}
    changed = (await http.patch(f"/keys/{id}", json={"team": None, "limits": []})).json()
    assert (changed["team"], changed["limits"], changed["models"]) == (None, [], ["o9"])
    rotated = await http.post(f"/keys/{id}/rotate", json={"grace": "1h"})
    assert rotated.status_code == 200
    assert rotated.json()["key"] != key
    assert rotated.json()["previous_until"] is not None
    assert (await http.post(f"/keys/{id}/rotate")).status_code == 200
    revoked = (await http.delete(f"/keys/{id}")).json()
    assert revoked["state"] == "revoked"
    assert (await http.delete(f"/keys/{id}")).json()["revoked"] == revoked["revoked"]
    assert (await http.get("/keys")).json()["data"] == []
    assert len((await http.get("/keys", params={"revoked": "true"})).json()["data"]) == 1
    lines = (await http.get("/keys/audit", params={"key": id})).json()["data"]
    assert [line["what"] for line in lines] == ["revoke", "rotate", "rotate", "update", "create"]
    assert {line["who"] for line in lines} == {"management:127.0.0.1"}


async def test_lists_come_in_pages(http: httpx2.AsyncClient, store: Store) -> None:
    for number in range(5):
        store.create({"user": f"user{number % 2}"}, "x")
    first = (await http.get("/keys", params={"limit": "3"})).json()
    rest = (await http.get("/keys", params={"limit": "3", "after": first["data"][-1]["id"]})).json()
    assert (len(first["data"]), first["has_more"], len(rest["data"]), rest["has_more"]) == (3, True, 2, False)
    of_one = (await http.get("/keys", params={"user": "user1"})).json()["data"]
    assert [key["user"] for key in of_one] == ["user1", "user1"]
    for limit in ("0", "1001", "x", "-1", "²"):
        refused(await http.get("/keys", params={"limit": limit}), 400, "invalid_key_request")
        refused(await http.get("/keys/audit", params={"limit": limit}), 400, "invalid_key_request")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({}, "User must be set."),
        ({"user": 7}, "User is a line of text"),
        ({"user": "alice", "key": "weir-my-own-secret"}, "Unknown field 'key'"),
        ({"user": "alice", "expires": "2020-01-01"}, "Expires is over already."),
        ({"user": "alice", "limits": [{"request": 1}]}, "unknown key 'request'"),
    ],
)
async def test_what_will_not_do_is_told(http: httpx2.AsyncClient, said: Any, says: str) -> None:
    message = refused(await http.post("/keys", json=said), 400, "invalid_key_request")
    assert says in message
    assert "secret" not in message


async def test_bodies_that_are_none(http: httpx2.AsyncClient, store: Store) -> None:
    declared = {"content-type": "application/json"}
    for body in (b"[]", b"{", b'"x"', b"null"):
        refused(await http.post("/keys", content=body, headers=declared), 400, "invalid_key_request")
    large = b'{"user":"' + b"x" * LARGEST + b'"}'
    assert "larger than" in refused(
        await http.post("/keys", content=large, headers=declared), 400, "invalid_key_request"
    )
    assert store.find() == []


async def test_a_page_in_a_browser_cannot_use_it(http: httpx2.AsyncClient, store: Store) -> None:
    id = store.create({"user": "alice"}, "x").record.id
    for method, path in (
        ("POST", "/keys"), ("DELETE", f"/keys/{id}"), ("POST", f"/keys/{id}/rotate"), ("GET", "/keys"),
    ):  # fmt: skip
        answer = await http.request(method, path, headers={"origin": "http://evil.test"})
        refused(answer, 403, "origin_not_allowed")
    # What a form or a script may send unasked: no declared JSON.
    for declared in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"content-type": declared} if declared else {}
        answer = await http.post("/keys", content=b'{"user":"mallory"}', headers=headers)
        assert "as application/json" in refused(answer, 400, "invalid_key_request")
    assert [record.user for record in store.find()] == ["alice"]


async def test_what_is_not_there(http: httpx2.AsyncClient, store: Store) -> None:
    for method, path in (
        ("GET", "/keys/key_x"),
        ("PATCH", "/keys/key_x"),
        ("DELETE", "/keys/key_x"),
        ("POST", "/keys/key_x/rotate"),
    ):
        body = {"team": "red"} if method == "PATCH" else None
        message = refused(await http.request(method, path, json=body), 404, "no_such_key")
        assert message == "There is no key 'key_x'."
    id = store.create({"user": "alice"}, "x").record.id
    store.revoke(id, "x")
    for body in ({"grace": "1h"}, {}):
        answer = await http.post(f"/keys/{id}/rotate", json=body)
        assert "is revoked" in refused(answer, 400, "invalid_key_request")
    wrong: list[dict[str, Any]] = [{"grace": "1 year"}, {"grace": 7}, {"grace": "91d"}, {"time": "1h"}]
    for body in wrong:
        refused(await http.post(f"/keys/{id}/rotate", json=body), 400, "invalid_key_request")


@pytest.mark.parametrize("path", ["/keys/key%00", "/keys?user=a%00", "/keys/audit?key=%00"])
async def test_a_nul_is_no_failure_of_the_database(http: httpx2.AsyncClient, path: str) -> None:
    assert "NUL" in refused(await http.get(path), 400, "invalid_key_request")


async def test_a_database_that_fails_is_told_and_its_words_are_not() -> None:
    def fails() -> Store:
        raise OperationalError("SELECT secret", {}, Exception("password=secret"))

    async with client(fails) as http:
        answer = await http.get("/keys")
        refused(answer, 503, "keys_unavailable")
        assert "secret" not in answer.text
        assert "retry-after" in answer.headers


async def test_every_change_is_a_line_of_the_log(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "weir.auth")
    made = (await http.post("/keys", json={"user": "alice"})).json()
    await http.patch(f"/keys/{made['id']}", json={"team": "red"})
    rotated = (await http.post(f"/keys/{made['id']}/rotate")).json()
    await http.delete(f"/keys/{made['id']}")
    fields = [record.__dict__["fields"] for record in caplog.records if record.message == "key audit"]
    assert [field["what"] for field in fields] == ["create", "update", "rotate", "revoke"]
    assert fields[1]["changed"] == ["team"]
    assert {(field["who"], field["key_id"]) for field in fields} == {("management:127.0.0.1", made["id"])}
    for key in (made["key"], rotated["key"]):
        assert key not in caplog.text
        assert key not in str(fields)


def written() -> dict[str, Any]:
    return document(Settings(), [], routes(lambda: pytest.fail("no document needs a database")))


def operation(path: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = written()["paths"][path][method]
    return found


async def test_the_document_says_what_they_take_and_answer(http: httpx2.AsyncClient) -> None:
    said = {"user": "alice", "limits": [{"cost": "20/day"}], "models": ["o9"], "team": None, "expires": "90d"}
    create = operation("/keys", "post")
    takes = create["requestBody"]["content"]["application/json"]["schema"]
    Draft202012Validator(takes).validate(said)
    assert not Draft202012Validator(takes).is_valid({"team": "red"})
    made = await http.post("/keys", json=said)
    id = made.json()["id"]

    def holds(answer: httpx2.Response, path: str, method: str, status: str = "200") -> None:
        schema = operation(path, method)["responses"][status]["content"]["application/json"]["schema"]
        Draft202012Validator(schema).validate(answer.json())

    holds(made, "/keys", "post", "201")
    holds(await http.get("/keys"), "/keys", "get")
    holds(await http.get(f"/keys/{id}"), "/keys/{id}", "get")
    holds(await http.patch(f"/keys/{id}", json={"team": "red"}), "/keys/{id}", "patch")
    holds(await http.post(f"/keys/{id}/rotate", json={"grace": "1h"}), "/keys/{id}/rotate", "post")
    holds(await http.delete(f"/keys/{id}"), "/keys/{id}", "delete")
    holds(await http.get("/keys/audit"), "/keys/audit", "get")


def test_the_document_names_each_operation_once() -> None:
    names = [
        one["operationId"]
        for item in written()["paths"].values()
        for method, one in item.items()
        if method in ("get", "post", "patch", "delete") and "operationId" in one
    ]
    assert len(names) == len(set(names))
    assert {"listKeys", "createKey", "showKey", "updateKey", "revokeKey", "rotateKey", "auditKeys"} <= {
        *names
    }
