"""Streams and answers as the client gets them, against what it would have got without."""

import gzip
import threading
import zlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.annotate import Annotate, asking
from plugins.annotate.plugin import HOLD_LIMIT, IMAGES_HOLD_LIMIT
from proxy.api import COST, USAGE, Cost, End, Event, Exchange, Plugin, UpstreamError, Usage
from proxy.api.testing import Played, Script, Sent, get, json, play, post, sse
from proxy.core.sse import EVENT_LIMIT

from .upstream import INPUT, OUTPUT, STYLES, FakePrices, Style, asks, server

GOLDEN = Path(__file__).parents[2] / "golden"
CHAT = "/v1/chat/completions"
LOST = UpstreamError(502, "upstream_reset", "The upstream broke the connection.")
ASK = b'{"model": "gpt-4o","stream":true, "seed":18446744073709551616}'
ASKED = (
    b'{"stream_options":{"include_usage":true},"model": "gpt-4o","stream":true, "seed":18446744073709551616}'
)
ANSWER = b'{"model":"gpt-4o", "choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":10}}'
TOLD = {"x-weir-cost-usd": "0.0026", "x-weir-input-tokens": "1000", "x-weir-output-tokens": "10"}

styles = pytest.mark.parametrize("style", STYLES.values(), ids=list(STYLES))


async def streamed(
    answer: Script, body: bytes = ASK, path: str = CHAT, annotate: Annotate | None = None, **more: Any
) -> Played:
    return await play([annotate or Annotate()], post(path, body), answer, server=server(), **more)


async def answered(
    body: bytes, path: str = CHAT, annotate: Annotate | None = None, *, headers: Any = (), **more: Any
) -> Played:
    more.setdefault("server", server())
    asked = post(path, {"model": "gpt-4o"})
    return await play([annotate or Annotate()], asked, json(body, headers=headers), **more)


def told(played: Played) -> dict[str, str]:
    """What the headers say."""
    names = [name for name, _ in played.headers if name.startswith("x-weir-") and name != "x-weir-request-id"]
    assert len(names) == len(set(names))
    return {name: played.headers[name] for name in names}


def measured(played: Played) -> bool:
    """Whether the upstream's word is what counts. What else is told is an estimate."""
    (usage,) = played.ex[USAGE]
    cost = played.ex[COST]
    assert cost.provenance in (usage.provenance, "none")
    return usage.provenance == "measured"


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.sse").read_bytes()


# -- what it is ------------------------------------------------------------------------------------------


def test_it_says_what_it_is() -> None:
    assert Annotate.provides == (USAGE, COST)
    assert Annotate.on_error == "skip"
    assert not Annotate().guards()


@pytest.mark.parametrize("stream", ["headers", "off", "", None, True, ["none"]])
def test_another_kind_of_note_in_streams_stops_the_start(stream: Any) -> None:
    with pytest.raises(ValueError, match="stream is comment or none"):
        Annotate(stream=stream)


@pytest.mark.parametrize("headers", ["yes", "none", "", None, 2, ["on"]])
def test_headers_that_are_neither_on_nor_off_stop_the_start(headers: Any) -> None:
    with pytest.raises(ValueError, match="headers is on or off"):
        Annotate(headers=headers)


@pytest.mark.parametrize("inside", ["yes", "", None, 2, ["on"]])
def test_inside_that_is_neither_on_nor_off_stops_the_start(inside: Any) -> None:
    with pytest.raises(ValueError, match="inside is on or off"):
        Annotate(inside=inside)


# -- inside the usage --------------------------------------------------------------------------------------

COSTED = ANSWER.replace(b'"usage":{', b'"usage":{"cost":0.0026,')


@pytest.mark.parametrize("headers", ["on", "off"])
async def test_the_cost_stands_in_the_usage_and_all_else_is_as_it_was(headers: str) -> None:
    played = await answered(ANSWER, annotate=Annotate(inside="on", headers=headers))
    assert played.body == COSTED
    assert played.headers["content-length"] == str(len(COSTED))
    assert played.complete
    assert told(played) == (TOLD if headers == "on" else {})
    assert played.forwarded is not None
    assert played.forwarded.headers["accept-encoding"] == "identity"


async def test_answers_that_have_no_room_for_it_are_as_they_were() -> None:
    large = ANSWER.replace(b'"choices":[]', b'"choices":["' + b"x" * 300_000 + b'"]')
    for body in (large, b'{"x":1}', b'{"usage":null}', b"[", ANSWER.replace(b'":{"p', b'":{"cost":7,"p')):
        assert (await answered(body, annotate=Annotate(inside="on"))).body == body


async def test_a_compressed_answer_stays_as_it_is() -> None:
    body = gzip.compress(ANSWER)
    played = await answered(body, annotate=Annotate(inside="on"), headers=[("content-encoding", "gzip")])
    assert played.body == body
    assert told(played) == TOLD


