"""The `precost` plugin: counts the prompt, prices it, and tells both in headers."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from proxy.api import DRY_RUN, ESTIMATE, ClientError, Estimate, Exchange, Plugin, Server
from proxy.pricing import tokens
from proxy.pricing.endpoints import operation
from proxy.pricing.prompt import (
    ENDPOINTS,
    FORMS,
    Prompt,
    max_cost,
    max_output,
    plain,
    quick,
    read,
    read_form,
    read_upload,
)
from proxy.pricing.values import Method, Model, Prices
from proxy.pricing.vocabulary import VocabularyError

from .count import Count, Counting
from .dry_run import HEADER, dry_run, impossible, wanted
from .unknown import unknown_model
from .upstream import Counter, UpstreamCount, seconds

T = TypeVar("T")

INLINE = 16 * 1024
"""UTF-8 bytes of text that are counted on the event loop: 1 ms of prose, 6 ms at worst."""
PEEK = 64 * 1024
"""Bytes of a form that are looked at before it streams through."""
_BEGIN = 4
"""Bytes' worth of time that it takes to begin with a text."""
THREADS = 2
"""Bodies of many parts that are read at a time off the loop; more of them wait. Counting has its own."""
MODELS = 1024
"""Names of known models that are at hand with what the table has on them. Clients may make names up where it
takes a pattern: when there are so many, all are looked up anew."""
_COST = b"x-weir-estimated-cost-usd"
_TOKENS = b"x-weir-estimated-input-tokens"
_METHODS = {
    method: (b"x-weir-estimate-method", method.encode()) for method in ("tiktoken", "upper_bound", "upstream")
}
_AS_MOST = b"application/json"
_LOOKED_AT = frozenset((b"content-type", b"content-encoding", HEADER))
log = logging.getLogger("weir.precost")


