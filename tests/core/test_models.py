"""`GET /models` as a client gets it: the app, and a real upstream that has a list of its own, or has not."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import openai
import orjson
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from proxy.api import IDENTITY, ClientError, Cost, Exchange, Identity, Plugin, Reply, Server, Usage
from proxy.core import models
from proxy.core.app import App
from proxy.core.chain import Chain
from proxy.core.config import Settings, UpstreamSettings
from proxy.pricing.values import Model
from tests.core.test_app import ask
from tests.faults.wire import until

D = Decimal
GPT = Model(
    "gpt-4o",
    "chat",
    "o200k_base",
    128_000,
    16_384,
    {
        "standard": {"input": D("2.50"), "cached_input": D("1.25"), "output": D("10")},
        "batch": {"input": D("5E-8")},
    },
)
IMAGES = Model("dall-e-3", "image_generation", "o200k_base")


class Table:
    """A price table of two models; `gpt-4o-…` is `gpt-4o`."""

    version = "2026-11"
    rejects_unknown = False

    def __init__(self, *known: Model) -> None:
        self.known = known
        self.asked_for: list[str | None] = []

    def model(self, name: str, *, upstream: str | None = None) -> Model | None:
        self.asked_for.append(upstream)
        found = [one for one in self.known if name == one.id or name.startswith(one.id + "-2")]
        return found[0] if found else None

    def models(self) -> Sequence[Model]:
        return self.known

    def cost(
        self, usage: Usage, model: str | None = None, *, upstream: str | None = None, at: float | None = None
    ) -> Cost:
        raise AssertionError

    def max_cost(self, model: str, **more: Any) -> Decimal | None:
        raise AssertionError

    def input_cost(self, model: str, **more: Any) -> Decimal | None:
        raise AssertionError


class Up:
    """An upstream that answers with `answer` (or `body`, with its length) and keeps what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[dict[str, str]] = []
        self.listing: Any = {"object": "list", "data": []}
        self.answer: bytes | None = None
        self.go: asyncio.Event | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                fields = {"": line.decode().strip()}
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    fields[name.lower()] = value.strip()
                self.asked.append(fields)
                if self.go is not None:
                    await self.go.wait()
                body = self.listing if isinstance(self.listing, bytes) else orjson.dumps(self.listing)
                writer.write(
                    self.answer or b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
                )
                if self.answer is not None:
                    return
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def up() -> AsyncIterator[Up]:
    made = Up()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    if made.go is not None:
        made.go.set()
    server.close()


class Started:
    """An app that runs while it is entered."""

    def __init__(
        self,
        up: Up,
        *plugins: Plugin,
        prices: Any = None,
        api_key: str | None = None,
        path: str = "/v1",
    ) -> None:
        upstream = UpstreamSettings(
            name="up",
            base_url=f"http://127.0.0.1:{up.port}{path}",
            api_key=None if api_key is None else SecretStr(api_key),
        )
        settings = Settings.model_validate({"upstreams": [upstream]})
        server = Server(metrics=CollectorRegistry(), prices=prices)
        self.app = App(settings, Chain(plugins), server)

    async def __aenter__(self) -> "Started":
        await self.app.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.stop()

    async def found(self, *headers: tuple[bytes, bytes], query: str = "") -> dict[str, Any]:
        answered = await ask(self.app, "GET", f"/models{query}", *headers)
        assert answered.status == 200, answered.body
        assert answered.headers[b"content-type"] == b"application/json"
        found: dict[str, Any] = orjson.loads(answered.body)
        assert found["object"] == "list"
        return found

    async def ids(self, *headers: tuple[bytes, bytes]) -> list[str]:
        return [model["id"] for model in (await self.found(*headers))["data"]]


