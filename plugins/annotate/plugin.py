"""The `annotate` plugin: reads what an answer used, prices it, and says so."""

import asyncio
from collections.abc import Coroutine, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from proxy.api import (
    COST,
    ESTIMATE,
    USAGE,
    ClientError,
    Cost,
    End,
    Event,
    Exchange,
    Headers,
    Plugin,
    Server,
    Slot,
    Usage,
)
from proxy.api.fuse import FUSE
from proxy.pricing.endpoints import operation
from proxy.pricing.output.meter import Meter
from proxy.pricing.output.streamed import BATCH, SMALL
from proxy.pricing.usage import ENDPOINTS, read
from proxy.pricing.values import Prices

from . import asking, notes
from .burning import Burning
from .counting import Counting, Running
from .unmeasured import begin, encoding_of, model_of, unmeasured

HOLD_LIMIT: Final = 4 * 1024 * 1024
IMAGES_HOLD_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an answer that are held for its headers; images come in the body, in base64."""

_HOLDS: Final = dict.fromkeys(("images/generations", "images/edits"), IMAGES_HOLD_LIMIT)
_UPLOADS: Final = frozenset(("images/edits", "audio/transcriptions", "audio/translations"))
"""Where the request may be a form with a file in it, which is not read."""
_READABLE: Final = frozenset(("identity", "gzip", "x-gzip", "deflate"))
"""Content codings that Weir shows to plugins decoded."""
_ACCEPT: Final = b"accept-encoding"
_READABLE_NAMES: Final = frozenset(coding.encode() for coding in _READABLE)
_NOT_JSON: Final = frozenset(("invalid_json", "unsupported_encoding"))

_UNKNOWN: Final = Cost(None)
_BOM: Final = b"\xef\xbb\xbf"


class _Call:
    """What is known of one exchange whose answer may have a usage."""

    # What most exchanges leave as it is stands here: to set it all in each costs twice as much as the rest.
    burning: Burning | None = None
    running: Running | None = None
    shown = False
    """Whether the answer can be read."""
    so_far: Usage | None = None
    """A usage that is not the last."""
    model: str | None = None
    asked = False
    succeeded = False
    rewrites = False
    strips = False
    """Whether what asking adds is taken out again."""
    told = False
    """Whether the comment is out."""
    ids = False
    """Whether an event has set an id."""
    line_end = b"\n"
    charged: tuple[Usage, Cost] | None = None
    answer: Any = None
    """The JSON that pictures came in, if it told no usage."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.batch: list[bytes] = []
        """The events that no usage has told of yet, or the last of them: see `Streamed`."""
        self.room = BATCH
        """Events that `batch` has room for; none, where each is charged as it comes."""

    def know_model(self, ex: Exchange) -> None:
        """An upload names its model in a form: what the estimate has read of it."""
        if self.model is None and (estimate := ex.get(ESTIMATE)) is not None:
            self.model = estimate.model


_CALL: Final[Slot[_Call]] = Slot("annotate.call")


