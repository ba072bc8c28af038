from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from plugins.ledger.journal import Journal
from plugins.ledger.metrics import Metrics
from plugins.ledger.segment import SIZE
from plugins.ledger.writer import Writer

from .making import Memory, a_payload

ROOT = Path(__file__).parents[3]


def figures(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}


def test_the_figures_are_those_of_the_journal_and_the_writer(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    journal = Journal(tmp_path, 100 * SIZE)
    journal.prepare()
    writer = Writer(journal, None, Memory())
    metrics = Metrics(registry, writer, journal)
    writer.spill(a_payload("a"))
    writer.written, writer.lost, writer.down = 7, 2, "OperationalError"
    journal.failures, journal.slow_writes = 3, 1
    told = figures(registry)
    lag = told.pop("weir_ledger_lag_seconds")
    assert lag > 0
    assert told == {
        "weir_ledger_rows_written_total": 7,
        "weir_ledger_rows_lost_total": 2,
        "weir_ledger_journal_failures_total": 3,
        "weir_ledger_journal_slow_writes_total": 1,
        "weir_ledger_journal_bytes": 2 * SIZE,
        "weir_ledger_rows_in_memory": 1,
        "weir_ledger_database_up": 0,
    }
    metrics.close()
    assert figures(registry) == {}
    journal.close(done=True)


def test_two_ledgers_cannot_both_tell() -> None:
    registry = CollectorRegistry()
    writer = Writer(None, None, Memory())
    Metrics(registry, writer, None)
    with pytest.raises(ValueError, match=r"[Dd]uplicate"):
        Metrics(registry, writer, None)


def test_every_metric_is_documented() -> None:
    registry = CollectorRegistry()
    Metrics(registry, Writer(None, None, Memory()), None)
    page = (ROOT / "docs" / "ledger.md").read_text()
    assert [name for name in figures(registry) if f"`{name}`" not in page] == []
