"""The kinds of values that settings have: how each is read, written, and described in the JSON schema.

A `read_…` function takes whatever a document may hold and gives the value or raises `Refused` or `UnitError`.
"""

import contextlib
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args

from pydantic import PlainSerializer, PlainValidator, SecretStr, ValidationInfo, WithJsonSchema

from proxy.core import yaml
from proxy.core.settings.address import parse_host, parse_port
from proxy.core.settings.messages import Refused, did_you_mean
from proxy.core.settings.model import Context, text_schema
from proxy.core.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    check_duration,
    check_size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_T = TypeVar("_T")


def _duration(zero: bool) -> Callable[[object, ValidationInfo], float]:
    def validate(value: object, info: ValidationInfo) -> float:
        if isinstance(value, str):
            return parse_duration(value, zero=zero)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused("is not a duration like 5s, 500ms, 10m, 1h or 1d")
        if info.context is not None:
            number = str(value) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", str(value)) else "5"
            raise Refused(f"has no unit: say {number}s for seconds (units: ms, s, m, h, d)")
        return check_duration(float(value), zero=zero)

    return validate


def _size(value: object) -> int:
    if isinstance(value, str):
        size = parse_size(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        size = check_size(value)
    else:
        raise Refused("is not a size like 64KiB, 16MiB or 512B")
    if not size:
        raise Refused("must be more than 0")
    return size


def _count(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused("is not a whole number")
    if not 1 <= value < 2**31:
        raise Refused("is not a number from 1 to 2147483647")
    return value


WORKERS: Final = 256
"""Workers at most: more is a slip of the finger, and would take the machine down."""


def read_workers(value: object) -> int:
    """How many worker processes."""
    count = _count(value)
    if count > WORKERS:
        raise Refused(f"is more than {WORKERS}")
    return count


_SWITCH: Final = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "0"), False),
}


def read_switch(value: object) -> bool:
    """Also from the words that YAML 1.1 took for booleans: `allow_open: no` must not be true."""
    if isinstance(value, str):
        value = _SWITCH.get(value.strip().lower())
    if not isinstance(value, bool):
        raise Refused("is neither true nor false")
    return value


_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


