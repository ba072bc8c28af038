from pathlib import Path

import orjson
import pytest

from proxy.pricing.table import PACKED
from scripts.update_pricing import compiled, main

ROOT = Path(__file__).parents[2]

SMALL = """\
version: 1
updated: 2026-12-01
models:
  gpt-4o:
    prices:
      - standard: {input: "2.5", cached_input: "1", output: "10"}
        batch: {input: "9", output: "5"}
  mine:
    prices:
      - standard: {input: "1"}
        long_context: {above_input_tokens: 272000, standard: {input: "2"}}
"""


def small(folder: Path) -> Path:
    path = folder / "pricing.yaml"
    path.write_text(SMALL)
    return path


def test_the_packed_table_is_up_to_date() -> None:
    assert compiled(ROOT / "pricing.yaml") == PACKED.read_bytes(), "run: make pricing"


def test_packing_writes_a_line_for_each_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "default.json"
    assert main(["pack"], small(tmp_path), target) == 0
    assert capsys.readouterr().out.startswith("default.json: ")
    packed = target.read_bytes()
    assert sorted(orjson.loads(packed)["models"]) == ["gpt-4o", "mine"]
    assert [line[:8] for line in packed.splitlines()[4:6]] == [b'"gpt-4o"', b'"mine":{']
    stamp = target.stat().st_mtime_ns
    assert main(["pack"], small(tmp_path), target) == 0
    assert target.stat().st_mtime_ns == stamp


def test_a_broken_table_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = small(tmp_path), tmp_path / "default.json"
    source.write_text(SMALL.replace('"2.5"', "2.5"))
    assert main(["pack"], source, target) == 1
    assert "2.5 must be in quotes" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("arguments", [[], ["unpack"], ["pack", "x"], ["compare", "x", "y"]])
def test_what_it_does_not_understand_gets_its_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "python scripts/update_pricing.py pack" in capsys.readouterr().err


def test_a_file_that_is_no_json_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(small(tmp_path))], small(tmp_path)) == 1
    assert main(["compare", str(tmp_path / "none.json")], small(tmp_path)) == 1
    assert "none.json" in capsys.readouterr().err


def test_prices_that_differ_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare"], small(tmp_path)) == 0
    assert "gpt-4o batch input: 9 here, 1.25 there" in capsys.readouterr().out
    path = tmp_path / "litellm.json"
    path.write_bytes(orjson.dumps({"new": {"litellm_provider": "openai", "input_cost_per_token": 1e-06}}))
    assert main(["compare", str(path)], small(tmp_path)) == 0
    assert "new standard input: no price here, 1 there" in capsys.readouterr().out
