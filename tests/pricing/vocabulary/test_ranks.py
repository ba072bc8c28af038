import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiktoken_ext import openai_public  # type: ignore[import-untyped] # a folder without py.typed

from proxy.pricing import vocabulary
from proxy.pricing.vocabulary import VOCABULARIES, VocabularyError, load, ranks

FOLDER = Path(vocabulary.__file__).parent


@pytest.mark.parametrize("name", VOCABULARIES)
def test_each_is_what_tiktoken_means_by_that_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = VOCABULARIES[name]
    asked = {}

    def instead_of_a_download(url: str, expected_hash: str) -> dict[bytes, int]:
        asked[url] = expected_hash
        return load(ours)

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", instead_of_a_download)
    theirs: dict[str, Any] = getattr(openai_public, name)()
    assert list(asked.values()) == [ours.sha256]
    assert theirs["pat_str"] == ours.pattern
    specials = len(theirs["special_tokens"])
    assert len(load(ours)) + specials == theirs.get("explicit_n_vocab", len(load(ours)) + specials)


def test_ranks_are_the_lines_of_the_file() -> None:
    found = load(VOCABULARIES["cl100k_base"])
    assert len(found) == 100_256
    assert found[b"!"] == 0
    assert found[b" hello"] == 24_748
    assert sorted(found.values()) == list(range(100_256))


def test_the_notice_names_every_file_with_its_sum() -> None:
    notice = (FOLDER / "NOTICE").read_text()
    packed = sorted(FOLDER.glob("*.tiktoken.gz"))
    assert {path.name for path in packed} == {each.file for each in VOCABULARIES.values()}
    for path in packed:
        assert path.name in notice
        assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() in notice


def _flip(packed: bytes) -> bytes:
    return packed[:50_000] + bytes([packed[50_000] ^ 1]) + packed[50_001:]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda packed: None, "No such file or directory"),
        (lambda packed: packed[:-100_000], "cut short or damaged"),
        (lambda packed: packed[:-4], "cut short or damaged"),
        (_flip, "(cut short or damaged|no gzip file|not the published one)"),
        (lambda packed: b"", "not the published one"),
        (lambda packed: gzip.decompress(packed), "no gzip file"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-1]), "not the published one"),
    ],
    ids=["missing", "cut short", "without its end", "a bit flipped", "empty", "not packed", "a byte short"],
)
def test_a_broken_file_is_one_clear_line(
    damage: Callable[[bytes], bytes | None], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = damage((FOLDER / "p50k_base.tiktoken.gz").read_bytes())
    if broken is not None:
        (tmp_path / "p50k_base.tiktoken.gz").write_bytes(broken)
    monkeypatch.setattr(ranks, "files", lambda package: tmp_path)
    with pytest.raises(VocabularyError, match=why) as caught:
        load(VOCABULARIES["p50k_base"])
    line = str(caught.value)
    assert line.startswith("the vocabulary p50k_base (p50k_base.tiktoken.gz) cannot be used: ")
    assert line.endswith("install Weir again")
    assert "\n" not in line
