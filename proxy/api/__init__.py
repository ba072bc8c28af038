"""What plugins see: the plugin interface, whole, and nothing of the engine.

`proxy.api.testing` plays plugins over a scripted exchange without a network.
"""

from proxy.api.asked import Asked
from proxy.api.edit import Member, find_member, insert_member, remove_member, replace_member
from proxy.api.errors import (
    ClientError,
    ClientGone,
    InternalError,
    PluginError,
    ShuttingDown,
    UpstreamError,
    WeirError,
)
from proxy.api.event import Event
from proxy.api.exchange import Attempt, End, Exchange
from proxy.api.fuse import FUSE, Fuse
from proxy.api.headers import Headers
from proxy.api.plugin import Plugin
from proxy.api.request import Request
from proxy.api.response import Reply, Response
from proxy.api.server import Server
from proxy.api.slots import COST, DRY_RUN, ESTIMATE, IDENTITY, USAGE, DryRun, Identity, Slot
from proxy.api.timeline import Hop, Timeline
from proxy.pricing.values import Cost, Estimate, Usage

__all__ = [
    "COST",
    "DRY_RUN",
    "ESTIMATE",
    "FUSE",
    "IDENTITY",
    "USAGE",
    "Asked",
    "Attempt",
    "ClientError",
    "ClientGone",
    "Cost",
    "DryRun",
    "End",
    "Estimate",
    "Event",
    "Exchange",
    "Fuse",
    "Headers",
    "Hop",
    "Identity",
    "InternalError",
    "Member",
    "Plugin",
    "PluginError",
    "Reply",
    "Request",
    "Response",
    "Server",
    "ShuttingDown",
    "Slot",
    "Timeline",
    "UpstreamError",
    "Usage",
    "WeirError",
    "find_member",
    "insert_member",
    "remove_member",
    "replace_member",
]
