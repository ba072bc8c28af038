"""A damaged journal of the ledger: what can be read is written, once, and nothing is invented."""

import atexit
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from plugins.ledger.columns import COMMON, COMMON_FIRST, KEPT, OWN, OWN_FIRST, WHO
from plugins.ledger.record import CLOSED, OPEN, record, records
from plugins.ledger.replay import adopt
from plugins.ledger.row import stored

FIRST: Final = (*OWN_FIRST, *WHO, *COMMON_FIRST)
FOLDER: Final = Path(tempfile.mkdtemp(prefix="weir-fuzz-"))
atexit.register(shutil.rmtree, FOLDER)


def _payload(number: int, *lines: Sequence[str]) -> bytes:
    own: list[Any] = [f"request-{number}", 1_700_000_000_000_000 + number, *[None] * (len(lines[0]) - 2)]
    return b"\n".join(orjson.dumps(line)[1:-1] for line in (own, *([None] * len(line) for line in lines[1:])))


def _record(number: int) -> bytes:
    if number % 3 == 0:
        return record(OPEN, _payload(number, OWN_FIRST, WHO, COMMON_FIRST))
    return record(CLOSED, _payload(number, OWN, WHO, COMMON))


RECORDS: Final = [_record(number) for number in range(12)]
WHOLE: Final = b"".join(RECORDS) + bytes(64)


def target(data: bytes) -> None:
    """Up to eight damages of four bytes each (kind, place, place, value); what follows is appended."""
    journal = WHOLE
    first = len(journal)
    for at in range(0, min(len(data), 32), 4):
        kind, high, low, value = (*data[at : at + 4], 0, 0, 0)[:4]
        place = (high * 256 + low) % (len(journal) + 1)
        first = min(first, place)
        if kind % 4 == 0:  # a byte is another one
            journal = journal[:place] + bytes([value]) + journal[place + 1 :]
        elif kind % 4 == 1:  # cut off
            journal = journal[:place]
        elif kind % 4 == 2:  # bytes are missing
            journal = journal[:place] + journal[place + 1 + value :]
        else:  # bytes are twice
            journal = journal[:place] + journal[max(0, place - value) : place] + journal[place:]
    end = sum(map(len, RECORDS))
    if data[32:]:
        first = min(first, end)
        journal = journal[:end] + data[32:]
    _replay(journal, first)


def _replay(journal: bytes, damaged_from: int) -> None:
    for kind, payload, end in records(journal):
        assert end <= len(journal)
        assert kind + payload in journal
    rows = _adopted(journal)
    ids = [row[0] for row in rows]
    known = {f"request-{number}" for number in range(len(RECORDS))}
    assert set(ids) <= known, "a row that nobody wrote"
    for row in rows:
        number = int(row[0].removeprefix("request-"))
        assert len(row) == len(KEPT)
        known_first = {name: value for name, value in zip(KEPT, row, strict=True) if name in FIRST}
        first: dict[str, Any] = dict.fromkeys(FIRST)
        assert known_first == first | {"id": row[0], "started_at": 1_700_000_000_000_000 + number}
    at = 0
    for number, each in enumerate(RECORDS):
        at += len(each)
        if at <= damaged_from:
            assert f"request-{number}" in ids, "a row from before the damage is gone"


def _adopted(journal: bytes) -> list[Sequence[Any]]:
    """What is written of a journal that a dead process has left."""
    folder = FOLDER / "1-dead"
    folder.mkdir()
    (folder / "00000001.log").write_bytes(journal)
    rows: list[Sequence[Any]] = []
    log = logging.getLogger("weir.ledger")  # which would tell of each one
    log.disabled = True
    try:
        count = adopt(FOLDER, lambda payloads: rows.extend(stored(payloads)))
    finally:
        log.disabled = False
    assert count == len(rows)
    assert not folder.exists(), "it would be read for ever"
    return rows
