"""Limits on tokens and money hold against requests that are written so that nobody can estimate them.

The upstream gives all that it is asked for and does not tell its use: what is seen of it is what counts.
"""

import orjson
import pytest

from tests.faults.client import post
from tests.faults.process import Process
from tests.faults.upstream import RawUpstream, answer, ok_json

LIMITS = [{"name": "money", "cost": "0.00008/day"}, {"name": "use", "tokens": "120/day"}]
BODY = orjson.dumps(
    {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
)
UNPRICED = BODY.replace(b"gpt-4o-mini", b"mystery")
ANSWER = orjson.dumps(
    {"model": "gpt-4o-mini", "choices": [{"message": {"role": "assistant", "content": " word" * 50}}]}
)
URL = "/v1/chat/completions"


def adding(member: bytes) -> bytes:
    return BODY[:-1] + b"," + member + b"}"


@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        pytest.param(URL, BODY, "application/json", id="plain"),
        pytest.param("/v1/chat%2Fcompletions", BODY, "application/json", id="escaped slash"),
        pytest.param("/v1//chat/completions", BODY, "application/json", id="doubled slash"),
        pytest.param("/v1/Chat/completions", BODY, "application/json", id="upper case"),
        pytest.param(URL, adding(b'"user":"\\ud800"'), "application/json", id="lone surrogate"),
        pytest.param(URL, adding(b'"metadata":{"x":1e400}'), "application/json", id="infinity"),
        pytest.param(URL, adding(b'"x":NaN'), "application/json", id="not a number"),
        pytest.param(URL, BODY, "text/plain", id="text"),
        pytest.param(URL, UNPRICED, "text/plain", id="text, unpriced"),
    ],
)
async def test_a_spelling_is_no_way_around_a_limit_on_use(path: str, body: bytes, content_type: str) -> None:
    plugins = ["auth", "precost", {"use": "limiter", "limits": LIMITS}, "annotate"]
    request = post(path, body, [("content-type", content_type), ("x-user-id", "mallory")])
    async with RawUpstream(answer(ok_json(ANSWER))) as up:
        async with Process(up.base_url, config={"plugins": plugins}) as weir, weir.client() as client:
            for _ in range(5):
                await client.ask(request)
        assert len(up.requests) <= 2