def by_id(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {model["id"]: model for model in found["data"]}


# -- what it says --------------------------------------------------------------------------------------


async def test_the_table_and_the_upstreams_list_are_one(up: Up) -> None:
    up.listing["data"] = [
        {
            "id": "gpt-4o-2024-08-06",
            "object": "model",
            "created": 7,
            "owned_by": "system",
            "context_window": 1,
        },
        {"id": "a-local-one", "created": 8, "max_model_len": 4096, "context_window": 4096},
    ]
    table = Table(GPT, IMAGES)
    async with Started(up, prices=table) as weir:
        found = await weir.found()
    assert set(table.asked_for) == {"up"}
    assert found["upstream"] == {"name": "up", "outcome": "200"}
    assert found["price_version"] == "2026-11"
    assert [model["id"] for model in found["data"]] == [
        "a-local-one",
        "dall-e-3",
        "gpt-4o",
        "gpt-4o-2024-08-06",
    ]
    known = {
        "kind": "chat",
        "encoding": "o200k_base",
        "context_window": 128000,
        "max_output_tokens": 16384,
        "prices": {
            "standard": {"input": "2.50", "cached_input": "1.25", "output": "10"},
            "batch": {"input": "0.00000005"},
        },
    }
    assert by_id(found) == {
        "a-local-one": {
            "id": "a-local-one",
            "object": "model",
            "created": 8,
            "owned_by": "unknown",
            "kind": None,
            "encoding": None,
            "context_window": 4096,
            "max_output_tokens": None,
            "max_model_len": 4096,
            "prices": None,
            "listed": True,
        },
        "dall-e-3": {
            "id": "dall-e-3",
            "object": "model",
            "created": 0,
            "owned_by": "unknown",
            "kind": "image_generation",
            "encoding": "o200k_base",
            "context_window": None,
            "max_output_tokens": None,
            "prices": None,
            "listed": False,
        },
        "gpt-4o": {
            "id": "gpt-4o",
            "object": "model",
            "created": 0,
            "owned_by": "unknown",
            **known,
            "listed": False,
        },
        "gpt-4o-2024-08-06": {
            "id": "gpt-4o-2024-08-06",
            "object": "model",
            "created": 7,
            "owned_by": "system",
            **known,
            "listed": True,
        },
    }


async def test_without_a_table_there_is_the_upstreams_list(up: Up) -> None:
    up.listing["data"] = [{"id": "b"}, {"id": "a"}, {"id": "a", "created": 2}]
    async with Started(up) as weir:
        found = await weir.found()
    assert [(model["id"], model["created"]) for model in found["data"]] == [("a", 2), ("b", 0)]
    assert found["price_version"] is None


async def test_an_upstream_cannot_say_what_is_ours_to_say(up: Up) -> None:
    up.listing["data"] = [
        {"id": "gpt-4o", "object": "x", "prices": "free", "listed": "no", "limits": [], "encoding": "x"}
    ]

    class Limits(Plugin):
        def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
            return {"limits": [model], "id": "x", "prices": "x", "object": "x", "kind": "x", "listed": "x"}

    async with Started(up, Limits(), prices=Table(GPT)) as weir:
        (model,) = (await weir.found())["data"]
    assert (model["id"], model["object"], model["listed"]) == ("gpt-4o", "model", True)
    assert (model["kind"], model["encoding"]) == ("chat", "o200k_base")
    assert model["prices"]["standard"]["output"] == "10"
    assert model["limits"] == ["gpt-4o"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_sdk_reads_it(up: Up, kind: str) -> None:
    """With a base_url without /v1, as it is ours."""
    import httpx2

    up.listing["data"] = [{"id": "a", "object": "model", "created": 5, "owned_by": "me"}]
    async with Started(up, prices=Table(GPT)) as weir:
        answered = await ask(weir.app, "GET", "/models")

    def handle(request: Any) -> httpx2.Response:
        assert request.url.path == "/models"
        head = [(name, value) for name, value in answered.headers.items() if name != b"content-length"]
        return httpx2.Response(answered.status, headers=head, content=answered.body)

    options: dict[str, Any] = {"base_url": "http://weir.test", "api_key": "x", "max_retries": 0}
    if kind == "sync":
        with openai.OpenAI(
            http_client=openai.DefaultHttpxClient(transport=httpx2.MockTransport(handle)), **options
        ) as client:
            found = list(client.models.list())
    else:
        http = openai.DefaultAsyncHttpxClient(transport=httpx2.MockTransport(handle))
        async with openai.AsyncOpenAI(http_client=http, **options) as awaited:
            found = [model async for model in awaited.models.list()]
    assert [(model.id, model.created, model.owned_by) for model in found] == [
        ("a", 5, "me"),
        ("gpt-4o", 0, "unknown"),
    ]
    assert found[1].model_extra is not None
    assert found[1].model_extra["prices"]["standard"]["input"] == "2.50"


# -- who asks ------------------------------------------------------------------------------------------


class Who(Plugin):
    """Lets in who has a key; each may use the models that `may` says."""

    name = "who"
    provides = (IDENTITY,)

    def __init__(self, may: Mapping[str, tuple[str, ...]]) -> None:
        self._may = may

    async def on_request(self, ex: Exchange) -> Reply | None:
        user = ex.request.headers.pop("authorization")
        if user not in self._may:
            return Reply.error(401, "who", "Say who you are.")
        ex[IDENTITY] = Identity(user or "", ex.request.address, models=self._may[user or ""])
        return None


class Never(Plugin):
    name = "never"

    async def on_request(self, ex: Exchange) -> Reply | None:
        return Reply.error(429, "never_for_our_own", "m")

    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        return {"for": ex[IDENTITY].user}


async def test_it_needs_a_key_like_all_else_and_shows_what_the_key_may_use(up: Up) -> None:
    up.listing["data"] = [{"id": "gpt-4o-mini"}, {"id": "Gpt-4o"}, {"id": "o3"}]
    who = Who({"alice": (), "bob": ("gpt-4o*", "o[13]"), "carol": ("none",)})
    async with Started(up, who, Never(), prices=Table(GPT)) as weir:
        refused = await ask(weir.app, "GET", "/models")
        assert (refused.status, up.asked) == (401, [])
        assert await weir.ids((b"authorization", b"alice")) == ["Gpt-4o", "gpt-4o", "gpt-4o-mini", "o3"]
        assert await weir.ids((b"authorization", b"bob")) == ["gpt-4o", "gpt-4o-mini", "o3"]
        assert await weir.ids((b"authorization", b"carol")) == []
        found = await weir.found((b"authorization", b"bob"))
        assert {model["for"] for model in found["data"]} == {"bob"}


# -- plugins -------------------------------------------------------------------------------------------


class Fails(Plugin):
    name = "fails"

    def __init__(self, on_error: Any, made: Any = None) -> None:
        self.on_error = on_error  # type: ignore[misc] # per test, not per class
        self.made = made

    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        if self.made is None:
            raise KeyError("a secret")
        return self.made  # type: ignore[no-any-return]


class Adds(Plugin):
    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        return {"added": True}


@pytest.mark.parametrize("made", [None, 7])
async def test_a_plugin_that_fails_does_by_its_policy(
    up: Up, made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "weir"):
        async with Started(up, Adds(), Fails("fail", made), prices=Table(GPT)) as weir:
            answered = await ask(weir.app, "GET", "/models")
    error = orjson.loads(answered.body)["error"]
    assert (answered.status, error["code"]) == (500, "plugin_error")
    assert "fails" in error["message"]
    assert "secret" not in answered.body.decode() + caplog.text
    async with Started(up, Adds(), Fails("skip", made), prices=Table(GPT)) as weir:
        (model,) = (await weir.found())["data"]
    assert model["added"] is True
    assert [vars(record)["fields"]["hook"] for record in caplog.records] == ["describe_model"] * 2


async def test_a_plugin_may_refuse(up: Up) -> None:
    class Refuses(Plugin):
        def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
            raise ClientError(403, "not_for_you", "Not for you.")

    async with Started(up, Refuses(), prices=Table(GPT)) as weir:
        answered = await ask(weir.app, "GET", "/models")
    assert (answered.status, orjson.loads(answered.body)["error"]["code"]) == (403, "not_for_you")


async def test_a_long_list_leaves_the_loop_to_others(up: Up) -> None:
    up.listing["data"] = [{"id": f"m{number}"} for number in range(1000)]
    turns: list[int] = []
    described = 0

    class Counts(Plugin):
        def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
            nonlocal described
            described += 1
            return {}

    async def others() -> None:
        while True:
            turns.append(described)
            await asyncio.sleep(0)

    async with Started(up, Counts()) as weir:
        task = asyncio.ensure_future(others())
        await weir.found()
        task.cancel()
    steps = [after - before for before, after in pairwise(turns)]
    assert described == 1000
    assert 0 < max(steps) <= 64


# -- the upstream's list -------------------------------------------------------------------------------


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (head("content-length: 2", status="401 No") + b"{}", "401"),
        (head("content-length: 0", status="404 No"), "404"),
        (
            head(
                "content-length: 0",
                status="302 Found",
            ),
            "302",
        ),
        (head("content-length: 2") + b"{}", "unreadable"),
        (head("content-length: 1") + b"{", "unreadable"),
        (head("content-length: 0"), "unreadable"),
        (head("content-length: 2") + b"[]", "unreadable"),
        (head("content-length: 12") + b'{"data": {}}', "unreadable"),
        (head("content-length: 2") + b"\xff\xff", "unreadable"),
        (head("content-length: 20") + b"{", "upstream_reset"),
        (b"rubbish\r\n\r\n", "upstream_bad_response"),
        (b"\r\n", "upstream_closed"),
    ],
)
async def test_an_upstream_that_has_none_leaves_the_table_alone(up: Up, answer: bytes, outcome: str) -> None:
    up.answer = answer
    async with Started(up, prices=Table(GPT)) as weir:
        found = await weir.found()
        assert found["upstream"] == {"name": "up", "outcome": outcome}
        (model,) = found["data"]
        assert (model["id"], model["listed"]) == ("gpt-4o", None)
        asked = len(up.asked)
        assert await weir.found() == found  # and it is not asked again at once
        assert len(up.asked) == asked


