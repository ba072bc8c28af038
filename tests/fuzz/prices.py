"""Any bytes as a price table: a table whose costs are not below 0, or a line for everything that is wrong."""

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Final

import orjson

from proxy.core.pricing import load
from proxy.core.settings.messages import ConfigError
from proxy.pricing.schema import TableError
from proxy.pricing.table import Table, parse
from proxy.pricing.values import Usage

from .configuration import FOLDER, MORE

LINE: Final = re.compile(r"prices\.yaml(:[0-9]+)?: \S")
USAGES: Final = (
    Usage(1000, 500),
    Usage(10**6, 10**6, 10**5, 10**4, reasoning_tokens=7, service_tier="flex"),
    Usage(5, 5, 1, audio_input_tokens=2, image_input_tokens=2, audio_output_tokens=5, service_tier="batch"),
    Usage(
        other_units={"seconds": Decimal("1.5"), "web_search": Decimal(2), "image:hd:1024x1024": Decimal(1)}
    ),
)


def target(data: bytes) -> None:
    """A file, and, if it is JSON, the plain values."""
    (FOLDER / "prices.yaml").write_bytes(data)
    before = Path.cwd()
    os.chdir(FOLDER)
    try:
        _sound(load(Path("prices.yaml")))
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert LINE.match(problem) or MORE.fullmatch(problem), problem
    finally:
        os.chdir(before)
    try:
        tree = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    try:
        _sound(parse(tree))
    except TableError as error:
        assert error.problems
        assert all(text and "\n" not in text for _, text in error.problems)


def _sound(table: Table) -> None:
    assert table.version
    for model in table.models()[:20]:
        assert table.model(model.id) is not None
        for usage in USAGES:
            cost = table.cost(usage, model.id)
            assert cost.amount is None or (cost.amount.is_finite() and cost.amount >= 0)
        most = table.max_cost(model.id, input_tokens=1000, output_tokens=500)
        assert most is None or (most.is_finite() and most >= 0)
        amount = table.cost(USAGES[0], model.id).amount
        assert most is None or amount is None or amount <= most
