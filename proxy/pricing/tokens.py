"""Counting the tokens of a text: exact, on any input, and the only place that knows tiktoken.

tiktoken is imported with the first vocabulary. It is never asked for a vocabulary of its own, which it would
download. Text such as `<|endoftext|>` is counted as the ordinary text that it is.
"""

import re
import threading
from collections.abc import Callable, Mapping

from proxy.pricing.counted import SHORTEST, Counted
from proxy.pricing.vocabulary import VOCABULARIES, load

LIMIT = 2 * 1024 * 1024
"""UTF-8 bytes of a text that is still counted; of a longer one `bound` is told."""
CHUNK = 16 * 1024
"""Characters that are counted in one go. tiktoken lets other threads run while it works, but not while it
makes the list of tokens; and a million spaces in one go overflow its stack."""

COMMON = ("o200k_base", "cl100k_base")
"""The vocabularies of all current models."""

_SLICE = 256 * 1024
_encoders: dict[str, Callable[[str], list[int]]] = {}
_loading = threading.Lock()
_counted = {encoding: Counted() for encoding in VOCABULARIES}
# A letter or digit before blank or punctuation always ends a token, and what follows is cut up without regard
# to what went before: cutting there leaves the count as it is.
_END_OF_TOKEN = re.compile(r"[^\W_](?=[ \n\t,.:;\u3001\u3002\uff0c\uff1a\uff1b])")


def count(text: str, encoding: str) -> int:
    """The tokens of a text in one of `VOCABULARIES`; of one above `LIMIT`, its `bound`.

    Loads the vocabulary if it has to, which takes up to 0.5 s. Then prose takes 0.04 ms a KB, and nothing
    more than 0.7 ms; a text that was counted lately takes next to nothing. A stretch of more than 8 K
    characters without blank or punctuation is cut anywhere, which may add a few tokens. Raises
    `VocabularyError`; KeyError for an unknown encoding.
    """
    encode = _encoders.get(encoding) or _load(encoding)
    if len(text) < SHORTEST:
        return _count(text, encode)
    counted = _counted[encoding]
    known = counted.get(text)
    if known is None:
        known = _count(text, encode) if len(text) <= CHUNK else _count_long(text, encode)
        counted.put(text, known)
    return known


def lately(encoding: str) -> Mapping[int, int]:
    """By the hash of their texts, counts that `count` would give without counting. Not to be kept."""
    return _counted[encoding].lately


def _count_long(text: str, encode: Callable[[str], list[int]]) -> int:
    most = bound(text)
    if most > LIMIT:
        return most
    total = start = 0
    while len(text) - start > CHUNK:
        end = _END_OF_TOKEN.search(text, start + CHUNK // 2, start + CHUNK)
        stop = start + CHUNK if end is None else end.end()
        total += _count(text[start:stop], encode)
        start = stop
    return total + _count(text[start:], encode)


def bound(text: str) -> int:
    """UTF-8 bytes: never less than `count`, since a token is a byte at least. No vocabulary is needed."""
    if text.isascii():
        return len(text)
    if len(text) <= _SLICE:
        return len(text.encode("utf-8", "surrogatepass"))
    return sum(
        len(text[at : at + _SLICE].encode("utf-8", "surrogatepass")) for at in range(0, len(text), _SLICE)
    )


def loaded(encoding: str) -> bool:
    """Whether `count` can begin at once."""
    return encoding in _encoders


def preload(*encodings: str) -> None:
    """Load these vocabularies, without any name those of all current models, unless they are loaded.

    Takes 0.5 s and 100 MiB for both; processes that are forked after it share them. The last third of loading
    one holds up all other threads: 0.2 s for o200k_base, 0.1 s for cl100k_base. Raises `VocabularyError`.
    """
    for encoding in encodings or COMMON:
        if encoding not in _encoders:
            _load(encoding)


def _load(encoding: str) -> Callable[[str], list[int]]:
    with _loading:
        if encoding in _encoders:
            return _encoders[encoding]
        vocabulary = VOCABULARIES[encoding]
        ranks = load(vocabulary)
        import tiktoken

        made = tiktoken.Encoding(encoding, pat_str=vocabulary.quick, mergeable_ranks=ranks, special_tokens={})
        ranks.clear()  # it has them in a form of its own, and 20 MiB are 20 MiB
        return _encoders.setdefault(encoding, made.encode_ordinary)


def _count(text: str, encode: Callable[[str], list[int]]) -> int:
    try:
        return len(encode(text))
    except BaseException as error:
        # A Rust panic is no `Exception`. No chunk that we know of makes one.
        if type(error).__module__ != "pyo3_runtime":
            raise
        return bound(text)
