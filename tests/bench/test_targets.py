import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from bench import targets
from bench.process import BenchError, Process
from bench.scenarios import CLIENT_KEY
from bench.targets import BASELINES, PEERS, TARGETS, Missing, Place, Target, verify, wait
from bench.upstream import CHAT, EVENT, STREAM_END, STREAM_EVENT, STREAM_HEAD, TEXT, WHOLE
from bench.wire import LAST_CHUNK, chunk
from plugins.ledger.writer import EVERY

from .test_load import serving

REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
PLAIN = Target("", [], "")
REMADE = Target("", [], "", remakes=True)
COMMENT = chunk(b": weir {}\n\n")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, 9300, 9200, tmp_path / "peers")


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in PEERS])
def test_a_target_is_made_whole_or_says_what_is_missing(name: str, place: Place) -> None:
    with suppress(Missing):  # what is not installed is in the next test
        _made(TARGETS[name](place))


def _made(target: Target) -> None:
    assert target.what
    assert target.version != "?"
    assert shutil.which(target.command[0])
    whole = "".join([*target.files.values(), *target.command, *target.env.values()])
    assert "9300" in whole
    assert "9200" in whole
    assert not [text for text in target.files.values() if "{port}" in text or "{upstream" in text]


def test_a_program_that_is_not_there_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(targets, "_SBIN", "/nowhere")
    for name, package in (("nginx", "nginx-light"), ("caddy", "caddy"), ("weir-redis", "redis-server")):
        with pytest.raises(Missing, match=f"apt-get install {package}"):
            TARGETS[name](place)
    with pytest.raises(Missing, match="make bench-peers"):
        TARGETS["litellm"](place)
    assert BASELINES[-1] == "lean"  # which is always there
    assert TARGETS["lean"](place).command[0] == sys.executable


def test_the_rows_of_an_earlier_run_are_gone_and_those_of_this_one_count(place: Place) -> None:
    old = place.folder / "state" / "weir.db"
    old.parent.mkdir(parents=True)
    old.touch()
    target = TARGETS["weir-ledger"](place)
    assert not old.exists()
    assert target.settles > EVERY
    assert TARGETS["weir"](place).settles == 0


def test_litellm_is_where_the_peers_are(place: Place) -> None:
    program = place.peers / "litellm" / "bin" / "litellm"
    packages = place.peers / "litellm" / "lib" / "python3.11" / "site-packages"
    program.parent.mkdir(parents=True)
    program.touch()
    (packages / "litellm-1.2.3.dist-info").mkdir(parents=True)
    (packages / "litellm_proxy_extras-0.4.dist-info").mkdir()
    target = TARGETS["litellm"](place)
    assert (target.command[0], target.version, target.remakes) == (str(program), "1.2.3", True)
    assert f"master_key: {CLIENT_KEY}" in target.files["litellm.yaml"]


# -- what is measured is right -----------------------------------------------------------------------------


def answering(chat: bytes, stream: bytes, refused: bytes = REFUSED) -> Callable[[bytes], bytes | None]:
    def answer(raw: bytes) -> bytes:
        if CLIENT_KEY.encode() not in raw:
            return refused
        return stream if b'"stream":true' in raw else chat

    return answer


def json(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


STREAM = STREAM_HEAD + STREAM_EVENT * 100 + STREAM_END
SHORTER = STREAM_HEAD + STREAM_EVENT * 99 + STREAM_END
COMMENTED = STREAM_HEAD + STREAM_EVENT * 100 + COMMENT + STREAM_END
OTHER_SPACING = orjson.dumps(orjson.loads(WHOLE), option=orjson.OPT_INDENT_2)
REMADE_STREAM = STREAM_HEAD + chunk(EVENT.replace(b'"service_tier":"default",', b"")) * 100 + STREAM_END


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        (PLAIN, answering(CHAT, STREAM)),
        (PLAIN, answering(CHAT, COMMENTED)),
        (REMADE, answering(json(OTHER_SPACING), REMADE_STREAM)),
    ],
    ids=["the same", "a comment", "remade"],
)
def test_a_right_answer_passes(target: Target, answer: Callable[[bytes], bytes | None]) -> None:
    with serving(answer) as port:
        verify("x", target, port)


@pytest.mark.parametrize(
    ("target", "answer", "said"),
    [
        (PLAIN, answering(json(OTHER_SPACING), STREAM), "x answers with another body"),
        (PLAIN, answering(CHAT, SHORTER), "x streams other events"),
        (PLAIN, answering(CHAT, REMADE_STREAM), "x streams other events"),
        (PLAIN, answering(CHAT, REFUSED), "x streams other events than the upstream's: 401"),
        (PLAIN, answering(CHAT, STREAM, CHAT), "x answers 200 to a wrong key"),
        (PLAIN, lambda _: None, "x broke off an answer"),
        (REMADE, answering(json(WHOLE.replace(TEXT.encode(), b"Sorry.")), STREAM), "x answers with another"),
        (REMADE, answering(CHAT, SHORTER), "x streams other events"),
        (REMADE, answering(CHAT, STREAM_HEAD + STREAM_EVENT * 100 + LAST_CHUNK), "x streams other events"),
    ],
)
def test_a_wrong_answer_is_one_clear_line(
    target: Target, answer: Callable[[bytes], bytes | None], said: str
) -> None:
    with serving(answer) as port, pytest.raises(BenchError, match=said) as raised:
        verify("x", target, port)
    assert "\n" not in str(raised.value)


def test_a_target_that_ends_says_its_last_words(tmp_path: Path) -> None:
    process = Process("x", [sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path)
    with pytest.raises(BenchError, match=r"x ended as it started \(1\): no such thing"):
        wait(PLAIN, process, 1)


def test_a_target_that_is_not_ready_in_time_says_what_it_answered(tmp_path: Path) -> None:
    process = Process("x", ["sleep", "60"], tmp_path)
    try:
        slow = Target("", [], "", within=0.2)
        with (
            serving(lambda _: REFUSED) as port,
            pytest.raises(BenchError, match=r"in 0\.2 s; it answered 401"),
        ):
            wait(slow, process, port)
    finally:
        process.stop()