def one_of(*words: str) -> Callable[[object], Any]:
    """A reader of one of these words, in any case."""

    def validate(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            raise Refused(f"is not one of {', '.join(words)}{did_you_mean(word, words)}")
        return word

    return validate


def read_text(value: object) -> str:
    """One line, without the space around it."""
    if not isinstance(value, str):
        raise Refused("must be text: put it in quotes" if isinstance(value, int | float) else "must be text")
    if not (text := value.strip()):
        raise Refused("is empty")
    if not text.isprintable():
        raise Refused("must be one line without control characters")
    return text


def read_secret(value: object) -> SecretStr:
    """One word of visible ASCII: it becomes a header value."""
    text = read_text(value.get_secret_value() if isinstance(value, SecretStr) else value)
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise Refused("must be one word of ASCII characters")
    return SecretStr(text)


def _path(value: object, info: ValidationInfo | None) -> Path:
    path = value if isinstance(value, Path) else Path(read_text(value))
    with contextlib.suppress(RuntimeError):  # "~" of someone who has no home
        path = path.expanduser()
    return info.context.folder / path if info and isinstance(info.context, Context) else path


def _file(value: object, info: ValidationInfo) -> Path:
    path = _path(value, info)
    try:
        with path.open("rb"):
            return path
    except (OSError, ValueError) as error:
        raise Refused(f"cannot be used: {yaml.why_unreadable(error)}") from None


def read_folder(value: object) -> Path:
    """From a document or the environment; relative to the working directory."""
    return _no_file(_path(value, None))


def _folder(value: object, info: ValidationInfo) -> Path:
    return _no_file(_path(value, info))


def _no_file(path: Path) -> Path:
    # A folder need not be there yet, but nothing else may be in its place.
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(path.stat().st_mode):
            raise Refused("is not a folder")
    return path


def _socket(value: object, info: ValidationInfo) -> Path:
    # It need not be there yet: who listens on it may start after us.
    path = _path(value, info)
    if len(os.fsencode(path)) > 107:
        raise Refused("is too long for a unix socket (107 bytes)")
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise Refused("is not a unix socket")
    return path


def _network(value: object) -> IPNetwork:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if isinstance(value, str):
        text = value.strip()
        with contextlib.suppress(ValueError):
            return ipaddress.ip_network(text)
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            pass
        else:
            raise Refused("has bits set after its prefix: write the first address of the network")
    raise Refused("is neither an IP address nor a network like 10.0.0.0/8")


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise Refused("is not a name of up to 64 letters, digits, - and _")
    return value


def read_base_url(value: object) -> str:
    """The URL without a trailing slash; scheme and host in lower case."""
    text = read_text(value)
    if not text.isascii() or any(c in text for c in ' "<>\\^`{|}'):
        raise Refused("has characters that a URL cannot have")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in {"http", "https"}:
        raise Refused("is not a URL that starts with http:// or https://")
    if "?" in rest or "#" in rest:
        raise Refused('must have no query ("?") and no fragment ("#")')
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise Refused("must have no user and password: put the key into api_key")
    if any(re.fullmatch(r"(\.|%2[eE]){1,2}", segment) for segment in path.split("/")):
        raise Refused('must have no "." or ".." in its path')
    host, port = read_authority(authority)
    written = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return f"{scheme}://{written}{'' if port is None else f':{port}'}{(slash + path).rstrip('/')}"


def read_authority(authority: str) -> tuple[str, int | None]:
    """Host and port of a URL."""
    host_text, colon, port_text = authority.rpartition(":")
    if not colon or "]" in port_text:
        host_text, port_text = authority, ""
    if not host_text:
        raise Refused("has no host")
    if (host := parse_host(host_text)) is None:
        raise Refused("has a host that is neither a name nor an IP address")
    if (port := parse_port(port_text, lowest=1)) is None and port_text:
        raise Refused("has a port that is not from 1 to 65535")
    return host, port


def read_proxy(value: object) -> str:
    """The URL of a proxy, with its port, perhaps with user and password."""
    text = read_text(value)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in {"http", "https", "socks5", "socks5h"}:
        raise Refused("is not a URL that starts with http://, https://, socks5:// or socks5h://")
    if any(c in rest.rstrip("/") for c in "/?# "):
        raise Refused("must be a host and a port only, with a user and password if need be")
    _, port = read_authority(rest.rstrip("/").rpartition("@")[2])
    if port is None:
        raise Refused("has no port")
    return text.rstrip("/")


def read_server_name(value: object) -> str:
    """A host, an IPv6 address without brackets."""
    text = read_text(value)
    if (host := parse_host(f"[{text}]" if ":" in text else text)) is None:
        raise Refused("is neither a host name nor an IP address")
    return host


def read_origin(value: object) -> str:
    """An origin as browsers write it: scheme, host, and the port where it is not the scheme's own."""
    text = read_text(value)
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise Refused("is not an origin like https://app.example: name each one")
    if any(c in rest for c in "/?#@"):
        raise Refused("must end after the host and port, as in https://app.example")
    host, port = read_authority(rest)
    written = f"[{host}]" if ":" in host else host
    return f"{scheme}://{written}{'' if port in (None, _PORTS.get(scheme)) else f':{port}'}"


def read_endpoint(value: object) -> str:
    """A path as `Request.endpoint` has it: without its leading slash, and without `v1/`."""
    text = read_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.~%:-]+(/[A-Za-z0-9_.~%:-]+)*", text) or text.startswith("v1/"):
        raise Refused("is not an endpoint like images/generations (without /v1/)")
    return text


def _is_off(value: object) -> bool:
    return value is None or value is False or (isinstance(value, str) and value.strip().lower() == "off")


def _duration_or_off(value: object, info: ValidationInfo) -> float | None:
    return None if _is_off(value) else _duration(zero=False)(value, info)


def _count_or_off(value: object) -> int | None:
    return None if _is_off(value) else _count(value)


def _memory(value: object) -> float | int | None:
    if _is_off(value):
        return None
    text = str(value).strip()
    if re.fullmatch(r"[01]?\.[0-9]{1,6}|[01]|1\.0+", text) and not isinstance(value, bool):
        if not 0 < float(text) <= 1:
            raise Refused("is not a part from 0.01 to 1")
        return float(text)
    try:
        return _size(value)
    except ValueError:
        raise Refused('is neither a part like 0.9, nor a size like 512MiB, nor "off"') from None


def _written_memory(value: float | int | None) -> str | float:
    if value is None:
        return "off"
    return value if isinstance(value, float) else format_size(value)


