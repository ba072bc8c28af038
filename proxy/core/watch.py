"""Notices a client that leaves. ASGI servers do not raise on `send`: somebody has to listen.

Call `watch` once the request's body is complete, not before: whoever receives takes the body's pieces, and
tells a client that waits with `Expect: 100-continue` to go on.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.core.body import Receive

Stop = Callable[[], None]
Gone = Callable[[str], None]
"""Called with the code that says how the client left."""


def watch(scope: Any, receive: Receive, gone: Gone) -> Stop:
    """Call `gone` when the client leaves; returns what ends the watch."""
    client = scope.get("weir.client")
    if client is not None:
        # Our own server calls back: no task for it.
        client.watch(gone)
        return client.unwatch  # type: ignore[no-any-return]
    task = asyncio.ensure_future(_listen(receive, gone))

    def stop() -> None:
        task.cancel()

    return stop


async def _listen(receive: Receive, gone: Gone) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone("client_closed")
