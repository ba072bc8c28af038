"""The `annotate` plugin: reads what an answer used, prices it, and says so."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from proxy.api import COST, USAGE, ClientError, Cost, Event, Exchange, Plugin, Response, Server, Slot, Usage
from proxy.pricing.usage import ENDPOINTS, read
from proxy.pricing.values import Prices

from . import asking, notes

HOLD_LIMIT: Final = 4 * 1024 * 1024
IMAGES_HOLD_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an answer that are held for its headers; images come in the body, in base64."""

_UPLOADS: Final = frozenset(("images/edits", "audio/transcriptions", "audio/translations"))
"""Where the request may be a form with a file in it, which is not read."""
_READABLE: Final = frozenset(("identity", "gzip", "x-gzip", "deflate"))
"""Content codings that Weir shows to plugins decoded."""
_NOT_JSON: Final = frozenset(("invalid_json", "unsupported_encoding"))

_UNKNOWN: Final = Cost(None)
_BOM: Final = b"\xef\xbb\xbf"


class _Call:
    """What is known of one exchange whose answer may have a usage."""

    __slots__ = ("asked", "charged", "endpoint", "ids", "line_end", "model", "rewrites", "succeeded", "told")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.model: str | None = None
        self.asked = False
        self.succeeded = False
        self.rewrites = False
        self.told = False
        """Whether the comment is out."""
        self.ids = False
        """Whether an event has set an id."""
        self.line_end = b"\n"
        self.charged: tuple[Usage, Cost] | None = None


_CALL: Final[Slot[_Call]] = Slot("annotate.call")


class Annotate(Plugin):
    """Fills USAGE and COST from the upstream's own usage, and tells the client.

    JSON answers are held for their headers, up to 4 MiB (images: 16 MiB). In streams of completions the
    upstream is asked for the usage if the client did not, and what that adds is taken out again; the comment
    comes before `[DONE]`. An answer without a usage leaves both slots empty. Answers that failed are not
    touched, and what is fetched later (`GET /responses/{id}`) is not charged again.
    """

    provides = (USAGE, COST)
    on_error = "skip"  # a note that cannot be made is no reason to break an answer

    def __init__(self, stream: str = "comment", headers: str | bool = "on") -> None:
        if stream not in ("comment", "none"):
            raise ValueError("stream is comment or none")
        if headers not in ("on", "off", True, False):
            raise ValueError("headers is on or off")
        self._comments = stream == "comment"
        self._headers = headers in ("on", True)
        self._prices: Prices | None = None

    async def start(self, server: Server) -> None:
        """Take the price table."""
        self._prices = server.prices

    async def on_request(self, ex: Exchange) -> None:
        """Ask a stream for its usage, and for an answer that can be read."""
        request = ex.request
        endpoint = request.endpoint
        if endpoint not in ENDPOINTS or request.method != "POST":
            return
        call = ex[_CALL] = _Call(endpoint)
        data = await _body(ex)
        if data.get("stream") is True and self._comments:
            request.headers[b"accept-encoding"] = b"identity"
            if endpoint in asking.ENDPOINTS and asking.wants(data):
                body = await request.read()
                if len(body) <= asking.INLINE:
                    request.set_body(asking.ask(body, data))
                else:
                    request.set_body(await asyncio.to_thread(asking.ask, body, data))
                call.asked = True
        else:
            _ask_for_readable(ex)
        model = data.get("model")
        call.model = model if isinstance(model, str) else None

    async def on_response(self, ex: Exchange) -> None:
        """Announce what this answer needs: to be held, to be rewritten, or nothing."""
        call = ex.get(_CALL)
        response = ex.response
        if call is None:
            return
        call.succeeded = 200 <= response.status < 300
        if not call.succeeded:
            return
        if response.is_json:
            if self._headers and _coding(response) in _READABLE:
                response.hold(IMAGES_HOLD_LIMIT if call.endpoint.startswith("images/") else HOLD_LIMIT)
        elif response.is_stream and self._comments and _coding(response) == "identity":
            # An upstream that compresses all the same is passed on, asked for or not: rather a usage too many
            # than no answer.
            response.rewrites()
            call.rewrites = True

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        """Nearly all events have no usage: of those this asks three questions of their bytes, and no more."""
        call = ex.get(_CALL)
        if call is None or not call.succeeded:
            return None
        raw = event.raw
        if event.kind == "json":
            if b'"usage"' in raw:
                self._charge(ex, call, read(call.endpoint, event.json()))
                if call.charged is not None and not ex.response.started and self._headers:
                    ex.response.headers.raw += notes.headers(*call.charged)
            return None
        if not call.rewrites:
            if b'"usage"' in raw and not _only_null(raw):
                self._charge(ex, call, read(call.endpoint, event.json()))
            return None
        if not call.ids and (b"\nid" in raw or b"\rid" in raw or raw.startswith((b"id", _BOM))):
            call.ids = event.id is not None
        if b'"usage"' in raw:
            return self._on_usage(ex, call, event)
        if call.charged is not None and not call.told:
            if event.kind == "end":
                # A completion without [DONE] was not completed.
                if call.endpoint not in asking.ENDPOINTS:
                    return notes.after(notes.comment(*call.charged), call.line_end, glued=call.ids)
            elif b"[DONE]" in raw and event.data.lstrip().startswith(b"[DONE]"):
                call.told = True
                return notes.before(event, notes.comment(*call.charged), glued=call.ids)
        return None

    def _on_usage(self, ex: Exchange, call: _Call, event: Event) -> Event | Sequence[Event] | None:
        if not _only_null(event.raw):
            data = event.json()
            self._charge(ex, call, read(call.endpoint, data))
            call.line_end = notes.line_end(event.raw)
            if call.asked and asking.is_ours(data):
                return ()
        return asking.without_null(event) if call.asked else None

    def _charge(self, ex: Exchange, call: _Call, usage: Usage | None) -> None:
        """The last usage counts: an upstream may tell it more than once."""
        if usage is None:
            return
        prices = self._prices
        cost = _UNKNOWN if prices is None else prices.cost(usage, call.model, upstream=ex.upstream)
        ex[USAGE] = [usage]
        ex[COST] = cost
        call.charged = usage, cost


async def _body(ex: Exchange) -> dict[str, Any]:
    """The request as JSON; empty if it is none, which is for the upstream to say."""
    request = ex.request
    if request.endpoint in _UPLOADS and "json" not in (request.headers.get(b"content-type") or "").lower():
        return {}
    try:
        data = await request.json()
    except ClientError as error:
        if error.code not in _NOT_JSON:
            raise
        return {}
    return data if isinstance(data, dict) else {}


def _ask_for_readable(ex: Exchange) -> None:
    """Leave of `accept-encoding` what a usage can be read in."""
    headers = ex.request.headers
    asked = ",".join(headers.getall(b"accept-encoding"))
    if not asked or asked in ("gzip, deflate", "gzip", "identity"):
        return
    codings = asked.split(",")
    kept = [coding for coding in codings if coding.partition(";")[0].strip().lower() in _READABLE]
    if len(kept) < len(codings):
        headers[b"accept-encoding"] = ",".join(kept).strip() or "identity"


def _coding(response: Response) -> str:
    return (response.headers.get(b"content-encoding") or "identity").lower()


def _only_null(raw: bytes) -> bool:
    """Whether the one usage in an event is null, as in each chunk but the last of a stream that was asked."""
    return (b'"usage":null' in raw or b'"usage": null' in raw) and raw.count(b'"usage"') == 1