class PreCost(Plugin):
    """Fills ESTIMATE for a POST of JSON to an endpoint whose prompt is counted, and of a form with files, as
    far as its first bytes tell. No other body is read.

    Where the price table says to reject models that it does not know, such a request is refused with 404.

    A text up to `INLINE` is counted at once. Of a longer one ESTIMATE has the upper bound, and `exact()`
    counts it in a thread. Every answer of such a request has `x-weir-estimated-input-tokens`,
    `x-weir-estimate-method` (`tiktoken`, `upper_bound` or `upstream`) and, if the model has a price,
    `x-weir-estimated-cost-usd`, the most that it can cost. With the header `x-weir-dry-run: true` it is not
    sent: the estimate is the answer, and is counted however long the text is, up to `tokens.LIMIT`.

    With `ask_upstream` the `exact()` of a request to `responses` is the upstream's own count. It is asked for
    that when somebody calls it, for a dry run, and before all else where `previous_response_id` or
    `conversation` names what only it knows. Where it does not tell, all is as without.

    Without a vocabulary all estimates are upper bounds, and the log says once what is wrong with it.
    """

    provides = (ESTIMATE, DRY_RUN)

    def __init__(self, preload: bool = False, ask_upstream: bool = False, ask_timeout: str = "2s") -> None:
        """`preload`: load the vocabularies before the first request, which else waits for its own.

        `ask_upstream`: have the upstream count the prompts of responses (`POST responses/input_tokens`), if
        it does so within `ask_timeout`.
        """
        if not isinstance(preload, bool):
            raise ValueError("preload is true or false")
        if not isinstance(ask_upstream, bool):
            raise ValueError("ask_upstream is true or false")
        patience = seconds(ask_timeout)
        self._counter = Counter(patience) if ask_upstream else None
        self._preload = preload
        self._prices: Prices | None = None
        self._models: dict[tuple[str, str | None], Model] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._counting: Counting | None = None
        self._unusable: set[str] = set()

    async def start(self, server: Server) -> None:
        """See `Plugin.start`."""
        self._prices = server.prices
        self._models.clear()
        self._threads = ThreadPoolExecutor(THREADS, "weir-precost")
        self._counting = Counting()
        if self._preload:
            for encoding in tokens.COMMON:
                await self._in_thread(self._usable, encoding)

    async def stop(self) -> None:
        """See `Plugin.stop`."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self._counting is not None:
            self._counting.close()

    async def on_request(self, ex: Exchange) -> None:
        """Estimate, if there is something to."""
        request = ex.request
        dry = False
        is_json = True
        content_type = b""
        for name, value in request.headers.raw:
            if name not in _LOOKED_AT:
                continue
            if name == b"content-type":
                is_json = is_json and (value == _AS_MOST or _may_be_json(value))
                content_type = value
            elif name == b"content-encoding":
                is_json = is_json and value.lower() == b"identity"
            else:
                dry = wanted(value) or dry
        endpoint, deployment = request.endpoint, None
        if endpoint not in ENDPOINTS:
            endpoint, deployment = operation(endpoint)
            if endpoint in FORMS and request.method == "POST" and b"json" not in content_type:
                if dry:
                    raise impossible()
                await self._upload(ex, endpoint, content_type, deployment)
                return
        # Where unknown models are rejected, what cannot be read must not be a way around.
        readable = is_json or (endpoint in ENDPOINTS and self._rejects_unknown)
        if readable and request.method == "POST" and (endpoint in ENDPOINTS or endpoint in FORMS):
            try:
                body = await request.json()
            except ClientError as error:
                if dry or error.code != "invalid_json" or self._rejects_unknown:
                    raise
                return  # the upstream will say what it thinks of it
            if deployment is not None and isinstance(body, dict) and not isinstance(body.get("model"), str):
                body = {**body, "model": deployment}
            known = self._known(body.get("model"), ex.upstream) if isinstance(body, dict) else None
            prompt = plain(endpoint, body, known)
            if prompt is None:
                if quick(await request.read(), body):
                    prompt = read(endpoint, body, known)
                else:
                    prompt = await self._in_thread(read, endpoint, body, known)
            if prompt is not None:
                theirs = None if self._counter is None else self._counter.of(ex, await request.read(), body)
                if _is_small(prompt) and tokens.loaded(prompt.encoding) and not dry and theirs is None:
                    self._fill(ex, prompt, known, prompt.count())
                else:
                    await self._estimate(ex, prompt, known, dry=dry, theirs=theirs)
                return
        if dry:
            raise impossible()

    def on_response(self, ex: Exchange) -> None:
        """Tell the estimate."""
        estimate = ex.get(ESTIMATE)
        if estimate is None:
            return
        if isinstance(estimate.count, UpstreamCount):
            estimate.count.forget()
        pairs = ex.response.headers.raw
        counted = estimate.input_tokens
        pairs.append((_TOKENS, b"%d" % (estimate.input_bound if counted is None else counted)))
        pairs.append(_METHODS[estimate.method])
        if (cost := estimate.max_cost) is not None:
            text = str(cost)  # in half the time that `format` takes; but it may write an exponent
            pairs.append((_COST, (format(cost, "f") if "E" in text else text).encode()))

    async def _upload(self, ex: Exchange, endpoint: str, content_type: bytes, deployment: str | None) -> None:
        """Estimate a form, if its first bytes say which model it is for."""
        request = ex.request
        if not content_type.lower().startswith(b"multipart/") or request.headers.get(b"content-encoding"):
            return
        head = await request.peek(PEEK)
        form = read_form(content_type.decode("latin-1"), head, request.length)
        if form is None:
            return
        if deployment is not None:
            form.fields.setdefault("model", deployment)
        if form.model is None:
            return  # it may come behind the file
        known = self._known(form.model, ex.upstream)
        prompt = read_upload(endpoint, form, known)
        if prompt is not None:
            await self._estimate(ex, prompt, known, dry=False)

    def _known(self, model: Any, upstream: str | None) -> Model | None:
        """The model that is asked for, as the price table knows it."""
        prices = self._prices
        if prices is None:
            return None
        if not isinstance(model, str):
            known = None
        elif (known := self._models.get((model, upstream))) is None:  # not to ask each time saves 1 µs
            known = prices.model(model, upstream=upstream)
            if known is not None:
                if len(self._models) >= MODELS:
                    self._models.clear()
                self._models[model, upstream] = known
        if known is None and prices.rejects_unknown:
            raise unknown_model(model)
        return known

    @property
    def _rejects_unknown(self) -> bool:
        return self._prices is not None and self._prices.rejects_unknown

    async def _estimate(
        self,
        ex: Exchange,
        prompt: Prompt,
        known: Model | None,
        *,
        dry: bool,
        theirs: UpstreamCount | None = None,
    ) -> None:
        """Fill ESTIMATE, and for a dry run its answer, whatever has to be waited for."""
        counted: int | None = None
        count: Count | UpstreamCount | None = None
        told = await theirs.told() if theirs is not None and (dry or theirs.first) else None
        if told is not None:
            counted = told
        elif _is_small(prompt):
            encoding = prompt.encoding
            ready = not prompt.texts or tokens.loaded(encoding)  # tokens that came as such need no vocabulary
            if ready or await self._in_thread(self._usable, encoding):
                counted = prompt.count()
        elif prompt.countable:
            assert self._counting is not None  # noqa: S101 # requests come after the start
            count = in_thread = Count(partial(self._count, prompt), prompt.bound, self._counting)
            if dry:
                exact = await in_thread()
                counted = exact if in_thread.counted and tokens.loaded(prompt.encoding) else None
        if theirs is not None and told is None:
            theirs.ours = count or (prompt.bound if counted is None else counted)
            count = theirs
        estimate = self._fill(ex, prompt, known, counted, count, told)
        if dry:
            prices, input_cost = self._prices, None
            if prices is not None and prompt.model is not None:
                input_cost = prices.input_cost(
                    prompt.model,
                    input_tokens=prompt.bound if counted is None else counted,
                    service_tier=prompt.service_tier,
                    upstream=ex.upstream,
                )
            ex[DRY_RUN] = dry_run(prompt, estimate, input_cost)

    def _fill(
        self,
        ex: Exchange,
        prompt: Prompt,
        known: Model | None,
        counted: int | None,
        count: Count | UpstreamCount | None = None,
        told: int | None = None,
    ) -> Estimate:
        """The estimate, which ESTIMATE has from now on. `told`: that is what the upstream says."""
        bound = prompt.bound if told is None else told
        method: Method = "upper_bound" if counted is None else "tiktoken" if told is None else "upstream"
        output = max_output(prompt, known)
        prices, cost = self._prices, None
        if prices is not None:
            expected = bound if counted is None else counted
            cost = max_cost(prompt, prices, input_tokens=expected, output_tokens=output, upstream=ex.upstream)
        estimate = ex[ESTIMATE] = Estimate(
            bound,
            method,
            counted,
            output,
            cost,
            count,
            prompt.model,
            prompt.units or None,
        )
        return estimate

    def _count(self, prompt: Prompt) -> int:
        return prompt.count() if self._usable(prompt.encoding) else prompt.bound

    def _usable(self, encoding: str) -> bool:
        """Load a vocabulary, which blocks; whether that went well."""
        if encoding not in self._unusable:
            try:
                tokens.preload(encoding)
                return True
            except VocabularyError as error:
                self._unusable.add(encoding)
                log.error("%s; until then estimates are upper bounds", error)
        return False

    @property
    def _executor(self) -> Executor:
        assert self._threads is not None  # noqa: S101 # requests come after the start
        return self._threads

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)


def _is_small(prompt: Prompt) -> bool:
    """Whether it is counted on the event loop."""
    return prompt.size + _BEGIN * len(prompt.texts) <= INLINE


def _may_be_json(content_type: bytes) -> bool:
    """Upstreams take JSON for what it is, whatever it is declared to be; only forms are something else."""
    return not content_type.lower().lstrip().startswith(b"multipart/")
