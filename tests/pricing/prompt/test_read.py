from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.pricing import tokens
from proxy.pricing.prompt import ENDPOINTS, FORMS, Form, Prompt, quick, read, read_upload
from proxy.pricing.prompt.content import content
from proxy.pricing.prompt.tally import Tally
from proxy.pricing.prompt.vision import SMALL, Patches
from proxy.pricing.values import Model
from proxy.pricing.vocabulary import VOCABULARIES

from .media import jpeg, mp3, mp4, pdf, png, url, wav

VECTORS = orjson.loads((Path(__file__).parents[2] / "data" / "token_vectors.json").read_bytes())["vectors"]
ENDPOINT = {
    "chat": "chat/completions",
    "responses": "responses",
    "completions": "completions",
    "embeddings": "embeddings",
    "image": "images/generations",
}
ELSEWHERE = {"cost": "in test_default.py"}
# All that does not come out as published, and why.
MISSES = {"chat-tool-calls-1": "the messages are not in the file; it measured 40 where the rule gives 39"}
IMAGES = ("image-tile", "image-patch")


@pytest.fixture(autouse=True, scope="module")
def _vocabularies() -> None:
    tokens.preload(*VOCABULARIES)


def _model(kind: str) -> str:
    if kind == "completions":
        return "gpt-3.5-turbo-instruct"
    return "gpt-3.5-turbo" if kind.endswith("cl100k") else "gpt-4o"


def _shown(size: tuple[int, int], detail: str | None) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url(png(*size)), "detail": detail}}


def _prompt(vector: dict[str, Any]) -> Prompt:
    kind: str = vector["kind"]
    given = vector["input"]
    if kind == "chat-image":
        parts = [{"type": "text", "text": given["text"]}, _shown(given["image"], given["detail"])]
        given = {"model": given["model"], "messages": [{"role": "user", "content": parts}]}
    found = read(ENDPOINT[kind.partition("-")[0]], {"model": _model(kind), **given})
    assert found is not None
    return found


def _vectors(*kinds: str) -> list[Any]:
    return [
        pytest.param(vector, id=vector["id"])
        for vector in VECTORS
        if vector["kind"] in kinds and vector["id"] not in MISSES
    ]


READ = sorted(ENDPOINTS | {"images/edits"})
TEXT = ("text", "text-ids")
OUTPUT = ("image-output-tokens",)
INPUT = sorted({vector["kind"] for vector in VECTORS} - {*ELSEWHERE, *IMAGES, *TEXT, *OUTPUT})


@pytest.mark.parametrize("vector", _vectors(*TEXT))
def test_published_counts_of_texts(vector: dict[str, Any]) -> None:
    expected = vector["expected"]
    counted = tokens.count(vector["input"]["text"], vector["input"]["encoding"])
    assert counted == (len(expected) if isinstance(expected, list) else expected)


@pytest.mark.parametrize("vector", _vectors(*INPUT))
def test_published_counts_of_prompts(vector: dict[str, Any]) -> None:
    prompt = _prompt(vector)
    assert prompt.count() == vector["expected"] <= prompt.bound


@pytest.mark.parametrize("vector", _vectors(*IMAGES))
def test_published_counts_of_images_that_are_read(vector: dict[str, Any]) -> None:
    given = vector["input"]
    if "model" in given:
        tally = Tally({"model": given["model"]})
        content(tally, [_shown(given["size"], given.get("detail"))])
        counted = tally.fixed + given.get("plus_text_overhead", 0)
    else:  # the guide's own examples name a budget, and no model
        assert (given["patch_budget"], given["multiplier"]) == (SMALL.patches, "1")
        counted = Patches(100, SMALL).tokens(given["size"], "high")
    assert counted == vector["expected"]


@pytest.mark.parametrize("vector", _vectors(*OUTPUT))
def test_published_counts_of_pictures(vector: dict[str, Any]) -> None:
    assert _prompt(vector).max_output_tokens == vector["expected"]


