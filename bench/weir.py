"""The settings that Weir is measured in: the configuration of a chain, for the benchmark and the guard."""

from collections.abc import Iterable
from pathlib import Path
from string import Template

from .scenarios import CLIENT_KEY, UPSTREAM_KEY

_SETTINGS = Template("""\
listen: 127.0.0.1:$port
management: 127.0.0.1:$management
upstreams:
  - name: mock
    base_url: http://127.0.0.1:$upstream/v1
    api_key: $upstream_key
log:
  level: warning
""")
_AUTH = f"""\
  - use: auth
    keys:
      - user: bench
        key: {CLIENT_KEY}
"""
# Limits that nobody reaches cost what others do.
_REQUESTS = """\
    limits:
      - name: global
        requests: 100000000/hour
        per: address
      - name: chat
        requests: 100000000/minute
        per: user
        on: chat
"""
_USE = """\
      - name: tokens
        tokens: 1000000000000/minute
        per: user
        on: chat
      - name: money
        cost: 9000000/day
        per: user
        on: chat
"""
PLUGINS = {
    "tracing": "  - tracing\n",
    "auth": _AUTH,
    "precost": "  - precost\n",
    "limiter": f"  - use: limiter\n{_REQUESTS}",
    "annotate": "  - annotate\n",
}
"""The five built-in ones, in the order of the chain, with keys and limits in memory."""
MEASURED_USE = {**PLUGINS, "limiter": f"  - use: limiter\n{_REQUESTS}{_USE}"}
"""The same with limits on tokens and on money."""


LEDGER = {
    **dict(list(PLUGINS.items())[:3]),
    "ledger": "  - ledger\n",
    **dict(list(PLUGINS.items())[3:]),
}
"""The five and the ledger; where it keeps its rows is `config`'s `state`."""


def in_redis(port: int) -> dict[str, str]:
    """The five with limits in the Redis on this port of loopback."""
    return {**PLUGINS, "limiter": f"  - use: limiter\n    store: redis://127.0.0.1:{port}/0\n{_REQUESTS}"}


def config(
    plugins: Iterable[str],
    *,
    port: int,
    upstream: int,
    late: bool = False,
    state: Path | None = None,
) -> str:
    """A weir.yaml; the management port is the one behind `port`. With `late`, lateness is no overload.

    `state` is the folder for state: of the ledger's journal, and of its SQLite file.
    """
    text = _SETTINGS.substitute(port=port, management=port + 1, upstream=upstream, upstream_key=UPSTREAM_KEY)
    if late:
        text += "overload:\n  loop_lag: off\n"
    if state is not None:
        text += f"state_dir: {state}\n"
    chain = "".join(plugins)
    return text + (f"plugins:\n{chain}" if chain else "plugins: []\n")
