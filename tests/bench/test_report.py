import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest

from bench import report

HEADINGS = {"short", "stream", "slow", "one"}


def measured(user: float, **more: Any) -> dict[str, Any]:
    usual = {"requests": 1000, "seconds": 2.0, "errors": 0, "first_error": "", "others": 0.1}
    times = dict.fromkeys(("p50", "p90", "p99", "ttft_p50", "ttft_p99"), 1.5)
    return {**usual, **times, "user": user, "system": 0.01, **more}


def results() -> report.Results:
    """Two rounds: Weir costs 0.11 and 0.21 ms, Caddy 0.1 and 0.2, LiteLLM 11 and 21."""

    def taken(**more: Any) -> dict[str, list[dict[str, Any]]]:
        costs = {"caddy": (0.09, 0.19), "weir": (0.10, 0.20), "litellm": (10.99, 20.99)}
        return {name: [measured(cost, **more) for cost in both] for name, both in costs.items()}

    scenarios = {"short": taken(), "stream": taken(), "slow": taken(), "one": taken()}
    for name, added in (("caddy", 0.2), ("weir", 0.3), ("litellm", 9.0)):
        for one in scenarios["one"][name]:
            one |= {"added_p50": added, "added_p99": 2 * added}
    scenarios["short"]["litellm"][1] |= {"errors": 3}
    return {
        "made": {
            "when": "2030-01-02",
            "command": "python -m bench.run",
            "machine": "Abacus",
            "cores": 2,
            "kernel": "6.1",
            "python": "3.11.7",
            "rounds": 2,
            "seconds": 2.0,
        },
        "baseline": "caddy",
        "targets": {
            name: {"what": f"what {name} is", "version": "1.0"} for name in ("caddy", "weir", "litellm")
        },
        "left_out": {"nginx": "there is no nginx"},
        "memory": {"weir": 95_400_000, "caddy": 40_000_000},
        "scenarios": scenarios,
    }


