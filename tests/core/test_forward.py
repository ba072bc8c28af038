"""The promise of the whole engine: whatever happens, wherever, every entered plugin is ended exactly once."""

import asyncio
import contextvars
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api import (
    ClientError,
    End,
    Event,
    Exchange,
    Plugin,
    Reply,
    Slot,
    UpstreamError,
    WeirError,
)
from proxy.api.testing import Script, Sent, get, json, play, post, sse
from proxy.core.forward import _ids

ASK = post("/v1/chat/completions", {"model": "gpt-4o"})
STREAM = sse(b'data: {"n":1}\n\n', b'data: {"n":2}\n\n', b"data: [DONE]\n\n")


# -- the promise -----------------------------------------------------------------------------------

Log = list[tuple[str, int]]


class Misbehaves(Plugin):
    """Does in each hook what it is told to, and writes down that it was called."""

    def __init__(self, place: int, log: Log, acts: dict[str, str], on_error: str) -> None:
        self.place = place
        self.log = log
        self.acts = acts
        self.on_error = on_error  # type: ignore[misc, assignment] # per test, not per class

    async def _act(self, hook: str, ex: Exchange) -> Reply | None:
        match self.acts[hook]:
            case "raise":
                raise RuntimeError("planted")
            case "refuse":
                raise ClientError(403, "planted", "Planted.")
            case "reply":
                return Reply.error(429, "planted", "Planted.")
            case "abort":
                ex.abort(WeirError(503, "planted", "Planted."))
            case "slow":
                for _ in range(3):
                    await asyncio.sleep(0)
            case "abort, slowly":
                ex.abort(WeirError(503, "planted", "Planted."))
                await asyncio.sleep(0)
            case "swallow":
                try:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    pass
            case "rewrite":
                ex.response.rewrites()
            case "hold":
                ex.response.hold()
        return None

    async def on_request(self, ex: Exchange) -> Reply | None:
        self.log.append(("request", self.place))
        return await self._act("request", ex)

    async def on_response(self, ex: Exchange) -> None:
        self.log.append(("response", self.place))
        await self._act("response", ex)

    def on_event(self, ex: Exchange, event: Event) -> None:
        self.log.append(("event", self.place))
        match self.acts["event"]:
            case "raise":
                raise RuntimeError("planted")
            case "abort":
                ex.abort(WeirError(503, "planted", "Planted."))

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.log.append(("end", self.place))
        await self._act("end", ex)
        self.log.append(("ended", self.place))


class MisbehavesPlainly(Misbehaves):
    """The same by plain functions, which return what is left to be awaited, if there is anything."""

    def on_response(self, ex: Exchange) -> Any:
        return super().on_response(ex) if self.acts["response"] else self.log.append(("response", self.place))

    def on_end(self, ex: Exchange, end: End) -> Any:
        if self.acts["end"]:
            return super().on_end(ex, end)
        self.log.extend((("end", self.place), ("ended", self.place)))
        return None


ACTS = st.fixed_dictionaries(
    {
        "request": st.sampled_from(
            ["", "", "", "slow", "raise", "refuse", "reply", "abort", "abort, slowly", "swallow", "rewrite"]
        ),
        "response": st.sampled_from(["", "", "slow", "raise", "abort", "swallow", "rewrite", "hold"]),
        "event": st.sampled_from(["", "", "", "raise", "abort"]),
        "end": st.sampled_from(["", "slow", "slow", "raise", "abort", "refuse"]),
    }
)
ANSWERS = st.sampled_from(
    [
        STREAM,
        STREAM.cut(5),
        json({"usage": {}}),
        json({"usage": {}}).cut(3),
        Script(200, [("content-type", "application/octet-stream")], [b"a", b"b"]),
        Script(204),
        Script(refuses=UpstreamError(502, "planted", "Planted.")),
        Script(
            200,
            [("content-type", "text/event-stream")],
            [b"data: 1\n\n"],
            breaks=UpstreamError(502, "b", "B"),
        ),
        Script(200, [("content-type", "application/json")], [b"{"], breaks=UpstreamError(502, "b", "B")),
        Script(200, [("content-type", "text/event-stream")], [b"data: 1\n\n"], hangs=True),
    ]
)
REQUESTS = st.sampled_from(
    [
        ASK,
        get("/v1/models"),
        Sent(pieces=[b"a", b"b", b"c"]),
        Sent(pieces=[b"a", b"b"], leaves_while_sending=True),
        post("/v1/../admin", {}),
    ]
)


