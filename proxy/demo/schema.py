"""Making up a value that a JSON schema accepts, for structured outputs and tool arguments."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from .errors import ApiError

_FORMATS = {
    "date": "2025-06-15",
    "time": "12:00:00Z",
    "date-time": "2025-06-15T12:00:00Z",
    "duration": "PT1H",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_DEEP = 6  # below this, optional things are left out, which ends what refers to itself
_BUDGET = 5_000  # values made for one schema; then null, so that no schema can make us work for ever


def example(schema: object) -> str:
    """JSON text of the same valid instance each time. `pattern` is not honoured, nor are `not` and `if`."""
    try:
        return orjson.dumps(_Maker(schema).value(schema, "value", 0)).decode()
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, AttributeError) as error:
        raise ApiError(400, "The JSON schema is not a valid one.", code="invalid_schema") from error


class _Maker:
    def __init__(self, root: object) -> None:
        self._root = root
        self._left = _BUDGET

    def value(self, schema: object, name: str, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > 10 * _DEEP:
            return None
        if not isinstance(schema, Mapping):  # `true`, or nothing at all: anything goes
            return f"example {name}"
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if enum := schema.get("enum"):
            return enum[0]
        if options := schema.get("anyOf") or schema.get("oneOf"):
            rest = {key: schema[key] for key in schema if key not in ("anyOf", "oneOf")}
            return self.value(_merged([rest, self._option(options, depth)]), name, depth + 1)
        match _kind(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return _string(schema, name)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case _:
                return None

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow `$ref` and merge `allOf`; what stands beside them wins."""
        for _ in range(_DEEP):
            self._left -= 1
            if self._left < 0:
                return {}
            if isinstance(ref := schema.get("$ref"), str):
                schema = {**self._pointed(ref), **{key: schema[key] for key in schema if key != "$ref"}}
            elif parts := schema.get("allOf"):
                schema = _merged([*map(self._resolve, parts), {k: schema[k] for k in schema if k != "allOf"}])
            else:
                break
        return schema

    def _pointed(self, ref: str) -> Mapping[str, Any]:
        found: Any = self._root
        for step in ref.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _option(self, options: list[Any], depth: int) -> Mapping[str, Any]:
        """The first that is not null or, when we are deep, the first that is."""
        known = [self._resolve(option) for option in options if isinstance(option, Mapping)]
        return min(known, key=lambda option: (option.get("type") == "null") != (depth > _DEEP))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        fields: Mapping[str, Any] = schema.get("properties", {})
        required = schema.get("required", [])
        wanted = [name for name in fields if depth <= _DEEP or name in required]
        return {name: self.value(fields[name], name, depth + 1) for name in wanted}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        first: list[Any] = [self.value(item, name, depth + 1) for item in schema.get("prefixItems", [])]
        fewest = schema.get("minItems", 0)
        usual = 0 if depth > _DEEP or schema.get("items", True) is False or first else 1
        wanted = min(max(fewest, usual), schema.get("maxItems", fewest + 1), max(self._left, 0))
        rest = range(len(first), wanted)
        return first + [self.value(schema.get("items"), f"{name} {at + 1}", depth + 1) for at in rest]


def _merged(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in parts:
        fields = {**whole.get("properties", {}), **part.get("properties", {})}
        required = [*whole.get("required", []), *part.get("required", [])]
        whole = {**whole, **part, **({"properties": fields, "required": required} if fields else {})}
    return whole


def _kind(schema: Mapping[str, Any]) -> str:
    """The type, or the first that is not null of several, or the one that the keywords speak of."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    guess = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return kind if isinstance(kind, str) else guess


def _string(schema: Mapping[str, Any], name: str) -> str:
    text = _FORMATS.get(schema.get("format", ""), f"example {name.replace('_', ' ')}")
    return text.ljust(min(schema.get("minLength", 0), _BUDGET), ".")[: schema.get("maxLength")]


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """One if it is allowed; else what is allowed at or near a bound."""
    step = schema.get("multipleOf", 1)
    bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    edges = [schema[key] for key in bounds if key in schema]
    near = [step * (edge // step + by) for edge in edges for by in (0, 1, -1)]
    middle = sum(edges) / max(len(edges), 1)
    found = next((number for number in (1, step, *edges, *near, middle) if _allows(schema, number, whole)), 1)
    return int(found) if whole else found


def _allows(schema: Mapping[str, Any], number: float, whole: bool) -> bool:
    step = schema.get("multipleOf", 1 if whole else None)
    return (
        schema.get("minimum", -math.inf) <= number <= schema.get("maximum", math.inf)
        and schema.get("exclusiveMinimum", -math.inf) < number < schema.get("exclusiveMaximum", math.inf)
        and (step is None or math.isclose(number, round(number / step) * step, abs_tol=1e-9))
        and (not whole or number == int(number))
    )
