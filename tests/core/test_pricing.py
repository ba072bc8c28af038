import re
from pathlib import Path

import orjson
import pytest

from proxy.core import yaml
from proxy.core.pricing import load
from proxy.core.settings.messages import ConfigError
from proxy.pricing.table import PACKED, default
from proxy.pricing.values import Usage

ROOT = Path(__file__).parents[2]

GOOD = """\
version: 1
updated: 2026-12-01
models:
  mine:
    prices:
      - standard: {input: "1", output: "2"}
"""


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [problem.removeprefix(f"{path}") for problem in caught.value.problems]


def test_a_file_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(GOOD)
    table = load(path)
    assert [model.id for model in table.models()] == ["mine"]
    assert table.version.startswith("2026-12-01+")
    assert table.cost(Usage(input_tokens=10**6, model="mine")).amount == 1


def test_without_a_file_it_is_the_one_that_comes_with_weir() -> None:
    assert load(None) is default()


def test_the_packed_table_is_what_pricing_yaml_says() -> None:
    node, wrong = yaml.read(ROOT / "pricing.yaml")
    assert wrong == []
    assert node is not None
    assert orjson.loads(PACKED.read_bytes()) == yaml.plain(node), "run: make pricing"
    assert load(ROOT / "pricing.yaml").version == default().version


def test_each_problem_has_the_line_of_its_key(tmp_path: Path) -> None:
    text = (
        "version: 1\n"
        "updated: 2026-12-01\n"
        "models:\n"
        "  mine:\n"
        "    encoding: o200k\n"
        "    prices:\n"
        "      - standard:\n"
        "          input: 0.1\n"
        "          imput:\n"
        "            - 1\n"
        "      - batch: {input: -1}\n"
        "aliases: {old: mime}\n"
    )
    assert problems(tmp_path, text) == [
        ':5: models.mine.encoding: "o200k" must be one of o200k_base, o200k_harmony, cl100k_base, p50k_base, '
        'r50k_base; did you mean "o200k_base"?',
        ":8: models.mine.prices[0].standard.input: "
        "0.1 must be in quotes: money is decimal text, never a number",
        ':9: models.mine.prices[0].standard.imput: unknown key; did you mean "input"?',
        ':11: models.mine.prices[1]: must have a "from": only the first price can be from the beginning',
        ":11: models.mine.prices[1].batch.input: -1 must be in quotes: money is decimal text, never a number",
        ':12: aliases.old: there is no model "mime"; did you mean "mine"?',
    ]


def test_what_is_missing_is_told_where_it_should_be(tmp_path: Path) -> None:
    assert problems(tmp_path, "version: 1\n\nmodels:\n  mine:\n    kind: chat\n") == [
        ":1: updated is missing",
        ":4: models.mine: prices is missing",
    ]


def test_a_key_that_stands_twice_is_told(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD + "updated: 2026-12-02\n") == [
        ":7: updated: duplicate key; it is already on line 2"
    ]


def test_what_could_not_be_read_is_told_once(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD.replace('"1"', "!!binary 1"))
    assert problem.startswith(":6: models.mine.prices[0].standard.input: tags are not understood here")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": is empty"),
        ("# nothing\n", ": is empty"),
        ("null", ":1: null must be a mapping"),
        ("- 1\n", ":1: a list must be a mapping"),
        ("models: [\n", ":2: not valid YAML: "),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(problem)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file$"):
        load(tmp_path / "none.yaml")


def test_the_examples_of_the_page_can_be_used(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "pricing.md").read_text()
    examples = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    whole = [example for example in examples if example.startswith("version:")]
    assert len(whole) >= 2
    for number, example in enumerate(whole):
        path = tmp_path / f"{number}.yaml"
        path.write_text(example)
        assert load(path).models()
