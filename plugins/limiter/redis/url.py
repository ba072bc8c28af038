"""Where Redis is: `redis://`, `rediss://`, `unix://`, and with `+sentinel` or `+cluster` several servers."""

from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qs, urlsplit, urlunsplit

_SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
_PORTS: Final = {"single": 6379, "cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class Place:
    """Where Redis is. `url` is for redis-py and one server; it may hold a password, `shown` does not."""

    kind: Literal["single", "sentinel", "cluster"]
    url: str = field(repr=False)
    shown: str
    hosts: tuple[tuple[str, int], ...] = ()
    """The sentinels, or some nodes of a cluster."""
    service: str = ""
    """What the sentinels call the master."""
    sentinel_login: tuple[str | None, str | None] = field(default=(None, None), repr=False)
    """User and password at the sentinels; the URL's own are those at the master."""


def place(text: str) -> Place:
    """Read a URL. Raises `ValueError` with a line that holds no password.

    Options stand in the query as redis-py has them, such as `ssl_ca_certs=/etc/ca.pem`.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is not an address like redis://localhost:6379/0") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"begins with none of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}")
    scheme, _, kind = parts.scheme.partition("+")
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("names no socket; write it like unix:///run/redis.sock")
        return Place("single", text, f"unix://{parts.path}")
    if kind == "":
        hosts = _hosts(parts, "single")
        if len(hosts) > 1:
            raise ValueError("names several servers; write redis+sentinel:// or redis+cluster://")
        _database(parts.path)
        return Place("single", text, f"{scheme}://{_written(hosts)}{parts.path}")
    if kind == "cluster":
        if parts.path.strip("/"):
            raise ValueError("names a database; a cluster has only one")
        hosts = _hosts(parts, "cluster")
        return Place(
            "cluster", _for_one(parts, scheme, hosts[0]), f"{parts.scheme}://{_written(hosts)}", hosts
        )
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("names no master; write it like redis+sentinel://host:26379/mymaster")
    _database(database)
    hosts = _hosts(parts, "sentinel")
    query = parse_qs(parts.query)
    login = [query.pop(name, [None])[0] for name in ("sentinel_username", "sentinel_password")]
    rest = "&".join(
        part
        for part in parts.query.split("&")
        if part.partition("=")[0] not in ("sentinel_username", "sentinel_password")
    )
    url = _for_one(parts._replace(query=rest, path=f"/{database}" if database else ""), scheme, hosts[0])
    shown = f"{parts.scheme}://{_written(hosts)}/{service}"
    return Place("sentinel", url, shown, hosts, service, (login[0], login[1]))


def _hosts(parts: SplitResult, kind: str) -> tuple[tuple[str, int], ...]:
    found = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{each}")
        try:
            host, port = one.hostname, one.port
        except ValueError:
            raise ValueError("has a port that is not a number up to 65535") from None
        if not host:
            raise ValueError("names no server")
        found.append((host, port or _PORTS[kind]))
    return tuple(found)


def _database(text: str) -> None:
    if text.strip("/") and not text.strip("/").isdecimal():
        raise ValueError("names a database that is not a number")


def _for_one(parts: SplitResult, scheme: str, host: tuple[str, int]) -> str:
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit((scheme, f"{login}{at}{_written((host,))}", parts.path, parts.query, ""))


def _written(hosts: tuple[tuple[str, int], ...]) -> str:
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
