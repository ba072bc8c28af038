"""What is read of one streamed chat."""

import httpx2
import openai
import orjson
import pytest

from proxy.cli.demo.chat import BrokenOff, Heard, chat

from .wired import Answer, Pieces, sdk, sse


def chunk(*texts: str | None) -> bytes:
    choices = [{"index": 0, "delta": {} if text is None else {"content": text}} for text in texts]
    return b"data: %b\n\n" % orjson.dumps({"object": "chat.completion.chunk", "choices": choices})


NOTE = b': weir {"cost_usd":"0.0000369","input_tokens":18,"output_tokens":57}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = chunk(None) + chunk("Hel") + chunk("lo", None) + chunk() + b": ping\n\n" + NOTE + DONE


def talk(answer: Answer) -> tuple[Heard, list[str]]:
    told: list[str] = []
    with sdk(answer) as client:
        return chat(client, "gpt-4o", "Hi?", told.append), told


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_text_comes_piece_by_piece_and_the_comment_is_read(size: int) -> None:
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    heard, told = talk(lambda request: sse(*pieces, X_Weir_Thing="7"))
    assert told == ["Hel", "lo"]
    assert heard.note == {"cost_usd": "0.0000369", "input_tokens": 18, "output_tokens": 57}
    assert heard.headers["x-weir-thing"] == "7"
    assert heard.first is not None
    assert 0 < heard.first <= heard.total


def test_it_asks_for_a_stream() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return sse(STREAM)

    talk(answer)
    assert asked[0].url.path == "/v1/chat/completions"
    assert orjson.loads(asked[0].content) == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi?"}],
        "stream": True,
    }


def test_text_is_told_before_the_stream_goes_on() -> None:
    told: list[str] = []

    class Watching(Pieces):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield chunk("one")
            yield chunk("two")
            assert told == ["one", "two"]
            yield DONE

    with sdk(lambda _: httpx2.Response(200, stream=Watching())) as client:
        chat(client, "gpt-4o", "Hi?", told.append)


def test_without_a_comment_there_is_none() -> None:
    heard, _ = talk(lambda _: sse(chunk("x"), DONE))
    assert heard.note == {}


@pytest.mark.parametrize("note", [b": weir {", b": weir 7", b": weir"])
def test_a_comment_that_is_no_object_is_none(note: bytes) -> None:
    assert talk(lambda _: sse(chunk("x"), note + b"\n\n", DONE))[0].note == {}


ERROR = b'data: {"error":{"message":"It stalled.","code":"upstream_idle"}}\n\n'


@pytest.mark.parametrize(
    ("pieces", "breaks", "says"),
    [
        ((chunk("x"), ERROR), None, "the answer broke off: It stalled."),
        ((chunk("x"),), httpx2.RemoteProtocolError("gone"), "the answer broke off: RemoteProtocolError"),
        ((chunk("x"),), None, "the answer broke off before its end"),
        ((), None, "the answer broke off before its end"),
    ],
)
def test_a_stream_that_breaks_off_is_told_with_its_text(
    pieces: tuple[bytes, ...], breaks: Exception | None, says: str
) -> None:
    told: list[str] = []
    with sdk(lambda _: sse(*pieces, breaks=breaks)) as client, pytest.raises(BrokenOff) as error:
        chat(client, "gpt-4o", "Hi?", told.append)
    assert str(error.value) == says
    assert told == (["x"] if pieces else [])


def test_a_refusal_is_the_sdks() -> None:
    body = {"error": {"message": "No.", "code": "invalid_api_key"}}
    with pytest.raises(openai.AuthenticationError):
        talk(lambda _: httpx2.Response(401, json=body))
