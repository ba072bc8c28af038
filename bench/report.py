"""From the rounds of a run to what people read: tables, the picture, and the marked places of the page.

    python -m bench.report    # writes them anew from docs/benchmarks/*.json

A figure of a target is the median of its rounds. A ratio is taken round by round, against the baseline of the
same round, and is told as the median and the range.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import orjson

from . import picture
from .scenarios import SCENARIOS

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "performance.md"
NONE, TIMES = "-", "\u00d7"
RESULTS, HOPS = "results.json", "hops.json"
NOISY = 0.2
"""Cores that other programs use, from which on a report warns."""
Results = dict[str, Any]
Round = dict[str, Any]


class Spread(NamedTuple):
    """A figure of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{figure(self.median)} ({figure(self.low)} to {figure(self.high)})"


def figure(value: float | None, digits: int = 3) -> str:
    """A number with so many digits that count, or `NONE`."""
    if value is None:
        return NONE
    rounded = abs(float(f"{value:.{digits}g}"))
    whole = len(str(int(rounded))) if rounded >= 1 else 0
    if whole:
        return f"{value:,.{max(0, digits - whole)}f}"
    return f"{value:.{digits}f}"


def rounds(results: Results, scenario: str, target: str) -> list[Round]:
    """The rounds of a target that had an answer."""
    taken = results["scenarios"].get(scenario, {}).get(target, [])
    return [measured for measured in taken if measured["requests"]]


def cpu(measured: Round) -> float:
    """Milliseconds of CPU a request."""
    return float(1000 * (measured["user"] + measured["system"]) / measured["requests"])


def added(measured: Round) -> float:
    """Milliseconds that half of the requests took longer than without the target, or more."""
    return float(measured["added_p50"])


def ratio(
    results: Results, scenario: str, target: str, against: str, of: Callable[[Round], float] = cpu
) -> Spread | None:
    """Of two targets, round by round; None where one of them has no rounds."""
    ours, theirs = (results["scenarios"].get(scenario, {}).get(name, []) for name in (target, against))
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a["requests"] and b["requests"]]
    ratios = [of(a) / of(b) for a, b in pairs if of(b) > 0]
    return Spread.of(ratios) if ratios else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, the first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _middle(taken: list[Round], field: str) -> float | None:
    values = [measured[field] for measured in taken if measured.get(field) is not None]
    return median(values) if values else None


def _scenario(results: Results, name: str) -> str:
    scenario, base = SCENARIOS[name], results["baseline"]
    head = [
        "target",
        "CPU ms a request",
        "of it in the kernel",
        f"{TIMES} {base}",
        "requests/s",
        "p50 ms",
        "p99 ms",
    ]
    head += ["first event p50 ms", "p99 ms"] if scenario.stream else []
    head += ["added p50 ms", "added p99 ms"] if scenario.paired else []
    rows = []
    for target in results["targets"]:
        taken = rounds(results, name, target)
        if not taken:
            continue
        wrong = sum(measured["errors"] for measured in taken)
        row = [
            f"{target} ({wrong} errors)" if wrong else target,
            str(Spread.of([cpu(measured) for measured in taken])),
            figure(median(1000 * measured["system"] / measured["requests"] for measured in taken)),
            str(ratio(results, name, target, base) or NONE),
            figure(median(measured["requests"] / measured["seconds"] for measured in taken), 4),
        ]
        fields = ["p50", "p99"]
        fields += ["ttft_p50", "ttft_p99"] if scenario.stream else []
        # Of streams it is the first event that somebody waits for.
        fields += ["added_p50", "added_p99"] if scenario.paired else []
        rows.append([*row, *(figure(_middle(taken, field)) for field in fields)])
    return f"### {name}: {scenario.what}\n\n{table(head, rows)}"


def megabytes(results: Results, target: str) -> str:
    """Memory after the load."""
    held = results["memory"].get(target)
    return NONE if held is None else f"{held / 1e6:.0f}"


