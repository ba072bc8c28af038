"""The engine between two scripted ends. What it plays is tested with the kit: tests/api/test_testing.py."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from proxy.api import End, Exchange, Plugin, Server
from proxy.core.testing import drive


class Diary(Plugin):
    def __init__(self, name: str, diary: list[Any], fails: bool = False) -> None:
        self.name = name
        self.diary = diary
        self.fails = fails

    async def start(self, server: Server) -> None:
        self.diary.append((self.name, server))
        if self.fails:
            raise OSError("no")

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.diary.append((self.name, end.reason))

    async def stop(self) -> None:
        self.diary.append((self.name, "stop"))


class Client:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": "/v1/models",
            "raw_path": b"/v1/models",
            "query_string": b"",
            "headers": [(b"host", b"weir.test")],
            "client": ("192.0.2.1", 5),
        }

    async def receive(self) -> dict[str, Any]:
        if not self.sent:
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


class Answer:
    status = 200
    headers = [(b"content-length", b"2")]  # noqa: RUF012 # a fake's
    complete = False
    ready = True

    def whole(self) -> None:
        return None

    async def read(self) -> bytes:
        self.complete = True
        return b"ok"

    async def close(self) -> None:
        pass


class Up:
    name = "scripted"

    async def open(self, request: Any, clock: Any) -> Any:
        self.target = request.target
        return Answer()

    async def aclose(self) -> None:
        pass


async def test_plugins_start_serve_and_stop() -> None:
    diary: list[Any] = []
    server = Server(metrics=CollectorRegistry())
    client, up = Client(), Up()
    await asyncio.wait_for(drive([Diary("a", diary), Diary("b", diary)], client, up, server, {}), 5)
    assert diary == [
        ("a", server),
        ("b", server),
        ("b", "complete"),
        ("a", "complete"),
        ("b", "stop"),
        ("a", "stop"),
    ]
    assert client.sent[0]["status"] == 200
    assert client.sent[-1] == {"type": "http.response.body", "body": b"ok", "more_body": False}
    assert up.target == b"/v1/models"


async def test_without_a_server_there_is_an_empty_one() -> None:
    diary: list[Any] = []
    await asyncio.wait_for(drive([Diary("a", diary)], Client(), Up(), None, {}), 5)
    assert isinstance(diary[0][1], Server)


async def test_settings_are_checked_as_those_of_a_file() -> None:
    with pytest.raises(ValidationError, match="nonsense"):
        await drive([], Client(), Up(), None, {"nonsense": 1})


async def test_server_timing_can_be_turned_off() -> None:
    client = Client()
    await asyncio.wait_for(drive([], client, Up(), None, {"server_timing": False}), 5)
    assert b"server-timing" not in dict(client.sent[0]["headers"])


async def test_nothing_is_left_running() -> None:
    before = asyncio.all_tasks()
    await asyncio.wait_for(drive([], Client(), Up(), None, {}), 5)
    for task in asyncio.all_tasks() - before:
        assert task.cancelling() or task.done()
        await asyncio.wait([task], timeout=2)
