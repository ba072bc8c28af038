"""The configuration: command line over environment over `weir.yaml` over defaults, typed and checked.

`load` gives `Settings` or raises `ConfigError` with everything that is wrong, one line each with its place.
`docs/configuration.md` describes each setting for people; a test holds it against the models below.
"""

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_args

from pydantic import (
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from proxy.core import yaml
from proxy.core.settings.address import Address, parse_host, parse_port
from proxy.core.settings.messages import ConfigError, Refused, by_line, nearest, subject, told, translate
from proxy.core.settings.model import Context, Model, text_schema
from proxy.core.settings.upstream import (
    PoolSettings,
    Timeouts,
    TlsSettings,
    UpstreamSettings,
    contradictions,
    split_url,
)
from proxy.core.settings.values import (
    Count,
    Duration,
    DurationOrOff,
    DurationOrZero,
    Endpoint,
    Folder,
    HiddenText,
    LogFormat,
    LogLevel,
    MemoryBound,
    Network,
    Origin,
    ReadableFile,
    Secret,
    Size,
    Switch,
    Text,
    Workers,
    one_of,
    read_base_url,
    read_folder,
    read_secret,
    read_switch,
    read_text,
    read_workers,
    valid,
    words_of,
)
from proxy.core.units import UnitError
from proxy.core.yaml import Loc, Spot, quote, show_loc

__all__ = [
    "DEFAULT_LISTEN",
    "ENVIRONMENT",
    "OPENAI_URL",
    "Address",
    "ConfigError",
    "CorsSettings",
    "DrainSettings",
    "HttpLimits",
    "LogSettings",
    "OverloadSettings",
    "PluginSettings",
    "PoolSettings",
    "Settings",
    "Timeouts",
    "TlsSettings",
    "UpstreamSettings",
    "load",
    "schema",
    "strangers",
]

OPENAI_URL: Final = "https://api.openai.com/v1"

ENVIRONMENT: Final[Mapping[str, str]] = {
    "HOST": "the host part of `listen`",
    "PORT": "the port part of `listen`",
    "WEIR_LISTEN": "`listen`",
    "WEIR_MANAGEMENT": "`management`",
    "WEIR_MANAGEMENT_TOKEN": "`management_token`",
    "WEIR_LOG_LEVEL": "`log.level`",
    "WEIR_LOG_FORMAT": "`log.format`",
    "WEIR_ALLOW_OPEN": "`allow_open`",
    "WEIR_STATE_DIR": "`state_dir`",
    "WEIR_WORKERS": "`workers`",
    "WEIR_CONFIG": "the configuration file; read by the command line",
    "OPENAI_API_KEY": "`api_key` of the default upstream, where the file names no `upstreams`",
    "OPENAI_BASE_URL": "`base_url` of the default upstream, where the file names no `upstreams`",
}
"""Every environment variable that counts, and what it sets."""

# What Kubernetes injects for a Service called `weir` (the first two) and for others of our own, such as
# `weir-management`, whose variables would else look like settings that someone misspelt.
_KUBERNETES: Final = re.compile(
    r"WEIR_PORT.*|WEIR_SERVICE_.*|WEIR_.+_SERVICE_(HOST|PORT(_.*)?)|WEIR_.+_PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?"
)
_KUBERNETES_PORT: Final = re.compile(r"(tcp|udp|sctp)://.*")


class PluginSettings(Model):
    """One plugin of the chain; `options` go to it as they are. Lines count from 1, 0 is "not from a file"."""

    use: Annotated[str, PlainValidator(read_text)] = Field(description="Which plugin.")
    options: dict[str, Any] = Field(default_factory=dict, repr=False, description="Its own settings.")
    line: int = Field(default=0, description="Where it stands in the file.")
    lines: dict[str, int] = Field(
        default_factory=dict,
        repr=False,
        description="The line of each option, nested ones as `limits[0].per`.",
    )
    place: str = Field(default="plugins", description="What messages call it, such as `plugins[2]`.")
    source: str = Field(default="", repr=False, description="The file it comes from.")
    spots: dict[Loc, Spot] = Field(default_factory=dict, repr=False, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"use": value}
        if not isinstance(value, dict | PluginSettings):
            raise Refused('is not a plugin: give its name, or a mapping with "use"')
        return value

    def problem(self, loc: Loc, text: str) -> str:
        """One line for `ConfigError` on the option at `loc`; on the plugin itself for `()`.

        `text` is what is wrong, such as "must be a list". It is shown as it is: keep values out of it.
        """
        return self._line(yaml.Problem(nearest(self.spots, loc).line, loc, text))

    def explain(self, error: ValidationError, known: Iterable[str] = ()) -> list[str]:
        """What pydantic says on `options`, as lines for `ConfigError`. `known` are the options there are."""
        names = tuple(known)
        found = translate(error, self.spots, lambda loc: () if loc else names)
        return [self._line(problem) for problem in sorted(found, key=by_line)]

    def _line(self, problem: yaml.Problem) -> str:
        shown = show_loc(problem.loc)
        dot = "." if shown and not shown.startswith("[") else ""
        return told(self.source, problem.line, f"{self.place}{dot}{shown}", problem.text)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        use = {"type": "string", "minLength": 1, "description": "Which plugin."}
        mapping = {"type": "object", "properties": {"use": use}, "required": ["use"]}
        return {"description": "A plugin: its name, or its name and its options.", "anyOf": [use, mapping]}


class HttpLimits(Model):
    """What a client may send, and how slowly."""

    header_bytes: Size = Field(default=64 * 2**10, description="Of all header fields of a request.")
    headers: Count = Field(default=100, description="Header fields of a request.")
    uri: Size = Field(default=16 * 2**10, description="Of a request's target.")
    header_time: Duration = Field(
        default=10.0, description="From the first byte of a request to the end of its head."
    )
    body_idle: Duration = Field(default=30.0, description="Between two pieces of a request's body.")
    write_idle: Duration = Field(default=120.0, description="For a client that does not read its answer.")
    json_body: Size = Field(default=16 * 2**20, description="Of a body that plugins read whole.")
    hold_total: Size = Field(
        default=64 * 2**20, description="Of all answers together that are held back for plugins."
    )


class DrainSettings(Model):
    """How a stop goes."""

    delay: DurationOrZero = Field(
        default=0.0, description="How long to serve on, unready, before the port closes."
    )
    grace: DurationOrZero = Field(default=30.0, description="How long running requests may take to end.")


class OverloadSettings(Model):
    """When new requests are turned away so that running ones can end."""

    memory: MemoryBound = Field(
        default=0.9, description="Of the memory that there is: a part of it, or a size for each process."
    )
    loop_lag: DurationOrOff = Field(
        default=0.25, description="How late the event loop may be, again and again."
    )
    loop_stall: DurationOrOff = Field(
        default=5.0, description="After how long of a stuck event loop the log says where it is stuck."
    )


class LogSettings(Model):
    """The log, on standard error."""

    level: Annotated[LogLevel, *words_of(LogLevel)] = Field(
        default="info", description="What is logged at least."
    )
    format: Annotated[LogFormat, *words_of(LogFormat)] = Field(
        default="auto", description="`auto` is text on a terminal, else JSON."
    )


class CorsSettings(Model):
    """Pages in browsers that may call Weir. Without origins there is no CORS: `OPTIONS` is forwarded."""

    origins: list[Origin] = Field(
        default=[], description="Where such pages come from; each one exactly, no patterns."
    )


DEFAULT_LISTEN: Final = Address("127.0.0.1", 3006)


def _management(value: object) -> Address | None:
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() == "off"):
        return None
    try:
        return Address.parse(value)
    except Refused:
        raise Refused('is neither an address like 127.0.0.1:3007 nor "off"') from None