@given(
    acts=st.lists(
        st.tuples(ACTS, st.sampled_from(["fail", "skip"]), st.sampled_from([Misbehaves, MisbehavesPlainly])),
        min_size=1,
        max_size=4,
    ),
    request=REQUESTS,
    answer=ANSWERS,
    leaves_after=st.sampled_from([None, None, 0, 1, 2]),
    cancel_after=st.one_of(st.none(), st.integers(0, 40)),
)
@settings(max_examples=600, deadline=None)
def test_on_end_runs_exactly_once_for_every_entered_plugin(
    acts: list[tuple[dict[str, str], str, type[Misbehaves]]],
    request: Sent,
    answer: Script,
    leaves_after: int | None,
    cancel_after: int | None,
) -> None:
    log: Log = []
    plugins = [kind(place, log, todo, policy) for place, (todo, policy, kind) in enumerate(acts)]

    async def run() -> None:
        task = asyncio.create_task(play(plugins, request, answer, leaves_after=leaves_after))
        # What hangs is cut off by a stranger's cancellation, as a server does that is forced to stop.
        for _ in range(200 if cancel_after is None else cancel_after):
            await asyncio.sleep(0)
            if task.done():
                break
        for _ in range(50):
            task.cancel()  # again, since a plugin may have swallowed it
            await asyncio.wait([task], timeout=0.1)
            if task.done():
                break
        assert task.done(), "the exchange hangs"
        if not task.cancelled() and (error := task.exception()) is not None:
            assert "the engine did not end" not in str(error)
            assert "the first plugin" not in str(error)

    asyncio.run(run())
    entered = [place for hook, place in log if hook == "request"]
    begun = [place for hook, place in log if hook == "end"]
    assert begun == sorted(entered, reverse=True)
    assert entered == list(range(len(entered)))
    # Nothing cuts on_end short: who begins it gets to its end, unless it raises by itself.
    finished = [place for hook, place in log if hook == "ended"]
    assert finished == [place for place in begun if acts[place][0]["end"] not in ("raise", "refuse")]
    if begun:
        first_end = log.index(("end", begun[0]))
        assert {hook for hook, _ in log[first_end:]} <= {"end", "ended"}


# -- order and short circuits ----------------------------------------------------------------------


class Notes(Plugin):
    def __init__(self, letter: str, log: list[str], reply: Reply | None = None) -> None:
        self.letter = letter
        self.log = log
        self.reply = reply

    async def on_request(self, ex: Exchange) -> Reply | None:
        self.log.append(f"{self.letter}.request")
        return self.reply

    async def on_response(self, ex: Exchange) -> None:
        self.log.append(f"{self.letter}.response")
        ex.response.headers.add(f"x-{self.letter}", "seen")

    def on_event(self, ex: Exchange, event: Event) -> None:
        self.log.append(f"{self.letter}.{event.kind}")

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.log.append(f"{self.letter}.{end.reason}")


async def test_requests_go_in_order_and_everything_else_in_reverse() -> None:
    log: list[str] = []
    played = await play([Notes("a", log), Notes("b", log)], ASK, json({}))
    assert log == [
        *("a.request", "b.request", "b.response", "a.response"),
        *("b.json", "a.json", "b.complete", "a.complete"),
    ]
    assert played.complete
    assert played.headers["x-a"] == played.headers["x-b"] == "seen"


async def test_a_reply_turns_round_where_it_was_given() -> None:
    log: list[str] = []
    refusal = Reply.error(429, "slow_down", "Slow down.", retry_after=1.5)
    played = await play([Notes("a", log), Notes("b", log, refusal), Notes("c", log)], ASK)
    assert log == ["a.request", "b.request", "b.response", "a.response", "b.rejected", "a.rejected"]
    assert played.forwarded is None
    assert (played.status, played.end.code) == (429, "slow_down")
    assert played.json()["error"]["message"] == "Slow down."
    assert played.json()["retryAfter"] == 2
    assert played.headers["retry-after-ms"] == "1500"
    assert played.headers["x-a"] == "seen"


async def test_recorded_events_are_a_stream() -> None:
    events = [b"data: 1\n\n", b"data: [DONE]\n\n"]
    played = await play([Notes("a", [], Reply.stream(events))], ASK)
    assert played.pieces == events
    assert played.complete
    assert played.end == End("rejected", "replied")