class Annotate(Plugin):
    """Fills USAGE and COST from the upstream's own usage, and tells the client.

    JSON answers are held for their headers, up to 4 MiB (images: 16 MiB). In streams of completions the
    upstream is asked for the usage if the client did not, and what that adds is taken out again; the comment
    comes before `[DONE]`. Where no usage came, or not the last, both slots have an estimate at the end, made
    of what was streamed, with bounds. Answers that failed are not touched, and what is fetched later
    (`GET /responses/{id}`) is not charged again.
    """

    provides = (USAGE, COST)
    on_error = "skip"  # a note that cannot be made is no reason to break an answer

    def __init__(
        self, stream: str = "comment", headers: str | bool = "on", inside: str | bool = "off"
    ) -> None:
        if stream not in ("comment", "none"):
            raise ValueError("stream is comment or none")
        if headers not in ("on", "off", True, False):
            raise ValueError("headers is on or off")
        if inside not in ("on", "off", True, False):
            raise ValueError("inside is on or off")
        self._inside = inside in ("on", True)
        self._comments = stream == "comment"
        self._headers = headers in ("on", True)
        self._prices: Prices | None = None
        self._counting = Counting()

    async def start(self, server: Server) -> None:
        """Take the price table."""
        self._prices = server.prices

    async def stop(self) -> None:
        """See `Plugin.stop`."""
        self._counting.close()

    async def on_request(self, ex: Exchange) -> None:
        """Ask a stream for its usage, and for an answer that can be read."""
        request = ex.request
        endpoint, deployment = request.endpoint, None
        if endpoint not in ENDPOINTS:
            endpoint, deployment = operation(endpoint)
            if endpoint not in ENDPOINTS:
                return
        if request.method != "POST":
            return
        call = ex[_CALL] = _Call(endpoint)
        data = await _body(ex, endpoint)
        streams = data.get("stream") is True
        _ask_for_readable(request.headers, plain=self._inside or (streams and self._comments))
        if (
            streams
            and self._comments
            and endpoint in asking.ENDPOINTS
            and asking.wants(data)
            and (deployment is None or asking.azure_tells(request.query, data))
        ):
            body = await request.read()
            if len(body) <= asking.INLINE:
                request.set_body(asking.ask(body, data))
            else:
                request.set_body(await asyncio.to_thread(asking.ask, body, data))
            call.asked = True
        model = data.get("model")
        call.model = model if isinstance(model, str) else deployment

    def on_response(self, ex: Exchange) -> Coroutine[Any, Any, None] | None:
        """Announce what this answer needs: to be held, to be rewritten, or nothing."""
        call = ex.get(_CALL)
        response = ex.response
        if call is None or not 200 <= response.status < 300:
            return None
        call.succeeded = True
        if call.model is None:
            call.know_model(ex)
        if response.trailers is not None:
            for name in notes.NAMES:
                response.trailers[name] = b""
        if response.is_json:
            coding = response.encoding or "identity"
            if self._headers and coding in _READABLE:
                response.hold(_HOLDS.get(call.endpoint, HOLD_LIMIT))
            if self._inside and coding == "identity":
                response.rewrites()
                call.rewrites = True
        elif response.is_stream:
            coding = response.encoding or "identity"
            call.shown = coding in _READABLE and not call.endpoint.startswith("images/")
            if (self._comments or self._inside) and coding == "identity":
                # An upstream that compresses all the same is passed on, asked for or not: rather a usage too
                # many than no answer.
                response.rewrites()
                call.rewrites = True
                call.strips = call.asked
                call.told = not self._comments
            if FUSE in ex:
                return self._light(ex, call)
        return None

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        """Nearly all events have no usage, or a null in its place, in one line: of those this asks a few
        questions of their bytes, none twice."""
        call = ex.get(_CALL)
        if call is None or not call.succeeded:
            return None
        if event.kind == "json":
            return self._on_json(ex, call, event)
        raw = event.raw
        bare = asking.bare(raw)
        if bare is None:
            return self._on_usage(ex, call, event)
        batch = call.batch
        batch.append(raw)
        if len(batch) >= call.room or len(raw) > SMALL:
            self._make_room(ex, call, raw)
        if bare is not raw:
            return Event(bare) if call.strips else None
        if not call.rewrites or asking.is_one_object(raw):
            return None
        return self._with_comment(call, event)

    def on_end(self, ex: Exchange, end: End) -> Coroutine[Any, Any, None] | None:
        """Estimate what was not told; tell it all to who takes trailers."""
        call = ex.get(_CALL)
        if call is None:
            return None
        if not call.charged or (call.so_far is not None and end.reason != "complete"):
            return self._estimate(ex, end, call)
        if call.succeeded:
            _tell(ex)
        return None

    async def _estimate(self, ex: Exchange, end: End, call: _Call) -> None:
        """Say what nobody told."""
        call.know_model(ex)
        body = await _body(ex, call.endpoint)
        found = await unmeasured(ex, end, call, body, self._prices, self._counting)
        if found is not None:
            usage, ex[COST] = found
            if usage is not None:
                ex[USAGE] = [usage]
        if call.succeeded:
            _tell(ex)

    async def _light(self, ex: Exchange, call: _Call) -> None:
        """The fuse of this stream, from here on."""
        prices = self._prices
        estimate = ex.get(ESTIMATE)
        tokens = 0
        if estimate is not None:
            tokens = estimate.input_bound if estimate.input_tokens is None else estimate.input_tokens
        tier = (await _body(ex, call.endpoint)).get("service_tier")

        def price(output: int) -> Decimal | None:
            if prices is None:
                return None
            usage = Usage(tokens, output, service_tier=tier if isinstance(tier, str) else None)
            return prices.cost(usage, call.model, upstream=ex.upstream).amount

        known = model_of(call, prices, ex.upstream)
        call.burning = Burning(ex[FUSE], Meter(call.endpoint, encoding_of(call, known)), price)
        call.room = 0

    def _with_comment(self, call: _Call, event: Event) -> Event | Sequence[Event] | None:
        """The end of a stream with what it cost; an event before that as it is."""
        if not call.ids:
            call.ids = _sets_id(event)
        if call.charged is None or call.told:
            return None
        if event.kind == "end":
            # A completion without [DONE] was not completed.
            if call.endpoint not in asking.ENDPOINTS:
                return notes.after(notes.comment(*call.charged), call.line_end, glued=call.ids)
        elif event.raw.find(b"[DONE]") >= 0 and event.data.lstrip().startswith(b"[DONE]"):
            call.told = True
            return notes.before(event, notes.comment(*call.charged), glued=call.ids)
        return None

    def _on_json(self, ex: Exchange, call: _Call, event: Event) -> Event | None:
        raw = event.raw
        # It is near the end, as a rule.
        if raw.rfind(b'"usage"') >= 0 and (usage := read(call.endpoint, event.json())) is not None:
            cost = self._charge(ex, call, usage)
            response = ex.response
            if response.started:
                return None
            if self._headers:
                response.headers.raw += notes.headers(usage, cost)
            return self._with_cost(call, event) if call.rewrites else None
        if call.endpoint.startswith("images/"):
            call.answer = event.json()
        elif not (call.endpoint == "responses" and _is_accepted(event.json())):
            call.shown = True
            call.batch.append(raw)
        return None

    def _with_cost(self, call: _Call, event: Event) -> Event | None:
        """This event with the cost in its usage, if that is wanted and can be."""
        if not self._inside or call.charged is None:
            return None
        data = notes.inside(event.data, event.json(), call.charged[1])
        if data is None:
            return None
        return event.with_data(data) if event.kind == "json" else asking.with_data(event, data)

    def _on_usage(self, ex: Exchange, call: _Call, event: Event) -> Event | Sequence[Event] | None:
        raw = event.raw
        if call.rewrites and not call.ids:
            call.ids = _sets_id(event)
        usage = data = None
        if not _only_null(raw):
            data = event.json()
            usage = read(call.endpoint, data)
        if usage is None:
            call.batch.append(raw)
            if len(call.batch) >= call.room or len(raw) > SMALL:
                self._make_room(ex, call, raw)
        else:
            self._charge(ex, call, usage)
            call.so_far = None
            call.batch.clear()
            if call.running is not None:
                call.running.forget()
            if call.endpoint in asking.ENDPOINTS and not _is_last(data):
                call.so_far = usage
                self._burn(ex, call)
            call.line_end = notes.line_end(raw)
        if not call.rewrites:
            return None
        if not call.strips:
            return None if usage is None else self._with_cost(call, event)
        if usage is not None and asking.is_ours(data):
            return ()
        return asking.without_null(event) if usage is None else self._with_cost(call, event)

    def _charge(self, ex: Exchange, call: _Call, usage: Usage) -> Cost:
        """The last usage counts: an upstream may tell it more than once."""
        prices = self._prices
        cost = _UNKNOWN if prices is None else prices.cost(usage, call.model, upstream=ex.upstream)
        ex[USAGE] = [usage]
        ex[COST] = cost
        call.charged = usage, cost
        return cost

    def _burn(self, ex: Exchange, call: _Call) -> None:
        """The upstream tells on the way what was used so far: then that is what the fuse is charged."""
        if call.burning is None or call.charged is None:
            return
        amount = call.charged[1].amount
        if amount is not None and call.burning.costs(amount):
            ex.abort(ex[FUSE].blown())

    def _make_room(self, ex: Exchange, call: _Call, raw: bytes) -> None:
        """Many events, or a large one, have come since a usage did; or each is to be charged."""
        if not call.shown:
            call.batch.clear()
            return
        if call.burning is not None:
            if call.burning.used_up(raw):
                ex.abort(ex[FUSE].blown())
            if len(call.batch) < BATCH and len(raw) <= SMALL:
                return
        running = call.running or begin(call, model_of(call, self._prices, ex.upstream), self._counting)
        running.make_room(raw)


