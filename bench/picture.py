"""Bars in SVG, readable on light and dark pages, and without colours."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, LABEL, RIGHT, ROW, HEAD = 760, 110, 120, 20, 30
_STYLE = """\
text { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 13px; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.page { fill: #ffffff }
.bar { fill: #8c959f }
.ours { fill: #0969da }
.range { stroke: #1f2328; stroke-width: 1.5 }
.one { stroke: #cf222e; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #0d1117 }
  .bar { fill: #6e7681 }
  .ours { fill: #58a6ff }
  .range { stroke: #e6edf3 }
  .one { stroke: #ff7b72 }
}"""


class Bar(NamedTuple):
    """A value and the range of its rounds."""

    name: str
    value: float
    low: float
    high: float


class Group(NamedTuple):
    """Bars on one scale, under a heading."""

    heading: str
    bars: Sequence[Bar]


def draw(title: str, groups: Sequence[Group]) -> str:
    """The document. The names that begin with "weir" stand out, and a line stands at 1.

    A bar that would leave the others a fifth of the width or less is cut, and its value says so.
    """
    parts: list[str] = []
    y = 46.0
    for group in groups:
        parts.append(f'<text class="title" x="16" y="{y:.0f}">{escape(group.heading)}</text>')
        end = _scale([bar.high for bar in group.bars])
        unit = (WIDTH - LABEL - RIGHT) / end
        top = y + 8
        for bar in group.bars:
            y += ROW
            parts += _bar(bar, y, unit, end)
        x = LABEL + unit
        parts.append(f'<line class="one" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.0f}" y2="{y + 4:.0f}"/>')
        y += HEAD
    height = y - 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n"
        f'<rect class="page" width="{WIDTH}" height="{height:.0f}"/>\n'
        f'<text x="16" y="20">{escape(title)}; less is better, the line is at 1</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _scale(values: Sequence[float]) -> float:
    """The end of the scale: the largest value, unless it would make nothing of all others."""
    ordered = sorted((1.0, *values))
    while len(ordered) > 1 and ordered[-1] > 5 * ordered[-2]:
        ordered.pop()
    return ordered[-1]


def _bar(bar: Bar, y: float, unit: float, end: float) -> list[str]:
    cut = bar.high > end
    length = unit * min(bar.value, end)
    kind = "ours" if bar.name.startswith("weir") else "bar"
    said = f"{bar.value:.3g}" + (" (cut)" if cut else "")
    parts = [
        f'<text x="16" y="{y + 5:.0f}">{escape(bar.name)}</text>',
        f'<rect class="{kind}" x="{LABEL}" y="{y - 7:.0f}" width="{length:.1f}" height="14"/>',
    ]
    after = LABEL + length
    if not cut:
        low, high = (LABEL + unit * value for value in (bar.low, bar.high))
        parts.append(f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.0f}" y2="{y:.0f}"/>')
        after = max(after, high)
    parts.append(f'<text x="{after + 6:.1f}" y="{y + 5:.0f}">{said}</text>')
    return parts