async def test_on_end_comes_before_the_last_bytes() -> None:
    sent_at_end: list[int] = []
    pieces: list[bytes] = []

    class Watches(Plugin):
        def on_event(self, ex: Exchange, event: Event) -> None:
            pieces.append(event.raw)

        async def on_end(self, ex: Exchange, end: End) -> None:
            sent_at_end.append(len(pieces))

    played = await play([Watches()], ASK, STREAM)
    assert sent_at_end == [4]  # three events and the end of the events
    assert played.body == b"".join(STREAM.pieces)


# -- errors ----------------------------------------------------------------------------------------


class Raises(Plugin):
    def __init__(self, hook: str) -> None:
        self.hook = hook

    def _at(self, hook: str) -> None:
        if hook == self.hook:
            raise RuntimeError("a secret prompt")

    async def on_request(self, ex: Exchange) -> None:
        self._at("on_request")

    async def on_response(self, ex: Exchange) -> None:
        self._at("on_response")

    def on_event(self, ex: Exchange, event: Event) -> None:
        self._at("on_event")

    async def on_end(self, ex: Exchange, end: End) -> None:
        self._at("on_end")


class Tolerated(Raises):
    on_error = "skip"


@pytest.mark.parametrize("hook", ["on_request", "on_response"])
async def test_a_plugin_that_fails_before_the_answer_is_a_500_that_names_it(hook: str) -> None:
    played = await play([Notes("a", []), Raises(hook)], ASK, STREAM)
    assert played.status == 500
    assert played.json()["error"]["code"] == "plugin_error"
    assert "raises" in played.json()["message"]
    assert b"secret" not in played.body
    assert played.end.reason == "internal_error"
    assert played.headers["x-should-retry"] == "false"


async def test_a_plugin_that_fails_in_a_stream_ends_it_with_an_error_event() -> None:
    played = await play([Raises("on_event")], ASK, STREAM)
    assert played.status == 200
    assert not played.complete
    assert played.events[-1].json()["error"]["code"] == "plugin_error"


@pytest.mark.parametrize("hook", ["on_request", "on_response", "on_event", "on_end"])
async def test_a_plugin_that_may_fail_changes_nothing(hook: str) -> None:
    played = await play([Tolerated(hook)], ASK, STREAM)
    assert played.complete
    assert played.body == b"".join(STREAM.pieces)
    assert played.end == End("complete", "completed")


async def test_an_upstream_that_breaks_mid_event_is_broken_off_without_an_event() -> None:
    broken = Script(
        200, [("content-type", "text/event-stream")], [b"data: ha"], breaks=UpstreamError(502, "b", "B")
    )
    played = await play([], ASK, broken)
    assert played.body == b"data: ha"
    assert not played.complete


async def test_an_upstream_that_breaks_while_held_is_a_clean_error_with_its_headers() -> None:
    class Holds(Notes):
        async def on_response(self, ex: Exchange) -> None:
            await super().on_response(ex)
            ex.response.hold()

    broken = Script(200, [("content-type", "application/json")], [b"{"], breaks=UpstreamError(502, "b", "B"))
    played = await play([Holds("a", [])], ASK, broken)
    assert (played.status, played.complete) == (502, True)
    assert played.json()["error"]["code"] == "b"
    assert played.headers["x-a"] == "seen"


@pytest.mark.parametrize(
    ("answer", "code"), [(STREAM, "completed"), (sse(b"data: 1\n\n"), "completed_no_done")]
)
async def test_a_chat_stream_that_ends_without_done_says_so(answer: Script, code: str) -> None:
    assert (await play([], ASK, answer)).end == End("complete", code)


async def test_a_client_that_leaves_mid_stream_ends_the_exchange() -> None:
    played = await play([], ASK, STREAM, leaves_after=1)
    assert played.pieces == [b'data: {"n":1}\n\n']
    assert played.end.reason == "client_gone"


async def test_a_client_that_leaves_while_sending_leaves_the_upstream_with_half_a_body() -> None:
    played = await play([], Sent(pieces=[b"ab", b"cd"], leaves_while_sending=True))
    assert played.forwarded is not None
    assert (played.forwarded.body, played.forwarded.complete) == (b"ab", False)
    assert played.end[:2] == ("client_gone", "client_closed_upload")


async def test_a_bad_path_opens_no_upstream_and_enters_no_plugin() -> None:
    log: list[str] = []

    async def run() -> Any:
        # The kit's own recorder is never entered either, so it has nothing to tell.
        with pytest.raises(AssertionError):
            await play([Notes("a", log)], get("/v1/%2e%2e/admin"))

    await run()
    assert log == []


