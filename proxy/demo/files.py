"""POST, GET and DELETE /v1/files."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .call import CREATED, json_response
from .errors import missing, not_found
from .form import read_form
from .store import Store


@dataclass(frozen=True, slots=True)
class _File:
    about: dict[str, Any]
    head: bytes


class Files:
    """Remembers the newest files, of each its size, its SHA-256 and its first MiB, in 64 MiB in all.

    The file objects are OpenAI's and have `sha256` besides, so that it can be seen that all bytes arrived.
    """

    def __init__(self) -> None:
        self._kept: Store[_File] = Store(limit=64 << 20)

    async def create(self, request: Request) -> Response:
        form = await read_form(request)
        upload = form.file()
        purpose = form.get("purpose", str, "")
        if not purpose:
            raise missing("purpose")
        about: dict[str, Any] = {
            "id": form.id("file-"),
            "object": "file",
            "bytes": upload.size,
            "created_at": CREATED,
            "expires_at": None,
            "filename": upload.name,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
            "sha256": upload.hash.hexdigest(),
        }
        # The weight of an empty file is that of its entry.
        self._kept.put(about["id"], _File(about, bytes(upload.head)), weight=len(upload.head) + 4096)
        return json_response(about)

    async def list(self, request: Request) -> Response:
        """The newest first, all on one page."""
        purpose = request.query_params.get("purpose")
        found = [file.about for file in self._kept.values() if purpose in (None, file.about["purpose"])]
        ends = {"first_id": found[-1]["id"], "last_id": found[0]["id"]} if found else {}
        return json_response({"object": "list", "data": found[::-1], "has_more": False, **ends})

    async def retrieve(self, request: Request) -> Response:
        return json_response(self._find(request).about)

    async def content(self, request: Request) -> Response:
        """Of a larger file only the first MiB, for that is all we have."""
        return Response(self._find(request).head, media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        name = self._find(request).about["id"]
        self._kept.pop(name)
        return json_response({"id": name, "object": "file", "deleted": True})

    def _find(self, request: Request) -> _File:
        name = request.path_params["id"]
        if file := self._kept.get(name):
            return file
        raise not_found("File object", name)
