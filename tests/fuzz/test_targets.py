"""Each target can fail: with a bug planted in what it looks at, the kept inputs break it."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from . import TARGETS
from .conftest import load
from .corpus import kept


def _raises(text: str) -> object:
    raise ZeroDivisionError


BUGS: Mapping[str, tuple[str, Any]] = {
    "sse": ("proxy.core.sse._LOOK_BACK", 0),
    "connection": ("proxy.core.server.protocol._status_line", lambda status: b"HTTP/1.1 banana\r\n"),
    "gate": ("proxy.core.gate._UNSAFE", re.compile(rb"/\.\./")),
    "headers": ("tests.fuzz.headers.towards_client", lambda pairs: pairs),
    "metering": ("proxy.pricing.tokens.count", lambda text, encoding: len(text) * 5),
    "precost": ("proxy.pricing.tokens.count", lambda text, encoding: -1000),
    "usage": ("proxy.pricing.usage._number", lambda value: Decimal(-1)),
    "output": ("proxy.pricing.output.tally.Tally.tokens", lambda self, *kinds: -1),
    "configuration": ("proxy.core.yaml._core_schema", _raises),
    "prices": ("proxy.pricing.table.Table.max_cost", lambda self, model, **_: Decimal(-1)),
    "journal": ("plugins.ledger.record.adler32", lambda body: 0),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_planted_bug_breaks_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load(name)
    monkeypatch.setattr(*BUGS[name])
    broken = 0
    for path in kept(name):
        try:
            target(path.read_bytes())
        except Exception:
            broken += 1
    assert broken
