import asyncio
import gzip
import logging
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from plugins.precost import PreCost
from plugins.precost.plugin import INLINE
from proxy.api import DRY_RUN, ESTIMATE, Cost, Exchange, Plugin, Reply, Server, UpstreamError, Usage
from proxy.api.testing import Played, Script, Sent, get, json, play, post, sse
from proxy.pricing import tokens
from proxy.pricing.prompt import read
from proxy.pricing.table import default
from proxy.pricing.values import Model
from proxy.pricing.vocabulary import VOCABULARIES, Vocabulary, ranks
from tests.pricing.prompt.media import field, file, multipart, png, wav
from tests.pricing.tables import table

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello world"}]}
LONG: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hello world, " * 2000}],
    "max_tokens": 10,
}
NAMES = ("x-weir-estimated-input-tokens", "x-weir-estimate-method", "x-weir-estimated-cost-usd")


class Fixed:
    """Prices of two models: $1 a token in, $100 a token out; other names are unpriced."""

    version = "1"
    rejects_unknown = False

    def model(self, name: str, *, upstream: str | None = None) -> Model | None:
        known = {"gpt-4o": 1000, "gpt-unlimited": None}
        if name == "my-old-one":
            return Model("gpt-3.5-turbo-0301", "chat", "cl100k_base")
        return Model(name, "chat", "o200k_base", max_output_tokens=known[name]) if name in known else None

    def models(self) -> Sequence[Model]:
        return ()

    def cost(self, usage: Usage, model: str | None = None, **more: Any) -> Cost:
        return Cost(None)

    def max_cost(
        self,
        model: str,
        *,
        input_tokens: int,
        output_tokens: int | None,
        service_tier: str | None = None,
        upstream: str | None = None,
        at: float | None = None,
    ) -> Decimal | None:
        if self.model(model) is None or output_tokens is None:
            return None
        dear = 2 if service_tier == "priority" else 1
        return Decimal(input_tokens + 100 * output_tokens) * dear

    def input_cost(
        self,
        model: str,
        *,
        input_tokens: int,
        service_tier: str | None = None,
        upstream: str | None = None,
        at: float | None = None,
    ) -> Decimal | None:
        return None if self.model(model) is None else Decimal(input_tokens)


def server() -> Server:
    return Server(metrics=CollectorRegistry(), prices=Fixed())


async def asked(
    body: Any, *headers: tuple[str, str], path: str = CHAT, answer: Script | None = None, priced: bool = True
) -> Played:
    return await play([PreCost()], post(path, body, headers), answer, server=server() if priced else None)


def told(played: Played) -> tuple[str | None, ...]:
    """Tokens, method and cost in the answer's headers."""
    return tuple(played.headers.get(name) for name in NAMES)


# -- the estimate --------------------------------------------------------------------------------------


async def test_a_prompt_is_counted_and_priced() -> None:
    played = await asked({**HELLO, "max_tokens": 5})
    estimate = played.ex[ESTIMATE]
    assert (estimate.input_tokens, estimate.input_bound, estimate.method) == (9, 18, "tiktoken")
    assert estimate.max_output_tokens == 5
    assert estimate.max_cost == Decimal(9 + 500)
    assert await estimate.exact() == 9
    assert told(played) == ("9", "tiktoken", "509")


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 1000),
        ({"n": 3}, 3000),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"max_completion_tokens": 7}, 7),
        ({"model": "gpt-unlimited"}, None),
        ({"model": "gpt-unlimited", "max_tokens": 5, "n": 2}, 10),
        ({"model": "nobody-knows"}, None),
        ({"model": "nobody-knows", "max_tokens": 5, "n": 2}, 10),
        ({"model": None, "max_tokens": 5, "n": 2}, 10),
    ],
)
async def test_all_choices_count_as_output(fields: dict[str, Any], most: int | None) -> None:
    estimate = (await asked({**HELLO, **fields})).ex[ESTIMATE]
    assert estimate.max_output_tokens == most
    priced = fields.get("model", "gpt-4o") in ("gpt-4o", "gpt-unlimited") and most is not None
    assert estimate.max_cost == (9 + 100 * (most or 0) if priced else None)


