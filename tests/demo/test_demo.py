"""The demo upstream, on a real server, through the official SDK."""

import asyncio
import base64
import hashlib
import io
import math
import re
import socket
import struct
import tracemalloc
import uuid
import wave
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from itertools import pairwise
from typing import Annotated, Any, Literal

import httpx2
import openai
import orjson
import pytest
import pytest_asyncio
import uvicorn
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Scope

from proxy.demo import create_app

# One server for all: to stop uvicorn takes longer than any of these tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me about weirs."}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
ADD: ChatCompletionToolParam = {"type": "function", "function": {"name": "add"}}


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url() -> AsyncIterator[str]:
    async with serving(create_app()) as base:
        yield base


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    """Validates every answer against the SDK's own types."""
    async with AsyncOpenAI(
        api_key="sk-demo", base_url=url, max_retries=0, _strict_response_validation=True
    ) as sdk:
        yield sdk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lenient(url: str) -> AsyncIterator[AsyncOpenAI]:
    """For where the SDK's types do not have what OpenAI answers: base64, and null for a finish reason."""
    async with AsyncOpenAI(api_key="sk-demo", base_url=url, max_retries=0) as sdk:
        yield sdk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=url) as plain:
        yield plain


# Chat completions


async def test_chat(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert '"Tell me about weirs."' in (choice.message.content or "")
    assert answer.model == "gpt-4o"
    assert answer.usage
    assert answer.usage.prompt_tokens == len("Tell me about weirs.") // 4
    assert answer.usage.completion_tokens == math.ceil(len(choice.message.content or "") / 4)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details
    assert answer.usage.completion_tokens_details


async def test_chat_reads_parts_and_answers_tool_results(client: AsyncOpenAI) -> None:
    parts = await client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": [{"type": "text", "text": "x" * 59 + "yz"}]}],
    )
    assert f'"{"x" * 59}y..."' in (parts.choices[0].message.content or "")
    result = await client.chat.completions.create(
        model="gpt-4o",
        tools=[WEATHER],
        messages=[*HELLO, {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"}],
    )
    assert result.choices[0].finish_reason == "stop"
    assert '"21 degrees"' in (result.choices[0].message.content or "")


async def test_choices_differ(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage
    spent = sum(math.ceil(len(choice.message.content or "") / 4) for choice in answer.choices)
    assert answer.usage.completion_tokens == spent


async def test_streamed_chat_is_the_plain_one_in_pieces(client: AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="gpt-4o", messages=HELLO, n=2)
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="gpt-4o", messages=HELLO, n=2, stream=True, stream_options={"include_usage": True}
        )
    ]
    for choice in plain.choices:
        deltas = [each for chunk in chunks for each in chunk.choices if each.index == choice.index]
        assert deltas[0].delta.role == "assistant"
        assert "".join(each.delta.content or "" for each in deltas) == choice.message.content
        assert [each.finish_reason for each in deltas if each.finish_reason] == ["stop"]
        assert len(deltas) > 10
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage
    for chunk in chunks[:-1]:
        assert chunk.choices
        assert chunk.usage is None
        assert "usage" in chunk.model_fields_set


async def test_usage_is_not_streamed_unasked(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    async for chunk in stream:
        assert chunk.choices
        assert "usage" not in chunk.model_fields_set


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_limit_on_tokens(client: AsyncOpenAI, name: str) -> None:
    limits: dict[str, Any] = {name: 3}
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, **limits)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "Hello from W"
    assert answer.usage
    assert answer.usage.completion_tokens == 3
    limits[name] = 1000
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, **limits)
    assert answer.choices[0].finish_reason == "stop"


async def test_tool_call(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[WEATHER, ADD])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert orjson.loads(call.function.arguments) == {"city": "example city", "unit": "celsius"}


async def test_tool_choice(client: AsyncOpenAI) -> None:
    none = await client.chat.completions.create(
        model="gpt-4o", messages=HELLO, tools=[WEATHER], tool_choice="none"
    )
    assert none.choices[0].message.tool_calls is None
    named = await client.chat.completions.create(
        model="gpt-4o",
        messages=HELLO,
        tools=[WEATHER, ADD],
        tool_choice={"type": "function", "function": {"name": "add"}},
    )
    (call,) = named.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("add", "{}")
    with pytest.raises(openai.BadRequestError, match="nope") as error:
        await client.chat.completions.create(
            model="gpt-4o",
            messages=HELLO,
            tools=[ADD],
            tool_choice={"type": "function", "function": {"name": "nope"}},
        )
    assert error.value.param == "tool_choice"


