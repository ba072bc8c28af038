"""Chains are checked once and compiled; what is not overridden is not there."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import wraps
from typing import Any, cast

import pytest

from proxy.api import COST, IDENTITY, End, Event, Exchange, Headers, Plugin, Reply, Request, Slot
from proxy.api.testing import Script, json, play, post, sse
from proxy.core import flight as flight_module
from proxy.core.chain import Chain, ChainError, Run
from proxy.core.deadlines import Deadlines
from proxy.core.flight import Flight
from proxy.core.forward import COMPLETED

ASK = post("/v1/chat/completions", {"model": "gpt-4o"})


class Silent(Plugin):
    name = "silent"


class Provides(Plugin):
    name = "provides"
    provides = (IDENTITY,)

    async def on_request(self, ex: Exchange) -> None: ...


class Requires(Plugin):
    name = "requires"
    requires = (IDENTITY,)

    async def on_request(self, ex: Exchange) -> None: ...


class Reads(Plugin):
    name = "reads"
    reads_at_end = (COST,)


class ProvidesCost(Plugin):
    name = "annotate"
    provides = (COST,)

    def on_event(self, ex: Exchange, event: Event) -> None: ...

    async def on_end(self, ex: Exchange, end: End) -> None: ...


def test_a_hook_that_nobody_overrides_is_not_in_the_table() -> None:
    chain = Chain([Silent(), Provides()])
    assert [len(table) for table in (chain._request, chain._response, chain._event, chain._end)] == [
        *(1, 0, 0, 0)
    ]
    assert not chain.ends


def test_what_is_required_must_come_before() -> None:
    Chain([Provides(), Requires()])
    with pytest.raises(ChainError) as found:
        Chain([Requires(), Provides()])
    assert str(found.value) == "requires needs identity: put its provider (auth) earlier in the chain"
    with pytest.raises(ChainError) as found:
        Chain([Requires()])
    assert str(found.value) == "requires needs identity: put its provider (auth) into the chain"


def test_what_is_read_at_the_end_may_come_from_anywhere_in_the_chain() -> None:
    Chain([Reads(), ProvidesCost()])
    with pytest.raises(ChainError) as found:
        Chain([Reads()])
    assert "reads reads cost at the end" in str(found.value)


def test_all_that_is_missing_is_told() -> None:
    with pytest.raises(ChainError) as found:
        Chain([Requires(), Reads()])
    assert [problem.split(" ")[0] for problem in found.value.problems] == ["requires", "reads"]
    assert str(found.value) == "\n".join(found.value.problems)


def test_how_far_the_chain_goes_until_a_slot_is_there() -> None:
    chain = Chain([Silent(), Provides(), Requires()])
    assert chain.upto(IDENTITY) == 2
    assert chain.upto(COST) == 3
    assert Chain([]).upto(IDENTITY) == 0


def test_two_slots_of_one_name_are_two_slots() -> None:
    class Other(Plugin):
        name = "other"
        requires = (Slot("identity"),)

    with pytest.raises(ChainError):
        Chain([Provides(), Other()])


async def test_on_end_that_takes_too_long_is_stopped_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flight_module, "END_LIMIT", 0.2)
    ended = []

    class Hangs(Plugin):
        async def on_end(self, ex: Exchange, end: End) -> None:
            ended.append("hangs")
            await asyncio.Event().wait()

    class Stubborn(Plugin):
        async def on_end(self, ex: Exchange, end: End) -> None:
            ended.append("stubborn")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.Event().wait()  # not again!

    class Fine(Plugin):
        async def on_end(self, ex: Exchange, end: End) -> None:
            async with asyncio.timeout(1):
                await asyncio.sleep(0)
            ended.append("fine")

    began = time.monotonic()
    with caplog.at_level(logging.ERROR, "weir"):
        played = await play([Fine(), Stubborn(), Hangs()], ASK, json({}))
    assert ended == ["hangs", "stubborn", "fine"]
    assert played.complete
    assert time.monotonic() - began < 3
    failed = [record.__dict__["fields"] for record in caplog.records]
    assert [(fields["plugin"], fields["raised"]) for fields in failed] == [
        ("hangs", "TimeoutError"),
        ("stubborn", "TimeoutError"),
    ]


async def test_a_timeout_of_a_hooks_own_still_works() -> None:
    seen = []

    class Times(Plugin):
        async def _time_out(self, where: str) -> None:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                seen.append(where)

        async def on_request(self, ex: Exchange) -> None:
            await self._time_out("request")

        async def on_response(self, ex: Exchange) -> None:
            await self._time_out("response")

        async def on_end(self, ex: Exchange, end: End) -> None:
            await self._time_out("end")

    hangs = Script(200, [("content-type", "text/event-stream")], [b"data: 1\n\n"], hangs=True)
    await play([Times()], ASK, json({}))
    await play([Times()], ASK, hangs, leaves_after=1)
    assert seen == ["request", "response", "end"] * 2


# -- plain functions -----------------------------------------------------------------------------------

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="outside")


class Plain(Plugin):
    """Sets a context variable and resets it; `leaves` is what its `on_end` leaves to be awaited."""

    def __init__(self, seen: list[str], leaves: Callable[[], Any] = lambda: None) -> None:
        self.seen = seen
        self.leaves = leaves
        self.token: Token[str] | None = None

    def on_request(self, ex: Exchange) -> Any:
        self.token = VARIABLE.set("inside")

    def on_response(self, ex: Exchange) -> Any:
        self.seen.append(f"response {VARIABLE.get()}")

    def on_end(self, ex: Exchange, end: End) -> Any:
        self.seen.append(f"end {VARIABLE.get()}")
        left = self.leaves()
        if left is None and self.token is not None:
            VARIABLE.reset(self.token)
        return left


class Coroutines(Plain):
    """The same as coroutines."""

    async def on_request(self, ex: Exchange) -> None:
        super().on_request(ex)

    async def on_response(self, ex: Exchange) -> None:
        super().on_response(ex)

    async def on_end(self, ex: Exchange, end: End) -> None:
        if (left := super().on_end(ex, end)) is not None:
            await left


class Replies(Plugin):
    """Has an `on_request` that is a plain function; it returns what `makes` does."""

    def __init__(self, makes: Callable[[], Any]) -> None:
        self.makes = makes

    def on_request(self, ex: Exchange) -> Any:
        return self.makes()


async def a_reply() -> Reply:
    return Reply.json({"a": 1}, 418)


async def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("makes", "status"),
    [(lambda: Reply.json({}, 418), 418), (a_reply, 418), (lambda: None, 200), (nothing, 200)],
)
async def test_a_plain_on_request_may_answer_or_leave_it_to_be_awaited(
    makes: Callable[[], Any], status: int
) -> None:
    played = await play([Replies(makes)], ASK, json({}))
    assert played.status == status


async def test_a_plain_on_request_that_fails_ends_the_exchange() -> None:
    def fails() -> None:
        raise RuntimeError("planted")

    played = await play([Replies(fails)], ASK, json({}))
    assert (played.status, played.json()["error"]["code"]) == (500, "plugin_error")


async def run_whole(*plugins: Plugin) -> Run:
    """An exchange's hooks without an engine around them, which has an `on_end` of its own in tests."""
    flight = Flight(60.0)
    headers = Headers()
    request = Request("GET", b"/v1/models", b"", headers, cast("Any", None), "127.0.0.1", "127.0.0.1")
    run = Run(Chain(plugins), Exchange("id-1", request, flight), flight)
    assert await run.request() is None
    await run.response()
    flight.begin_ending()
    return run


