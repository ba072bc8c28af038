"""The fuse of a running stream: who keeps a budget says so, and who counts what is streamed burns it down.

A plugin that wants a stream to end when a budget is used up puts a `Fuse` into `FUSE` in `on_request`. Who
knows what the stream costs so far charges it while it runs, and ends it when nothing is left.
"""

from decimal import Decimal
from typing import Protocol

from proxy.api.errors import WeirError
from proxy.api.slots import Slot


class Fuse(Protocol):
    """A budget, as one stream sees it. Its input was charged before; amounts are US dollars."""

    def charge(self, amount: Decimal) -> Decimal:
        """The stream costs so much more than when it was charged last (0 the first time, to ask only).

        What it may cost besides before it has to be charged again; others that use up the same budget must
        not be given that too. Below 0: nothing is left, and the stream is to end. Must not block.
        """

    def blown(self) -> WeirError:
        """What the client is told when its stream is ended."""


FUSE: Slot[Fuse] = Slot("fuse", "limiter")
