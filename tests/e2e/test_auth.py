"""Client keys: who has one is let in and leaves it at the door, who has none hears why, once."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import orjson
import pytest
import pytest_asyncio

from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, json_answer, sse

from .either import NO_TLS, TIMEOUT, Client, Kind, all_of, done, play, sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALICE = "sk-alice-0123456789"
UPSTREAM = "sk-upstream-0123456789"
AUTH = {"plugins": [{"use": "auth", "keys": [{"user": "alice", "key": ALICE}]}]}
WRONG = "Incorrect API key provided."
MISSING = "No API key provided. Send it as `Authorization: Bearer KEY` (api_key in the OpenAI SDK)."
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}


async def script(conn: Conn) -> None:
    while True:
        request = await conn.request()
        if request.method == b"POST" and request.json().get("stream"):
            await conn.send(sse({"id": "x", "object": "chat.completion.chunk", "choices": []}))
        else:
            await conn.send(json_answer({"id": "x", "object": "chat.completion", "choices": [], "data": []}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[RawUpstream]:
    async with RawUpstream(script) as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(up: RawUpstream) -> AsyncIterator[Process]:
    """Has an upstream key of its own."""
    async with Process(up.base_url, upstream={"api_key": UPSTREAM}, config=AUTH) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyless(up: RawUpstream) -> AsyncIterator[Process]:
    """Has client keys, and no upstream key."""
    async with Process(up.base_url, config=AUTH) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unguarded(up: RawUpstream) -> AsyncIterator[Process]:
    """Has an upstream key, and no client keys: for its owner alone."""
    async with Process(up.base_url, upstream={"api_key": UPSTREAM}) as process:
        yield process


def url(weir: Process) -> str:
    return f"http://127.0.0.1:{weir.port}/v1"


async def create(c: Client, **more: Any) -> Any:
    return await done(c.chat.completions.create(**CHAT, **more))


async def stream(c: Client, **more: Any) -> Any:
    return await all_of(await done(c.chat.completions.create(**CHAT, **more, stream=True)))


@pytest.mark.parametrize("asked", [create, stream])
async def test_right_key(kind: Kind, up: RawUpstream, guarded: Process, asked: Any) -> None:
    async with sdk(kind, url(guarded), api_key=ALICE) as client:
        assert await play(asked, client)
    request = up.requests[-1]
    assert request.all("authorization") == [f"Bearer {UPSTREAM}".encode()]
    assert ALICE.encode() not in request.raw
    line = await guarded.logged(user="alice", stream=asked is stream)
    assert line["key_id"].startswith("alice-")
    assert line["status"] == 200


async def test_key_goes_no_further_without_another(kind: Kind, up: RawUpstream, keyless: Process) -> None:
    async with sdk(kind, url(keyless), api_key=ALICE) as client:
        assert await play(create, client)
    request = up.requests[-1]
    assert request.all("authorization") == []
    assert ALICE.encode() not in request.raw


async def test_upstream_key_replaces_whatever_came(kind: Kind, up: RawUpstream, unguarded: Process) -> None:
    async with sdk(kind, url(unguarded), default_headers={"api-key": "a", "x-api-key": "b"}) as client:
        assert await play(create, client)
    request = up.requests[-1]
    assert request.all("authorization") == [f"Bearer {UPSTREAM}".encode()]
    assert request.all("api-key") == request.all("x-api-key") == []
    assert b"sk-client" not in request.raw


@pytest.mark.parametrize(
    ("key", "headers", "code", "message"),
    [
        ("sk-mallory-0123456789", {}, "invalid_api_key", WRONG),
        (ALICE + "0", {}, "invalid_api_key", WRONG),
        (ALICE.upper(), {}, "invalid_api_key", WRONG),
        (ALICE, {"api-key": "sk-other-0123456789"}, "invalid_api_key", WRONG),
        (ALICE, {"Authorization": openai.Omit()}, "missing_api_key", MISSING),
    ],
    ids=["wrong", "longer", "upper", "two", "missing"],
)
@pytest.mark.parametrize("asked", [create, stream])
async def test_refused(
    kind: Kind,
    up: RawUpstream,
    guarded: Process,
    asked: Any,
    key: str,
    headers: dict[str, Any],
    code: str,
    message: str,
) -> None:
    seen = len(up.requests)
    sent: list[httpx2.Request] = []
    async with sdk(kind, url(guarded), sent=sent, max_retries=2, api_key=key) as client:
        with pytest.raises(openai.AuthenticationError) as error:
            await play(lambda c: asked(c, extra_headers=headers), client)
    found = error.value
    assert (found.status_code, found.code, found.type) == (401, code, "invalid_request_error")
    assert isinstance(found.body, dict)
    assert found.body == {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    assert message in found.message
    assert found.request_id == found.response.headers["x-weir-request-id"]
    assert found.response.headers["x-should-retry"] == "false"
    assert found.response.headers["www-authenticate"] == "Bearer"
    assert len(sent) == 1
    assert len(up.requests) == seen
    line = await guarded.logged(id=found.request_id)
    assert (line["status"], line["end_reason"], line["end_code"]) == (401, "rejected", code)


async def test_refused_upload(kind: Kind, up: RawUpstream, guarded: Process) -> None:
    """The answer comes although nobody wants the rest of the body."""

    async def upload(c: Client) -> Any:
        return await done(c.files.create(file=("big.bin", bytes(20 << 20)), purpose="user_data"))

    seen = len(up.requests)
    async with sdk(kind, url(guarded), api_key="sk-mallory-0123456789") as client:
        with pytest.raises(openai.AuthenticationError) as error:
            await play(upload, client)
        assert error.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            await play(create, client)
    assert len(up.requests) == seen


async def test_health_is_open_and_own_paths_are_not(guarded: Process) -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=NO_TLS, timeout=TIMEOUT) as http:
        root = f"http://127.0.0.1:{guarded.port}"
        assert (await http.get(root + "/health")).status_code == 200
        for path in ("/v1/models", "/", "/anything", "/health/"):
            answer = await http.get(root + path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key"), path


async def test_no_key_is_ever_logged(guarded: Process, keyless: Process, unguarded: Process) -> None:
    """By the servers that all tests above have asked."""
    for weir in (guarded, keyless, unguarded):
        said = weir.stderr
        assert '"event":"request"' in said
        for secret in (ALICE, UPSTREAM, "sk-mallory", "sk-other", "sk-client", "0123456789"):
            assert secret not in said


# Azure's client: the key in `api-key`, the deployment in the path, the version in the query


async def azure(kind: Kind, c: dict[str, Any], asked: Any) -> Any:
    options = {"api_version": "2030-01-01", "max_retries": 2, "timeout": TIMEOUT, **c}
    if kind == "sync":
        plain = openai.DefaultHttpxClient(trust_env=False, verify=NO_TLS)
        with openai.AzureOpenAI(http_client=plain, **options) as client:
            return await play(asked, client)
    http = openai.DefaultAsyncHttpxClient(trust_env=False, verify=NO_TLS)
    async with openai.AsyncAzureOpenAI(http_client=http, **options) as client:
        return await asked(client)


@pytest.mark.parametrize(
    ("form", "target"),
    [
        ("azure_endpoint", "/v1/openai/deployments/gpt-4o/chat/completions?api-version=2030-01-01"),
        ("base_url", "/v1/deployments/gpt-4o/chat/completions?api-version=2030-01-01"),
    ],
)
async def test_azure(kind: Kind, up: RawUpstream, guarded: Process, form: str, target: str) -> None:
    where = {form: url(guarded) if form == "base_url" else url(guarded).removesuffix("/v1")}
    assert (await azure(kind, {"api_key": ALICE, **where}, create)).id == "x"
    request = up.requests[-1]
    assert request.target == target.encode()
    assert request.all("authorization") == [f"Bearer {UPSTREAM}".encode()]
    assert request.all("api-key") == []
    assert ALICE.encode() not in request.raw


async def test_azure_with_a_wrong_key(kind: Kind, up: RawUpstream, guarded: Process) -> None:
    seen = len(up.requests)
    where = {"azure_endpoint": url(guarded).removesuffix("/v1")}
    with pytest.raises(openai.AuthenticationError) as error:
        await azure(kind, {"api_key": "sk-mallory-0123456789", **where}, create)
    assert error.value.code == "invalid_api_key"
    assert len(up.requests) == seen


async def test_azure_without_keys_of_ours(kind: Kind, up: RawUpstream) -> None:
    """Transparent: the upstream gets Azure's header and judges it itself."""
    async with Process(up.base_url) as weir:
        await azure(kind, {"api_key": "azure-key", "base_url": url(weir)}, create)
    assert up.requests[-1].all("api-key") == [b"azure-key"]
    assert orjson.loads(up.requests[-1].body)["model"] == "gpt-4o"
