import gzip
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from proxy.api import Event, Exchange, Headers, Plugin, UpstreamError, WeirError
from proxy.api.response import HOLD_LIMIT
from proxy.core.chain import Chain, Run
from proxy.core.config import HttpLimits
from proxy.core.deliver import Delivery, Held
from proxy.core.flight import Flight
from proxy.core.sse import EVENT_LIMIT
from proxy.core.upstream import errors
from tests.api.test_exchange import exchange

STREAM = [("content-type", "text/event-stream")]
JSON = [("content-type", "application/json")]
EVENTS = [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]

Hook = Callable[[Exchange, Event], Event | Sequence[Event] | None]


class Answer:
    """Complete with its last piece, or only after it (`late`); or it breaks.

    `ready` says that the first piece is there already, so that reading it does not wait.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        *,
        late: bool = False,
        breaks: WeirError | None = None,
        ready: bool = False,
    ) -> None:
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self._pieces = list(pieces)
        self._late = late
        self._breaks = breaks
        self.complete = not pieces and not late and breaks is None
        self.ready = ready

    def whole(self) -> bytes | None:
        if not self.ready or self._late or self._breaks:
            return None
        self.complete = True
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    async def read(self) -> bytes:
        if self._pieces:
            piece = self._pieces.pop(0)
            self.complete = not self._pieces and not self._late and self._breaks is None
            return piece
        if self._breaks is not None:
            raise self._breaks
        self.complete = True
        return b""

    async def close(self) -> None:
        """Not the delivery's to call."""
        raise AssertionError


class Looks(Plugin):
    """An `on_event` that is given, and `on_end` if asked for."""

    name = "looks"

    def __init__(self, hook: Hook, log: list[Any]) -> None:
        self.hook = hook
        self.log = log

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        self.log.append((event.kind, event.raw))
        return self.hook(ex, event)


def leave(ex: Exchange, event: Event) -> None:
    """Leaves every event as it is."""


class Scene:
    """One delivery, and everything that happened in its order."""

    def __init__(
        self,
        headers: Sequence[tuple[str, str]],
        hook: Hook | None = None,
        *,
        held: int = 1 << 20,
        limits: HttpLimits | None = None,
    ) -> None:
        self.log: list[Any] = []
        self.ex = exchange()
        self.ex.response.begin(200, Headers.of(headers))
        plugins = [] if hook is None else [Looks(hook, self.log)]
        self.flight = Flight(3600)
        self._run = Run(Chain(plugins), self.ex, self.flight)
        self._run.entered = len(plugins)
        self.held = Held(held)
        self.idle = 300.0
        self.limits = limits or HttpLimits()
        self.send = self._send

    async def _start(self, *, body_follows: bool = False) -> None:
        self.ex.response.started = True
        self.log.append("start")

    async def _send_whole(self, body: bytes) -> None:
        await self._start(body_follows=True)
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _finish(self) -> None:
        self.log.append("finish")

    async def _send(self, message: Any) -> None:
        assert message["type"] == "http.response.body"
        self.log.append(("more" if message["more_body"] else "last", message["body"]))

    async def deliver(self, *pieces: bytes, **how: Any) -> list[Any]:
        return await self.give(Answer(pieces, **how))

    async def give(self, answer: Answer) -> list[Any]:
        self.delivery = Delivery(
            self.ex,
            self.flight,
            self._run,
            answer,
            self.send,
            self._start,
            self._send_whole,
            self._finish,
            self,
        )
        await self.delivery.deliver()
        return self.log

    @property
    def body(self) -> bytes:
        return b"".join(entry[1] for entry in self.log if entry[0] in ("more", "last"))

    @property
    def seen(self) -> list[tuple[str, bytes]]:
        return [entry for entry in self.log if entry[0] in ("sse", "json", "end", "part")]