async def test_other_plugins_see_the_answer_with_its_cost() -> None:
    class Sees(Plugin):
        seen: Any = None

        def on_event(self, ex: Exchange, event: Event) -> None:
            self.seen = (event.kind, event.raw)

    sees = Sees()
    await play([sees, Annotate(inside="on")], post(CHAT, {"model": "gpt-4o"}), json(ANSWER), server=server())
    assert sees.seen == ("json", COSTED)


@styles
@pytest.mark.parametrize("stream", ["comment", "none"])
async def test_in_a_stream_it_stands_in_the_usage_of_who_asked_for_it(style: Style, stream: str) -> None:
    body = orjson.dumps({"model": "gpt-4o", "stream": True, "stream_options": {"include_usage": True}})
    events = style.events(asked=True)
    played = await streamed(sse(*events), body, annotate=Annotate(inside="on", stream=stream))
    assert (b": weir " in played.body) == (stream == "comment")
    cost = format(style.tokens[0] * INPUT + style.tokens[1] * OUTPUT, "f").rstrip("0").rstrip(".")
    added = b'"cost":%s,' % cost.encode()
    assert played.body.count(added) == 1
    plain = played.body.replace(added, b"")
    if stream == "none":
        assert plain == b"".join(events)


async def test_in_a_stream_of_a_response_it_stands_in_its_last_event() -> None:
    stream = golden("responses")
    body = orjson.dumps({"model": "gpt-4o", "stream": True})
    annotate = Annotate(inside="on", stream="none")
    played = await streamed(sse(stream), body, "/v1/responses", annotate=annotate)
    (usage,) = played.ex[USAGE]
    cost = format(played.ex[COST].amount or 0, "f").encode()
    assert b'"usage":{"cost":%s,' % cost in played.body
    assert played.body.replace(b'"cost":%s,' % cost, b"") == stream
    assert usage.input_tokens == 9


async def test_who_did_not_ask_has_no_usage_for_it_to_stand_in() -> None:
    style = STYLES["openai"]
    played = await streamed(sse(*style.events(asked=True)), annotate=Annotate(inside="on"))
    assert played.body == style.annotated(style.comment())


# -- streams that had to be asked --------------------------------------------------------------------------


@styles
async def test_who_did_not_ask_gets_what_would_have_come_and_the_comment(style: Style) -> None:
    played = await streamed(sse(*style.events(asked=True)))
    assert played.forwarded is not None
    assert played.forwarded.body == ASKED
    assert played.body == style.annotated(style.comment())
    assert played.complete
    assert (played.end.reason, played.end.code) == ("complete", "completed")


@styles
async def test_the_stream_may_come_cut_anywhere(style: Style) -> None:
    script = sse(*style.events(asked=True))
    expected = style.annotated(style.comment())
    stride = 16  # each place is a cut in one of so many runs
    for offset in range(stride):
        places = range(offset, len(b"".join(script.pieces)), stride)
        assert (await streamed(script.cut_at(*places))).body == expected, offset
    assert (await streamed(script.cut(1))).body == expected


@styles
async def test_usage_and_cost_are_filled(style: Style) -> None:
    played = await streamed(sse(*style.events(asked=True)))
    (usage,) = played.ex[USAGE]
    assert (usage.input_tokens, usage.output_tokens, usage.model) == (*style.tokens, "gpt-4o")
    amount = played.ex[COST].amount
    assert amount is not None
    assert format(amount, "f").encode() in style.comment()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai", "spaces everywhere, first", "crlf", "ids, cr, named"])
async def test_a_stream_that_breaks_has_all_that_came_whole_and_no_comment(name: str) -> None:
    style = STYLES[name]
    asked, unasked = style.events(asked=True), style.events(asked=False)
    stream = b"".join(asked)
    ends = [len(b"".join(asked[: count + 1])) for count in range(len(asked))]
    for place in range(len(stream) - 2):  # of the last two bytes, a CR may be an end or half of one
        script = Script(200, [("content-type", "text/event-stream")], [stream[:place]], breaks=LOST)
        played = await streamed(script)
        whole = sum(end + (style.end == b"\r") <= place for end in ends)
        expected = b"".join(unasked[: min(whole, len(unasked) - 1)])
        assert played.body == expected + LOST.event(), place
        assert measured(played) == (whole == len(asked) - 1), place
        assert not played.complete


@given(st.data())
@settings(max_examples=60, deadline=None)
async def test_any_style_cut_in_any_way(data: st.DataObject) -> None:
    style = Style(
        place=data.draw(st.sampled_from(["first", "middle", "last"])),
        comma=data.draw(st.sampled_from([b",", b", ", b" , ", b",\n", b"\t,"])),
        colon=data.draw(st.sampled_from([b":", b": ", b" : ", b":\t"])),
        open=data.draw(st.sampled_from([b"{", b"{ ", b"{\n "])),
        close=data.draw(st.sampled_from([b"}", b" }", b"\n}"])),
        end=data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])),
        ids=data.draw(st.booleans()),
        named=data.draw(st.booleans()),
        pings=data.draw(st.booleans()),
        azure=data.draw(st.booleans()),
        tools=data.draw(st.booleans()),
        obfuscated=data.draw(st.booleans()),
        tokens=data.draw(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9))),
    )
    stream = b"".join(style.events(asked=True))
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=12))
    played = await streamed(sse(stream).cut_at(*places))
    assert played.body == style.annotated(style.comment())


