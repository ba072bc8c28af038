"""What a command may do with the terminal it writes to; plain lines where that is none.

A dozen lines of ANSI rather than a library with three more below it: Weir is a server, and draws one panel.
"""

import os
import shutil
import sys
from typing import Any

import click

_DRAWN = "╭─╮│╰╯█▏→"
WIDEST = 100
"""Columns; on a wider terminal lines are no easier to read."""


class Screen:
    """Standard output. `drawn`: boxes, bars and lines that are written over; `coloured`: colours too."""

    def __init__(self) -> None:
        drawable = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.drawn = drawable and _encodable(_DRAWN, sys.stdout.encoding)
        self.coloured = self.drawn and not os.environ.get("NO_COLOR")
        self.width = min(shutil.get_terminal_size().columns, WIDEST)

    def line(self, text: str = "") -> None:
        """A line."""
        click.echo(text, color=self.coloured)

    def write(self, text: str) -> None:
        """Text of somebody else's as it comes, without what would move the cursor or set colours."""
        click.echo(safe(text), nl=False)

    def over(self, text: str) -> None:
        """A line that the next one replaces; nothing where lines cannot be."""
        if self.drawn:
            click.echo(f"\r{text}\x1b[K", nl=False, color=True)

    def style(self, text: str, **how: Any) -> str:
        """In colours, if there are; see `click.style`."""
        return click.style(text, **how) if self.coloured else text

    def bar(self, share: float, columns: int) -> str:
        """A bar of up to so many columns for a share of 1; a share that is not 0 can be seen."""
        if not self.drawn:
            return "#" * max(round(share * columns), share > 0)
        eighths = max(round(share * columns * 8), share > 0)
        whole, rest = divmod(eighths, 8)
        return "█" * whole + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[rest]


def safe(text: str) -> str:
    """Text without control characters, but for ends of lines and tabs."""
    return "".join(one for one in text if one.isprintable() or one in "\n\t")


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
