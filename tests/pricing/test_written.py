"""What is written is YAML that loads, and comes to the same entries."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.core.pricing import load
from proxy.pricing.sources import Difference
from proxy.pricing.table import default
from proxy.pricing.written import repriced, written

from .tables import table

DAY = date(2026, 12, 1)
ALL = list(default().document.models.values())


def test_the_whole_table_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(written(DAY, ALL, {}))
    assert load(path).document.models == default().document.models


@pytest.mark.parametrize("name", ['odd "name"', "a\\\\b", "7b", "on", "true", "llama-3:8b", "models/*"])
def test_names_come_back(name: str, tmp_path: Path) -> None:
    models = table({name: {"input": "1"}}).document.models
    path = tmp_path / "prices.yaml"
    path.write_text(written(DAY, list(models.values()), {}))
    assert load(path).document.models[name] == models[name]


def test_notes_come_before_their_model() -> None:
    lines = written(DAY, ALL[:2], {ALL[1].id: ["one", "two"]}).splitlines()
    at = lines.index("  # one")
    assert lines[at : at + 3] == ["  # one", "  # two", f"  {ALL[1].id}:"]


MODEL = {
    "prices": [
        {"standard": {"input": "1", "output": "2"}},
        {
            "from": "2026-06-01",
            "standard": {"input": "3", "output": "4"},
            "long_context": {"above_input_tokens": 1000, "standard": {"input": "5"}},
        },
    ]
}
CHANGES = [
    Difference("m", "standard", "input", Decimal(3), Decimal(30)),
    Difference("m", "batch", "output", Decimal(4), Decimal(40)),
    Difference("m", "standard>272000", "input", Decimal(5), Decimal(50)),
    Difference("m", "standard", "output", Decimal(4), None),
]


def test_a_new_price_begins_on_its_day_and_the_old_ones_stay() -> None:
    entry = table({"m": MODEL}).document.models["m"]
    after = repriced(entry, CHANGES, DAY)
    assert after.prices[:2] == entry.prices
    newest = after.prices[2]
    assert newest.starts == DAY
    assert newest.rows == {
        "standard": {"input": Decimal(30), "output": Decimal(4)},
        "batch": {"output": Decimal(40)},
    }
    assert (newest.above, newest.long_rows) == (1000, {"standard": {"input": Decimal(50)}})
    assert entry.prices[1].rows["standard"]["input"] == 3


def test_a_price_of_the_same_day_is_replaced() -> None:
    entry = table({"m": MODEL}).document.models["m"]
    after = repriced(entry, CHANGES, date(2026, 6, 1))
    assert [price.starts for price in after.prices] == [None, date(2026, 6, 1)]
    assert after.prices[1].rows["standard"]["input"] == 30


def test_a_model_without_a_line_gets_none() -> None:
    entry = table({"m": {"input": "1"}}).document.models["m"]
    newest = repriced(entry, CHANGES, DAY).prices[-1]
    assert (newest.above, newest.long_rows) == (None, {})
