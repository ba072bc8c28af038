"""The ledger loses nothing: not to `kill -9`, not to a database that is away, not to a full disk."""

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from plugins.ledger.money import dollars, pico
from plugins.ledger.table import rows
from proxy.api.database import Database

from .ledger_load import Load, Upstream, price
from .process import Process

SOAK = bool(os.environ.get("WEIR_SOAK"))
CHAIN = ["auth", "precost", "ledger", "annotate"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if SOAK else 120)]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


def weir(upstream: Upstream, state: Path, database: str | None = None, **ledger: Any) -> Process:
    chain: list[Any] = [{"use": name, **ledger} if name == "ledger" else name for name in CHAIN]
    config: dict[str, Any] = {"plugins": chain, "state_dir": str(state)}
    if database is not None:
        config["database"] = database
    return Process(upstream.base_url, config=config)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url, package="plugins.ledger", name="ledger")
    try:
        yield database
    finally:
        database.dispose()


async def until_written(url: str, ids: set[str], within: float = 30.0) -> dict[str, Any]:
    """All rows by id, once these are there."""
    deadline = asyncio.get_running_loop().time() + within
    with opened(url) as database:
        while True:
            found: dict[str, Any] = {}
            with suppress(OperationalError, ProgrammingError), database.read() as connection:  # not yet
                count = connection.execute(select(func.count()).select_from(rows)).scalar()
                found = {row["id"]: dict(row) for row in connection.execute(select(rows)).mappings()}
                assert count == len(found)  # none twice
            if ids <= found.keys():
                return found
            missing = len(ids - found.keys())
            assert asyncio.get_running_loop().time() < deadline, f"{missing} of {len(ids)} rows are missing"
            await asyncio.sleep(0.1)


def check(found: dict[str, Any], load: Load, upstream: Upstream) -> None:
    """Every answer that came whole has its row, with what the upstream says that it used."""
    for id_, own in load.whole.items():
        row = found[id_]
        usage = upstream.told[own]
        assert (row["end_reason"], row["client_request_id"]) == ("complete", own)
        assert row["input_tokens"] == usage["prompt_tokens"]
        assert row["output_tokens"] == usage["completion_tokens"]
        assert row["cost_pico"] == pico(price(usage))
    for row in found.values():
        if row["end_reason"] == "crashed":
            assert row["cost_pico"] is None
            assert 0 == row["cost_low_pico"] < row["cost_high_pico"]


def intact(state: Path) -> None:
    with opened(f"sqlite:///{state}/weir.db") as database, database.read() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"


