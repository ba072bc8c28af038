"""The schema, with the plugins that are installed."""

import re
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from proxy.api import Plugin
from proxy.core import yaml
from tests.core.test_config import PAGE

from .running import install, said, weir

HERE = "tests.cli.test_schema"
KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def fits(value: Any, rule: dict[str, Any], top: dict[str, Any]) -> bool:
    """As much of JSON schema as there is in ours."""
    if "$ref" in rule:
        return fits(value, top["$defs"][rule["$ref"].removeprefix("#/$defs/")], top)
    if "anyOf" in rule:
        return any(fits(value, one, top) for one in rule["anyOf"])
    if "const" in rule:
        return bool(value == rule["const"])
    kind = rule.get("type")
    if kind is None:
        assert rule.keys() <= {"default", "description"}
        return True
    if not isinstance(value, KINDS[kind]) or (kind in ("integer", "number") and isinstance(value, bool)):
        return False
    match value:
        case dict():
            known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
            rest = [one for key, one in value.items() if key not in known]
            return (
                all(key in value for key in rule.get("required", []))
                and (not rest or others is not False)
                and all(fits(one, others, top) for one in rest if isinstance(others, dict))
                and all(fits(one, known[key], top) for key, one in value.items() if key in known)
            )
        case list():
            return all(fits(one, rule.get("items", {}), top) for one in value)
        case str():
            return len(value) >= rule.get("minLength", 0) and bool(re.search(rule.get("pattern", ""), value))
    return bool(rule.get("minimum", value) <= value <= rule.get("maximum", value))


class Redactor(Plugin):
    """Takes out a word."""

    def __init__(  # type: ignore[no-untyped-def]
        self,
        word: str,
        *,
        times: int = 3,
        by: Any = None,
        on: Sequence[str] = (),
        named: "NobodyKnows" = None,  # type: ignore[name-defined] # noqa: F821
        bare=None,
    ) -> None: ...


class Open(Plugin):
    def __init__(self, **keys: Any) -> None: ...


class Plain(Plugin): ...


@pytest.fixture
def schema(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    names = {"redact": "Redactor", "open": "Open", "plain": "Plain"}
    install(monkeypatch, {name: f"{HERE}:{cls}" for name, cls in names.items()})
    found: dict[str, Any] = orjson.loads(said(weir("schema")))
    return found


@pytest.mark.parametrize(
    "plugin",
    [
        "plain",
        "my_plugins:Own",
        "${PLUGIN}",
        {"use": "plain"},
        {"use": "redact", "word": "x"},
        {"use": "redact", "word": "${WORD}", "times": 2, "by": "*", "on": ["x"]},
        {"use": "redact", "word": "x", "times": "${TIMES}", "named": 1, "bare": [2]},
        {"use": "open", "anything": 1},
        {"use": "my_plugins:Own", "anything": 1},
    ],
)
def test_it_takes_what_is_installed_and_what_it_cannot_know(schema: dict[str, Any], plugin: Any) -> None:
    assert fits({"plugins": [plugin]}, schema, schema)


@pytest.mark.parametrize(
    "plugin",
    [
        "redcat",
        {"use": "redcat"},
        {"use": "redact"},
        {"use": "redact", "wrod": "x", "word": "x"},
        {"use": "redact", "word": 7},
        {"use": "redact", "word": "x", "on": "x"},
        {"use": "redact", "word": "x", "times": "often"},
        {"use": "plain", "word": "x"},
        {"word": "x"},
        7,
    ],
)
def test_it_refuses_what_the_loader_would(schema: dict[str, Any], plugin: Any) -> None:
    assert not fits({"plugins": [plugin]}, schema, schema)


def test_it_says_what_a_plugin_is_for_and_what_its_options_default_to(schema: dict[str, Any]) -> None:
    choices = schema["$defs"]["PluginSettings"]["anyOf"]
    assert {"const": "redact", "description": "Takes out a word."} in choices
    (mapping,) = [one for one in choices if one.get("properties", {}).get("use", {}).get("const") == "redact"]
    assert mapping["properties"]["times"]["default"] == 3
    assert mapping["properties"]["by"] == {}


def test_it_takes_the_example_of_the_page() -> None:
    schema = orjson.loads(said(weir("schema")))
    node, _ = yaml.parse(PAGE.partition("```yaml\n")[2].partition("```")[0])
    assert node is not None
    assert fits(yaml.plain(node), schema, schema)


def test_a_broken_plugin_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"broken": "no.such.module:X", "plain": f"{HERE}:Plain"})
    result = weir("schema")
    assert result.exit_code == 0
    assert result.stderr.startswith("weir: warning: the plugin 'broken' cannot be loaded")
    assert b'"plain"' in result.stdout_bytes
    orjson.loads(result.stdout)