@pytest.mark.parametrize(
    ("cost", "told"),
    [("0.00000000015", "0.00000000015"), ("1E-12", "0.000000000001"), ("2E+3", "2000"), ("0", "0")],
)
async def test_a_cost_is_told_without_an_exponent(cost: str, told: str) -> None:
    class Priced(Fixed):
        def max_cost(self, model: str, **more: Any) -> Decimal | None:
            return Decimal(cost)

    made = Server(metrics=CollectorRegistry(), prices=Priced())
    played = await play([PreCost()], post(CHAT, HELLO), server=made)
    assert played.headers.get("x-weir-estimated-cost-usd") == told


async def test_the_tier_that_is_asked_for_is_priced() -> None:
    played = await asked({**HELLO, "max_tokens": 5, "service_tier": "priority"})
    assert told(played)[2] == "1018"


async def test_an_alias_is_counted_as_what_it_stands_for() -> None:
    played = await asked(
        {**HELLO, "model": "my-old-one", "messages": [{"role": "user", "content": "お誕生日"}]}
    )
    assert told(played)[0] == str(3 + 4 + 1 + tokens.count("お誕生日", "cl100k_base"))
    assert tokens.count("お誕生日", "cl100k_base") != tokens.count("お誕生日", "o200k_base")


@pytest.mark.parametrize("model", ["nobody-knows", None, 7])
async def test_a_model_without_a_price_is_counted_and_has_no_cost(model: Any) -> None:
    played = await asked({**HELLO, "model": model, "max_tokens": 5})
    assert played.ex[ESTIMATE].max_cost is None
    assert told(played) == ("9", "tiktoken", None)


async def test_without_any_prices_it_counts() -> None:
    played = await asked({**HELLO, "max_tokens": 5, "n": 2}, priced=False)
    assert played.ex[ESTIMATE].max_output_tokens == 10
    assert told(played) == ("9", "tiktoken", None)


async def test_a_long_text_is_bounded_and_counted_on_demand() -> None:
    played = await asked(LONG)
    estimate = played.ex[ESTIMATE]
    size = len("hello world, " * 2000)
    assert size > INLINE
    assert (estimate.input_tokens, estimate.method) == (None, "upper_bound")
    assert estimate.input_bound == size + 7
    assert estimate.max_cost == estimate.input_bound + 1000
    assert told(played) == (str(size + 7), "upper_bound", str(size + 1007))


class Asks(Plugin):
    """Wants to know exactly, several times."""

    requires = (ESTIMATE,)

    def __init__(self) -> None:
        self.counts: list[int] = []

    async def on_request(self, ex: Exchange) -> None:
        self.counts = await asyncio.gather(*(ex[ESTIMATE].exact() for _ in range(3)))


async def test_who_wants_to_know_exactly_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    count = tokens.count

    def watched(text: str, encoding: str) -> int:
        counted.append(threading.current_thread())
        return count(text, encoding)

    monkeypatch.setattr(tokens, "count", watched)
    asks = Asks()
    await play([PreCost(), asks], post(CHAT, LONG), server=server())
    assert asks.counts == [count("hello world, " * 2000, "o200k_base") + 7] * 3
    assert len(counted) == 1
    assert counted[0] is not threading.current_thread()


async def test_many_short_texts_are_not_counted_at_once() -> None:
    shortest = {"model": "text-embedding-3-small", "input": ["a"] * 4000}
    assert (await asked(shortest, path="/v1/embeddings")).ex[ESTIMATE].input_tokens is None
    fewer = {**shortest, "input": ["a"] * 3000}
    assert (await asked(fewer, path="/v1/embeddings")).ex[ESTIMATE].input_tokens == 3000


async def test_what_is_too_long_to_count_stays_a_bound() -> None:
    text = "a" * (tokens.LIMIT + 1)
    estimate = (await asked({**HELLO, "messages": [{"role": "user", "content": text}]})).ex[ESTIMATE]
    assert estimate.method == "upper_bound"
    assert await estimate.exact() == estimate.input_bound == tokens.LIMIT + 8


