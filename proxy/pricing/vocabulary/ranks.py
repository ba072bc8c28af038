"""Rank files in the package → tokens with their ranks, checked byte for byte.

A rank file has a line per token, `base64 rank`. The sizes, sums and patterns are those of tiktoken 0.14.0.
`scripts/vendor_vocabulary.py` makes the packed files anew.
"""

import gzip
import hashlib
import zlib
from binascii import a2b_base64
from dataclasses import dataclass
from importlib.resources import files

_SLICE = 32 * 1024
"""Bytes that are parsed in one go: in between, other threads get their turn."""


class VocabularyError(RuntimeError):
    """A vocabulary cannot be used. One line that says what to do."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What is known of one encoding.

    `file` is the packed file, of which the first `size` bytes count, with this `sha256`. `pattern` cuts text
    into the pieces that are tokenized each for itself. `quick` cuts it into the same ones, in half the time.
    """

    name: str
    file: str
    size: int
    sha256: str
    pattern: str
    quick: str


# tiktoken's engine tries alternatives one by one where one of them looks ahead or is possessive. A group of
# plain ones it hands to an automaton, as one. No alternative here can match anew where possession forbids it.
_R50K = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_R50K_QUICK = r"(?:'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+$)|\s+(?!\S)|\s"
_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_CL100K_QUICK = (
    r"(?:'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+$|\s*[\r\n])"
    r"|\s+(?!\S)|\s"
)
_O200K_PLAIN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
)
_O200K_BLANK = r"|\s+(?!\S)|\s+"
_O200K = f"{_O200K_PLAIN}{_O200K_BLANK}"
_O200K_QUICK = f"(?:{_O200K_PLAIN}){_O200K_BLANK}"

VOCABULARIES = {
    vocabulary.name: vocabulary
    for vocabulary in (
        Vocabulary(
            "o200k_base",
            "o200k_base.tiktoken.gz",
            3_613_922,
            "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
            _O200K,
            _O200K_QUICK,
        ),
        Vocabulary(
            "cl100k_base",
            "cl100k_base.tiktoken.gz",
            1_681_126,
            "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
            _CL100K,
            _CL100K_QUICK,
        ),
        Vocabulary(
            "p50k_base",
            "p50k_base.tiktoken.gz",
            836_186,
            "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
            _R50K,
            _R50K_QUICK,
        ),
        # p50k_base is r50k_base with a few runs of spaces at its end.
        Vocabulary(
            "r50k_base",
            "p50k_base.tiktoken.gz",
            835_554,
            "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
            _R50K,
            _R50K_QUICK,
        ),
    )
}


def load(vocabulary: Vocabulary) -> dict[bytes, int]:
    """The ranks by token. Takes up to 0.3 s; raises `VocabularyError` if the file is missing or damaged."""
    try:
        packed = files(__package__).joinpath(vocabulary.file).read_bytes()
        raw = gzip.decompress(packed)[: vocabulary.size]
    except OSError as error:  # gzip's own complaint is one too
        raise VocabularyError(_line(vocabulary, error.strerror or "it is no gzip file")) from error
    except (EOFError, zlib.error) as error:
        raise VocabularyError(_line(vocabulary, "it is cut short or damaged")) from error
    if hashlib.sha256(raw).hexdigest() != vocabulary.sha256:
        raise VocabularyError(_line(vocabulary, "its SHA-256 is not the published one"))
    return _parse(raw)


def _parse(raw: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    start = 0
    while start < len(raw):
        end = raw.find(b"\n", start + _SLICE) + 1 or len(raw)
        words = raw[start:end].split()
        ranks.update(zip(map(a2b_base64, words[::2]), map(int, words[1::2]), strict=True))
        start = end
    return ranks


def _line(vocabulary: Vocabulary, why: str) -> str:
    return f"the vocabulary {vocabulary.name} ({vocabulary.file}) cannot be used: {why}; install Weir again"