async def test_legacy_completions_are_asked_too() -> None:
    style = STYLES["openai"]
    played = await streamed(sse(*style.events(asked=True)), path="/completions")
    assert played.forwarded is not None
    assert asks(played.forwarded.body)
    assert played.body == style.annotated(style.comment())


@pytest.mark.parametrize("options", [b"null", b"{}", b'{"include_usage":false}', b'{"include_usage": null}'])
async def test_who_says_no_is_not_told(options: bytes) -> None:
    style = STYLES["openai"]
    body = b'{"stream":true,"stream_options":' + options + b',"model":"gpt-4o"}'
    played = await streamed(sse(*style.events(asked=True)), body)
    assert played.forwarded is not None
    assert asks(played.forwarded.body)
    assert played.body == style.annotated(style.comment())


@pytest.mark.parametrize("line", [b"\rid: 7", b"\nid: 7", b"\rid: 7\r: x"])
async def test_an_id_behind_the_data_is_seen(line: bytes) -> None:
    data = b'data: {"choices":[{"index":0,"delta":{}}]}'
    usage = b'data: {"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":4}}\n\n'
    done = b"data: [DONE]\n\n"
    played = await streamed(sse(data + line + b"\n\n", usage, done))
    assert played.body == data + line + b"\n\n" + STYLES["openai"].comment() + b"\n" + done


async def test_a_body_that_a_plugin_has_replaced_is_the_one_that_is_edited() -> None:
    class Alias(Plugin):
        async def on_request(self, ex: Exchange) -> None:
            await ex.request.read()
            ex.request.set_body(b'{"model":"gpt-4o-mini",  "stream":true}')

    played = await play([Alias(), Annotate()], post(CHAT, ASK), sse(), server=server())
    assert played.forwarded is not None
    expected = b'{"stream_options":{"include_usage":true},"model":"gpt-4o-mini",  "stream":true}'
    assert played.forwarded.body == expected


async def test_a_large_body_is_edited_as_well() -> None:
    text = b"weir \\n\\u00e9 " * 20_000
    body = b'{"messages":[{"content":"' + text + b'"}], "stream":true,"stream_options":{ }}'
    played = await streamed(sse(), body)
    assert played.forwarded is not None
    assert played.forwarded.body == body.replace(b"{ }", b'{ "include_usage":true}')


@pytest.mark.parametrize("size", [100, asking.INLINE + 1])
async def test_a_large_body_is_not_edited_where_it_could_hold_up_others(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    ask = asking.ask

    def noted(body: bytes, data: dict[str, Any]) -> bytes:
        threads.append(threading.current_thread())
        return ask(body, data)

    monkeypatch.setattr(asking, "ask", noted)
    await streamed(sse(), b'{"stream":true,"x":"' + b"y" * size + b'"}')
    assert [thread is threading.main_thread() for thread in threads] == [size == 100]


async def test_what_is_not_ours_to_remove_stays() -> None:
    """An upstream that puts its usage into a chunk with choices does so unasked."""
    style = Style(unasked=True)
    expected = style.annotated(style.comment())
    assert b'"usage":{' in expected
    assert (await streamed(sse(*style.events(asked=False)))).body == expected
    continuous = golden("continuous_usage")
    *chunks, ours, done = continuous.split(b"\n\n")[:-1]
    assert b'"choices":[]' in ours
    told = b': weir {"cost_usd":"0.00006","input_tokens":12,"output_tokens":3}'
    expected = b"".join(block + b"\n\n" for block in (*chunks, told, done))
    assert (await streamed(sse(continuous).cut(50))).body == expected


async def test_the_upstream_may_not_know_how_to_tell() -> None:
    stream = golden("chat")
    played = await streamed(sse(stream))
    assert played.forwarded is not None
    assert asks(played.forwarded.body)
    assert played.body == stream
    assert not measured(played)


# -- recorded streams --------------------------------------------------------------------------------------

WITH_USAGE = {"chat_usage", "crlf", "chat_tools_usage", "azure_usage"}


def unasked(stream: bytes) -> tuple[bytes, bytes]:
    """Of a recorded stream that was asked: what it would have been, before and from [DONE]."""
    end = b"\r\n" if b"\r\n" in stream else b"\n"
    blocks = stream.replace(b',"usage":null', b"").split(end + end)
    kept = [block for block in blocks if b'"usage":{"' not in block]
    assert len(kept) == len(blocks) - 1
    before, done, after = (end + end).join(kept).partition(b"data: [DONE]")
    return before, done + after


@pytest.mark.parametrize("name", sorted(WITH_USAGE))
async def test_a_recorded_stream_that_was_asked(name: str) -> None:
    stream = golden(name)
    before, done = unasked(stream)
    end = b"\r\n" if b"\r\n" in stream else b"\n"
    for script in (sse(stream), sse(stream).cut(1), sse(stream).cut(7)):
        played = await streamed(script)
        (usage,) = played.ex[USAGE]
        comment = b': weir {"cost_usd":"%s","input_tokens":%d,"output_tokens":%d}' % (
            format(played.ex[COST].amount or 0, "f").encode(),
            usage.input_tokens,
            usage.output_tokens,
        )
        assert played.body == before + comment + end + end + done


def test_what_asking_adds_is_all_that_sets_two_recordings_apart() -> None:
    assert b"".join(unasked(golden("chat_usage"))) == golden("chat")


async def test_the_numbers_of_the_recorded_streams() -> None:
    found = {}
    for name in sorted(WITH_USAGE):
        (usage,) = (await streamed(sse(golden(name)))).ex[USAGE]
        found[name] = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
    assert found == {
        "azure_usage": (9, 2, 0, 0),
        "chat_tools_usage": (1234, 77, 1024, 64),
        "chat_usage": (19, 4, 0, 0),
        "crlf": (19, 4, 0, 0),
    }


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted(GOLDEN.glob("*.sse")) if b'"usage":{' not in path.read_bytes()]
)
async def test_a_recorded_stream_without_usage_is_not_touched(name: str) -> None:
    stream = golden(name)
    for script in (sse(stream), sse(stream).cut(1), sse(stream).cut(11)):
        assert (await streamed(script)).body == stream


