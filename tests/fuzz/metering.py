"""Any bytes as the body of any metered endpoint: read or refused, and never counted for less than 0."""

from collections.abc import Coroutine
from decimal import Decimal
from typing import Any, Final, TypeVar

from proxy.api.errors import ClientError
from proxy.api.headers import Headers
from proxy.api.request import Request
from proxy.pricing.prompt import (
    ENDPOINTS,
    FORMS,
    Prompt,
    max_cost,
    max_output,
    quick,
    read,
    read_form,
    read_upload,
    used,
)
from proxy.pricing.table import default

T = TypeVar("T")
NAMES: Final = sorted(ENDPOINTS | FORMS)
MOST: Final = 64 * 1024
"""Bytes of text that are really counted: a fuzzer has no time for more."""


class Body:
    """A `BodySource` that is there already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def length(self) -> int | None:
        return len(self._body)

    async def read(self) -> bytes:
        return self._body

    async def peek(self, count: int) -> bytes:
        return self._body[:count]

    def replace(self, body: bytes) -> None:
        self._body = body


def target(data: bytes) -> None:
    """The first byte says which endpoint, the rest is the body: JSON, and the start of a form."""
    endpoint, body = NAMES[(data[:1] or b"\0")[0] % len(NAMES)], data[1:]
    _json(endpoint, body)
    _form(endpoint, body)


def _json(endpoint: str, raw: bytes) -> None:
    request = Request("POST", b"/v1/" + endpoint.encode(), b"", Headers([]), Body(raw), "", "")
    try:
        body = at_once(request.json())
    except ClientError as error:
        assert (error.status, error.code) in ((400, "invalid_json"), (400, "duplicate_key")), error
        return
    assert quick(raw, body) in (True, False)
    asked = body.get("model") if isinstance(body, dict) else None
    known = default().model(asked) if isinstance(asked, str) else None
    prompt = read(endpoint, body, known)
    assert (prompt is None) == (not isinstance(body, dict) or endpoint not in ENDPOINTS | {"images/edits"})
    if prompt is not None:
        _sound(prompt)


def _form(endpoint: str, head: bytes) -> None:
    form = read_form("multipart/form-data; boundary=b", head, len(head) + 1000)
    if form is None:
        return
    for file in form.files:
        assert file.size is None or 0 <= file.size <= len(head) + 1000
    prompt = read_upload(endpoint, form, None)
    if prompt is not None:
        _sound(prompt)


def _sound(prompt: Prompt) -> None:
    assert prompt.size >= 0
    assert prompt.bound >= 0
    assert prompt.choices >= 1
    assert all(count >= 0 for count in prompt.units.values())
    if prompt.size <= MOST:
        assert 0 <= prompt.count() <= prompt.bound
    output = max_output(prompt, None)
    assert output is None or output >= 0
    cost = max_cost(prompt, default(), input_tokens=prompt.bound, output_tokens=output)
    assert cost is None or (cost.is_finite() and cost >= 0)
    if prompt.model is not None and cost is not None and not prompt.units:
        least = default().input_cost(prompt.model, input_tokens=0, service_tier=prompt.service_tier)
        assert least is None or least <= cost
    usage = used(prompt.units)
    assert usage is None or all(count >= Decimal(0) for count in usage.other_units.values())


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits for something")
