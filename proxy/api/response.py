"""The answer of an exchange, and the answer that a plugin gives itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from proxy.api.errors import WeirError
from proxy.api.headers import Headers

HOLD_LIMIT = 4 * 1024 * 1024
"""Bytes of a JSON answer that `hold` keeps back unless told otherwise."""


DECLARING = frozenset((b"content-type", b"content-encoding", b"x-request-id"))
"""Fields that say what a body is, and what the upstream calls the request."""


class _Kinds(dict[bytes, tuple[bool, bool]]):
    """Whether a content type is that of a stream of events, and whether it is JSON. The same few come again
    and again. Bounded."""

    def __missing__(self, value: bytes) -> tuple[bool, bool]:
        media_type = value.partition(b";")[0].strip().lower()
        kind = (
            media_type == b"text/event-stream",
            media_type == b"application/json" or media_type.endswith(b"+json"),
        )
        if len(self) < 256 and len(value) <= 128:
            self[value] = kind
        return kind


_KINDS = _Kinds()


class Response:
    """What goes back to the client.

    `status` is 0 until the answer's headers have come. `headers` may be edited until `started`. As the
    upstream, or whoever replied, declared it, `is_stream` says whether it is a stream of server-sent events,
    `is_json` whether it is one JSON body, and `encoding` how it is compressed, in lower case ("" if it is
    not). `request_id` is what the upstream calls the request, as it came (`x-request-id`), or None.

    `trailers` are fields that follow the body, if the client asked for them (`TE: trailers`), else None.
    Those that are in it when the answer starts are announced, so put them there in `on_response`, empty;
    their values may be set until the end of `on_end`, and what is empty then is left out. They go out where
    a body is chunked, if one was announced. Only what nobody needs to read the body may be one (RFC 9110,
    6.5.1).
    """

    __slots__ = (
        "encoding",
        "headers",
        "held_limit",
        "is_json",
        "is_stream",
        "request_id",
        "rewriting",
        "started",
        "status",
        "trailers",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers = Headers()
        self.started = False
        self.is_stream = False
        self.is_json = False
        self.encoding = ""
        self.request_id: bytes | None = None
        self.rewriting: Literal["pass", "fail"] | None = None
        self.held_limit = 0
        self.trailers: Headers | None = None

    def begin(
        self, status: int, headers: Headers, declaring: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        """The engine's: the head of an answer is here; `declaring` are its `DECLARING` fields, if they are
        known."""
        self.status = status
        self.headers = headers
        self.is_stream = self.is_json = False
        self.encoding = ""
        self.request_id = None
        typed = False
        for name, value in headers.raw if declaring is None else declaring:
            if name not in DECLARING:
                continue
            if name == b"content-encoding":
                self.encoding = self.encoding or value.strip().lower().decode("latin-1")
            elif name == b"x-request-id":
                self.request_id = self.request_id or value
            elif not typed:
                typed = True
                self.is_stream, self.is_json = _KINDS[value]

    def rewrites(self, *, oversize: Literal["pass", "fail"] = "pass") -> None:
        """Announce that `on_event` will change this answer.

        Call it in `on_request` or `on_response`. Events then go through the hooks before they are sent, and
        the upstream is asked for an uncompressed answer (when called in `on_request`). An event above 1 MiB
        cannot be held: with "pass" it goes out as it came, unseen; with "fail" the answer is broken off
        rather than let it pass. JSON bodies are held as by `hold`, under the same rule.
        """
        if self.started:
            raise RuntimeError("rewrites() comes too late: the answer has started")
        self.rewriting = "fail" if "fail" in (oversize, self.rewriting) else "pass"

    def hold(self, limit: int = HOLD_LIMIT) -> None:
        """Keep a JSON answer back up to `limit` bytes, so that headers can follow from its body.

        `on_event` sees the body while headers can still be edited. A larger answer goes out without. What is
        held by the whole process is bounded by `limits_http.hold_total`; above it answers are not held.
        """
        if self.started:
            raise RuntimeError("hold() comes too late: the answer has started")
        self.held_limit = max(self.held_limit, limit)


@dataclass(frozen=True)
class Reply:
    """An answer to the client that does not go upstream. Return one from `on_request`.

    It becomes `ex.response`: `on_response` and `on_end` run for the plugins whose turn had come. With
    `events` it is a stream of recorded events (exact bytes, each with its empty line).
    """

    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=Headers)
    events: Sequence[bytes] | None = None
    code: str = "replied"
    """What `End.code` says of it."""

    @classmethod
    def error(
        cls,
        status: int,
        code: str,
        message: str,
        *,
        type: str | None = None,  # OpenAI's name for it
        param: str | None = None,
        retry_after: float | None = None,
    ) -> "Reply":
        """An OpenAI-shaped error, so that SDKs raise their typed exception with this message.

        `retry_after` is in seconds; see `WeirError` for what its absence means.
        """
        if retry_after is not None and not math.isfinite(retry_after):
            raise ValueError("retry_after is a finite number of seconds")
        return cls.of(WeirError(status, code, message, type=type, param=param, retry_after=retry_after))

    @classmethod
    def of(cls, error: WeirError) -> "Reply":
        """The answer that tells of an error."""
        return cls(error.status, error.body(), Headers(error.headers()), code=error.code)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> "Reply":
        """A JSON answer."""
        return cls(status, orjson.dumps(value), Headers([(b"content-type", b"application/json")]))

    @classmethod
    def stream(cls, events: Sequence[bytes], status: int = 200) -> "Reply":
        """A stream of recorded events."""
        return cls(status, headers=Headers([(b"content-type", b"text/event-stream")]), events=events)
