"""Any bytes at what reads bytes from outside: a target a file, and three ways to run it.

`target(data)` of each module in `TARGETS` raises for a property that does not hold, and is quiet else. `make
test` replays the kept inputs in `corpus/`, makes its own with hypothesis, and lets coverage guide it for a
moment where atheris is installed; `make fuzz` does the last for as long as one likes.
"""

from typing import Final

TARGETS: Final = (
    "sse",
    "connection",
    "gate",
    "headers",
    "metering",
    "precost",
    "usage",
    "output",
    "configuration",
    "prices",
    "journal",
)
"""Modules of this package."""