# -- passing on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [STREAM, JSON, [], [("content-type", "audio/mpeg")]])
async def test_nobody_looks_so_it_passes_piece_by_piece(headers: list[tuple[str, str]]) -> None:
    assert await Scene(headers).deliver(b"a", b"b", late=True) == [
        "start",
        ("more", b"a"),
        ("more", b"b"),
        "finish",
        ("last", b""),
    ]


async def test_the_end_comes_before_the_last_piece_if_the_length_is_known() -> None:
    log = await Scene([*JSON, ("content-length", "2")]).deliver(b"a", b"b")
    assert log == ["start", ("more", b"a"), "finish", ("last", b"b")]


async def test_the_end_comes_before_the_terminal_chunk_if_it_is_not() -> None:
    log = await Scene(STREAM, leave).deliver(*EVENTS)
    assert log[-2:] == ["finish", ("last", b"")]
    assert ("more", EVENTS[-1]) in log


@pytest.mark.parametrize("late", [False, True])
async def test_plugins_see_events_after_they_went_out(late: bool) -> None:
    log = await Scene(STREAM, leave).deliver(*EVENTS, late=late)
    assert log == [
        "start",
        ("more", EVENTS[0]),
        ("sse", EVENTS[0]),
        ("more", EVENTS[1]),
        ("sse", EVENTS[1]),
        ("more", EVENTS[2]),
        ("sse", EVENTS[2]),
        ("end", b""),
        "finish",
        ("last", b""),
    ]


async def test_an_answer_without_a_body_is_a_head_and_an_end() -> None:
    assert await Scene([("content-length", "0")], leave).deliver() == ["start", "finish", ("last", b"")]


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_pieces_go_out_as_they_came(size: int) -> None:
    stream = b"".join(EVENTS)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    scene = Scene(STREAM, leave)
    await scene.deliver(*pieces, late=True)
    assert [entry[1] for entry in scene.log if entry[0] == "more"] == pieces
    assert scene.seen == [*(("sse", event) for event in EVENTS), ("end", b"")]


async def test_a_json_body_is_seen_whole_before_its_last_piece_is_out() -> None:
    log = await Scene([*JSON, ("content-length", "7")], leave).deliver(b'{"a"', b":1}")
    assert log == ["start", ("more", b'{"a"'), ("json", b'{"a":1}'), "finish", ("last", b":1}")]


async def test_a_json_body_above_the_limit_passes_unseen() -> None:
    scene = Scene(JSON, leave, limits=HttpLimits(json_body=5))
    await scene.deliver(b'{"a"', b":1}")
    assert scene.body == b'{"a":1}'
    assert scene.seen == []


@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
async def test_what_is_compressed_is_seen_through_and_passed_as_it_is(encoding: str) -> None:
    scene = Scene([*STREAM, ("content-encoding", encoding)], leave)
    data = gzip.compress(b"".join(EVENTS))
    await scene.deliver(data[:10], data[10:])
    assert scene.body == data
    assert scene.seen == [*(("sse", event) for event in EVENTS), ("end", b"")]


async def test_what_cannot_be_seen_through_passes_unseen() -> None:
    scene = Scene([*STREAM, ("content-encoding", "br")], leave)
    await scene.deliver(b"\x1b\0", b"\1")
    assert (scene.body, scene.seen) == (b"\x1b\0\1", [])


@pytest.mark.parametrize("hook", [None, leave])
async def test_a_first_piece_that_is_there_already_can_go_out_with_the_head(hook: Hook | None) -> None:
    scene = Scene(STREAM, hook)
    await scene.deliver(*EVENTS, ready=True)
    assert scene.log[:2] == ["start", ("more", EVENTS[0])]
    assert scene.body == b"".join(EVENTS)
    whole = Scene([*JSON, ("content-length", "2")], hook)
    await whole.deliver(b"ok", ready=True)
    assert [entry for entry in whole.log if entry[0] != "json"] == ["start", "finish", ("last", b"ok")]


