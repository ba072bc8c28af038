"""What answers cost that do not say it themselves, by the price table that comes with Weir."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from plugins.annotate import Annotate
from plugins.precost import PreCost
from proxy.api import COST, ESTIMATE, USAGE, Cost, Exchange, Plugin, Reply, Server, Usage
from proxy.api.testing import Played, Script, Sent, get, json, play, post, sse
from proxy.pricing import tokens
from proxy.pricing.table import parse
from tests.faults.client import post as ask
from tests.faults.framing import RawResponse, Request
from tests.faults.process import Process
from tests.faults.upstream import RawUpstream, answer, chunk, head, ok_json, planted
from tests.faults.upstream import sse as chunked

TABLE = parse(
    {
        "version": 1,
        "updated": "2026-11-22",
        "extends": "default",
        "upstreams": {"scripted": {"multiplier": "2", "aliases": {"prod-4o": "gpt-4o"}}},
    }
)
BOUNDARY = "a-boundary-that-is-long"
RECORDING = b"".join(
    (
        b"RIFF\x24\x7d\0\0WAVE",
        b"fmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0",
        b"data\0\x7d\0\0" + bytes(32_000),
    )
)
"""A recording of one second of silence."""
CHUNK = b'data: {"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
CHAT = {"max_tokens": 100, "messages": [{"role": "user", "content": "Hello there"}]}
OLDER = "/openai/deployments/prod-4o/chat/completions"


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload()


async def asked(sent: Sent, script: Script, plugins: Any = None) -> Played:
    served = Server(metrics=CollectorRegistry(), prices=TABLE)
    return await play(plugins or [PreCost(), Annotate()], sent, script, server=served)


def bill(played: Played) -> tuple[Usage, Cost]:
    (usage,) = played.ex[USAGE]
    return usage, played.ex[COST]


def form(path: str, *parts: tuple[str, bytes]) -> Sent:
    body = b"".join(
        b"--%s\r\ncontent-disposition: form-data; %s\r\n\r\n%s\r\n"
        % (BOUNDARY.encode(), name.encode(), value)
        for name, value in parts
    )
    pieces = [body + b"--%s--\r\n" % BOUNDARY.encode()]
    declared = f"multipart/form-data; boundary={BOUNDARY}"
    return Sent("POST", path, headers=[("content-type", declared)], pieces=pieces)


def text(body: bytes, kind: str = "text/plain") -> Script:
    return Script(200, [("content-type", kind), ("content-length", str(len(body)))], [body])


# -- uploads, whose answers do not name a model ------------------------------------------------------------


async def test_a_transcription_has_the_price_of_the_model_in_its_form() -> None:
    sent = form(
        "/v1/audio/transcriptions",
        ('name="model"', b"gpt-4o-transcribe"),
        ('name="file"; filename="a.wav"', RECORDING),
    )
    details = {"text_tokens": 0, "audio_tokens": 10}
    usage = {"type": "tokens", "input_tokens": 10, "output_tokens": 5, "input_token_details": details}
    played = await asked(sent, json({"text": "Hello.", "usage": usage}))
    assert played.forwarded is not None
    assert played.forwarded.body == sent.pieces[0]
    assert bill(played)[1].amount == 2 * (10 * Decimal("0.000006") + 5 * Decimal("0.00001"))
    assert "x-weir-cost-usd" in played.headers


async def test_edited_pictures_have_the_price_of_the_model_in_their_form() -> None:
    sent = form(
        "/v1/images/edits",
        ('name="model"', b"gpt-image-1"),
        ('name="prompt"', b"A hat"),
        ('name="image"; filename="a.png"', b"\x89PNG"),
    )
    usage = {"input_tokens": 300, "output_tokens": 272, "input_tokens_details": {"image_tokens": 290}}
    played = await asked(sent, json({"data": [{"b64_json": "AAAA"}], "usage": usage}))
    at = {"text": Decimal(5), "read": Decimal(10), "made": Decimal(40)}
    assert bill(played)[1].amount == 2 * (10 * at["text"] + 290 * at["read"] + 272 * at["made"]) / 10**6


async def test_without_an_estimate_nobody_knows_the_model_of_an_upload() -> None:
    sent = form(
        "/v1/audio/transcriptions",
        ('name="model"', b"whisper-1"),
        ('name="file"; filename="a.wav"', RECORDING),
    )
    played = await asked(sent, json({"text": "Hello.", "duration": 1.0}), [Annotate()])
    assert bill(played)[1].amount is None


# -- what is sold by what was asked for --------------------------------------------------------------------


@pytest.mark.parametrize(("came", "amount"), [(2, "0.32"), (1, "0.16"), (0, "0")])
async def test_pictures_that_are_sold_by_the_piece_cost_as_many_as_came(came: int, amount: str) -> None:
    body = {"model": "dall-e-3", "prompt": "A hat", "n": 2, "quality": "hd"}
    data = [{"url": "https://pictures.test/1"}] * came
    usage, cost = bill(await asked(post("/v1/images/generations", body), json({"created": 1, "data": data})))
    assert (usage.provenance, cost.provenance) == ("estimated", "estimated")
    assert cost.amount == Decimal(amount)
    assert usage.other_units == {"image:hd:1024x1024": came}


async def test_speech_that_is_sold_by_the_character_costs_what_was_spoken() -> None:
    body = {"model": "tts-1", "input": "Hello you", "voice": "alloy"}
    usage, cost = bill(await asked(post("/v1/audio/speech", body), text(b"\xff\xfb" * 400, "audio/mpeg")))
    assert cost.amount == 2 * 9 * Decimal("0.000015")
    assert usage.other_units == {"characters": 9}


@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
async def test_a_transcription_that_is_only_text_costs_what_the_recording_is_long(kind: str) -> None:
    sent = form(
        "/v1/audio/transcriptions",
        ('name="model"', b"whisper-1"),
        ('name="file"; filename="a.wav"', RECORDING),
    )
    script = text(b'{"text":"Hello."}' if "json" in kind else b"Hello.\n", kind)
    usage, cost = bill(await asked(sent, script))
    assert usage.other_units == {"seconds": 1}
    assert cost.amount == Decimal("0.0002")
    assert cost.provenance == "estimated"


async def test_an_answer_that_broke_off_is_not_taken_for_whole() -> None:
    body = {"model": "tts-1", "input": "Hello you", "voice": "alloy"}
    script = Script(200, [("content-type", "audio/mpeg"), ("content-length", "800")], [b"\xff"], hangs=True)
    served = Server(metrics=CollectorRegistry(), prices=TABLE)
    played = await play(
        [PreCost(), Annotate()], post("/v1/audio/speech", body), script, server=served, leaves_after=1
    )
    assert played.end.reason == "client_gone"
    assert bill(played)[0].other_units == {}


# -- responses in the background ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_a_response_in_the_background_has_bounds_alone(status: str) -> None:
    body = {"model": "gpt-4o", "input": "Hello there", "background": True, "max_output_tokens": 50}
    accepted: dict[str, Any] = {
        "id": "resp_1",
        "model": "gpt-4o",
        "status": status,
        "output": [],
        "usage": None,
    }
    usage, cost = bill(await asked(post("/v1/responses", body), json(accepted)))
    assert (usage.provenance, usage.output_tokens) == ("bounded", 50)
    assert cost.low == 0
    assert cost.amount is not None
    assert cost.amount >= 50 * Decimal("0.00002")


async def test_one_that_was_written_at_once_is_counted() -> None:
    body = {"model": "gpt-4o", "input": "Hello there", "max_output_tokens": 50}
    said = [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}]
    whole = {"id": "resp_1", "model": "gpt-4o", "status": "completed", "output": said, "usage": None}
    usage, _ = bill(await asked(post("/v1/responses", body), json(whole)))
    assert usage.provenance == "estimated"
    assert 0 < usage.output_tokens < 10


# -- deployments -------------------------------------------------------------------------------------------


def older(body: Any, query: str = "api-version=2024-10-21") -> Sent:
    sent = post(OLDER, body)
    return Sent(sent.method, sent.path, query, sent.headers, sent.pieces)


@pytest.mark.parametrize("plugins", [[PreCost, Annotate], [Annotate]])
async def test_a_deployment_in_the_path_is_the_model(plugins: list[type[Plugin]]) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    script = json({"choices": [], "usage": usage})
    played = await asked(older(CHAT), script, [plugin() for plugin in plugins])
    assert played.forwarded is not None
    assert played.forwarded.target == "/v1" + OLDER + "?api-version=2024-10-21"
    assert bill(played)[1].amount == Decimal("0.0052")
    assert played.headers["x-weir-cost-usd"] == "0.0052"
    if PreCost in plugins:
        assert played.ex[ESTIMATE].model == "prod-4o"


async def test_a_cut_stream_of_a_deployment_is_estimated() -> None:
    played = await asked(older({**CHAT, "stream": True}), sse(CHUNK))
    usage, cost = bill(played)
    assert (usage.provenance, usage.input_tokens) == ("estimated", 9)
    assert cost.amount == 2 * (9 * Decimal("0.0000025") + usage.output_tokens * Decimal("0.00001"))


@pytest.mark.parametrize(
    ("query", "more", "asks"),
    [
        ("api-version=2024-10-21", {}, True),
        ("a=b&api-version=2025-04-01-preview", {}, True),
        ("api-version=2024-09-01-preview", {}, True),
        ("api-version=2024-08-01-preview", {}, False),
        ("api-version=2023-05-15", {}, False),
        ("", {}, False),
        ("not-api-version=2024-10-21", {}, False),
        ("api-version=2024-10-21", {"data_sources": []}, False),
    ],
)
async def test_a_deployment_is_asked_for_its_usage_if_it_understands(
    query: str, more: dict[str, Any], asks: bool
) -> None:
    played = await asked(older({**CHAT, "stream": True, **more}, query), sse(CHUNK, b"data: [DONE]\n\n"))
    assert played.forwarded is not None
    assert ("stream_options" in orjson.loads(played.forwarded.body)) is asks


# -- upstreams ---------------------------------------------------------------------------------------------


async def test_an_estimate_knows_the_upstreams_own_prices(tmp_path: Path) -> None:
    body = orjson.dumps({"model": "prod-4o", **CHAT})
    table = "\n".join(
        (
            "version: 1",
            "updated: 2026-11-22",
            "extends: default",
            'upstreams: {up: {multiplier: "3", aliases: {prod-4o: gpt-4o}}}',
        )
    )
    path = tmp_path / "prices.yaml"
    path.write_text(table)
    config = {"plugins": ["auth", "precost"], "pricing": str(path)}
    async with (
        RawUpstream(answer(ok_json(b'{"choices":[]}'))) as up,
        Process(up.base_url, config=config) as weir,
        weir.client() as client,
    ):
        told = await client.ask(ask("/v1/chat/completions", body))
    expected = 3 * (9 * Decimal("0.0000025") + 100 * Decimal("0.00001"))
    assert Decimal(dict(told.headers)[b"x-weir-estimated-cost-usd"].decode()) == expected


async def test_who_is_refused_goes_to_no_upstream() -> None:
    class Refuses(Plugin):
        seen: str | None = None

        async def on_request(self, ex: Exchange) -> Reply:
            self.seen = ex.upstream
            return Reply.error(403, "no", "No.")

    async with Process("http://127.0.0.1:9/v1", config={"plugins": ["auth", "precost"]}) as weir:
        async with weir.client() as client:
            dry = [("x-weir-dry-run", "true")]
            told = await client.ask(
                ask("/v1/chat/completions", orjson.dumps({"model": "gpt-4o", **CHAT}), dry)
            )
            assert told.status == 200
        assert (await weir.logged(event="request"))["upstream"] is None
    refuses = Refuses()
    played = await asked(get("/v1/models"), json({}), [refuses])
    assert refuses.seen == "scripted"
    assert played.ex.attempts == []


# -- trailers ----------------------------------------------------------------------------------------------

TAKES = [("te", "trailers"), ("connection", "te")]
STREAM = orjson.dumps({"model": "gpt-4o", "stream": True, **CHAT})
TOLD = [
    (b"x-weir-input-tokens", b"1000"),
    (b"x-weir-output-tokens", b"10"),
    (b"x-weir-cost-usd", b"0.0026"),
]
USED = {"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 10}}


async def trailed(
    said: bytes, sent: bytes, plugins: Any = ("auth", "precost", "annotate")
) -> tuple[RawResponse, Request]:
    async with (
        RawUpstream(answer(said)) as up,
        Process(up.base_url, config={"plugins": list(plugins)}) as weir,
        weir.client() as client,
    ):
        first = await client.ask(sent)
        if first.ended != "close":
            again = await client.ask(sent)  # the connection is still in order
            assert (again.status, again.body, again.trailers) == (200, first.body, first.trailers)
        return first, up.requests[0]


async def test_what_a_stream_cost_comes_after_it_to_who_takes_trailers() -> None:
    told, got = await trailed(chunked(USED), ask("/v1/chat/completions", STREAM, TAKES))
    assert told.get("trailer") == b"x-weir-input-tokens, x-weir-output-tokens, x-weir-cost-usd, x-weir-cost"
    assert told.trailers == TOLD
    assert told.body.endswith(b"data: [DONE]\n\n")
    assert got.get("te") is None


async def test_an_estimate_comes_after_the_stream_too() -> None:
    stream = orjson.loads(STREAM)
    said = {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "Hello"}}]}
    told, _ = await trailed(chunked(said), ask("/v1/chat/completions", orjson.dumps(stream), TAKES))
    assert told.trailers == [
        (b"x-weir-input-tokens", b"9"),
        (b"x-weir-output-tokens", b"1"),
        (b"x-weir-cost-usd", b"0.0000325"),
        (b"x-weir-cost", b"estimated"),
    ]
    assert b": weir " not in told.body


async def test_speech_tells_what_it_cost_in_trailers() -> None:
    body = orjson.dumps({"model": "tts-1", "input": "Hello you", "voice": "alloy"})
    framing = [("content-type", "audio/mpeg"), ("transfer-encoding", "chunked")]
    said = head(200, framing) + chunk(b"\xff\xfb" * 40) + b"0\r\n\r\n"
    told, _ = await trailed(said, ask("/v1/audio/speech", body, TAKES))
    assert told.body == b"\xff\xfb" * 40
    assert dict(told.trailers)[b"x-weir-cost-usd"] == b"0.000135"
    assert dict(told.trailers)[b"x-weir-cost"] == b"estimated"


async def test_a_held_answer_has_headers_and_no_trailers() -> None:
    used = orjson.dumps(USED)
    framing = [("content-type", "application/json"), ("transfer-encoding", "chunked")]
    said = head(200, framing) + chunk(used) + b"0\r\n\r\n"
    body = orjson.dumps({"model": "gpt-4o", **CHAT})
    told, _ = await trailed(said, ask("/v1/chat/completions", body, TAKES))
    assert (told.body, told.trailers, told.get("trailer")) == (used, [], None)
    assert told.get("x-weir-cost-usd") == b"0.0026"


@pytest.mark.parametrize(
    "sent",
    [
        ask("/v1/chat/completions", STREAM),
        ask("/v1/chat/completions", STREAM, [("te", "deflate"), ("connection", "te")]),
        ask("/v1/chat/completions", STREAM, TAKES[:1]).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["not asked", "other codings", "old"],
)
async def test_who_does_not_take_trailers_gets_none(sent: bytes) -> None:
    told, _ = await trailed(chunked(USED), sent)
    assert told.body.endswith(b"data: [DONE]\n\n")
    assert b"x-weir-cost-usd" not in told.raw


async def test_without_annotate_there_are_no_trailers() -> None:
    told, _ = await trailed(chunked(USED), ask("/v1/chat/completions", STREAM, TAKES), ["auth"])
    assert (told.trailers, told.get("trailer")) == ([], None)


async def test_a_stream_that_breaks_has_no_trailers() -> None:
    broken = chunked(USED, done=False).removesuffix(b"0\r\n\r\n")
    async with (
        RawUpstream(planted(broken)) as up,
        Process(up.base_url, config={"plugins": ["auth", "annotate"]}) as weir,
        weir.client() as client,
    ):
        told = await client.ask(ask("/v1/chat/completions", STREAM, TAKES))
    assert told.ended != "chunked"
    assert told.trailers == []
