from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.auth import limits


def test_they_stay_as_they_are() -> None:
    said = [
        {"requests": "100/minute", "on": "chat"},
        {"cost": "0.25/hour", "name": "money"},
        {"in_flight": 3},
    ]
    assert limits.read(said) == tuple(said)
    assert limits.read(()) == ()


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("requests=100/minute", {"requests": "100/minute"}),
        (" requests = 100/minute , on = chat", {"requests": "100/minute", "on": "chat"}),
        ("in_flight=5", {"in_flight": 5}),
        ("tokens=10/day,burst=20,shadow=true", {"tokens": "10/day", "burst": 20, "shadow": True}),
        ("cost=0.5/month,models=gpt-4o*", {"cost": "0.5/month", "models": "gpt-4o*"}),
    ],
)
def test_one_line(text: str, limit: dict[str, Any]) -> None:
    assert limits.parse(text) == limit


@pytest.mark.parametrize("text", ["", "requests", "requests=", "=5", "requests=1/day,requests=2/day"])
def test_no_line_of_that_kind(text: str) -> None:
    with pytest.raises(ValueError, match="is not a limit like requests=100/minute"):
        limits.parse(text)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("requests", "limits is a list"),
        ({"requests": "1/day"}, "limits is a list"),
        (7, "limits is a list"),
        (["requests"], r"limits\[0\] is not an entry"),
        ([{}], r"limits\[0\]: a limit has one of requests"),
        ([{"requests": "1/day", "cost": "1/day"}], "has one of"),
        ([{"requests": "1/day", "per": "user"}], "per goes without saying"),
        ([{"request": "1/day"}], "unknown key 'request'"),
        ([{"requests": "1/week"}], "'week' is not one of second"),
        ([{"requests": "1"}], "an amount above 0 per window, like 100/minute"),
        ([{"requests": "0/day"}], "above 0"),
        ([{"requests": "1.5/day"}], "above 0"),
        ([{"requests": 5}], "above 0"),
        ([{"cost": "-1/day"}], r"like 20/day \(US dollars\)"),
        ([{"cost": "nan/day"}], "US dollars"),
        ([{"cost": "0.0/day"}], "US dollars"),
        ([{"in_flight": "5"}], "a whole number"),
        ([{"in_flight": True}], "a whole number"),
        ([{"in_flight": 0}], "a whole number"),
        ([{"requests": "1/day"}] * 21, "at most 20"),
        ([{"requests": "1/day", "name": "a"}, {"cost": "1/day", "name": "a"}], "two have the same name"),
    ],
)
def test_what_will_not_do_is_told(said: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        limits.read(said)


@given(st.text(max_size=40))
def test_any_text_is_a_limit_or_a_clear_error(text: str) -> None:
    try:
        limit = limits.parse(text)
    except ValueError:
        return
    assert limits.read([limit]) == (limit,)
