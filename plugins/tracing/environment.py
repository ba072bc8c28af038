"""The standard OTEL_* variables: whether to trace at all, and what is not for the SDK alone to read."""

import math
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from .sampling import Sampling

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_DEFAULT_COLLECTOR = "localhost:4318"
_OFF = "or set OTEL_TRACES_EXPORTER=none"


class Environment(NamedTuple):
    """What the variables ask for.

    `propagates` says whether W3C trace context is read and written at all, `latest` whether the newest GenAI
    conventions are used. `queue` and `batch` are spans, `delay` milliseconds. `collector` is its address, for
    people: the URL itself may hold a credential.
    """

    sampling: Sampling
    propagates: bool
    latest: bool
    queue: int
    batch: int
    delay: float
    collector: str


def read(variables: Mapping[str, str]) -> Environment | None:
    """What the variables ask for, or None for no tracing. An empty variable counts as not set.

    Tracing is on with an endpoint for traces or `OTEL_TRACES_EXPORTER=otlp`, unless `OTEL_SDK_DISABLED=true`.
    Raises `ValueError` for what cannot be done as asked: to trace otherwise than asked would be a surprise
    that nobody sees until it is paid for.
    """
    env = {name: stripped for name, value in variables.items() if (stripped := value.strip())}
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    endpoint = next((name for name in _ENDPOINTS if name in env), None)
    exporter = env.get("OTEL_TRACES_EXPORTER", "otlp" if endpoint else "none").lower()
    if exporter == "none":
        return None
    if exporter != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER={exporter}: only otlp is built in; set it to otlp or to none")
    for name in _PROTOCOLS:
        protocol = env.get(name, "http/protobuf")
        if protocol != "http/protobuf":
            raise ValueError(
                f"{name}={protocol}: only http/protobuf is built in; name the collector's HTTP port "
                f"(usually 4318) and set {name}=http/protobuf, {_OFF}"
            )
        if name in env:
            break  # the one for traces counts, whatever the general one says
    queue = _whole(env, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    batch = _whole(env, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", min(512, queue))
    if batch > queue:
        raise ValueError("OTEL_BSP_MAX_EXPORT_BATCH_SIZE is more than OTEL_BSP_MAX_QUEUE_SIZE")
    return Environment(
        sampling=_sampling(env),
        propagates=_propagates(env),
        latest="gen_ai_latest_experimental" in _words(env.get("OTEL_SEMCONV_STABILITY_OPT_IN", "")),
        queue=queue,
        batch=batch,
        delay=_whole(env, "OTEL_BSP_SCHEDULE_DELAY", 5000),
        collector=_DEFAULT_COLLECTOR if endpoint is None else _collector(endpoint, env[endpoint]),
    )


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",")]


def _sampling(env: Mapping[str, str]) -> Sampling:
    name = env.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
    kind = name.removeprefix("parentbased_")
    if kind == "always_on":
        ratio = 1.0
    elif kind == "always_off":
        ratio = 0.0
    elif kind == "traceidratio":
        ratio = _ratio(env.get("OTEL_TRACES_SAMPLER_ARG", "1"))
    else:
        raise ValueError(
            f"OTEL_TRACES_SAMPLER={name} is not built in; always_on, always_off and traceidratio are, each "
            f"also with parentbased_ before it"
        )
    return Sampling(ratio, parent_based=kind != name)


def _ratio(value: str) -> float:
    try:
        ratio = float(value)
    except ValueError:
        ratio = math.nan
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG={value} is not a number from 0 to 1")
    return ratio


def _propagates(env: Mapping[str, str]) -> bool:
    names = _words(env.get("OTEL_PROPAGATORS", "tracecontext,baggage").lower())
    if "none" in names:
        return False
    for name in names:
        if name not in ("tracecontext", "baggage"):
            raise ValueError(
                f"OTEL_PROPAGATORS: {name} is not built in; use tracecontext or none "
                "(baggage passes as it came in any case)"
            )
    return "tracecontext" in names


def _whole(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name, str(default))
    if not (value.isascii() and value.isdigit() and 0 < int(value[:18]) < 10**9):
        raise ValueError(f"{name}={value} is not a whole number above 0")
    return int(value)


def _collector(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        # The value is not shown: it may hold a credential.
        raise ValueError(f"{name} is not a URL like http://localhost:4318")
    return f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"
