"""What a price table may say: plain values, as they come from YAML or JSON, made into entries.

`read` finds everything that is wrong at once. Money is decimal text and never a number, because a number of
YAML is a float: `0.1` would not be ten cents. docs/pricing.md describes the format for people.
"""

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from .names import LONGEST, MAX_PATTERNS, Names, is_pattern
from .rates import TOKEN_UNITS
from .units import UNITS

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys and indexes from the top."""
Row: TypeAlias = Mapping[str, Decimal]
"""US dollars by unit."""

VERSION: Final = 1
TIERS: Final = ("standard", "flex", "priority", "batch", "ultrafast")
KINDS: Final = (
    "chat",
    "responses",
    "completion",
    "embedding",
    "image_generation",
    "audio_transcription",
    "audio_speech",
    "realtime",
    "video_generation",
    "moderation",
)
ENCODINGS: Final = ("o200k_base", "o200k_harmony", "cl100k_base", "p50k_base", "r50k_base")
DEFAULT_ENCODING: Final = "o200k_base"
SHOWN: Final = 60
"""Characters of a value that a message repeats."""

_MODEL_KEYS: Final = (
    "match",
    "kind",
    "encoding",
    "context_window",
    "max_output_tokens",
    "regional_uplift",
    "tools",
    "prices",
)
_UPSTREAM_KEYS: Final = (
    "multiplier",
    "regional",
    "default_service_tier",
    "trust_usage_cost",
    "aliases",
    "overrides",
    "models",
)
_TOP_KEYS: Final = (
    "version",
    "currency",
    "unit",
    "updated",
    "extends",
    "unknown_model",
    "tools",
    "models",
    "aliases",
    "upstreams",
)
_PRICE_KEYS: Final = ("from", *TIERS, "long_context", "per_image")
_ROW_KEYS: Final = (*TOKEN_UNITS, *UNITS)
_DECIMAL: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,12})?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Value = TypeVar("Value")


class Problem(NamedTuple):
    """One thing that is wrong, and where; `text` is one line."""

    path: Path
    text: str


class TableError(ValueError):
    """A price table that cannot be used. `problems` has everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{_dotted(problem.path)}: {problem.text}" for problem in problems))


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """The prices of a model from a date on, or from the beginning. `rows` and `long_rows` are by tier."""

    starts: date | None = None
    rows: Mapping[str, Row] = field(default_factory=dict)
    above: int | None = None
    long_rows: Mapping[str, Row] = field(default_factory=dict)
    per_image: Mapping[str, Row] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model. `names` are its name and its patterns; `prices` go from the oldest to the newest."""

    id: str
    names: tuple[str, ...]
    kind: str = "chat"
    encoding: str = DEFAULT_ENCODING
    context_window: int | None = None
    max_output_tokens: int | None = None
    regional_uplift: Decimal = Decimal(1)
    tools: Row = field(default_factory=dict)
    prices: tuple[PriceEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamEntry:
    """What one upstream does otherwise. `overrides` are by the id of the model that they stand for.

    `names` finds its own `models`.
    """

    multiplier: Decimal = Decimal(1)
    regional: bool = False
    default_service_tier: str = "standard"
    trust_usage_cost: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, ModelEntry] = field(default_factory=dict)
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    names: Names[ModelEntry] = field(default_factory=Names)


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """What happens with a model that is not in the table; `price_as` names the one that stands in."""

    policy: Literal["reject", "allow_unpriced", "price_as"] = "allow_unpriced"
    price_as: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A whole table. `names` finds its `models`."""

    updated: date
    unknown_model: UnknownModel
    tools: Row
    models: Mapping[str, ModelEntry]
    aliases: Mapping[str, str]
    upstreams: Mapping[str, UpstreamEntry]
    names: Names[ModelEntry]


def read(tree: object, base: Document | None = None) -> Document:
    """The table that a tree of plain values describes; `base` is what `extends: default` stands for.

    Raises `TableError` with all that is wrong.
    """
    reader = _Reader()
    document = reader.document(tree, base)
    if reader.problems:
        raise TableError(reader.problems)
    return document