@pytest.mark.fault("F1")
async def test_killed_at_any_moment_it_loses_no_row_and_writes_none_twice(
    upstream: Upstream, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    url = f"sqlite:///{state}/weir.db"
    loads = []
    for _ in range(20 if SOAK else 2):
        async with weir(upstream, state) as process:
            load = Load(process.port)
            loads.append(load)
            await load.send(40)  # the first has the vocabulary loaded
            running = asyncio.ensure_future(load.run(3.0))
            await asyncio.sleep(0.7 + 1.5 * random.random())
            process.signal(signal.SIGKILL)
            await process.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert len(load.whole) > 40
    async with weir(upstream, state) as process:
        found = await until_written(url, {id_ for load in loads for id_ in load.whole})
        await process.stop()
    for load in loads:
        check(found, load, upstream)
    intact(state)
    assert [path.name for path in (state / "journal").iterdir()] == []


@pytest.mark.fault("F1", "F4")
async def test_the_same_with_postgresql_away_for_a_while(
    upstream: Upstream, tmp_path: Path, postgres_server: Any
) -> None:
    url = postgres_server.database()
    loads = []
    try:
        for _ in range(5 if SOAK else 1):
            async with weir(upstream, tmp_path, url) as process:
                load = Load(process.port)
                loads.append(load)
                await load.send(40)
                running = asyncio.ensure_future(load.run(90.0 if SOAK else 8.0))
                await asyncio.sleep(1.0)
                await asyncio.to_thread(postgres_server.stop)
                before = len(load.whole)
                await asyncio.sleep(60.0 if SOAK else 2.0)
                assert len(load.whole) > before  # requests are served all the same
                if random.random() < 0.5 or not SOAK:
                    process.signal(signal.SIGKILL)
                    await process.wait()
                    running.cancel()
                await asyncio.to_thread(postgres_server.start)
                await asyncio.gather(running, return_exceptions=True)
    finally:
        await asyncio.to_thread(postgres_server.start)
    async with weir(upstream, tmp_path, url):
        found = await until_written(url, {id_ for load in loads for id_ in load.whole})
    for load in loads:
        check(found, load, upstream)


@pytest.mark.fault("F4")
async def test_a_database_that_comes_back_gets_its_rows_without_a_restart(
    upstream: Upstream, tmp_path: Path, postgres_server: Any
) -> None:
    url = postgres_server.database()
    try:
        await asyncio.to_thread(postgres_server.stop)
        async with weir(upstream, tmp_path, url) as process:  # it starts without one, too
            load = Load(process.port)
            await load.send(100)
            refused = await process.get("/usage", management=True)
            assert refused.status == 503
            assert orjson.loads(refused.body)["error"]["code"] == "ledger_unreadable"
            assert (await process.get("/readyz", management=True)).status == 200
            metrics = (await process.get("/metrics", management=True)).body.decode()
            assert "weir_ledger_database_up 0.0" in metrics
            await asyncio.to_thread(postgres_server.start)
            found = await until_written(url, set(load.whole))
    finally:
        await asyncio.to_thread(postgres_server.start)
    assert len(found) == 100
    check(found, load, upstream)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB, which is four segments and a small database."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "weir-test", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a file system of its own needs rights that are not there")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """A file that takes all the space there is."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):  # no space left
                while file.write(b"x" * size) == size:
                    pass
    return path


@pytest.mark.fault("F3")
async def test_a_full_disk_stops_no_request_and_loses_no_row(upstream: Upstream, small_disk: Path) -> None:
    url = f"sqlite:///{small_disk}/weir.db"
    loads = []
    for killed in (True, False):
        async with weir(upstream, small_disk) as process:
            load = Load(process.port)
            loads.append(load)
            await load.send(100)
            ballast = fill(small_disk)
            await load.send(400)
            assert load.statuses == {200: 500}
            if killed:
                process.signal(signal.SIGKILL)
                await process.wait()
                ballast.unlink()
            else:
                ballast.unlink()
                await until_written(url, set(load.whole))
    async with weir(upstream, small_disk):
        found = await until_written(url, {id_ for load in loads for id_ in load.whole})
    for load in loads:
        check(found, load, upstream)
    assert len(found) == 1000
    intact(small_disk)


@pytest.mark.fault("F3", "F5")
async def test_required_rows_that_cannot_be_kept_are_503_until_they_can(
    upstream: Upstream, small_disk: Path
) -> None:
    ballast = fill(small_disk)
    os.truncate(ballast, ballast.stat().st_size - 2 * 1024 * 1024)  # room for a database, not for a journal
    async with weir(upstream, small_disk, required=True) as process:
        load = Load(process.port)
        await load.send(20)
        assert load.statuses == {503: 20}
        assert (await process.get("/readyz", management=True)).status == 503
        ballast.unlink()
        async with asyncio.timeout(20):
            while (await process.get("/readyz", management=True)).status != 200:
                await asyncio.sleep(0.1)
        await load.send(20)
        assert load.statuses == {503: 20, 200: 20}
        await until_written(f"sqlite:///{small_disk}/weir.db", set(load.whole))


@pytest.mark.timeout(300)
async def test_the_ledger_is_the_sum_of_the_answers_to_the_picodollar(tmp_path: Path) -> None:
    count = 10_000
    async with Upstream(pace=0) as upstream, weir(upstream, tmp_path) as process:
        load = Load(process.port, mixed=True)
        await load.send(count)
        assert load.statuses == {200: count * 4 // 5, 500: count // 5}
        answer = await process.get("/usage?by=user", management=True)
        asked = orjson.loads(answer.body)
        by_endpoint = orjson.loads((await process.get("/usage?by=endpoint", management=True)).body)
    paid = sum((upstream.paid[own] for own in load.owns), Decimal(0))
    assert len(set(load.owns)) == count
    assert asked["total"]["cost_usd"] == dollars(pico(paid))
    assert asked["total"]["requests"] == count
    assert asked["total"]["unpriced"] == 0
    assert len(asked["data"]) == 5
    assert sum(Decimal(group["cost_usd"]) for group in asked["data"]) == paid
    assert {group["endpoint"] for group in by_endpoint["data"]} == {
        "chat/completions",
        "responses",
        "embeddings",
    }


async def test_two_workers_keep_their_rows_in_one_ledger(upstream: Upstream, tmp_path: Path) -> None:
    process = weir(upstream, tmp_path)
    process.config["workers"] = 2
    async with process:
        load = Load(process.port)
        await load.send(200)
        assert load.statuses == {200: 200}
        async with asyncio.timeout(10):  # one that has not the row waits for the other's, but not for long
            for id_ in [*load.whole][-10:]:  # whichever of the two is asked, and whichever has it
                while (await process.get(f"/usage/{id_}", management=True)).status != 200:
                    pass
        found = await until_written(f"sqlite:///{tmp_path}/weir.db", set(load.whole))
        await process.stop()
    check(found, load, upstream)
    assert len(found) == 200
    assert list((tmp_path / "journal").iterdir()) == []


async def test_who_has_a_whole_answer_finds_its_row_at_once(upstream: Upstream, tmp_path: Path) -> None:
    async with weir(upstream, tmp_path) as process:
        for _ in range(20):
            load = Load(process.port, clients=1)
            await load.send(1)
            (id_,) = load.whole
            answer = await process.get(f"/usage/{id_}", management=True)
            assert answer.status == 200
            assert orjson.loads(answer.body)["id"] == id_
