from typing import Any

import openai
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.validate import Validate
from plugins.validate.fields import ENDPOINTS
from proxy.api.testing import Played, get, play, post
from tests.plugins.validate.test_checks import JSON

ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}


async def sent(path: str, body: Any) -> Played:
    return await play([Validate()], post(path, body))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
async def test_a_good_request_passes_as_it_came(path: str) -> None:
    body = b' { "model":"gpt-4o", "messages":[{"role":"user"}], "seed":18446744073709551616, "new":[] }'
    played = await sent(path, body)
    assert played.forwarded is not None
    assert played.forwarded.body == body
    assert played.complete


async def test_a_bad_one_is_refused_as_the_api_would_and_goes_no_further() -> None:
    played = await sent("/v1/chat/completions", {**ASK, "messages": "Hello!"})
    assert (played.status, played.forwarded) == (400, None)
    assert played.json()["error"] == {
        "message": "Invalid type for 'messages': expected an array of objects, but got a string instead.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "invalid_type",
    }
    assert played.headers["x-should-retry"] == "false"
    assert (played.end.reason, played.end.code) == ("rejected", "invalid_type")


async def test_the_sdk_raises_what_it_should() -> None:
    import httpx2

    played = await sent("/v1/chat/completions", {"model": "gpt-4o"})
    assert played.json()["error"]["message"] == "Missing required parameter: 'messages'."

    def handle(request: Any) -> httpx2.Response:
        return httpx2.Response(played.status, headers=list(played.headers.raw), content=played.body)

    http = openai.DefaultHttpxClient(transport=httpx2.MockTransport(handle))
    with (
        openai.OpenAI(base_url="http://weir.test", api_key="x", http_client=http) as client,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        client.chat.completions.create(model="gpt-4o", messages=[])
    assert (caught.value.param, caught.value.code) == ("messages", "missing_required_parameter")


@pytest.mark.parametrize(
    ("path", "least"),
    [
        ("/v1/embeddings", {"model": "m", "input": "x"}),
        ("/v1/images/generations", {"prompt": "x"}),
    ],
)
async def test_the_other_endpoints(path: str, least: dict[str, Any]) -> None:
    assert (await sent(path, least)).status == 200
    for name in least:
        refused = await sent(path, {key: value for key, value in least.items() if key != name})
        assert (refused.status, refused.json()["error"]["param"]) == (400, name)


@pytest.mark.parametrize(
    "path", ["/v1/responses", "/v1/chat/completions/x", "/v1/images/edits", "/v1/files", "/"]
)
async def test_anything_else_passes_unread(path: str) -> None:
    played = await sent(path, b"\xff no JSON")
    assert played.forwarded is not None
    assert played.forwarded.body == b"\xff no JSON"


async def test_a_list_of_stored_completions_has_no_body() -> None:
    assert (await play([Validate()], get("/v1/chat/completions"))).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"7", b"\xff", b"{}{}", b"[" * 5000])
async def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    played = await sent("/v1/chat/completions", body)
    assert (played.status, played.json()["error"]["code"]) == (400, "invalid_json")


FIELDS = sorted({name for fields in ENDPOINTS.values() for name in fields})


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(sorted(ENDPOINTS)),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("model", "messages", "input", "prompt"), JSON))
    | st.dictionaries(st.sampled_from(FIELDS), JSON)
    | JSON,
)
async def test_any_json_is_forwarded_or_refused(endpoint: str, value: Any) -> None:
    played = await sent(f"/v1/{endpoint}", orjson.dumps(value))
    assert played.status in (200, 400)
    if played.forwarded is not None:
        assert played.forwarded.body == orjson.dumps(value)
    else:
        assert played.json()["error"]["type"] == "invalid_request_error"
