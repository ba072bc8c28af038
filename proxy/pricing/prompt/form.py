"""multipart/form-data, as far as its first bytes go: the fields of an upload, and the heads of its files.

A form streams through Weir; what is looked at is the piece of it that is at hand. Clients send the fields
first as a rule. Fields behind a file that is longer than that piece are not seen.
"""

import re
from typing import NamedTuple

PARTS = 64
"""Parts that are looked at."""
HEAD = 4096
"""Bytes of the headers of a part."""
_BOUNDARY = re.compile(r'boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="([^"\r\n]{0,200})"', re.IGNORECASE)
_FILE = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)


class File(NamedTuple):
    """A file of a form: `head` is what is there of it, `size` its bytes, or the most that they can be; None
    where nobody knows."""

    name: str
    head: bytes
    size: int | None

    def read(self, start: int, count: int) -> bytes:
        """These bytes, as far as they are there."""
        return self.head[start : start + count]


class Form(NamedTuple):
    """The fields, and the files; names of lists are without their `[]`."""

    fields: dict[str, str]
    files: list[File]

    @property
    def model(self) -> str | None:
        """The model that is asked for."""
        return self.fields.get("model")


def read_form(content_type: str, head: bytes, size: int | None = None) -> Form | None:
    """The form that begins with `head` and has `size` bytes in all, if that is known; None if it is none."""
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().lstrip().startswith("multipart/form-data") or found is None:
        return None
    mark = b"--" + (found[1] or found[2]).encode()
    form = Form({}, [])
    at = 0 if head.startswith(mark) else head.find(b"\r\n" + mark) + 2
    if at == 1:
        return None
    for _ in range(PARTS):
        start = at + len(mark)
        body = head.find(b"\r\n\r\n", start, start + HEAD)
        if head[start : start + 2] != b"\r\n" or body < 0:
            break
        end = head.find(b"\r\n" + mark, body + 2)
        _take(form, head[start:body], head[body + 4 : end if end >= 0 else len(head)], end >= 0, size)
        if end < 0:
            break
        at = end + 2
    return form


def _take(form: Form, headers: bytes, content: bytes, whole: bool, size: int | None) -> None:
    named = _NAME.search(headers)
    if named is None:
        return
    name = named[1].decode("utf-8", "replace").removesuffix("[]")
    if _FILE.search(headers):
        form.files.append(File(name, content, len(content) if whole else size))
    elif whole:
        form.fields.setdefault(name, content.decode("utf-8", "replace"))