async def test_a_body_of_many_values_is_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = []

    def watched(endpoint: str, body: Any, known: Model | None) -> Any:
        readers.append(threading.current_thread())
        return read(endpoint, body, known)

    monkeypatch.setattr("plugins.precost.plugin.read", watched)
    many = {"model": "gpt-4o", "messages": [{"role": "user", "content": "a"}] * 2500}
    played = await asked(many)
    await asked({**HELLO, "tools": []})
    assert played.ex[ESTIMATE].input_tokens == 3 + 2500 * 5
    assert [reader is threading.current_thread() for reader in readers] == [False, True]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", HELLO, "9"),
        ("/chat/completions", HELLO, "9"),
        ("/v1/responses", {"model": "gpt-5", "input": "hello world"}, "8"),
        ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "hello world"}, "2"),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["hello world", "hello"]}, "3"),
        ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "hello world"}, "2"),
    ],
)
async def test_each_endpoint_with_a_prompt_is_estimated(path: str, body: Any, expected: str) -> None:
    assert told(await asked(body, path=path))[:2] == (expected, "tiktoken")


# -- what is left alone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        get("/v1/models"),
        get("/v1/chat/completions"),
        post("/v1/moderations", {"input": "hello"}),
        post("/v1/files", {"input": "hello"}),
        post("/v1/chat/completions/x", HELLO),
        post(CHAT, b"{"),
        post(CHAT, b""),
        post(CHAT, b"[1, 2]"),
        post(CHAT, b"\x89PNG"),
        Sent(path=CHAT, headers=[("content-type", "multipart/form-data; boundary=x")], pieces=[b"--x--"]),
        Sent(
            path=CHAT,
            headers=[("content-type", "application/json"), ("content-encoding", "gzip")],
            pieces=[gzip.compress(orjson.dumps(HELLO))],
        ),
    ],
)
async def test_other_requests_pass_as_they_came(sent: Sent) -> None:
    played = await play([PreCost()], sent, server=server())
    assert played.complete
    assert played.status == 200
    assert played.forwarded is not None
    assert played.forwarded.body == b"".join(sent.pieces)
    assert ESTIMATE not in played.ex
    assert told(played) == (None, None, None)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"]
)
async def test_json_by_any_name_is_estimated(content_type: str) -> None:
    sent = Sent(path=CHAT, headers=[("content-type", content_type)], pieces=[orjson.dumps(HELLO)])
    assert told(await play([PreCost()], sent))[0] == "9"
    nameless = Sent(path=CHAT, pieces=[orjson.dumps(HELLO)])
    assert told(await play([PreCost()], nameless))[0] == "9"


async def test_json_is_json_whatever_it_is_declared_to_be() -> None:
    for declared in ([("content-type", "text/plain")], []):
        played = await play(
            [PreCost()], Sent(path=CHAT, headers=declared, pieces=[orjson.dumps(HELLO)]), server=server()
        )
        assert played.ex[ESTIMATE].input_tokens is not None


async def test_a_form_is_streamed_through_however_long() -> None:
    declared = [("content-type", "Multipart/form-data; boundary=x")]
    upload = Sent(path=CHAT, headers=declared, pieces=[b"x" * 1000] * 50)
    played = await play([PreCost()], upload, settings={"limits_http": {"json_body": "1KiB"}})
    assert played.forwarded is not None
    assert played.forwarded.body == b"x" * 50_000


async def test_json_above_the_limit_is_refused() -> None:
    played = await play([PreCost()], post(CHAT, LONG), settings={"limits_http": {"json_body": "1KiB"}})
    assert (played.status, played.forwarded) == (413, None)


async def test_the_body_goes_on_byte_for_byte() -> None:
    body = b'{ "model": "gpt-4o",  "seed": 18446744073709551616, "messages": [], "seed": 1 }'
    played = await asked(body)
    assert played.forwarded is not None
    assert played.forwarded.body == body
    assert told(played)[0] == "3"


# -- the headers ---------------------------------------------------------------------------------------


async def test_a_stream_has_them_too() -> None:
    played = await asked({**HELLO, "max_tokens": 1, "stream": True}, answer=sse(b"data: [DONE]\n\n"))
    assert told(played) == ("9", "tiktoken", "109")
    assert played.body == b"data: [DONE]\n\n"


