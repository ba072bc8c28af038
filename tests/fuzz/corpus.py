"""The kept inputs of each target, those that fuzzing has added on this machine, and where they are."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

KEPT: Final = Path(__file__).parent / "corpus"
"""A folder for each target; part of the repository, and replayed by its tests."""
GROWN: Final = Path(__file__).parents[2] / "build" / "fuzz"
"""What fuzzing adds on this machine."""
LARGEST: Final = 24 * 1024
"""Bytes of one target's kept inputs."""
MOST: Final = 48
"""How many they are."""
_WORD: Final = re.compile(rb"[A-Za-z0-9_./:-]{2,32}")


def kept(target: str) -> list[Path]:
    """The kept inputs, in an order that is always the same."""
    return sorted((KEPT / target).glob("*"))


def words(target: str) -> Iterator[bytes]:
    """What is written in the kept inputs: a fuzzer has to be told of words, it does not guess them."""
    seen: set[bytes] = set()
    for path in kept(target):
        for word in _WORD.findall(path.read_bytes()):
            if word not in seen and len(seen) < 1000:
                seen.add(word)
                yield word


def dictionary(target: str) -> bytes:
    """The words, as libFuzzer reads them."""
    return b"".join(b'"%b"\n' % word for word in words(target))


def keep(target: str, folder: Path) -> int:
    """Keep the smallest of these beside what is kept, as far as there is room; how many are new."""
    there = {hashlib.sha1(path.read_bytes()).hexdigest() for path in kept(target)}  # noqa: S324 # a name
    room = LARGEST - sum(path.stat().st_size for path in kept(target))
    room_for = MOST - len(there)
    new = 0
    for path in sorted(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        name = hashlib.sha1(data).hexdigest()  # noqa: S324 # as libFuzzer names them
        if name in there or len(data) > room or new >= room_for:
            continue
        (KEPT / target / name[:16]).write_bytes(data)
        room -= len(data)
        new += 1
    return new