# -- abort -----------------------------------------------------------------------------------------


async def test_any_task_may_end_a_running_stream() -> None:
    class Fuse(Plugin):
        async def on_response(self, ex: Exchange) -> None:
            loop = asyncio.get_running_loop()
            error = WeirError(402, "insufficient_quota", "The budget is used up.")
            loop.call_later(0.05, ex.abort, error)

    hangs = Script(200, [("content-type", "text/event-stream")], [b"data: 1\n\n"], hangs=True)
    played = await play([Fuse()], ASK, hangs)
    assert played.events[-1].json()["error"]["code"] == "insufficient_quota"
    assert not played.complete
    assert played.end[:2] == ("rejected", "insufficient_quota")


async def test_abort_after_the_end_does_nothing() -> None:
    class Late(Plugin):
        async def on_end(self, ex: Exchange, end: End) -> None:
            ex.abort(WeirError(503, "late", "Late."))
            await asyncio.sleep(0)

    assert (await play([Late()], ASK, STREAM)).end == End("complete", "completed")


# -- context variables -----------------------------------------------------------------------------

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
TOKEN: Slot[contextvars.Token[str]] = Slot("token")


class SetsAContextVariable(Plugin):
    async def on_request(self, ex: Exchange) -> None:
        ex[TOKEN] = VARIABLE.set("inside")

    async def on_end(self, ex: Exchange, end: End) -> None:
        await asyncio.sleep(0)
        VARIABLE.reset(ex[TOKEN])  # raises in any other context


class ReadsIt(Plugin):
    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    async def on_request(self, ex: Exchange) -> None:
        await asyncio.sleep(0)
        self.seen.append(VARIABLE.get())

    async def on_response(self, ex: Exchange) -> None:
        self.seen.append(VARIABLE.get())

    def on_event(self, ex: Exchange, event: Event) -> None:
        self.seen.append(VARIABLE.get())

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.seen.append(VARIABLE.get())


@pytest.mark.parametrize("leaves_after", [None, 1])
async def test_a_context_variable_is_seen_by_every_later_hook_and_can_be_reset(
    leaves_after: int | None,
) -> None:
    class Fails(SetsAContextVariable):
        failed = False

        async def on_end(self, ex: Exchange, end: End) -> None:
            try:
                await super().on_end(ex, end)
            except ValueError:
                self.failed = True

    seen: list[str] = []
    sets = Fails()
    await play([sets, ReadsIt(seen)], ASK, STREAM, leaves_after=leaves_after)
    assert set(seen) == {"inside"}
    assert len(seen) >= 3
    assert not sets.failed
    assert VARIABLE.get() == "outside"


# -- bodies ----------------------------------------------------------------------------------------


class Rewrites(Plugin):
    async def on_request(self, ex: Exchange) -> None:
        ex.response.rewrites()

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        if event.kind == "end":
            return Event.comment(b"bye")
        if event.data == b"drop":
            return ()
        if event.data == b"twice":
            return (event, event)
        return event.with_data(event.data.upper()) if event.data == b"up" else None


async def test_events_are_changed_dropped_and_added() -> None:
    answer = sse(b"data: up\n\n", b"data: drop\r\n\r\n", b"data: twice\n\n", b": kept as it is\n\n")
    played = await play([Rewrites()], ASK, answer.cut(1))
    assert played.body == b"data: UP\n\ndata: twice\n\ndata: twice\n\n: kept as it is\n\n: bye\n\n"
    assert played.forwarded is not None
    assert played.forwarded.headers["accept-encoding"] == "identity"


async def test_replacing_without_announcing_it_is_a_failure_not_a_silent_leak() -> None:
    class Forgets(Plugin):
        def on_event(self, ex: Exchange, event: Event) -> Event:
            return event.with_data(b"changed")

    played = await play([Forgets()], ASK, STREAM)
    assert played.end.code == "plugin_error"


async def test_a_compressed_answer_that_must_be_changed_is_a_clean_error() -> None:
    answer = sse(b"\x1f\x8b...", headers=[("content-encoding", "gzip")])
    played = await play([Rewrites()], ASK, answer)
    assert (played.status, played.json()["error"]["code"]) == (502, "upstream_bad_encoding")


