import pytest

from proxy.api.asked import Asked
from proxy.api.headers import Headers


def test_a_body_of_json_is_read() -> None:
    asked = Asked(200, Headers([(b"content-type", b"text/plain")]), b'{"input_tokens":7}')
    assert asked.json() == {"input_tokens": 7}
    assert asked.headers["content-type"] == "text/plain"


def test_a_body_that_is_none_is_not() -> None:
    with pytest.raises(ValueError, match="unexpected"):
        Asked(404, Headers(), b"<html>").json()
