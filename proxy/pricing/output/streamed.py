"""The events of one stream, kept as they came, and counted when somebody has to know.

Most streams tell their usage at their end, and then nothing here was worth its time. So while a stream runs
its events are only kept: as they are, then compressed, some 40 to 1. Only of a very long one, or when it has
ended without its usage, they are read and their text is tokenised, each piece once: in a thread.
"""

import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from proxy.pricing import tokens
from proxy.pricing.output import deltas
from proxy.pricing.output.tally import Tally
from proxy.pricing.vocabulary import VocabularyError

BATCH: Final = 128
"""Events that are kept as they are."""
SMALL: Final = 512
"""Bytes of an event for which nobody looks how many bytes that makes."""
LARGE: Final = 32 * 1024
"""Bytes of larger ones that are kept as they are."""
LIMIT: Final = 48 * 1024
"""Compressed bytes above which the stream is `full`: some 5,000 events."""
LONGEST: Final = 64 * 1024
"""Bytes of an event that is read: no piece of text is longer. A picture is, and it only counts as hidden."""

MARGIN: Final = 50
"""One part in so many is how far a count may be off, or `STRAY` tokens of each text if that is more."""
STRAY: Final = 3
AUDIO_BYTES: Final = 2400
"""Bytes for a token of audio, which is 50 ms: streams have 24,000 samples a second of 16 bits."""
FRAME: Final = 16
"""Tokens around an answer, or a call, that are in no text; more than was ever seen."""
ROUGH: Final = 4
"""Bytes for a token, where there is no vocabulary."""
_BOM: Final = b"\xef\xbb\xbf"

Packed = tuple[int, bytes]
"""How many events, and they themselves, compressed."""


class Output(NamedTuple):
    """What a model is known to have written; tokens.

    `tokens` is the estimate: what was shown. Reasoning and audio are parts of it. `least` was surely written.
    `most` is None while more may have been: because the answer is not complete, or not all of it is shown.
    `model` and `service_tier` are those that the events name.
    """

    tokens: int = 0
    least: int = 0
    most: int | None = None
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    model: str | None = None
    service_tier: str | None = None