# -- streams that need no asking ---------------------------------------------------------------------------


@styles
async def test_who_asked_gets_the_usage_and_the_comment(style: Style) -> None:
    body = b'{"model":"gpt-4o", "stream":true,"stream_options": {"include_usage":true}}'
    *before, done = style.events(asked=True)
    expected = style.annotated(style.comment()).removeprefix(b"".join(style.events(asked=False)[:-1]))
    for size in (1, 10_000):
        played = await streamed(sse(*before, done).cut(size), body)
        assert played.forwarded is not None
        assert played.forwarded.body == body
        assert played.body == b"".join(before) + expected
        assert played.ex[USAGE][0].input_tokens == style.tokens[0]


@styles
async def test_without_comments_nothing_is_asked_and_nothing_rewritten(style: Style) -> None:
    script = sse(*style.events(asked=False), headers=[("content-length", "1")])
    played = await streamed(script, annotate=Annotate(stream="none"))
    assert played.forwarded is not None
    assert played.forwarded.body == ASK
    assert played.pieces == style.events(asked=False)  # as they came, and when they came
    assert "content-length" in played.headers
    assert not measured(played)


async def test_without_comments_a_usage_that_passes_is_still_charged() -> None:
    style = STYLES["openai"]
    played = await streamed(sse(*style.events(asked=True)), annotate=Annotate(stream="none"))
    assert played.body == b"".join(style.events(asked=True))
    assert played.ex[USAGE][0].input_tokens == 19


@pytest.mark.parametrize(
    "body", [b'{"stream":false}', b"{}", b'{"stream":"true"}', b'{"stream":1}', b'["stream"]']
)
async def test_what_is_no_stream_is_not_asked(body: bytes) -> None:
    played = await streamed(sse(), body)
    assert played.forwarded is not None
    assert played.forwarded.body == body


@pytest.mark.parametrize(
    "options",
    [b'"x"', b"[]", b"7", b'{"include_usage":"false"}', b'{"include_usage":0}', b'{"include_usage":[]}'],
)
async def test_what_is_not_understood_is_left_to_the_upstream(options: bytes) -> None:
    body = b'{"stream":true,"stream_options":' + options + b"}"
    style = STYLES["openai"]
    played = await streamed(sse(*style.events(asked=True)), body)
    assert played.forwarded is not None
    assert played.forwarded.body == body
    assert b'"usage":null' in played.body


@pytest.mark.parametrize("body", [b"", b"{", b'{"stream":true', b"\xff", b"stream"])
async def test_what_is_no_json_goes_on_as_it_came(body: bytes) -> None:
    played = await streamed(sse(golden("chat")), body)
    assert played.forwarded is not None
    assert played.forwarded.body == body
    assert played.body == golden("chat")


async def test_a_compressed_request_goes_on_as_it_came() -> None:
    body = gzip.compress(ASK)
    style = STYLES["openai"]
    asked = post(CHAT, body, [("content-encoding", "gzip")])
    played = await play([Annotate()], asked, sse(*style.events(asked=True)), server=server())
    assert played.forwarded is not None
    assert played.forwarded.body == body
    assert b'"usage":null' in played.body  # the client's own asking, for all we know