def _made(results: Results) -> str:
    made = results["made"]
    others = sorted(
        measured["others"]
        for targets in results["scenarios"].values()
        for taken in targets.values()
        for measured in taken
    )
    noise = f"{median(others):.2f}, at most {others[-1]:.2f}" if others else "unknown"
    if others and median(others) > NOISY:
        noise += "; that is too many to trust what is near to another, so measure again on an idle machine"
    return (
        f"{made['when']}, {made['machine']}, {made['cores']} cores, Linux {made['kernel']}, Python "
        f"{made['python']}; {made['rounds']} rounds of {made['seconds']:g} s, medians and ranges of rounds.\n"
        f"Cores that other programs used meanwhile: {noise}.\n"
    )


def full(results: Results) -> str:
    """The whole report."""
    named = table(
        ["target", "what", "version", "memory after the load, MB"],
        [
            [name, target["what"], target["version"], megabytes(results, name)]
            for name, target in results["targets"].items()
        ],
    )
    left = "".join(f"- Left out: {name}: {why}.\n" for name, why in results["left_out"].items())
    parts = [_scenario(results, name) for name in SCENARIOS if results["scenarios"].get(name)]
    about = "What these are, and how to read them, is in [performance.md](../performance.md).\n"
    return "\n".join(
        [
            "# Results of the last benchmark\n",
            f"{about}{_made(results)}",
            f"`{results['made']['command']}`\n",
            "![CPU a request of each target](results.svg)\n",
            named + (f"\n{left}" if left else ""),
            *parts,
        ]
    )


# -- the page --------------------------------------------------------------------------------------------


class _Goal(NamedTuple):
    what: str
    scenario: str
    at_most: float
    aim: float
    of: Callable[[Round], float] = cpu


_GOALS = (
    _Goal("500 B, 64 at a time: CPU a request", "short", 1.5, 1.0),
    _Goal("the same, every prompt different", "fresh", 1.8, 1.3),
    _Goal("100 KB, 16 at a time, the prompt seen before", "long", 1.5, 1.0),
    _Goal("stream of 100 events, 32 at a time", "stream", 1.5, 1.0),
    _Goal("200 streams, events 20 ms apart: CPU a stream", "slow", 2.0, 1.3),
    _Goal("one connection: added p50", "one", 1.5, 1.0, added),
)
_LEDGER = (
    ("500 B, 64 at a time: CPU a request", "short", 1.15),
    ("stream of 100 events, 32 at a time", "stream", 1.1),
)
_AGAINST_LITELLM = (
    ("500 B, 64 at a time: CPU a request", "short"),
    ("stream of 100 events, 32 at a time", "stream"),
    ("200 streams, events 20 ms apart: CPU a stream", "slow"),
)


def goals(results: Results) -> str:
    """What Weir with all five plugins costs, against what it should."""

    def value(goal: _Goal, target: str) -> str:
        taken = rounds(results, goal.scenario, target)
        return figure(median(goal.of(measured) for measured in taken)) if taken else NONE

    base = results["baseline"]
    rows = []
    for goal in _GOALS:
        of_base = ratio(results, goal.scenario, "weir", base, goal.of)
        figures = [value(goal, "weir"), value(goal, base), str(of_base or NONE)]
        rows.append([f"{goal.what}, ms", *figures, f"{goal.at_most:g}", f"{goal.aim:g}"])
    text = table(["all five plugins, in memory", "weir", base, f"{TIMES} {base}", "at most", "aim"], rows)
    memory = [
        ["`auth` alone, which counts nothing", megabytes(results, "weir-bare"), "90", "60"],
        ["all five plugins, vocabulary loaded", megabytes(results, "weir"), "180", "140"],
    ]
    text += "\n" + table(["memory of one worker after the load, MB (PSS)", "weir", "at most", "aim"], memory)
    rows = []
    for what, scenario, at_most in _LEDGER:
        of_weir = ratio(results, scenario, "weir-ledger", "weir")
        if of_weir is not None:
            taken = rounds(results, scenario, "weir-ledger")
            milliseconds = figure(median(cpu(measured) for measured in taken))
            rows.append([f"{what}, ms", milliseconds, str(of_weir), f"{at_most:g}"])
    if rows:
        head = ["all five plugins and the ledger, in SQLite", "weir-ledger", f"{TIMES} weir", "at most"]
        text += "\n" + table(head, rows)
    rows = []
    for what, scenario in _AGAINST_LITELLM:
        inverse = ratio(results, scenario, "litellm", "weir")
        if inverse is not None:
            theirs = rounds(results, scenario, "litellm")
            milliseconds = figure(median(cpu(measured) for measured in theirs))
            least, most = (f"1/{figure(bound)}" for bound in (inverse.low, inverse.high))
            told = f"1/{figure(inverse.median)} ({least} to {most})"
            rows.append([f"{what}, ms", milliseconds, told, "1/50", "1/90"])
    if rows:
        text += "\n" + table(["beside LiteLLM", "litellm", "weir ÷ litellm", "at most", "aim"], rows)
    return f"{_made(results)}\n{text}"


