"""Definitions of tools. The models get them as a namespace in TypeScript, and that text is what counts."""

from typing import Any

from proxy.pricing.prompt.tally import Tally, compact

DEFINED = 9
"""Tokens around the namespace."""
AFTER_SYSTEM = -4
"""Tokens less if a system message precedes it."""
NAMED = 4
"""Tokens beside the name of the function that must be called."""
SCHEMA = 30
"""Tokens around the schema of a structured answer. A guess: none are published."""
_DEEPEST = 16
"""Levels of a schema that are spelled out; what is below counts as JSON."""
# What TypeScript cannot say, or we do not know how they say it.
_UNSPELLED = frozenset(("$ref", "allOf", "not", "if", "const", "prefixItems", "patternProperties"))
_PLAIN = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
}


def definitions(tally: Tally, tools: Any, functions: Any = None) -> bool:
    """Count the definitions of tools; whether there was a function among them.

    `tools` may be those of chat or of responses; `functions` are what chat had before it had tools. A tool
    that is no function counts as JSON; what a built-in one adds on top is known to the upstream alone.
    """
    known = [each for each in functions if isinstance(each, dict)] if isinstance(functions, list) else []
    for tool in tools if isinstance(tools, list) else ():
        if not isinstance(tool, dict):
            continue
        function = tool.get("function")
        if isinstance(function, dict):
            known.append(function)
        elif tool.get("type") == "function":
            known.append(tool)
        else:
            tally.texts.append(compact(tool))
    if not known:
        return False
    tally.texts.append(namespace(known))
    tally.fixed += DEFINED
    for function in known:
        parameters = function.get("parameters")
        if isinstance(parameters, dict):
            for name in ("$defs", "definitions"):
                if parameters.get(name):
                    tally.texts.append(compact(parameters[name]))
    return True


def choice(tally: Tally, value: Any) -> None:
    """Count a `tool_choice` or `function_call` of the request."""
    if value == "none":
        tally.fixed += 1
    elif isinstance(value, dict):
        function = value.get("function")
        name = function.get("name") if isinstance(function, dict) else value.get("name")
        if isinstance(name, str) and name:
            tally.texts.append(name)
            tally.fixed += NAMED


def answer_format(tally: Tally, value: Any) -> None:
    """Count a `response_format`, or the `text.format` of responses, if it has a schema."""
    if isinstance(value, dict) and value.get("type") == "json_schema":
        inner = value.get("json_schema", value)
        schema = inner.get("schema", inner) if isinstance(inner, dict) else inner
        tally.texts.append(compact(schema))
        tally.fixed += SCHEMA


def namespace(functions: list[dict[str, Any]]) -> str:
    """The definitions as text."""
    lines = ["namespace functions {", ""]
    for function in functions:
        if isinstance(description := function.get("description"), str) and description:
            lines.append(f"// {description}")
        name = _text(function.get("name"))
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        if isinstance(properties, dict) and properties:
            lines.append(f"type {name} = (_: {{")
            _properties(lines, parameters, properties, 0, 0)
            lines.append("}) => any;")
        else:
            lines.append(f"type {name} = () => any;")
        lines.append("")
    lines.append("} // namespace functions")
    return "\n".join(lines)


def _properties(lines: list[str], schema: Any, properties: dict[str, Any], level: int, depth: int) -> None:
    indent = "  " * level
    required = schema.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else ()
    for name, inner in properties.items():
        if level == 0 and isinstance(inner, dict):  # further in, descriptions are left out
            description = inner.get("description")
            if isinstance(description, str) and description:
                lines.append(f"// {description}")
        mark = "" if name in needed else "?"
        lines.append(f"{indent}{name}{mark}: {_type(inner, level, depth)},")


def _type(schema: Any, level: int, depth: int) -> str:
    """The type that a schema describes; `level` is how far it is indented. No part is visited twice."""
    if not isinstance(schema, dict):
        return "any"
    if depth >= _DEEPEST:
        return compact(schema)
    enum = schema.get("enum")
    if isinstance(enum, list) and enum:
        return " | ".join([compact(value) for value in enum])
    kind = schema.get("type")
    if isinstance(kind, str):
        return _named(kind, schema, level, depth)
    if isinstance(kind, list):
        kinds = dict.fromkeys(each for each in kind if isinstance(each, str))
        return " | ".join([_named(each, schema, level, depth) for each in kinds])
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        return " | ".join([_type(option, level, depth + 1) for option in options])
    return "any" if _UNSPELLED.isdisjoint(schema) else compact(schema)


def _named(kind: str, schema: dict[str, Any], level: int, depth: int) -> str:
    if kind == "object":
        lines = ["{"]
        properties = schema.get("properties")
        if isinstance(properties, dict) and properties:
            _properties(lines, schema, properties, level + 1, depth + 1)
        else:
            lines.append("")
        lines.append("  " * level + "}")
        return "\n".join(lines)
    if kind == "array":
        items = schema.get("items")
        return f"{_type(items, level, depth + 1)}[]" if items else "any[]"
    return _PLAIN.get(kind, "any")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
