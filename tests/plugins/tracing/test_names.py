"""The table of names, the page that explains it, and OpenTelemetry's own constants."""

import re
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, openai_attributes
from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    http_attributes,
    url_attributes,
    user_agent_attributes,
)

from plugins.tracing import names

PAGE = Path(__file__).parents[3] / "docs" / "tracing.md"
SINGLE = {
    value
    for name, value in vars(names).items()
    if name.isupper() and isinstance(value, str) and name != "OPENAI"
}


def used(table: names.GenAi) -> set[str]:
    return {name for name in table[1:] if name is not None}


def standard() -> set[str]:
    modules = (
        client_attributes,
        error_attributes,
        gen_ai_attributes,
        http_attributes,
        openai_attributes,
        url_attributes,
        user_agent_attributes,
    )
    return {value for module in modules for value in vars(module).values() if isinstance(value, str)}


def test_every_name_is_a_conventions_or_under_our_own() -> None:
    ours = {name for name in SINGLE if name.startswith("weir.")}
    assert ours | standard() >= SINGLE
    assert used(names.V1_41) <= standard()
    assert len(ours) > 10


def test_the_versions_differ_where_the_migration_guide_says() -> None:
    assert used(names.V1_41) - used(names.LATEST) == {"gen_ai.usage.cache_creation.input_tokens"}
    assert used(names.LATEST) - used(names.V1_41) == {
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.audio.input_tokens",
        "gen_ai.usage.audio.output_tokens",
        "gen_ai.usage.image.input_tokens",
        "gen_ai.usage.image.output_tokens",
    }


def test_operations_and_providers_are_well_known_ones() -> None:
    assert {operation.name for operation in names.OPERATIONS.values()} <= {
        one.value for one in gen_ai_attributes.GenAiOperationNameValues
    }
    assert {*names.PROVIDERS.values(), names.OPENAI} <= {
        one.value for one in gen_ai_attributes.GenAiProviderNameValues
    }


@pytest.mark.parametrize("name", sorted(SINGLE | used(names.V1_41) | used(names.LATEST)))
def test_every_name_is_documented(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text()


def test_no_other_name_is_documented() -> None:
    told = set(
        re.findall(r"`((?:weir|gen_ai|http|url|client|error|openai)\.[a-z_.]+[a-z])`", PAGE.read_text())
    )
    assert told <= SINGLE | used(names.V1_41) | used(names.LATEST)
