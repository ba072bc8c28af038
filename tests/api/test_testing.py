"""The kit that plugin authors test with: what it plays must be what the engine does."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from proxy.api import (
    IDENTITY,
    Asked,
    ClientError,
    End,
    Event,
    Exchange,
    Identity,
    Plugin,
    Reply,
    Server,
    Slot,
    UpstreamError,
    WeirError,
)
from proxy.api.testing import Script, Sent, get, json, play, post, sse

EVENTS = (b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n", b"data: [DONE]\n\n")
STREAM = sse(*EVENTS)
BREAK = UpstreamError(502, "upstream_reset", "It broke.")


class Diary(Plugin):
    """Writes down everything that it is told."""

    def __init__(self, name: str = "diary", diary: list[str] | None = None) -> None:
        self.name = name
        self.diary = [] if diary is None else diary

    def note(self, text: str) -> None:
        self.diary.append(f"{self.name}.{text}")

    async def on_request(self, ex: Exchange) -> Reply | None:
        self.note("request")
        return None

    async def on_response(self, ex: Exchange) -> None:
        self.note("response")

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        self.note(f"event {event.kind} {event.data.decode()}".rstrip())
        return None

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.note(f"end {end.reason}")

    async def start(self, server: Server) -> None:
        self.note("start")

    async def stop(self) -> None:
        self.note("stop")


class Replies(Plugin):
    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def on_request(self, ex: Exchange) -> Reply | None:
        return self.reply


class Upper(Plugin):
    """Changes the data of every event that it can change."""

    def __init__(self, oversize: Any = "pass") -> None:
        self.oversize = oversize

    async def on_response(self, ex: Exchange) -> None:
        ex.response.rewrites(oversize=self.oversize)

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        return None if event.kind == "end" else event.with_data(event.data.upper())


class Wait(Plugin):
    """Holds a JSON answer and sets a header from its body."""

    def __init__(self, limit: int = 1000) -> None:
        self.limit = limit

    async def on_response(self, ex: Exchange) -> None:
        ex.response.hold(self.limit)

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        if not ex.response.started:
            ex.response.headers["x-seen"] = str(len(event.data))
        return None


# -- what goes in and what comes out -------------------------------------------------------------------


async def test_without_arguments_a_chat_request_gets_an_answer() -> None:
    played = await play([])
    assert (played.status, played.complete, played.ended) == (200, True, 1)
    assert played.end == End("complete", "completed")
    assert played.json() == {"object": "chat.completion"}
    assert played.forwarded is not None
    assert (played.forwarded.method, played.forwarded.target) == ("POST", "/v1/chat/completions")
    assert orjson.loads(played.forwarded.body) == {"model": "gpt-4o"}


async def test_the_request_goes_on_as_it_was_sent() -> None:
    sent = Sent(
        "PUT", "/v1/files/a%2Fb", "x=1&x=2", [("X-One", "é"), ("content-type", "text/plain")], [b"ab", b"c"]
    )
    forwarded = (await play([], sent)).forwarded
    assert forwarded is not None
    assert (forwarded.method, forwarded.target) == ("PUT", "/v1/files/a%2Fb?x=1&x=2")
    assert forwarded.headers["x-one"] == "é"
    assert (forwarded.body, forwarded.complete) == (b"abc", True)


async def test_post_takes_values_and_bytes_and_headers() -> None:
    assert post("/a", {"b": 1}).pieces == [b'{"b":1}']
    assert post("/a", b"raw").pieces == [b"raw"]
    assert list(post("/a", {}, [("x", "1")]).headers) == [("content-type", "application/json"), ("x", "1")]


async def test_a_get_has_no_body() -> None:
    played = await play([], get("/v1/models", [("authorization", "Bearer k")]), json({"data": []}))
    assert played.forwarded is not None
    assert (played.forwarded.method, played.forwarded.body) == ("GET", b"")
    assert played.forwarded.headers["authorization"] == "Bearer k"
    assert played.json() == {"data": []}


async def test_json_answers_have_a_length_status_and_headers() -> None:
    played = await play([], answer=json({"a": 1}, 201, [("X-Up", "1")]))
    assert (played.status, played.headers["content-length"], played.headers["x-up"]) == (201, "7", "1")
    assert played.body == b'{"a":1}'
    assert (await play([], answer=json(b"{ }"))).body == b"{ }"


async def test_a_stream_comes_piece_by_piece_as_it_was_scripted() -> None:
    played = await play([], answer=sse(*EVENTS, headers=[("x-up", "1")]))
    assert played.pieces == list(EVENTS)
    assert played.headers["x-up"] == "1"
    assert [event.data for event in played.events] == [b"1", b"2", b"3", b"[DONE]"]


async def test_an_answer_without_a_body() -> None:
    played = await play([], answer=Script(204))
    assert (played.status, played.pieces, played.complete) == (204, [], True)


async def test_an_answer_of_any_type() -> None:
    played = await play([], answer=Script(200, [("content-type", "audio/mpeg")], [b"\0\1", b"\2"]))
    assert played.body == b"\0\1\2"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_an_upstreams_error_is_its_answer(status: int) -> None:
    played = await play([], answer=json({"error": {}}, status))
    assert (played.status, played.end.reason) == (status, "complete")


# -- where pieces are cut ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_cut_gives_the_same_bytes_in_pieces_of_one_size(size: int) -> None:
    script = STREAM.cut(size)
    assert b"".join(script.pieces) == b"".join(EVENTS)
    assert {len(piece) for piece in script.pieces[:-1]} <= {size}
    diary = Diary()
    played = await play([diary], answer=script)
    assert played.pieces == list(script.pieces)
    assert [note for note in diary.diary if "event" in note] == [
        "diary.event sse 1",
        "diary.event sse 2",
        "diary.event sse 3",
        "diary.event sse [DONE]",
        "diary.event end",
    ]


async def test_cut_at_cuts_there_in_any_order_and_nowhere_else() -> None:
    script = STREAM.cut_at(12, 3, 3, 0, 10_000, -1)
    assert [len(piece) for piece in script.pieces] == [3, 9, 29]
    assert b"".join(script.pieces) == b"".join(EVENTS)
    assert STREAM.cut_at().pieces == [b"".join(EVENTS)]
    assert Script().cut_at(1).pieces == Script().cut(1).pieces == []


async def test_what_a_rewriter_makes_does_not_depend_on_the_cutting() -> None:
    script = sse(b'data: {"a":"b"}\r\n\r\n', b"id: 1\ndata: x\n\n", b"data: [done]\n\n")
    body = (await play([Upper()], answer=script)).body
    assert body == b'data: {"A":"B"}\r\n\r\nid: 1\ndata: X\n\ndata: [DONE]\n\n'
    for at in range(len(b"".join(script.pieces))):
        assert (await play([Upper()], answer=script.cut_at(at))).body == body


# -- the order of things -------------------------------------------------------------------------------


async def test_hooks_run_in_order_and_back_in_reverse() -> None:
    diary: list[str] = []
    await play([Diary("a", diary), Diary("b", diary)], answer=sse(b"data: 1\n\n"))
    assert diary == [
        "a.start",
        "b.start",
        "a.request",
        "b.request",
        "b.response",
        "a.response",
        "b.event sse 1",
        "a.event sse 1",
        "b.event end",
        "a.event end",
        "b.end complete",
        "a.end complete",
        "b.stop",
        "a.stop",
    ]


async def test_a_reply_answers_and_those_after_it_never_hear_of_it() -> None:
    diary: list[str] = []
    reply = Reply.error(429, "rate_limit_exceeded", "Slow down.", retry_after=3)
    played = await play([Diary("a", diary), Replies(reply), Diary("b", diary)])
    assert (played.status, played.end, played.forwarded) == (429, End("rejected", reply.code), None)
    assert played.json()["error"]["code"] == "rate_limit_exceeded"
    assert played.headers["retry-after"] == "3"
    assert [note for note in diary if note.startswith("a")] == [
        "a.start",
        "a.request",
        "a.response",
        "a.end rejected",
        "a.stop",
    ]
    assert [note for note in diary if note.startswith("b")] == ["b.start", "b.stop"]


async def test_a_reply_of_recorded_events_is_a_stream() -> None:
    played = await play([Replies(Reply.stream(EVENTS))])
    assert played.pieces == list(EVENTS)
    assert played.headers["content-type"] == "text/event-stream"
    assert (played.complete, played.forwarded, played.end) == (True, None, End("rejected", "replied"))


async def test_an_error_that_is_raised_is_an_answer_too() -> None:
    class Refuses(Plugin):
        async def on_request(self, ex: Exchange) -> Reply | None:
            raise ClientError(402, "no_money", "Pay.")

    played = await play([Refuses()])
    assert (played.status, played.json()["error"]["code"]) == (402, "no_money")
    assert (played.end.reason, played.forwarded) == ("rejected", None)


async def test_a_bug_is_the_plugins_and_names_it() -> None:
    class Buggy(Plugin):
        async def on_request(self, ex: Exchange) -> Reply | None:
            raise KeyError("a secret")

    played = await play([Buggy()])
    assert (played.status, played.end.code) == (500, "plugin_error")
    assert b"'buggy'" in played.body
    assert b"secret" not in played.body


async def test_slots_are_given_before_the_first_plugin() -> None:
    count: Slot[int] = Slot("count")
    found: list[Any] = []

    class Reader(Plugin):
        requires = (IDENTITY, count)

        async def on_request(self, ex: Exchange) -> Reply | None:
            found.extend([ex[IDENTITY].user, ex[count]])
            return None

    given: dict[Slot[Any], Any] = {IDENTITY: Identity("alice", "192.0.2.1"), count: 3}
    played = await play([Reader()], given=given)
    assert found == ["alice", 3]
    assert played.ex[count] == 3


async def test_a_slot_that_nobody_provides_is_told_before_anything_runs() -> None:
    class Needs(Plugin):
        requires = (IDENTITY,)

    with pytest.raises(Exception, match=r"needs identity"):
        await play([Needs()])


async def test_the_server_and_settings_are_those_that_were_given(tmp_path: Any) -> None:
    servers: list[Server] = []

    class Reads(Plugin):
        async def start(self, server: Server) -> None:
            servers.append(server)

        async def on_request(self, ex: Exchange) -> Reply | None:
            await ex.request.read()
            return None

    server = Server(metrics=CollectorRegistry(), state_dir=tmp_path, replicas=3)
    played = await play(
        [Reads()], post("/v1/files", b"12345"), server=server, settings={"limits_http": {"json_body": 4}}
    )
    assert servers == [server]
    assert (played.status, played.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_plugin_without_a_name_gets_its_classs() -> None:
    plugin = Upper()
    await play([plugin])
    assert plugin.name == "upper"


# -- failures of the upstream --------------------------------------------------------------------------


async def test_an_upstream_that_refuses() -> None:
    diary = Diary()
    refusal = UpstreamError(502, "upstream_connect_failed", "No.")
    played = await play([diary], answer=Script(refuses=refusal))
    assert (played.status, played.complete) == (502, True)
    assert played.json()["error"]["code"] == "upstream_connect_failed"
    assert played.end == End("upstream_error", "upstream_connect_failed", refusal)
    assert played.forwarded is not None
    assert played.ex.attempts[0].outcome == "upstream_connect_failed"
    assert diary.diary[-2:] == ["diary.end upstream_error", "diary.stop"]


@pytest.mark.parametrize("pieces", range(4))
async def test_a_stream_that_breaks_ends_with_an_error_event_and_is_not_whole(pieces: int) -> None:
    played = await play([], answer=Script(200, STREAM.headers, EVENTS[:pieces], breaks=BREAK))
    assert played.end == End("upstream_error", "upstream_reset", BREAK)
    assert played.pieces[:pieces] == list(EVENTS[:pieces])
    assert not played.complete
    assert played.events[-1].json()["error"]["code"] == "upstream_reset"
    assert played.ended == 1


async def test_a_stream_that_breaks_inside_an_event_gets_no_error_event() -> None:
    played = await play([], answer=Script(200, STREAM.headers, [b"data: 1\n\n", b"data: "], breaks=BREAK))
    assert played.body == b"data: 1\n\ndata: "
    assert not played.complete


async def test_a_json_answer_that_breaks_is_broken_off() -> None:
    answer = Script(
        200, [("content-type", "application/json"), ("content-length", "9")], [b"{"], breaks=BREAK
    )
    played = await play([], answer=answer)
    assert (played.status, played.body, played.complete) == (200, b"{", False)
    assert played.end.reason == "upstream_error"


async def test_a_json_answer_that_breaks_while_it_is_held_is_a_clean_error() -> None:
    answer = Script(
        200, [("content-type", "application/json"), ("content-length", "9")], [b"{"], breaks=BREAK
    )
    played = await play([Wait()], answer=answer)
    assert (played.status, played.complete) == (502, True)
    assert played.json()["error"]["code"] == "upstream_reset"


async def test_an_upstream_that_hangs_ends_with_the_client() -> None:
    played = await play([], answer=Script(200, STREAM.headers, EVENTS[:2], hangs=True), leaves_after=2)
    assert played.end.reason == "client_gone"
    assert played.pieces == list(EVENTS[:2])
    assert not played.complete


async def test_an_upstream_that_hangs_ends_with_an_abort() -> None:
    class Enough(Plugin):
        def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
            if event.data == b"2":
                ex.abort(ClientError(402, "budget_exhausted", "That was all."))
            return None

    played = await play([Enough()], answer=Script(200, STREAM.headers, EVENTS[:2], hangs=True))
    assert (played.end.reason, played.end.code) == ("rejected", "budget_exhausted")
    assert played.events[-1].json()["error"]["code"] == "budget_exhausted"
    assert not played.complete


async def test_an_abort_before_the_answer_is_an_answer() -> None:
    class No(Plugin):
        async def on_response(self, ex: Exchange) -> None:
            ex.abort(ClientError(402, "budget_exhausted", "No."))

    played = await play([No()], answer=STREAM)
    assert (played.status, played.complete, played.end.code) == (402, True, "budget_exhausted")


@pytest.mark.parametrize("wait", [float("inf"), float("nan"), 1e300])
async def test_an_error_with_a_senseless_wait_still_ends_the_exchange(wait: float) -> None:
    """What a plugin raises must not be able to skip `on_end`: nothing would be settled."""

    class Raises(Plugin):
        async def on_request(self, ex: Exchange) -> Reply | None:
            raise WeirError(429, "c", "m", retry_after=wait)

    diary = Diary()
    played = await play([diary, Raises()])
    assert played.ended == 1
    assert played.status in (429, 500)


# -- the client leaving --------------------------------------------------------------------------------


@pytest.mark.parametrize("rewriting", [False, True])
@pytest.mark.parametrize("after", range(4))
async def test_a_client_that_leaves_between_two_pieces(after: int, rewriting: bool) -> None:
    diary = Diary()
    plugins = [diary, Upper()] if rewriting else [diary]
    played = await play(plugins, answer=STREAM, leaves_after=after)
    assert played.end.reason == "client_gone"
    assert played.end.code == "client_closed"
    assert played.pieces == list(EVENTS[:after])
    assert (played.complete, played.ended) == (False, 1)
    assert diary.diary[-2:] == ["diary.end client_gone", "diary.stop"]


async def test_a_client_that_would_leave_after_the_end_does_not() -> None:
    played = await play([], answer=STREAM, leaves_after=len(EVENTS) + 1)
    assert (played.end.reason, played.complete) == ("complete", True)


async def test_a_client_that_leaves_before_the_head_of_a_json_answer_is_read() -> None:
    played = await play([], answer=json({"a": "b"}).cut(1), leaves_after=0)
    assert (played.end.reason, played.pieces) == ("client_gone", [])


async def test_a_client_that_leaves_while_it_sends_a_body_that_is_streamed_through() -> None:
    sent = Sent(pieces=[b"a", b"b", b"c"], leaves_while_sending=True)
    played = await play([], sent)
    assert played.end == End("client_gone", "client_closed_upload", played.end.error)
    assert (played.status, played.ended) == (0, 1)
    assert played.forwarded is not None
    assert (played.forwarded.body, played.forwarded.complete) == (b"ab", False)


async def test_a_client_that_leaves_while_it_sends_a_body_that_is_read() -> None:
    class Reads(Plugin):
        async def on_request(self, ex: Exchange) -> Reply | None:
            await ex.request.read()
            return None

    sent = Sent(pieces=[b"a", b"b"], leaves_while_sending=True)
    played = await play([Reads()], sent)
    assert (played.end.code, played.forwarded) == ("client_closed_upload", None)


# -- holding and rewriting -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_what_is_held_can_still_get_headers(size: int) -> None:
    played = await play([Wait()], answer=json({"a": "b"}).cut(size))
    assert played.headers["x-seen"] == "9"
    assert played.pieces == [b'{"a":"b"}']


async def test_what_is_too_large_to_hold_goes_out_without() -> None:
    played = await play([Wait(4)], answer=json({"a": "b"}).cut(3))
    assert "x-seen" not in played.headers
    assert (played.body, played.complete) == (b'{"a":"b"}', True)


async def test_a_json_answer_can_be_rewritten_and_gets_its_new_length() -> None:
    class Longer(Plugin):
        async def on_response(self, ex: Exchange) -> None:
            ex.response.rewrites()

        def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
            return event.with_data(b'{"longer":true}')

    played = await play([Longer()], answer=json({"a": 1}).cut(2))
    assert played.json() == {"longer": True}
    assert played.headers["content-length"] == "15"


async def test_events_can_be_dropped_and_added() -> None:
    class Edits(Plugin):
        async def on_request(self, ex: Exchange) -> Reply | None:
            ex.response.rewrites()
            return None

        def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
            if event.data == b"2":
                return ()
            if event.data == b"[DONE]":
                return Event.comment(b"cost"), event
            return Event.of(b"last") if event.kind == "end" else None

    played = await play([Edits()], answer=STREAM)
    assert played.body == b"data: 1\n\ndata: 3\n\n: cost\n\ndata: [DONE]\n\ndata: last\n\n"
    assert played.forwarded is not None
    assert played.forwarded.headers.getall("accept-encoding") == ["identity"]


async def test_what_the_later_plugin_made_is_what_the_earlier_one_sees() -> None:
    diary = Diary()
    await play([diary, Upper()], answer=sse(b"data: abc\n\n"))
    assert "diary.event sse ABC" in diary.diary


async def test_changing_without_announcing_it_is_the_plugins_failure() -> None:
    class Silent(Plugin):
        def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
            return event.with_data(b"changed")

    played = await play([Silent()], answer=STREAM)
    assert played.end.code == "plugin_error"
    assert not played.complete
    assert b"changed" not in played.body


async def test_headers_can_be_edited_both_ways() -> None:
    class Edits(Plugin):
        async def on_request(self, ex: Exchange) -> Reply | None:
            ex.request.headers["x-added"] = "1"
            ex.request.headers.remove("x-secret")
            ex.request.set_body((await ex.request.read()).upper())
            return None

        async def on_response(self, ex: Exchange) -> None:
            ex.response.headers["x-back"] = "2"

    played = await play([Edits()], post("/v1/x", b"abc", [("x-secret", "s")]))
    assert played.forwarded is not None
    assert played.forwarded.headers["x-added"] == "1"
    assert "x-secret" not in played.forwarded.headers
    assert played.forwarded.body == b"ABC"
    assert played.headers["x-back"] == "2"


# -- what plugins ask ----------------------------------------------------------------------------------


class Asks(Plugin):
    """Asks in on_request, and keeps what came of it."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.said: list[Asked | UpstreamError] = []

    async def on_request(self, ex: Exchange) -> None:
        for at in range(self.times):
            try:
                self.said.append(await ex.ask(f"count?n={at}", b"%d" % at, timeout=5))
            except UpstreamError as error:
                self.said.append(error)


