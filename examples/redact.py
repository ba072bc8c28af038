"""Replaces an ASCII word in chat answers, also when a stream cuts it; every other byte stays."""

import re

from proxy.api import Event, Exchange, Plugin, Slot

HELD: Slot[list[Event]] = Slot("redact.held")  # events whose text ends as the word begins
TEXT = re.compile(rb'(?<="content":")(?:[^"\\]|\\.)*')


class Redact(Plugin):
    def __init__(self, word: str, by: str = "***") -> None:
        letters = [re.escape(letter).encode("ascii") for letter in word]
        self.by = by.encode("ascii")
        self.word = re.compile(b"\0*".join(letters))  # NUL, which JSON text never holds, marks the seams
        begun = [b"\0*".join(letters[:size]) for size in range(1, len(letters))]
        self.begun = re.compile(b"(?:%b)\0*$" % b"|".join(begun or [b"(?!)"]))

    async def on_request(self, ex: Exchange) -> None:
        ex.response.rewrites(oversize="fail")

    def on_event(self, ex: Exchange, event: Event) -> list[Event]:
        events = [*(ex.get(HELD) or ()), *([] if event.kind == "end" else [event])]
        texts = [found[0] if (found := TEXT.search(one.raw)) else b"" for one in events]
        joined = self.word.sub(lambda cut: self.by + b"\0" * cut[0].count(b"\0"), b"\0".join(texts))
        for at, (old, new) in enumerate(zip(texts, joined.split(b"\0"), strict=False)):
            if new != old:
                events[at] = Event(TEXT.sub(new.replace(b"\\", rb"\\"), events[at].raw, count=1), event.kind)
        tail = self.begun.search(joined) if event.kind == "sse" else None
        keep = joined.count(b"\0", 0, tail.start()) if tail else len(events)
        ex[HELD] = events[keep:]
        return events[:keep]
