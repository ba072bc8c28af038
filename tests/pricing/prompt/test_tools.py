from typing import Any

import pytest

from proxy.pricing import tokens
from proxy.pricing.prompt.tally import Tally
from proxy.pricing.prompt.tools import answer_format, choice, definitions, namespace


def shown(properties: dict[str, Any], **more: Any) -> str:
    """How a function with these properties begins."""
    text = namespace([{"name": "f", "parameters": {"type": "object", "properties": properties, **more}}])
    head, tail = "namespace functions {\n\ntype f = (_: {\n", "\n}) => any;\n\n} // namespace functions"
    assert text.startswith(head)
    assert text.endswith(tail)
    return text.removeprefix(head).removesuffix(tail)


def test_the_namespace() -> None:
    weather = {
        "name": "get_current_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    }
    assert namespace([weather, {"name": "ping"}]) == (
        "namespace functions {\n"
        "\n"
        "// Get the weather\n"
        "type get_current_weather = (_: {\n"
        "// The city\n"
        "location: string,\n"
        'unit?: "celsius" | "fahrenheit",\n'
        "}) => any;\n"
        "\n"
        "type ping = () => any;\n"
        "\n"
        "} // namespace functions"
    )


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({"type": "string"}, "string"),
        ({"type": "integer"}, "number"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "null"}, "null"),
        ({"type": "integer", "enum": [1, 2]}, "1 | 2"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"type": "array"}, "any[]"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}, "string[][]"),
        ({"type": ["string", "null", "string"]}, "string | null"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "string | number"),
        ({"oneOf": [{"type": "string"}, {"type": "array"}]}, "string | any[]"),
        ({"type": "object"}, "{\n\n}"),
        ({}, "any"),
        ({"type": "something"}, "any"),
        ({"$ref": "#/$defs/x"}, '{"$ref":"#/$defs/x"}'),
        ({"const": 7}, '{"const":7}'),
        ("string", "any"),
        (None, "any"),
    ],
)
def test_types(schema: Any, type_: str) -> None:
    assert shown({"a": schema}) == f"a?: {type_},"
    assert shown({"a": schema}, required=["a", 1, None]) == f"a: {type_},"


def test_objects_within_are_indented_and_have_no_descriptions() -> None:
    leaf = {"type": "string", "description": "left out"}
    inner = {"type": "object", "description": "left out", "properties": {"c": leaf}}
    middle = {"type": "object", "description": "said", "properties": {"b": inner}, "required": ["b"]}
    assert shown({"a": middle}) == "// said\na?: {\n  b: {\n    c?: string,\n  },\n},"


def test_from_the_sixteenth_level_on_it_is_json() -> None:
    schema: Any = {"type": "string"}
    for _ in range(17):
        schema = {"type": "array", "items": schema}
    assert shown({"a": schema}) == 'a?: {"type":"array","items":{"type":"string"}}' + "[]" * 16 + ","


def counted(tools: Any = None, functions: Any = None) -> tuple[bool, list[str], int]:
    tally = Tally({})
    return definitions(tally, tools, functions), tally.texts, tally.fixed


FUNCTION = {"name": "f", "description": "It works"}
TEXT = namespace([FUNCTION])


@pytest.mark.parametrize(
    "given",
    [
        ([{"type": "function", "function": FUNCTION}],),
        ([{"type": "function", **FUNCTION}],),
        (None, [FUNCTION]),
        ([None, 1, "f", []], [FUNCTION, 1]),
    ],
)
def test_functions_are_a_namespace_and_nine_tokens(given: tuple[Any, ...]) -> None:
    assert counted(*given) == (True, [TEXT], 9)


def test_functions_and_tools_are_one_namespace() -> None:
    assert counted([{"type": "function", "function": {"name": "g"}}], [FUNCTION])[1] == [
        namespace([FUNCTION, {"name": "g"}])
    ]


def test_other_tools_are_json() -> None:
    assert counted([{"type": "web_search"}]) == (False, ['{"type":"web_search"}'], 0)


def test_definitions_that_are_referred_to_are_json() -> None:
    parameters = {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "string"}}}
    _, texts, _ = counted(functions=[{"name": "f", "parameters": parameters}])
    assert texts[1:] == ['{"x":{"type":"string"}}']


@pytest.mark.parametrize("nothing", [None, [], {}, "f", 1])
def test_nothing_defined_is_nothing_counted(nothing: Any) -> None:
    assert counted(nothing, nothing) == (False, [], 0)


def test_a_choice_by_name() -> None:
    for value in (
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "name": "f"},
        {"name": "f"},
    ):
        tally = Tally({})
        choice(tally, value)
        assert (tally.texts, tally.fixed) == (["f"], 4)


@pytest.mark.parametrize("value", ["auto", "required", None, [], {"name": 1}, {"function": None}, 1])
def test_other_choices_are_free(value: Any) -> None:
    tally = Tally({})
    choice(tally, value)
    assert (tally.texts, tally.fixed) == ([], 0)


def test_a_schema_that_cannot_be_json_again_is_the_texts_in_it() -> None:
    tally = Tally({})
    answer_format(tally, {"type": "json_schema", "schema": {"title": "place", "maximum": 2**70}})
    assert sorted(tally.texts[0].split()) == ["maximum", "place", "title"]
    assert tally.fixed == 30
    assert tokens.bound(tally.texts[0]) > 0