async def test_what_a_plugin_asks_is_answered_by_a_script_of_its_own() -> None:
    plugin = Asks(times=3)
    played = await play([plugin], None, json({"n": 0}), asked=[json({"n": 1}).cut(3), json({"n": 2}, 201)])
    assert [(said.status, said.json()) for said in plugin.said if isinstance(said, Asked)] == [
        (200, {"n": 1}),
        (201, {"n": 2}),
        (201, {"n": 2}),
    ]
    assert [(got.method, got.target, got.body) for got in played.asked] == [
        ("POST", "/v1/count?n=0", b"0"),
        ("POST", "/v1/count?n=1", b"1"),
        ("POST", "/v1/count?n=2", b"2"),
    ]
    assert played.json() == {"n": 0}
    assert played.forwarded is not None
    assert played.forwarded.target == "/v1/chat/completions"
    assert len(played.ex.attempts) == 1


async def test_a_question_has_nothing_that_connection_names() -> None:
    own = [("authorization", "Bearer client"), ("openai-project", "p")]
    for connection, passes in (("close", True), ("OpenAI-Project, close", False)):
        sent = post("/v1/x", {}, [*own, ("connection", connection)])
        (got,) = (await play([Asks()], sent)).asked
        assert got.headers["authorization"] == "Bearer client"
        assert ("openai-project" in got.headers) is passes