def hops(counted: Results, results: Results | None) -> str:
    """Where a request's instructions go, hop by hop of the chain, and what that is in time."""
    steps: list[dict[str, Any]] = counted["steps"]
    request, event = (steps[-1][kind] for kind in ("request", "event"))
    taken = rounds(results, "short", "weir") if results else []
    user = median(1e6 * measured["user"] / measured["requests"] for measured in taken) if taken else None
    rows = []
    before = {"request": 0, "event": 0}
    for step in steps:
        more = step["request"] - before["request"]
        row = [step["hop"], f"{more:,}", f"{100 * more / request:.0f} %"]
        row.append(NONE if user is None else f"{user * more / request:.1f}")
        rows.append([*row, f"{step['event'] - before['event']:,}"])
        before = step
    rows.append(
        ["all of Weir", f"{request:,}", "100 %", NONE if user is None else f"{user:.1f}", f"{event:,}"]
    )
    if taken:
        system = median(1e6 * measured["system"] / measured["requests"] for measured in taken)
        rows.append(["the kernel, for sockets", NONE, NONE, f"{system:.1f}", NONE])
    head = ["hop", "instructions a request", "share", "about µs", "instructions an event"]
    return f"Python {counted['python']}, {counted['machine']}.\n\n{table(head, rows)}"


def placed(page: str, name: str, text: str) -> str:
    """The page with this text between its markers. Raises ValueError if it has none."""
    start, end = f"<!-- bench:{name} -->\n", f"<!-- /bench:{name} -->"
    found = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    new, count = found.subn(lambda _: f"{start}\n{text}\n{end}", page)
    if count != 1:
        raise ValueError(f"the page has no single place for {name}: {start.strip()}")
    return new


def write(out: Path = OUT, page: Path | None = PAGE) -> list[Path]:
    """All that can be made of what was measured; the files that were written."""
    results, counted = (
        orjson.loads((out / name).read_bytes()) if (out / name).exists() else None for name in (RESULTS, HOPS)
    )
    written: list[Path] = []
    if results is not None:
        made = {"results.md": full(results), "results.svg": picture.draw(*bars(results))}
        for name, text in made.items():
            (out / name).write_text(text)
            written.append(out / name)
    if page is not None:
        text = page.read_text()
        if results is not None:
            text = placed(text, "goals", goals(results))
        if counted is not None:
            text = placed(text, "hops", hops(counted, results))
        page.write_text(text)
        written.append(page)
    return written


def bars(results: Results) -> tuple[str, list[picture.Group]]:
    """The picture: CPU a request, as a ratio, of the scenarios that load a target fully."""
    base = results["baseline"]
    groups = []
    for name in ("short", "fresh", "long", "stream", "slow"):
        found = []
        for target in results["targets"]:
            spread = ratio(results, name, target, base)
            if spread is not None:
                found.append(picture.Bar(target, spread.median, spread.low, spread.high))
        if found:
            groups.append(picture.Group(SCENARIOS[name].what, found))
    return f"CPU a request, as a multiple of {base}'s", groups


if __name__ == "__main__":
    for path in write():
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