@pytest.mark.parametrize("name", ["responses", "images", "transcription"])
@pytest.mark.parametrize("ids", [False, True])
async def test_a_stream_without_done_has_the_comment_after_its_last_event(name: str, ids: bool) -> None:
    paths = {
        "responses": "/v1/responses",
        "images": "/v1/images/generations",
        "transcription": "/v1/audio/transcriptions",
    }
    stream = golden(name)
    if ids:
        stream = stream.replace(b"data: ", b"id: 1\ndata: ", 1)
    body = b'{"model":"gpt-4o","stream":true}'
    for size in (1, 64, 10_000):
        script = sse(stream).cut(size)
        if name == "transcription":
            asked = Sent(
                "POST", paths[name], headers=[("content-type", "multipart/form-data")], pieces=[b"--x"]
            )
        else:
            asked = post(paths[name], body)
        played = await play([Annotate()], asked, script, server=server())
        (usage,) = played.ex[USAGE]
        assert usage.output_tokens > 0
        cost = played.ex[COST].amount
        amount = b'null,"unpriced":true' if cost is None else b'"%s"' % format(cost, "f").encode()
        comment = b': weir {"cost_usd":%s,"input_tokens":%d,"output_tokens":%d}' % (
            amount,
            usage.input_tokens,
            usage.output_tokens,
        )
        # After an id a block of comments alone would be an event to the SDK: so it is not made a block.
        assert played.body == stream + comment + (b"\n" if ids else b"\n\n")
        assert played.forwarded is not None
        assert b"stream_options" not in played.forwarded.body


async def test_line_ends_after_the_last_event_are_its_own() -> None:
    for end in (b"\r\n", b"\r"):
        stream = golden("responses").replace(b"\n", end)
        played = await streamed(sse(stream).cut(30), path="/v1/responses")
        assert played.body.startswith(stream + b": weir {")
        assert played.body.endswith(b"}" + end + end)


async def test_a_response_that_breaks_after_its_usage_has_no_comment() -> None:
    stream = golden("responses")
    script = Script(200, [("content-type", "text/event-stream")], [stream], breaks=LOST)
    played = await streamed(script, path="/v1/responses")
    assert played.body == stream + LOST.event()
    assert played.ex[USAGE][0].output_tokens == 2


async def test_a_response_with_done_has_one_comment_before_it() -> None:
    stream, done = golden("responses"), b"data: [DONE]\n\n"
    played = await streamed(sse(stream, done), path="/v1/responses")
    assert played.body.startswith(stream + b": weir {")
    assert played.body.endswith(b"}\n\n" + done)
    assert played.body.count(b": weir") == 1


async def test_a_completion_without_done_has_no_comment() -> None:
    *events, _ = STYLES["openai"].events(asked=True)
    played = await streamed(sse(*events))
    assert played.body == b"".join(STYLES["openai"].events(asked=False)[:-1])
    assert played.ex[USAGE][0].input_tokens == 19


CHUNK = b'data: {"choices":[{"delta":{}}]}'


@pytest.mark.parametrize(
    ("first", "glued"),
    [
        (b"id: 1\n" + CHUNK + b"\n\n", True),
        (CHUNK + b"\nid: 1\n\n", True),
        (CHUNK + b"\r\nid: 1\r\n\r\n", True),
        (CHUNK + b"\rid: 1\r\r", True),
        (CHUNK + b"\nid\n\n", True),
        (b"\xef\xbb\xbfid: 1\n" + CHUNK + b"\n\n", True),
        (b"\xef\xbb\xbf" + CHUNK + b"\n\n", False),
        (CHUNK + b"\nidle: 1\n\n", False),
        (CHUNK + b"\n: id\n\n", False),
        (CHUNK.replace(b"{}", b'{"content":"\\nid: 1"}') + b"\n\n", False),
    ],
)
async def test_one_id_anywhere_is_enough_to_glue_the_comment(first: bytes, glued: bool) -> None:
    style = STYLES["openai"]
    played = await streamed(sse(first, *style.events(asked=True)))
    *before, done = style.events(asked=False)
    end = b"\n" if glued else b"\n\n"
    assert played.body == b"".join([first, *before, style.comment(), end, done])


async def test_done_in_a_text_is_not_the_end() -> None:
    style = STYLES["openai"]
    *events, done = style.events(asked=True)
    late = b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}\n\n'
    played = await streamed(sse(*events, late, done, done))
    *before, _ = style.events(asked=False)
    assert played.body == b"".join([*before, late, style.comment(), b"\n\n", done, done])


async def test_the_last_usage_counts() -> None:
    prices = FakePrices()
    stream = golden("usage_with_choices").replace(b"mistral", b"gpt")
    earlier = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    played = await play([Annotate()], post(CHAT, ASK), sse(earlier, stream), server=server(prices))
    (usage,) = played.ex[USAGE]
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (14, 8, 6)
    assert played.ex[COST].amount == 14 * Decimal("0.0000025") + 8 * Decimal("0.00001")