class _Reader:
    """One `read`. What is wrong is noted, and something harmless goes on in its place."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def refuse(self, path: Path, text: str) -> None:
        self.problems.append(Problem(path, text))

    # the parts of a table

    def document(self, tree: object, base: Document | None) -> Document:
        top = self.mapping(tree, (), _TOP_KEYS, required=("version", "updated"))
        self.constant(top, "version", VERSION)
        self.constant(top, "currency", "USD")
        self.constant(top, "unit", "per_1m_tokens")
        if self.choice(top, "extends", ("default",), ()) is None:
            base = None
        own = self.models(top.get("models"), ("models",))
        models = own if base is None else {**base.models, **own}
        names = self.names(models, own, ("models",))
        aliases = self.aliases(top.get("aliases"), ("aliases",), names)
        upstreams = {
            name: self.upstream(entry, ("upstreams", name), models, names)
            for name, entry in self.section(top.get("upstreams"), ("upstreams",)).items()
        }
        tools = self.row(top.get("tools"), ("tools",))
        unknown = self.unknown_model(top.get("unknown_model"), names)
        if base is not None:
            unknown = unknown if "unknown_model" in top else base.unknown_model
            tools = {**base.tools, **tools}
            aliases = {**base.aliases, **aliases}
            upstreams = {**base.upstreams, **upstreams}
        updated = self.date(top.get("updated"), ("updated",)) if "updated" in top else None
        return Document(updated or date.min, unknown, tools, models, aliases, upstreams, names)

    def models(self, tree: object, path: Path) -> dict[str, ModelEntry]:
        found = self.section(tree, path)
        return {name: self.model(name, entry, (*path, name)) for name, entry in found.items()}

    def model(self, name: str, tree: object, path: Path, base: ModelEntry | None = None) -> ModelEntry:
        """A model; with a base, what the tree does not say is as there."""
        keys = _MODEL_KEYS if base is None else tuple(key for key in _MODEL_KEYS if key != "match")
        fields = self.mapping(tree, path, keys, required=("prices",) if base is None else ())
        if base is None:
            base = ModelEntry(name, tuple(dict.fromkeys((name.lower(), *self.patterns(fields, path)))))
            self.name(name, path)
        uplift = self.multiplier(fields, "regional_uplift", path)
        prices = self.prices(fields["prices"], (*path, "prices")) if "prices" in fields else None
        return ModelEntry(
            id=base.id,
            names=base.names,
            kind=self.choice(fields, "kind", KINDS, path) or base.kind,
            encoding=self.choice(fields, "encoding", ENCODINGS, path) or base.encoding,
            context_window=_or(self.count(fields, "context_window", path), base.context_window),
            max_output_tokens=_or(self.count(fields, "max_output_tokens", path), base.max_output_tokens),
            regional_uplift=_or(uplift, base.regional_uplift),
            tools={**base.tools, **self.row(fields.get("tools"), (*path, "tools"))},
            prices=_or(prices, base.prices),
        )

    def patterns(self, fields: Mapping[str, Any], path: Path) -> list[str]:
        match = fields.get("match", [])
        if not isinstance(match, list):
            self.refuse((*path, "match"), f"{_shown(match)} must be a list of names and patterns")
            return []
        for index, pattern in enumerate(match):
            self.name(pattern, (*path, "match", index))
        return [pattern.lower() for pattern in match if isinstance(pattern, str)]

    def name(self, value: object, path: Path) -> None:
        if not isinstance(value, str) or not value or value != value.strip():
            self.refuse(path, f"{_shown(value)} must be the name of a model, or a pattern")
        elif len(value) > LONGEST:
            self.refuse(path, f"{_shown(value)} is longer than {LONGEST} characters")
        elif "[" in value:
            self.refuse(path, f'{_shown(value)} has a "[": the wildcards are * and ?')

    def names(
        self, models: Mapping[str, ModelEntry], own: Mapping[str, ModelEntry], path: Path
    ) -> Names[ModelEntry]:
        """The index of all names; what is wrong is told at one's own entries, not at inherited ones."""
        names: Names[ModelEntry] = Names()
        patterns = 0
        for model in sorted(models.values(), key=lambda model: model.id in own):
            where = (*path, model.id)
            for name in model.names:
                patterns += is_pattern(name)
                if (other := names.add(name, model)) is None:
                    continue
                said = f"{_shown(name)} and a name of {_shown(other.id)} could mean the same model"
                self.refuse(where, f"{said}; make one of them longer, or exact")
        if patterns > MAX_PATTERNS:
            self.refuse(path, f"more than {MAX_PATTERNS} patterns")
        return names

    def prices(self, tree: object, path: Path) -> tuple[PriceEntry, ...]:
        if not isinstance(tree, list) or not tree:
            self.refuse(path, "must be a list of prices, with one at least")
            return ()
        entries = [self.price(entry, (*path, index)) for index, entry in enumerate(tree)]
        for index, (before, after) in enumerate(itertools.pairwise(entries), 1):
            where = (*path, index)
            if isinstance(tree[index], dict) and "from" not in tree[index]:
                self.refuse(where, 'must have a "from": only the first price can be from the beginning')
            elif after.starts and before.starts and after.starts <= before.starts:
                self.refuse((*where, "from"), "must be later than the one before it")
        return tuple(entries)

    def price(self, tree: object, path: Path) -> PriceEntry:
        fields = self.mapping(tree, path, _PRICE_KEYS)
        if isinstance(tree, dict) and not any(key in fields for key in (*TIERS, "per_image")):
            self.refuse(path, "has no prices: give it standard, or per_image")
        above, long_rows = None, {}
        if "long_context" in fields:
            where = (*path, "long_context")
            long = self.mapping(
                fields["long_context"],
                where,
                ("above_input_tokens", *TIERS),
                required=("above_input_tokens", "standard"),
            )
            above = self.count(long, "above_input_tokens", where)
            long_rows = self.rows(long, where, TOKEN_UNITS)
        return PriceEntry(
            starts=self.date(fields["from"], (*path, "from")) if "from" in fields else None,
            rows=self.rows(fields, path, _ROW_KEYS),
            above=above,
            long_rows=long_rows if above is not None else {},
            per_image=self.images(fields.get("per_image"), (*path, "per_image")),
        )

    def rows(self, fields: Mapping[str, Any], path: Path, known: Iterable[str]) -> dict[str, Row]:
        return {
            tier: self.row(self.mapping(fields[tier], (*path, tier), known), (*path, tier))
            for tier in TIERS
            if tier in fields
        }

    def images(self, tree: object, path: Path) -> dict[str, Row]:
        found = self.section(tree, path).items()
        return {
            quality: self.row(self.mapping(row, (*path, quality)), (*path, quality)) for quality, row in found
        }

    def row(self, tree: object, path: Path) -> Row:
        fields = self.section(tree, path)
        read = {unit: self.decimal(value, (*path, unit)) for unit, value in fields.items()}
        return {unit: value for unit, value in read.items() if value is not None}

    def upstream(
        self, tree: object, path: Path, models: Mapping[str, ModelEntry], names: Names[ModelEntry]
    ) -> UpstreamEntry:
        fields = self.mapping(tree, path, _UPSTREAM_KEYS)
        own = self.models(fields.get("models"), (*path, "models"))
        own_names = self.names(own, own, (*path, "models"))
        overrides = {}
        where = (*path, "overrides")
        for name, entry in self.section(fields.get("overrides"), where).items():
            if name in models:
                overrides[name] = self.model(name, entry, (*where, name), models[name])
            else:
                self.refuse((*where, name), f"there is no such model to override{_near(name, models)}")
        return UpstreamEntry(
            multiplier=_or(self.multiplier(fields, "multiplier", path), Decimal(1)),
            regional=self.switch(fields, "regional", path),
            default_service_tier=self.choice(fields, "default_service_tier", TIERS, path) or "standard",
            trust_usage_cost=self.switch(fields, "trust_usage_cost", path),
            aliases=self.aliases(fields.get("aliases"), (*path, "aliases"), own_names, names, upstream=True),
            overrides=overrides,
            models=own,
            names=own_names,
        )

    def aliases(
        self, tree: object, path: Path, *names: Names[ModelEntry], upstream: bool = False
    ) -> dict[str, str]:
        """Those of an upstream come before models, and may hide one; those of the table come after."""
        found = {}
        for alias, target in self.section(tree, path).items():
            where = (*path, alias)
            self.name(alias, where)
            if is_pattern(alias):
                self.refuse(where, "an alias is one name, without wildcards")
            self.model_name(target, where, names)
            if not upstream and (other := names[0].find(alias)) is not None:
                self.refuse(where, f"means the model {_shown(other.id)} already")
            if isinstance(target, str):
                found[alias.lower()] = target
        return found

    def unknown_model(self, tree: object, names: Names[ModelEntry]) -> UnknownModel:
        path: Path = ("unknown_model",)
        fields = self.section(tree, path, ("policy", "price_as"))
        if len(fields) > 1:
            self.refuse(path, "has both policy and price_as: give one of them")
        if "price_as" in fields:
            self.model_name(fields["price_as"], (*path, "price_as"), [names])
            return UnknownModel("price_as", str(fields["price_as"]))
        policy = self.choice(fields, "policy", ("reject", "allow_unpriced"), path)
        return UnknownModel("reject" if policy == "reject" else "allow_unpriced")

    def model_name(self, value: object, path: Path, names: Iterable[Names[ModelEntry]]) -> None:
        if not isinstance(value, str):
            self.refuse(path, f"{_shown(value)} must be the name of a model")
        elif all(one.find(value) is None for one in names):
            known = [name for one in names for name in one]
            self.refuse(path, f"there is no model {_shown(value)}{_near(value, known)}")

    # single values

    def section(self, value: object, path: Path, known: Iterable[str] = ()) -> Mapping[str, Any]:
        """A mapping that may be left out, or left empty."""
        return {} if value is None else self.mapping(value, path, known)

    def mapping(
        self, value: object, path: Path, known: Iterable[str] = (), required: Iterable[str] = ()
    ) -> Mapping[str, Any]:
        """A mapping without the keys that are not known; of what is none, nothing."""
        if not isinstance(value, dict):
            self.refuse(path, f"{_shown(value)} must be a mapping")
            return {}
        for key in required:
            if key not in value:
                self.refuse(path, f"{key} is missing")
        names = tuple(known)
        strange = [
            key
            for key in value
            if not isinstance(key, str) or not key.isprintable() or (names and key not in names)
        ]
        for key in strange:
            if isinstance(key, str) and key.isprintable():
                self.refuse((*path, key), f"unknown key{_near(key, names, listed=True)}")
            else:
                self.refuse(path, f"the key {_shown(key)} must be text on one line")
        return {key: item for key, item in value.items() if key not in strange} if strange else value

    def decimal(self, value: object, path: Path) -> Decimal | None:
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            return Decimal(value)
        if isinstance(value, float | int) and not isinstance(value, bool):
            self.refuse(path, f"{_shown(value)} must be in quotes: money is decimal text, never a number")
        elif isinstance(value, str) and _DECIMAL.fullmatch(value.removeprefix("-")):
            self.refuse(path, f"{_shown(value)} must not be negative")
        else:
            self.refuse(
                path, f'{_shown(value)} is not a decimal such as "2.50" (7 digits before the point, 12 after)'
            )
        return None

    def multiplier(self, fields: Mapping[str, Any], key: str, path: Path) -> Decimal | None:
        value = self.decimal(fields[key], (*path, key)) if key in fields else None
        if value == 0:
            self.refuse((*path, key), "must be more than 0")
        return value or None

    def count(self, fields: Mapping[str, Any], key: str, path: Path) -> int | None:
        value = fields.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**12:
            self.refuse((*path, key), f"{_shown(value)} must be a whole number of tokens")
            return None
        return value

    def date(self, value: object, path: Path) -> date | None:
        try:
            if isinstance(value, str) and _DATE.fullmatch(value):
                return date.fromisoformat(value)
        except ValueError:
            pass
        self.refuse(path, f"{_shown(value)} is not a date such as 2026-11-22")
        return None

    def switch(self, fields: Mapping[str, Any], key: str, path: Path) -> bool:
        value = fields.get(key, False)
        if not isinstance(value, bool):
            self.refuse((*path, key), f"{_shown(value)} must be true or false")
        return value is True

    def choice(self, fields: Mapping[str, Any], key: str, known: Sequence[str], path: Path) -> str | None:
        if key not in fields:
            return None
        value = fields[key]
        if isinstance(value, str) and value in known:
            return value
        near = _near(value, known) if isinstance(value, str) else ""
        self.refuse((*path, key), f"{_shown(value)} must be one of {', '.join(known)}{near}")
        return None

    def constant(self, fields: Mapping[str, Any], key: str, value: object) -> None:
        if key in fields and (fields[key] != value or isinstance(fields[key], bool)):
            self.refuse((key,), f"{_shown(fields[key])} must be {value}")


def _or(value: Value | None, other: Value) -> Value:
    return other if value is None else value


def _near(word: str, known: Iterable[str], *, listed: bool = False) -> str:
    """The nearest of what there is, as the end of a message."""
    names = list(known)
    near = difflib.get_close_matches(word[:100], names, n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known here: {', '.join(names)}" if listed and names else ""


def _shown(value: object) -> str:
    """A value as a message may show it: on one line, cut."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            cut = value if len(value) <= SHOWN else value[:SHOWN] + "…"
            return '"' + "".join(each if each.isprintable() else "?" for each in cut) + '"'
        case int() | float():
            return str(value)[:SHOWN]
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
    return type(value).__name__


def _dotted(path: Path) -> str:
    return ".".join(map(str, path)) or "the table"