@pytest.mark.parametrize("item", [7, None, "gpt", {}, {"id": 7}, {"id": None}, [], {"name": "x"}])
async def test_what_is_no_model_is_left_out(up: Up, item: Any) -> None:
    up.listing["data"] = [item, {"id": "good"}]
    async with Started(up) as weir:
        assert await weir.ids() == ["good"]


async def test_an_upstream_that_is_not_there(up: Up, unused_tcp_port: int) -> None:
    up.port = unused_tcp_port
    async with Started(up, prices=Table(GPT)) as weir:
        found = await weir.found()
        assert found["upstream"]["outcome"] == "upstream_connect_failed"
        assert [model["id"] for model in found["data"]] == ["gpt-4o"]


async def test_a_slow_upstream_is_not_waited_for(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "WAIT", 0.05)
    up.go = asyncio.Event()
    async with Started(up, prices=Table(GPT)) as weir:
        found = await weir.found()
        assert found["upstream"]["outcome"] == "timeout"
        assert [model["id"] for model in found["data"]] == ["gpt-4o"]


@pytest.mark.parametrize(("bound", "value"), [("LIST_BYTES", 100), ("LIST_MODELS", 9)])
async def test_a_list_that_is_too_long_is_none(
    up: Up, bound: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, bound, value)
    up.listing["data"] = [{"id": f"model-{number}"} for number in range(10)]
    async with Started(up, prices=Table(GPT)) as weir:
        found = await weir.found()
    assert found["upstream"]["outcome"] == "too_large"
    assert [model["id"] for model in found["data"]] == ["gpt-4o"]


