"""An upstream's settings, and which of them do not go together."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PlainValidator, ValidationInfo, model_validator

from proxy.core.settings.address import literal
from proxy.core.settings.model import Model
from proxy.core.settings.values import (
    TEXT_SCHEMA,
    BaseUrl,
    Count,
    CountOrOff,
    Duration,
    HiddenProxy,
    Name,
    ReadableFile,
    Secret,
    SocketPath,
    Switch,
    UpstreamClient,
    read_authority,
    read_base_url,
    read_server_name,
    read_switch,
    valid,
    words_of,
)
from proxy.core.yaml import Loc, show_loc

OnDisconnect: TypeAlias = Literal["cancel", "drain"]


class Timeouts(Model):
    """How long an upstream may take, in seconds."""

    connect: Duration = Field(default=5.0, description="To connect, the TLS handshake included.")
    first_byte: Duration = Field(
        default=600.0, description="From the whole request sent to the head of the answer."
    )
    idle: Duration = Field(default=300.0, description="Between two pieces of an answer.")
    total: Duration = Field(default=3600.0, description="For the whole exchange.")
    drain: Duration = Field(
        default=60.0, description="For what is left of an answer whose client has gone (`on_disconnect`)."
    )


class PoolSettings(Model):
    """The connections to an upstream that are kept."""

    max: Count = Field(default=1000, description="Connections at most, the busy ones included.")
    waiting: Count = Field(default=1000, description="Requests that may wait for one; more get a 503.")
    idle: Duration = Field(default=60.0, description="How long an unused connection is kept.")


class BreakerSettings(Model):
    """When new connections to an upstream that cannot be reached are refused at once."""

    failures: CountOrOff = Field(
        default=5, description="Failures to connect in a row until no more is tried for a while; or off."
    )
    open: Duration = Field(default=1.0, description="How long not at first; each time twice as long.")
    most: Duration = Field(default=30.0, description="How long not at most.")


class TlsSettings(Model):
    """TLS towards an upstream. Has no use with http://."""

    ca: ReadableFile | None = Field(
        default=None, description="PEM file of the authorities to trust, not the system's."
    )
    cert: ReadableFile | None = Field(
        default=None, description="PEM file of our certificate, with its chain."
    )
    key: ReadableFile | None = Field(default=None, description="PEM file of our certificate's key.")
    server_name: Annotated[str, PlainValidator(read_server_name), TEXT_SCHEMA] | None = Field(
        default=None, description="The name to ask for and to check, where it is not the URL's host."
    )
    verify: Switch = Field(default=True, description="Whether to check the upstream's certificate.")


def _name_from_host(data: dict[str, Any]) -> str:
    host, _ = split_url(data["base_url"])
    return re.sub(r"[^A-Za-z0-9_-]+", "-", host).strip("-")[:64] or "upstream"


class UpstreamSettings(Model):
    """A place to send requests to."""

    base_url: BaseUrl = Field(description="Where it is, the prefix of its paths included.")
    name: Name = Field(
        default_factory=_name_from_host,
        description="What logs, metrics and the ledger call it; without one, its host.",
    )
    api_key: Secret | None = Field(
        default=None,
        description="Goes out in place of the client's credential; without one the client's passes.",
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="How long it may take.")
    pool: PoolSettings = Field(default=PoolSettings(), description="The connections that are kept.")
    breaker: BreakerSettings = Field(
        default=BreakerSettings(), description="When it cannot be reached, how often that is tried."
    )
    unix_socket: SocketPath | None = Field(
        default=None,
        description="Connect to this socket; `base_url` still gives the Host header and the path.",
    )
    tls: TlsSettings = Field(default=TlsSettings(), description="TLS towards it.")
    proxy: HiddenProxy | None = Field(
        default=None,
        description="Connect through this http, https, socks5 or socks5h proxy (`http://user:pass@host:port`).",
        repr=False,
    )
    http2: Switch = Field(default=False, description="Speak HTTP/2 with it; needs https.")
    client: Annotated[UpstreamClient, *words_of(UpstreamClient)] = Field(
        default="auto",
        description="What speaks with it: the lean `http1`, or `httpx2` for proxies and HTTP/2.",
    )
    on_disconnect: Annotated[OnDisconnect, *words_of(OnDisconnect)] = Field(
        default="cancel",
        description="Whether to cancel an answer whose client has gone, or to read it to its end.",
    )
    allow_link_local: Switch = Field(
        default=False, description="Allow a link-local address, where clouds keep their metadata service."
    )

    @model_validator(mode="after")
    def _agrees(self, info: ValidationInfo) -> "UpstreamSettings":
        # In a document `load` looks for these, so that they are told beside all else that is wrong.
        if info.context is None:
            raw = {name: getattr(self, name) for name in self.model_fields_set}
            raw["tls"] = {name: getattr(self.tls, name) for name in self.tls.model_fields_set}
            for loc, text, *_ in contradictions(raw):
                raise ValueError(f"{show_loc(loc)} {text}")
        return self

    @property
    def scheme(self) -> Literal["http", "https"]:
        """Of `base_url`."""
        return "https" if self.base_url.startswith("https:") else "http"

    @property
    def host(self) -> str:
        """Of `base_url`, an IPv6 address without its brackets."""
        return split_url(self.base_url)[0]

    @property
    def port(self) -> int:
        """Of `base_url`, or its scheme's."""
        return split_url(self.base_url)[1]

    @property
    def path(self) -> str:
        """Of `base_url`: empty, or with a leading and without a trailing slash."""
        _, slash, path = self.base_url.partition("://")[2].partition("/")
        return slash + path


def split_url(url: str) -> tuple[str, int]:
    """Host and port of a `base_url`."""
    scheme, _, rest = url.partition("://")
    host, port = read_authority(rest.partition("/")[0])
    return host, port or {"https": 443}.get(scheme, 80)


def contradictions(raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str] | tuple[Loc, str, object]]:
    """What does not go together in an upstream: the place, what is wrong, the value if that is to be shown.

    A setting that is itself wrong counts as unset.
    """
    given = {name for name, value in raw.items() if value is not None}
    url = valid(read_base_url, raw.get("base_url"))
    plain_http = url is not None and url.startswith("http:")
    http2 = valid(read_switch, raw.get("http2"))
    if url is not None and not valid(read_switch, raw.get("allow_link_local")):
        address = literal(split_url(url)[0])
        if address is not None and address.is_link_local:
            text = (
                'is link-local, where clouds keep their metadata: say "allow_link_local: true" if it is meant'
            )
            yield ("base_url",), text, raw["base_url"]
    if {"unix_socket", "proxy"} <= given:
        yield ("unix_socket",), "cannot go through a proxy: keep one of unix_socket and proxy"
    if http2 and "unix_socket" in given:
        yield ("http2",), "cannot be had over a unix_socket"
    if raw.get("client") == "http1" and (http2 or "proxy" in given):
        yield ("client",), "http1 has neither http2 nor proxy: leave it out"
    if http2 and plain_http:
        yield ("http2",), "needs https://"
    tls = raw.get("tls")
    tls = (
        {name: value for name, value in tls.items() if value is not None} if isinstance(tls, Mapping) else {}
    )
    if tls and plain_http:
        yield ("tls",), "has no use with http://"
    for one, other in (("cert", "key"), ("key", "cert")):
        if one in tls and other not in tls:
            yield ("tls", one), f"needs {other} beside it"
    if "ca" in tls and valid(read_switch, tls.get("verify")) is False:
        yield ("tls", "ca"), "has no use with verify: false"