async def test_what_breaks_has_no_end() -> None:
    scene = Scene(STREAM, leave)
    with pytest.raises(UpstreamError):
        await scene.deliver(EVENTS[0], breaks=errors.reset())
    assert scene.log == ["start", ("more", EVENTS[0]), ("sse", EVENTS[0])]


async def test_each_read_has_its_time_and_a_slow_client_does_not_use_it_up() -> None:
    scene = Scene(STREAM)
    armed: list[str] = []

    class Watches(Answer):
        async def read(self) -> bytes:
            armed.append(scene.flight.late().code)
            return await super().read()

    sent: list[str] = []

    async def send(message: Any) -> None:
        if message["more_body"]:
            sent.append(scene.flight.late().code)

    scene.send = send
    await scene.give(Watches([b"a", b"b"], late=True))
    assert set(armed) == {"upstream_idle_timeout"}
    assert sent == ["max_duration", "max_duration"]


async def test_moments_are_noted() -> None:
    scene = Scene(STREAM)
    await scene.deliver(*EVENTS)
    timeline = scene.ex.timeline
    assert timeline.received <= timeline.first_byte <= timeline.last_byte


# -- whether an error event can follow -----------------------------------------------------------------


@pytest.mark.parametrize(
    "end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\r\n\n", b"\n\r\n", b"\n\r", b"\r\n\r", b"\r\r\n"]
)
async def test_after_an_empty_line_there_can(end: bytes) -> None:
    scene = Scene(STREAM)
    with pytest.raises(UpstreamError):
        await scene.deliver(b"data: 1", end[:1], end[1:], breaks=errors.reset())
    assert scene.delivery.between_events


@pytest.mark.parametrize("rest", [b"data: 1", b"data: 1\n", b"data: 1\r\n", b"data: 1\r", b"x" * 40])
async def test_inside_an_event_there_cannot(rest: bytes) -> None:
    scene = Scene(STREAM)
    with pytest.raises(UpstreamError):
        await scene.deliver(EVENTS[0], rest, breaks=errors.reset())
    assert not scene.delivery.between_events


async def test_before_the_first_byte_there_can() -> None:
    scene = Scene(STREAM)
    with pytest.raises(UpstreamError):
        await scene.deliver(breaks=errors.reset())
    assert scene.delivery.between_events
    assert scene.delivery.tail == b""


async def test_the_tail_is_the_last_bytes_however_they_came() -> None:
    for size in (1, 5, 100):
        scene = Scene(STREAM)
        stream = b"".join(EVENTS)
        await scene.deliver(*[stream[at : at + size] for at in range(0, len(stream), size)])
        assert scene.delivery.tail.endswith(b"[DONE]\n\n")
        assert len(scene.delivery.tail) <= 16


# -- rewriting -----------------------------------------------------------------------------------------


def upper(ex: Exchange, event: Event) -> Event | None:
    return None if event.kind == "end" else event.with_data(event.data.upper())


@pytest.mark.parametrize("size", [1, 4, 9, 1000])
@pytest.mark.parametrize("late", [False, True])
async def test_events_are_changed_before_they_go_out(size: int, late: bool) -> None:
    stream = b"data: a\n\nid: 1\r\ndata: b\r\n\r\n: c\n\ndata: [done]\n\n"
    scene = Scene([*STREAM, ("content-length", str(len(stream)))], upper)
    scene.ex.response.rewrites()
    await scene.deliver(*[stream[at : at + size] for at in range(0, len(stream), size)], late=late)
    assert scene.body == b"data: A\n\nid: 1\r\ndata: B\r\n\r\ndata: \n: c\n\ndata: [DONE]\n\n"
    assert scene.log[-2:] == ["finish", ("last", b"")]
    assert "content-length" not in scene.ex.response.headers


async def test_a_whole_event_does_not_wait_for_the_next() -> None:
    scene = Scene(STREAM, upper)
    scene.ex.response.rewrites()
    with pytest.raises(UpstreamError):
        await scene.deliver(b"data: a\n\ndata: b", breaks=errors.reset())
    assert scene.body == b"data: A\n\n"