async def test_a_list_is_kept_for_a_while(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    up.listing["data"] = [{"id": "a"}]
    async with Started(up) as weir:
        assert await weir.ids() == ["a"]
        up.listing["data"] = [{"id": "b"}]
        assert await weir.ids() == ["a"]
        assert len(up.asked) == 1
        monkeypatch.setattr(models, "FRESH", -1.0)
        loop = asyncio.get_running_loop()
        later = loop.time() + 61
        monkeypatch.setattr(loop, "time", lambda: later)
        assert await weir.ids() == ["b"]


async def test_a_failure_is_kept_for_less(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.FAILED < models.FRESH
    up.answer = head("content-length: 0", status="500 No")
    monkeypatch.setattr(models, "FAILED", 0.0)
    async with Started(up) as weir:
        assert await weir.ids() == []
        up.answer = None
        up.listing["data"] = [{"id": "a"}]
        assert await weir.ids() == ["a"]


async def test_many_at_once_are_one_question(up: Up) -> None:
    up.go = asyncio.Event()
    up.listing["data"] = [{"id": "a"}]
    async with Started(up) as weir:
        asking = [asyncio.ensure_future(weir.ids()) for _ in range(5)]
        await until(lambda: up.asked)
        asking[0].cancel()  # who asked for all of them leaves
        await asyncio.wait([asking[0]])
        await until(lambda: len(up.asked) == 2)
        up.go.set()
        assert await asyncio.gather(*asking[1:]) == [["a"]] * 4
        assert len(up.asked) == 2


A, B = (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")


async def test_without_a_key_of_ours_each_client_has_its_own_list(up: Up) -> None:
    async with Started(up) as weir:
        for headers in (
            [A],
            [B],
            [A],
            [],
            [(b"api-key", b"a")],
            [A, (b"openai-project", b"p")],
            [(b"x-other", b"1")],
        ):
            await weir.found(*headers)
    assert [asked.get("authorization") for asked in up.asked] == [
        "Bearer a",
        "Bearer b",
        None,
        None,
        "Bearer a",
    ]
    assert up.asked[3]["api-key"] == "a"
    assert up.asked[4]["openai-project"] == "p"


async def test_with_a_key_of_ours_there_is_one_list(up: Up) -> None:
    async with Started(up, api_key="sk-ours") as weir:
        for headers in ([A], [B], [], [(b"api-key", b"a")]):
            await weir.found(*headers)
        await weir.found((b"openai-organization", b"o"))
    assert [asked["authorization"] for asked in up.asked] == ["Bearer sk-ours"] * 2
    assert "api-key" not in up.asked[0]
    assert up.asked[1]["openai-organization"] == "o"


async def test_only_the_last_lists_are_kept(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LISTS", 2)
    async with Started(up) as weir:
        for name in (b"a", b"b", b"a", b"c", b"a", b"b"):
            await weir.found((b"authorization", name))
    assert [asked["authorization"] for asked in up.asked] == ["a", "b", "c", "b"]


async def test_it_is_asked_for_where_a_client_would_find_it(up: Up) -> None:
    async with Started(up, path="/openai") as weir:
        await weir.found((b"user-agent", b"x"), (b"cookie", b"a=b"), query="?api-version=2030-01-01")
        await weir.found(query="?api-version=2031-01-01")
    assert up.asked[0] == {
        "": "GET /openai/models?api-version=2030-01-01 HTTP/1.1",
        "host": f"127.0.0.1:{up.port}",
        "accept": "application/json",
        "accept-encoding": "identity",
    }
    assert up.asked[1][""] == "GET /openai/models?api-version=2031-01-01 HTTP/1.1"


async def test_what_the_upstream_answered_is_what_health_says(up: Up) -> None:
    up.answer = head("content-length: 0", status="503 No")
    async with Started(up) as weir:
        await weir.found()
        assert weir.app.health.body()["upstreams"] == {"up": {"last_outcome": "503"}}


async def test_its_connection_is_kept_and_used_again(up: Up) -> None:
    async with Started(up) as weir:
        await weir.found(A)
        await weir.found(B)
        assert len(up.asked) == 2
        assert (await ask(weir.app, "HEAD", "/models")).status == 200


async def test_after_a_reload_it_is_the_new_ones(up: Up) -> None:
    up.listing["data"] = [{"id": "gpt-4o"}]
    async with Started(up, prices=Table(GPT)) as weir:
        assert by_id(await weir.found())["gpt-4o"]["encoding"] == "o200k_base"
        new: Any = Table(replace(GPT, encoding="other"))
        await weir.app.reload(weir.app.settings, Chain([Adds()]), new)
        (model,) = (await weir.found())["data"]
        assert (model["encoding"], model["added"]) == ("other", True)
        assert weir.app.server.prices is new
        await weir.app.reload(weir.app.settings, Chain([]))
        (model,) = (await weir.found())["data"]
        assert model["encoding"] == "other"
        assert "added" not in model