async def test_streamed_tool_call(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="gpt-4o", messages=HELLO, tools=[WEATHER]) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.delta") > 3
    (call,) = final.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == {"city": "example city", "unit": "celsius"}


class Colour(Enum):
    RED = "red"


class Node(BaseModel):
    value: Annotated[int, Field(ge=7, le=9)]
    next: "Node | None"
    children: "list[Node]"


class Everything(BaseModel):
    """One of each thing that a schema can say."""

    name: Annotated[str, Field(min_length=30, max_length=40)]
    colour: Colour
    kind: Literal["a", "b"]
    when: datetime
    day: date
    key: uuid.UUID
    price: Decimal
    share: Annotated[float, Field(gt=0, lt=1)]
    tens: Annotated[int, Field(gt=40, multiple_of=10)]
    below: Annotated[int, Field(lt=-3)]
    several: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=3, max_length=4)]
    pair: tuple[int, str]
    either: int | str
    perhaps: bool | None
    tree: Node


async def test_parse(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Everything)
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Everything)
    assert parsed.perhaps is True
    assert parsed.tens == 50
    assert len(parsed.several) == 3
    assert parsed.tree.next
    response = await client.responses.parse(model="gpt-4o", input="hi", text_format=Everything)
    assert response.output_parsed == parsed


async def test_json_object(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="gpt-4o", messages=HELLO, response_format={"type": "json_object"}
    )
    assert "weirs" in orjson.loads(answer.choices[0].message.content or "")["answer"]


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {
            "type": "object",
            "properties": {name: {"$ref": "#"} for name in "abc"},
            "required": ["a", "b", "c"],
        },
        {
            "$defs": {str(at): {"allOf": [{"$ref": f"#/$defs/{at + 1}"}] * 2} for at in range(40)},
            "$ref": "#/$defs/0",
        },
        {"type": "array", "minItems": 10**9},
        {"type": "array", "minItems": "two"},
        {"enum": 5},
    ],
)
async def test_odd_schemas_end(client: AsyncOpenAI, schema: dict[str, object]) -> None:
    """With an answer or a 400: no schema makes us fail or work for ever."""
    try:
        answer = await client.chat.completions.create(
            model="gpt-4o",
            messages=HELLO,
            response_format={"type": "json_schema", "json_schema": {"name": "odd", "schema": schema}},
        )
    except openai.BadRequestError as error:
        assert error.code == "invalid_schema"  # noqa: PT017
    else:
        orjson.loads(answer.choices[0].message.content or "")


# Responses


async def test_response(client: AsyncOpenAI) -> None:
    response = await client.responses.create(
        model="gpt-4o", input="Tell me about weirs.", instructions="Be kind."
    )
    assert response.status == "completed"
    assert '"Tell me about weirs."' in response.output_text
    assert response.instructions == "Be kind."
    assert response.usage
    assert response.usage.input_tokens == len("Be kind.Tell me about weirs.") // 4
    assert await client.responses.retrieve(response.id) == response


async def test_the_input_of_a_response_is_counted_beforehand(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "gpt-4o",
        "input": [{"role": "user", "content": "Tell me about weirs."}],
        "instructions": "Be kind.",
    }
    counted = await client.responses.input_tokens.count(**asked)
    usage = (await client.responses.create(**asked)).usage
    assert usage
    assert counted.input_tokens == usage.input_tokens == 7


async def test_response_that_is_not_stored(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="gpt-4o", input="hi", store=False)
    with pytest.raises(openai.NotFoundError, match=response.id):
        await client.responses.retrieve(response.id)


