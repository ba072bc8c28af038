"""Asking a stream for its usage, and taking out again what that adds to it.

A stream of completions tells its usage only to who sends `stream_options.include_usage`. Then each chunk has
`"usage":null` besides, and one chunk more, with empty `choices`, has the usage. What is not of these two was
not added by asking, and stays: a usage in a chunk with choices is there unasked.
"""

import re
from typing import Any, Final

from proxy.api import Event, find_member, insert_member, remove_member, replace_member

ENDPOINTS: Final = frozenset(("chat/completions", "completions"))
"""Whose streams have to be asked."""

INLINE: Final = 64 * 1024
"""Bytes of a body that is edited at once; one that is larger may have been made to be slow."""

_VERSION = re.compile("(?:^|&)api-version=([0-9]{4}-[0-9]{2})", re.ASCII)
_SINCE: Final = "2024-09"
_OPTIONS = "stream_options"
_USAGE = "include_usage"

# A last line that is an object, and in it a "usage" with nothing but plain members after it: so it stands in
# the object that the line ends with, and not in one within.
_OBJECT = re.compile(rb"data: ?+\{")
_PLAIN_MEMBER = rb'\s*+,\s*+"[^"\\]*+"\s*+:\s*+(?:"[^"\\]*+"|[^"\\\s\[\]{},:]++)'
_ADDED: Final = b',"usage":null'
_WIDTH: Final = len(_ADDED)
_END: Final = b"}\n\n"
_LAST: Final = _ADDED + _END
_BACK: Final = -len(_LAST)
_CR: Final = 13  # as a number, `in` finds it in a quarter of the time that `find` takes
_PLAIN = re.compile(_ADDED + rb'(?:,"[^"\\]*+":"[^"\\]*+")*+\}\n\n\Z')
_NULL = re.compile(rb'"usage"\s*+:\s*+null((?:' + _PLAIN_MEMBER + rb")*[ \t]*+\}[\r\n]++)\Z")


def wants(data: dict[str, Any]) -> bool:
    """Whether this request leaves the usage out, so that there is something to ask for."""
    options = data.get(_OPTIONS)
    if options is None:
        return True
    # What is neither true nor false is for the upstream to refuse, or to make sense of.
    return isinstance(options, dict) and (options.get(_USAGE) is None or options[_USAGE] is False)


def azure_tells(query: str, data: dict[str, Any]) -> bool:
    """Whether Azure's older API can be asked: by its version, and not about a customer's own data. Else it
    answers with 400."""
    version = _VERSION.search(query)
    return version is not None and version[1] >= _SINCE and "data_sources" not in data


def ask(body: bytes, data: dict[str, Any]) -> bytes:
    """The body of a request that `wants`, asking now; all other bytes stay. `data` is what it parses to."""
    if _OPTIONS not in data:
        return insert_member(body, _OPTIONS, b'{"include_usage":true}')
    options = data[_OPTIONS]
    if options is None:
        return replace_member(body, _OPTIONS, b'{"include_usage":true}')
    place = find_member(body, _OPTIONS)
    if place is None:
        raise KeyError(_OPTIONS)
    edit = replace_member if _USAGE in options else insert_member
    return replace_member(body, _OPTIONS, edit(body[place.value : place.end], _USAGE, b"true"))


def bare(raw: bytes) -> bytes | None:
    """OpenAI's own chunk without a usage, as it would have come to who did not ask: less its `"usage":null`.

    Of such a chunk that can be said without parsing: it is one line, and the null is a member of the object
    that the line is, since only texts are behind it. White space before its comma is for `without_null` to
    take along. An event that has no `"usage"` at all is this very `raw`; all else is None.
    """
    if raw.endswith(_LAST):  # as most of a stream that was asked
        at = _BACK
        rest = _END
    else:
        at = raw.rfind(b'"usage"') - 1
        if at == -2:
            return raw
        if _PLAIN.match(raw, at) is None:
            return None
        rest = raw[at + _WIDTH :]
    return raw[:at] + rest if is_one_object(raw) and raw[at - 1] > 32 else None


def is_one_object(raw: bytes) -> bool:
    """Whether an event is one line of JSON, as nearly all are: such a one sets no id and is not [DONE]."""
    return raw.startswith(b"data: {") and raw.find(b"\n") == len(raw) - 2 and _CR not in raw


def without_null(event: Event) -> Event | None:
    """A chunk without its `"usage":null`; None if it has none."""
    raw = event.raw
    if raw.count(b'"usage"') == 1:
        # Nearly every other chunk there is; ten times as fast as finding the member from the front.
        at = raw.find(b'"usage"')
        found = _NULL.match(raw, at)
        line = max(raw.rfind(b"\n", 0, at), raw.rfind(b"\r", 0, at)) + 1
        if found is not None and _OBJECT.match(raw, line):
            before = raw[:at].rstrip(b" \t")
            if before.endswith(b","):
                return Event(before[:-1].rstrip(b" \t") + raw[found.start(1) :])
    data = event.json()
    if not isinstance(data, dict) or data.get("usage", 0) is not None:
        return None
    return with_data(event, remove_member(event.data, "usage"))


def is_ours(data: Any) -> bool:
    """Whether this is the chunk that only asking brings."""
    return isinstance(data, dict) and data.get("choices") == [] and isinstance(data.get("usage"), dict)


def with_data(event: Event, data: bytes) -> Event:
    """This event with other data, and the white space before it as it was."""
    before, found, after = event.raw.rpartition(event.data)
    edited = Event(before + data + after)
    return edited if found and edited.data == data else event.with_data(data)
