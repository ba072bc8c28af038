"""The stage tested against itself: it must see what is left behind."""

import pytest

from .client import chat
from .stage import OK, ONE, Stage, broke_off, is_error
from .upstream import answer, chunk, planted, sse, sse_head


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
