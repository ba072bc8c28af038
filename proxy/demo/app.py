"""The demo upstream as an ASGI application."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from . import audio, chat, completions, embeddings, images, models, moderations
from .call import json_response
from .errors import ApiError
from .faults import Faults
from .files import Files
from .responses import Responses
from .stamp import Stamp

_Handler = Callable[[Request], Awaitable[Response]]


def create_app() -> Starlette:
    """A fresh fake of the OpenAI API under /v1, which keeps what it must remember in bounded memory.

    The same request gets the same bytes each time, ids and headers included, but for what reads the stores
    and for the model "flaky". So what Weir must not change can be tested by equality.
    """
    responses, files = Responses(), Files()
    v1 = [
        _post("/chat/completions", chat.create),
        _post("/responses", responses.create),
        _post("/responses/input_tokens", responses.input_tokens),
        _get("/responses/{id}", responses.retrieve),
        _post("/completions", completions.create),
        _post("/embeddings", embeddings.create),
        _post("/images/generations", images.create),
        _post("/audio/speech", audio.speech),
        _post("/audio/transcriptions", audio.transcriptions),
        _post("/audio/translations", audio.translations),
        _post("/moderations", moderations.create),
        _get("/models", models.list_all),
        _get("/models/{id:path}", models.retrieve),
        _post("/files", files.create),
        _get("/files", files.list),
        _get("/files/{id}", files.retrieve),
        _get("/files/{id}/content", files.content),
        Route("/files/{id}", files.delete, methods=["DELETE"]),
    ]
    app = Starlette(
        routes=[Mount("/v1", routes=v1)],
        middleware=[Middleware(Stamp)],
        exception_handlers={ApiError: _refused, HTTPException: _unknown, ClientDisconnect: _left},
    )
    app.state.faults = Faults()
    return app


def _get(path: str, handler: _Handler) -> Route:
    return Route(path, handler, methods=["GET"])


def _post(path: str, handler: _Handler) -> Route:
    return Route(path, handler, methods=["POST"])


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - Starlette's type for handlers cannot say it
    return json_response(error.envelope, error.status, error.headers)


async def _unknown(request: Request, error: Exception) -> Response:
    """Neither the path nor the method is one of ours."""
    unknown = ApiError(404, f"Invalid URL ({request.method} {request.url.path})")
    return json_response(unknown.envelope, unknown.status)


async def _left(request: Request, error: Exception) -> Response:
    """Nobody will read this: the client went while we read its body."""
    return Response(status_code=499)
