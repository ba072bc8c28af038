"""The examples do what they say, and stay small enough to be read."""

import logging
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.add_header import AddHeader
from examples.redact import Redact
from proxy.api.testing import Played, Script, json, play, post, sse
from proxy.core.config import PluginSettings
from proxy.core.loader import load

EXAMPLES = Path(__file__).parents[2] / "examples"
ASK = post("/v1/chat/completions", {"model": "gpt-4o", "stream": True})


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_an_example_has_under_30_lines(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) < 30


async def test_add_header() -> None:
    adds = AddHeader(request={"x-team": "search"}, answer={"x-served-by": "weir"})
    played = await play([adds], ASK, json({}))
    assert played.forwarded is not None
    assert played.forwarded.headers["x-team"] == "search"
    assert played.headers["x-served-by"] == "weir"


async def test_slow_log_is_found_through_its_entry_point(caplog: pytest.LogCaptureFixture) -> None:
    assert entry_points(group="weir.plugins", name="slow-log"), "make test installs examples/slow_log"
    plugins = load([PluginSettings(use="slow-log", options={"seconds": 0})])
    with caplog.at_level(logging.WARNING, "weir.slow_log"):
        await play(plugins, ASK, json({}))
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert (fields["path"], fields["end_reason"]) == ("/v1/chat/completions", "complete")
    assert "upstream" in fields["hops_ms"]


def event(text: str) -> bytes:
    return b'data: {"id":"x","choices":[{"delta":{"content":"%b"}}],"usage":null}\n\n' % text.encode()


def texts(played: Played) -> str:
    parsed = [event.json() for event in played.events if event.data != b"[DONE]"]
    return "".join(one["choices"][0]["delta"]["content"] for one in parsed if one and one["choices"])


async def redacted(*pieces: str, word: str = "secret") -> Played:
    opening = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    answer = sse(opening, b": a comment\n\n", *map(event, pieces), b"data: [DONE]\n\n")
    return await play([Redact(word)], ASK, answer)


@pytest.mark.parametrize("cut", range(1, 6))
async def test_redact_finds_a_word_that_is_cut(cut: int) -> None:
    played = await redacted("a ", "secret"[:cut], "secret"[cut:], " b sec", "ond")
    assert texts(played) == "a *** b second"
    assert played.complete


async def test_redact_leaves_every_other_byte() -> None:
    played = await redacted("no such word, se", "cre", "d or so")
    answer = b"".join(event(text) for text in ("no such word, se", "cre", "d or so"))
    assert answer in played.body
    assert played.body.endswith(b"data: [DONE]\n\n")


async def test_redact_gives_out_what_it_held_when_the_stream_ends() -> None:
    answer = sse(event("ends with sec"))
    assert (await play([Redact("secret")], ASK, answer)).body == event("ends with sec")


async def test_redact_changes_a_json_answer() -> None:
    played = await play([Redact("secret")], ASK, json(b'{"choices":[{"message":{"content":"a secret"}}]}'))
    assert played.body == b'{"choices":[{"message":{"content":"a ***"}}]}'
    assert played.headers["content-length"] == str(len(played.body))


async def test_redact_breaks_off_rather_than_let_a_huge_event_pass() -> None:
    answer = Script(200, [("content-type", "text/event-stream")], [event("x" * 2_000_000)])
    played = await play([Redact("secret")], ASK, answer.cut(65536))
    assert not played.complete
    assert b"xxx" not in played.body


@given(st.lists(st.text("sec ret", max_size=8), max_size=12), st.sampled_from(["secret", "ss", "s", "ses"]))
async def test_redact_equals_replacing_in_the_whole_text(pieces: list[str], word: str) -> None:
    whole = "".join(pieces)
    assert texts(await redacted(*pieces, word=word)) == whole.replace(word, "***")