async def test_errors_have_them_too() -> None:
    of_the_upstream = await asked({**HELLO, "max_tokens": 1}, answer=json({"error": {}}, status=429))
    assert (of_the_upstream.status, told(of_the_upstream)) == (429, ("9", "tiktoken", "109"))
    lost = Script(refuses=UpstreamError(502, "upstream_connect_failed", "Nobody is there."))
    ours = await asked({**HELLO, "max_tokens": 1}, answer=lost)
    assert (ours.status, told(ours)) == (502, ("9", "tiktoken", "109"))


class Refuses(Plugin):
    async def on_request(self, ex: Exchange) -> Reply:
        return Reply.error(429, "too_much", "That is too much.")


async def test_refusals_by_others_have_them_too() -> None:
    played = await play([PreCost(), Refuses()], post(CHAT, HELLO), server=server())
    assert (played.status, told(played)[0]) == (429, "9")


async def test_those_of_an_upstream_are_replaced() -> None:
    answer = json({}, headers=[(name, "other") for name in NAMES])
    played = await asked({**HELLO, "model": "nobody-knows"}, answer=answer)
    assert [played.headers.getall(name) for name in NAMES] == [["9"], ["tiktoken"], []]


# -- the dry run ---------------------------------------------------------------------------------------

DRY = ("x-weir-dry-run", "true")


async def test_a_dry_run_is_answered_and_not_sent() -> None:
    played = await asked({**HELLO, "max_tokens": 5}, DRY)
    assert (played.status, played.forwarded) == (200, None)
    assert played.json() == {
        "object": "weir.estimate",
        "model": "gpt-4o",
        "encoding": "o200k_base",
        "method": "tiktoken",
        "input_tokens": 9,
        "max_output_tokens": 5,
        "input_cost_usd": 9,
        "max_cost_usd": 509,
        "admitted": True,
        "limits": [],
    }
    assert told(played) == ("9", "tiktoken", "509")


async def test_a_dry_run_is_counted_however_long() -> None:
    played = await asked(LONG, DRY)
    expected = tokens.count("hello world, " * 2000, "o200k_base") + 7
    answer = played.json()
    assert (answer["method"], answer["input_tokens"]) == ("tiktoken", expected)
    assert answer["max_cost_usd"] == expected + 1000
    assert played.ex[ESTIMATE].input_tokens == expected
    too_long = {**HELLO, "messages": [{"role": "user", "content": "a" * (tokens.LIMIT + 1)}]}
    assert (await asked(too_long, DRY)).json()["method"] == "upper_bound"


async def test_a_dry_run_without_a_price_has_no_costs() -> None:
    for played in (
        await asked({**HELLO, "model": "nobody-knows"}, DRY),
        await asked(HELLO, DRY, priced=False),
    ):
        answer = played.json()
        assert answer["input_tokens"] == 9
        assert answer["input_cost_usd"] is answer["max_cost_usd"] is answer["max_output_tokens"] is None


class Verdict(Plugin):
    """As the limiter does."""

    requires = (DRY_RUN,)

    async def on_request(self, ex: Exchange) -> None:
        if run := ex.get(DRY_RUN):
            run.body["admitted"] = False


async def test_others_write_their_verdict_into_it() -> None:
    played = await play([PreCost(), Verdict()], post(CHAT, HELLO, [DRY]))
    assert played.json()["admitted"] is False


@pytest.mark.parametrize("value", ["false", "0"])
async def test_false_is_a_request_like_any_other(value: str) -> None:
    played = await asked(HELLO, ("x-weir-dry-run", value))
    assert played.forwarded is not None
    assert "x-weir-dry-run" not in played.forwarded.headers
    assert played.forwarded.body == orjson.dumps(HELLO)
    assert DRY_RUN not in played.ex


async def test_true_and_false_is_true() -> None:
    for values in (("true", "false"), ("false", "true")):
        played = await asked(HELLO, *(("x-weir-dry-run", value) for value in values))
        assert played.forwarded is None
        assert played.json()["object"] == "weir.estimate"


async def test_an_unclear_wish_is_refused() -> None:
    played = await asked(HELLO, ("x-weir-dry-run", "yes"))
    assert (played.status, played.forwarded) == (400, None)
    assert played.json()["error"]["code"] == "invalid_dry_run"


