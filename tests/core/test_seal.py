import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from proxy.core.seal import FIELDS, sealed, sealing

DATE = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second that RFC 9110 takes for its example."""
    monkeypatch.setattr(time, "time", lambda: 784111777.9)


def test_an_answer_of_our_own_is_not_kept_framed_or_guessed_at() -> None:
    assert sealed([(b"content-type", b"application/json")]) == [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"frame-ancestors 'none'"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        DATE,
    ]


def test_the_date_is_that_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for second in (0, 784111778, 2**31):
        monkeypatch.setattr(time, "time", lambda second=second: second + 0.5)
        _, told = sealed([])[-1]
        assert parsedate_to_datetime(told.decode()).timestamp() == second
    own = (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")
    assert [pair for pair in sealed([own]) if pair[0] == b"date"] == [own]


def test_what_an_answer_says_of_itself_stays() -> None:
    pairs = [
        (b"x-frame-options", b"SAMEORIGIN"),
        (b"a", b"1"),
        (b"a", b"2"),
        (b"cache-control", b"max-age=5"),
    ]
    made = sealed(pairs)
    assert made[:4] == pairs
    assert made[4:] == [*FIELDS[1:3], DATE]


def test_what_came_in_is_not_changed() -> None:
    pairs: list[tuple[bytes, bytes]] = []
    sealed(pairs)
    assert pairs == []


async def test_a_send_adds_them_to_the_head_alone() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    made = sealing(send)
    start: dict[str, Any] = {"type": "http.response.start", "status": 200}
    body = {"type": "http.response.body", "body": b"x"}
    await made(start)
    await made(body)
    assert sent == [{**start, "headers": [*FIELDS, DATE]}, body]
    assert "headers" not in start
