"""When the files of a configuration have changed, and when that is told."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.core.config import load
from proxy.core.server import changes as module
from proxy.core.server.changes import Changes, files_of
from tests.faults.wire import until

EVERY = 0.02


class Told:
    """How often it was told, and what it answers."""

    def __init__(self) -> None:
        self.times = 0
        self.answer = True

    def __call__(self) -> bool:
        self.times += 1
        return self.answer


@asynccontextmanager
async def watching(*files: Path) -> AsyncIterator[tuple[Changes, Told]]:
    told = Told()
    async with Changes(lambda: files, EVERY, told) as changes:
        yield changes, told


async def rest() -> None:
    """Several looks."""
    await asyncio.sleep(8 * EVERY)


async def test_a_change_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "weir.yaml"
    file.write_text("a")
    async with watching(file) as (_, told):
        await rest()
        assert told.times == 0
        file.write_text("b")
        await until(lambda: told.times == 1)
        await rest()
        assert told.times == 1
        file.write_text("a")
        await until(lambda: told.times == 2)


async def test_only_the_content_counts(tmp_path: Path) -> None:
    file = tmp_path / "weir.yaml"
    file.write_text("a")
    async with watching(file) as (_, told):
        os.utime(file, (1, 1))
        other = tmp_path / "other"
        other.write_text("a")
        other.replace(file)
        await rest()
        assert told.times == 0


async def test_a_folder_that_kubernetes_swaps(tmp_path: Path) -> None:
    """`weir.yaml -> ..data/weir.yaml`, and `..data` is a link to a folder that is replaced."""
    for name, text in (("..1", "old"), ("..2", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weir.yaml").write_text(text)
        os.utime(tmp_path / name / "weir.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "weir.yaml").symlink_to("..data/weir.yaml")
    async with watching(tmp_path / "weir.yaml") as (_, told):
        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").replace(tmp_path / "..data")
        await until(lambda: told.times == 1)


async def test_a_file_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "weir.yaml"
    file.write_text("")
    contents = iter([b"", *(b"%d" % n for n in range(5)), b"done", b"done"])
    seen: list[bytes] = []

    def look() -> bytes:
        seen.append(next(contents, b"done"))
        return seen[-1]

    told = Told()
    changes = Changes(lambda: [file], 0.001, told)
    changes._look = look  # type: ignore[method-assign]
    async with changes:
        await until(lambda: told.times == 1)
        assert seen[-2:] == [b"done", b"done"]
    assert told.times == 1


async def test_a_file_that_comes_and_goes(tmp_path: Path) -> None:
    file = tmp_path / "weir.yaml"
    async with watching(file) as (_, told):
        file.write_text("a")
        await until(lambda: told.times == 1)
        file.unlink()
        await until(lambda: told.times == 2)


async def test_what_was_seen_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "weir.yaml"
    async with watching(file) as (changes, told):
        file.write_text("a")
        await changes.seen()
        await rest()
        assert told.times == 0


async def test_who_cannot_hear_it_now_is_told_again(tmp_path: Path) -> None:
    file = tmp_path / "weir.yaml"
    async with watching(file) as (_, told):
        told.answer = False
        file.write_text("a")
        await until(lambda: told.times >= 3)
        told.answer = True
        await rest()
        last = told.times
        await rest()
        assert told.times == last


async def test_off_is_off(tmp_path: Path) -> None:
    def files() -> list[Path]:
        raise AssertionError("it looks")

    async with Changes(files, None, Told()) as changes:
        await changes.seen()


async def test_the_end_of_a_file_that_is_too_large_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 10)
    file = tmp_path / "prices"
    file.write_text("x" * 10)
    async with watching(file) as (_, told):
        file.write_text("x" * 11)
        await rest()
        assert told.times == 0


# -- which files ---------------------------------------------------------------------------------------


def test_all_that_a_configuration_is_made_of(tmp_path: Path) -> None:
    for name in ("key", "ca.pem", "prices.yaml", "c.pem", "k.pem"):
        (tmp_path / name).write_text("x")
    path = tmp_path / "weir.yaml"
    path.write_text(
        "management_token: ${file:key}\npricing: prices.yaml\nredis: ${REDIS} # ${file:/else}\nupstreams:\n"
        "  - {base_url: 'https://h', tls: {ca: ca.pem, cert: c.pem, key: k.pem}}\n"
    )
    found = [*files_of(path, load(path, {"REDIS": "redis://x"}))]
    assert found == [
        path,
        Path("/else"),
        *(tmp_path / name for name in ("key", "prices.yaml", "ca.pem", "c.pem", "k.pem")),
    ]


def test_without_a_file_there_is_nothing_to_look_at() -> None:
    assert [*files_of(None, load(None, {}))] == []


def test_what_is_no_file_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "weir.yaml").mkdir()
    assert [*files_of(tmp_path / "weir.yaml", load(None, {}))] == [tmp_path / "weir.yaml"]
