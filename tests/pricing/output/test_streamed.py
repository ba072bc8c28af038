"""What an upstream knows to have written, against what was counted of what it showed."""

import os
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.sse import Splitter
from proxy.pricing import tokens
from proxy.pricing.output import Output, Streamed, streamed
from proxy.pricing.output.streamed import BATCH, LARGE, LIMIT, LONGEST, SMALL
from proxy.pricing.vocabulary import VocabularyError

from .scripted import ENCODING, STREAMS, chat, chunk, event, pieces

GOLDEN = Path(__file__).parents[2] / "golden"
CHAT = "chat/completions"
SOAK = int(os.environ.get("WEIR_SOAK", "0"))
PROSE = (
    "The quick brown fox, whose name is \u201cRenard\u201d, doesn't jump over 3.14 lazy dogs.\n\n```python\n"
    "def f(x_1: int) -> str:\n    return f'{x_1!r}\\n'\n```\nÜber den Wolken: 東京は日本の首都です。 "
    "Привет, мир! 👩‍👩‍👧 \U0001f30a  tabs\tand   spaces …\n"
)
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(PROSE.split(" ")),
        st.sampled_from([" ", "\n", "\n\n", "  ", '"', "\\", "日本語", "Größe", "2024", "0x1F", "😀"]),
        st.text(max_size=6),
    ),
    max_size=120,
).map(" ".join)


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload(ENCODING)


def feed(stream: Streamed, events: Any) -> Streamed:
    """As a plugin does."""
    for each in events:
        stream.batch.append(each)
        if (len(stream.batch) >= BATCH or len(each) > SMALL) and stream.made_room(each):
            stream.fold(stream.take())
    return stream


def output(endpoint: str, events: Any, *args: Any, known: bool = True, **more: Any) -> Output:
    return feed(Streamed(endpoint, ENCODING, known=known), events).output(*args, **more)


def close(estimate: int, truth: int, unseen: int = 0) -> bool:
    """The bound of the estimate: 2 % or 3 tokens, and what has not shown yet."""
    return abs(estimate - truth) <= max(3, truth / 50) + unseen


# -- the truth -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", STREAMS)
def test_at_every_cut_the_estimate_is_close_and_the_truth_within_the_bounds(endpoint: str) -> None:
    script = list(STREAMS[endpoint](PROSE * 3))
    for cut in range(len(script) + 1):
        truth = script[cut - 1][1] if cut else 0
        out = output(endpoint, [raw for raw, _ in script[:cut]])
        assert close(out.tokens, truth), cut
        assert out.least <= truth
        assert out.most is None or truth <= out.most
        assert (out.reasoning_tokens, out.audio_tokens) == (0, 0)


@settings(deadline=None, max_examples=2000 if SOAK else 60)
@given(TEXTS, st.sampled_from(sorted(STREAMS)), st.randoms(use_true_random=False))
def test_any_text_at_any_cut(text: str, endpoint: str, chance: random.Random) -> None:
    script = list(STREAMS[endpoint](text))
    for cut in {chance.randint(0, len(script)) for _ in range(4)}:
        truth = script[cut - 1][1] if cut else 0
        out = output(endpoint, [raw for raw, _ in script[:cut]])
        # Of a character that takes several tokens nothing shows before the last of them.
        written = pieces(text)[:truth]
        unseen = next((at for at, piece in enumerate(reversed(written)) if piece), truth)
        assert close(out.tokens, truth, unseen)
        assert out.least <= truth


def test_several_answers_and_kinds_of_text_may_come_mixed() -> None:
    scripts = [list(chat(PROSE, index=0)), list(chat(PROSE[::-1], index=1, field="refusal"))]
    scripts.append(list(chat(PROSE * 2, index=2, field="reasoning_content")))
    chance = random.Random(7)
    events, truth, at = [], [0, 0, 0], [0, 0, 0]
    while any(place < len(script) for place, script in zip(at, scripts, strict=True)):
        which = chance.choice([n for n in range(3) if at[n] < len(scripts[n])])
        raw, truth[which] = scripts[which][at[which]]
        at[which] += 1
        events.append(raw)
    out = output(CHAT, events, 3)
    assert abs(out.tokens - sum(truth)) <= 3
    assert abs(out.reasoning_tokens - truth[2]) <= 1
    assert out.least <= sum(truth) <= (out.most or 0)
    assert output(CHAT, events, 4).most is None  # one has not come


def test_a_long_stream_is_the_same_in_whatever_steps_it_is_counted() -> None:
    script = list(chat(PROSE * 120))
    assert len(script) > 60 * BATCH
    truth = script[-1][1]
    whole = Streamed(CHAT, ENCODING)
    whole.batch.extend(raw for raw, _ in script)
    stepwise = output(CHAT, [raw for raw, _ in script])
    assert stepwise == whole.output()
    assert close(stepwise.tokens, truth)
    assert stepwise.least <= truth <= (stepwise.most or 0)


