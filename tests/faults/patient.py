"""A plugin that waits before it lets a request on: it has read the body, and `x-wait` says for how long."""

import asyncio

from proxy.api import Exchange, Plugin


class Patient(Plugin):
    """Waits so many seconds."""

    async def on_request(self, ex: Exchange) -> None:
        wait = ex.request.headers.pop("x-wait")
        if wait is not None:
            await ex.request.read()
            await asyncio.sleep(float(wait))
