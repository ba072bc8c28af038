"""Every call of the SDK that the demo answers: what it gives is equal with and without Weir."""

import asyncio
import hashlib
import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from tests.faults.process import Process

from .either import NO_TLS, Client, all_of, done, opened, sdk
from .twins import ADDED, Twins, comparable, untouched

MIB = 1 << 20
HELLO = [{"role": "user", "content": "Weirs é, и про плотины 🌊."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


class Report(BaseModel):
    """For `.parse`."""

    title: str
    flow: float
    open: bool
    gates: list[int]


# Chat completions


async def test_chat(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        return await done(c.chat.completions.create(model="gpt-4o", messages=HELLO, n=2, temperature=0.25))

    answer = await twins.same(scenario)
    assert "про плотины 🌊" in answer.choices[0].message.content
    assert answer.usage.total_tokens > 20
    assert answer._request_id.startswith("req_")


@pytest.mark.parametrize("usage", [None, True, False])
async def test_streamed_chat(twins: Twins, usage: bool | None) -> None:
    options = {} if usage is None else {"stream_options": {"include_usage": usage}}

    async def scenario(c: Client) -> Any:
        stream = await done(
            c.chat.completions.create(
                model="gpt-4o", messages=HELLO, stream=True, max_tokens=20, n=2, **options
            )
        )
        return await all_of(stream)

    chunks = await twins.same(scenario)
    assert len(chunks) > 20
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [bool(usage)]


async def test_tool_calls(twins: Twins) -> None:
    async def plain(c: Client) -> Any:
        return await done(c.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[WEATHER]))

    async def streamed(c: Client) -> Any:
        stream = c.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[WEATHER], stream=True)
        return await all_of(await done(stream))

    call = (await twins.same(plain)).choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    pieces = [chunk.choices[0].delta.tool_calls for chunk in await twins.same(streamed)]
    arguments = "".join(piece[0].function.arguments for piece in pieces if piece)
    assert arguments == call.function.arguments != ""


async def test_conversation_with_a_tool(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        first = await done(c.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[WEATHER]))
        message = first.choices[0].message
        told = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "7 m³/s"}
        return await done(
            c.chat.completions.create(model="gpt-4o", messages=[*HELLO, message, told], tools=[WEATHER])
        )

    assert '"7 m³/s"' in (await twins.same(scenario)).choices[0].message.content


async def test_parse(twins: Twins) -> None:
    async def chat(c: Client) -> Any:
        return await done(c.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Report))

    async def response(c: Client) -> Any:
        return await done(c.responses.parse(model="gpt-4o", input="Report.", text_format=Report))

    parsed = (await twins.same(chat)).choices[0].message.parsed
    assert isinstance(parsed, Report)
    assert (await twins.same(response)).output_parsed == parsed


