from typing import get_args

import pytest

from plugins.limiter.budget import Budget
from plugins.limiter.gcra import Gcra
from plugins.limiter.leases import Leases
from plugins.limiter.limit import OF_KEYS, Kind, Limit


def test_the_burst_is_the_amount_unless_it_is_given() -> None:
    assert Limit("a", "requests", 100, "minute").burst == 100
    assert Limit("a", "requests", 100, "minute", burst=10).burst == 10


def test_each_kind_has_its_arithmetic() -> None:
    rate = Limit("a", "requests", 100, "minute", burst=10).meter
    assert isinstance(rate, Gcra)
    assert (rate.burst, rate.interval / rate.scale) == (10, 600_000)
    assert isinstance(Limit("a", "tokens", 100, "day").meter, Gcra)
    budget = Limit("a", "cost", 100, "month").meter
    assert isinstance(budget, Budget)
    assert (budget.amount, budget.window) == (100, "month")
    assert isinstance(Limit("a", "in_flight", 3).meter, Leases)


def test_what_is_counted_does_not_depend_on_how_much_may_be() -> None:
    limit = Limit("a", "requests", 100, "minute")
    assert limit.id == Limit("a", "requests", 5, "hour", on=("chat",), shadow=True).id
    assert limit.id != Limit("b", "requests", 100, "minute").id
    assert limit.id != Limit("a", "tokens", 100, "minute").id
    assert limit.id != Limit("a", "requests", 100, "minute", per="team").id


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (Limit("a", "requests", 100, "minute"), "100 requests a minute per user"),
        (Limit("a", "requests", 1, "hour", per="all"), "1 request an hour"),
        (Limit("a", "input_tokens", 5, "day", per="end_user"), "5 input tokens a day per end user"),
        (Limit("a", "tokens", 5, "month", per="team"), "5 tokens a month per team"),
        (Limit("a", "cost", 2_500_000_000, "day", per="key"), "2.5 dollars a day per key"),
        (Limit("a", "in_flight", 4, per="model"), "4 requests at a time per model"),
        (Limit("a", "cost", 10**9, "day", per="all", rolling=True), "1 dollars a day, rolling"),
    ],
)
def test_it_says_what_it_is(limit: Limit, text: str) -> None:
    assert str(limit) == text


def test_every_keys_own_limit_has_a_table_and_there_are_no_more() -> None:
    tables = {limit.id for limit in OF_KEYS}
    assert len(tables) == len(OF_KEYS)
    for kind in get_args(Kind):
        window = "" if kind == "in_flight" else "day"
        assert Limit("any name", kind, 7, window, per="key", of_key=True).id in tables
    assert Limit("any name", "cost", 7, "hour", rolling=True, of_key=True).id in tables
