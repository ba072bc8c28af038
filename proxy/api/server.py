"""What the server hands to a plugin when it starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.pricing.values import Prices

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class Server:
    """The surroundings of a plugin. What is not configured is None.

    `workers` are the processes that share a port, `replicas` the Weirs that share a limit. `state_dir` is a
    folder that survives a restart. `metrics` is the registry behind `/metrics` on the management port.
    """

    metrics: "CollectorRegistry"
    workers: int = 1
    replicas: int = 1
    state_dir: Path | None = None
    database_url: str | None = None
    redis_url: str | None = None
    prices: Prices | None = None