def test_every_vector_is_tested_or_named_as_a_miss() -> None:
    tested = _vectors(*TEXT, *OUTPUT, *IMAGES, *INPUT)
    costs = [vector for vector in VECTORS if vector["kind"] in ELSEWHERE]
    assert (len(tested), len(costs), len(MISSES)) == (80, 12, 1)
    assert len(tested) + len(costs) + len(MISSES) == len(VECTORS) == 93
    assert {vector["id"] for vector in VECTORS} >= set(MISSES)


@pytest.mark.parametrize(
    "endpoint", ["models", "moderations", "audio/transcriptions", "responses/input_tokens", ""]
)
def test_other_endpoints_have_no_prompt(endpoint: str) -> None:
    assert read(endpoint, {"model": "gpt-4o", "input": "hello"}) is None
    assert endpoint not in ENDPOINTS


def test_forms_are_read_where_files_are_uploaded() -> None:
    form = Form({"model": "m"}, [])
    for endpoint in FORMS:
        found = read_upload(endpoint, form)
        assert found is not None
        assert found.model == "m"
    assert read_upload("chat/completions", form) is None
    assert not FORMS & ENDPOINTS


@pytest.mark.parametrize("body", [None, [], "hello", 1, True])
@pytest.mark.parametrize("endpoint", READ)
def test_a_body_that_is_no_object_has_no_prompt(endpoint: str, body: Any) -> None:
    assert read(endpoint, body) is None


# What requests consist of, put together at random: nearer to what is read than any JSON is.
NAMES = st.sampled_from(
    [
        *("model", "messages", "role", "content", "name", "type", "text", "image_url", "input_audio", "data"),
        *("file", "refusal", "tool_calls", "function", "function_call", "arguments", "tools", "functions"),
        *("tool_choice", "parameters", "properties", "required", "enum", "items", "anyOf", "$ref", "$defs"),
        *("description", "response_format", "json_schema", "schema", "instructions", "input", "output"),
        *("summary", "encrypted_content", "prompt", "variables", "suffix", "n", "best_of", "max_tokens"),
        *(
            "max_completion_tokens",
            "max_output_tokens",
            "service_tier",
            "quality",
            "size",
            "detail",
            "custom",
            "file_data",
            "images",
            "mask",
            "input_fidelity",
            "url",
        ),
    ]
)
WORDS = st.sampled_from(
    [
        *("gpt-4o", "gpt-3.5-turbo-0301", "o3", "text-embedding-3-small", "davinci", "gpt-image-1"),
        *("system", "user", "tool", "function", "assistant", "function_call", "function_call_output"),
        *("message", "reasoning", "text", "input_text", "image_url", "input_image", "input_audio", "file"),
        *("refusal", "none", "auto", "json_schema", "object", "array", "string", "low", "high", "1024x1024"),
        *("computer_call_output", "image_generation_call", "item_reference", "data:image/png;base64,AAAA"),
        *(url(png(900, 2**31)), url(jpeg(4000, 3000)), url(wav(1, rate=10)), url(mp3(200)), url(mp4(9, 9))),
        *(url(pdf(2), "application/pdf"), url(b"text \xff", "text/plain"), "input_file", "original"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**63, 2**64, 10**400, -(10**400)]),
    st.floats(),
    WORDS,
    st.text(st.characters(exclude_categories=()), max_size=20),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=6)
ITEMS = st.lists(OBJECTS, max_size=4)
LISTS = st.sampled_from(["messages", "input", "tools", "functions", "prompt", "instructions"])
BODIES = st.builds(lambda a, b: {**a, **b}, OBJECTS, st.dictionaries(LISTS, ITEMS, max_size=4))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(READ), BODIES)
def test_any_json_has_a_prompt_within_its_bound(endpoint: str, body: dict[str, Any]) -> None:
    before = repr(body)
    prompt = read(endpoint, body)
    assert prompt is not None
    assert 0 <= prompt.count() <= prompt.bound
    assert prompt.size == sum(map(tokens.bound, prompt.texts))
    assert prompt.encoding in VOCABULARIES
    assert 1 <= prompt.choices < 2**31
    assert all(0 <= count < 2**31 for count in prompt.units.values())
    assert prompt.max_output_tokens is None or 0 <= prompt.max_output_tokens < 2**31
    assert repr(body) == before