async def test_streamed_response(client: AsyncOpenAI) -> None:
    events = [event async for event in await client.responses.create(model="gpt-4o", input="hi", stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas > 10
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    final = events[-1]
    assert final.type == "response.completed"
    assert final.response.usage
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert final.response.output_text == text
    assert await client.responses.retrieve(final.response.id) == final.response


async def test_streamed_response_names_its_events(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/responses", json={"model": "gpt-4o", "input": "hi", "stream": True})
    blocks = answer.text.removesuffix("\n\n").split("\n\n")
    for block in blocks:
        event, data = block.split("\n")
        assert event == f"event: {orjson.loads(data.removeprefix('data: '))['type']}"
    assert len(blocks) > 10


async def test_response_calls_tool_then_answers(client: AsyncOpenAI) -> None:
    async with client.responses.stream(
        model="gpt-4o",
        input="Weather?",
        tools=[{"type": "function", "name": "add", "strict": True, "parameters": {"type": "object"}}],
    ) as stream:
        final = await stream.get_final_response()
    (call,) = final.output
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("add", "{}")
    answer = await client.responses.create(
        model="gpt-4o",
        input=[
            {"role": "user", "content": "Weather?"},
            {
                "type": "function_call",
                "call_id": call.call_id,
                "name": call.name,
                "arguments": call.arguments,
            },
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
        ],
    )
    assert '"sunny"' in answer.output_text


async def test_response_with_limit(client: AsyncOpenAI) -> None:
    cut = await client.responses.create(model="gpt-4o", input="hi", max_output_tokens=2)
    assert cut.status == "incomplete"
    assert cut.incomplete_details
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert cut.output_text == "Hello fr"
    stream = await client.responses.create(model="gpt-4o", input="hi", max_output_tokens=2, stream=True)
    assert [event.type async for event in stream][-1] == "response.incomplete"


# Legacy completions


async def test_completion(lenient: AsyncOpenAI) -> None:
    plain = await lenient.completions.create(model="gpt-3.5-turbo-instruct", prompt=["one", "two"], n=2)
    assert [choice.index for choice in plain.choices] == [0, 1, 2, 3]
    assert '"one"' in plain.choices[1].text
    assert '"two"' in plain.choices[2].text
    assert plain.usage
    stream = await lenient.completions.create(
        model="gpt-3.5-turbo-instruct",
        prompt=["one", "two"],
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    for choice in plain.choices:
        mine = [each for chunk in chunks for each in chunk.choices if each.index == choice.index]
        assert "".join(each.text for each in mine) == choice.text
    assert chunks[-1].usage == plain.usage
    cut = await lenient.completions.create(model="gpt-3.5-turbo-instruct", prompt=[1, 2, 3], max_tokens=1)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage
    assert (cut.usage.prompt_tokens, cut.usage.completion_tokens) == (3, 1)


# Embeddings


async def test_embeddings_are_the_same_in_both_encodings(lenient: AsyncOpenAI) -> None:
    asked: list[str] = ["weir", "dam"]
    packed = await lenient.embeddings.create(model="text-embedding-3-small", input=asked)
    floats = await lenient.embeddings.create(
        model="text-embedding-3-small", input=asked, encoding_format="float"
    )
    assert [each.embedding for each in packed.data] == [each.embedding for each in floats.data]
    weir, dam = (each.embedding for each in floats.data)
    assert len(weir) == 1536
    assert math.isclose(math.hypot(*weir), 1, rel_tol=1e-5)
    assert abs(sum(a * b for a, b in zip(weir, dam, strict=True))) < 0.2
    alone = await lenient.embeddings.create(model="text-embedding-3-small", input="weir")
    assert alone.data[0].embedding == weir
    assert packed.usage.prompt_tokens == 2


async def test_embeddings_of_tokens(lenient: AsyncOpenAI) -> None:
    one = await lenient.embeddings.create(model="text-embedding-3-small", input=[1, 2, 3], dimensions=8)
    two = await lenient.embeddings.create(
        model="text-embedding-3-small", input=[[1, 2, 3], [4]], dimensions=8
    )
    assert one.data[0].embedding == two.data[0].embedding != two.data[1].embedding
    assert len(one.data[0].embedding) == 8
    assert (one.usage.prompt_tokens, two.usage.prompt_tokens) == (3, 4)


async def test_embeddings_base64_is_the_default_of_the_sdk_only(http: httpx2.AsyncClient) -> None:
    body = {"model": "text-embedding-3-small", "input": "x", "dimensions": 4}
    floats = (await http.post("/embeddings", json=body)).json()["data"][0]["embedding"]
    packed = (await http.post("/embeddings", json={**body, "encoding_format": "base64"})).json()
    assert list(struct.unpack("<4f", base64.b64decode(packed["data"][0]["embedding"]))) == floats


# Images and audio


def pixels(png: bytes) -> bytes:
    """The image's data, once every checksum was found right."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, blocks = 8, {}
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        blocks[kind] = body
        at += 12 + length
    width, height = struct.unpack(">II", blocks[b"IHDR"][:8])
    data = zlib.decompress(blocks[b"IDAT"])
    assert len(data) == height * (1 + 3 * width)
    assert blocks[b"IEND"] == b""
    return data


async def test_images(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(model="gpt-image-1", prompt="a weir", n=2, size="1536x1024")
    assert answer.size == "1536x1024"
    assert answer.usage
    assert answer.usage.output_tokens == 2 * 1056
    one, two = (pixels(base64.b64decode(image.b64_json or "")) for image in answer.data or [])
    assert one != two
    again = await client.images.generate(prompt="a weir")
    assert pixels(base64.b64decode((again.data or [])[0].b64_json or "")) == one


async def test_streamed_image(client: AsyncOpenAI) -> None:
    stream = await client.images.generate(model="gpt-image-1", prompt="a weir", stream=True)
    (event,) = [event async for event in stream]
    assert event.type == "image_generation.completed"
    assert pixels(base64.b64decode(event.b64_json))


async def test_speech(client: AsyncOpenAI) -> None:
    async with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Hello", response_format="mp3"
    ) as answer:
        assert answer.headers["content-type"] == "audio/wav"
        sound = b"".join([chunk async for chunk in answer.iter_bytes()])
    with wave.open(io.BytesIO(sound)) as opened:
        assert opened.getnframes() == 12_000
        assert any(opened.readframes(12_000))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK deprecates translations
async def test_transcription(client: AsyncOpenAI) -> None:
    said = ('mötley "1".wav', b"x" * 64_000)
    plain = await client.audio.transcriptions.create(model="whisper-1", file=said)
    assert plain.text == 'This is the demo\'s transcription of mötley "1".wav, a file of 64000 bytes.'
    assert plain.usage
    assert plain.usage.type == "duration"
    assert plain.usage.seconds == 2
    text = await client.audio.transcriptions.create(model="whisper-1", file=said, response_format="text")
    assert text == f"{plain.text}\n"
    verbose = await client.audio.transcriptions.create(
        model="whisper-1", file=said, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert verbose.segments
    assert (verbose.text, verbose.segments[0].text, verbose.duration) == (plain.text, plain.text, 2.0)
    translated = await client.audio.translations.create(model="whisper-1", file=said)
    assert "translation of mötley" in translated.text
    stream = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=said, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == plain.text
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == plain.text


# Files


async def test_file_of_5_mb(client: AsyncOpenAI) -> None:
    body = hashlib.shake_256(b"5 MB").digest(5 * MIB + 3)
    stored = await client.files.create(file=("big.bin", body), purpose="user_data")
    assert (stored.bytes, stored.filename, stored.purpose) == (len(body), "big.bin", "user_data")
    assert (stored.model_extra or {})["sha256"] == hashlib.sha256(body).hexdigest()
    assert (await client.files.content(stored.id)).content == body[:MIB]
    assert await client.files.retrieve(stored.id) == stored


async def test_files_are_listed_and_deleted() -> None:
    async with serving(create_app()) as url, AsyncOpenAI(api_key="sk-demo", base_url=url) as client:
        await list_and_delete(client)


async def list_and_delete(client: AsyncOpenAI) -> None:
    one = await client.files.create(file=("1.jsonl", b""), purpose="batch")
    two = await client.files.create(file=("2.txt", b"\r\n--"), purpose="user_data")
    assert [file async for file in client.files.list()] == [two, one]
    assert [file async for file in client.files.list(purpose="batch")] == [one]
    assert (await client.files.content(two.id)).content == b"\r\n--"
    assert (await client.files.delete(two.id)).deleted
    assert [file async for file in client.files.list()] == [one]
    for gone in (client.files.retrieve(two.id), client.files.content(two.id), client.files.delete(two.id)):
        with pytest.raises(openai.NotFoundError, match=two.id):
            await gone


async def test_upload_in_bounded_memory() -> None:
    """64 MiB sent, of which one is kept."""
    chunk = bytes(64 << 10)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    tail = b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(1024):
            yield chunk
        yield tail

    tracemalloc.start()
    try:
        headers = [(b"content-type", b"multipart/form-data; boundary=b")]
        status, answer = await call(create_app(), "/v1/files", body(), headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert status == 200
    assert orjson.loads(b"".join(answer))["bytes"] == 64 * MIB
    assert peak < 4 * MIB


def scope_of(path: str, headers: list[tuple[bytes, bytes]] | None = None) -> Scope:
    return {"type": "http", "method": "POST", "path": path, "headers": headers or [], "query_string": b""}


async def call(
    app: ASGIApp,
    path: str,
    body: Iterator[bytes],
    headers: list[tuple[bytes, bytes]] | None = None,
    left: Callable[[int], bool] = lambda sent: False,
) -> tuple[int, list[bytes]]:
    """Drive the app as a server would: what it sent, and the client goes once `left` says so."""
    messages: list[Message] = []
    gone = asyncio.Event()

    async def receive() -> Message:
        if (chunk := next(body, None)) is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        if not ended:
            ended.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)
        if left(len(messages)):
            gone.set()

    ended: list[bool] = []
    await app(scope_of(path, headers), receive, send)
    return messages[0]["status"], [message["body"] for message in messages[1:]]


# Models, moderations


async def test_models(client: AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert "gpt-4o" in names
    assert len(set(names)) == len(names)
    assert (await client.models.retrieve("any/name")).id == "any/name"
    with pytest.raises(openai.NotFoundError) as error:
        await client.models.retrieve("missing-1")
    assert error.value.code == "model_not_found"


async def test_moderations(client: AsyncOpenAI) -> None:
    answer = await client.moderations.create(input=["a quiet weir", "pure Violence"])
    assert [result.flagged for result in answer.results] == [False, True]
    assert answer.results[1].categories.violence
    assert not answer.results[1].categories.hate


# Errors and misbehaving models


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/chat/completions", b"{", None),
        ("/chat/completions", b"[]", None),
        ("/chat/completions", b"\xff", None),
        ("/chat/completions", b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        ("/chat/completions", b'{"model": "x"}', "messages"),
        ("/chat/completions", b'{"model": "x", "messages": null}', "messages"),
        ("/chat/completions", b'{"model": "x", "messages": "x"}', "messages"),
        ("/chat/completions", b'{"model": "x", "messages": []}', "messages"),
        ("/chat/completions", b'{"model": "x", "messages": [{}]}', "messages[0].role"),
        ("/chat/completions", b'{"model": 1, "messages": [{"role": "user"}]}', "model"),
        ("/chat/completions", b'{"model": "x", "messages": [{"role": "user"}], "n": 0}', "n"),
        ("/chat/completions", b'{"model": "x", "messages": [{"role": "user"}], "n": true}', "n"),
        (
            "/chat/completions",
            b'{"model": "x", "messages": [{"role": "user"}], "max_tokens": 0}',
            "max_tokens",
        ),
        ("/responses", b'{"model": "x"}', "input"),
        ("/responses", b'{"model": "x", "input": []}', "input"),
        ("/responses/input_tokens", b'{"input": "x"}', "model"),
        ("/responses/input_tokens", b'{"model": "x"}', "input"),
        ("/completions", b'{"model": "x"}', "prompt"),
        ("/embeddings", b'{"model": "x", "input": []}', "input"),
        ("/embeddings", b'{"model": "x", "input": [[]]}', "input"),
        ("/embeddings", b'{"model": "x", "input": "x", "encoding_format": "x"}', "encoding_format"),
        ("/images/generations", b"{}", "prompt"),
        ("/audio/speech", b'{"model": "x"}', "input"),
        ("/moderations", b"{}", "input"),
    ],
)
async def test_bad_requests(http: httpx2.AsyncClient, path: str, body: bytes, param: str | None) -> None:
    answer = await http.post(path, content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(("fields", "param"), [({"purpose": "batch"}, "file"), ({}, "purpose")])
async def test_bad_forms(http: httpx2.AsyncClient, fields: dict[str, str], param: str) -> None:
    name = "file" if param != "file" else "other"
    answer = await http.post("/files", data=fields, files={name: ("x", b"x")})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(("method", "path"), [("GET", "/nope"), ("PUT", "/files"), ("GET", "/models/")])
async def test_unknown_urls(http: httpx2.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"Invalid URL ({method} /v1{path})"


async def test_missing_model(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        await client.chat.completions.create(model="missing-1", messages=HELLO, stream=True)
    assert error.value.code == "model_not_found"


async def test_rate_limited(client: AsyncOpenAI) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(openai.RateLimitError) as error:
        await client.with_options(max_retries=2).chat.completions.create(model="rate-limited", messages=HELLO)
    assert 0.04 <= asyncio.get_running_loop().time() - started < 0.4
    assert error.value.code == "rate_limit_exceeded"
    assert error.value.response.headers["retry-after-ms"] == "20"
    assert error.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.value.request_id


async def test_flaky_fails_once_for_each_user(client: AsyncOpenAI) -> None:
    for user in ("ann", "bob"):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="flaky", messages=HELLO, user=user)
        await client.chat.completions.create(model="flaky", messages=HELLO, user=user)
    retrying = client.with_options(max_retries=1)
    await retrying.chat.completions.create(model="flaky", messages=HELLO, user="carol")


# Streams on the wire


STREAMED = {"model": "gpt-4o", "messages": HELLO, "stream": True}


async def test_each_event_is_sent_alone() -> None:
    _, sent = await call(create_app(), "/v1/chat/completions", iter([orjson.dumps(STREAMED)]))
    *events, end = sent
    assert end == b""
    assert len(events) > 10
    assert all(re.fullmatch(rb"data: [^\n]+\n\n", event) for event in events)
    assert events[-1] == b"data: [DONE]\n\n"


@pytest.mark.parametrize("model", ["gpt-4o", "slow"])
async def test_stream_stops_when_the_client_leaves(model: str) -> None:
    body = orjson.dumps({**STREAMED, "model": model})
    _, sent = await call(create_app(), "/v1/chat/completions", iter([body]), left=lambda sent: sent == 4)
    assert len(sent) <= 4


async def test_client_that_leaves_during_its_upload_does_no_harm() -> None:
    messages: list[Message] = []

    async def receive() -> Message:
        return next(steps)

    async def send(message: Message) -> None:
        messages.append(message)

    steps: Iterator[Message] = iter(
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    )
    await create_app()(scope_of("/v1/responses"), receive, send)
    assert messages[0]["status"] == 499


async def test_slow_model_takes_its_time(client: AsyncOpenAI) -> None:
    clock = asyncio.get_running_loop().time
    times = []
    stream = await client.chat.completions.create(model="slow", messages=HELLO, max_tokens=6, stream=True)
    async for _ in stream:
        times.append(clock())  # noqa: PERF401 - when it came is what counts
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert len(gaps) >= 5
    assert sum(gaps) / len(gaps) >= 0.02


async def test_same_request_same_bytes(http: httpx2.AsyncClient) -> None:
    async def both(path: str, **body: Any) -> None:
        answers = [await http.post(path, **body) for _ in range(2)]
        contents = {answer.content for answer in answers}
        assert len(contents) == 1
        headers = [{k: v for k, v in answer.headers.items() if k != "date"} for answer in answers]
        assert headers[0] == headers[1]
        assert re.fullmatch(r"req_[0-9a-f]{32}", headers[0]["x-request-id"])
        assert headers[0]["openai-processing-ms"].isdigit()
        assert "openai-version" in headers[0]

    await both("/chat/completions", json=STREAMED)
    await both("/responses", json={"model": "x", "input": "x", "stream": True})
    await both("/images/generations", json={"prompt": "x"})
    await both("/audio/speech", json={"model": "x", "input": "x"})
    # Each of these has another boundary.
    await both("/files", data={"purpose": "batch"}, files={"file": ("x", b"x" * MIB)})
    await both("/nope")


async def test_other_request_other_id(client: AsyncOpenAI) -> None:
    one = await client.responses.create(model="gpt-4o", input="one")
    two = await client.responses.create(model="gpt-4o", input="two")
    assert one.id != two.id
    assert one._request_id != two._request_id


async def test_stream_headers(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/chat/completions", json=STREAMED)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
