from typing import Any

import orjson
import pytest

from plugins.limiter.limit import Limit
from plugins.limiter.meter import NEVER
from plugins.limiter.refusal import ended, refusal, unavailable, unpriced, unreadable
from proxy.api import Reply

CHAT = Limit("chat", "requests", 100, "minute")
MONEY = Limit("team", "cost", 5_000_000_000, "day", per="team")


def body(reply: Reply) -> Any:
    return orjson.loads(reply.body)


def test_it_names_the_limit_and_says_when_to_try_again() -> None:
    reply = refusal(CHAT, 1, 599_001)
    assert (reply.status, reply.code) == (429, "rate_limit_exceeded")
    said = 'The limit "chat" is reached: 100 requests a minute per user. Try again in 600ms.'
    assert body(reply) == {
        "error": {"message": said, "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"},
        "message": said,
        "retryAfter": 1,
    }
    assert reply.headers["retry-after"] == "1"
    assert reply.headers["retry-after-ms"] == "600"
    assert "x-should-retry" not in reply.headers


def test_the_end_of_a_stream_names_the_limit_and_promises_nothing() -> None:
    error = ended(MONEY)
    assert (error.status, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
    assert error.message == 'The answer ends here: the limit "team" is used up, 5 dollars a day per team.'
    assert error.retry_after is None


def test_the_wait_is_never_told_shorter_than_it_is() -> None:
    for wait in (1, 999, 1000, 1001, 4_035_000, 61_000_001):
        reply = refusal(CHAT, 1, wait)
        assert int(reply.headers["retry-after-ms"]) * 1000 >= wait
        assert int(reply.headers["retry-after-ms"]) * 1000 <= wait + 2000
        assert int(reply.headers["retry-after"]) * 1_000_000 >= wait


def test_money_that_has_run_out_is_not_asked_for_again() -> None:
    reply = refusal(MONEY, 7, 3_600_000_000)
    error = body(reply)["error"]
    assert (reply.status, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert error["message"] == 'The limit "team" is reached: 5 dollars a day per team. Try again in 1h0m0s.'
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["retry-after"] == "3600"


@pytest.mark.parametrize(
    ("limit", "amount", "code", "says"),
    [
        (Limit("t", "tokens", 100, "minute"), 250, "rate_limit_exceeded", "asks for 250 tokens"),
        (MONEY, 6_500_000_000, "insufficient_quota", "may cost 6.5 dollars"),
    ],
)
def test_what_can_never_pass_is_told_so(limit: Limit, amount: int, code: str, says: str) -> None:
    reply = refusal(limit, amount, NEVER)
    assert (reply.status, reply.code) == (429, code)
    assert reply.headers["x-should-retry"] == "false"
    assert "retry-after" not in reply.headers
    assert "retryAfter" not in body(reply)
    assert says in body(reply)["message"]
    assert f'"{limit.name}"' in body(reply)["message"]


def test_a_model_without_a_price() -> None:
    reply = unpriced(MONEY)
    assert (reply.status, body(reply)["error"]["code"], body(reply)["error"]["param"]) == (
        403,
        "unpriced_model",
        "model",
    )
    assert reply.headers["x-should-retry"] == "false"


def test_without_the_store_it_is_worth_trying_again_soon() -> None:
    reply = unavailable(Limit("money", "cost", 5, "day"))
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "limiter_unavailable", "1")
    assert b'\\"money\\"' in reply.body


def test_limits_that_cannot_be_read_are_not_the_clients_fault() -> None:
    reply = unreadable("limits[0]: no")
    assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")
    assert b"limits[0]: no" in reply.body
