"""Questions over a scripted upstream; over sockets they are in tests/faults/test_asking.py."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.api.errors import ClientError, UpstreamError
from proxy.api.exchange import Exchange
from proxy.api.headers import Headers
from proxy.api.request import Request
from proxy.core.asking import LIMIT, MOST, Asker
from proxy.core.config import UpstreamSettings
from proxy.core.flight import Flight
from proxy.core.routing import Route
from proxy.core.upstream import Clock, Outgoing, errors
from tests.api.test_exchange import NoBody

BODY = b'{"model":"m","input":"Hi"}'


class Answer:
    """A body in pieces; None hangs."""

    status = 201
    ready = False

    def __init__(self, *pieces: bytes | None) -> None:
        self.headers = [(b"content-type", b"application/json"), (b"connection", b"x-hop"), (b"x-hop", b"1")]
        self.pieces = list(pieces)
        self.complete = not pieces
        self.closed = 0

    def whole(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        piece = self.pieces.pop(0)
        if piece is None:
            await asyncio.Event().wait()
        self.complete = not self.pieces
        return piece or b""

    async def close(self) -> None:
        self.closed += 1


class Up:
    """Remembers what it was asked; `first` is done before it answers."""

    name = "up"

    def __init__(self, answer: Answer | None = None, first: Callable[[Clock], Any] | None = None) -> None:
        self.answer = answer or Answer(b'{"input_', b'tokens":7}')
        self.first = first
        self.asked: list[Outgoing] = []

    async def open(self, request: Outgoing, clock: Clock) -> Any:
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.first is not None:
            await self.first(clock)
        return self.answer

    async def aclose(self) -> None:
        pass


def made(up: Up, *headers: tuple[bytes, bytes], **settings: Any) -> tuple[Exchange, Flight]:
    """An exchange on its way to `up`."""
    settings = {"base_url": "http://up.test/v1", **settings}
    flight = Flight(60, None, Asker(Route(UpstreamSettings(name="up", **settings), up)))
    request = Request(
        "POST", b"/v1/responses", b"", Headers(list(headers)), NoBody(), "192.0.2.1", "192.0.2.1"
    )
    ex = Exchange("id-1", request, flight)
    ex.upstream = "up"
    return ex, flight


async def hangs(clock: Clock) -> None:
    await asyncio.Event().wait()


async def test_a_question_is_a_post_of_its_own() -> None:
    up = Up()
    ex, _ = made(up, (b"content-type", b"text/x"), (b"x-secret", b"1"), (b"accept-encoding", b"br"))
    asked = await ex.ask("responses/input_tokens?a=%2F", BODY, timeout=1)
    assert (asked.status, asked.json()) == (201, {"input_tokens": 7})
    assert asked.headers.raw == [(b"content-type", b"application/json")]
    (request,) = up.asked
    assert (request.method, request.target) == (b"POST", b"/v1/responses/input_tokens?a=%2F")
    assert request.body == BODY
    assert request.headers == [
        (b"content-type", b"application/json"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"identity"),
    ]
    assert up.answer.closed == 1


async def test_it_is_no_attempt_but_a_hop() -> None:
    ex, _ = made(Up())
    await ex.ask("x", b"", timeout=1)
    assert ex.attempts == []
    assert [(hop.name, hop.phase) for hop in ex.timeline.hops] == [("ask", "upstream")]
    assert all(hop.end >= hop.start > 0 for hop in ex.timeline.hops)


async def test_the_upstreams_last_known_state_is_not_that_of_a_question() -> None:
    up = Up()
    route = Route(UpstreamSettings(name="up", base_url="http://up.test"), up)
    ex, _ = made(up)
    await Asker(route).ask(Flight(60), ex, "x", b"", 1)
    assert route.last_outcome is None
    assert up.asked[0].target == b"/x"


CLIENTS = (
    (b"authorization", b"Bearer client"),
    (b"api-key", b"client"),
    (b"openai-organization", b"org"),
    (b"openai-project", b"proj"),
    (b"user-agent", b"sdk"),
    (b"cookie", b"c"),
)


async def test_the_clients_credential_and_account_pass_where_there_is_no_key() -> None:
    up = Up()
    ex, _ = made(up, *CLIENTS)
    await ex.ask("x", b"", timeout=1)
    assert up.asked[0].headers[:-3] == list(CLIENTS[:-1])


async def test_what_connection_names_goes_no_further() -> None:
    up = Up()
    ex, flight = made(up, *CLIENTS)
    flight.named = frozenset((b"authorization", b"user-agent"))
    await ex.ask("x", b"", timeout=1)
    assert up.asked[0].headers[:-3] == list(CLIENTS[1:-2])


async def test_a_key_takes_the_place_of_the_clients_credential() -> None:
    up = Up()
    ex, _ = made(up, *CLIENTS, api_key="sk-ours")
    await ex.ask("x", b"", timeout=1)
    assert [value for name, value in up.asked[0].headers if b"client" in value] == []
    assert (b"authorization", b"Bearer sk-ours") in up.asked[0].headers
    assert (b"openai-project", b"proj") in up.asked[0].headers


@pytest.mark.parametrize("endpoint", ["/x", "../x", "a/%2e%2e/x", "a\\b", "a%00"])
async def test_a_path_that_is_not_forwarded_is_not_asked_for_either(endpoint: str) -> None:
    up = Up()
    ex, _ = made(up)
    with pytest.raises(ClientError) as told:
        await ex.ask(endpoint, b"", timeout=1)
    assert told.value.code == "invalid_path"
    assert up.asked == []


@pytest.mark.parametrize("endpoint", ["", "a b", "a?b\r\nx: y", "ä", "a\n", "a?\x00"])
async def test_an_endpoint_is_printable_text(endpoint: str) -> None:
    up = Up()
    ex, _ = made(up)
    with pytest.raises(ValueError, match="printable"):
        await ex.ask(endpoint, b"", timeout=1)
    assert up.asked == []


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
async def test_it_has_a_time_limit(timeout: float) -> None:
    ex, _ = made(Up())
    with pytest.raises(ValueError, match="timeout"):
        await ex.ask("x", b"", timeout=timeout)


async def test_no_upstream_is_asked_by_an_exchange_that_goes_to_none() -> None:
    ex, _ = made(Up())
    ex.upstream = None
    with pytest.raises(RuntimeError, match="no upstream"):
        await ex.ask("x", b"", timeout=1)
    ex.upstream = "up"
    ex._driver = Flight(60)
    with pytest.raises(RuntimeError, match="nobody"):
        await ex.ask("x", b"", timeout=1)


@pytest.mark.parametrize("up", [Up(first=hangs), Up(Answer(b"{", None))], ids=["no answer", "half of one"])
async def test_the_time_of_a_question_passes(up: Up) -> None:
    ex, _ = made(up)
    with pytest.raises(UpstreamError) as told:
        await asyncio.wait_for(ex.ask("x", b"", timeout=0.02), 5)
    assert (told.value.status, told.value.code) == (504, "ask_timeout")
    assert up.answer.closed == (up.first is None)
    assert len(ex.timeline.hops) == 1


async def test_the_upstreams_own_deadlines_count_if_they_are_shorter() -> None:
    async def connects_late(clock: Clock) -> None:
        clock.arm(0.02, errors.connect_timeout)
        await asyncio.Event().wait()

    ex, _ = made(Up(first=connects_late))
    with pytest.raises(UpstreamError) as told:
        await asyncio.wait_for(ex.ask("x", b"", timeout=5), 5)
    assert told.value.code == "upstream_connect_timeout"
    ex, _ = made(Up(Answer(b"{", None)), timeouts={"idle": 0.02})
    with pytest.raises(UpstreamError) as told:
        await asyncio.wait_for(ex.ask("x", b"", timeout=5), 5)
    assert told.value.code == "upstream_idle_timeout"


async def test_a_longer_deadline_does_not_extend_its_time() -> None:
    async def waits_long(clock: Clock) -> None:
        clock.arm(600, errors.header_timeout)
        await asyncio.Event().wait()

    ex, _ = made(Up(first=waits_long))
    with pytest.raises(UpstreamError) as told:
        await asyncio.wait_for(ex.ask("x", b"", timeout=0.02), 5)
    assert told.value.code == "ask_timeout"


async def test_a_failure_of_the_upstream_is_the_plugins_to_see() -> None:
    async def refuses(clock: Clock) -> None:
        raise errors.reset()

    ex, flight = made(Up(first=refuses))
    with pytest.raises(UpstreamError) as told:
        await ex.ask("x", b"", timeout=1)
    assert told.value.code == "upstream_reset"
    assert flight.cause is None


async def test_an_answer_has_a_bound() -> None:
    up = Up(Answer(b"x" * LIMIT))
    ex, _ = made(up)
    assert len((await ex.ask("x", b"", timeout=1)).body) == LIMIT
    up = Up(Answer(b"x" * LIMIT, b"x", None))
    ex, _ = made(up)
    with pytest.raises(UpstreamError) as told:
        await ex.ask("x", b"", timeout=5)
    assert (told.value.status, told.value.code) == (502, "ask_answer_too_large")
    assert up.answer.closed == 1


async def test_an_empty_answer_is_one() -> None:
    ex, _ = made(Up(Answer()))
    assert (await ex.ask("x", b"", timeout=1)).body == b""


async def test_questions_are_counted() -> None:
    up = Up(Answer())
    ex, _ = made(up)
    for _ in range(MOST):
        await ex.ask("x", b"", timeout=1)
    with pytest.raises(UpstreamError) as told:
        await ex.ask("x", b"", timeout=1)
    assert told.value.code == "ask_limit"
    assert len(up.asked) == MOST
    other, _ = made(up)
    await other.ask("x", b"", timeout=1)


async def test_the_end_of_the_exchange_cuts_off_what_is_being_asked() -> None:
    ex, flight = made(Up(first=hangs))
    asking = [asyncio.create_task(ex.ask("x", b"", timeout=60)) for _ in range(2)]
    await asyncio.sleep(0.01)
    flight.begin_ending()
    for told in await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 5):
        assert isinstance(told, UpstreamError)
        assert told.code == "ask_too_late"
    assert not any(task.cancelled() for task in asking)
    with pytest.raises(UpstreamError) as late:
        await ex.ask("x", b"", timeout=1)
    assert late.value.code == "ask_too_late"


async def test_a_question_that_was_answered_is_not_cut_off() -> None:
    ex, flight = made(Up())
    await ex.ask("x", b"", timeout=60)
    flight.begin_ending()
    await asyncio.sleep(0.01)  # a timer that was left behind would cancel this task


async def test_who_is_cancelled_hears_that_and_the_answer_is_closed() -> None:
    up = Up(Answer(b"{", None))
    ex, _ = made(up)
    asking = asyncio.create_task(ex.ask("x", b"", timeout=60))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert up.answer.closed == 1


async def test_a_client_that_leaves_ends_a_question_in_a_hook() -> None:
    up = Up(first=hangs)
    ex, _ = made(up)
    driver = ex._driver
    assert isinstance(driver, Flight)
    asking = asyncio.create_task(ex.ask("x", b"", timeout=60))
    driver._task = asking  # the task of the request is where hooks run
    await asyncio.sleep(0.01)
    driver.interrupt(ClientError(402, "over", "m"))
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert driver.cause is not None
    assert len(up.asked) == 1
