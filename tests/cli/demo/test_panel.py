"""The panel after a chat."""

from collections.abc import Mapping

import click
import pytest

from proxy.cli.demo.chat import Heard
from proxy.cli.demo.panel import panel
from proxy.cli.screen import Screen

HEADERS = {
    "x-weir-estimated-input-tokens": "18",
    "x-weir-estimate-method": "tiktoken",
    "x-weir-estimated-cost-usd": "0.009832500000",
    "server-timing": "auth;dur=0.021, precost;dur=0.8, upstream;dur=32.4",
    "x-ratelimit-limit-requests": "3",
    "x-ratelimit-remaining-requests": "2",
    "x-ratelimit-reset-requests": "1.5s",
}
NOTE = {"cost_usd": "0.0000369", "input_tokens": 18, "output_tokens": 57}


@pytest.fixture
def screen() -> Screen:
    made = Screen()
    made.drawn = made.coloured = False
    made.width = 80
    return made


@pytest.fixture
def drawn(screen: Screen) -> Screen:
    screen.drawn = screen.coloured = True
    return screen


def heard(headers: Mapping[str, str] = HEADERS, note: Mapping[str, object] = NOTE) -> Heard:
    return Heard(headers, dict(note), first=0.035, total=1.2)


def test_plain(screen: Screen) -> None:
    assert panel(screen, heard(), "what Weir tells") == [
        "what Weir tells",
        "  tokens    18 in, 57 out",
        "  estimate  18 in (counted), at most $0.0098325",
        "  cost      $0.0000369",
        "  time      auth              0.02 ms #",
        "            precost           0.80 ms #",
        "            upstream         32.40 ms ########################",
        "            first text after 35 ms, all of it after 1200 ms",
        "  limits    2 of 3 requests left, all again in 1.5s",
    ]


def test_drawn_it_is_a_frame_around_the_same(drawn: Screen) -> None:
    lines = [click.unstyle(line) for line in panel(drawn, heard(), "what Weir tells")]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[0].startswith("╭─ what Weir tells ─")
    assert (lines[0][-1], lines[-1][0], lines[-1][-1]) == ("╮", "╰", "╯")
    assert all(line[0] == line[-1] == "│" for line in lines[1:-1])
    assert "│ cost      $0.0000369 " in lines[3]
    assert "▏" in lines[4]
    assert "█" * 24 in lines[6]
    assert "#" not in "".join(lines)


def test_a_title_that_is_longer_than_all_the_rest_has_its_frame(drawn: Screen) -> None:
    lines = [click.unstyle(line) for line in panel(drawn, heard({}, {}), "x" * 60)]
    assert {len(line) for line in lines} == {len(lines[0])}


def test_colours_only_where_there_are(drawn: Screen) -> None:
    assert any("\x1b[" in line for line in panel(drawn, heard(), "t"))
    drawn.coloured = False
    assert not any("\x1b[" in line for line in panel(drawn, heard(), "t"))


def test_what_weir_did_not_tell_is_not_made_up(screen: Screen) -> None:
    assert panel(screen, Heard({}, {}, first=None, total=0.5), "t") == [
        "t",
        "  tokens    not told",
        "  estimate  not told",
        "  cost      not told",
        "            all of it after 500 ms",
    ]


@pytest.mark.parametrize(
    ("note", "says"),
    [
        ({**NOTE, "cost_usd": None, "unpriced": True}, "not known: there is no price for this model"),
        ({**NOTE, "cost_usd": "1.5", "estimated": True}, "$1.50, by an estimate"),
        ({**NOTE, "cost_usd": "30"}, "$30.00"),
        ({**NOTE, "cost_usd": "0"}, "$0.00"),
        ({**NOTE, "cost_usd": "1E-7"}, "$0.0000001"),
        ({**NOTE, "cost_usd": "NaN"}, "not told"),
        ({**NOTE, "cost_usd": "1E+999999"}, "not told"),
        ({**NOTE, "cost_usd": "a lot"}, "not told"),
        ({**NOTE, "cost_usd": ["0.1"]}, "not told"),
    ],
)
def test_costs(screen: Screen, note: Mapping[str, object], says: str) -> None:
    assert panel(screen, heard(note=note), "t")[3] == f"  cost      {says}"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x-weir-estimate-method": "upper_bound"}, "18 in (at most), at most $0.0098325"),
        ({"x-weir-estimate-method": "upstream"}, "18 in (counted upstream), at most $0.0098325"),
        ({"x-weir-estimate-method": ""}, "18 in, at most $0.0098325"),
        ({"x-weir-estimated-cost-usd": ""}, "18 in (counted), without a price"),
    ],
)
def test_estimates(screen: Screen, changes: dict[str, str], says: str) -> None:
    assert panel(screen, heard({**HEADERS, **changes}), "t")[2] == f"  estimate  {says}"


@pytest.mark.parametrize("timing", ["", "cache;desc=hit", "a;dur=.", "a;dur=1.2.3", ",,;"])
def test_timing_that_says_no_time(screen: Screen, timing: str) -> None:
    lines = panel(screen, heard({"server-timing": timing}), "t")
    assert not any(" ms " in line and "after" not in line for line in lines)


def test_timing_of_nothing_but_zeros_has_no_bars(screen: Screen) -> None:
    lines = panel(screen, heard({"server-timing": "a;dur=0, b;dur=0.0"}), "t")
    assert [line for line in lines if line.rstrip().endswith("0.00 ms")] == lines[4:6]


def test_a_server_cannot_fill_the_screen_or_move_its_cursor(screen: Screen) -> None:
    many = ", ".join(f"hop{at};dur=1" for at in range(1000))
    assert len(panel(screen, heard({"server-timing": many}), "t")) < 50
    hostile = {name: f"\x1b[2J{value}" for name, value in HEADERS.items()}
    assert "\x1b" not in "".join(panel(screen, heard(hostile), "t"))


def test_both_kinds_of_limits(screen: Screen) -> None:
    tokens = {"x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "0"}
    assert panel(screen, heard({**HEADERS, **tokens}), "t")[-2:] == [
        "  limits    2 of 3 requests left, all again in 1.5s",
        "            0 of 9 tokens left",
    ]