class Streamed:
    """One stream, as far as it has come. It keeps 150 KiB at most, besides what is being counted.

    Append each event's bytes to `batch`. When it has `BATCH`, or the event is above `SMALL` bytes, call
    `made_room`; and if the stream is `full` then, give what `take` returns to `fold`, in a thread, one at a
    time; or to `drop`. `output` is what came of it.
    """

    __slots__ = (
        "_dropped",
        "_endpoint",
        "_folded",
        "_large",
        "_packed",
        "_rough",
        "_taken",
        "_tally",
        "batch",
        "encoding",
        "error",
        "size",
    )

    def __init__(
        self, endpoint: str, encoding: str, *, known: bool = True, batch: list[bytes] | None = None
    ) -> None:
        """`encoding` is one of `VOCABULARIES`; `known`: it is the model's own, and no guess. `batch` has the
        events so far, if this is made when the first is large or there are many."""
        self.encoding = encoding
        self.batch: list[bytes] = [] if batch is None else batch
        self.error: VocabularyError | None = None
        """Why all tokens are `ROUGH`, if they are."""
        self._endpoint = endpoint
        self._rough = not known
        self._packed: list[Packed] = []
        self.size = 0
        """Bytes that are compressed."""
        self._large = 0
        self._dropped = 0
        self._folded = 0
        self._taken = 0
        self._tally = Tally(self._count)

    # -- on the event loop -------------------------------------------------------------------------

    def made_room(self, event: bytes) -> bool:
        """Compress, if that is due: 50 µs. `event` is the last of the batch. Whether the stream is `full`."""
        batch = self.batch
        if len(event) > SMALL:
            if len(event) > LONGEST:
                batch.pop()
                self._tally.hidden = True
                return False
            self._large += len(event)
        if len(batch) >= BATCH or self._large >= LARGE:
            packed = zlib.compress(b"\0".join(batch), 1)  # no JSON has this byte
            self._packed.append((len(batch), packed))
            self.size += len(packed)
            self._large = 0
            batch.clear()
        return self.size >= LIMIT

    @property
    def few(self) -> bool:
        """Whether counting what is kept takes so little that it needs no thread."""
        batch = self.batch
        return not self._packed and len(batch) <= BATCH // 4 and sum(map(len, batch)) <= BATCH // 4 * SMALL

    def take(self) -> list[Packed]:
        """What is compressed; it is the caller's from now on."""
        packed, self._packed, self.size = self._packed, [], 0
        self._taken += sum(events for events, _ in packed)
        return packed

    def drop(self, packed: Sequence[Packed]) -> None:
        """Do without these: their number is known, and what the others hold."""
        self._dropped += sum(events for events, _ in packed)

    def forget(self) -> None:
        """Begin anew: a usage has come that has all this in it."""
        self.batch.clear()
        self.take()
        self._large = self._dropped = self._folded = self._taken = 0
        self._tally = Tally(self._count)

    def guess(self) -> Output:
        """What came so far where there is no time to count: a token an event, and no bounds."""
        return Output(self._taken + sum(events for events, _ in self._packed) + len(self.batch))

    # -- in a thread -------------------------------------------------------------------------------

    def fold(self, packed: Sequence[Packed]) -> None:
        """Count these and let them go. Blocks: 3 µs an event."""
        tally = self._tally
        for number, events in packed:
            self._read(zlib.decompress(events).split(b"\0"), tally)
            self._folded += number
            tally.settle()

    def output(self, choices: int = 1, *, hidden: bool = False) -> Output:
        """What came so far. Blocks for what is still to be counted.

        `choices` were asked for; `hidden`: the model writes more than it shows.
        """
        self.fold(self.take())
        tally = self._tally
        self._read(self.batch, tally)
        self._folded += len(self.batch)
        self.batch.clear()
        tally.settle()
        return self._result(tally, choices, hidden or tally.hidden)

    def _result(self, tally: Tally, choices: int, hidden: bool) -> Output:
        audio = -(-tally.audio_bytes // AUDIO_BYTES)
        reasoning, summary = tally.tokens("reasoning"), tally.tokens("summary")
        shown = tally.tokens("text", "call") + reasoning
        counted = shown - tally.listed_tokens
        least = shown - (counted // 2 if self._rough else max(STRAY * tally.texts, counted // MARGIN))
        count = shown + tally.calls * deltas.CALL + summary + audio
        if self._dropped:
            count += -(-self._dropped * count // self._folded) if self._folded else self._dropped
        most = None
        if tally.finished >= choices and not (hidden or summary or audio or self._dropped):
            most = max(count, tally.most) + FRAME * (choices + tally.calls)
        return Output(count, max(0, least), most, reasoning + summary, audio, tally.model, tally.service_tier)

    def _read(self, events: Sequence[bytes], tally: Tally) -> None:
        endpoint = self._endpoint
        for event in events:
            data = parsed(event)
            if data is not None:
                deltas.read(endpoint, data, tally)

    def _count(self, text: str) -> int:
        if self.error is None:
            try:
                return tokens.count(text, self.encoding)
            except VocabularyError as error:
                self.error = error
                self._rough = True
        return -(-tokens.bound(text) // ROUGH)


def parsed(event: bytes) -> Any:
    """The data of an event as JSON, or a whole JSON answer; None if it is none."""
    data = _data(event)
    if not data:
        return None
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _data(event: bytes) -> bytes:
    """The data of an event, or a whole JSON answer as it is; empty if there is none that could be JSON."""
    if event.startswith(b"data: {") and event.find(b"\n") >= len(event) - 2:
        return event[6:]
    event = event.removeprefix(_BOM)
    if event.lstrip().startswith(b"{"):
        return event
    lines = [line[5:] for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)