@pytest.mark.parametrize(
    "sent",
    [
        get("/v1/models", [DRY]),
        get("/v1/chat/completions", [DRY]),
        post("/v1/moderations", {"input": "hello"}, [DRY]),
        post(CHAT, b"[1, 2]", [DRY]),
        Sent(path="/v1/images/edits", headers=[DRY, ("content-type", "multipart/form-data")], pieces=[b"x"]),
    ],
)
async def test_a_dry_run_of_what_has_no_estimate_is_refused(sent: Sent) -> None:
    played = await play([PreCost()], sent, server=server())
    assert (played.status, played.forwarded) == (400, None)
    assert played.json()["error"]["code"] == "dry_run_not_possible"


async def test_a_dry_run_of_what_is_no_json_says_where_it_is_not() -> None:
    played = await asked(b'{"model": ', DRY)
    assert (played.status, played.forwarded) == (400, None)
    assert played.json()["error"]["code"] == "invalid_json"


# -- the vocabulary ------------------------------------------------------------------------------------


async def test_a_vocabulary_is_loaded_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    loaders = []
    load = ranks.load

    def watched(vocabulary: Vocabulary) -> dict[bytes, int]:
        loaders.append(threading.current_thread())
        return load(vocabulary)

    monkeypatch.setattr(tokens, "load", watched)
    monkeypatch.setattr(tokens, "_encoders", {})
    body = {"model": "davinci", "prompt": "hello world"}
    plugin = PreCost()
    for _ in range(2):
        played = await play([plugin], post("/v1/completions", body))
        assert told(played)[:2] == ("2", "tiktoken")
    assert len(loaders) == 1
    assert loaders[0] is not threading.current_thread()


async def test_without_a_vocabulary_there_are_bounds_and_one_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / VOCABULARIES["o200k_base"].file).write_bytes(b"junk")
    monkeypatch.setattr(ranks, "files", lambda package: tmp_path)
    monkeypatch.setattr(tokens, "_encoders", {})
    plugin, asks = PreCost(), Asks()
    with caplog.at_level(logging.ERROR, "weir.precost"):
        for _ in range(2):
            played = await play([plugin], post(CHAT, HELLO), server=server())
            assert (played.status, told(played)[:2]) == (200, ("18", "upper_bound"))
        dry = await play([plugin], post(CHAT, LONG, [DRY]), server=server())
        await play([plugin, asks], post(CHAT, LONG), server=server())
    assert dry.json()["method"] == "upper_bound"
    assert asks.counts == [dry.json()["input_tokens"]] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "the vocabulary o200k_base (o200k_base.tiktoken.gz) cannot be used: it is no gzip file; "
        "install Weir again; until then estimates are upper bounds"
    ]


async def test_a_client_that_leaves_while_it_counts_leaves_nothing_behind() -> None:
    played = await play(
        [PreCost()], Sent(path=CHAT, pieces=[b'{"model": ', b"1}"], leaves_while_sending=True)
    )
    assert played.end.reason == "client_gone"
    assert played.ended == 1


def test_it_says_what_it_is() -> None:
    assert PreCost.provides == (ESTIMATE, DRY_RUN)
    assert PreCost.on_error == "fail"


async def test_a_preloaded_vocabulary_is_there_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(tokens, "preload", lambda *encodings: loaded.extend(encodings))
    for preload, expected in ((False, []), (True, [*tokens.COMMON])):
        plugin = PreCost(preload=preload)
        await plugin.start(Server(metrics=CollectorRegistry()))
        await plugin.stop()
        assert loaded == expected
    with pytest.raises(ValueError, match="preload is true or false"):
        PreCost(preload="yes")  # type: ignore[arg-type]


# -- models that nobody knows --------------------------------------------------------------------------


def strict(policy: Any) -> Server:
    prices = table(
        {"known": {"input": "1", "output": "1"}},
        unknown_model=policy,
        upstreams={"azure": {"aliases": {"prod": "known"}, "multiplier": "2"}},
    )
    return Server(metrics=CollectorRegistry(), prices=prices)


