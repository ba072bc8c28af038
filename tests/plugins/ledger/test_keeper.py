import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from plugins.ledger import keeper as module
from plugins.ledger.keeper import Keeper
from proxy.api.database import default_state_dir

from .making import a_first, a_payload, server
from .test_metrics import figures

OPTIONS: dict[str, Any] = {"limit": 2**30, "keep_months": 13, "required": False}


async def count(keeper: Keeper) -> int:
    assert keeper.database is not None
    database = keeper.database

    def counted() -> int:
        with database.read() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM weir_ledger").scalar() or 0)

    return await asyncio.to_thread(counted)


async def test_what_is_kept_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    keeper = Keeper()
    await keeper.open(self := object(), server(tmp_path), **OPTIONS)
    assert keeper.begin(a_first("a"), patient=False)
    assert keeper.end(a_payload("a"), patient=False)
    assert await keeper.flush(5.0)
    assert await count(keeper) == 1
    assert keeper.trouble() is None
    await keeper.close(self)


async def test_the_first_opens_and_the_last_closes(tmp_path: Path) -> None:
    keeper = Keeper()
    surroundings = server(tmp_path)
    one, two = object(), object()
    await keeper.open(one, surroundings, **OPTIONS)
    await keeper.open(two, surroundings, **{**OPTIONS, "limit": 2**31, "keep_months": 1})
    assert keeper.journal is not None
    assert keeper.journal.limit == 2**31
    await keeper.close(one)
    assert keeper.end(a_payload("a"), patient=False)
    assert "weir_ledger_rows_written_total" in figures(surroundings.metrics)
    await keeper.close(two)
    assert figures(surroundings.metrics) == {}
    again = Keeper()
    await again.open(one, surroundings, **OPTIONS)
    assert await count(again) == 1
    await again.close(one)


async def test_two_in_one_chain_are_told(tmp_path: Path) -> None:
    surroundings = server(tmp_path)
    keeper = Keeper()
    await keeper.open(self := object(), surroundings, **OPTIONS)
    with pytest.raises(ValueError, match="ledger stands in the chain twice"):
        await Keeper().open(object(), surroundings, **OPTIONS)
    await keeper.close(self)


async def test_a_configured_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^ledger: the folder for state, .* set state_dir"):
        await Keeper().open(object(), server(tmp_path / "file" / "x"), **OPTIONS)


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert not default_state_dir({"XDG_STATE_HOME": str(tmp_path / "file")}).exists()


@pytest.mark.usefixtures("homeless")
async def test_where_nothing_was_asked_for_and_nothing_can_be_kept_it_is_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = Keeper()
    await keeper.open(self := object(), server(None), **OPTIONS)
    assert any("the ledger is off" in line.message for line in caplog.records)
    assert not keeper.begin(a_first("a"), patient=False)
    assert not keeper.end(a_payload("a"), patient=False)
    assert keeper.database is None
    assert not await keeper.flush(0.1)
    assert keeper.trouble() == "there is no journal"
    await keeper.close(self)


@pytest.mark.usefixtures("homeless")
async def test_what_is_required_must_be_possible() -> None:
    with pytest.raises(ValueError, match="set state_dir"):
        await Keeper().open(object(), server(None), **{**OPTIONS, "required": True})


@pytest.mark.usefixtures("homeless")
async def test_a_database_alone_will_do(tmp_path: Path) -> None:
    keeper = Keeper()
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    await keeper.open(self := object(), server(None, database_url=url), **OPTIONS)
    assert not keeper.begin(a_first("a"), patient=False)
    assert keeper.end(a_payload("a"), patient=False)
    assert await keeper.flush(5.0)
    assert await count(keeper) == 1
    await keeper.close(self)


async def test_a_database_that_is_down_at_the_start_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    keeper = Keeper()
    down = server(tmp_path, database_url=f"postgresql://weir@/weir?host={tmp_path}")
    await keeper.open(self := object(), down, **OPTIONS)
    assert keeper.begin(a_first("a"), patient=True)
    assert keeper.end(a_payload("a"), patient=True)
    assert not await keeper.flush(5.0)
    assert keeper.trouble() is None
    await keeper.close(self)
    assert len(list((tmp_path / "journal").iterdir())) == 1


async def test_a_flush_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper()
    await keeper.open(self := object(), server(tmp_path), **OPTIONS)
    assert keeper._sink is not None
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(
        keeper._sink,
        "write",
        lambda _: asyncio.run_coroutine_threadsafe(release.wait(), loop).result(),
    )
    assert keeper.end(a_payload("a"), patient=False)
    assert not await keeper.flush(0.3)
    release.set()
    await keeper.close(self)


def test_a_stop_has_a_bound() -> None:
    assert 0 < module.STOP_WITHIN <= 30