def _nested(kind: str, depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        match kind:
            case "list":
                value = [value]
            case "properties":
                value = {"type": "object", "properties": {"a": value}}
            case "items":
                value = {"type": "array", "items": value}
            case "anyOf":
                value = {"anyOf": [value]}
            case "types":
                value = {"type": ["object", "array"] * 8, "properties": {"a": value}, "items": value}
            case _:
                value = {"content": value, "function": value, "items": value, "schema": value}
    return value


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", READ)
@pytest.mark.parametrize("kind", ["list", "properties", "items", "anyOf"])
def test_depth_does_no_harm(endpoint: str, kind: str) -> None:
    deep = _nested(kind, 20_000)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": deep}}}}
    body = {
        "model": deep,
        "messages": [deep, {"role": deep, "content": deep, "tool_calls": deep}],
        "input": [deep, {"type": deep, "content": deep, "output": deep}, {"type": "other", "x": deep}],
        "prompt": deep,
        "tools": [tool, deep, {"type": "custom", "x": deep}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": deep}},
        "text": {"format": {"type": "json_schema", "schema": deep}},
        "tool_choice": deep,
    }
    prompt = read(endpoint, body)
    assert prompt is not None
    assert 0 <= prompt.count() <= prompt.bound


def test_a_schema_is_not_visited_twice() -> None:
    schema = _nested("types", 12)
    body = {"messages": [], "functions": [{"name": "f", "parameters": {"properties": {"a": schema}}}]}
    # Each level has its child in two places here, so 2^12 of them; but not 16^12.
    prompt = read("chat/completions", body)
    assert prompt is not None
    assert prompt.size < 1_000_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", True),
        (b'{"messages": [{"role": "user", "content": "' + b"x" * 200_000 + b'"}]}', True),
        (b'{"messages": [{"role": "user", "content": "' + b"x" * 300_000 + b'"}]}', False),
        (b'{"messages": [{"role": "user", "content": "' + b"x," * 20_000 + b'"}]}', True),
        (b'"' + b"," * 20_000 + b'"', True),
        (b'{"messages": [' + b"1," * 4000 + b"1]}", True),
        (b'{"messages": [' + b"1," * 5000 + b"1]}", False),
        (b'{"messages": [' + b"[1]," * 2500 + b"1]}", False),
        (b'{"messages": [' + b'{"":' * 900 + b"[]" + b"}" * 900 + b"," + b"[]," * 1200 + b"1]}", True),
        (b'{"messages": [' + b'{"":' * 900 + b"[]" + b"}" * 900 + b"," + b"[]," * 1800 + b"1]}", False),
        (b'{"":' * 900 + b'"' + b"{" * 5000 + b'"' + b"}" * 900, False),
    ],
    ids=[
        *("empty", "a text", "a long text", "one with many commas", "no object", "values", "many values"),
        *("many lists", "deep and some lists", "deep and many lists", "what looks like many values"),
    ],
)
def test_a_body_is_quick_if_it_is_short_and_has_few_values(body: bytes, expected: bool) -> None:
    assert quick(body, orjson.loads(body)) is expected


@given(JSON)
def test_a_body_is_quick_by_its_separators(value: Any) -> None:
    body = {"messages": [value] * 500}
    try:
        raw = orjson.dumps(body)
    except TypeError:  # a number too large, half a character
        return
    separators = sum(map(raw.count, (b"{", b"[", b",")))
    assert quick(raw, body) is (len(raw) <= 256 * 1024 and (len(raw) <= 4096 or separators <= 4096))


def test_an_alias_is_read_as_what_it_stands_for() -> None:
    body = {"model": "ours", "messages": [{"role": "user", "content": "hello world"}]}
    prompt = read("chat/completions", body, Model("o4-mini", "chat", "cl100k_base"))
    assert prompt is not None
    assert (prompt.model, prompt.encoding, prompt.count()) == ("ours", "cl100k_base", 8)
