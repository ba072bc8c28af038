"""A table for people, with a bar for what each line costs of the whole."""

from collections.abc import Sequence
from typing import Final

from .report import Key, Totals

BAR: Final = 24
"""Characters of the longest bar."""
WIDEST: Final = 40
"""Characters of a name that are shown."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def table(names: Sequence[str], groups: Sequence[tuple[Key, Totals]], whole: Totals) -> str:
    """Lines with a heading and, where there are several, the sum of all."""
    heading = [*names, "requests", "failed", "input", "output", "cost"]
    lines = [[*(_text(part) for part in key), *_figures(totals)] for key, totals in groups]
    last = [["all", *[""] * (len(names) - 1), *_figures(whole)]] if names else []
    widths = [max(len(line[at]) for line in [heading, *lines, *last]) for at in range(len(heading))]
    most = max((_weight(totals, whole) for _, totals in groups), default=0)
    drawn = [_bar(_weight(totals, whole), most) for _, totals in groups]

    def row(cells: Sequence[str], bar: str = "") -> str:
        left = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)][: len(names)]
        right = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)][len(names) :]
        return "  ".join([*left, *right, bar]).rstrip()

    told = [row(heading), *(row(line, bar) for line, bar in zip(lines, drawn, strict=True))]
    return "\n".join([*told, *(row(line) for line in last)])


def _figures(totals: Totals) -> list[str]:
    told = totals.told()
    figures = [f"{told[name]:,}" for name in ("requests", "failed", "input_tokens", "output_tokens")]
    return [*figures, cents(totals)]


def cents(totals: Totals) -> str:
    """Dollars for reading, rounded; with what the bounds add, and what has no price."""
    told = totals.told()
    amount = f"${totals.cost / 10**12:,.4f}"
    if told["cost_high_usd"] != told["cost_usd"]:
        amount += f" (up to ${totals.sums[-1] / 10**12:,.4f})"
    return amount + (f" +{told['unpriced']} unpriced" if told["unpriced"] else "")


def _weight(totals: Totals, whole: Totals) -> int:
    """What the bars show: the cost, and the requests where nothing has a cost."""
    return totals.cost if whole.cost else totals.sums[0]


def _bar(weight: int, most: int) -> str:
    if not most or weight <= 0:
        return ""
    eighths = max(1, weight * BAR * 8 // most)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _text(value: object) -> str:
    text = "-" if value is None else str(value)
    # A name is a stranger's word, and this is a terminal.
    text = "".join(one if one.isprintable() else "?" for one in text)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
