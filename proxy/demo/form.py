"""Forms with uploads, held in bounded memory whatever is uploaded."""

import hashlib
from dataclasses import dataclass, field

from starlette.requests import Request

from .call import Call
from .errors import ApiError, missing
from .multipart import Multipart, Part
from .stamp import digest

_KEPT = 1 << 20
_MAX_FIELD = 1 << 20
_MAX_PARTS = 32


@dataclass(slots=True)
class Upload:
    """What is left of a file: how long it was, its hash, and its first MiB."""

    name: str
    size: int = 0
    head: bytearray = field(default_factory=bytearray)
    hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.hash.update(chunk)
        self.head += chunk[: _KEPT - len(self.head)]


class Form(Call):
    """A Call whose fields came as multipart/form-data."""

    def __init__(self, request: Request, fields: dict[str, str], files: dict[str, Upload]) -> None:
        super().__init__(request, fields)
        self._files = files

    def file(self) -> Upload:
        """The part named `file`, which all endpoints that take one ask for."""
        if found := self._files.get("file"):
            return found
        raise missing("file")


async def read_form(request: Request) -> Form:
    """Read at most 32 parts as they come: fields of at most 1 MiB each, and files of any length."""
    parser = Multipart(request.headers.get("content-type", ""))
    parts: list[tuple[Part, Upload]] = []
    async for chunk in request.stream():
        for event in parser.feed(chunk):
            if isinstance(event, Part):
                parts.append((event, Upload(event.filename or "")))
            else:
                parts[-1][1].add(event)
            _check(parts)
    parser.close()
    for part, body in parts:
        digest(request.scope).update(f"{part.name}\0{part.filename}\0{body.hash.hexdigest()}\0".encode())
    fields = {part.name: body.head.decode(errors="replace") for part, body in parts if part.filename is None}
    files = {part.name: body for part, body in parts if part.filename is not None}
    return Form(request, fields, files)


def _check(parts: list[tuple[Part, Upload]]) -> None:
    if len(parts) > _MAX_PARTS:
        raise ApiError(413, f"The form has more than {_MAX_PARTS} parts.")
    part, body = parts[-1]
    if part.filename is None and body.size > _MAX_FIELD:
        raise ApiError(413, f"The field '{part.name}' is larger than {_MAX_FIELD} bytes.")
