from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from plugins.ledger import Ledger
from plugins.ledger.journal import Journal
from plugins.ledger.table import rows
from proxy.api import COST, ESTIMATE, IDENTITY, USAGE, Cost, Estimate, Identity, Plugin, Reply, Slot, Usage
from proxy.api.testing import json, play, post
from proxy.core.chain import Chain, ChainError

from .making import a_database, a_first, server

GIVEN: dict[Slot[Any], Any] = {
    IDENTITY: Identity("alice", "192.0.2.1", "key-a"),
    ESTIMATE: Estimate(10, "tiktoken", 10, 20, Decimal("0.5")),
    USAGE: [Usage(10, 5)],
    COST: Cost(Decimal("0.25"), Decimal("0.25"), Decimal("0.25"), "measured"),
}


def kept(folder: Path) -> list[dict[str, Any]]:
    database = a_database(folder)
    with database.read() as connection:
        found = [dict(row) for row in connection.execute(select(rows)).mappings()]
    database.dispose()
    return found


@pytest.mark.parametrize("status", [200, 404])
async def test_every_request_has_its_row(tmp_path: Path, status: int) -> None:
    played = await play([Ledger()], None, json({}, status), given=GIVEN, server=server(tmp_path))
    (row,) = kept(tmp_path)
    assert (row["id"], row["status"], row["cost_pico"]) == (played.ex.id, status, 250_000_000_000)


async def test_the_row_is_kept_before_the_last_bytes_go_out(tmp_path: Path) -> None:
    ledger = Ledger()
    order: list[str] = []
    end = ledger._keeper.end

    def ended(row: bytes, patient: bool) -> bool:
        order.append("row")
        return end(row, patient)

    ledger._keeper.end = ended  # type: ignore[method-assign]
    played = await play([ledger], None, json({"a": 1}), given=GIVEN, server=server(tmp_path))
    assert (order, played.complete) == (["row"], True)


class Refusing(Plugin):
    async def on_request(self, ex: Any) -> Reply:
        return Reply.error(429, "rate_limit_exceeded", "Too much.")


async def test_what_a_later_plugin_refuses_has_its_row(tmp_path: Path) -> None:
    given = {**GIVEN, USAGE: None, COST: None}
    await play([Ledger(), Refusing()], given=given, server=server(tmp_path))
    (row,) = kept(tmp_path)
    assert (row["status"], row["end_reason"], row["end_code"]) == (429, "rejected", "rate_limit_exceeded")
    assert (row["attempts"], row["cost_pico"]) == (0, 0)


def test_it_needs_to_know_who_asks_and_what_it_cost() -> None:
    with pytest.raises(ChainError) as refused:
        Chain([Ledger()])
    assert {problem.split(":")[0] for problem in refused.value.problems} == {
        " needs identity",
        " reads usage at the end",
        " reads cost at the end",
    }


class Full(Journal):
    """A journal on a full disk."""

    def append(self, kind: bytes, payload: bytes, patient: bool = False) -> bool:
        self.failures += 1
        return False


async def test_a_row_that_is_required_and_cannot_be_kept_is_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.ledger.keeper.Journal", Full)
    played = await play([Ledger(required=True)], given=GIVEN, server=server(tmp_path))
    assert (played.status, played.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert played.forwarded is None
    assert played.headers["retry-after"] == "5"


async def test_one_that_is_not_required_is_served_and_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.ledger.keeper.Journal", Full)
    played = await play([Ledger()], post("/v1/chat/completions", {}), given=GIVEN, server=server(tmp_path))
    assert played.status == 200
    assert [row["id"] for row in kept(tmp_path)] == [played.ex.id]


async def test_readiness_fails_only_where_rows_are_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for required in (True, False):
        ledger = Ledger(required=required)
        await ledger.start(server(tmp_path))
        assert ledger.ready() is None
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "usable", property(lambda _: False))
            assert ledger.ready() == ("the journal takes no rows (it is full)" if required else None)
        await ledger.stop()


def test_a_bug_of_ours_stops_no_request_unless_rows_are_required() -> None:
    assert (Ledger().on_error, Ledger(required=True).on_error) == ("skip", "fail")


async def test_a_reload_goes_on_with_the_same_journal(tmp_path: Path) -> None:
    surroundings = server(tmp_path)
    old = Ledger()
    await old.start(surroundings)
    new = Ledger(required=True)
    new.adopt(old)
    await new.start(surroundings)
    await old.stop()
    assert new._keeper.begin(a_first("a"), patient=True)
    assert new.ready() is None
    await new.stop()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"required": "yes"}, "required: 'yes' is neither true nor false"),
        ({"keep_months": 0}, "keep_months: 0 is not a whole number from 1 on"),
        ({"journal": "1GB"}, "journal: '1GB' is not a size"),
    ],
)
def test_options_that_will_not_do_are_told(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Ledger(**options)


def test_all_months_can_be_kept() -> None:
    assert Ledger(keep_months=None)._keep_months is None
