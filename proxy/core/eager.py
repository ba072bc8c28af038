"""Tasks that begin at once rather than in the next turn of the loop, where Python can (3.12).

A turn of the loop costs as much as a hundred lines of Python, and much of what is begun so ends without
having waited for anything.
"""

import asyncio
import contextvars
import sys
from collections.abc import Coroutine
from typing import Any


def begin(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, None],
    context: contextvars.Context | None = None,
) -> asyncio.Task[None]:
    """A task of its own; where Python can, it has run up to its first wait, or its end, when this returns.

    Call it on the loop that runs, and not in `context` itself.
    """
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)
    return loop.create_task(coroutine, context=context)
