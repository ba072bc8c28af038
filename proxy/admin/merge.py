"""The metrics of several processes as those of one: Prometheus' text format in, and out.

Counters and histograms are added up. What a gauge says of several processes only its reader knows (requests
in flight add up, the state of a shared limit does not), so each keeps its own, with a label `worker`.

A sum must not fall when a process ends: Prometheus would take that for a restart, and count everything once
more. So what a worker had counted stays in the sum, as of when it was last asked.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client.utils import floatToGoString

SERIES = 200_000
"""Series that are kept of workers that have ended; what is new above it is forgotten with its worker."""

_ADDED = frozenset(("counter", "histogram", "summary"))


class Family(NamedTuple):
    """A metric: its type, and the lines that say what it is."""

    kind: str
    head: str


class Figures(NamedTuple):
    """What one process says. A sample is known by what stands before its value, labels and all."""

    families: dict[str, Family]
    samples: dict[str, tuple[str, float]]


def read(text: str) -> Figures:
    """Figures from the text format (0.0.4 and 1.0.0). Raises `ValueError` for what is not that."""
    families: dict[str, Family] = {}
    samples: dict[str, tuple[str, float]] = {}
    name = head = ""
    for line in text.split("\n"):  # other line ends may be in a label
        if line.startswith("# HELP "):
            head = line + "\n"
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            families[name] = Family(kind, f"{head}{line}\n")
            head = ""
        elif line and not line.startswith("#"):
            # A label's value may have blanks and braces in it; after the last brace there are only numbers.
            end = line.rfind("}") + 1 or line.index(" ")
            samples[line[:end]] = (name, float(line[end:].split()[0]))
    return Figures(families, samples)


class Merged:
    """The figures of all workers there are and were."""

    def __init__(self) -> None:
        self._now: dict[int, Figures] = {}
        self._past: dict[str, tuple[str, float]] = {}
        self._families: dict[str, Family] = {}

    def take(self, worker: int, text: str) -> None:
        """What a worker says now. Raises `ValueError` for what is not in the text format."""
        figures = self._now[worker] = read(text)
        self._families.update(figures.families)

    def ended(self, worker: int) -> None:
        """This worker is gone; what it had counted stays."""
        figures = self._now.pop(worker, None)
        if figures is None:
            return
        past = self._past
        for key, (name, value) in figures.samples.items():
            if self._is_added(key, name) and (key in past or len(past) < SERIES):
                past[key] = (name, past[key][1] + value if key in past else value)

    def text(self, answered: Iterable[int]) -> str:
        """The figures of all as of their last answer; gauges of those that have answered just now."""
        present = set(answered)
        merged: dict[str, dict[str, float]] = {name: {} for name in self._families}
        for key, (name, value) in self._past.items():
            merged[name][key] = value
        for worker, figures in sorted(self._now.items()):
            for key, (name, value) in figures.samples.items():
                into = merged.get(name)
                if into is None:
                    continue
                if self._is_added(key, name):
                    into[key] = into.get(key, 0.0) + value
                elif name.endswith("_created"):
                    into[key] = min(into.get(key, value), value)  # since when something was counted
                elif worker in present:
                    into[labelled(key, worker)] = value
        return "".join(self._written(merged))

    def _is_added(self, key: str, name: str) -> bool:
        kind = self._families[name].kind if name in self._families else ""
        return kind in _ADDED and not (kind == "summary" and 'quantile="' in key)

    def _written(self, merged: dict[str, dict[str, float]]) -> Iterator[str]:
        for name, samples in merged.items():
            yield self._families[name].head
            for key, value in samples.items():
                yield f"{key} {floatToGoString(value)}\n"  # type: ignore[no-untyped-call]


def labelled(key: str, worker: int) -> str:
    """The sample with one more label; one that it has already under this name stays its own."""
    name, brace, labels = key.partition("{")
    if not brace:
        return f'{name}{{worker="{worker}"}}'
    taken = labels.startswith('worker="') or ',worker="' in labels
    return f'{name}{{{"weir_" if taken else ""}worker="{worker}",{labels}'