async def test_chat_stream_helper(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        asked = c.chat.completions.stream(
            model="gpt-4o",
            messages=HELLO,
            response_format=Report,
            stream_options={"include_usage": True},
        )
        async with opened(asked) as stream:
            events = await all_of(stream)
            return [events, await done(stream.get_final_completion())]

    events, final = await twins.same(scenario)
    assert {"chunk", "content.delta", "content.done"} <= {event.type for event in events}
    assert isinstance(final.choices[0].message.parsed, Report)
    assert final.usage.completion_tokens > 0


# Responses


async def test_responses(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        made = await done(c.responses.create(model="gpt-4o", input="Tell me.", instructions="Be kind."))
        return [made, await done(c.responses.retrieve(made.id))]

    made, found = await twins.same(scenario)
    assert made.output_text == found.output_text != ""


async def test_streamed_responses(twins: Twins) -> None:
    async def plain(c: Client) -> Any:
        events = await all_of(await done(c.responses.create(model="gpt-4o", input="Tell.", stream=True)))
        return [events, await done(c.responses.retrieve(events[-1].response.id))]

    async def helper(c: Client) -> Any:
        async with opened(c.responses.stream(model="gpt-4o", input="Tell.")) as stream:
            events = await all_of(stream)
            return [events, await done(stream.get_final_response())]

    events, found = await twins.same(plain)
    assert len(events) > 20
    assert [event.type for event in events][-1] == "response.completed"
    assert found.output_text == events[-1].response.output_text
    assert (await twins.same(helper))[1].output_text == found.output_text


# The rest of the API


@pytest.mark.parametrize("stream", [False, True])
async def test_legacy_completions(twins: Twins, stream: bool) -> None:
    async def scenario(c: Client) -> Any:
        given = await done(
            c.completions.create(
                model="gpt-3.5-turbo-instruct", prompt=["one", "two"], max_tokens=9, stream=stream
            )
        )
        return await all_of(given) if stream else given

    given = await twins.same(scenario)
    assert len(given) > 10 if stream else given.choices[1].text


async def test_embeddings(twins: Twins) -> None:
    asked: Sequence[str] = ["weir", "dam"]

    async def packed(c: Client) -> Any:
        return await done(c.embeddings.create(model="text-embedding-3-small", input=asked))

    async def floats(c: Client) -> Any:
        return await done(
            c.embeddings.create(model="text-embedding-3-small", input=asked, encoding_format="float")
        )

    one, two = await twins.same(packed), await twins.same(floats)
    assert len(one.data[0].embedding) == 1536
    assert [each.embedding for each in one.data] == [each.embedding for each in two.data]
    encodings = [b'"base64"' in request.content for request in twins.weir_sent]
    assert encodings == [True, False]


async def test_images(twins: Twins) -> None:
    async def plain(c: Client) -> Any:
        return await done(c.images.generate(model="gpt-image-1", prompt="a weir", n=2))

    async def streamed(c: Client) -> Any:
        return await all_of(await done(c.images.generate(model="gpt-image-1", prompt="a weir", stream=True)))

    assert len((await twins.same(plain)).data[1].b64_json) > 100
    assert (await twins.same(streamed))[-1].type == "image_generation.completed"


async def test_speech(twins: Twins) -> None:
    said = {"model": "tts-1", "voice": "alloy", "input": "Hello"}

    async def whole(c: Client) -> Any:
        return await done(c.audio.speech.create(**said))

    async def streamed(c: Client) -> Any:
        async with opened(c.audio.speech.with_streaming_response.create(**said)) as answer:
            pieces = await all_of(answer.iter_bytes())
            return [answer.status_code, answer.headers["content-type"], b"".join(pieces)]

    sound = (await twins.same(whole)).content
    assert await twins.same(streamed) == [200, "audio/wav", sound]
    with wave.open(io.BytesIO(sound)) as opened_wave:
        assert opened_wave.getnframes() == 12_000


@pytest.mark.parametrize("form", ["json", "text", "verbose_json", "stream"])
async def test_transcriptions(twins: Twins, form: str) -> None:
    said = ('mötley "1".wav', b"x\r\n--" * 13_000)
    options = {"stream": True} if form == "stream" else {"response_format": form}

    async def scenario(c: Client) -> Any:
        given = await done(
            c.audio.transcriptions.create(model="gpt-4o-transcribe", file=said, language="en", **options)
        )
        return await all_of(given) if form == "stream" else given

    given = await twins.same(scenario)
    text = given if form == "text" else given[-1].text if form == "stream" else given.text
    assert 'mötley "1".wav, a file of 65000 bytes' in text


async def test_files(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        one = await done(c.files.create(file=(f"{twins.kind}.jsonl", b""), purpose="batch"))
        two = await done(c.files.create(file=("2.txt", b"\r\n--\0\xff"), purpose="user_data"))
        steps = [one, two, await done(c.files.retrieve(two.id)), await done(c.files.content(two.id))]
        steps.append(await all_of(c.files.list()))
        steps.append(await all_of(c.files.list(purpose="batch", limit=5, order="desc")))
        steps += [await done(c.files.delete(two.id)), await all_of(c.files.list())]
        return steps

    one, two, found, content, both, batch, deleted, left = await twins.same(scenario)
    assert found == two
    assert content.content == b"\r\n--\0\xff"
    assert (both[0], batch[0]) == (two, one)
    assert deleted.deleted
    assert two not in left

    async def gone(c: Client) -> Any:
        return await done(c.files.retrieve(two.id))

    assert isinstance(await twins.same_error(gone), openai.NotFoundError)


async def test_upload_of_20_mb(twins: Twins, tmp_path: Path) -> None:
    body = hashlib.shake_256(b"20 MB").digest(20 * MIB + 3)
    path = tmp_path / "big.bin"
    path.write_bytes(body)

    async def scenario(c: Client) -> Any:
        stored = await done(c.files.create(file=path, purpose="user_data", timeout=60))
        return [stored, await done(c.files.content(stored.id))]

    stored, content = await twins.same(scenario)
    assert stored.model_extra["sha256"] == hashlib.sha256(body).hexdigest()
    assert stored.bytes == len(body)
    assert content.content == body[:MIB]


async def test_models(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        return [await all_of(c.models.list()), await done(c.models.retrieve("org/a model?#é"))]

    models, model = await twins.same(scenario)
    assert "gpt-4o" in [each.id for each in models]
    assert model.id == "org/a model?#é"


async def test_moderations(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        return await done(c.moderations.create(input=["a quiet weir", "pure violence"]))

    assert [each.flagged for each in (await twins.same(scenario)).results] == [False, True]


# Raw answers


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO),
        lambda c: c.responses.with_raw_response.create(model="gpt-4o", input="Tell."),
        lambda c: c.embeddings.with_raw_response.create(model="text-embedding-3-small", input="x"),
        lambda c: c.models.with_raw_response.list(),
        lambda c: c.images.with_raw_response.generate(prompt="a weir"),
        lambda c: c.files.with_raw_response.create(file=("a", b"b" * MIB), purpose="batch"),
        lambda c: c.audio.transcriptions.with_raw_response.create(
            model="whisper-1", file=("a.wav", b"b"), response_format="text"
        ),
    ],
    ids=["chat", "responses", "embeddings", "models", "images", "files", "transcriptions"],
)
async def test_raw_answers(twins: Twins, call: Any) -> None:
    async def scenario(c: Client) -> Any:
        raw = await done(call(c))
        return [raw.http_response, raw.parse(), raw.request_id, raw.retries_taken]

    response, parsed, request_id, _ = await twins.same(scenario)
    assert parsed
    assert request_id.startswith("req_")
    assert not ADDED & {name.lower() for name, _ in response.headers.raw}


@pytest.mark.parametrize("usage", [True, False])
async def test_raw_streams(twins: Twins, usage: bool) -> None:
    """Byte for byte, `[DONE]` and all."""

    async def scenario(c: Client) -> Any:
        asked = c.chat.completions.with_streaming_response.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": usage}
        )
        async with opened(asked) as raw:
            body = b"".join(await all_of(raw.iter_bytes()))
            return [raw.status_code, untouched(raw.http_response), body]

    status, headers, body = await twins.same(scenario)
    assert (status, body.endswith(b"\n\ndata: [DONE]\n\n")) == (200, True)
    assert (b"content-type", b"text/event-stream; charset=utf-8") in headers


async def test_what_is_added_to_answers(twins: Twins, weir: Process) -> None:
    raw = await done(twins.weir.models.with_raw_response.list())
    found = {name for name, _ in raw.http_response.headers.raw if name in ADDED}
    assert found == ADDED
    line = await weir.logged(id=raw.headers["x-weir-request-id"])
    assert (line["path"], line["status"], line["end_reason"]) == ("/v1/models", 200, "complete")
    assert "upstream;dur=" in raw.headers["server-timing"]


# URLs


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_forms_of_the_base_url(twins: Twins, weir: Process, suffix: str) -> None:
    async def scenario(c: Client) -> Any:
        answer = await done(c.chat.completions.create(model="gpt-4o", messages=HELLO))
        chunks = await all_of(
            await done(c.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
        )
        file = await done(c.files.create(file=("a", b"b"), purpose="batch"))
        return [answer, chunks, file]

    async with sdk(twins.kind, f"http://127.0.0.1:{weir.port}{suffix}") as client:
        through = await scenario(client)
    assert comparable(through) == comparable(await scenario(twins.direct))


@pytest.mark.parametrize(
    "path",
    [
        "/some/future/endpoint",
        "/some/future/endpoint/",
        "/models/",
        "/v1/models",
        "/a//b",
        "/a%2Fb%20c/%C3%A9;x=1",
        "/a?b=c&b=d&e=%2F+%20",
    ],
)
async def test_unknown_paths_are_for_the_upstream(twins: Twins, path: str) -> None:
    """The demo names what reached it in its error, and hashes path and query into the request's id."""

    async def post(c: Client) -> Any:
        return await done(c.post(path, cast_to=object, body={"any": "thing"}))

    async def get(c: Client) -> Any:
        return await done(c.get(path, cast_to=object))

    for method, scenario in (("POST", post), ("GET", get)):
        error = await twins.same_error(scenario)
        assert isinstance(error, openai.NotFoundError)
        assert error.message.startswith(f"Error code: 404 - Invalid URL ({method} /v1/")
        assert error.request_id


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/models", "/nope", "/files/file-x"])
def test_other_methods(demos: tuple[str, str], weir: Process, method: str, path: str) -> None:
    with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=10) as http:
        direct = http.request(method, demos[0] + path)
        through = http.request(method, f"http://127.0.0.1:{weir.port}/v1{path}")
    assert comparable(through) == comparable(direct)
    assert direct.status_code == (200 if path == "/models" and method in ("GET", "HEAD") else 404)
    assert bool(direct.content) == (method != "HEAD")
    assert "x-weir-request-id" in through.headers


# Many at once


async def test_50_streams_at_once(demos: tuple[str, str], weir: Process) -> None:
    async def one(c: Client, number: int) -> Any:
        stream = await c.chat.completions.create(
            model="slow" if number % 2 else "gpt-4o",
            messages=[{"role": "user", "content": f"I am number {number}."}],
            max_tokens=25,
            stream=True,
            stream_options={"include_usage": True},
        )
        return [chunk async for chunk in stream]

    async with (
        sdk("async", demos[0]) as direct,
        sdk("async", f"http://127.0.0.1:{weir.port}/v1") as through,
        asyncio.timeout(30),
    ):
        expected = await asyncio.gather(*(one(direct, number) for number in range(50)))
        got = await asyncio.gather(*(one(through, number) for number in range(50)))
    assert comparable(got) == comparable(expected)
    assert len({chunks[0].id for chunks in got}) == 50
    assert min(len(chunks) for chunks in got) > 20
