from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.api import IDENTITY, Exchange, Identity, Plugin, Reply
from proxy.api.duplicates import METERED
from proxy.api.testing import Played, Sent, play, post
from proxy.core.default_models import DefaultModels, with_default_models

FILLED = {"images/generations": "dall-e-3", "chat/completions": 'odd "name" é'}


async def sent(body: Any, path: str = "/v1/images/generations", **more: Any) -> Played:
    return await play([DefaultModels(FILLED)], post(path, body, **more))


async def forwarded(body: bytes, path: str = "/v1/images/generations", **more: Any) -> bytes:
    played = await sent(body, path, **more)
    assert played.forwarded is not None
    return played.forwarded.body


@pytest.mark.parametrize("path", ["/v1/images/generations", "/images/generations"])
@pytest.mark.parametrize(
    ("body", "filled"),
    [
        (b'{"prompt":"x"}', b'{"model":"dall-e-3","prompt":"x"}'),
        (b"{}", b'{"model":"dall-e-3"}'),
        (b" \n{ }\r\n", b' \n{ "model":"dall-e-3"}\r\n'),
        (b'\t{ "prompt": "{" }', b'\t{ "model":"dall-e-3","prompt": "{" }'),
        (
            b'{"big":18446744073709551616,"a":1,"a":2}',
            b'{"model":"dall-e-3","big":18446744073709551616,"a":1,"a":2}',
        ),
        (b'{"metadata":{"model":"x"}}', b'{"model":"dall-e-3","metadata":{"model":"x"}}'),
        (b'{"prompt":"the \\"model\\": x"}', b'{"model":"dall-e-3","prompt":"the \\"model\\": x"}'),
    ],
)
async def test_a_missing_model_is_filled_in_and_nothing_else_changes(
    path: str, body: bytes, filled: bytes
) -> None:
    assert await forwarded(body, path) == filled


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-image-1"}',
        b'{"prompt":"x","model":""}',
        b'{"model":null}',
        b'{"mo\\u0064el":"x"}',
        b'{"model":"a","model":"b"}',
        b"[]",
        b"null",
        b'"model"',
        b"[{}]",
        b"",
        b"{",
        b'{"a":1}}',
        b"prompt=x",
        b"\xef\xbb\xbf{}",
        b"\xff{}",
    ],
)
async def test_everything_else_passes_as_it_came(body: bytes) -> None:
    assert await forwarded(body) == body


@pytest.mark.parametrize(
    "path", ["/v1/images/edits", "/v1/images/generations/", "/v1/models", "/v2/images/generations"]
)
async def test_other_endpoints_are_not_touched(path: str) -> None:
    assert await forwarded(b"{}", path) == b"{}"


async def test_a_name_is_written_as_json() -> None:
    body = await forwarded(b"{}", "/v1/chat/completions")
    assert orjson.loads(body) == {"model": 'odd "name" é'}


@pytest.mark.parametrize(
    "header",
    [
        ("content-encoding", "gzip"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-type", "Multipart/Form-Data; boundary=x"),
    ],
)
async def test_forms_and_compressed_bodies_pass(header: tuple[str, str]) -> None:
    request = Sent("POST", "/v1/images/generations", headers=[header], pieces=[b"{}"])
    played = await play([DefaultModels(FILLED)], request)
    assert played.forwarded is not None
    assert played.forwarded.body == b"{}"


async def test_an_upload_is_not_held() -> None:
    """It may be larger than what may be read."""
    header = ("content-type", "multipart/form-data; boundary=x")
    request = Sent("POST", "/v1/images/generations", headers=[header], pieces=[b"x" * 600] * 2)
    played = await play([DefaultModels(FILLED)], request, settings={"limits_http": {"json_body": 1000}})
    assert played.status == 200
    assert played.forwarded is not None
    assert len(played.forwarded.body) == 1200


async def test_a_json_body_above_the_limit_is_refused() -> None:
    request = post("/v1/images/generations", b"{" + b" " * 1000 + b"}")
    played = await play([DefaultModels(FILLED)], request, settings={"limits_http": {"json_body": 1000}})
    assert (played.status, played.json()["error"]["code"]) == (413, "request_too_large")


async def test_without_a_content_type_json_is_json() -> None:
    request = Sent("POST", "/v1/images/generations", pieces=[b'{"prompt"', b':"x"}'])
    played = await play([DefaultModels(FILLED)], request)
    assert played.forwarded is not None
    assert played.forwarded.body == b'{"model":"dall-e-3","prompt":"x"}'


async def test_a_get_is_not_read() -> None:
    played = await play([DefaultModels(FILLED)], Sent("GET", "/v1/images/generations"))
    assert played.forwarded is not None
    assert played.forwarded.body == b""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def is_plain(value: Any) -> bool:
    """Whether it is an object without `Model`, `N` and the like, which no two servers need read alike."""
    return isinstance(value, dict) and all(key in METERED or key.casefold() not in METERED for key in value)


@given(JSON, st.sampled_from([b"", b" ", b"\n\t "]))
@example({"N": None}, b"")
@example({"Model": "x"}, b" ")
async def test_any_json_object_without_a_model_gets_one(value: Any, space: bytes) -> None:
    body = space + orjson.dumps(value) + space
    came = await forwarded(body)
    if is_plain(value) and "model" not in value:
        assert orjson.loads(came) == {"model": "dall-e-3", **value}
        assert came.replace(b'"model":"dall-e-3"' + (b"," if value else b""), b"", 1) == body
    else:
        assert came == body


# -- its place -----------------------------------------------------------------------------------------


class Who(Plugin):
    """Lets in who says a name."""

    name = "who"
    provides = (IDENTITY,)

    async def on_request(self, ex: Exchange) -> Reply | None:
        if (user := ex.request.headers.get("x-user")) is None:
            return Reply.error(401, "who", "Say who you are.")
        ex[IDENTITY] = Identity(user, ex.request.address)
        return None


class Reads(Plugin):
    def __init__(self) -> None:
        self.name = "reads"
        self.found: list[Any] = []

    async def on_request(self, ex: Exchange) -> None:
        self.found.append((await ex.request.json()).get("model"))


def test_without_any_the_chain_is_as_it_was() -> None:
    plugins = [Who()]
    assert with_default_models(plugins, {}) is plugins


def test_it_stands_behind_who_lets_in_and_before_the_others() -> None:
    def names(*plugins: Plugin) -> list[str]:
        return [plugin.name for plugin in with_default_models(plugins, FILLED)]

    assert names(Reads(), Who(), Reads()) == ["reads", "who", "default_models", "reads"]
    assert names(Who()) == ["who", "default_models"]
    assert names(Reads()) == ["default_models", "reads"]
    assert names() == ["default_models"]


async def test_the_others_see_the_model_and_who_is_not_let_in_has_no_body_read() -> None:
    reads = Reads()
    chain = with_default_models([Who(), reads], FILLED)
    body = [b'{"prompt":', b'"x"}']
    headers = [("x-user", "alice")]
    played = await play(chain, Sent("POST", "/images/generations", headers=headers, pieces=body))
    assert played.status == 200
    assert reads.found == ["dall-e-3"]
    refused = Sent("POST", "/images/generations", pieces=body, leaves_while_sending=True)
    played = await play(chain, refused)
    assert (played.status, played.end.code) == (401, "who")
