"""The OpenAI SDK reads an annotated stream as it reads the upstream's own."""

from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from plugins.annotate import Annotate
from proxy.api.testing import play, post, sse
from tests.e2e.either import NO_TLS

from .upstream import STYLES, server

GOLDEN = Path(__file__).parents[2] / "golden"


def read(body: bytes, path: str, **call: Any) -> list[Any]:
    """What the SDK makes of these bytes."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    http = httpx2.Client(transport=httpx2.MockTransport(answer), verify=NO_TLS)
    with openai.OpenAI(base_url="http://up.test/v1", api_key="sk", http_client=http, max_retries=0) as client:
        method = client
        for name in path.split("."):
            method = getattr(method, name)
        return list(method(model="gpt-4o", stream=True, **call))  # type: ignore[operator]


async def annotated(stream: bytes, path: str) -> bytes:
    played = await play([Annotate()], post(path, {"stream": True}), sse(stream), server=server())
    assert b": weir {" in played.body
    return played.body


# The others it cannot read from the upstream either.
READABLE = [name for name, style in STYLES.items() if not style.bom and not (style.ids and style.blank)]


@pytest.mark.parametrize("name", READABLE)
async def test_chat(name: str) -> None:
    style = STYLES[name]
    call: dict[str, Any] = {"path": "chat.completions.create", "messages": []}
    expected = read(b"".join(style.events(asked=False)), **call)
    assert len(expected) > 2
    body = await annotated(b"".join(style.events(asked=True)), "/v1/chat/completions")
    assert read(body, **call) == expected


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_responses(ids: bool, end: bytes) -> None:
    stream = (GOLDEN / "responses.sse").read_bytes().replace(b"\n", end)
    if ids:
        stream = stream.replace(b"data: ", b"id: 7" + end + b"data: ")
    call: dict[str, Any] = {"path": "responses.create", "input": "x"}
    expected = read(stream, **call)
    assert [event.type for event in expected][-1] == "response.completed"
    assert read(await annotated(stream, "/v1/responses"), **call) == expected


def test_a_block_of_comments_after_an_id_is_what_the_sdk_fails_on() -> None:
    """Why it is glued: when this passes, it need not be any more."""
    stream = b'id: 1\ndata: {"choices":[]}\n\n: weir {}\n\ndata: [DONE]\n\n'
    with pytest.raises(ValueError, match="Expecting value"):
        read(stream, "chat.completions.create", messages=[])
