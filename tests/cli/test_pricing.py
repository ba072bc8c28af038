"""Checking a price table, and comparing it with those of others."""

from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.core.pricing import load

from .running import said, weir

SMALL = """\
version: 1
updated: 2026-12-01
unknown_model: {price_as: gpt-4o}
models:
  gpt-4o:
    match: [gpt-4o-????-??-??]
    prices:
      - standard: {input: "2.5", cached_input: "1", output: "10"}
aliases: {ours: gpt-4o}
upstreams: {azure: {multiplier: "2"}}
"""
LITELLM = {
    "gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 2e-06, "output_cost_per_token": 9e-06},
    "new": {"litellm_provider": "openai", "input_cost_per_token": 1e-06},
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def configured(small: Path) -> Path:
    path = small.with_name("weir.yaml")
    path.write_text('pricing: small.yaml\nupstreams: [{name: x, base_url: "${NOT_SET}"}]\n')
    return path


@pytest.fixture
def litellm(tmp_path: Path) -> str:
    path = tmp_path / "litellm.json"
    path.write_bytes(orjson.dumps(LITELLM))
    return str(path)


def test_check_says_what_a_table_comes_to(small: Path, configured: Path) -> None:
    told = said(weir("pricing", "check", str(small)))
    assert told.splitlines() == [
        f"version        {load(small).version}",
        "models         1, 1 aliases",
        "upstreams      azure",
        "unknown model  price as gpt-4o",
        "ok",
    ]
    assert said(weir("pricing", "check", "--config", str(configured))) == told


def test_without_one_it_is_the_one_that_comes_with_weir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None).version in said(weir("pricing", "check"))


def test_check_tells_each_mistake_with_its_line(small: Path) -> None:
    small.write_text(SMALL.replace('"2.5"', "2.5").replace("{multiplier:", "{multiply:"))
    told = said(weir("pricing", "check", str(small)), 2)
    assert f"{small}:8:" in told
    assert "2.5 must be in quotes" in told
    assert f"{small}:10:" in told
    assert 'did you mean "multiplier"' in told
    assert said(weir("pricing", "check", str(small) + "x"), 2)


def test_diff_lists_what_both_sources_have_otherwise(small: Path, litellm: str) -> None:
    version = metadata.version("genai-prices")
    told = said(weir("pricing", "diff", str(small), "--litellm", litellm)).splitlines()
    assert f"genai-prices {version}: gpt-4o standard cached_input: 1 here, 1.25 there" in told
    assert "litellm: gpt-4o standard output: 10 here, 9 there" in told
    assert "litellm: new standard input: no price here, 1 there" in told


def test_diff_of_what_nobody_else_has(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL.replace("gpt-4o", "mine"))
    assert said(weir("pricing", "diff", str(path))) == "no price differs\n"


def test_without_a_source_there_is_nothing_to_compare(
    small: Path, litellm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "pip install genai-prices" in said(weir("pricing", "diff", str(small)), 1)
    told = said(weir("pricing", "diff", str(small), "--litellm", litellm))
    assert "genai" not in told
    assert "litellm: new" in told


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}'])
def test_a_file_that_is_not_litellms(small: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    assert str(path) in said(weir("pricing", "diff", str(small), "--litellm", str(path)), 2)


def updated(tmp_path: Path, *arguments: str) -> Any:
    """The model after an update, as it loads."""
    path = tmp_path / "new.yaml"
    path.write_text(said(weir("pricing", "update", "--from", "2030-01-01", *arguments)))
    return load(path).document.models["gpt-4o"]


def test_update_prints_a_table_with_the_prices_of_the_sources(
    tmp_path: Path, configured: Path, litellm: str
) -> None:
    model = updated(tmp_path, "--config", str(configured), "--litellm", litellm)
    before, after = model.prices
    assert (before.starts, str(after.starts)) == (None, "2030-01-01")
    shown = {unit: format(rate, "f") for unit, rate in after.rows["standard"].items()}
    assert shown["cached_input"] == "1.25"  # genai-prices
    assert shown["output"] == "9"  # litellm, where genai-prices has what the table has
    assert model.names == ("gpt-4o", "gpt-4o-????-??-??")
    assert "cached_input: 1 here, 1.25 there" in (tmp_path / "new.yaml").read_text()


def test_update_can_be_for_some_models_alone(configured: Path, litellm: str) -> None:
    result = weir("pricing", "update", "o3", "--config", str(configured), "--litellm", litellm)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no source has another price" in result.stderr


def test_there_is_nothing_to_update_in_the_table_that_comes_with_weir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert weir("pricing", "update").stdout == ""
