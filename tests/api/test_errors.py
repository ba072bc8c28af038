import orjson
import pytest

from proxy.api.errors import (
    ClientError,
    ClientGone,
    InternalError,
    PluginError,
    ShuttingDown,
    UpstreamError,
    WeirError,
    error_type,
)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "invalid_request_error"),
        (401, "invalid_request_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "internal_error"),
        (501, "api_error"),
        (502, "upstream_error"),
        (503, "service_unavailable"),
        (504, "upstream_timeout"),
        (599, "api_error"),
    ],
)
def test_the_type_follows_from_the_status(status: int, expected: str) -> None:
    assert error_type(status) == expected
    assert WeirError(status, "c", "m").type == expected


def test_a_named_type_wins() -> None:
    assert WeirError(429, "insufficient_quota", "m", type="insufficient_quota").type == "insufficient_quota"


def test_the_body_is_openais_with_message_beside_it() -> None:
    error = ClientError(400, "bad", "Do it so.", param="model")
    assert orjson.loads(error.body()) == {
        "error": {"message": "Do it so.", "type": "invalid_request_error", "param": "model", "code": "bad"},
        "message": "Do it so.",
    }
    assert error.headers() == [(b"content-type", b"application/json"), (b"x-should-retry", b"false")]


@pytest.mark.parametrize("status", [408, 409, 429, 502, 503, 504])
def test_what_is_worth_another_try_says_after_a_second(status: int) -> None:
    error = WeirError(status, "c", "m")
    assert orjson.loads(error.body())["retryAfter"] == 1
    headers = dict(error.headers())
    assert headers[b"retry-after"] == b"1"
    assert headers[b"retry-after-ms"] == b"1000"
    assert b"x-should-retry" not in headers


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 501])
def test_what_is_not_says_so(status: int) -> None:
    error = WeirError(status, "c", "m")
    assert "retryAfter" not in orjson.loads(error.body())
    assert (b"x-should-retry", b"false") in error.headers()


@pytest.mark.parametrize(
    ("given", "seconds", "milliseconds"),
    [
        (0.0, b"1", b"1"),  # never zero: a client that waits nothing comes back at once
        (0.0001, b"1", b"1"),
        (0.25, b"1", b"250"),
        (1.0, b"1", b"1000"),
        (1.2, b"2", b"1200"),
        (61.0004, b"62", b"61001"),
        (-5.0, b"1", b"1"),
    ],
)
def test_times_to_wait_are_rounded_up(given: float, seconds: bytes, milliseconds: bytes) -> None:
    error = WeirError(400, "c", "m", retry_after=given)
    headers = dict(error.headers())
    assert headers[b"retry-after"] == seconds
    assert headers[b"retry-after-ms"] == milliseconds
    assert orjson.loads(error.body())["retryAfter"] == int(seconds)


def test_the_event_is_one_event_with_the_error_alone() -> None:
    raw = UpstreamError(502, "upstream_reset", "line one\nline two").event()
    assert raw.startswith(b"data: ")
    assert raw.endswith(b"\n\n")
    assert raw.count(b"\n") == 2
    assert orjson.loads(raw.removeprefix(b"data: ")) == {
        "error": {
            "message": "line one\nline two",
            "type": "upstream_error",
            "param": None,
            "code": "upstream_reset",
        }
    }


@pytest.mark.parametrize(
    ("error", "source", "status", "code"),
    [
        (ClientError(404, "c", "m"), "client", 404, "c"),
        (ClientGone(), "client", 499, "client_closed"),
        (ClientGone("client_stalled"), "client", 499, "client_stalled"),
        (UpstreamError(504, "u", "m"), "upstream", 504, "u"),
        (InternalError(), "internal", 500, "internal_error"),
        (PluginError("limiter", "on_request"), "internal", 500, "plugin_error"),
        (ShuttingDown(), "internal", 503, "server_shutdown"),
    ],
)
def test_each_says_whose_fault_it_is(error: WeirError, source: str, status: int, code: str) -> None:
    assert (error.source, error.status, error.code) == (source, status, code)
    assert str(error) == error.message
    assert orjson.loads(error.body())["error"]["code"] == code


def test_the_tree_is_as_drawn() -> None:
    assert issubclass(ClientGone, ClientError)
    assert issubclass(PluginError, InternalError)
    for kind in (ClientError, UpstreamError, InternalError, ShuttingDown):
        assert kind.__bases__ == (WeirError,)


def test_a_plugin_error_tells_the_name_and_nothing_else() -> None:
    error = PluginError("redactor", "on_event")
    assert error.plugin == "redactor"
    assert error.hook == "on_event"
    assert error.message == "The plugin 'redactor' failed."