_DURATION_SCHEMA = WithJsonSchema(text_schema(DURATION_PATTERN))
_WRITTEN_DURATION = PlainSerializer(format_duration, return_type=str, when_used="json")
_HIDDEN = PlainSerializer(lambda _: "**********", return_type=str, when_used="json")

Duration = Annotated[float, PlainValidator(_duration(zero=False)), _WRITTEN_DURATION, _DURATION_SCHEMA]
"""Seconds, more than 0. A document writes `5s`; Python may also give the number."""
DurationOrZero = Annotated[float, PlainValidator(_duration(zero=True)), _WRITTEN_DURATION, _DURATION_SCHEMA]
"""Seconds, from 0."""
DurationOrOff = Annotated[
    float | None,
    PlainValidator(_duration_or_off),
    PlainSerializer(
        lambda value: "off" if value is None else format_duration(value), return_type=str, when_used="json"
    ),
    WithJsonSchema({"anyOf": [{"const": False}, text_schema(f"off|{DURATION_PATTERN}")]}),
]
"""Seconds, more than 0, or None for `off`."""
MemoryBound = Annotated[
    float | int | None,
    PlainValidator(_memory),
    PlainSerializer(_written_memory, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"const": False},
                text_schema(f"off|[01]?\\.[0-9]+|[0-9]+|{SIZE_PATTERN}"),
            ]
        }
    ),
]
"""A part of the limit that there is (float), bytes (int), or None for `off`."""
Size = Annotated[
    int,
    PlainValidator(_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, text_schema(f"[0-9]+|{SIZE_PATTERN}")]}),
]
"""Bytes, more than 0."""
CountOrOff = Annotated[
    int | None,
    PlainValidator(_count_or_off),
    PlainSerializer(lambda value: "off" if value is None else value, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"const": False}, text_schema("off|[0-9]+")]}
    ),
]
"""A number, more than 0, or None for `off`."""
Count = Annotated[
    int,
    PlainValidator(_count),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, text_schema("[0-9]+")]}),
]
Workers = Annotated[
    int,
    PlainValidator(read_workers),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": WORKERS}, text_schema("[0-9]+")]}),
]
Switch = Annotated[
    bool,
    PlainValidator(read_switch),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, text_schema("true|false|on|off|yes|no|1|0")]}),
]
Secret = Annotated[
    SecretStr,
    PlainValidator(read_secret),
    _HIDDEN,
    WithJsonSchema({"type": "string", "minLength": 1, "format": "password", "writeOnly": True}),
]
TEXT_SCHEMA = WithJsonSchema({"type": "string", "minLength": 1})
HiddenText = Annotated[str, PlainValidator(read_text), _HIDDEN, TEXT_SCHEMA]
"""Text that may have a password in it: plain for who uses it, hidden in JSON."""
HiddenProxy = Annotated[str, PlainValidator(read_proxy), _HIDDEN, TEXT_SCHEMA]
ReadableFile = Annotated[Path, PlainValidator(_file), TEXT_SCHEMA]
Folder = Annotated[Path, PlainValidator(_folder), TEXT_SCHEMA]
SocketPath = Annotated[Path, PlainValidator(_socket), TEXT_SCHEMA]
Network = Annotated[IPNetwork, PlainValidator(_network), PlainSerializer(str, when_used="json"), TEXT_SCHEMA]
Name = Annotated[str, PlainValidator(_name), WithJsonSchema(text_schema("[A-Za-z0-9_-]{1,64}"))]
BaseUrl = Annotated[
    str, PlainValidator(read_base_url), WithJsonSchema(text_schema("[hH][tT][tT][pP][sS]?://.+"))
]
Origin = Annotated[
    str, PlainValidator(read_origin), WithJsonSchema(text_schema("[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]+"))
]
Endpoint = Annotated[str, PlainValidator(read_endpoint), TEXT_SCHEMA]
Text = Annotated[str, PlainValidator(read_text), TEXT_SCHEMA]
UpstreamClient: TypeAlias = Literal["auto", "http1", "httpx2"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "json", "text"]


def words_of(alias: Any) -> tuple[PlainValidator, WithJsonSchema]:
    """What makes an annotation out of a `Literal` of words."""
    words = get_args(alias)
    return PlainValidator(one_of(*words)), WithJsonSchema(text_schema("|".join(words)))


def valid(validate: Callable[[object], _T], value: object) -> _T | None:
    """The value, or None if it is refused: for who only wants to look further."""
    try:
        return validate(value)
    except ValueError:
        return None