def _default_management(listen: Address) -> Address:
    # One below the highest port, for there is none above.
    return Address("127.0.0.1", {0: 0, 65535: 65534}.get(listen.port, listen.port + 1))


class Settings(Model):
    """Everything that can be configured. Made by `load`, which also checks what concerns several settings."""

    listen: Address = Field(
        default=DEFAULT_LISTEN,
        description="The data port: `host:port`, `:port` (all interfaces) or a port.",
    )
    management: Annotated[
        Address | None,
        PlainValidator(_management),
        PlainSerializer(
            lambda value: "off" if value is None else str(value), return_type=str, when_used="json"
        ),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": 65535},
                    {"const": False},
                    text_schema("off|(.*:)?[0-9]{1,5}"),
                ]
            }
        ),
    ] = Field(
        default_factory=lambda data: _default_management(data["listen"]),
        description="The management port, or `off`; without it, on 127.0.0.1 the port after the data port.",
    )
    management_token: Secret | None = Field(
        default=None, description="Asked for on the management port by all but health and metrics."
    )
    allow_open: Switch = Field(
        default=False,
        description="Let anyone who can connect use the upstream's key, without keys for clients.",
    )
    trusted_proxies: list[Network] = Field(default=[], description="Whose `x-forwarded-for` is believed.")
    server_timing: Switch = Field(default=True, description="Add `Server-Timing` to answers.")
    upstreams: list[UpstreamSettings] = Field(
        default=[],
        description="Where requests go; in this version one. Without any, OPENAI_API_KEY makes one.",
    )
    plugins: list[PluginSettings] | None = Field(
        default=None, description="The chain in its order; without it, the built-in one."
    )
    pricing: ReadableFile | None = Field(
        default=None, description="The price table; without it, the one that comes with Weir."
    )
    default_models: dict[Endpoint, Text] = Field(
        default={}, description="By endpoint, the model of a JSON request that names none."
    )
    cors: CorsSettings = Field(default=CorsSettings(), description="Pages in browsers that may call Weir.")
    limits_http: HttpLimits = Field(
        default=HttpLimits(), description="What a client may send, and how slowly."
    )
    drain: DrainSettings = Field(default=DrainSettings(), description="How a stop goes.")
    overload: OverloadSettings = Field(
        default=OverloadSettings(), description="When new requests are turned away."
    )
    log: LogSettings = Field(default=LogSettings(), description="The log.")
    state_dir: Folder | None = Field(default=None, description="Folder for what must outlive the process.")
    database: HiddenText | None = Field(
        default=None, description="URL of the database that the ledger and the keys are kept in.", repr=False
    )
    redis: HiddenText | None = Field(
        default=None, description="URL of the Redis that shares limits between replicas.", repr=False
    )
    replicas: Count = Field(default=1, description="How many replicas of Weir serve together.")
    watch: DurationOrOff = Field(
        default=None, description="How often to look whether the configuration has changed, and reload it."
    )
    workers: Workers = Field(default=1, description="How many processes share the data port.")