async def test_an_event_that_is_too_large_is_passed_on_with_what_was_added() -> None:
    text = b"x" * (EVENT_LIMIT + 200_000)
    large = b'data: {"choices":[{"delta":{"content":"' + text + b'"}}],"usage":null}\n\n'
    style = STYLES["openai"]
    first, *rest = style.events(asked=True)
    played = await streamed(sse(first, large, *rest).cut(100_000))
    one = style.events(asked=False)[0]
    assert played.body == one + large + style.annotated(style.comment()).removeprefix(one)


# -- compressed answers ------------------------------------------------------------------------------------


async def test_a_stream_to_be_rewritten_is_asked_for_uncompressed() -> None:
    asked = post(CHAT, ASK, [("accept-encoding", "gzip, br")])
    played = await play([Annotate()], asked, sse(), server=server())
    assert played.forwarded is not None
    assert played.forwarded.headers.getall("accept-encoding") == ["identity"]


async def test_a_stream_that_comes_compressed_all_the_same_is_passed_on_and_charged() -> None:
    body = gzip.compress(b"".join(STYLES["openai"].events(asked=True)))
    script = sse(body, headers=[("content-encoding", "gzip")]).cut(20)
    played = await streamed(script)
    assert (played.status, played.body) == (200, body)
    assert played.ex[USAGE][0].input_tokens == 19


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_compressed_answer_is_read_and_stays_compressed(coding: str, compress: Any) -> None:
    body = compress(ANSWER)
    played = await answered(body, headers=[("content-encoding", coding)])
    assert played.body == body
    assert told(played) == TOLD
    assert played.headers["content-encoding"] == coding


async def test_an_answer_that_nobody_can_read_is_passed_on_and_not_held() -> None:
    played = await answered(ANSWER, headers=[("content-encoding", "br")])
    assert played.body == ANSWER
    assert played.ex.response.held_limit == 0
    assert told(played) == {}


@pytest.mark.parametrize(
    ("asked", "forwarded"),
    [
        (["gzip, deflate, br, zstd"], ["gzip, deflate"]),
        (["gzip, deflate"], ["gzip, deflate"]),
        (["gzip;q=1.0, identity; q=0.5, *;q=0"], ["gzip;q=1.0, identity; q=0.5"]),
        (["br, gzip"], ["gzip"]),
        (["br"], ["identity"]),
        (["br", "gzip"], ["gzip"]),
        (["GZIP,BR"], ["GZIP"]),
        (["deflate;q=0.5"], ["deflate;q=0.5"]),
        (["identity"], ["identity"]),
        ([], []),
    ],
)
async def test_only_codings_that_can_be_read_are_asked_for(asked: list[str], forwarded: list[str]) -> None:
    request = post(CHAT, {"model": "gpt-4o"}, [("accept-encoding", value) for value in asked])
    played = await play([Annotate()], request, json(ANSWER), server=server())
    assert played.forwarded is not None
    assert played.forwarded.headers.getall("accept-encoding") == forwarded


async def test_elsewhere_any_coding_may_be_asked_for() -> None:
    request = post("/v1/moderations", {}, [("accept-encoding", "br")])
    played = await play([Annotate()], request, json({}), server=server())
    assert played.forwarded is not None
    assert played.forwarded.headers.getall("accept-encoding") == ["br"]


# -- JSON answers ------------------------------------------------------------------------------------------


async def test_an_answer_has_its_headers_and_its_bytes() -> None:
    played = await answered(ANSWER, headers=[("x-request-id", "req-1")])
    assert told(played) == TOLD
    assert played.body == ANSWER
    assert played.headers["content-length"] == str(len(ANSWER))
    assert played.headers["x-request-id"] == "req-1"
    assert played.ex[USAGE] == [Usage(1000, 10, model="gpt-4o")]
    assert played.ex[COST].amount == Decimal("0.0026")
    assert played.forwarded is not None
    assert played.forwarded.body == b'{"model":"gpt-4o"}'


@pytest.mark.parametrize(
    ("path", "body", "counts"),
    [
        ("/chat/completions", ANSWER, (1000, 10)),
        ("/v1/completions", ANSWER, (1000, 10)),
        ("/v1/embeddings", b'{"model":"gpt","data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}', (7, 0)),
        ("/v1/responses", b'{"model":"gpt","usage":{"input_tokens":5,"output_tokens":6}}', (5, 6)),
        ("/v1/responses/compact", b'{"usage":{"input_tokens":5,"output_tokens":6}}', (5, 6)),
        ("/v1/images/generations", b'{"data":[],"usage":{"input_tokens":5,"output_tokens":6}}', (5, 6)),
    ],
)
async def test_each_endpoint_that_has_a_usage(path: str, body: bytes, counts: tuple[int, int]) -> None:
    played = await answered(body, path)
    assert played.body == body
    (usage,) = played.ex[USAGE]
    assert (usage.input_tokens, usage.output_tokens) == counts
    cost = format((counts[0] * Decimal("0.0000025") + counts[1] * Decimal("0.00001")).normalize(), "f")
    assert told(played) == {
        "x-weir-cost-usd": cost,
        "x-weir-input-tokens": str(counts[0]),
        "x-weir-output-tokens": str(counts[1]),
    }


