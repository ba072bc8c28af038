"""Logs requests that took longer than they should. Installed as a package; in weir.yaml: `use: slow-log`."""

import logging

from proxy.api import End, Exchange, Plugin

log = logging.getLogger("weir.slow_log")


class SlowLog(Plugin):
    on_error = "skip"

    def __init__(self, seconds: float = 10.0) -> None:
        if seconds < 0:
            raise ValueError("seconds is how long a request may take: 0 or more")
        self.seconds = seconds

    async def on_end(self, ex: Exchange, end: End) -> None:
        took = ex.timeline.total
        if took >= self.seconds:
            hops = {hop.name: round((hop.end - hop.start) / 1e6, 3) for hop in ex.timeline.hops}
            fields = {"id": ex.id, "path": ex.request.path, "seconds": round(took, 3), "hops_ms": hops}
            log.warning("slow request", extra={"fields": fields | {"end_reason": end.reason}})
