import os
import random
import string
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.pricing import tokens
from proxy.pricing.vocabulary import VOCABULARIES, Vocabulary, load

ENCODINGS = st.sampled_from(sorted(VOCABULARIES))
# Much of what patterns care about: case, marks, digits, blanks of all kinds, contractions, scripts.
ODD = st.text(
    st.one_of(
        st.sampled_from(
            list("aZéßж中あ한9²Ⅻ\uff10 \n\r\t\u00a0\u3000'\"/.,:;_-<|>\u0301\u200d😀👩\ud800\uff0c。")
        ),
        st.characters(),
    )
)
WORDS = st.lists(
    st.sampled_from(["a", "don't", "I'LL", "привет", "日本", "42", "3.14", "ﬁ", "x_y"]), min_size=1
)
BLANKS = st.sampled_from([" ", "  ", "\n", "\n\n ", ", ", ". ", "\t", "。", "\uff0c"])


@pytest.fixture(autouse=True, scope="module")
def _vocabularies() -> None:
    tokens.preload(*VOCABULARIES)  # so that no example takes the time of it
    for encoding in VOCABULARIES:
        theirs(encoding)


@cache
def theirs(encoding: str) -> tiktoken.Encoding:
    """As tiktoken makes it, with the pattern that is published."""
    vocabulary = VOCABULARIES[encoding]
    return tiktoken.Encoding(
        encoding, pat_str=vocabulary.pattern, mergeable_ranks=load(vocabulary), special_tokens={}
    )


def plain(text: str, encoding: str) -> int:
    """tiktoken's own answer, in one go."""
    return len(theirs(encoding).encode_ordinary(text))


@settings(deadline=None)
@given(ODD, ENCODINGS)
def test_a_count_is_tiktokens_and_never_above_the_bound(text: str, encoding: str) -> None:
    assert tokens.count(text, encoding) == plain(text, encoding) <= tokens.bound(text)


PIECES = st.lists(
    st.sampled_from(
        [
            *(
                " ",
                "  ",
                "\t",
                "\n",
                "\r\n",
                "\u00a0",
                "\u2003 ",
                "\x1c",
                "\x85",
                "/",
                "'",
                "'s",
                "'S",
                "'\u017f",
                "'ll",
            ),
            *(
                "a",
                "Zebra",
                "zEBRA",
                "é",
                "\u0301",
                "ǅ",
                "ʰ",
                "中",
                "7",
                "1234",
                "²",
                "!",
                "?!",
                "_",
                "😀",
                "\u200d",
            ),
        ]
    ),
    max_size=40,
).map("".join)


@settings(deadline=None, max_examples=500)
@given(ODD | PIECES, ENCODINGS)
def test_the_quick_pattern_cuts_as_the_published_one(text: str, encoding: str) -> None:
    assert tokens._encoders[encoding](text) == theirs(encoding).encode_ordinary(text)


@pytest.mark.parametrize("encoding", VOCABULARIES)
def test_it_does_so_where_each_of_its_parts_counts(encoding: str) -> None:
    text = "\n\né \nB  \n\n B WE'Vea I'LLa x'\u017fun  12345!!\n\n/ \t\tif \n  \n   b  \n  "
    assert tokens._encoders[encoding](text) == theirs(encoding).encode_ordinary(text)


@settings(deadline=None)
@given(ODD | st.text(st.sampled_from("aZ9é中.,:/'\u0301 \n")), ENCODINGS)
@example("Well.\n\nThen", "o200k_base")
def test_a_text_may_be_cut_after_each_end_of_a_token(text: str, encoding: str) -> None:
    whole = plain(text, encoding)
    for match in tokens._END_OF_TOKEN.finditer(text):
        assert plain(text[: match.end()], encoding) + plain(text[match.end() :], encoding) == whole


@settings(deadline=None)
@given(WORDS, BLANKS, ENCODINGS, st.integers(1, 400))
def test_counting_in_chunks_changes_nothing(words: list[str], blank: str, encoding: str, times: int) -> None:
    text = blank.join(words * times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "CHUNK", 64)
        assert tokens.count(text, encoding) == plain(text, encoding)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab_😀"), min_size=200, max_size=2000), ENCODINGS)
