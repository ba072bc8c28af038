"""An upstream that honours `include_usage`, in every way of writing JSON and events that it might have."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from proxy.api import Cost, Server, Usage
from proxy.pricing.values import Model

INPUT, OUTPUT = Decimal("0.0000025"), Decimal("0.00001")
USAGE = b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":0,"prompt_tokens_details":null}'


class FakePrices:
    """Knows models whose names begin with gpt, and what it was asked."""

    version = "test"
    rejects_unknown = False

    def __init__(self) -> None:
        self.asked: list[tuple[Usage, str | None, str | None]] = []

    def cost(
        self,
        usage: Usage,
        model: str | None = None,
        *,
        upstream: str | None = None,
        at: float | None = None,
    ) -> Cost:
        self.asked.append((usage, model, upstream))
        for name in (usage.model, model):
            if name is not None and name.startswith("gpt"):
                amount = (usage.input_tokens * INPUT + usage.output_tokens * OUTPUT).normalize()
                return Cost(amount, amount, amount, usage.provenance, self.version)
        return Cost(None)

    def model(self, name: str, *, upstream: str | None = None) -> Model | None:
        return None

    def models(self) -> Sequence[Model]:
        raise NotImplementedError

    def max_cost(
        self, model: str, *, input_tokens: int, output_tokens: int | None, **of: Any
    ) -> Decimal | None:
        return self.cost(Usage(input_tokens, output_tokens or 0), model).high

    def input_cost(self, model: str, **of: Any) -> Decimal | None:
        raise NotImplementedError


def server(prices: FakePrices | None = None) -> Server:
    return Server(metrics=CollectorRegistry(), prices=prices or FakePrices())


@dataclass(frozen=True)
class Style:
    """How it writes."""

    place: str = "last"  # of "usage" in a chunk: first, middle, last
    comma: bytes = b","
    colon: bytes = b":"
    open: bytes = b"{"
    close: bytes = b"}"
    data: bytes = b"data: "
    end: bytes = b"\n"
    ids: bool = False
    named: bool = False
    pings: bool = False
    bom: bool = False
    blank: bytes = b""
    azure: bool = False
    tools: bool = False
    obfuscated: bool = False
    unasked: bool = False  # a usage on the last chunk with choices, whether asked for or not
    tokens: tuple[int, int] = (19, 4)

    def chunks(self, asked: bool) -> list[list[bytes]]:
        """The members of each chunk; that of asking is marked by its name alone."""
        head = [b'"id"%s"c-1"', b'"created"%s18446744073709551616', b'"model"%s"gpt-4o"']
        deltas = [
            b'{"role":"assistant","content":""}',
            '{"content":"é \\"usage\\":null \U0001f30a"}'.encode(),
        ]
        if self.tools:
            arguments = rb'{"index":0,"function":{"arguments":"{\"usage\":null,\"a\":{\"usage\":{}}}"}}'
            deltas += [b'{"tool_calls":[%s]}' % arguments, b'{"usage":null,"nested":[{"usage":null}]}']
        asking = [b'"usage"%snull'] if asked else []
        body = [
            b'"choices"%%s[{"index":0,"delta":%s,"finish_reason":null}]' % delta.replace(b"%", b"%%")
            for delta in [*deltas, b"{}"]
        ]
        chunks = [self.members(head, choices, asking) for choices in body]
        if self.azure:
            first = [b'"prompt_filter_results"%s[{"prompt_index":0}]', b'"model"%s""']
            chunks.insert(0, self.members(first, b'"choices"%s[]', asking))
        counts = USAGE % self.tokens
        if self.unasked:
            chunks[-1] = self.members(head, body[-1], [b'"usage"%s' + counts])
        if asked and not self.unasked:
            chunks.append(self.members(head, b'"choices"%s[]', [b'"usage"%s' + counts]))
        return chunks

    def members(self, head: list[bytes], choices: bytes, usage: list[bytes]) -> list[bytes]:
        tail = [b'"obfuscation"%s"xY3"'] if self.obfuscated else []
        order = {
            "first": [*usage, *head, choices],
            "middle": [*head, *usage, choices],
            "last": [*head, choices, *usage],
        }
        return [member % self.colon for member in [*order[self.place], *tail]]

    def events(self, *, asked: bool) -> list[bytes]:
        """The stream, each event with its empty line; the last is [DONE]."""
        data = [self.open + self.comma.join(chunk) + self.close for chunk in self.chunks(asked)]
        blocks = []
        for number, text in enumerate([*data, b"[DONE]"]):
            # Who counts events would count one more when asked; the last one has an id of its own.
            counted = b"id: %d" % number if text != b"[DONE]" else b"id: last"
            lines = [counted] * self.ids + [b"event: chunk"] * self.named + [b": ping"] * self.pings
            lines += [self.data + line for line in text.split(b"\n")]
            blocks.append((self.blank if number else b"") + self.end.join([*lines, b"", b""]))
        if self.bom:
            blocks[0] = b"\xef\xbb\xbf" + blocks[0]
        return blocks

    def annotated(self, comment: bytes) -> bytes:
        """What the client should get that did not ask: the stream as it would have been, and the comment."""
        *before, done = self.events(asked=False)
        blank, done = (self.blank, done.removeprefix(self.blank)) if self.blank else (b"", done)
        block = comment + self.end * (1 if self.ids else 2)
        return b"".join([*before, blank, block, done])

    def comment(self) -> bytes:
        """The comment that goes with its tokens."""
        cost = (self.tokens[0] * INPUT + self.tokens[1] * OUTPUT).normalize()
        told = (format(cost, "f").encode(), *self.tokens)
        return b': weir {"cost_usd":"%s","input_tokens":%d,"output_tokens":%d}' % told


SPACED = Style(comma=b", ", colon=b": ")
STYLES = {
    "openai": Style(),
    "obfuscated": Style(obfuscated=True),
    "first": Style(place="first"),
    "middle": Style(place="middle"),
    "python": SPACED,
    "python, first": replace(SPACED, place="first"),
    "python, middle": replace(SPACED, place="middle"),
    "spaces everywhere": Style(comma=b" , ", colon=b" : ", open=b"{ ", close=b" }"),
    "spaces everywhere, first": Style(comma=b" , ", colon=b" : ", open=b"{ ", close=b" }", place="first"),
    "spaces everywhere, middle": Style(comma=b"\t,\t", colon=b"\t:\t", open=b"{\t", place="middle"),
    "lines": Style(comma=b",\n  ", colon=b": ", open=b"{\n  ", close=b"\n}"),
    "lines, first": Style(comma=b",\n  ", colon=b": ", open=b"{\n  ", close=b"\n}", place="first"),
    "no space after data": Style(data=b"data:"),
    "no space after data, middle": Style(data=b"data:", place="middle"),
    "crlf": Style(end=b"\r\n"),
    "crlf, spaced, middle": Style(end=b"\r\n", comma=b", ", colon=b": ", place="middle"),
    "cr": Style(end=b"\r"),
    "ids": Style(ids=True),
    "ids, crlf": Style(ids=True, end=b"\r\n"),
    "ids, cr, named": Style(ids=True, end=b"\r", named=True),
    "named": Style(named=True),
    "pings": Style(pings=True),
    "byte order mark": Style(bom=True),
    "byte order mark, no space": Style(bom=True, place="middle", ids=True),
    "blank lines": Style(blank=b"\n"),
    "blank lines, ids": Style(blank=b"\n", ids=True),
    "azure": Style(azure=True),
    "azure, first": Style(azure=True, place="first"),
    "tools": Style(tools=True),
    "tools, first": Style(tools=True, place="first"),
    "tools, obfuscated, ids": Style(tools=True, obfuscated=True, ids=True),
    "zero": Style(tokens=(0, 0)),
}


def asks(body: bytes) -> bool:
    """Whether a request asks for the usage, as the upstream would understand it."""
    options = orjson.loads(body).get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
