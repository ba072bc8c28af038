import ast
import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench import ungated
from bench.ungated import GUARDS, Cut, CutError
from proxy.api import Exchange, Plugin
from tests.faults.client import NoAnswer, chat, get, post, request
from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, head, ok_json

from .conftest import ROOT

SOURCE = """
class Door:
    def come(self, n):
        self.seen += n
        if n > self.limit:
            raise ValueError
        if n < 0:
            return None
        elif n == self.unlucky:
            raise ValueError
        else:
            n += 1
        return n

def other(n):
    self.seen += n
    return n
"""


def door(*cuts: Cut) -> str:
    return ast.unparse(ungated.cut(SOURCE, cuts))


# -- cutting ---------------------------------------------------------------------------------------------


def test_a_statement_is_cut_within_its_function_alone() -> None:
    left = door(Cut("door", "Door.come", "self.seen += n"))
    assert left.count("self.seen += n") == 1
    assert left.index("def other") < left.index("self.seen += n")


def test_without_a_function_it_is_cut_everywhere() -> None:
    assert "self.seen += n" not in door(Cut("door", "", "self.seen += n"))


def test_of_a_condition_all_is_cut_that_hangs_on_it_but_for_its_else() -> None:
    left = door(Cut("door", "Door.come", "self.limit"), Cut("door", "Door.come", "self.unlucky"))
    assert "raise" not in left
    assert "n += 1" in left
    assert "if n < 0:" in left


def test_a_whole_body_gives_way_to_another() -> None:
    left = door(Cut("door", "other", "", "return 7"))
    assert left.endswith("def other(n):\n    return 7")


@pytest.mark.parametrize("cut", [Cut("door", "Door.go", "seen"), Cut("door", "other", "limit")])
def test_what_is_not_there_any_more_is_told(cut: Cut) -> None:
    with pytest.raises(CutError, match=rf"door, {cut.within}: no statement holds `{cut.holds}`"):
        door(cut)


def test_what_has_been_imported_cannot_be_cut() -> None:
    importlib.import_module("proxy.core.gate")
    with pytest.raises(CutError, match=r"proxy\.core\.\w+ has been imported already"):
        ungated.take_out(["gate"])


@pytest.mark.parametrize("guard", GUARDS)
def test_each_guard_is_where_it_is_looked_for(guard: str) -> None:
    for module in {cut.module for cut in GUARDS[guard]}:
        source = (ROOT / Path(*module.split("."))).with_suffix(".py").read_bytes()
        ungated.cut(source, [cut for cut in GUARDS[guard] if cut.module == module])


# -- that it makes a difference --------------------------------------------------------------------------


class Loose(Plugin):
    """Reads bodies, and writes a second field into the first for a client that asks for it."""

    async def on_request(self, ex: Exchange) -> None:
        if ex.request.method == "POST":
            await ex.request.json()

    async def on_response(self, ex: Exchange) -> None:
        if b"x-loose" in ex.request.headers:
            ex.response.headers.raw.append((b"x-one", b"1\r\nx-two: 2"))


OK = ok_json(b'{"ok":true}')
REFUSED = {  # and the status, or 0 for no answer at all
    "a request line with two blanks": (get("/v1/models").replace(b" ", b"  ", 1), 400),
    "a long URI": (get("/v1/models?" + "a" * 17_000), 414),
    "a large head": (get("/v1/models", [("x-long", "a" * 33_000), ("x-longer", "a" * 33_000)]), 431),
    "many fields": (get("/v1/models", [(f"x-{n}", "1") for n in range(101)]), 431),
    "a method": (request("TRACE", "/v1/models"), 405),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "a path": (get("/v1/%2e%2e/admin"), 400),
    "a body that says to be compressed": (chat([("content-encoding", "gzip")]), 415),
    "a member that stands twice": (post("/v1/chat/completions", b'{"model":"a","model":"b"}'), 400),
    "an upstream's many fields": (get("/many"), 502),
    "a field within a field": (get("/v1/models", [("x-loose", "1")]), 0),
    "an upstream that is late": (get("/late"), 504),
}


@asynccontextmanager
async def serving(*guards: str, **config: object) -> AsyncIterator[tuple[Process, asyncio.Event]]:
    """Without these guards, in front of an upstream whose late answers come with the event."""
    now = asyncio.Event()

    async def script(conn: Conn) -> None:
        while True:
            asked = await conn.request()
            if asked.target == b"/late":
                await now.wait()
            if asked.target == b"/many":
                fields = [("content-length", "2"), *((f"x-{n}", "1") for n in range(201))]
                await conn.send(head(headers=fields) + b"{}")
            else:
                await conn.send(OK)

    plugins = [{"use": "tests.bench.test_ungated:Loose"}]
    command = (sys.executable, "-m", "bench.ungated", ",".join(guards), "serve")
    async with (
        RawUpstream(script) as up,
        Process(
            f"http://127.0.0.1:{up.port}",
            upstream={"timeouts": {"first_byte": "300ms"}},
            config={"plugins": plugins, **config},
            env={"PYTHONPATH": str(ROOT)},
            command=command,
        ) as weir,
    ):
        yield weir, now
        now.set()


async def status(weir: Process, data: bytes) -> int:
    async with weir.client() as client:
        try:
            return (await client.ask(data, timeout=20)).status
        except NoAnswer:
            return 0


async def test_what_guards_refuse_passes_without_them() -> None:
    async with serving() as (weir, _):
        assert {name: await status(weir, data) for name, (data, _) in REFUSED.items()} == {
            name: refused for name, (_, refused) in REFUSED.items()
        }
    async with serving(*GUARDS) as (weir, now):
        late = asyncio.create_task(status(weir, REFUSED["an upstream that is late"][0]))
        passed = {name: await status(weir, data) for name, (data, _) in REFUSED.items() if "late" not in name}
        assert passed == dict.fromkeys(passed, 200)
        await asyncio.wait([late], timeout=1)  # as long as it takes to be too late
        now.set()
        assert await late == 200


async def test_without_a_look_at_memory_there_is_never_too_little() -> None:
    little = {"overload": {"memory": "1MiB"}}
    async with serving(**little) as (weir, _):
        await weir.logged(event="overloaded: new requests are turned away")
        assert await status(weir, chat()) == 503
    async with serving(*GUARDS, **little) as (weir, _):
        await asyncio.sleep(0.5)  # five looks
        assert await status(weir, chat()) == 200


async def test_what_guards_let_through_is_as_it_was() -> None:
    async with serving(*GUARDS) as (weir, _), weir.client() as client:
        for _ in range(3):
            assert (await client.ask(chat())).body == b'{"ok":true}'