async def test_without_a_script_the_upstream_knows_no_such_endpoint() -> None:
    plugin = Asks()
    played = await play([plugin])
    (said,) = plugin.said
    assert isinstance(said, Asked)
    assert (said.status, said.json()["error"]["message"]) == (404, "Unknown path.")
    assert played.complete


@pytest.mark.parametrize("script", [Script(refuses=BREAK), Script(pieces=[b"1"], breaks=BREAK)])
async def test_a_question_may_fail_and_the_exchange_goes_on(script: Script) -> None:
    plugin = Asks()
    played = await play([plugin], None, asked=[script])
    assert plugin.said == [BREAK]
    assert played.complete


class AsksOn(Plugin):
    """Asks in a task of its own, which nothing else ends."""

    async def on_request(self, ex: Exchange) -> None:
        self.asking = asyncio.create_task(ex.ask("count", b"", timeout=60))

    async def on_end(self, ex: Exchange, end: End) -> None:
        (self.said,) = await asyncio.gather(self.asking, return_exceptions=True)


async def test_the_end_cuts_off_what_a_plugin_still_asks() -> None:
    plugin = AsksOn()
    played = await asyncio.wait_for(play([plugin], answer=STREAM, asked=[Script(hangs=True)]), 5)
    assert isinstance(plugin.said, UpstreamError)
    assert plugin.said.code == "ask_too_late"
    assert played.complete
    assert len(played.asked) == 1


async def test_nothing_is_asked_unless_a_plugin_asks() -> None:
    assert (await play([])).asked == []