@settings(deadline=None, max_examples=200 if SOAK else 20)
@given(TEXTS, st.integers(1, 40), st.integers(1, 200))
def test_the_steps_make_no_difference(text: str, batch: int, limit: int) -> None:
    script = [raw for raw, _ in chat(text)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamed, "BATCH", batch)
        patch.setattr(streamed, "LIMIT", limit)
        stepwise = Streamed(CHAT, ENCODING)
        for raw in script:
            stepwise.batch.append(raw)
            if stepwise.made_room(raw):
                stepwise.fold(stepwise.take())
        assert stepwise.output() == output(CHAT, script)


# -- what is kept ----------------------------------------------------------------------------------------


def kept(stream: Streamed) -> int:
    return sum(map(len, stream.batch)) + sum(len(packed) for _, packed in stream._packed)


@pytest.mark.parametrize("size", [20, SMALL - 40, SMALL * 2, 8_000, LONGEST - 100, LONGEST * 4])
@pytest.mark.parametrize("random_bytes", [False, True])
def test_what_is_kept_is_bounded(size: int, random_bytes: bool) -> None:
    stream = Streamed(CHAT, ENCODING)
    chance = random.Random(size)
    folds = 0
    for _ in range(max(40, min(6_000, 40_000_000 // size // (20 if random_bytes else 1)))):
        filler = chance.randbytes(size // 2).hex() if random_bytes else "x" * size
        raw = b'data: {"filler":"%s"}\n\n' % filler.encode()
        stream.batch.append(raw)
        if (len(stream.batch) >= BATCH or len(raw) > SMALL) and stream.made_room(raw):
            folds += 1
            stream.take()
        assert kept(stream) <= BATCH * SMALL + LARGE + LONGEST + LIMIT
    assert len(stream.batch) <= BATCH


def test_a_usual_stream_is_neither_compressed_nor_counted() -> None:
    events = [raw for raw, _ in chat(PROSE)][: BATCH - 1]
    stream = feed(Streamed(CHAT, ENCODING), events)
    assert stream.batch == events
    assert not stream._packed
    assert not stream.few
    assert feed(Streamed(CHAT, ENCODING), events[:20]).few
    assert feed(Streamed(CHAT, ENCODING), [b"data: {}\n\n"] * BATCH).few is False
    assert not Streamed(CHAT, ENCODING, batch=[b"x" * 20_000]).few


def test_packing_loses_nothing() -> None:
    events = [raw for raw, _ in chat(PROSE * 4)]
    stream = feed(Streamed(CHAT, ENCODING), events)
    assert stream._packed
    import zlib

    unpacked = [raw for _, packed in stream.take() for raw in zlib.decompress(packed).split(b"\0")]
    assert unpacked + stream.batch == events


def test_what_is_dropped_counts_as_what_was_not() -> None:
    script = list(chat(PROSE * 20))
    stream = Streamed(CHAT, ENCODING)
    dropped = 0
    for raw, _ in script:
        stream.batch.append(raw)
        if len(stream.batch) >= BATCH:
            stream.made_room(raw)
            dropped += 1
            (stream.drop if dropped % 3 else stream.fold)(stream.take())
    out = stream.output()
    truth = script[-1][1]
    assert abs(out.tokens - truth) < truth / 20
    assert out.least <= truth / 2  # nobody looked
    assert out.most is None


def test_a_stream_of_which_all_was_dropped_counts_by_its_events() -> None:
    stream = Streamed(CHAT, ENCODING)
    for raw, _ in list(chat(PROSE * 3))[:BATCH]:
        stream.batch.append(raw)
    stream.made_room(raw)
    stream.drop(stream.take())
    assert stream.output() == Output(BATCH, 0, None)


def test_a_guess_is_a_token_an_event() -> None:
    script = [raw for raw, _ in chat(PROSE * 20)]
    stream = Streamed(CHAT, ENCODING)
    for number, raw in enumerate(script, 1):
        stream.batch.append(raw)
        if len(stream.batch) >= BATCH:
            stream.made_room(raw)
            if number > len(script) // 2:
                stream.take()
        assert stream.guess() == Output(number)
    stream.forget()
    assert stream.guess() == Output()


def test_a_stream_may_begin_with_what_has_come() -> None:
    script = [raw for raw, _ in chat(PROSE)]
    begun = list(script)
    stream = Streamed(CHAT, ENCODING, batch=begun)
    assert stream.batch is begun
    assert stream.output() == output(CHAT, script)


def test_a_usage_on_the_way_begins_anew() -> None:
    stream = feed(Streamed(CHAT, ENCODING), [raw for raw, _ in chat(PROSE * 4)])
    stream.forget()
    assert (kept(stream), stream.few) == (0, True)
    feed(stream, [chunk({"content": "Hello"})])
    assert stream.output().tokens == 1


def test_a_picture_is_not_read_and_leaves_the_most_open() -> None:
    picture = event({"type": "response.image_generation_call.partial_image", "b64": "A" * LONGEST})
    done = event({"type": "response.completed", "response": {"usage": None}})
    text = event({"type": "response.output_text.delta", "delta": "Look:"})
    assert output("responses", [text, picture, done])[:3] == (2, 0, None)
    assert output("responses", [text, done]).most is not None


# -- how it may come -------------------------------------------------------------------------------------

HELLO = b'{"choices":[{"index":0,"delta":{"content":"Hello there"},"finish_reason":null}]}'


@pytest.mark.parametrize(
    "raw",
    [
        b"data: " + HELLO + b"\n\n",
        b"data:" + HELLO + b"\n\n",
        b"data: " + HELLO + b"\r\n\r\n",
        b"data: " + HELLO + b"\r\r",
        b"id: 7\nevent: chunk\ndata: " + HELLO + b"\nretry: 5\n\n",
        b"\n\n: ping\ndata: " + HELLO + b"\n\n",
        b"\xef\xbb\xbfdata: " + HELLO + b"\n\n",
        b"data: " + HELLO.replace(b",", b",\ndata: ", 1) + b"\n\n",
        HELLO,
        b"\xef\xbb\xbf \n" + HELLO,
    ],
)
def test_events_of_all_forms_are_read(raw: bytes) -> None:
    assert output(CHAT, [raw]).tokens == 2


@pytest.mark.parametrize(
    "raw",
    [b"data: [DONE]\n\n", b": ping\n\n", b"\n\n", b"", b"data: {\n\n", b"data\n\n", b"data: \xff\n\n", b"{"]
    + [b"data: " + text + b"\n\n" for text in (b"null", b"7", b"[]", b'"x"', b'{"choices":[[]]}')],
)
def test_what_holds_no_text_counts_for_nothing(raw: bytes) -> None:
    for endpoint in STREAMS:
        assert output(endpoint, [raw]) == Output()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sse")), ids=lambda path: path.stem)
def test_recorded_streams_cut_at_every_event(path: Path) -> None:
    """What is shown only grows, and what is whole tells of its tokens."""
    splitter = Splitter()
    events = [each.raw for each in splitter.feed(path.read_bytes()) + splitter.flush()]
    endpoint = {"cr": "responses", "responses": "responses", "transcription": "audio/transcriptions"}
    before = 0
    for cut in range(len(events) + 1):
        out = output(endpoint.get(path.stem, CHAT), events[:cut])
        assert out.tokens >= before
        assert out.least <= out.tokens <= (out.tokens if out.most is None else out.most)
        before = out.tokens
    assert before > 0 or path.stem in ("images", "mixed_ends", "error")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "delta",
                        "message",
                        "content",
                        "type",
                        "text",
                        "tool_calls",
                        "function",
                        "logprobs",
                        "index",
                        "output",
                        "item",
                        "audio",
                        "data",
                        "response",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_nothing_that_an_upstream_sends_makes_it_fail(data: Any) -> None:
    for endpoint in STREAMS:
        assert output(endpoint, [b"data: " + orjson.dumps(data) + b"\n\n"]).tokens >= 0


# -- what is known of it ---------------------------------------------------------------------------------


def test_who_serves_is_who_the_events_name() -> None:
    out = output(CHAT, [raw for raw, _ in chat("Hi")])
    assert (out.model, out.service_tier) == ("gpt-4o-2024-08-06", "default")


def test_the_most_is_known_of_a_whole_answer_that_hides_nothing() -> None:
    events = [raw for raw, _ in chat("Hello there")]
    assert output(CHAT, events[:-1]).most is None
    most = output(CHAT, events).most
    assert most is not None
    assert most >= len("Hello there")
    assert output(CHAT, events, hidden=True).most is None
    assert output(CHAT, events, 2).most is None


def test_without_a_vocabulary_of_its_own_the_least_is_half() -> None:
    events = [raw for raw, _ in chat("word " * 100)]
    known, guess = output(CHAT, events), output(CHAT, events, known=False)
    assert known.tokens == guess.tokens
    assert known.least > guess.least == guess.tokens - guess.tokens // 2


def test_without_any_vocabulary_tokens_are_bytes_by_four(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str, encoding: str) -> int:
        raise VocabularyError("gone")

    monkeypatch.setattr(tokens, "count", broken)
    stream = feed(Streamed(CHAT, ENCODING), [raw for raw, _ in chat("word " * 100)])
    out = stream.output()
    assert 125 <= out.tokens <= 127
    assert out.least == out.tokens - out.tokens // 2
    assert str(stream.error) == "gone"
