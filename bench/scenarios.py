"""What is asked of each target: the requests, how many at a time, and what the upstream does meanwhile."""

from dataclasses import dataclass
from itertools import cycle, islice

import orjson

MODEL = "gpt-4o-mini"
CLIENT_KEY = "sk-bench-client"
UPSTREAM_KEY = "sk-bench-upstream"
PATH = "/v1/chat/completions"
NUMBER = 12
"""Digits of the number that makes each prompt different."""

_WORDS = (
    "A weir is a low wall across a river: the water goes over it, is measured as it passes, and nobody "
    "downstream has to know that it is there. "
)


@dataclass(frozen=True)
class Scenario:
    """One kind of load, a closed loop: each connection asks again as soon as it was answered.

    `prompt` is the prompt's length in characters; with `fresh` each request has another. A `stream` has
    `events` events, `gap` seconds apart. Connections begin within `ramp` seconds. It takes `length` times
    the seconds of the command line. With `paired` the upstream itself is measured beside each target, for
    what a target adds.
    """

    name: str
    what: str
    connections: int
    prompt: int = 400
    fresh: bool = False
    stream: bool = False
    events: int = 0
    gap: float = 0.0
    ramp: float = 0.0
    length: float = 1.0
    paired: bool = False

    def body(self) -> bytes:
        """A chat request; its prompt begins with `NUMBER` digits."""
        text = "0" * NUMBER + " " + "".join(islice(cycle(_WORDS), self.prompt - NUMBER - 1))
        asked: dict[str, object] = {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": text},
            ],
            "temperature": 0.2,
        }
        if self.stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return orjson.dumps(asked)

    @property
    def data_lines(self) -> int:
        """Of a streamed answer: its events, the usage and `[DONE]`."""
        return self.events + 2 if self.stream else 0


SHORT = Scenario("short", "500 B, 64 at a time", 64)
STREAM = Scenario("stream", "a stream of 100 events, 32 at a time", 32, stream=True, events=100)
SLOW = Scenario(
    "slow",
    "200 streams of 100 events, 20 ms apart",
    200,
    stream=True,
    events=100,
    gap=0.02,
    ramp=1.0,
    length=1.5,
)
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        SHORT,
        Scenario("fresh", "500 B, 64 at a time, every prompt different", 64, fresh=True),
        Scenario("long", "100 KB, 16 at a time", 16, prompt=100_000),
        STREAM,
        SLOW,
        Scenario("one", "500 B, one connection", 1, length=0.5, paired=True),
        Scenario("first", "10 events, one connection", 1, stream=True, events=10, length=0.5, paired=True),
    )
}