async def test_the_price_is_asked_for_by_what_served_what_was_asked_for_and_where() -> None:
    prices = FakePrices()
    await answered(ANSWER, server=server(prices))
    assert prices.asked == [(Usage(1000, 10, model="gpt-4o"), "gpt-4o", "scripted")]


@pytest.mark.parametrize("model", [None, 7, ["gpt-4o"]])
async def test_a_request_may_name_no_model(model: Any) -> None:
    prices = FakePrices()
    asked = post(CHAT, {} if model is None else {"model": model})
    await play([Annotate()], asked, json(ANSWER), server=server(prices))
    assert prices.asked == [(Usage(1000, 10, model="gpt-4o"), None, "scripted")]


async def test_a_model_without_a_price_is_unpriced_and_not_free() -> None:
    body = b'{"model":"llama","usage":{"prompt_tokens":9,"completion_tokens":1}}'
    request = post(CHAT, {"model": "llama"})
    for surroundings in (server(), None):  # a table without it, and no table at all
        played = await play([Annotate()], request, json(body), server=surroundings)
        assert told(played) == {
            "x-weir-cost": "unpriced",
            "x-weir-input-tokens": "9",
            "x-weir-output-tokens": "1",
        }
        assert played.ex[COST] == Cost(None)


async def test_a_model_without_a_price_in_a_stream() -> None:
    events = [event.replace(b"gpt-4o", b"llama") for event in STYLES["openai"].events(asked=True)]
    played = await streamed(sse(*events), ASK.replace(b"gpt-4o", b"llama"))
    comment = b': weir {"cost_usd":null,"unpriced":true,"input_tokens":19,"output_tokens":4}'
    assert played.body.endswith(b"\n\n" + comment + b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 300])
async def test_what_failed_is_not_touched(status: int) -> None:
    pieces = [ANSWER[:20], ANSWER[20:]]
    script = Script(status, [("content-type", "application/json")], pieces)
    played = await play([Annotate()], post(CHAT, ASK), script, server=server())
    assert played.pieces == pieces  # not held either
    assert told(played) == {}
    assert COST not in played.ex
    stream = b"".join(STYLES["openai"].events(asked=True))
    failed = Script(status, [("content-type", "text/event-stream")], [stream])
    assert (await streamed(failed)).body == stream


@pytest.mark.parametrize("path", ["/v1/models", "/v1/moderations", "/v1/responses/resp_1", "/v1/files", "/x"])
async def test_other_endpoints_are_not_touched(path: str) -> None:
    pieces = [ANSWER[:20], ANSWER[20:]]
    script = Script(200, [("content-type", "application/json")], pieces)
    for request in (post(path, ASK), get(path)):
        played = await play([Annotate()], request, script, server=server())
        assert played.pieces == pieces
        assert told(played) == {}
        assert COST not in played.ex


async def test_what_is_fetched_later_is_not_charged_again() -> None:
    body = b'{"model":"gpt-4o","usage":{"input_tokens":5,"output_tokens":6}}'
    played = await play([Annotate()], get("/v1/responses"), json(body), server=server())
    assert COST not in played.ex
    assert told(played) == {}


async def test_other_content_types_are_not_touched() -> None:
    script = Script(200, [("content-type", "text/plain")], [ANSWER])
    played = await play([Annotate()], post(CHAT, {}), script, server=server())
    assert played.body == ANSWER
    assert told(played) == {}
    assert not measured(played)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"usage"', b'{"usage":null}', b'{"usage":{}}', b'{"usage":7}', b""]
)
async def test_an_answer_without_a_usage_has_no_headers(body: bytes) -> None:
    played = await answered(body)
    assert (played.status, played.body) == (200, body)
    assert told(played) == {}
    assert not measured(played)


@pytest.mark.parametrize("headers", ["off", False])
async def test_without_headers_answers_are_not_held_and_still_charged(headers: Any) -> None:
    pieces = [ANSWER[:20], ANSWER[20:]]
    script = Script(200, [("content-type", "application/json")], pieces)
    annotate = Annotate(headers=headers)
    played = await play([annotate], post(CHAT, {"model": "gpt-4o"}), script, server=server())
    assert played.pieces == pieces
    assert told(played) == {}
    assert played.ex[COST].amount == Decimal("0.0026")


