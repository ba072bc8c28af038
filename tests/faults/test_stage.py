"""The stage tested against itself: it must see what is left behind, and what goes wrong inside.

Each invariant is broken in a running process, by a plugin that does so when it is asked to (evil.py).
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from .client import chat
from .stage import BOOKS, OK, ONE, Stage, broke_off, is_error
from .test_bytes import is_same
from .upstream import answer, chunk, json_answer, planted, sse, sse_head

HERE = {"PYTHONPATH": str(Path(__file__).parents[2])}
EVIL = {"use": "tests.faults.evil:Evil"}
SAID = {"model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 90}}
PRICED = json_answer(SAID)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def evil() -> AsyncIterator[Stage]:
    async with Stage(config={"plugins": ["auth", EVIL]}, env=HERE) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def evil_books() -> AsyncIterator[Stage]:
    async with Stage(books=True, config={"plugins": [*BOOKS[:-1], EVIL, BOOKS[-1]]}, env=HERE) as stage:
        await stage.warmed()
        yield stage


async def does(stage: Stage, evil: str) -> None:
    """One good request, beside which this is done."""
    await stage.begin()
    async with stage.plant(answer(PRICED)):
        answered = await stage.ask(chat([("x-evil", evil)]), timeout=10)
        assert (answered.status, answered.json()) == (200, SAID)


@pytest.mark.parametrize(
    ("what", "found"),
    [
        pytest.param("socket", "1 sockets to be closed", marks=pytest.mark.fault("I6")),
        pytest.param("twice", "a request ended twice", marks=pytest.mark.fault("I1")),
        pytest.param("secret", "a secret was logged", marks=pytest.mark.fault("I3")),
        pytest.param("memory", "MiB of memory are left behind", marks=pytest.mark.fault("I5")),
        pytest.param("late", "overloaded: new requests are turned away", marks=pytest.mark.fault("I7")),
        pytest.param("deaf", "/healthz took", marks=pytest.mark.fault("I8")),
    ],
)
async def test_what_a_process_does_that_it_must_not_is_found(evil: Stage, what: str, found: str) -> None:
    await does(evil, what)
    with pytest.raises(AssertionError, match=found):
        await evil.at_rest(timeout=1)
    async with evil.plant(answer(PRICED)):  # while it is overloaded it turns this away
        async with asyncio.timeout(20):
            while (await evil.ask(chat([("x-evil", "let go")]), timeout=20)).status != 200:
                await asyncio.sleep(0.1)
    await does(evil, "nothing")
    await evil.at_rest()


@pytest.mark.fault("I2")
async def test_a_request_that_does_not_end_is_found(evil: Stage) -> None:
    await evil.begin()
    async with evil.plant(answer(PRICED)) as up, evil.client() as c:
        await c.send(chat([("x-evil", "slow")]))
        await up.seen(ended=True)
    with pytest.raises(AssertionError, match=r"still in flight: .*'phase': 'end'"):
        await evil.at_rest()
    assert await evil.in_flight(timeout=3) == []
    await evil.ends()


@pytest.mark.fault("I4")
async def test_one_byte_that_is_changed_is_found(evil: Stage) -> None:
    await evil.begin()
    async with evil.plant(answer(OK)) as up:
        ask = chat([("x-evil", "byte")])
        assert (await evil.ask(ask)).status == 200
        with pytest.raises(AssertionError, match=r"byte \d+: b'.*say"):
            is_same(up.requests[0].body, ask.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("what", "found"),
    [
        pytest.param("nothing", "", id="nothing"),
        pytest.param("no row", "no row for", marks=pytest.mark.fault("I1")),
        pytest.param("settled twice", "are charged, .* were used", marks=pytest.mark.fault("I2")),
        pytest.param("lease", "1 leases are held", marks=pytest.mark.fault("I2")),
    ],
)
async def test_accounts_that_do_not_balance_are_found(evil_books: Stage, what: str, found: str) -> None:
    """What is planted here stays: one leak after the other, the worst at last."""
    await does(evil_books, what)
    if found:
        with pytest.raises(AssertionError, match=found):
            await evil_books.at_rest()
    else:
        await evil_books.at_rest()


async def test_a_stage_tells_what_is_left_and_what_went_wrong() -> None:
    async with Stage() as stage:
        await stage.begin()
        async with stage.plant(answer(OK, sse(1))) as up, stage.client() as c:
            assert (await c.ask(chat())).raw.endswith(b'{"ok":true}')
            assert [line["status"] for line in await stage.ends()] == [200]
            assert (await c.ask(chat(stream=True))).ended == "chunked"
            await stage.ends(2)
            with pytest.raises(AssertionError, match="2 == 1"):
                await stage.ends(1)
            assert (up.connections, len(up.requests)) == (1, 2)
            with pytest.raises(AssertionError, match="sockets to be closed"):
                await stage.at_rest(timeout=0.05)
        await stage.begin()
        is_error(await stage.ask(chat()), 502, "upstream_connect_failed")
        async with stage.plant(planted(sse_head() + chunk(ONE))):
            broke_off(await stage.ask(chat()), ONE, "upstream_reset")
        with pytest.raises(AssertionError):
            is_error(await stage.ask(chat()), 504, "upstream_connect_failed")
