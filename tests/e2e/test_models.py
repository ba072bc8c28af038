"""`client.models.list()`: Weir's own list where the base_url has no /v1, the upstream's where it has."""

from typing import Any

import openai
import pytest

from tests.faults.process import Process

from .either import Kind, all_of, done, sdk
from .twins import Twins, comparable

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-alice-0123456789"


@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_list_has_what_the_upstream_lists_and_more_of_each(
    twins: Twins, weir: Process, slash: str
) -> None:
    theirs = {model.id: model for model in await all_of(twins.direct.models.list())}
    async with sdk(twins.kind, f"http://127.0.0.1:{weir.port}{slash}") as client:
        ours = {model.id: model for model in await all_of(client.models.list())}
    assert len(theirs) > 10
    assert theirs.keys() <= ours.keys()
    for name, model in theirs.items():
        mine = ours[name]
        assert (mine.object, mine.created, mine.owned_by) == (model.object, model.created, model.owned_by)
        assert mine.model_extra["listed"] is True
        assert {"prices", "encoding", "context_window", "max_output_tokens"} <= mine.model_extra.keys()


async def test_one_model_and_the_list_below_v1_are_the_upstreams(twins: Twins, weir: Process) -> None:
    async with sdk(twins.kind, f"http://127.0.0.1:{weir.port}") as client:
        one = await done(client.models.retrieve("gpt-4o"))
    assert comparable(one) == comparable(await done(twins.direct.models.retrieve("gpt-4o")))
    await twins.same(lambda c: all_of(c.models.list()))


async def test_it_needs_a_key_like_all_else(kind: Kind, demos: tuple[str, str]) -> None:
    auth: dict[str, Any] = {"plugins": [{"use": "auth", "keys": [{"user": "alice", "key": KEY}]}]}
    async with Process(demos[1], config=auth) as weir:
        url = f"http://127.0.0.1:{weir.port}"
        async with sdk(kind, url, api_key=KEY) as client:
            assert "gpt-4o" in [model.id for model in await all_of(client.models.list())]
        async with sdk(kind, url, api_key="sk-mallory") as client:
            with pytest.raises(openai.AuthenticationError):
                await all_of(client.models.list())
        line = await weir.logged(path="/models", status=200)
        assert (line["end_reason"], line["end_code"], line["user"]) == ("complete", "own_endpoint", "alice")
