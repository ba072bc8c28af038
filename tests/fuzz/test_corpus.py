"""The kept inputs, each through its target: what once broke stays mended."""

from pathlib import Path

import pytest

from . import TARGETS
from .conftest import Target, load
from .corpus import KEPT, LARGEST, MOST, dictionary, keep, kept, words

INPUTS = [(name, path) for name in TARGETS for path in kept(name)]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}-{path.name}" for name, path in INPUTS])
def test_a_kept_input_breaks_nothing(name: str, path: Path) -> None:
    load(name)(path.read_bytes())


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 40, b"\r\n" * 100])
@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_next_to_nothing_breaks_nothing(target: Target, data: bytes) -> None:
    target(data)


def test_there_are_inputs_for_every_target_and_they_stay_small() -> None:
    assert sorted(path.name for path in KEPT.iterdir()) == sorted(TARGETS)
    for name in TARGETS:
        assert kept(name)
        assert len(kept(name)) <= MOST
        assert sum(path.stat().st_size for path in kept(name)) <= LARGEST


def test_new_inputs_are_kept_while_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, found = tmp_path / "kept", tmp_path / "found"
    (there / "sse").mkdir(parents=True)
    found.mkdir()
    monkeypatch.setattr("tests.fuzz.corpus.KEPT", there)
    (found / "large").write_bytes(b"x" * LARGEST)
    (found / "small").write_bytes(b"data: word\n\n")
    assert keep("sse", found) == 1
    assert keep("sse", found) == 0
    assert [path.read_bytes() for path in kept("sse")] == [b"data: word\n\n"]
    assert list(words("sse")) == [b"data:", b"word"]
    assert dictionary("sse") == b'"data:"\n"word"\n'