@pytest.mark.parametrize("model", ["nobody-knows", None, 7])
@pytest.mark.parametrize("dry", [(), (("x-weir-dry-run", "true"),)])
async def test_an_unknown_model_is_refused_where_the_table_says_so(model: Any, dry: Any) -> None:
    body = {**HELLO, "model": model}
    played = await play([PreCost()], post(CHAT, body, dry), server=strict({"policy": "reject"}))
    assert (played.status, played.forwarded) == (404, None)
    error = played.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert played.headers.get("x-should-retry") == "false"


@pytest.mark.parametrize(
    ("policy", "cost"),
    [({"policy": "allow_unpriced"}, None), ({"price_as": "known"}, Decimal("0.000014"))],
)
async def test_else_it_passes_and_is_priced_as_the_table_says(policy: Any, cost: Decimal | None) -> None:
    body = {**HELLO, "model": "nobody-knows", "max_tokens": 5}
    played = await play([PreCost()], post(CHAT, body), server=strict(policy))
    assert played.status == 200
    assert played.ex[ESTIMATE].max_cost == cost


async def test_a_known_model_passes() -> None:
    played = await play(
        [PreCost()], post(CHAT, {**HELLO, "model": "known"}), server=strict({"policy": "reject"})
    )
    assert played.status == 200


class Routed(Plugin):
    """Knows the upstream beforehand."""

    async def on_request(self, ex: Exchange) -> None:
        ex.upstream = "azure"


async def test_where_the_upstream_is_known_its_names_and_prices_count() -> None:
    body = {**HELLO, "model": "prod", "max_tokens": 5}
    played = await play([Routed(), PreCost()], post(CHAT, body), server=strict({"policy": "reject"}))
    assert played.ex[ESTIMATE].max_cost == Decimal("0.000028")


class Recording:
    """The packed price table, which tells what it was asked for."""

    rejects_unknown = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    def model(self, name: str, *, upstream: str | None = None) -> Model | None:
        self.asked.append((name, upstream))
        return default().model(name, upstream=upstream)


async def test_a_model_that_is_known_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.precost.plugin.MODELS", 3)
    prices = Recording()
    plugin = PreCost()
    await plugin.start(Server(metrics=CollectorRegistry(), prices=prices))  # type: ignore[arg-type] # a part
    for name in ("gpt-4o", "gpt-4", "no-such", "gpt-4o", "no-such", ["gpt-4o"]):
        plugin._known(name, None)
    assert prices.asked == [("gpt-4o", None), ("gpt-4", None), ("no-such", None), ("no-such", None)]
    for upstream in ("azure", None, "azure"):
        known = plugin._known("gpt-4o", upstream)
        assert known is not None
        assert known.id == "gpt-4o"
    assert prices.asked[4:] == [("gpt-4o", "azure")]
    plugin._known("gpt-4-turbo", None)  # one too many
    assert len(plugin._models) == 1
    await plugin.stop()


# -- what is asked for otherwise -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "model"),
    [({}, "my-old-one"), ({"model": None}, "my-old-one"), ({"model": "gpt-4o"}, "gpt-4o")],
)
async def test_a_deployment_takes_the_place_of_the_model(body: dict[str, Any], model: str) -> None:
    sent = {"messages": HELLO["messages"], "max_tokens": 5, **body}
    played = await asked(sent, path="/openai/deployments/my-old-one/chat/completions")
    assert played.ex[ESTIMATE].model == model
    assert played.forwarded is not None
    assert orjson.loads(played.forwarded.body) == sent


@pytest.mark.parametrize(
    ("path", "body", "cost"),
    [
        ("/v1/images/generations", {"model": "dall-e-3", "prompt": "hello", "quality": "hd", "n": 1}, "0.08"),
        ("/v1/images/edits", {"model": "dall-e-2", "prompt": "hello", "n": 2}, "0.04"),
        ("/v1/audio/speech", {"model": "tts-1", "input": "x" * 1000, "voice": "alloy"}, "0.015"),
    ],
)
async def test_what_is_sold_by_the_piece_has_its_cost(path: str, body: Any, cost: str) -> None:
    prices = Server(metrics=CollectorRegistry(), prices=default())
    played = await play([PreCost()], post(path, body), server=prices)
    assert played.headers.get("x-weir-estimated-cost-usd") == cost


