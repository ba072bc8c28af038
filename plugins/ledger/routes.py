"""`GET /usage`, `/usage/rows` and `/usage/{id}`: on the management port of everybody, on the data port of the
caller alone."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proxy.api import IDENTITY, ClientError, Identity, WeirError

from .query import Query, QueryError, read
from .told import csv_lines, moment

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .keeper import Keeper
    from .report import Key, Totals

T = TypeVar("T")
Restriction = tuple[tuple[str, Any], ...]

FLUSH: Final = 2.0
"""Seconds that a read waits for rows which are on their way to the database."""
LOOKS: Final = 4
"""How often a row is looked for: another worker's is in the database a moment later."""
BETWEEN_LOOKS: Final = 0.15
THREADS: Final = 2
"""Reads at a time; others wait for their turn."""
GROUPS: Final = 100_000
"""Groups that are put together for one answer, of which `limit` are told."""
_CSV: Final = "text/csv; charset=utf-8; header=present"
_FORMS: Final = {"json": "application/json", "ndjson": "application/x-ndjson", "csv": _CSV}


class Reading:
    """The routes of one ledger."""

    def __init__(self, keeper: "Keeper") -> None:
        self._keeper = keeper
        self._threads: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """No more reads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def routes(self, *, own: bool) -> Sequence[BaseRoute]:
        """The routes; with `own`, of the rows of the caller that `auth` has found."""
        whose: Callable[[Request], Restriction] = _callers if own else _everybodys
        return [
            Route("/usage", _answering(partial(self._totals, whose))),
            Route("/usage/rows", _answering(partial(self._rows, whose))),
            Route("/usage/{id}", _answering(partial(self._row, whose))),
        ]

    async def _totals(self, whose: Callable[[Request], Restriction], request: Request) -> Response:
        from .report import report

        form = _form(request, "json", "csv")
        query = _query(request, whose(request))
        await self._keeper.flush(FLUSH)
        # All of it in the thread: ten thousand groups take a tenth of a second to be told.
        told = await self._read(lambda connection: _told(query, form, *report(connection, query, GROUPS)))
        return Response(told, media_type=_FORMS[form])

    async def _rows(self, whose: Callable[[Request], Restriction], request: Request) -> "Response | _Stream":
        form = _form(request, "ndjson", "csv")
        query = _query(request, whose(request))
        if query.by or query.bucket:
            raise ClientError(400, "invalid_usage_query", "Rows are not grouped: leave out `by`.")
        await self._keeper.flush(FLUSH)
        pages = self._pages(query, form)
        first = await anext(pages)  # a database that is down is told with a status of its own
        return _Stream(_FORMS[form], first, pages)

    async def _pages(self, query: Query, form: str) -> AsyncIterator[bytes]:
        from .export import heading, page

        after = None
        begin = heading(form)
        while True:
            lines, after = await self._read(partial(_page, page, query, after, form))
            yield begin + lines
            begin = b""
            if after is None:
                return

    async def _row(self, whose: Callable[[Request], Restriction], request: Request) -> Response:
        from .export import one

        id_, restricted = request.path_params["id"].replace("\0", ""), whose(request)
        await self._keeper.flush(FLUSH)
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(BETWEEN_LOOKS)
            found = await self._read(lambda connection: one(connection, id_, restricted))
            if found is not None:
                return _json(found)
        raise ClientError(
            404, "usage_not_found", "There is no row of this request id: it may still run, or be another's."
        )

    async def _read(self, work: "Callable[[Connection], T]") -> T:
        database = self._keeper.database
        if database is None:
            raise _unreadable("The ledger is off: no folder for its state can be written to.")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "weir-usage")

        def reading() -> T:
            with database.read() as connection:
                return work(connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, reading)
        except QueryError as error:
            raise _wrong(error) from error
        except Exception as error:
            raise _unreadable("The ledger's database cannot be read now; rows are kept meanwhile.") from error


def _page(page: Any, query: Query, after: Any, form: str, connection: "Connection") -> Any:
    return page(connection, query, after, form)


def _callers(request: Request) -> Restriction:
    who: Identity = request.scope["weir.exchange"][IDENTITY]
    if who.key_id is not None:
        return (("key_id", who.key_id),)
    return (("key_id", None), ("user", who.user))


def _everybodys(_: Request) -> Restriction:
    return ()


def _query(request: Request, restricted: Restriction) -> Query:
    try:
        query = read(request.query_params.multi_items(), dt.datetime.now(dt.UTC), ("format",))
    except QueryError as error:
        raise _wrong(error) from error
    for column, value in restricted:
        query = query.restricted(column, value)
    return query


def _form(request: Request, *forms: str) -> str:
    """The format that is asked for, by `format=` or by `Accept`; the first unless."""
    asked = request.query_params.get("format")
    if asked is None:
        return "csv" if request.headers.get("accept", "").startswith("text/csv") else forms[0]
    if asked not in forms:
        raise ClientError(400, "invalid_usage_query", f"format: one of {', '.join(forms)}.")
    return asked


def _answering(route: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Any:
        try:
            return await route(request)
        except WeirError as error:
            headers = {name.decode(): value.decode() for name, value in error.headers()}
            return Response(error.body(), error.status, headers)

    return answer


def _told(query: Query, form: str, groups: "list[tuple[Key, Totals]]", whole: "Totals") -> bytes:
    """The answer to `GET /usage`."""
    from .report import TOLD

    names = ([query.bucket] if query.bucket else []) + [*query.by]
    shown = groups[: query.limit]
    if form == "csv":
        return csv_lines([(*names, *TOLD), *((*key, *totals.told().values()) for key, totals in shown)])
    return orjson.dumps(
        {
            "object": "weir.usage",
            "since": moment(query.since),
            "until": moment(query.until),
            "by": names,
            "data": [{**dict(zip(names, key, strict=True)), **totals.told()} for key, totals in shown],
            "total": whole.told(),
            "truncated": len(shown) < len(groups),
        }
    )


def _wrong(error: QueryError) -> ClientError:
    return ClientError(400, "invalid_usage_query", f"{error}.")


def _unreadable(message: str) -> WeirError:
    return WeirError(503, "ledger_unreadable", message, retry_after=5)


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


class _Stream:
    """An answer that is made page by page, for as long as somebody listens."""

    def __init__(self, media_type: str, first: bytes, pages: AsyncIterator[bytes]) -> None:
        self._media_type = media_type
        self._first = first
        self._pages = pages

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", self._media_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.ensure_future(_left(receive))
        try:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for lines in self._pages:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": lines, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            await self._pages.aclose()  # type: ignore[attr-defined] # a generator of ours


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