async def test_an_answer_that_is_too_large_to_hold_goes_out_without() -> None:
    body = b'{"data":"' + b"x" * HOLD_LIMIT + b'","usage":{"prompt_tokens":1}}'
    played = await answered(body)
    assert played.body == body
    assert told(played) == {}


async def test_headers_that_are_out_are_not_added_to() -> None:
    annotate = Annotate()
    played = await answered(ANSWER, annotate=annotate)
    annotate.on_event(played.ex, Event(ANSWER, "json"))
    assert len(played.ex.response.headers.getall("x-weir-cost-usd")) == 1


async def test_images_may_be_larger() -> None:
    body = b'{"data":"' + b"x" * HOLD_LIMIT + b'","usage":{"input_tokens":1,"output_tokens":4160}}'
    assert len(body) < IMAGES_HOLD_LIMIT
    played = await answered(body, "/v1/images/generations")
    assert told(played)["x-weir-output-tokens"] == "4160"


async def test_an_upload_is_neither_read_nor_held() -> None:
    body = b'{"text":"hi","usage":{"type":"duration","seconds":9}}'
    pieces = [b"--x\r\n", b"y" * 4000, b"\r\n--x--"]
    asked = Sent(
        "POST",
        "/v1/audio/transcriptions",
        headers=[("content-type", "multipart/form-data; boundary=x")],
        pieces=pieces,
    )
    settings = {"limits_http": {"json_body": "1KiB"}}  # what is read is refused above it
    played = await play([Annotate()], asked, json(body), server=server(), settings=settings)
    assert played.status == 200
    assert played.forwarded is not None
    assert played.forwarded.body == b"".join(pieces)
    assert played.ex[USAGE] == [Usage(other_units={"seconds": Decimal(9)})]


async def test_a_body_that_is_larger_than_may_be_read_is_refused() -> None:
    settings = {"limits_http": {"json_body": "1KiB"}}
    asked = post(CHAT, {"x": "y" * 2000})
    played = await play([Annotate()], asked, json(ANSWER), server=server(), settings=settings)
    assert played.status == 413
    assert played.forwarded is None


# -- for other plugins -------------------------------------------------------------------------------------


class Settles(Plugin):
    """Reads the cost at the end, as the limiter does."""

    reads_at_end = (COST, USAGE)

    def __init__(self) -> None:
        self.cost: Cost | None = None
        self.usage: Sequence[Usage] | None = None
        self.sent: int | None = None

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.cost, self.usage = ex.get(COST), ex.get(USAGE)


@pytest.mark.parametrize(
    "answer", [json(ANSWER), sse(*STYLES["openai"].events(asked=True))], ids=["json", "sse"]
)
@pytest.mark.parametrize("headers", ["on", "off"])
async def test_the_cost_is_there_when_others_end(answer: Script, headers: str) -> None:
    outer, inner = Settles(), Settles()
    annotate = Annotate(headers=headers)
    await play([outer, annotate, inner], post(CHAT, ASK), answer, server=server())
    for plugin in (outer, inner):
        assert plugin.cost is not None
        assert plugin.usage is not None
        assert plugin.cost.amount == sum(
            usage.input_tokens * Decimal("0.0000025") + usage.output_tokens * Decimal("0.00001")
            for usage in plugin.usage
        )


async def test_of_a_client_that_leaves_before_the_usage_the_others_hear_an_estimate() -> None:
    outer = Settles()
    events = STYLES["openai"].events(asked=True)
    played = await play([outer, Annotate()], post(CHAT, ASK), sse(*events), server=server(), leaves_after=1)
    assert played.end.reason == "client_gone"
    assert outer.cost is not None
    assert outer.usage is not None
    assert outer.cost.provenance == outer.usage[0].provenance == "estimated"


async def test_other_plugins_see_events_without_what_asking_added_or_with_it() -> None:
    class Sees(Plugin):
        def __init__(self) -> None:
            self.events: list[bytes] = []

        def on_event(self, ex: Exchange, event: Event) -> None:
            self.events.append(event.raw)

    outer, inner = Sees(), Sees()
    style = STYLES["openai"]
    await play([outer, Annotate(), inner], post(CHAT, ASK), sse(*style.events(asked=True)), server=server())
    assert b"".join(inner.events) == b"".join(style.events(asked=True))
    assert b"".join(outer.events) == style.annotated(style.comment())


async def test_a_table_that_fails_breaks_no_answer() -> None:
    class Broken(FakePrices):
        def cost(self, usage: Usage, model: str | None = None, **of: Any) -> Cost:
            raise ArithmeticError

    for answer in (json(ANSWER), sse(golden("chat_usage"))):
        played = await play([Annotate()], post(CHAT, {}), answer, server=server(Broken()))
        assert (played.status, played.complete) == (200, True)
        assert played.body == b"".join(answer.pieces)


def test_the_request_stays_json() -> None:
    assert orjson.loads(ASKED) == {**orjson.loads(ASK), "stream_options": {"include_usage": True}}
