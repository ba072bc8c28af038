from plugins.limiter.redis.breaker import FAILURES, Breaker


def test_it_opens_after_failures_in_a_row_and_an_answer_closes_it() -> None:
    breaker, reason = Breaker(), TimeoutError()
    for _ in range(FAILURES - 1):
        assert not breaker.failed(reason)
    assert not breaker.answered()  # it was not open; they count anew
    assert breaker.reason is None
    for _ in range(FAILURES - 1):
        assert not breaker.failed(reason)
    assert not breaker.open
    assert breaker.failed(reason)
    assert breaker.open
    assert not breaker.failed(reason)  # it is open already
    assert breaker.reason is reason
    assert breaker.answered()
    assert not breaker.open
