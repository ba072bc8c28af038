import asyncio
import os
import socket

import pytest

from proxy.core.server import channel
from proxy.core.server.channel import Channel, Message
from tests.faults.wire import until


def ends() -> tuple[Channel, Channel]:
    ours, theirs = Channel.pair()
    return ours, Channel(theirs)


def received(end: Channel) -> list[Message]:
    return [message for message, _ in end.receive() or []]


def test_messages_come_whole_and_in_order() -> None:
    one, other = ends()
    assert one.send({"do": "stop"})
    assert one.send({"text": "a\nb", "list": [1]})
    assert received(other) == [{"do": "stop"}, {"text": "a\nb", "list": [1]}]
    assert received(other) == []
    one.close()
    other.close()


def test_a_message_in_pieces_waits_for_its_end() -> None:
    ours, theirs = socket.socketpair()
    end = Channel(theirs)
    ours.send(b'{"do":"st')
    assert received(end) == []
    ours.send(b'op"}\n{"do"')
    assert received(end) == [{"do": "stop"}]
    ours.send(b':"reload"}\n')
    assert received(end) == [{"do": "reload"}]
    end.close()
    ours.close()


def test_sockets_come_with_their_messages() -> None:
    one, other = ends()
    pairs = [socket.socketpair() for _ in range(2)]
    one.send({"do": "serve", "n": 0}, pairs[0][0])
    one.send({"do": "stop"})
    one.send({"do": "serve", "n": 1}, pairs[1][0])
    for near, _ in pairs:
        near.close()
    found: list[tuple[Message, socket.socket | None]] = []
    while len(found) < 3:
        found += other.receive() or []
    assert [message for message, _ in found] == [
        {"do": "serve", "n": 0},
        {"do": "stop"},
        {"do": "serve", "n": 1},
    ]
    for number, (message, along) in enumerate([found[0], found[2]]):
        assert along is not None
        along.send(str(message["n"]).encode())
        assert pairs[number][1].recv(1) == str(number).encode()
        along.close()
        pairs[number][1].close()
    assert found[1][1] is None
    one.close()
    other.close()


def test_the_end_of_the_other_is_the_end() -> None:
    one, other = ends()
    one.send({"do": "stop"})
    one.close()
    assert received(other) == [{"do": "stop"}]
    assert other.receive() is None
    assert not other.send({"did": "start"})
    other.close()
    other.close()
    assert other.receive() is None
    assert not other.send({})


def test_who_does_not_listen_holds_nobody_up() -> None:
    one, other = ends()
    for _ in range(100_000):
        if not one.send({"text": "x" * 1000}):
            break
    else:
        raise AssertionError("it takes without end")
    one.close()
    other.close()


def test_a_message_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LINE", 100)
    ours, theirs = socket.socketpair()
    end = Channel(theirs)
    ours.send(b"x" * 101)
    assert end.receive() == []
    ours.send(b"x")
    assert end.receive() is None
    end.close()
    ours.close()


async def test_on_a_loop_it_calls_back() -> None:
    one, other = ends()
    heard: list[Message] = []
    gone = asyncio.Event()
    other.listen(lambda message, _: heard.append(message), gone.set)
    one.send({"n": 1})
    await until(lambda: heard == [{"n": 1}])
    assert not gone.is_set()
    one.close()
    await asyncio.wait_for(gone.wait(), 2)
    assert other.closed


async def test_what_came_along_and_was_not_asked_for_is_closed_with_it() -> None:
    one, theirs = Channel.pair()
    other = Channel(theirs)
    near, far = socket.socketpair()
    socket.send_fds(one._sock, [b'{"do":"serve","_socket":true'], [near.fileno()])  # without its end
    near.close()
    assert other.receive() == []
    before = len(os.listdir("/proc/self/fd"))
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before - 2
    assert far.recv(1) == b""
    far.close()
    one.close()
