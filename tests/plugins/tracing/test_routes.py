"""However many paths, few routes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.tracing.routes import route


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/chat/completions"),
        ("/v1/models", "/v1/models"),
        ("/models", "/models"),
        ("/v1/models/gpt-4o", "/v1/models/*"),
        ("/v1/files/file-1/content", "/v1/files/*"),
        ("/rate-limit/status", "/rate-limit/status"),
        ("/v1/organization/costs", "/v1/organization/*"),
        ("/v1", None),
        ("/", None),
        ("/v1/chat", "/v1/chat/*"),
        ("/wp-login.php", None),
        ("/v1//files/x", None),
    ],
)
def test_routes(path: str, expected: str | None) -> None:
    assert route(path, path.removeprefix("/v1").removeprefix("/")) == expected


@given(st.sampled_from(["/v1/", "/"]), st.text(max_size=20), st.text(max_size=20))
def test_nothing_of_a_strangers_path_is_in_a_route(prefix: str, one: str, two: str) -> None:
    endpoint = f"{one}/{two}"
    found = route(prefix + endpoint, endpoint)
    assert found is None or found in (f"{prefix}{one}/*", prefix + endpoint)
    assert found is None or one.isidentifier()


@given(st.text("abcdefghijklmnopqrstuvwxyz/_-", min_size=21))
def test_what_is_unknown_has_none(endpoint: str) -> None:
    for folder in ("audio", "chat", "files", "images", "models"):
        assert route(f"/v1/{folder}/{endpoint}", f"{folder}/{endpoint}") == f"/v1/{folder}/*"
    assert route(f"/v1/x{endpoint}", f"x{endpoint}") is None
