"""Runs a module with timers that wait a hundred times as long.

    python -m bench.unhurried proxy serve --config weir.yaml

Under valgrind all else takes fifty times as long and more: what a server does by the clock would count for
more in each request, and for most where the machine is slowest.
"""

import asyncio
import runpy
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any

import uvloop

SLOWER = 100


class Loop(uvloop.Loop):
    """uvloop's, but for its sense of time."""

    def call_later(  # type: ignore[override] # its types are too fine to repeat
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As `delay` after `SLOWER` as long."""
        return super().call_later(SLOWER * delay, callback, *args, context=context)


def main(module: str, *arguments: str) -> None:
    """Run it as `python -m` does."""
    uvloop.new_event_loop = Loop
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
