"""How usage and cost are told: headers of a JSON answer, one comment in a stream, a member of the usage."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from proxy.api import Cost, Event, Usage, find_member, insert_member

INSIDE: Final = 256 * 1024
"""Bytes of an answer, or of an event, in which the cost is put; more may take longer than the loop has."""

NAMES: Final = (b"x-weir-input-tokens", b"x-weir-output-tokens", b"x-weir-cost-usd", b"x-weir-cost")
"""What headers there may be."""


def headers(usage: Usage, cost: Cost) -> list[tuple[bytes, bytes]]:
    """`x-weir-cost-usd` is a plain decimal or not there; then `x-weir-cost` says `unpriced`. It says
    `estimated` of an amount that was not measured."""
    amount = cost.amount
    pairs = [
        (b"x-weir-input-tokens", b"%d" % usage.input_tokens),
        (b"x-weir-output-tokens", b"%d" % usage.output_tokens),
        (b"x-weir-cost", b"unpriced") if amount is None else (b"x-weir-cost-usd", _plain(amount)),
    ]
    if amount is not None and cost.provenance != "measured":
        pairs.append((b"x-weir-cost", b"estimated"))
    return pairs


def comment(usage: Usage, cost: Cost) -> bytes:
    """The line `: weir {…}`, without its end. The amount is text, since a JSON number becomes a float."""
    if cost.amount is None:
        told = b'null,"unpriced":true'
    else:
        told = b'"%s"' % _plain(cost.amount)
        if cost.provenance != "measured":
            told += b',"estimated":true'
    counts = (told, usage.input_tokens, usage.output_tokens)
    return b': weir {"cost_usd":%s,"input_tokens":%d,"output_tokens":%d}' % counts


def before(event: Event, line: bytes, *, glued: bool) -> Sequence[Event]:
    """The comment in front of this event: a block of its own, or `glued` within its block.

    Once a stream has set an id, the OpenAI SDK takes a block of comments alone for an event and fails on it.
    """
    raw = event.raw
    rest = raw.lstrip(b"\r\n")  # an empty line more than need be belongs to what was before
    blank = raw[: len(raw) - len(rest)]
    end = line_end(raw)
    if glued:
        return (Event(blank + line + end + rest),)
    return (Event(blank + line + end + end), event if not blank else Event(rest))


def after(line: bytes, end: bytes, *, glued: bool) -> Event:
    """The comment after the last event, which nothing follows: `glued`, it ends no block, and so is none."""
    return Event(line + end + (b"" if glued else end))


def line_end(raw: bytes) -> bytes:
    """How the last line of an event ends."""
    return b"\r\n" if raw.endswith(b"\r\n") else raw[-1:]


def inside(body: bytes, data: Any, cost: Cost) -> bytes | None:
    """The answer, or the data of an event, with `cost` in its usage; all other bytes stay. None if it is to
    stay as it is. `data` is what it parses to."""
    if len(body) > INSIDE or not isinstance(data, dict) or cost.provenance != "measured":
        return None
    path = ["usage"]
    if not isinstance(data.get("usage"), dict):
        data = data.get("response")
        path.insert(0, "response")
    if not isinstance(data, dict) or not isinstance(data.get("usage"), dict) or "cost" in data["usage"]:
        return None
    amount = b"null" if cost.amount is None else _plain(cost.amount)
    return _put(body, path, amount)


def _plain(amount: Decimal) -> bytes:
    """As `format(amount, "f")`, which takes three times as long as `str`: that has an exponent only below a
    millionth, or where zeros end it."""
    text = str(amount)
    return (text if "E" not in text else format(amount, "f")).encode()


def _put(body: bytes, path: list[str], amount: bytes) -> bytes:
    if not path:
        return insert_member(body, "cost", amount)
    place = find_member(body, path[0])
    if place is None:
        raise KeyError(path[0])
    inner = _put(body[place.value : place.end], path[1:], amount)
    return b"".join((body[: place.value], inner, body[place.end :]))