# -- uploads -------------------------------------------------------------------------------------------


def upload(path: str, *parts: bytes, pieces: int = 1, headers: Sequence[tuple[str, str]] = ()) -> Sent:
    body = multipart("x", *parts)
    step = -(-len(body) // pieces)
    return Sent(
        path=path,
        headers=[("content-type", "multipart/form-data; boundary=x"), *headers],
        pieces=[body[at : at + step] for at in range(0, len(body), step)],
    )


PRICED = Server(metrics=CollectorRegistry(), prices=default())


@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_recording_is_estimated_by_the_head_of_its_form(pieces: int) -> None:
    sound = file("file", "a.wav", wav(60))  # 2.9 MB, far more than is looked at
    sent = upload("/v1/audio/transcriptions", field("model", "whisper-1"), sound, pieces=pieces)
    played = await play([PreCost()], sent, server=PRICED)
    estimate = played.ex[ESTIMATE]
    assert (estimate.model, estimate.units) == ("whisper-1", {"seconds": Decimal(60)})
    assert played.headers.get("x-weir-estimated-cost-usd") == "0.006"
    assert played.forwarded is not None
    assert played.forwarded.body == b"".join(sent.pieces)
    assert played.forwarded.complete


async def test_what_has_no_text_needs_no_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_encoders", {})
    monkeypatch.setattr(tokens, "load", None)  # calling it fails
    sent = upload("/v1/audio/transcriptions", field("model", "whisper-1"), file("file", "a.wav", wav(1)))
    played = await play([PreCost()], sent, server=PRICED)
    assert played.ex[ESTIMATE].input_tokens == 10


async def test_an_edit_is_estimated_by_the_head_of_its_form() -> None:
    fields = field("model", "gpt-image-1"), field("prompt", "hello"), field("size", "1024x1024")
    sent = upload("/v1/images/edits", *fields, file("image[]", "a.png", png(1024, 1024)))
    played = await play([PreCost()], sent, server=PRICED)
    estimate = played.ex[ESTIMATE]
    assert (estimate.input_tokens, estimate.max_output_tokens) == (65 + 129 + 1, 4160)
    assert estimate.max_cost is not None


@pytest.mark.parametrize(
    "sent",
    [
        upload("/v1/audio/transcriptions", file("file", "a.wav", wav(1))),
        upload("/v1/audio/transcriptions", file("file", "a.wav", wav(60)), field("model", "whisper-1")),
        upload("/v1/images/edits", field("model", "m"), headers=[("content-encoding", "gzip")]),
        Sent(path="/v1/images/edits", headers=[("content-type", "multipart/form-data")], pieces=[b"--x--"]),
        Sent(path="/v1/audio/translations", headers=[], pieces=[b"\x00" * 200_000]),
    ],
)
async def test_a_form_that_does_not_say_its_model_at_once_passes_as_it_came(sent: Sent) -> None:
    played = await play([PreCost()], sent, server=strict({"policy": "reject"}))
    assert ESTIMATE not in played.ex
    assert played.forwarded is not None
    assert played.forwarded.body == b"".join(sent.pieces)


async def test_an_upload_for_an_unknown_model_is_refused_too() -> None:
    sent = upload("/v1/audio/transcriptions", field("model", "whisper-9"), file("file", "a.wav", wav(1)))
    played = await play([PreCost()], sent, server=strict({"policy": "reject"}))
    assert (played.status, played.forwarded) == (404, None)


async def test_an_upload_is_never_a_dry_run() -> None:
    sent = upload("/v1/images/edits", field("model", "m"), headers=[("x-weir-dry-run", "true")])
    played = await play([PreCost()], sent, server=PRICED)
    assert (played.status, played.forwarded) == (400, None)
    assert played.json()["error"]["code"] == "dry_run_not_possible"


async def test_a_deployment_may_be_for_uploads() -> None:
    path = "/openai/deployments/whisper-1/audio/transcriptions"
    played = await play([PreCost()], upload(path, file("file", "a.wav", wav(2))), server=PRICED)
    assert played.ex[ESTIMATE].model == "whisper-1"
