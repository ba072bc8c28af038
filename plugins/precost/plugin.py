"""The `precost` plugin: counts the prompt, prices it, and tells both in headers."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any, Literal, TypeVar

from proxy.api import DRY_RUN, ESTIMATE, ClientError, Estimate, Exchange, Plugin, Server
from proxy.pricing import tokens
from proxy.pricing.prompt import ENDPOINTS, Prompt, quick, read
from proxy.pricing.values import Model, Prices
from proxy.pricing.vocabulary import VocabularyError

from .count import Count, Counting
from .dry_run import HEADER, dry_run, impossible, wanted

T = TypeVar("T")

INLINE = 16 * 1024
"""UTF-8 bytes of text that are counted on the event loop: 1 ms of prose, 6 ms at worst."""
_BEGIN = 4
"""Bytes' worth of time that it takes to begin with a text."""
THREADS = 2
"""Bodies of many parts that are read at a time off the loop; more of them wait. Counting has its own."""
_COST = b"x-weir-estimated-cost-usd"
_TOKENS = b"x-weir-estimated-input-tokens"
_METHOD = b"x-weir-estimate-method"
log = logging.getLogger("weir.precost")


class PreCost(Plugin):
    """Fills ESTIMATE for a POST of JSON to an endpoint whose prompt is counted; no other body is read.

    A text up to `INLINE` is counted at once. Of a longer one ESTIMATE has the upper bound, and `exact()`
    counts it in a thread. Every answer of such a request has `x-weir-estimated-input-tokens`,
    `x-weir-estimate-method` (`tiktoken` or `upper_bound`) and, if the model has a price,
    `x-weir-estimated-cost-usd`, the most that it can cost. With the header `x-weir-dry-run: true` it is not
    sent: the estimate is the answer, and is counted however long the text is, up to `tokens.LIMIT`.

    Without a vocabulary all estimates are upper bounds, and the log says once what is wrong with it.
    """

    provides = (ESTIMATE, DRY_RUN)

    def __init__(self, preload: bool = False) -> None:
        """`preload`: load the vocabularies before the first request, which else waits for its own."""
        if not isinstance(preload, bool):
            raise ValueError("preload is true or false")
        self._preload = preload
        self._prices: Prices | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._counting: Counting | None = None
        self._unusable: set[str] = set()

    async def start(self, server: Server) -> None:
        """See `Plugin.start`."""
        self._prices = server.prices
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
        for name, value in request.headers.raw:
            if name == b"content-type":
                is_json = is_json and _may_be_json(value)
            elif name == b"content-encoding":
                is_json = is_json and value.lower() == b"identity"
            elif name == HEADER:
                dry = wanted(value) or dry
        if is_json and request.method == "POST" and request.endpoint in ENDPOINTS:
            try:
                raw = await request.read()
                body = await request.json()
            except ClientError as error:
                if dry or error.code != "invalid_json":
                    raise
                return  # the upstream will say what it thinks of it
            known = self._known(body)
            if quick(raw):
                prompt = read(request.endpoint, body, known)
            else:
                prompt = await self._in_thread(read, request.endpoint, body, known)
            if prompt is not None:
                counted: int | None = None
                count: Count | None = None
                if prompt.size + _BEGIN * len(prompt.texts) <= INLINE:
                    if tokens.loaded(prompt.encoding) or await self._in_thread(self._usable, prompt.encoding):
                        counted = prompt.count()
                elif prompt.countable:
                    assert self._counting is not None  # noqa: S101 # requests come after the start
                    count = Count(partial(self._count, prompt), prompt.bound, self._counting)
                    if dry:
                        exact = await count()
                        counted = exact if count.counted and tokens.loaded(prompt.encoding) else None
                estimate = ex[ESTIMATE] = self._estimate(prompt, known, counted, count)
                if dry:
                    ex[DRY_RUN] = dry_run(prompt, estimate, self._input_cost(prompt, estimate))
                return
        if dry:
            raise impossible()

    async def on_response(self, ex: Exchange) -> None:
        """Tell the estimate."""
        estimate = ex.get(ESTIMATE)
        if estimate is None:
            return
        pairs = ex.response.headers.raw
        counted = estimate.input_tokens
        pairs.append((_TOKENS, b"%d" % (estimate.input_bound if counted is None else counted)))
        pairs.append((_METHOD, estimate.method.encode()))
        if estimate.max_cost is not None:
            pairs.append((_COST, format(estimate.max_cost, "f").encode()))

    def _known(self, body: Any) -> Model | None:
        model = body.get("model") if isinstance(body, dict) else None
        return self._prices.model(model) if self._prices is not None and isinstance(model, str) else None

    def _estimate(
        self, prompt: Prompt, known: Model | None, counted: int | None, count: Count | None
    ) -> Estimate:
        output = prompt.max_output_tokens
        if output is None and known is not None:
            output = known.max_output_tokens
        if output is not None:
            output *= prompt.choices
        bound, model, prices = prompt.bound, prompt.model, self._prices
        cost: Decimal | None = None
        if prices is not None and model is not None:
            cost = prices.max_cost(
                model,
                input_tokens=bound if counted is None else counted,
                output_tokens=output,
                service_tier=prompt.service_tier,
            )
        method: Literal["tiktoken", "upper_bound"] = "upper_bound" if counted is None else "tiktoken"
        return Estimate(bound, method, counted, output, cost, count, model)

    def _input_cost(self, prompt: Prompt, estimate: Estimate) -> Decimal | None:
        counted = estimate.input_tokens
        if self._prices is None or prompt.model is None:
            return None
        return self._prices.input_cost(
            prompt.model,
            input_tokens=prompt.bound if counted is None else counted,
            service_tier=prompt.service_tier,
        )

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


def _may_be_json(content_type: bytes) -> bool:
    """Upstreams take JSON for what it is, whatever it is declared to be; only forms are something else."""
    return content_type == b"application/json" or not content_type.lower().lstrip().startswith(b"multipart/")
