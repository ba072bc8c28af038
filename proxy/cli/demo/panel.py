"""The panel after a chat: tokens, estimate, cost, where the time went, and what the limits leave."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

import click

from proxy.cli.demo.chat import Heard
from proxy.cli.screen import Screen, safe

_HOP = re.compile(r"\s*([^;,\s]+)\s*;\s*dur=([0-9.]+)")
_LABEL = 10
_HOPS = 32
"""Hops that are shown at most: the header is somebody else's."""


def panel(screen: Screen, heard: Heard, title: str) -> list[str]:
    """Its lines, with a frame where one can be drawn."""
    rows = [*_rows(screen, heard)]
    lines = [screen.style(f"{label:{_LABEL}}", dim=True) + text for label, text in rows]
    if not screen.drawn:
        return [title, *(f"  {line}" for line in lines)]
    inner = min(max(_columns(line) for line in [*lines, title + "  "]), screen.width - 4)
    top = f"╭─ {screen.style(title, bold=True)} {'─' * (inner - len(title) - 1)}╮"
    framed = [f"│ {line}{' ' * (inner - _columns(line))} │" for line in lines]
    return [top, *framed, f"╰{'─' * (inner + 2)}╯"]


def _columns(line: str) -> int:
    return len(click.unstyle(line))


def _rows(screen: Screen, heard: Heard) -> Iterator[tuple[str, str]]:
    """Labels and what stands beside them. What Weir did not tell says so."""
    headers, note = heard.headers, heard.note
    counted = all(isinstance(note.get(name), int) for name in ("input_tokens", "output_tokens"))
    yield "tokens", f"{note['input_tokens']} in, {note['output_tokens']} out" if counted else "not told"
    yield "estimate", _estimate(headers)
    yield "cost", screen.style(_cost(note), bold=True)
    for at, (name, milliseconds, share) in enumerate(_hops(headers.get("server-timing", ""))):
        bar = screen.style(screen.bar(share, 24), fg="cyan")
        yield "" if at else "time", f"{name:12.12} {milliseconds:9.2f} ms {bar}"
    first = "" if heard.first is None else f"first text after {heard.first * 1000:.0f} ms, "
    yield "", f"{first}all of it after {heard.total * 1000:.0f} ms"
    for at, text in enumerate(_limits(headers)):
        yield "" if at else "limits", text


def _estimate(headers: Mapping[str, str]) -> str:
    tokens = headers.get("x-weir-estimated-input-tokens")
    if tokens is None:
        return "not told"
    methods = {"tiktoken": "counted", "upper_bound": "at most", "upstream": "counted upstream"}
    how = methods.get(headers.get("x-weir-estimate-method", ""), "")
    cost = _dollars(headers.get("x-weir-estimated-cost-usd"))
    return f"{safe(tokens)} in{how and f' ({how})'}, {f'at most {cost}' if cost else 'without a price'}"


def _cost(note: Mapping[str, object]) -> str:
    cost = _dollars(note.get("cost_usd"))
    if cost is None:
        return "not known: there is no price for this model" if note.get("unpriced") else "not told"
    return f"{cost}, by an estimate" if note.get("estimated") else cost


def _dollars(amount: object) -> str | None:
    """All digits that count, and two behind the point at least."""
    try:
        value = Decimal(str(amount)).normalize()
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value.adjusted()) > 30:
        return None
    whole, _, digits = format(value, "f").partition(".")
    return f"${whole}.{digits:0<2}"


def _hops(timing: str) -> list[tuple[str, float, float]]:
    """Name, milliseconds, and the share of the longest."""
    found = []
    for part in timing.split(",")[:_HOPS]:
        if match := _HOP.match(part):
            try:
                found.append((safe(match[1]), float(match[2])))
            except ValueError:
                continue
    longest = max((milliseconds for _, milliseconds in found), default=0.0)
    return [(name, taken, taken / longest if longest else 0.0) for name, taken in found]


def _limits(headers: Mapping[str, str]) -> Iterator[str]:
    for unit in ("requests", "tokens"):
        limit, left = headers.get(f"x-ratelimit-limit-{unit}"), headers.get(f"x-ratelimit-remaining-{unit}")
        if limit is not None and left is not None:
            reset = headers.get(f"x-ratelimit-reset-{unit}")
            again = "" if reset is None else f", all again in {safe(reset)}"
            yield f"{safe(left)} of {safe(limit)} {unit} left{again}"