async def test_a_held_json_body_can_still_set_headers_and_change() -> None:
    class Prices(Plugin):
        async def on_response(self, ex: Exchange) -> None:
            ex.response.hold()

        def on_event(self, ex: Exchange, event: Event) -> Event:
            ex.response.headers["x-tokens"] = str(event.json()["usage"])
            return event.with_data(b'{"usage":"hidden"}')

    played = await play([Prices()], ASK, json({"usage": 7}).cut(2))
    assert played.headers["x-tokens"] == "7"
    assert played.body == b'{"usage":"hidden"}'
    assert played.headers["content-length"] == "18"


async def test_a_json_body_larger_than_its_hold_goes_out_as_it_came() -> None:
    seen: list[bytes] = []

    class Holds(Plugin):
        async def on_response(self, ex: Exchange) -> None:
            ex.response.hold(10)

        def on_event(self, ex: Exchange, event: Event) -> None:
            seen.append(event.raw)

    answer = json({"content": "x" * 100})
    played = await play([Holds()], ASK, answer.cut(7))
    assert played.body == b"".join(answer.pieces)
    assert seen == [played.body]


async def test_a_body_that_a_plugin_reads_and_replaces_goes_out_with_its_length() -> None:
    class Edits(Plugin):
        async def on_request(self, ex: Exchange) -> None:
            body = await ex.request.read()
            assert (await ex.request.json())["model"] == "gpt-4o"
            ex.request.set_body(body.replace(b"gpt-4o", b"gpt-4o-mini"))

    played = await play([Edits()], Sent(pieces=[b'{"model":', b'"gpt-4o"}']))
    assert played.forwarded is not None
    assert played.forwarded.body == b'{"model":"gpt-4o-mini"}'


async def test_a_body_too_large_to_read_is_a_413() -> None:
    class Reads(Plugin):
        async def on_request(self, ex: Exchange) -> None:
            await ex.request.read()

    played = await play([Reads()], post("/v1/x", b"x" * 2000), settings={"limits_http": {"json_body": 1000}})
    assert (played.status, played.json()["error"]["code"]) == (413, "request_too_large")
    assert played.forwarded is None


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/files/a%2Fb;c//d", "/v1/files/a%2Fb;c//d"),
        ("/v1", "/v1"),
        ("/v1beta/x", "/v1/v1beta/x"),
    ],
)
async def test_both_forms_of_a_path_mean_the_same(path: str, target: str) -> None:
    played = await play([], Sent("GET", path, query="a=%20b&&c", pieces=[]))
    assert played.forwarded is not None
    assert played.forwarded.target == f"{target}?a=%20b&&c"


def test_request_ids_are_a_beginning_of_the_process_and_a_count() -> None:
    ids = list(islice(_ids(), 0x2003))
    assert [id[:16] for id in ids] == [ids[0][:16]] * len(ids)
    assert [int(id[16:], 16) for id in ids] == list(range(len(ids)))
    assert {len(id) for id in ids} == {26}
    assert next(_ids())[:16] != ids[0][:16]


async def test_every_answer_has_our_request_id_and_where_the_time_went() -> None:
    played = await play([Notes("a", [])], ASK, json({}, headers=[("x-request-id", "theirs")]))
    assert played.headers["x-weir-request-id"] == played.ex.id
    assert played.headers["x-request-id"] == "theirs"
    timing = played.headers["server-timing"]
    assert "upstream;dur=" in timing
    assert "notes;dur=" in timing


@pytest.mark.parametrize("act", ["raise", "refuse", "reply"])
async def test_an_answer_of_our_own_has_one_date(act: str) -> None:
    played = await play([Misbehaves(1, [], {"request": act, "response": "", "end": ""}, "fail")], ASK)
    assert len(played.headers.getall("date")) == 1


async def test_plugins_read_what_a_client_says_to_weir_and_the_upstream_does_not() -> None:
    heard: list[str | None] = []

    class Reader(Plugin):
        async def on_request(self, ex: Exchange) -> None:
            heard.append(ex.request.headers.get("x-weir-wish"))

    played = await play([Reader()], post("/v1/x", {}, [("X-Weir-Wish", "1"), ("x-mine", "2")]))
    assert heard == ["1"]
    assert played.forwarded is not None
    assert "x-weir-wish" not in played.forwarded.headers
    assert played.forwarded.headers["x-mine"] == "2"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
async def test_a_dry_run_that_nobody_could_make_is_not_sent(path: str) -> None:
    played = await play([], post(path, {"model": "m"}, [("x-weir-dry-run", "true")]))
    assert b'"dry_run_not_possible"' in played.body
    assert (played.status, played.forwarded) == (400, None)
