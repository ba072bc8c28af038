from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import guard, report, ungated
from bench.process import Process
from bench.weir import PLUGINS
from tests.ports import row

from .conftest import ROOT

FIGURES = {"request": 1000, "event": 100}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "guard.json"
    monkeypatch.setattr(guard, "KEPT", path)
    return path


def counting(monkeypatch: pytest.MonkeyPatch, **figures: int) -> list[list[str]]:
    """What a count comes to, and the chains that were counted."""
    chains: list[list[str]] = []

    def counted(plugins: list[str], work: Path, port: int) -> dict[str, int]:
        chains.append(list(plugins))
        return {**FIGURES, **figures}

    monkeypatch.setattr(guard, "of_weir", counted)
    return chains


def ran(tmp_path: Path, *options: str) -> int:
    return guard.main(["--work", str(tmp_path), *options])


def test_the_same_again_is_no_rise(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chains = counting(monkeypatch)
    assert ran(tmp_path, "--update") == 0
    assert ran(tmp_path) == 0
    assert chains == 2 * [["auth"], ["tracing", "auth", "precost", "limiter", "annotate"]]
    assert orjson.loads(kept.read_bytes())["instructions"]["auth alone"] == FIGURES


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"request": 1051}, "a request takes 5.1 % more instructions than 1,000"),
        ({"event": 106}, "an event takes 6.0 % more instructions than 100"),
    ],
)
def test_a_rise_is_told(
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    figures: dict[str, int],
    said: str,
) -> None:
    counting(monkeypatch)
    ran(tmp_path, "--update")
    counting(monkeypatch, **figures)
    assert ran(tmp_path) == 1
    assert f"guard: all five plugins: {said}\n" in capsys.readouterr().err


@pytest.mark.parametrize("figures", [{"request": 1050}, {"request": 500, "event": 50}])
def test_less_and_little_more_is_none(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: dict[str, int]
) -> None:
    counting(monkeypatch)
    ran(tmp_path, "--update")
    counting(monkeypatch, **figures)
    assert ran(tmp_path) == 0


@pytest.mark.parametrize(("field", "value"), [("python", "3.99.1"), ("machine", "abacus")])
def test_figures_of_another_place_are_not_compared(
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    field: str,
    value: str,
) -> None:
    chains = counting(monkeypatch)
    ran(tmp_path, "--update")
    changed = orjson.loads(kept.read_bytes())
    kept.write_bytes(orjson.dumps({**changed, field: value}))
    chains.clear()
    assert ran(tmp_path) == 2
    assert "not to be compared; see --update" in capsys.readouterr().err
    assert not chains
    assert ran(tmp_path, "--update") == 0


def test_without_figures_it_says_how_to_get_them(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counting(monkeypatch)
    assert ran(tmp_path) == 2
    assert "--update writes it" in capsys.readouterr().err


def test_without_valgrind_it_says_where_it_is(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert ran(tmp_path) == 2
    assert capsys.readouterr().err == "guard: there is no valgrind; on Debian: apt-get install valgrind\n"


def test_what_is_kept_is_what_is_counted() -> None:
    """The file in the repo has a figure for each setting that `make guard` measures."""
    kept = orjson.loads((ROOT / "bench" / "guard.json").read_bytes())
    assert {name: set(figures) for name, figures in kept["instructions"].items()} == {
        name: {"request", "event"} for name in guard.SETTINGS
    }
    assert min(value for figures in kept["instructions"].values() for value in figures.values()) > 1000


def test_the_chain_grows_plugin_by_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chains = counting(monkeypatch)
    monkeypatch.setattr(guard, "of_baseline", lambda work, port: FIGURES)
    steps = guard.hops(tmp_path, 9180)["steps"]
    assert [len(chain) for chain in chains] == [0, 1, 2, 3, 4, 5]
    assert [step["hop"] for step in steps][2:] == [f"`{name}`" for name in PLUGINS]


class _Program:
    """Counts as callgrind would, had each chat 7 instructions and each event 3, on top of a start of 1000."""

    def __init__(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process = process
        self._count = 0
        monkeypatch.setattr(guard, "Lockstep", lambda port, listening: self)

    def count(self, work: Callable[[], None]) -> int:
        self._count = 1000
        work()
        return self._count

    def chats(self, count: int) -> None:
        self._count += 7 * count

    def streams(self, count: int, events: int) -> None:
        self._count += count * (500 + 3 * events)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("fine", "found"), [(False, {"request": 7, "event": 3}), (True, {"request": 7})])
def test_what_is_not_of_a_request_or_an_event_drops_out(
    fine: bool, found: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `fine` a small difference is sought in many short loads."""
    monkeypatch.setattr(guard, "listens", lambda port: True)
    process = Process("sleep", ["sleep", "60"], tmp_path)
    try:
        program: Any = _Program(process, monkeypatch)
        with guard._place(tmp_path, row(3)) as (_, listening):
            assert guard.measure(program, 1, listening, fine=fine) == found
    finally:
        process.stop()


def test_hops_are_written_where_the_report_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counting(monkeypatch)
    monkeypatch.setattr(guard, "of_baseline", lambda work, port: {"request": 400, "event": 40})
    monkeypatch.setattr(report, "OUT", tmp_path)
    monkeypatch.setattr(report, "write", list)
    assert ran(tmp_path, "--hops") == 0
    counted = orjson.loads((tmp_path / report.HOPS).read_bytes())
    assert counted["steps"][0]["request"] == 400
    assert "| Weir's engine, no plugin | 600 | 60 % |" in capsys.readouterr().out


def test_the_share_of_each_guard_is_counted_without_timers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Had each guard its place in the list as its thousands of instructions, upon a million."""
    cost = {name: 1000 * place for place, name in enumerate(ungated.GUARDS)}
    whole = 1_000_000 + sum(cost.values())

    def counted(plugins: list[str], work: Path, port: int, without: Sequence[str] = ()) -> dict[str, int]:
        assert plugins == list(PLUGINS)
        assert ungated.TIMERS in without
        return {"request": whole - sum(map(cost.__getitem__, without))}

    monkeypatch.setattr(guard, "of_weir", counted)
    monkeypatch.setattr(guard, "timers", lambda work, port: 77_000)
    monkeypatch.setattr(report, "OUT", tmp_path)
    assert ran(tmp_path, "--gate") == 0
    kept = orjson.loads((tmp_path / guard.GATE).read_bytes())
    of_timers = cost.pop(ungated.TIMERS)
    assert (kept["request"], kept["unguarded"]) == (whole - of_timers, 1_000_000)
    assert {each["guard"]: each["instructions"] for each in kept["guards"]} == cost
    said = capsys.readouterr().out
    assert "gate                       1,000    0.1 %\n" in said
    assert f"all guards together    {sum(cost.values()):9,}    2.8 %\n" in said
    assert "timers, a second          77,000\n" in said


def test_the_page_tells_what_was_counted() -> None:
    kept = orjson.loads((ROOT / "docs" / "benchmarks" / guard.GATE).read_bytes())
    share = 100 * (kept["request"] / kept["unguarded"] - 1)
    page = (ROOT / "docs" / "security.md").read_text()
    assert f"takes {share:.1f} % more instructions" in page
    assert f"of {kept['unguarded'] / 1000:.0f} thousand" in page