@pytest.mark.parametrize("kinds", [(Plain, Plain), (Plain, Coroutines), (Coroutines, Plain)])
async def test_hooks_may_be_plain_functions(kinds: tuple[type[Plain], ...]) -> None:
    seen: list[str] = []

    def fails() -> None:
        raise RuntimeError("planted")

    run = await run_whole(kinds[0](seen), kinds[1](seen, fails))
    before = asyncio.all_tasks()
    await run.end(COMPLETED)
    assert seen == ["response inside", "response inside", "end inside", "end inside"]
    assert asyncio.all_tasks() == before
    hops = [hop.phase for hop in run._ex.timeline.hops]
    assert hops == ["request"] * 2 + ["response"] * 2 + ["end"] * 2


@pytest.mark.parametrize("kind", [Plain, Coroutines])
async def test_what_an_on_end_leaves_to_be_awaited_is_shielded_and_seen_in_its_context(
    kind: type[Plain],
) -> None:
    seen: list[str] = []
    waits = asyncio.Event()

    async def later() -> None:
        await waits.wait()
        seen.append(f"later {VARIABLE.get()}")

    run = await run_whole(Plain(seen), kind(seen, later))
    task = asyncio.create_task(run.end(COMPLETED))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    waits.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen[2:] == ["end inside", "later inside", "end inside"]


@pytest.mark.parametrize("kind", [Plain, Coroutines])
async def test_what_an_on_end_leaves_to_be_awaited_has_its_time(
    kind: type[Plain], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flight_module, "END_LIMIT", 0.01)
    seen: list[str] = []

    async def hangs() -> None:
        await asyncio.Event().wait()

    run = await run_whole(Plain(seen), kind(seen, hangs))
    deadlines = Deadlines()
    deadlines.add(run._flight)
    await run.end(COMPLETED)
    deadlines.close()
    assert seen[2:] == ["end inside", "end inside"]
    [record] = [record for record in caplog.records if record.message == "a plugin failed"]
    assert record.__dict__["fields"]["raised"] == "TimeoutError"


async def test_a_chain_of_plain_on_ends_needs_no_context() -> None:
    assert not Chain([Plain([])]).apart
    assert Chain([Plain([]), Coroutines([])]).apart
    wrapped = Plain([])
    wrapped.on_end = wraps(Coroutines.on_end)(lambda ex, end: None)  # type: ignore[method-assign]
    assert Chain([wrapped]).apart


# -- what is logged ------------------------------------------------------------------------------------


async def test_a_failure_is_logged_by_place_and_not_by_what_it_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fails(Plugin):
        async def on_request(self, ex: Exchange) -> None:
            raise RuntimeError("the prompt was: secret")

    with caplog.at_level(logging.ERROR, "weir"):
        await play([Fails()], ASK)
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert (fields["plugin"], fields["hook"], fields["raised"]) == ("fails", "on_request", "RuntimeError")
    assert "test_chain.py" in fields["at"]
    assert "secret" not in str(record.__dict__)


async def test_hops_are_stamped_for_every_hook_that_ran() -> None:
    played = await play([Provides(), ProvidesCost()], ASK, sse(b"data: 1\n\n"))
    hops = [(hop.name, hop.phase) for hop in played.ex.timeline.hops if hop.name != "recorder"]
    assert hops == [("provides", "request"), ("upstream", "upstream"), ("annotate", "end")]
    assert all(hop.end >= hop.start > 0 for hop in played.ex.timeline.hops)
