from typing import Any

import orjson
import pytest

from proxy.core.cors import Cors
from proxy.core.seal import FIELDS

Pairs = list[tuple[bytes, bytes]]
PAGE = b"https://app.example"
ASKS = (b"access-control-request-method", b"POST")
CORS = Cors(["https://app.example", "http://localhost:3000"])


def scope(*headers: tuple[bytes, bytes], method: str = "OPTIONS") -> dict[str, Any]:
    return {"type": "http", "method": method, "headers": [(b"host", b"weir.test"), *headers]}


async def answered(app: Any) -> tuple[int, Pairs, bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http"}, None, send)
    return sent[0]["status"], sent[0]["headers"], sent[1]["body"]


async def told(headers: Pairs, *asked: tuple[bytes, bytes]) -> Pairs:
    """What becomes of an answer's fields, without `vary`, which always comes last."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    made = CORS.sending(scope(*asked, method="POST"), send)
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": list(headers),
        "weir.body_follows": True,
    }
    body = {"type": "http.response.body", "body": b"x"}
    await made(start)
    await made(body)
    assert sent[1] is body
    found: Pairs = sent[0]["headers"]
    assert {**sent[0], "headers": headers} == start
    assert found[-1] == (b"vary", b"origin")
    return found[:-1]


# -- preflight -----------------------------------------------------------------------------------------


async def test_a_preflight_of_a_listed_origin_is_answered_with_all_it_may_do() -> None:
    wants = (b"access-control-request-headers", b"authorization,content-type,x-stainless-os")
    status, headers, body = await answered(CORS.preflight(scope((b"origin", PAGE), ASKS, wants)))
    assert (status, body) == (204, b"")
    assert [pair for pair in headers if pair[0] != b"date"] == [
        (b"access-control-allow-origin", PAGE),
        (b"access-control-allow-methods", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        (b"access-control-max-age", b"600"),
        (b"vary", b"origin, access-control-request-headers"),
        (b"access-control-allow-headers", b"authorization,content-type,x-stainless-os"),
        *FIELDS,
    ]


async def test_a_preflight_that_asks_for_no_header_gets_none() -> None:
    _, headers, _ = await answered(CORS.preflight(scope((b"origin", PAGE), ASKS)))
    assert b"access-control-allow-headers" not in dict(headers)


@pytest.mark.parametrize("value", [b"a\xff", b"a: b", b"a(b)", b'"a"'])
async def test_what_is_no_list_of_names_is_not_repeated(value: bytes) -> None:
    asked = scope((b"origin", PAGE), ASKS, (b"access-control-request-headers", value))
    _, headers, _ = await answered(CORS.preflight(asked))
    assert b"access-control-allow-headers" not in dict(headers)


@pytest.mark.parametrize(
    "origins",
    [
        [b"https://evil.example"],
        [b"https://app.example.evil.example"],
        [b"https://app.example:444"],
        [b"http://app.example"],
        [b"https://app.example/"],
        [b"null"],
        [b"*"],
        [b""],
        [PAGE, PAGE],
        [PAGE, b"https://evil.example"],
        [b"https://app.example, https://evil.example"],
    ],
)
async def test_a_preflight_of_any_other_origin_is_refused(origins: list[bytes]) -> None:
    asked = scope(*((b"origin", origin) for origin in origins), ASKS)
    status, headers, body = await answered(CORS.preflight(asked))
    assert status == 403
    assert orjson.loads(body)["error"]["code"] == "origin_not_allowed"
    assert not [name for name, _ in headers if name.startswith(b"access-control-")]
    assert (b"vary", b"origin") in headers
    assert dict(headers)[b"content-type"] == b"application/json"
    assert dict(headers)[b"content-length"] == b"%d" % len(body)
    assert set(FIELDS) < set(headers)


@pytest.mark.parametrize(
    "asked",
    [
        scope((b"origin", PAGE)),  # an OPTIONS of its own, not a preflight
        scope(ASKS),
        scope((b"origin", PAGE), ASKS, method="POST"),
        scope(method="GET"),
    ],
)
def test_what_is_no_preflight_is_for_others(asked: dict[str, Any]) -> None:
    assert CORS.preflight(asked) is None


# -- answers -------------------------------------------------------------------------------------------


async def test_an_answer_says_who_may_read_it_and_what() -> None:
    answer: Pairs = [
        (b"content-type", b"application/json"),
        (b"x-request-id", b"req_1"),
        (b"x-weir-request-id", b"1"),
        (b"x-weir-cost-usd", b"0.1"),
        (b"x-ratelimit-limit-tokens", b"1"),
        (b"x-ratelimit-limit-tokens", b"2"),
        (b"retry-after", b"1"),
        (b"set-cookie", b"a=b"),
    ]
    assert await told(answer, (b"origin", PAGE)) == [
        *answer,
        (b"access-control-allow-origin", PAGE),
        (
            b"access-control-expose-headers",
            b"x-request-id, x-weir-request-id, x-weir-cost-usd, x-ratelimit-limit-tokens, retry-after",
        ),
    ]


async def test_an_answer_with_nothing_to_show_names_nothing() -> None:
    assert await told([], (b"origin", b"http://localhost:3000")) == [
        (b"access-control-allow-origin", b"http://localhost:3000")
    ]


UPSTREAMS: Pairs = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-credentials", b"true"),
    (b"access-control-expose-headers", b"x-request-id"),
]


async def test_the_upstreams_word_on_who_may_call_weir_does_not_count() -> None:
    assert await told(UPSTREAMS) == []
    assert await told(UPSTREAMS, (b"origin", b"https://evil.example")) == []
    assert await told(UPSTREAMS, (b"origin", PAGE)) == [(b"access-control-allow-origin", PAGE)]


@pytest.mark.parametrize("origins", [[], [b"https://evil.example"], [PAGE, PAGE], [b"null"]])
async def test_nobody_else_may_read_it(origins: list[bytes]) -> None:
    answer: Pairs = [(b"x-request-id", b"1"), (b"vary", b"accept-encoding")]
    assert await told(answer, *((b"origin", origin) for origin in origins)) == answer
