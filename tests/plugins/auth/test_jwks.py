import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.auth.jwks import LARGEST, KeySet, Unreadable, read

from .issuer import SigningKey, key_set, serving

RSA, EC = SigningKey("RS256", "r"), SigningKey("ES256", "e")
ALL = ("RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA")


def test_keys_are_found_by_id_and_algorithm() -> None:
    keys = read(key_set(RSA, EC), ALL)
    assert set(keys) == {
        *(("r", name) for name in ("RS256", "RS512", "PS256")),
        *((None, name) for name in ("RS256", "RS512", "PS256")),
        ("e", "ES256"),
        (None, "ES256"),
    }
    assert keys["r", "PS256"].algorithm_name == "PS256"


def test_only_what_is_allowed_is_there() -> None:
    assert set(read(key_set(RSA, EC), ["ES256"])) == {("e", "ES256"), (None, "ES256")}


def test_without_an_id_a_key_counts_where_it_is_the_only_one() -> None:
    other = SigningKey("ES256")
    assert set(read(key_set(other), ALL)) == {(None, "ES256")}
    assert set(read(key_set(EC, other), ALL)) == {("e", "ES256")}


def test_a_keys_own_word_on_its_algorithm_and_use_counts() -> None:
    raw = orjson.dumps({"keys": [RSA.jwk(alg="PS256"), EC.jwk(use="enc")]})
    assert set(read(raw, ALL)) == {("r", "PS256"), (None, "PS256")}


def test_secret_keys_and_rubbish_are_passed_over() -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"}
    broken = {**EC.jwk(), "kid": "b", "x": "AA"}
    entries = [secret, broken, 7, {}, {"kty": "RSA", "kid": "x"}, {"kty": "EC", "crv": "P-9"}, EC.jwk()]
    keys = read(orjson.dumps({"keys": entries}), [*ALL, "HS256"])
    assert set(keys) == {("e", "ES256"), (None, "ES256")}


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"{}", b'{"keys":{}}', b'{"keys":null}'])
def test_what_is_no_set_is_told(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        read(raw, ALL)


_NAMES = st.sampled_from(["kty", "kid", "crv", "x", "n", "e", "alg"])
_VALUES = st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.dictionaries(_NAMES, inner) | st.lists(inner),
    max_leaves=8,
)


@given(_VALUES)
def test_no_set_makes_it_raise_anything_else(value: Any) -> None:
    try:
        raw = orjson.dumps({"keys": [value, {"kty": "RSA", **(value if isinstance(value, dict) else {})}]})
    except TypeError:
        return  # a number that JSON has no room for
    read(raw, ALL)


def test_a_file_is_read_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(RSA))
    source = KeySet(str(path), ALL)
    assert source.look()
    assert source.look() is None
    path.write_bytes(b"{half")
    with pytest.raises(Unreadable, match="is not JSON"):
        source.look()
    path.write_bytes(key_set(EC))
    assert set(source.look() or ()) == {("e", "ES256"), (None, "ES256")}
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        source.look()


@pytest.mark.parametrize(
    "url",
    ["http://issuer.test/jwks", "ftp://issuer.test/jwks", "https://user:secret@issuer.test/", "file:///x"],
)
def test_a_url_that_anybody_on_the_way_could_answer_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is a file or an https:// URL") as caught:
        KeySet(url, ALL)
    assert "secret" not in str(caught.value)


def test_a_url_is_asked_with_the_token_of_a_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with serving(key_set(RSA)) as served:
        source = KeySet(served.url, ALL, token_file=str(token))
        assert source.look()
        token.write_text("second\n")
        assert source.look() is None
    assert [asked["authorization"] for asked in served.asked] == ["Bearer first", "Bearer second"]


def test_what_a_url_may_answer_instead() -> None:
    with serving((302, {"location": "http://127.0.0.1:1/elsewhere"}, b"")) as served:
        source = KeySet(served.url, ALL)
        with pytest.raises(Unreadable, match="answered 302"):
            source.look()
        assert len(served.asked) == 1
        served.answer = (500, {}, b"no")
        with pytest.raises(Unreadable, match="answered 500"):
            source.look()
        served.answer = b"x" * (LARGEST + 1)
        with pytest.raises(Unreadable, match="is larger than"):
            source.look()
    with pytest.raises(OSError):
        source.look()


def test_proxies_of_the_environment_are_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(key_set(RSA)) as served:
        assert KeySet(served.url, ALL).look()
