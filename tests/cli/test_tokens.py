"""Counting and pricing a request offline."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.cli.tokens import ENDPOINTS, _endpoint
from proxy.pricing import prompt, tokens

from .running import said, weir

HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 100}


def written(folder: Path, body: Any) -> str:
    path = folder / "request.json"
    path.write_bytes(body if isinstance(body, bytes) else orjson.dumps(body))
    return str(path)


def estimate(*arguments: str, stdin: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(said(weir("tokens", "--json", *arguments, stdin=stdin)))
    return found


def test_a_file_is_counted_and_priced(clean: Path) -> None:
    lines = said(weir("tokens", written(clean, HELLO))).splitlines()
    assert lines[:6] == [
        "endpoint       chat/completions",
        "model          gpt-4o-mini",
        "input tokens   9 (o200k_base)",
        "output tokens  100 at most",
        "input cost     $0.00000135",
        "cost           $0.00006135 at most",
    ]
    assert lines[6].startswith("prices         20")


def test_standard_input_and_json() -> None:
    assert estimate("-", stdin=orjson.dumps(HELLO).decode()) == {
        "object": "weir.estimate",
        "model": "gpt-4o-mini",
        "encoding": "o200k_base",
        "method": "tiktoken",
        "input_tokens": 9,
        "max_output_tokens": 100,
        "input_cost_usd": 0.00000135,
        "max_cost_usd": 0.00006135,
    }


def test_each_choice_may_have_the_most(clean: Path) -> None:
    found = estimate(written(clean, {**HELLO, "n": 3}))
    assert (found["max_output_tokens"], found["max_cost_usd"]) == (300, 0.00018135)


def test_without_a_limit_it_is_the_models_own(clean: Path) -> None:
    body = {key: value for key, value in HELLO.items() if key != "max_tokens"}
    assert estimate(written(clean, body))["max_output_tokens"] == 16384


def test_what_has_no_price_costs_nothing_known(clean: Path) -> None:
    path = written(clean, {**HELLO, "model": "my-own"})
    found = estimate(path)
    assert (found["input_tokens"], found["input_cost_usd"], found["max_cost_usd"]) == (9, None, None)
    assert said(weir("tokens", path)).count("not known: there is no price") == 2
    assert estimate(written(clean, {"messages": HELLO["messages"]}))["model"] is None


def test_the_prices_of_the_configuration_count(clean: Path) -> None:
    (clean / "prices.yaml").write_text(
        "version: 1\nupdated: 2026-11-22\nextends: default\naliases: {my-own: gpt-4o-mini}\n"
    )
    (clean / "weir.yaml").write_text("pricing: prices.yaml\n")
    path = written(clean, {**HELLO, "model": "my-own"})
    assert estimate(path)["max_cost_usd"] == 0.00006135
    (clean / "weir.yaml").write_text("listen: 127.0.0.1:3006\n")
    assert estimate(path)["max_cost_usd"] is None


def test_a_text_that_is_too_long_to_be_counted_has_a_bound(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LIMIT", 5)
    path = written(clean, HELLO)
    found = estimate(path)
    assert found["method"] == "upper_bound"
    assert found["input_tokens"] > 9
    assert f"input tokens   {found['input_tokens']} at most (o200k_base)" in said(weir("tokens", path))


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        ({"messages": []}, "chat/completions"),
        ({"model": "gpt-5", "input": "x"}, "responses"),
        ({"model": "text-embedding-3-small", "input": "x"}, "embeddings"),
        ({"model": "my-own", "input": "x", "encoding_format": "float"}, "embeddings"),
        ({"model": "davinci-002", "prompt": "x"}, "completions"),
        ({"model": "gpt-image-1", "prompt": "x"}, "images/generations"),
        ({"model": "dall-e-3", "prompt": "x"}, "images/generations"),
        ({"model": "tts-1", "input": "x", "voice": "alloy"}, "audio/speech"),
        ({"prompt": "x"}, "completions"),
        ({"model": "gpt-4o"}, None),
    ],
)
def test_the_body_tells_the_endpoint(body: dict[str, Any], endpoint: str | None) -> None:
    assert _endpoint(body) == endpoint


def test_the_endpoint_that_is_named_counts(clean: Path) -> None:
    path = written(clean, {"model": "my-own", "input": "Hello!"})
    assert "endpoint       responses" in said(weir("tokens", path))
    assert "endpoint       embeddings" in said(weir("tokens", path, "--endpoint", "embeddings"))


def test_all_endpoints_that_are_counted_can_be_named() -> None:
    assert set(ENDPOINTS) == prompt.ENDPOINTS


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "is a JSON object"),
        ({"model": "gpt-4o"}, "which endpoint is that for? say --endpoint chat/completions|"),
    ],
)
def test_what_is_no_request_is_wrong_use(clean: Path, body: Any, says: str) -> None:
    told = said(weir("tokens", written(clean, body)), 2)
    assert says in told
    assert "request.json" in told


def test_a_file_that_is_not_there_is_wrong_use() -> None:
    result = weir("tokens", "nowhere.json")
    assert result.exit_code == 2
    assert "nowhere.json" in result.stderr


def test_a_folder_is_no_file(clean: Path) -> None:
    os.mkdir(clean / "folder")
    result = weir("tokens", "folder")
    assert result.exit_code in (1, 2)
    assert "folder" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listen: [\n", "weir.yaml:"),
        ("pricing: nowhere.yaml\n", "nowhere.yaml: no such file"),
        ("pricing: weir.yaml\n", "weir.yaml:1: version is missing"),
    ],
)
def test_prices_that_cannot_be_read_are_told(clean: Path, text: str, says: str) -> None:
    (clean / "weir.yaml").write_text(text)
    assert says in said(weir("tokens", written(clean, HELLO)), 2)


def test_a_configuration_that_is_named_and_not_there_is_told(clean: Path) -> None:
    assert "nope.yaml: no such file" in said(weir("tokens", "-c", "nope.yaml", written(clean, HELLO)), 2)


def test_nobody_needs_the_secrets_of_a_configuration_to_count(clean: Path) -> None:
    (clean / "weir.yaml").write_text("upstreams: [{base_url: 'https://up.test', api_key: '${NOT_SET}'}]\n")
    assert estimate(written(clean, HELLO))["max_cost_usd"] == 0.00006135


def test_prices_are_found_beside_the_configuration(clean: Path) -> None:
    (clean / "etc").mkdir()
    table = "version: 1\nupdated: 2026-11-22\nextends: default\naliases: {my-own: gpt-4o-mini}\n"
    (clean / "etc" / "prices.yaml").write_text(table)
    (clean / "etc" / "weir.yaml").write_text("pricing: prices.yaml\n")
    path = written(clean, {**HELLO, "model": "my-own"})
    assert estimate("-c", "etc/weir.yaml", path)["max_cost_usd"] == 0.00006135
