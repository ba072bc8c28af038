"""Keys for some models only."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.auth import Auth
from proxy.api import Exchange, Plugin
from proxy.api.testing import Played, Sent, play, post

KEY = "weir-0123456789"
AUTHORIZED = ("authorization", f"Bearer {KEY}")


def auth(*models: str) -> Auth:
    return Auth([{"user": "alice", "key": KEY, "models": list(models)}])


async def asked(body: Any, *headers: tuple[str, str], path: str = "/v1/chat/completions") -> Played:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    sent = Sent("POST", path, headers=[AUTHORIZED, *headers], pieces=[raw])
    return await play([auth("gpt-4o*", "o9")], sent)


def refused(played: Played, status: int = 403, code: str = "model_not_allowed") -> None:
    assert (played.status, played.forwarded) == (status, None)
    assert played.json()["error"]["code"] == code
    assert (played.end.reason, played.end.code) == ("rejected", code)
    if status == 403:
        assert played.json()["error"]["type"] == "permission_error"
        assert played.json()["error"]["param"] == "model"
        assert played.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "o9"])
async def test_a_model_of_the_list_passes_as_it_came(model: str) -> None:
    body = b'{ "model" :"%b", "seed":18446744073709551616}' % model.encode()
    played = await asked(body, ("content-type", "application/json"))
    assert played.status == 200
    assert played.forwarded is not None
    assert played.forwarded.body == body


@pytest.mark.parametrize("model", ["gpt-4", "GPT-4o", "xgpt-4o", "o99", "", 7, ["gpt-4o"], {"id": "gpt-4o"}])
async def test_any_other_is_refused(model: Any) -> None:
    refused(await asked({"model": model}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'"gpt-4o"',
        b"null",
        b'[{"model":"gpt-4o"}]',
        b'{"model":null}',
        b'{"input_file_id":"file-1","endpoint":"/v1/chat/completions"}',
        b'{"messages":[{"model":"gpt-4o"}]}',
    ],
)
async def test_who_names_no_model_is_refused(body: bytes) -> None:
    refused(await asked(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o","models":["gpt-4o","gpt-4"]}',
        b'{"model":"gpt-4o","models":"gpt-4"}',
        b'{"model":"gpt-4o","models":null}',
        b'{"models":["gpt-4"]}',
    ],
)
async def test_all_that_a_body_names_have_to_match(body: bytes) -> None:
    refused(await asked(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4","model":"gpt-4o"}',
        b'{"model":"gpt-4o","model":"gpt-4"}',
        b'{"model":"gpt-4o","model":"gpt-4o"}',
        b'{"mo\\u0064el":"gpt-4","model":"gpt-4o"}',
        b'{"\\u006dodel":"gpt-4","\\u006dodel":"gpt-4o"}',
        b'{"model":"gpt-4o","Model":"gpt-4"}',
        b'{"model":"gpt-4o","MODEL":"gpt-4"}',
        b'{"MODEL":"gpt-4o"}',
        '{"model":"gpt-4o","model\u017f":["gpt-4"]}'.encode(),  # an s, for who folds cases (Go does)
        b'{"models":["gpt-4o"],"models":["gpt-4o"]}',
        b'{"model":"gpt-4","a":"' + b"x" * 100_000 + b'","model":"gpt-4o"}',
    ],
)
async def test_there_is_no_way_around_by_naming_two(body: bytes) -> None:
    refused(await asked(body), 400, "duplicate_key")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o","metadata":{"model":"gpt-4"}}',
        b'{"metadata":{"model":"gpt-4","model":"x"},"model":"gpt-4o"}',
        b'{"model":"gpt-4o","messages":[{"role":"user","content":"\\"model\\": \\u0041 \\u00e9"}]}',
        b'{"model":"gpt-4o","models":["o9","gpt-4o-mini"]}',
        b'{"mod\\u0065l":"gpt-4o"}',
        b'{"a":"' + b"\\u0041" * 20_000 + b'","model":"gpt-4o"}',
    ],
)
async def test_other_places_where_the_word_stands_are_none(body: bytes) -> None:
    assert (await asked(body)).status == 200


async def test_what_is_no_json_is_refused() -> None:
    refused(await asked(b"{model:gpt-4o}"), 400, "invalid_json")
    refused(await asked({"model": "gpt-4o"}, ("content-encoding", "gzip")), 415, "unsupported_encoding")


@pytest.mark.parametrize(
    "declared",
    [
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=json",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=json",
        "application/x-www-form-urlencoded, application/json",
        "text/plain",
        "audio/wav",
        "",
    ],
)
async def test_forms_and_uploads_are_refused_unread(declared: str) -> None:
    refused(await asked({"model": "gpt-4o"}, ("content-type", declared)))
    both = [("content-type", "application/json"), ("content-type", declared)]
    refused(await asked({"model": "gpt-4o"}, *both))


@pytest.mark.parametrize(
    "declared", ["application/json", "Application/JSON; charset=utf-8", "application/a.b+json"]
)
async def test_json_by_any_of_its_names_is_read(declared: str) -> None:
    assert (await asked({"model": "gpt-4o"}, ("content-type", declared))).status == 200
    refused(await asked({"model": "gpt-4"}, ("content-type", declared)))


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        ("model=gpt-4", False),
        ("a=1&mo%64el=gpt-4", False),
        ("Model=gpt-4", False),
        ("model=", False),
        ("model=gpt-4o&models=gpt-4", False),
        ("model=gpt-4o", True),
        ("my_model=gpt-4&api-version=1", True),
    ],
)
async def test_what_the_query_names_has_to_match_too(query: str, passes: bool) -> None:
    """Some gateways take it for the model, before the body's."""
    sent = Sent("POST", "/v1/chat/completions", query=query, headers=[AUTHORIZED], pieces=[b'{"model":"o9"}'])
    played = await play([auth("gpt-4o*", "o9")], sent)
    if passes:
        assert played.status == 200
    else:
        refused(played)


