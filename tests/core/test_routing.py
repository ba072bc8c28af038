import asyncio
from typing import Any

import pytest

from proxy.api.errors import ClientGone, UpstreamError
from proxy.core.config import UpstreamSettings
from proxy.core.deadlines import Deadlines
from proxy.core.flight import Flight
from proxy.core.headers import Pairs
from proxy.core.routing import Route, connect
from proxy.core.upstream import Clock, Outgoing, errors
from proxy.core.upstream.http1 import Http1Upstream
from tests.api.test_exchange import exchange


class Answer:
    status = 201
    headers: Pairs = []  # noqa: RUF012 # a fake's
    complete = True
    ready = False

    async def read(self) -> bytes:
        return b""

    async def close(self) -> None:
        pass


class Up:
    """Remembers what it was asked; answers, fails or hangs."""

    name = "up"

    def __init__(self, failure: UpstreamError | None = None, hangs: bool = False) -> None:
        self.failure = failure
        self.hangs = hangs
        self.asked: list[Outgoing] = []
        self.opened = asyncio.Event()

    async def open(self, request: Outgoing, clock: Clock) -> Any:
        self.asked.append(request)
        self.opened.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return Answer()

    async def aclose(self) -> None:
        pass


def route(up: Up, base_url: str = "http://up.test/v1", **settings: Any) -> Route:
    return Route(UpstreamSettings(name="up", base_url=base_url, **settings), up)


def outgoing(*headers: tuple[bytes, bytes]) -> Outgoing:
    return Outgoing(b"POST", b"/chat/completions?a=%2F", list(headers), b"{}")


@pytest.mark.parametrize(
    ("base_url", "target"),
    [
        ("http://up.test", b"/chat/completions?a=%2F"),
        ("http://up.test/", b"/chat/completions?a=%2F"),
        ("http://up.test/v1", b"/v1/chat/completions?a=%2F"),
        ("http://up.test/v1/", b"/v1/chat/completions?a=%2F"),
        ("https://up.test/openai/deployments/x", b"/openai/deployments/x/chat/completions?a=%2F"),
    ],
)
async def test_the_base_path_comes_first(base_url: str, target: bytes) -> None:
    up = Up()
    await route(up, base_url).attempt(exchange(), Flight(10), outgoing())
    assert up.asked[0].target == target


async def test_a_key_of_ours_takes_the_place_of_the_clients() -> None:
    up = Up()
    request = outgoing((b"authorization", b"Bearer client"), (b"x", b"1"), (b"api-key", b"client"))
    await route(up, api_key="sk-ours").attempt(exchange(), Flight(10), request)
    assert up.asked[0].headers == [(b"x", b"1"), (b"authorization", b"Bearer sk-ours")]


async def test_without_one_the_clients_passes_as_it_came() -> None:
    up = Up()
    pairs = [(b"authorization", b"Bearer client"), (b"api-key", b"client")]
    await route(up).attempt(exchange(), Flight(10), outgoing(*pairs))
    assert up.asked[0].headers == pairs


async def test_the_key_is_in_no_repr() -> None:
    made = route(Up(), api_key="sk-ours-topsecret")
    assert "topsecret" not in repr(made.settings)
    assert "topsecret" not in repr(made)


async def test_an_attempt_is_recorded() -> None:
    ex = exchange()
    made = route(Up())
    assert made.last_outcome is None
    answer = await made.attempt(ex, Flight(10), outgoing())
    assert answer.status == 201
    assert ex.upstream == "up"
    [attempt] = ex.attempts
    assert (attempt.upstream, attempt.outcome, attempt.resent) == ("up", "201", False)
    assert 0 < attempt.start <= attempt.end
    [hop] = ex.timeline.hops
    assert (hop.name, hop.phase, hop.start, hop.end) == ("upstream", "upstream", attempt.start, attempt.end)
    assert made.last_outcome == "201"


async def test_an_attempt_that_went_out_again_says_so() -> None:
    class Again(Up):
        async def open(self, request: Outgoing, clock: Clock) -> Any:
            request.resent = True
            return Answer()

    ex = exchange()
    await route(Again()).attempt(ex, Flight(10), outgoing())
    assert ex.attempts[0].resent


async def test_a_failure_is_recorded_by_its_code() -> None:
    ex = exchange()
    made = route(Up(errors.reset()))
    with pytest.raises(UpstreamError):
        await made.attempt(ex, Flight(10), outgoing())
    assert [attempt.outcome for attempt in ex.attempts] == ["upstream_reset"]
    assert made.last_outcome == "upstream_reset"
    assert ex.upstream == "up"
    assert len(ex.timeline.hops) == 1


@pytest.mark.parametrize(
    ("cause", "last"), [(ClientGone(), None), (errors.header_timeout(), "upstream_header_timeout")]
)
async def test_an_interruption_is_recorded_and_only_the_upstreams_fault_is_held_against_it(
    cause: Any, last: str | None
) -> None:
    ex = exchange()
    up = Up(hangs=True)
    made = route(up)
    flights: list[Flight] = []

    async def go() -> None:
        flights.append(Flight(10))
        await made.attempt(ex, flights[0], outgoing())

    task = asyncio.ensure_future(go())
    await asyncio.wait_for(up.opened.wait(), 2)
    flights[0].interrupt(cause)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert [attempt.outcome for attempt in ex.attempts] == [cause.code]
    assert made.last_outcome == last


async def test_a_strangers_cancellation_is_recorded_as_one() -> None:
    ex = exchange()
    up = Up(hangs=True)
    task = asyncio.ensure_future(route(up).attempt(ex, Flight(10), outgoing()))
    await asyncio.wait_for(up.opened.wait(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert [attempt.outcome for attempt in ex.attempts] == ["cancelled"]


async def test_each_upstream_gets_the_client_that_it_needs() -> None:
    deadlines = Deadlines()
    plain = connect(UpstreamSettings(name="a", base_url="http://a.test"), deadlines)
    secure = connect(UpstreamSettings(name="b", base_url="https://b.test"), deadlines)
    assert isinstance(plain, Http1Upstream)
    assert isinstance(secure, Http1Upstream)
    proxied = UpstreamSettings(name="c", base_url="https://c.test", proxy="http://127.0.0.1:9")
    two = UpstreamSettings(name="d", base_url="https://d.test", http2=True)
    others = [connect(proxied, deadlines), connect(two, deadlines)]
    assert {type(other).__name__ for other in others} == {"Httpx2Upstream"}
    for upstream in (plain, secure, *others):
        assert upstream.name in "abcd"
        await upstream.aclose()
    deadlines.close()


async def test_a_question_goes_out_below_the_base_path_with_our_key() -> None:
    fields = [(b"authorization", b"Bearer client"), (b"x", b"1")]
    plain = route(Up()).asking(b"/a?b", fields, b"{}")
    assert (plain.method, plain.target, plain.headers, plain.body) == (b"POST", b"/v1/a?b", fields, b"{}")
    keyed = route(Up(), api_key="sk-ours").asking(b"/a?b", fields, b"{}")
    assert keyed.headers == [(b"x", b"1"), (b"authorization", b"Bearer sk-ours")]
