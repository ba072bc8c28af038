"""What is wrong with a configuration, as one line each: place, value, reason.

No message shows a secret: neither a value that came by `${…}`, nor one whose key is among `_SECRET_KEYS`.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.core import yaml
from proxy.core.units import UnitError
from proxy.core.yaml import Loc, Spot, quote, show_loc

MAX_PROBLEMS: Final = 200
"""That one `ConfigError` tells; a hostile file could have a hundred thousand."""

_SECRET_KEYS: Final = frozenset(
    {
        "api_key",
        "key",
        "keys",
        "token",
        "management_token",
        "password",
        "secret",
        "database",
        "redis",
        "proxy",
    }
)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line each, those of the file in its order.

    `plugins` are the `PluginSettings` that could be read all the same: what is wrong with those has not been
    told yet, and whoever tells a person can add it.
    """

    def __init__(self, problems: Iterable[str], plugins: Iterable[Any] = ()) -> None:
        self.plugins: list[Any] = list(plugins)
        self.problems: list[str] = [" ".join(problem.splitlines()) for problem in problems]
        if (more := len(self.problems) - MAX_PROBLEMS) > 0:
            self.problems[MAX_PROBLEMS:] = [f"and {more} more"]
        super().__init__("\n".join(self.problems))


class Refused(ValueError):
    """A value cannot be used; `str()` is a predicate that does not repeat the value."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest of what there is, as the end of a message; empty if nothing is near."""
    near = difflib.get_close_matches(word[:100], list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


_BY_TYPE: Final[Mapping[str, str]] = {
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dataclass_type": "must be a mapping",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "string_too_short": "is too short",
    "string_too_long": "is too long",
    "too_short": "has too few items",
    "too_long": "has too many items",
}
"""What pydantic's kinds of error are in plain English, as predicates; most serve the options of plugins."""

_UNKNOWN_KEY: Final = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
_MISSING: Final = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})


def translate(
    error: ValidationError, spots: Mapping[Loc, Spot], known: Callable[[Loc], Iterable[str]]
) -> Iterator[yaml.Problem]:
    """pydantic's list as ours, but for what has been told already. `known` has the keys of a mapping."""
    for detail in error.errors(include_url=False):
        loc, kind = detail["loc"], detail["type"]
        is_key = loc[-1:] == ("[key]",)  # of a mapping with keys of one's own
        loc = loc[:-1] if is_key else loc
        spot = spots.get(loc)
        if kind == "default_factory_not_called" or (spot is not None and spot.broken):
            continue
        line = spot.key_line if is_key and spot else nearest(spots, loc).line
        if kind in _UNKNOWN_KEY:
            line = spot.key_line if spot else line
            yield yaml.Problem(line, loc, f"unknown key{_hint(str(loc[-1]), known(loc[:-1]))}")
        elif kind in _MISSING:
            yield yaml.Problem(line, loc, "is missing")
        else:
            yield yaml.Problem(line, loc, f"{subject(detail['input'], loc, spot)} {_predicate(detail, spot)}")


def _hint(key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return did_you_mean(key, names) or (f"; known here: {', '.join(names)}" if names else "")


def _predicate(detail: ErrorDetails, spot: Spot | None) -> str:
    context = detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Refused | UnitError):
        return str(cause)
    if detail["type"] in _BY_TYPE:
        return _BY_TYPE[detail["type"]].format(**context)
    if spot is not None and spot.hidden:
        return "cannot be used"  # the words of others might repeat it
    return f"cannot be used: {cause or detail['msg']}"


def subject(value: object, loc: Loc, spot: Spot | None = None) -> str:
    """A value as a message may show it: secrets not at all, text in quotes and cut."""
    key = next((part for part in reversed(loc) if isinstance(part, str)), "")
    if (spot is not None and spot.hidden) or key.lower() in _SECRET_KEYS:
        return "the value"
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)[:40]
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            # The last resort, for a secret that stands where none should: a password in a URL, a pasted key.
            text = f"***@{value.rpartition('@')[2]}" if "@" in value else value
            return quote(re.sub(r"(sk-|Bearer\s)\S+", r"\1***", text))
    return "the value"


def nearest(spots: Mapping[Loc, Spot], loc: Loc) -> Spot:
    """Where a value stands, or what encloses it where it is missing."""
    while loc and loc not in spots:
        loc = loc[:-1]
    return spots.get(loc, Spot(0, 0))


def by_line(problem: yaml.Problem) -> tuple[int, str]:
    """The order in which problems are told."""
    return problem.line, show_loc(problem.loc)


def told(source: str, line: int, place: str, text: str) -> str:
    """A whole line: the file and line, the place in it, what is wrong."""
    return ": ".join(part for part in (f"{source}:{line}" if line else source, place, text) if part)