@pytest.mark.parametrize("path", ["/v1/anything", "/v1/rerank", "/v1/batches", "/v1/threads/t/runs"])
async def test_it_holds_at_every_endpoint(path: str) -> None:
    refused(await asked({"model": "gpt-4"}, path=path))
    refused(await asked({"assistant_id": "a"}, path=path))
    assert (await asked({"model": "o9"}, path=path)).status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_it_holds_for_every_method_that_takes_a_body(method: str) -> None:
    sent = Sent(method, "/v1/x", headers=[AUTHORIZED], pieces=[b'{"model": "gpt-4" }'])
    refused(await play([auth("gpt-4o")], sent))


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_what_makes_no_model_work_passes(method: str) -> None:
    played = await play([auth("gpt-4o")], Sent(method, "/v1/files/file-1", headers=[AUTHORIZED]))
    assert played.status == 200


@pytest.mark.parametrize(
    ("path", "body", "passes"),
    [
        ("/openai/deployments/gpt-4o/chat/completions", {}, True),
        ("/openai/deployments/gpt-4o/chat/completions", {"model": "gpt-4o"}, True),
        ("/openai/deployments/gpt-4o/chat/completions", {"model": "gpt-4"}, False),
        ("/openai/deployments/gpt-4/chat/completions", {"model": "gpt-4o"}, False),
        ("/openai/deployments/gpt-4/chat/completions", {}, False),
        ("/openai/Deployments/gpt-4/chat/completions", {"model": "gpt-4o"}, False),
        ("/openai/deployments%2Fgpt-4/chat/completions", {"model": "gpt-4o"}, False),
        ("/openai/deployments//gpt-4/chat/completions", {"model": "gpt-4o"}, False),
        ("/openai/%64eployments/gpt%2D4/chat/completions", {"model": "gpt-4o"}, False),
        ("/openai/deployments/", {"model": "gpt-4o"}, False),
        ("/v1/engines/gpt-4/completions", {"model": "gpt-4o"}, False),
        ("/v1/engines/gpt-4o/completions", {}, True),
        ("/v1beta/models/gpt-4:generateContent", {"model": "gpt-4o"}, False),
        ("/v1beta/models/gpt-4%3AgenerateContent", {"model": "gpt-4o"}, False),
        ("/v1beta/models/gpt-4o:generateContent", {}, True),
    ],
)
async def test_azures_path_names_a_model_too(path: str, body: Any, passes: bool) -> None:
    played = await asked(body, path=path)
    if passes:
        assert played.status == 200
    else:
        refused(played)


class Reads(Plugin):
    """Says whether the body had been read before."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def on_request(self, ex: Exchange) -> None:
        self.seen.append(ex.request._body._whole)  # type: ignore[attr-defined]


async def test_a_body_is_read_only_where_a_key_has_patterns() -> None:
    request = post("/v1/chat/completions", {"model": "gpt-4o"}, [AUTHORIZED])
    for models, read in (((), False), (("gpt-4o",), True)):
        reads = Reads()
        await play([auth(*models), reads], request)
        assert (reads.seen[0] is not None) is read


async def test_a_larger_body_than_plugins_read_is_refused() -> None:
    request = post("/v1/chat/completions", {"model": "gpt-4o", "x": "y" * 2000}, [AUTHORIZED])
    played = await play([auth("gpt-4o")], request, settings={"limits_http": {"json_body": 1000}})
    refused(played, 413, "request_too_large")


_names = st.sampled_from(["gpt-4o", "gpt-4"])
_keys = st.sampled_from([b'"model"', b'"mod\\u0065l"', b'"Model"', b'"models"', b'"x"'])


@given(st.lists(st.tuples(_keys, _names), max_size=5))
async def test_whatever_member_a_server_reads_it_is_allowed(members: list[tuple[bytes, str]]) -> None:
    body = b"{%b}" % b",".join(key + b':"' + name.encode() + b'"' for key, name in members)
    played = await asked(body)
    model_members = [name for key, name in members if key != b'"x"']
    if played.status == 200:
        assert model_members
        assert set(model_members) == {"gpt-4o"}
        assert b"Model" not in body
    elif played.status == 400:
        refused(played, 400, "duplicate_key")
    else:
        refused(played)
