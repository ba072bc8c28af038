"""Hosts, ports and the addresses to listen on.

Strict on purpose: what `getaddrinfo` would take for an IP address in disguise (`0xA9FEA9FE`, `2852039166`) is
refused, so that the rules on loopback and link-local addresses cannot be walked around.
"""

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from proxy.core.settings.messages import Refused
from proxy.core.settings.model import text_schema

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?")
# What inet_aton() takes for a number is an address and no name: 2852039166, 0xA9FEA9FE, 169.254.43518.
_NUMERIC_END: Final = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9a-fA-F]*)\.?")


def parse_host(text: str) -> str | None:
    """A host in lower case, an IPv6 address without its brackets; None if it is not one."""
    if text.startswith("[") and text.endswith("]"):
        address, percent, zone = text[1:-1].replace("%25", "%", 1).partition("%")
        if percent and not re.fullmatch(r"[A-Za-z0-9_.-]+", zone):
            return None
        with contextlib.suppress(ValueError):
            return f"{ipaddress.IPv6Address(address)}{percent}{zone}"
        return None
    if _NUMERIC_END.fullmatch(text):
        with contextlib.suppress(ValueError):
            return str(ipaddress.IPv4Address(text))
        return None
    return text.lower() if _HOSTNAME.fullmatch(text) else None


def parse_port(text: str, lowest: int = 0) -> int | None:
    """A port number, or None if it is not one."""
    if re.fullmatch(r"[0-9]{1,5}", text) and lowest <= (port := int(text)) <= 65535:
        return port
    return None


def literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address a literal stands for, IPv4 inside IPv6 unwrapped; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def is_own(host: str) -> bool:
    """Whether a connection to this host certainly ends on this machine: loopback, or "any"."""
    if (address := literal(host)) is not None:
        return address.is_loopback or address.is_unspecified
    return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. `host` is an IP address without brackets or a name; `port` 0 means any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, value: object) -> "Address":
        """From `host:port`, `[::1]:3006`, `:3006` (all interfaces) or a bare port. Raises `Refused`."""
        if isinstance(value, Address):
            return value
        text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if text.isascii() and text.isdigit():
            text = f"127.0.0.1:{text}"
        host_text, _, port_text = text.rpartition(":")
        host = parse_host(host_text or "0.0.0.0")  # noqa: S104  (asked for by `:port`)
        port = parse_port(port_text)
        if host is None or port is None:
            raise Refused("is not an address like 127.0.0.1:3006")
        return cls(host, port)

    def overlaps(self, other: "Address") -> bool:
        """Whether both cannot be listened on at once. Any free port never overlaps."""
        if self.port != other.port or self.port == 0:
            return False
        ours = [literal(self.host), literal(other.host)]
        if None in ours and self.host != other.host:  # a name: "localhost" is any loopback address
            return is_own(self.host) and is_own(other.host)
        return ours[0] == ours[1] or any(ip is not None and ip.is_unspecified for ip in ours)

    def reaches(self, host: str, port: int) -> bool:
        """Whether a connection to `host` and `port` certainly arrives here."""
        if self.port != port or port == 0:
            return False
        return self.host == host or (is_own(self.host) and is_own(host))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        address = literal(self.host)
        return is_own(self.host) and (address is None or not address.is_unspecified)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": 65535}, text_schema(r"(.*:)?[0-9]{1,5}")]
        }
