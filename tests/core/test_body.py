import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.api.errors import ClientError, ClientGone
from proxy.core.body import Body, Stream, too_large
from proxy.core.flight import Flight

GONE: dict[str, Any] = {"type": "http.disconnect"}


class Client:
    """ASGI's receive over a script; asking for more than there is fails."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        await asyncio.sleep(0)
        return self.messages.pop(0)


def pieces(*body: bytes) -> list[dict[str, Any]]:
    last = len(body) - 1
    return [{"type": "http.request", "body": piece, "more_body": n < last} for n, piece in enumerate(body)]


def made(
    *messages: dict[str, Any], limit: int = 100, framed: bool = True, length: int | None = None
) -> tuple[Body, Client, Flight]:
    client = Client(*messages)
    flight = Flight(3600)
    body = Body(client.receive, flight, limit=limit, idle=7)
    body.framed = framed
    body.length = length
    return body, client, flight


async def test_nothing_is_received_before_somebody_asks() -> None:
    _, client, _ = made(*pieces(b"a"))
    await asyncio.sleep(0)
    assert client.asked == 0


# -- read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [[b"abc"], [b"a", b"bc"], [b"", b"a", b"", b"bc", b""]])
async def test_reading_gives_the_whole_once_and_for_all(script: list[bytes]) -> None:
    body, client, _ = made(*pieces(*script))
    assert await body.read() == b"abc"
    assert await body.read() == b"abc"
    assert await body.outgoing() == b"abc"
    assert client.asked == len(script)


async def test_an_empty_body_is_read_once_too() -> None:
    body, client, _ = made(*pieces(b""))
    assert await body.read() == await body.read() == b""
    assert client.asked == 1


async def test_a_body_of_just_the_limit_is_read() -> None:
    body, _, _ = made(*pieces(b"x" * 60, b"x" * 40), limit=100, length=100)
    assert len(await body.read()) == 100


async def test_what_promises_to_be_too_large_is_refused_unread() -> None:
    body, client, _ = made(*pieces(b"x"), limit=100, length=101)
    with pytest.raises(ClientError) as caught:
        await body.read()
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")
    assert client.asked == 0


async def test_what_turns_out_to_be_too_large_is_refused_at_that_piece() -> None:
    body, client, _ = made(*pieces(b"x" * 60, b"x" * 60, b"x" * 60), limit=100)
    with pytest.raises(ClientError) as caught:
        await body.read()
    assert caught.value.status == 413
    assert client.asked == 2


def test_the_refusal_names_the_setting() -> None:
    assert "100 bytes (limits_http.json_body)" in too_large(100).message


async def test_a_client_that_leaves_while_it_sends() -> None:
    body, _, _ = made(*pieces(b"a", b"b")[:1], GONE)
    with pytest.raises(ClientGone) as caught:
        await body.read()
    assert caught.value.code == "client_closed_upload"


async def test_each_piece_has_its_time_and_what_comes_after_has_none() -> None:
    body, client, flight = made(*pieces(b"a", b"b"))
    at_rest = flight.deadline
    due: list[float] = []
    receive = client.receive

    async def received() -> Any:
        due.append(flight.deadline - asyncio.get_running_loop().time())
        late = flight.late()
        assert (late.status, late.code, late.source) == (408, "request_timeout", "client")
        return await receive()

    body._receive = received
    await body.read()
    assert due == [pytest.approx(7, abs=1)] * 2
    assert flight.deadline == at_rest


# -- replace -------------------------------------------------------------------------------------------


async def test_a_body_that_was_read_can_be_replaced() -> None:
    body, _, _ = made(*pieces(b"old"))
    await body.read()
    body.replace(b"new")
    assert await body.read() == b"new"
    assert await body.outgoing() == b"new"


async def test_one_that_was_not_cannot() -> None:
    body, _, _ = made(*pieces(b"old"))
    with pytest.raises(RuntimeError, match="read the body before"):
        body.replace(b"new")


async def test_a_request_without_a_body_can_get_one() -> None:
    body, client, _ = made(framed=False)
    body.replace(b"new")
    assert await body.outgoing() == b"new"
    assert client.asked == 0


# -- outgoing ------------------------------------------------------------------------------------------


async def test_a_body_that_came_in_one_piece_goes_out_whole() -> None:
    body, _, _ = made(*pieces(b"abc"))
    assert await body.outgoing() == b"abc"
    assert await body.outgoing() == b"abc"


async def test_an_empty_body_is_one_if_it_was_framed() -> None:
    assert await made(*pieces(b""))[0].outgoing() == b""
    assert await made(*pieces(b""), framed=False)[0].outgoing() is None


async def test_a_client_that_leaves_before_its_body() -> None:
    with pytest.raises(ClientGone) as caught:
        await made(GONE)[0].outgoing()
    assert caught.value.code == "client_closed_upload"


@pytest.mark.parametrize("script", [[b"a", b"b"], [b"", b"", b"a", b"", b"b", b""], [b"ab", b""]])
async def test_what_comes_in_pieces_goes_on_in_pieces(script: list[bytes]) -> None:
    body, client, flight = made(*pieces(*script), length=2)
    outgoing = await body.outgoing()
    assert isinstance(outgoing, Stream)
    assert outgoing.length == 2
    ended: list[int] = []
    outgoing.on_end = lambda: ended.append(client.asked)
    assert [piece async for piece in outgoing] == [piece for piece in script if piece]
    assert ended == [len(script)]  # once, with the last message
    assert flight.cause is None


async def test_a_streamed_body_is_not_held_so_its_size_does_not_matter() -> None:
    body, _, _ = made(*pieces(*[b"x" * 50] * 10), limit=100)
    outgoing = await body.outgoing()
    assert isinstance(outgoing, Stream)
    assert sum([len(piece) async for piece in outgoing]) == 500


async def test_a_client_that_breaks_off_interrupts_the_exchange_and_ends_nothing() -> None:
    body, _, flight = made(*pieces(b"a", b"b", b"c")[:2], GONE)
    outgoing = await body.outgoing()
    assert isinstance(outgoing, Stream)
    ended: list[int] = []
    outgoing.on_end = lambda: ended.append(1)
    assert [await anext(outgoing), await anext(outgoing)] == [b"a", b"b"]
    with pytest.raises(ClientGone):
        await anext(outgoing)
    assert isinstance(flight.cause, ClientGone)
    assert flight.cause.code == "client_closed_upload"
    assert ended == []


async def test_nothing_is_asked_for_ahead() -> None:
    body, client, _ = made(*pieces(b"a", b"b", b"c"))
    outgoing = await body.outgoing()
    assert isinstance(outgoing, Stream)
    assert client.asked == 1
    assert await anext(outgoing) == b"a"
    assert client.asked == 1
    assert await anext(outgoing) == b"b"
    assert client.asked == 2


# -- peek ----------------------------------------------------------------------------------------------


async def streamed(body: Body) -> list[bytes]:
    """What goes upstream, piece by piece."""
    out = await body.outgoing()
    assert isinstance(out, Stream)
    return [piece async for piece in out]


async def test_a_peek_takes_no_more_than_it_needs_and_all_of_it_still_goes_upstream() -> None:
    body, client, _ = made(*pieces(b"ab", b"cd", b"ef"), length=6)
    assert await body.peek(3) == b"abc"
    assert client.asked == 2
    assert await body.peek(2) == b"ab"
    assert client.asked == 2
    assert await streamed(body) == [b"abcd", b"ef"]


async def test_a_longer_peek_goes_on() -> None:
    body, _, _ = made(*pieces(b"ab", b"cd", b"ef"), length=6)
    assert await body.peek(1) == b"a"
    assert await body.peek(4) == b"abcd"
    assert await streamed(body) == [b"abcd", b"ef"]


@pytest.mark.parametrize("script", [[b"abc"], [b"a", b"bc"], [b"", b"abc", b""]])
async def test_of_a_short_body_a_peek_has_all(script: list[bytes]) -> None:
    body, client, _ = made(*pieces(*script))
    assert await body.peek(100) == b"abc"
    assert client.asked == len(script)
    assert await body.peek(2) == b"ab"
    assert await body.read() == b"abc"
    assert await body.outgoing() == b"abc"


async def test_what_was_peeked_at_can_be_read_within_the_limit() -> None:
    body, _, _ = made(*pieces(b"ab", b"cd", b"ef"))
    assert await body.peek(1) == b"a"
    assert await body.read() == b"abcdef"
    assert await body.outgoing() == b"abcdef"
    large, _, _ = made(*pieces(b"x" * 60, b"x" * 60))
    await large.peek(1)
    with pytest.raises(ClientError, match="larger"):
        await large.read()


async def test_what_was_only_peeked_at_cannot_be_replaced() -> None:
    body, _, _ = made(*pieces(b"ab", b"cd"))
    await body.peek(1)
    with pytest.raises(RuntimeError, match="half-read"):
        body.replace(b"x")


async def test_without_a_body_there_is_nothing_to_peek_at() -> None:
    body, _, _ = made(*pieces(b""), framed=False)
    assert await body.peek(10) == b""
    assert await body.outgoing() is None


async def test_a_client_that_leaves_during_a_peek_is_gone() -> None:
    body, _, _ = made(pieces(b"ab", b"cd")[0], GONE)
    with pytest.raises(ClientGone):
        await body.peek(4)


# -- listening -----------------------------------------------------------------------------------------


class Server:
    """Our own server's side: it has the body at once, and calls back when the client leaves."""

    def __init__(self, body: bytes | None, watched: bool = False) -> None:
        self.body = body
        self.watched = watched
        self.gone: Callable[[str], None] | None = None

    def take(self) -> bytes | None:
        return self.body

    def watch(self, gone: Callable[[str], None]) -> None:
        self.gone = gone


async def listened(server: Server) -> Flight:
    flight = Flight(3600)
    body = Body(Client().receive, flight, limit=100, idle=7, client=server)
    body.framed = True
    body.at_hand()
    body.listen()
    return flight


async def test_once_the_body_is_here_a_client_that_leaves_ends_the_exchange() -> None:
    server = Server(b"abc")
    flight = await listened(server)
    assert server.gone is not None
    server.gone("client_closed")
    assert isinstance(flight.cause, ClientGone)


@pytest.mark.parametrize("server", [Server(None), Server(b"abc", watched=True)])
async def test_who_still_sends_or_is_watched_is_not_listened_to(server: Server) -> None:
    await listened(server)
    assert server.gone is None


async def test_other_servers_do_not_call_back() -> None:
    body, _, flight = made(*pieces(b"abc"))
    await body.read()
    body.listen()
    assert flight.cause is None
