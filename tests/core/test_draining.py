"""`on_disconnect: drain`: an answer is read to its end though its client has gone."""

import asyncio
from functools import partial

import pytest

from proxy.api import End, Event, Exchange, Plugin, UpstreamError, WeirError
from proxy.api.testing import Played, Script, json, play, post, sse
from proxy.core import forward
from proxy.core.settings.upstream import Timeouts, UpstreamSettings

ASK = post("/v1/chat/completions", {"model": "gpt-4o"})
EVENTS = [b'data: {"n":%d}\n\n' % number for number in range(5)] + [b"data: [DONE]\n\n"]
STREAM = sse(*EVENTS)
GONE = End("client_gone", "client_closed")


class Sees(Plugin):
    """What a plugin gets to see of it."""

    def __init__(self, *, rewrites: bool = False, stops_at: int = 99) -> None:
        self.seen: list[bytes] = []
        self.ends: list[End] = []
        self._rewrites = rewrites
        self._stops_at = stops_at

    async def on_response(self, ex: Exchange) -> None:
        if self._rewrites:
            ex.response.rewrites()

    def on_event(self, ex: Exchange, event: Event) -> None:
        self.seen.append(event.raw)
        if len(self.seen) == self._stops_at:
            ex.abort(WeirError(429, "stopped", "Stopped."))

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.ends.append(end)


@pytest.fixture(autouse=True)
def _drains(monkeypatch: pytest.MonkeyPatch) -> None:
    draining(monkeypatch)


def draining(monkeypatch: pytest.MonkeyPatch, seconds: float = 60.0) -> None:
    settings = partial(UpstreamSettings, on_disconnect="drain", timeouts=Timeouts(drain=seconds))
    monkeypatch.setattr("proxy.core.testing.UpstreamSettings", settings)


async def drained(script: Script, sees: Sees, leaves_after: int = 1) -> Played:
    async with asyncio.timeout(5):
        return await play([sees], ASK, script, leaves_after=leaves_after)


@pytest.mark.parametrize("rewrites", [False, True])
@pytest.mark.parametrize("leaves_after", [0, 1, 3])
async def test_plugins_see_all_of_an_answer_that_nobody_gets(rewrites: bool, leaves_after: int) -> None:
    sees = Sees(rewrites=rewrites)
    played = await drained(STREAM, sees, leaves_after)
    assert sees.seen == [*EVENTS, b""]
    assert played.pieces == EVENTS[:leaves_after]
    assert not played.complete
    assert sees.ends == [played.end] == [GONE]
    assert played.ended == 1


async def test_a_json_answer_is_seen_whole() -> None:
    sees = Sees()
    played = await drained(json({"usage": 7}).cut(3), sees, 0)
    assert sees.seen == [b'{"usage":7}']
    assert (played.pieces, played.end) == ([], GONE)


async def test_an_upstream_that_breaks_meanwhile_ends_it() -> None:
    broken = UpstreamError(502, "upstream_reset", "The upstream broke the connection.")
    sees = Sees()
    played = await drained(Script(200, STREAM.headers, EVENTS[:3], breaks=broken), sees)
    assert sees.seen == EVENTS[:3]
    assert played.end[:2] == ("upstream_error", "upstream_reset")
    assert played.pieces == EVENTS[:1]


async def test_it_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    draining(monkeypatch, 0.05)
    sees = Sees()
    played = await drained(Script(200, STREAM.headers, EVENTS[:3], hangs=True), sees)
    assert sees.seen == EVENTS[:3]
    assert played.end[:2] == GONE[:2]


async def test_it_ends_when_it_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "DRAIN_LIMIT", len(EVENTS[0]) * 2)
    sees = Sees()
    played = await drained(STREAM, sees)
    assert sees.seen == EVENTS[:3]
    assert played.end[:2] == GONE[:2]


async def test_of_too_many_the_rest_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "DRAINS", 0)
    sees = Sees()
    played = await drained(STREAM, sees)
    assert len(sees.seen) <= 1
    assert played.end[:2] == GONE[:2]


async def test_a_plugin_may_stop_it() -> None:
    sees = Sees(stops_at=3)
    played = await drained(STREAM, sees)
    assert sees.seen == EVENTS[:3]
    assert played.end[:2] == ("rejected", "stopped")


async def test_who_stays_notices_nothing() -> None:
    played = await play([Sees()], ASK, STREAM)
    assert played.pieces == EVENTS
    assert played.end == End("complete", "completed")


async def test_by_default_nothing_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.core.testing.UpstreamSettings", UpstreamSettings)
    sees = Sees()
    played = await drained(STREAM, sees)
    assert len(sees.seen) <= 1
    assert played.end[:2] == GONE[:2]


async def test_its_place_is_free_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[forward.Setup] = []

    class Kept(forward.Setup):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr("proxy.core.testing.Setup", Kept)
    for script in (STREAM, Script(200, STREAM.headers, EVENTS[:2], hangs=True)):
        draining(monkeypatch, 0.05)
        await drained(script, Sees())
    assert [setup.drains for setup in made] == [0, 0]