def schema() -> dict[str, Any]:
    """A JSON schema (2020-12) of the configuration file, for editors; it lets `${…}` stand for any text."""
    made = Settings.model_json_schema()
    defaults: list[Model] = [Settings(), UpstreamSettings(base_url=OPENAI_URL)]
    defaults += [getattr(one, name) for one in defaults for name in type(one).model_fields]
    for model in defaults:
        if isinstance(model, Model):
            _tidy(made["$defs"].get(type(model).__name__, made), model.model_dump(mode="json"))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "weir.yaml"}


def _tidy(made: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    # pydantic writes defaults as Python has them, seconds and bytes, and a title for what has a name.
    for name, one in made["properties"].items():
        one.pop("title", None)
        if "default" in one:
            one["default"] = defaults[name]


def _known_keys(loc: Loc) -> Iterable[str]:
    """The settings of the mapping at `loc`."""
    model: type[BaseModel] | None = Settings
    for part in loc:
        if isinstance(part, str) and model is not None:
            known = model.model_fields.get(part)
            model = _model_in(known.annotation) if known else None
    return model.model_fields if model else ()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for arg in get_args(annotation) if (model := _model_in(arg))), None)


def load(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """The settings: `overrides` over `environ` over the file at `path`.

    Overrides are `host`, `port` and `workers`; None is "not given".

    Empty variables count as unset, keys without a value too. Relative paths of the file start from its
    folder, those of variables from the working directory. The default upstream of OPENAI_API_KEY and
    OPENAI_BASE_URL applies where the file names no upstreams; without it `upstreams` may come back empty.

    Raises `ConfigError`, and nothing else, with all that is wrong.
    """
    return _Loading(path, environ, overrides or {}).run()


def _host_part(value: object) -> str:
    text = str(value).strip()
    if (host := parse_host(f"[{text}]" if ":" in text and not text.startswith("[") else text)) is None:
        raise Refused("is neither a host name nor an IP address")
    return host


def _port_part(value: object) -> int:
    port = None if isinstance(value, bool) else parse_port(str(value).strip())
    if port is None:
        raise Refused("is not a port number (1 to 65535)")  # 0, any free port, is for tests
    return port


_FROM_ENVIRONMENT: Final[Mapping[str, tuple[Loc, Callable[[object], Any]]]] = {
    "WEIR_LISTEN": (("listen",), Address.parse),
    "WEIR_MANAGEMENT": (("management",), _management),
    "WEIR_MANAGEMENT_TOKEN": (("management_token",), read_secret),
    "WEIR_LOG_LEVEL": (("log", "level"), one_of(*get_args(LogLevel))),
    "WEIR_LOG_FORMAT": (("log", "format"), one_of(*get_args(LogFormat))),
    "WEIR_ALLOW_OPEN": (("allow_open",), read_switch),
    "WEIR_STATE_DIR": (("state_dir",), read_folder),
    "WEIR_WORKERS": (("workers",), read_workers),
}
_FAILED: Final = object()


class _Loading:
    """One `load`: what has been read so far, and all that is wrong so far."""

    def __init__(self, path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> None:
        self._path = path
        self._environ = {name: value for name, value in environ.items() if value.strip()}
        self._overrides = {name: value for name, value in overrides.items() if value is not None}
        self._in_file: list[yaml.Problem] = []
        self._elsewhere: list[str] = []
        self._spots: dict[Loc, Spot] = {}

    def run(self) -> Settings:
        document = self._document()
        raw = document or {}
        settings = self._validated(raw)
        given = self._given()
        listen = self._listen(raw, given)
        management = self._management(raw, given, listen)
        self._check_upstreams(raw, listen)
        changes: dict[str, Any] = {"listen": listen, "management": management}
        if document is not None and not raw.get("upstreams"):
            changes["upstreams"] = self._default_upstreams(listen)
        if settings is None or self._in_file or self._elsewhere:
            raise ConfigError(self._problems(), self._readable_plugins(raw))
        log = {str(loc[1]): value for loc, value in given.items() if loc[0] == "log"}
        changes["log"] = settings.log.model_copy(update=log)
        for loc, value in given.items():
            changes.setdefault(str(loc[0]), value)
        return settings.model_copy(update=changes)

    def _problems(self) -> Iterator[str]:
        for line, loc, text in sorted(self._in_file, key=by_line):
            yield told(str(self._path), line, show_loc(loc), text)
        yield from sorted(self._elsewhere)

    # the file

    def _document(self) -> dict[str, Any] | None:
        """The file as data for the models; None if it cannot be read at all."""
        if self._path is None:
            return {}
        node, problems = yaml.read(self._path)
        self._in_file += problems
        if node is None:
            return None if problems else {}
        if isinstance(node, yaml.ScalarNode) and node.value is None and not node.broken:
            return {}
        if not isinstance(node, yaml.MapNode):
            self._in_file.append(yaml.Problem(node.line, (), "must be a mapping, such as listen: :3006"))
            return None
        node = yaml.interpolate(node, self._environ, self._path.parent, self._in_file)
        self._spots = dict(yaml.spots(node))
        data: dict[str, Any] = yaml.plain(node)
        if isinstance(plugins := data.get("plugins"), list):
            spots: list[dict[Loc, Spot]] = [{} for _ in plugins]
            for loc, spot in self._spots.items():
                if loc[:1] == ("plugins",) and len(loc) > 1 and isinstance(index := loc[1], int):
                    spots[index][loc[2:]] = spot
            data["plugins"] = [
                self._plugin(*one) for one in zip(range(len(plugins)), plugins, spots, strict=True)
            ]
        return data

    def _plugin(self, index: int, item: object, spots: dict[Loc, Spot]) -> object:
        """An item of `plugins` as data for `PluginSettings`, if it can be one; `spots` start from it."""
        place = show_loc(("plugins", index))
        common = {"line": spots[()].line, "place": place, "source": str(self._path), "spots": spots}
        if isinstance(item, str):
            return {"use": item, **common}
        if not isinstance(item, dict):
            return item
        options = {key: value for key, value in item.items() if key != "use"}
        lines = {show_loc(loc): spot.key_line for loc, spot in spots.items() if loc and loc != ("use",)}
        used = {"use": item["use"]} if "use" in item else {}
        return {**used, "options": options, "lines": lines, **common}

    def _readable_plugins(self, raw: dict[str, Any]) -> Iterator[PluginSettings]:
        """The items of `plugins` that nothing has been found wrong with."""
        items = raw.get("plugins")
        broken = {loc[:2] for loc, spot in self._spots.items() if spot.broken}
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if ("plugins", index) not in broken:
                with contextlib.suppress(ValidationError):
                    yield PluginSettings.model_validate(item)

    def _validated(self, raw: dict[str, Any]) -> Settings | None:
        try:
            return Settings.model_validate(raw, context=Context(self._path.parent if self._path else Path()))
        except ValidationError as error:
            self._in_file += translate(error, self._spots, _known_keys)
            return None

    def _refuse(self, loc: Loc, text: str, value: object = _FAILED) -> None:
        """A problem of the file; with a value `text` is what is wrong with it."""
        spot = nearest(self._spots, loc)
        shown = "" if value is _FAILED else f"{subject(value, loc, spot)} "
        self._in_file.append(yaml.Problem(spot.line, loc, shown + text))

    def _check_upstreams(self, raw: dict[str, Any], listen: Address | None) -> None:
        upstreams = raw.get("upstreams")
        if not isinstance(upstreams, list):
            return
        if len(upstreams) > 1:
            text = "routes between several upstreams are not there yet: keep one"
            self._refuse(("upstreams", 1), text)
        for index, upstream in enumerate(upstreams):
            if not isinstance(upstream, dict):
                continue
            for loc, text, *value in contradictions(upstream):
                self._refuse(("upstreams", index, *loc), text, *value)
            url = valid(read_base_url, upstream.get("base_url"))
            elsewhere = upstream.get("unix_socket") is not None or upstream.get("proxy") is not None
            if url is not None and not elsewhere and (why := _calls_itself(url, listen)):
                self._refuse(("upstreams", index, "base_url"), why, upstream["base_url"])

    # what comes from elsewhere

    def _read(
        self, source: str, value: object, validate: Callable[[object], Any], secret: bool = False
    ) -> Any:
        """The value, or `_FAILED` after telling why."""
        try:
            return validate(value)
        except (Refused, UnitError) as error:
            self._elsewhere.append(f"{source}: {'the value' if secret else subject(value, ())} {error}")
            return _FAILED

    def _given(self) -> dict[Loc, Any]:
        """What the environment sets, but for HOST, PORT and the default upstream."""
        given: dict[Loc, Any] = {}
        for name, text in self._environ.items():
            if name in _FROM_ENVIRONMENT:
                loc, validate = _FROM_ENVIRONMENT[name]
                value = self._read(name, text, validate, secret=name == "WEIR_MANAGEMENT_TOKEN")
                if value is not _FAILED:
                    given[loc] = value
        if "workers" in self._overrides:
            workers = self._read("--workers", self._overrides["workers"], read_workers)
            if workers is not _FAILED:
                given["workers",] = workers
        return given

    def _listen(self, raw: dict[str, Any], given: Mapping[Loc, Any]) -> Address | None:
        """The data port, part by part; None if some part is wrong."""
        listen: Address | None = DEFAULT_LISTEN
        if ("listen",) in given:
            listen = given["listen",]
        elif raw.get("listen") is not None:
            listen = valid(Address.parse, raw["listen"])
        for name in sorted(self._overrides.keys() - {"host", "port", "workers"}):
            self._elsewhere.append(f"--{name}: unknown option")
        host = self._part("host", _host_part)
        port = self._part("port", _port_part)
        if listen is None or _FAILED in (host, port):
            return None
        return Address(listen.host if host is None else host, listen.port if port is None else port)

    def _part(self, part: str, validate: Callable[[object], Any]) -> Any:
        """From the command line or else the environment; None if from neither."""
        value = None
        if part.upper() in self._environ:
            value = self._read(part.upper(), self._environ[part.upper()], validate)
        if part in self._overrides:
            given = self._read(f"--{part}", self._overrides[part], validate)
            value = _FAILED if value is _FAILED else given
        return value

    def _management(
        self, raw: dict[str, Any], given: Mapping[Loc, Any], listen: Address | None
    ) -> Address | None:
        in_file = ("management",) not in given
        value: Address | None
        if not in_file:
            value = given["management",]
        elif raw.get("management") is not None:
            value = valid(_management, raw["management"])
        else:
            return None if listen is None else _default_management(listen)
        if value is not None and listen is not None and value.overlaps(listen):
            why = f"is taken by the data port (listen: {listen})"
            if in_file:
                self._refuse(("management",), why, raw["management"])
            else:
                self._elsewhere.append(f"WEIR_MANAGEMENT: {quote(str(value))} {why}")
        return value

    def _default_upstreams(self, listen: Address | None) -> list[UpstreamSettings]:
        """What OPENAI_API_KEY and OPENAI_BASE_URL make, if either is set."""
        key, url = self._environ.get("OPENAI_API_KEY"), self._environ.get("OPENAI_BASE_URL")
        if key is None and url is None:
            return []
        secret = None if key is None else self._read("OPENAI_API_KEY", key, read_secret, secret=True)
        base_url = OPENAI_URL
        if url is not None:
            base_url = self._read("OPENAI_BASE_URL", url, lambda value: _usable_url(value, listen))
        if _FAILED in (secret, base_url):
            return []
        return [UpstreamSettings(name="openai", base_url=base_url, api_key=secret)]


def _usable_url(value: object, listen: Address | None) -> str:
    url = read_base_url(value)
    for _, why, *_ in contradictions({"base_url": url}):
        raise Refused(why)
    if why := _calls_itself(url, listen):
        raise Refused(why)
    return url


def _calls_itself(url: str, listen: Address | None) -> str:
    """Why there cannot be an upstream at this URL, or nothing."""
    if listen is None or not listen.reaches(*split_url(url)):
        return ""
    return f"is Weir's own address (it listens on {listen}): it would call itself"


def strangers(environ: Mapping[str, str]) -> list[str]:
    """A line for each `WEIR_*` variable that means nothing to Weir.

    They stop nothing: Kubernetes injects variables for every Service, and other programs have their own.
    """
    return [
        f"{quote(name)[1:-1]}: unknown variable{_near_variable(name)}"
        for name, value in sorted(environ.items())
        if name.startswith("WEIR_") and name not in ENVIRONMENT and not _from_kubernetes(name, value)
    ]


def _near_variable(name: str) -> str:
    # Compared without the prefix, or every variable would look like every other.
    ours = {known.removeprefix("WEIR_"): known for known in ENVIRONMENT if known.startswith("WEIR_")}
    near = difflib.get_close_matches(name.removeprefix("WEIR_")[:100], ours, n=1)
    return f'; did you mean "{ours[near[0]]}"?' if near else f"; known: {', '.join(sorted(ours.values()))}"


def _from_kubernetes(name: str, value: str) -> bool:
    return bool(_KUBERNETES.fullmatch(name) or (name.endswith("_PORT") and _KUBERNETES_PORT.fullmatch(value)))