def test_where_no_token_ends_the_cut_costs_a_few_tokens_at_most(text: str, encoding: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "CHUNK", 64)
        cuts = len(text) // 64
        assert abs(tokens.count(text, encoding) - plain(text, encoding)) <= 3 * cuts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "encoding"),
    [
        *((unit, "o200k_base") for unit in (" ", "\n", "\u3000", "a", "^", "😀", "中", "<|endoftext|>")),
        *((unit, "o200k_base") for unit in ("\t", "\u00a0", "\r\n", "_", "/", "'", "👩\u200d👧", "e\u0301")),
        *((" ", encoding) for encoding in ("cl100k_base", "p50k_base", "r50k_base")),
    ],
)
def test_a_megabyte_of_anything_is_counted(unit: str, encoding: str) -> None:
    text = unit * (1_000_000 // len(unit.encode()))
    assert 0 < tokens.count(text, encoding) <= tokens.bound(text) <= 1_000_000
    assert tokens.count(text + "x", encoding) > 0


@pytest.mark.parametrize("unit", [" ", "a", "😀", "\ud800", "é"])
def test_above_the_limit_the_bound_is_the_answer(unit: str) -> None:
    text = unit * (16_000_000 // len(unit.encode("utf-8", "surrogatepass")))
    assert tokens.count(text, "o200k_base") == tokens.bound(text) >= 15_999_999
    just = " " * (tokens.LIMIT + 1)
    assert tokens.count(just, "o200k_base") == tokens.LIMIT + 1
    assert tokens.count(just[1:], "o200k_base") < tokens.LIMIT / 100


BASE64 = "".join(random.Random(1).choices(string.ascii_letters + string.digits + "+/", k=300_000))
MIXED = [
    " ",
    "\n",
    "word",
    "Émile",
    "don't",
    "42",
    "日本",
    "{",
    '"',
    "x_y",
    "😀",
    "\u00a0",
    "\r\n",
    ", ",
    ".",
]


@pytest.mark.parametrize("encoding", VOCABULARIES)
def test_a_long_text_of_all_sorts_counts_as_in_one_go(encoding: str) -> None:
    text = "".join(random.Random(2).choices(MIXED, k=100_000))
    assert len(text) > 10 * tokens.CHUNK
    assert tokens.count(text, encoding) == plain(text, encoding)


@pytest.mark.parametrize("text", [BASE64, BASE64.encode().hex()], ids=["base64", "hex"])
def test_what_has_no_blanks_counts_as_in_one_go_but_for_a_few(text: str) -> None:
    cuts = len(text) // tokens.CHUNK
    assert abs(tokens.count(text, "o200k_base") - plain(text, "o200k_base")) <= 3 * cuts


def test_half_characters_are_counted() -> None:
    assert 0 < tokens.count("\ud800" * 20_000, "o200k_base") <= 60_000
    assert tokens.count("\ud83d\ude00", "o200k_base") == tokens.count("😀", "o200k_base")


@pytest.mark.parametrize("encoding", VOCABULARIES)
def test_the_names_of_special_tokens_are_ordinary_text(encoding: str) -> None:
    assert tokens.count("<|endoftext|>", encoding) > 5
    assert tokens.count("<|im_start|><|endofprompt|>", encoding) > 8


def test_a_panic_in_tiktoken_is_answered_with_the_bound() -> None:
    text = " " * 1_000_000
    assert tokens._count(text, tokens._encoders["o200k_base"]) == 1_000_000
    assert tokens.count("still here", "o200k_base") == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nothing_else_is_swallowed(error: type[BaseException]) -> None:
    def encode(text: str) -> list[int]:
        raise error

    with pytest.raises(error):
        tokens._count("a", encode)


@settings(deadline=None)
@given(ODD)
def test_the_bound_is_the_bytes_of_utf_8(text: str) -> None:
    assert tokens.bound(text) == len(text.encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_SLICE", 3)
        assert tokens.bound(text) == len(text.encode("utf-8", "surrogatepass"))


def test_an_unknown_encoding_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        tokens.count("a", "o300k_base")


def _forget(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is loaded any more; what is, is told."""
    told: list[str] = []

    def telling(vocabulary: Vocabulary) -> dict[bytes, int]:
        told.append(vocabulary.name)
        return load(vocabulary)

    monkeypatch.setattr(tokens, "_encoders", {})
    monkeypatch.setattr(tokens, "load", telling)
    return told


def test_a_vocabulary_is_loaded_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _forget(monkeypatch)
    assert not tokens.loaded("r50k_base")
    assert tokens.count("2 + 2 = 4", "r50k_base") == 5
    assert tokens.loaded("r50k_base")
    tokens.preload("r50k_base")
    assert told == ["r50k_base"]


def test_preload_without_a_name_loads_those_of_current_models(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _forget(monkeypatch)
    tokens.preload()
    assert sorted(told) == ["cl100k_base", "o200k_base"]


def test_threads_that_need_the_same_load_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _forget(monkeypatch)
    counts: list[int] = []
    ready = threading.Barrier(8)

    def work() -> None:
        ready.wait()
        counts.append(tokens.count("hello world", "r50k_base"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [2] * 8
    assert told == ["r50k_base"]


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["proxy.pricing", "proxy.pricing.tokens", "proxy.pricing.prompt", "plugins.precost"]
)
def test_importing_it_does_not_import_tiktoken(module: str) -> None:
    assert _python(f"import sys, {module}; print('tiktoken' in sys.modules)") == "False"


def test_nothing_is_downloaded_or_looked_for_elsewhere(tmp_path: Path) -> None:
    cached = tmp_path / "fb374d419588a4632f3f557e76b4b70aebbca790"  # tiktoken's name for o200k_base
    cached.write_bytes(b"junk, which tiktoken would delete")
    no_network = (
        "import socket\n"
        "def never(*a, **k): raise SystemExit('it wants the network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = never\n"
    )
    code = no_network + "from proxy.pricing import tokens; print(tokens.count('hello world', 'o200k_base'))"
    assert _python(code, TIKTOKEN_CACHE_DIR=str(tmp_path)) == "2"
    assert _python(code, TIKTOKEN_CACHE_DIR="") == "2"
    assert cached.exists()
