import errno
import socket
import ssl

import pytest

from proxy.api.errors import UpstreamError
from proxy.core.upstream import errors

MADE = {
    name: value
    for name, value in vars(errors).items()
    if callable(value)
    and not name.startswith("_")
    and name.islower()
    and name not in ("connecting", "gaierror", "unavailable")
}


def test_there_are_failures() -> None:
    assert {"connect_timeout", "header_timeout", "idle_timeout", "reset", "truncated", "busy"} <= set(MADE)


@pytest.mark.parametrize("name", sorted(MADE))
def test_each_failure_is_an_upstream_error_with_a_code_and_one_line_that_helps(name: str) -> None:
    error = MADE[name]()
    assert isinstance(error, UpstreamError)
    assert error.source == "upstream"
    assert error.status in (502, 503, 504)
    assert error.code.replace("_", "").isalpha()
    assert error.message.endswith((".", "?"))
    assert "\n" not in error.message
    assert error.retry_after == 1.0


@pytest.mark.parametrize("name", sorted(MADE))
def test_each_failure_is_made_anew(name: str) -> None:
    """An exception that is raised twice would carry the first one's traceback."""
    assert MADE[name]() is not MADE[name]()


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("connect_timeout", 504, "upstream_connect_timeout"),
        ("header_timeout", 504, "upstream_header_timeout"),
        ("idle_timeout", 504, "upstream_idle_timeout"),
        ("max_duration", 504, "max_duration"),
        ("busy", 503, "upstream_busy"),
        ("closed", 502, "upstream_closed"),
        ("reset", 502, "upstream_reset"),
        ("truncated", 502, "upstream_reset"),
        ("bad_framing", 502, "upstream_bad_framing"),
        ("bad_response", 502, "upstream_bad_response"),
        ("bad_status", 502, "upstream_bad_status"),
        ("headers_too_large", 502, "upstream_headers_too_large"),
    ],
)
def test_statuses_and_codes_are_those_that_are_documented(name: str, status: int, code: str) -> None:
    error = MADE[name]()
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize(
    "name", ["connect_timeout", "header_timeout", "idle_timeout", "max_duration", "busy"]
)
def test_what_a_setting_can_change_names_it(name: str) -> None:
    assert "(timeouts." in MADE[name]().message or "(pool." in MADE[name]().message


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 1)"),
            "upstream_connect_failed",
        ),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "upstream_connect_failed"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "upstream_dns_failed"),
        (ssl.SSLCertVerificationError(1, "secret.internal is not valid"), "upstream_tls_failed"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "upstream_tls_failed"),
    ],
)
def test_failures_to_connect_are_told_apart_and_do_not_quote_the_system(cause: OSError, code: str) -> None:
    error = errors.connecting(cause)
    assert (error.status, error.code) == (502, code)
    assert str(cause.args[1]) not in error.message


def test_an_upstream_that_is_not_tried_again_yet_says_when() -> None:
    error = errors.unavailable(7.5)
    assert (error.status, error.code, error.retry_after) == (503, "upstream_unavailable", 7.5)
    assert "(upstreams[].breaker)" in error.message