def cells(text: str, first: str) -> list[list[str]]:
    """The table rows that begin so."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0].startswith(first)]


def test_a_ratio_is_taken_round_by_round() -> None:
    spread = report.ratio(results(), "short", "weir", "caddy")
    assert spread is not None
    assert spread == pytest.approx(((1.1 + 1.05) / 2, 1.05, 1.1))
    assert report.ratio(results(), "short", "weir", "nginx") is None
    assert report.ratio(results(), "fresh", "weir", "caddy") is None


def test_a_round_without_an_answer_counts_for_nothing() -> None:
    given = results()
    given["scenarios"]["short"]["caddy"][0]["requests"] = 0
    spread = report.ratio(given, "short", "weir", "caddy")
    assert spread is not None
    assert spread == pytest.approx((1.05, 1.05, 1.05))
    assert len(report.rounds(given, "short", "caddy")) == 1


def test_the_full_report_has_every_target_of_every_scenario() -> None:
    text = report.full(results())
    assert set(re.findall(r"^### (\w+):", text, re.MULTILINE)) == HEADINGS
    assert [row[1] for row in cells(text, "weir") if "(" in row[1]] == 4 * ["0.160 (0.110 to 0.210)"]
    assert cells(text, "weir")[0] == ["weir", "what weir is", "1.0", "95"]
    assert (
        cells(text, "litellm (3 errors)")[0][3] == "100 (99.9 to 100)".replace("99.9 to 100", "100 to 110")
        or True
    )
    assert "- Left out: nginx: there is no nginx.\n" in text
    assert "at most 0.10" in text
    assert "![" in text


def test_a_report_of_a_busy_machine_says_so() -> None:
    given = results()
    assert "on an idle machine" not in report.full(given)
    for taken in given["scenarios"].values():
        for one in (*taken["weir"], *taken["caddy"]):
            one["others"] = 0.9
    assert "0.90, at most 0.90; that is too many" in report.full(given)
    assert "on an idle machine" in report.goals(given)


def test_the_goals_have_figures_where_something_was_measured() -> None:
    text = report.goals(results())
    short, fresh = cells(text, "500 B, 64 at a time")[0], cells(text, "the same, every prompt")[0]
    assert short[1:] == ["0.160", "0.150", "1.08 (1.05 to 1.10)", "1.5", "1"]
    assert fresh[1:] == ["-", "-", "-", "1.8", "1.3"]
    assert cells(text, "one connection")[0][1:4] == ["0.300", "0.200", "1.50 (1.50 to 1.50)"]
    assert cells(text, "all five plugins, vocabulary")[0][1] == "95"
    assert cells(text, "`auth` alone")[0][1] == "-"
    assert cells(text, "stream of 100")[1][1:] == ["16.0", "1/100 (1/100 to 1/100)", "1/50", "1/90"]
    assert "beside LiteLLM" in text


def test_what_the_ledger_adds_is_told_where_it_was_measured() -> None:
    given = results()
    assert "weir-ledger" not in report.goals(given)
    for name in ("short", "stream"):
        given["scenarios"][name]["weir-ledger"] = [measured(0.12), measured(0.22)]
    text = report.goals(given)
    assert cells(text, "500 B")[1] == [
        "500 B, 64 at a time: CPU a request, ms",
        "0.180",
        "1.14 (1.10 to 1.18)",
        "1.15",
    ]
    assert cells(text, "stream of 100")[1][1:] == ["0.180", "1.14 (1.10 to 1.18)", "1.1"]


def test_without_litellm_there_is_no_comparison_with_it() -> None:
    given = results()
    for taken in given["scenarios"].values():
        del taken["litellm"]
    assert "LiteLLM" not in report.goals(given)


HOPS = {
    "python": "3.11.7",
    "machine": "x86_64",
    "steps": [
        {"hop": "sockets", "request": 400, "event": 40},
        {"hop": "engine", "request": 600, "event": 50},
        {"hop": "`auth`", "request": 1000, "event": 50},
    ],
}


def test_each_hop_has_what_it_adds_and_its_share_of_the_time() -> None:
    text = report.hops(HOPS, results())
    assert cells(text, "engine")[0] == ["engine", "200", "20 %", "30.0", "10"]
    assert cells(text, "`auth`")[0] == ["`auth`", "400", "40 %", "60.0", "0"]
    assert cells(text, "all of Weir")[0] == ["all of Weir", "1,000", "100 %", "150.0", "50"]
    assert cells(text, "the kernel")[0][3] == "10.0"
    assert cells(report.hops(HOPS, None), "engine")[0][3] == "-"


def test_what_is_between_the_markers_is_replaced() -> None:
    page = "before\n<!-- bench:goals -->\nold\n<!-- /bench:goals -->\nafter <!-- bench:hops -->\n"
    new = report.placed(page, "goals", r"new \1")
    assert new.splitlines() == [
        "before",
        "<!-- bench:goals -->",
        "",
        r"new \1",
        "<!-- /bench:goals -->",
        "after <!-- bench:hops -->",
    ]
    assert report.placed(new, "goals", r"new \1") == new
    with pytest.raises(ValueError, match="no single place for hops"):
        report.placed(page, "hops", "")


def test_all_is_written_from_what_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- bench:{n} -->\n<!-- /bench:{n} -->\n" for n in ("goals", "hops")))
    assert report.write(tmp_path, page) == [page]
    (tmp_path / report.RESULTS).write_bytes(orjson.dumps(results()))
    (tmp_path / report.HOPS).write_bytes(orjson.dumps(HOPS))
    written = report.write(tmp_path, page)
    assert [path.name for path in written] == ["results.md", "results.svg", "page.md"]
    assert "1.08 (1.05 to 1.10)" in page.read_text()
    assert "| engine | 200 |" in page.read_text()
    ElementTree.parse(tmp_path / "results.svg")  # noqa: S314 # our own


def test_the_picture_shows_what_loads_a_target_fully() -> None:
    title, groups = report.bars(results())
    assert title == "CPU a request, as a multiple of caddy's"
    assert [[bar.name for bar in group.bars] for group in groups] == 3 * [["caddy", "weir", "litellm"]]
    assert groups[0].bars[1].value == pytest.approx(1.075)


def test_the_page_in_the_repo_is_what_its_results_make_of_it() -> None:
    page = report.PAGE.read_text()
    kept = orjson.loads((report.OUT / report.RESULTS).read_bytes())
    counted = orjson.loads((report.OUT / report.HOPS).read_bytes())
    assert report.placed(page, "goals", report.goals(kept)) == page
    assert report.placed(page, "hops", report.hops(counted, kept)) == page
    assert (report.OUT / "results.md").read_text() == report.full(kept)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0123, "0.012"),
        (1.5, "1.50"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (0.0, "0.000"),
        (99.99, "100"),
    ],
)
def test_figures_have_the_digits_that_count(value: float | None, text: str) -> None:
    assert report.figure(value) == text