async def test_what_was_held_back_can_come_at_the_end() -> None:
    def at_the_end(ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        return Event.of(b"late") if event.kind == "end" else ()

    scene = Scene(STREAM, at_the_end)
    scene.ex.response.rewrites()
    await scene.deliver(*EVENTS)
    assert scene.body == b"data: late\n\n"


async def test_all_events_dropped_leave_an_empty_whole_answer() -> None:
    scene = Scene(STREAM, lambda ex, event: ())
    scene.ex.response.rewrites()
    assert (await scene.deliver(*EVENTS))[-2:] == ["finish", ("last", b"")]
    assert scene.body == b""


async def test_not_a_byte_is_lost_between_events() -> None:
    """More empty lines than there need be are the upstream's to send."""
    scene = Scene(STREAM, leave)
    scene.ex.response.rewrites()
    pieces = [b"data: 1\n\n\n", b"data: 2\n\n\n\n\n", b"\n\n"]
    await scene.deliver(*pieces)
    assert scene.body == b"".join(pieces)


async def test_an_event_that_is_too_large_passes_or_ends_it() -> None:
    large = b"data: " + b"x" * EVENT_LIMIT
    scene = Scene(STREAM, upper)
    scene.ex.response.rewrites()
    await scene.deliver(b"data: a\n\n", large, b"x\n\ndata: b\n\n")
    assert scene.body == b"data: A\n\n" + large + b"x\n\ndata: B\n\n"
    strict = Scene(STREAM, upper)
    strict.ex.response.rewrites(oversize="fail")
    with pytest.raises(UpstreamError) as caught:
        await strict.deliver(b"data: a\n\n", large, b"x\n\ndata: b\n\n")
    assert caught.value.code == "upstream_answer_too_large"
    assert strict.body == b"data: A\n\n"


@pytest.mark.parametrize("headers", [STREAM, JSON])
async def test_what_is_compressed_cannot_be_rewritten(headers: list[tuple[str, str]]) -> None:
    scene = Scene([*headers, ("content-encoding", "gzip")], upper)
    scene.ex.response.rewrites()
    with pytest.raises(UpstreamError) as caught:
        await scene.deliver(b"x")
    assert caught.value.code == "upstream_bad_encoding"
    assert "start" not in scene.log


async def test_what_is_added_at_the_end_is_not_glued_to_a_fragment() -> None:
    def add(ex: Exchange, event: Event) -> Event | None:
        return Event.comment(b"added") if event.kind == "end" else None

    scene = Scene(STREAM, add)
    scene.ex.response.rewrites()
    await scene.deliver(b"data: 1\n\n", b"data: [DONE]")
    assert scene.body == b"data: 1\n\n: added\n\ndata: [DONE]"


# -- holding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
async def test_a_held_body_is_seen_before_anything_is_sent(late: bool) -> None:
    scene = Scene(JSON, leave)
    scene.ex.response.hold()
    log = await scene.deliver(b'{"a"', b":1}", late=late)
    assert log == [("json", b'{"a":1}'), "finish", "start", ("last", b'{"a":1}')]


@pytest.mark.parametrize("limit", [7, 6])
async def test_a_body_that_is_all_here_is_held_like_any_other(limit: int) -> None:
    scene = Scene(JSON, leave)
    scene.ex.response.hold(limit)
    log = await scene.deliver(b'{"a"', b":1}", ready=True)
    if limit == 7:
        assert log == [("json", b'{"a":1}'), "finish", "start", ("last", b'{"a":1}')]
    else:
        assert log == ["start", ("json", b'{"a":1}'), "finish", ("last", b'{"a":1}')]
    assert scene.held.take(1 << 20)


async def test_a_body_that_is_all_here_and_must_be_changed_is_not_sent_unchanged() -> None:
    scene = Scene(JSON, upper)
    scene.ex.response.rewrites(oversize="fail")
    with pytest.raises(UpstreamError) as caught:
        await scene.deliver(b"x" * (HOLD_LIMIT + 1), ready=True)
    assert caught.value.code == "upstream_answer_too_large"
    assert "start" not in scene.log


async def test_a_held_body_can_be_changed_and_its_length_follows() -> None:
    scene = Scene([*JSON, ("content-length", "7")], lambda ex, event: event.with_data(b'{"longer":1}'))
    scene.ex.response.rewrites()
    await scene.deliver(b'{"a":1}')
    assert scene.body == b'{"longer":1}'
    assert scene.ex.response.headers.getall("content-length") == ["12"]


async def test_what_breaks_while_it_is_held_was_never_sent() -> None:
    scene = Scene(JSON, leave)
    scene.ex.response.hold()
    with pytest.raises(UpstreamError):
        await scene.deliver(b"{", breaks=errors.reset())
    assert scene.log == []
    assert scene.held.take(1 << 20)


async def test_what_is_compressed_is_held_and_seen_through() -> None:
    data = gzip.compress(b'{"a":1}')
    scene = Scene([*JSON, ("content-encoding", "gzip")], leave)
    scene.ex.response.hold()
    assert await scene.deliver(data) == [("json", b'{"a":1}'), "finish", "start", ("last", data)]


async def test_a_compressed_body_that_is_only_held_cannot_be_changed() -> None:
    scene = Scene([*JSON, ("content-encoding", "gzip")], upper)
    scene.ex.response.hold()
    with pytest.raises(UpstreamError) as caught:
        await scene.deliver(gzip.compress(b'{"a":1}'))
    assert caught.value.code == "upstream_bad_encoding"


@pytest.mark.parametrize("late", [False, True])
async def test_a_body_above_the_limit_goes_out_as_it_comes(late: bool) -> None:
    scene = Scene(JSON, leave)
    scene.ex.response.hold(4)
    log = await scene.deliver(b"123", b"45", b"6", late=late)
    assert scene.body == b"123456"
    assert log[:2] == ["start", ("more", b"12345")]
    assert scene.seen == [("json", b"123456")]  # too late for its headers, not for the bill
    assert log.index(("json", b"123456")) < log.index("finish") == len(log) - 2
    assert scene.held.take(1 << 20)


async def test_one_of_just_the_limit_is_held() -> None:
    scene = Scene(JSON, leave)
    scene.ex.response.hold(6)
    await scene.deliver(b"123", b"456")
    assert scene.seen == [("json", b"123456")]


async def test_the_last_piece_may_be_what_does_not_fit() -> None:
    scene = Scene(JSON, leave)
    scene.ex.response.hold(4)
    assert await scene.deliver(b"12345") == ["start", ("json", b"12345"), "finish", ("last", b"12345")]


async def test_a_body_that_must_be_changed_and_does_not_fit_is_an_error() -> None:
    scene = Scene(JSON, upper)
    scene.ex.response.rewrites(oversize="fail")
    with pytest.raises(UpstreamError) as caught:
        await scene.deliver(b"x" * (HOLD_LIMIT + 1))
    assert caught.value.code == "upstream_answer_too_large"
    assert "start" not in scene.log


async def test_all_that_is_held_in_the_process_is_bounded() -> None:
    scene = Scene(JSON, leave, held=5)
    scene.ex.response.hold()
    assert scene.held.take(2)
    await scene.deliver(b"12", b"34")
    assert (scene.log[0], scene.body) == ("start", b"1234")
    assert scene.held.take(3)  # what was taken for it is free again
    assert not scene.held.take(1)


async def test_a_stream_is_not_held() -> None:
    scene = Scene(STREAM, leave)
    scene.ex.response.hold()
    await scene.deliver(*EVENTS)
    assert scene.log[0] == "start"


def test_held_gives_out_what_it_has() -> None:
    held = Held(10)
    assert held.take(10)
    assert not held.take(1)
    assert held.take(0)
    held.free(4)
    assert not held.take(5)
    assert held.take(4)