def _tell(ex: Exchange) -> None:
    """The headers that come after the body, to who takes them: a bound alone is not told."""
    trailers = ex.response.trailers
    if trailers is None:
        return
    cost = ex.get(COST)
    for usage in ex.get(USAGE) or ():
        if cost is not None and usage.provenance in ("measured", "estimated"):
            for name, value in notes.headers(usage, cost):
                trailers[name] = value


async def _body(ex: Exchange, endpoint: str) -> dict[str, Any]:
    """The request as JSON; empty if it is none, which is for the upstream to say."""
    request = ex.request
    if endpoint in _UPLOADS and "json" not in (request.headers.get(b"content-type") or "").lower():
        return {}
    try:
        data = await request.json()
    except ClientError as error:
        if error.code not in _NOT_JSON:
            raise
        return {}
    return data if isinstance(data, dict) else {}


def _ask_for_readable(headers: Headers, *, plain: bool) -> None:
    """Leave of `accept-encoding` what a usage can be read in, or what can be rewritten (`plain`)."""
    asked = [value for name, value in headers.raw if name == _ACCEPT]
    if not plain and not asked:
        return
    kept = b"identity" if plain else _readable(b",".join(asked))
    if kept is not None:
        headers[_ACCEPT] = kept


@lru_cache(64)  # clients send the same few, of at most `limits_http.header_bytes`
def _readable(asked: bytes) -> bytes | None:
    """What of it can be read; None if all of it."""
    codings = asked.split(b",")
    kept = [coding for coding in codings if coding.partition(b";")[0].strip().lower() in _READABLE_NAMES]
    return None if len(kept) == len(codings) else b",".join(kept).strip() or b"identity"


def _only_null(raw: bytes) -> bool:
    """Whether the one usage in an event is null, as in each chunk but the last of a stream that was asked."""
    null = raw.find(b'"usage":null') >= 0 or raw.find(b'"usage": null') >= 0
    return null and raw.count(b'"usage"') == 1


def _is_accepted(data: Any) -> bool:
    """Whether a response is yet to be written, in the background: its answer shows nothing of its cost."""
    return isinstance(data, dict) and data.get("status") in ("queued", "in_progress")


def _sets_id(event: Event) -> bool:
    raw = event.raw
    may = raw.startswith((b"id", _BOM)) or raw.find(b"\nid") >= 0 or raw.find(b"\rid") >= 0
    return may and event.id is not None


def _is_last(data: Any) -> bool:
    """Whether the usage in a chunk is that of the whole answer; some tell what was used so far."""
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        return True
    return all(isinstance(choice, dict) and choice.get("finish_reason") is not None for choice in choices)
