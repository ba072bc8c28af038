import dataclasses

import orjson
import pytest

from proxy.api.errors import ClientError
from proxy.api.headers import Headers
from proxy.api.response import HOLD_LIMIT, Reply, Response


def begun(content_type: str | None, status: int = 200) -> Response:
    response = Response()
    response.begin(status, Headers.of([] if content_type is None else [("Content-Type", content_type)]))
    return response


def test_nothing_is_known_before_the_head() -> None:
    response = Response()
    assert (response.status, response.started, response.is_stream, response.is_json) == (
        0,
        False,
        False,
        False,
    )
    assert (response.rewriting, response.held_limit) == (None, 0)


@pytest.mark.parametrize(
    ("content_type", "stream", "json"),
    [
        ("application/json", False, True),
        ("Application/JSON; charset=utf-8", False, True),
        ("application/problem+json", False, True),
        ("text/event-stream", True, False),
        ("TEXT/Event-Stream;charset=utf-8", True, False),
        ("text/event-streams", False, False),
        ("application/jsonl", False, False),
        ("audio/mpeg", False, False),
        (None, False, False),
    ],
)
def test_the_content_type_says_what_it_is(content_type: str | None, stream: bool, json: bool) -> None:
    response = begun(content_type, 201)
    assert (response.status, response.is_stream, response.is_json) == (201, stream, json)


def test_the_first_id_is_what_the_upstream_calls_the_request() -> None:
    response = Response()
    response.begin(200, Headers.of([("x-request-id", "req_1"), ("X-Request-Id", "req_2")]))
    assert response.request_id == b"req_1"
    response.begin(502, Headers())
    assert response.request_id is None


@pytest.mark.parametrize(
    ("fields", "encoding"),
    [
        ([], ""),
        ([("content-encoding", " GZIP ")], "gzip"),
        ([("content-type", "application/json"), ("content-encoding", "br")], "br"),
        ([("content-encoding", "gzip"), ("content-encoding", "identity")], "gzip"),
    ],
)
def test_the_head_says_how_the_answer_is_compressed(fields: list[tuple[str, str]], encoding: str) -> None:
    response = Response()
    response.begin(200, Headers.of(fields))
    assert response.encoding == encoding
    response.begin(502, Headers())
    assert response.encoding == ""


def test_a_second_head_takes_the_place_of_the_first() -> None:
    response = begun("text/event-stream")
    response.begin(502, Headers.of([("content-type", "application/json")]))
    assert (response.status, response.is_stream, response.is_json) == (502, False, True)


def test_the_strictest_wish_wins() -> None:
    for wishes, expected in (
        (["pass"], "pass"),
        (["fail"], "fail"),
        (["pass", "fail", "pass"], "fail"),
    ):
        response = Response()
        for wish in wishes:
            response.rewrites(oversize=wish)  # type: ignore[arg-type] # one of the two
        assert response.rewriting == expected
    response = Response()
    response.rewrites()
    assert response.rewriting == "pass"


def test_the_largest_hold_wins() -> None:
    response = Response()
    response.hold(10)
    response.hold(5)
    assert response.held_limit == 10
    response.hold()
    assert response.held_limit == HOLD_LIMIT == 4 * 1024 * 1024


def test_both_come_too_late_once_the_answer_has_started() -> None:
    response = begun("application/json")
    response.started = True
    with pytest.raises(RuntimeError, match="too late"):
        response.rewrites()
    with pytest.raises(RuntimeError, match="too late"):
        response.hold()


def test_an_error_reply_is_openai_shaped() -> None:
    reply = Reply.error(429, "rate_limit_exceeded", "Slow down.", retry_after=2.5)
    assert (reply.status, reply.code, reply.events) == (429, "rate_limit_exceeded", None)
    assert reply.headers["retry-after"] == "3"
    assert orjson.loads(reply.body) == {
        "error": {
            "message": "Slow down.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        },
        "message": "Slow down.",
        "retryAfter": 3,
    }


def test_an_error_reply_with_type_and_param() -> None:
    error = orjson.loads(Reply.error(400, "c", "m", type="t", param="p").body)["error"]
    assert (error["type"], error["param"]) == ("t", "p")


@pytest.mark.parametrize("wait", [float("inf"), float("nan"), float("-inf")])
def test_a_wait_without_end_is_refused_where_it_is_made(wait: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Reply.error(429, "c", "m", retry_after=wait)


def test_replies_do_not_share_headers() -> None:
    error = ClientError(400, "c", "m")
    one, other = Reply.of(error), Reply.of(error)
    one.headers.add("x", "1")
    assert "x" not in other.headers
    assert "x" not in Reply(200).headers


def test_a_json_reply() -> None:
    reply = Reply.json({"a": 1}, 201)
    assert (reply.status, reply.body, reply.code) == (201, b'{"a":1}', "replied")
    assert reply.headers["content-type"] == "application/json"


def test_a_reply_of_recorded_events() -> None:
    reply = Reply.stream([b"data: 1\n\n", b"data: [DONE]\n\n"])
    assert (reply.status, reply.body, reply.events) == (200, b"", [b"data: 1\n\n", b"data: [DONE]\n\n"])
    assert reply.headers["content-type"] == "text/event-stream"


def test_a_reply_is_not_edited_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Reply(200).status = 201  # type: ignore[misc] # that is the point
