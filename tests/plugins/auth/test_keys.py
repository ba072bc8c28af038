import hashlib
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.auth.keys import Key, KeyRing, allows, patterns, read, read_one

KEY = "weir-0123456789"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


def ring_of(*entries: dict[str, Any]) -> KeyRing:
    return KeyRing(read(entries))


def key_of(key: str, user: str = "alice", until: float = math.inf) -> dict[bytes, Key]:
    digest = hashlib.sha256(key.encode()).digest()
    return {digest: Key(user, user, None, digest, until=until)}


def test_no_keys_are_no_ring() -> None:
    ring = KeyRing([])
    assert len(ring) == 0
    assert ring.find(b"") is None
    assert ring.find(KEY.encode()) is None


def test_a_key_is_found_with_what_stands_beside_it() -> None:
    ring = ring_of({"user": "alice", "team": "red", "id": "k1", "key": KEY})
    assert len(ring) == 1
    key = ring.find(KEY.encode())
    assert key is not None
    assert (key.id, key.user, key.team) == ("k1", "alice", "red")


@pytest.mark.parametrize("hashed", [HASH, HASH.upper()])
def test_a_key_may_be_given_by_its_hash(hashed: str) -> None:
    key = ring_of({"user": "alice", "key_sha256": hashed}).find(KEY.encode())
    assert key is not None
    assert key.user == "alice"
    assert key.team is None


def test_the_hash_is_not_the_key() -> None:
    ring = ring_of({"user": "alice", "key_sha256": HASH})
    assert ring.find(HASH.encode()) is None
    assert ring.find(bytes.fromhex(HASH)) is None


def test_an_id_that_is_not_given_names_the_user_and_is_stable_and_not_the_key() -> None:
    one = ring_of({"user": "alice", "key": KEY}).find(KEY.encode())
    other = ring_of({"user": "alice", "key_sha256": HASH}).find(KEY.encode())
    assert one is not None
    assert one == other
    assert one.id is not None
    assert one.id.startswith("alice-")
    assert KEY not in one.id
    assert len(one.id) < 20


def test_one_user_may_have_several_keys() -> None:
    ring = ring_of({"user": "alice", "key": "first-key"}, {"user": "alice", "key": "second-key"})
    first, second = ring.find(b"first-key"), ring.find(b"second-key")
    assert first is not None
    assert second is not None
    assert first.user == second.user == "alice"
    assert first.id != second.id


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=30))
def test_nothing_else_is_found(presented: bytes) -> None:
    ring = ring_of({"user": "alice", "key": KEY})
    assert (ring.find(presented) is None) is (presented != KEY.encode())


@pytest.mark.parametrize("presented", [KEY + " ", " " + KEY, KEY.upper(), KEY[:-1], KEY + "\0", ""])
def test_almost_is_not_the_key(presented: str) -> None:
    assert ring_of({"user": "alice", "key": KEY}).find(presented.encode()) is None


def test_a_key_of_other_letters_is_found_by_its_utf8() -> None:
    key = ring_of({"user": "alice", "key": "schlüssel-€"}).find("schlüssel-€".encode())
    assert key is not None


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("alice", "keys is a list"),
        (b"alice", "keys is a list"),
        ({"user": "alice", "key": KEY}, "keys is a list"),
        (7, "keys is a list"),
        (None, "keys is a list"),
        (["alice"], r"keys\[0\] is not a mapping"),
        ([{"key": KEY}], r"keys\[0\]: user must be set"),
        ([{"user": "alice"}], r"keys\[0\]: set either key or key_sha256"),
        ([{"user": "alice", "key": KEY, "key_sha256": HASH}], "set either key or key_sha256"),
        ([{"user": "alice", "key": "short"}], "at least 8 characters"),
        ([{"user": "alice", "key_sha256": "abc"}], "64 hexadecimal digits"),
        ([{"user": "alice", "key_sha256": HASH + "00"}], "64 hexadecimal digits"),
        ([{"user": "alice", "key_sha256": "g" * 64}], "64 hexadecimal digits"),
        ([{"user": "alice", "key_sha256": HASH[:-1] + "\n"}], "line of text"),
        ([{"user": "alice", "key": 123456789}], "key is a line of text"),
        ([{"user": 7, "key": KEY}], "user is a line of text"),
        ([{"user": "", "key": KEY}], "user is a line of text"),
        ([{"user": "a\nb", "key": KEY}], "user is a line of text"),
        ([{"user": "alice", "team": [], "key": KEY}], "team is a line of text"),
        ([{"user": "alice", "kye": KEY}], r"keys\[0\]: unknown key 'kye'"),
        ([{"user": "a", "key": KEY}, {"user": "b", "key": KEY}], r"keys\[1\]: the same key"),
        ([{"user": "a", "key": KEY}, {"user": "b", "key_sha256": HASH}], r"keys\[1\]: the same key"),
        (
            [{"user": "a", "id": "k", "key": KEY}, {"user": "b", "id": "k", "key": KEY + "2"}],
            r"keys\[1\]: the id 'k' stands there twice",
        ),
    ],
)
def test_what_will_not_do_is_told_by_its_place_and_never_by_the_key(entries: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read(entries)
    assert KEY not in str(caught.value)
    assert HASH not in str(caught.value)
    assert "short" not in str(caught.value)


def test_no_repr_holds_a_key_or_its_hash() -> None:
    ring = ring_of({"user": "alice", "key": KEY})
    key = ring.find(KEY.encode())
    for text in (repr(ring), repr(key), str(key)):
        assert KEY not in text
        assert HASH not in text
        assert "digest" not in text


# -- what else a key may have --------------------------------------------------------------------------


def test_limits_models_and_expiry_come_along() -> None:
    entry = {
        "user": "alice",
        "key": KEY,
        "limits": [{"requests": "5/minute"}],
        "models": "gpt-4o*",
        "expires": "2030-01-31",
    }
    key = read_one(entry, "keys[0]")
    assert key.limits == ({"requests": "5/minute"},)
    assert key.models == ("gpt-4o*",)
    assert key.until == 1896048000


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"limits": [{"requests": "5"}]}, r"keys\[3\]: limits\[0\]: requests is an amount"),
        ({"models": [7]}, r"keys\[3\]: models is a pattern"),
        ({"models": "a\nb"}, r"keys\[3\]: models is a pattern"),
        ({"models": ["a"] * 101}, r"keys\[3\]: models is a pattern"),
        ({"expires": "90d"}, r"keys\[3\]: expires is not a date like 2030-01-31"),
    ],
)
def test_what_else_will_not_do_is_told_by_its_place(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_one({"user": "alice", "key": KEY, **more}, "keys[3]")


def test_a_key_that_has_expired_is_none() -> None:
    ring = KeyRing()
    ring.put("database", {**key_of(KEY, until=time.time() + 60), **key_of("over", until=time.time() - 0.01)})
    assert ring.find(KEY.encode()) is not None
    assert ring.find(b"over") is None


def test_a_source_is_replaced_whole_and_the_others_stay() -> None:
    ring = ring_of({"user": "alice", "key": KEY})
    ring.put("folder", key_of("second-key", "bob"))
    ring.put("database", key_of("third-key", "carol"))
    ring.put("database", key_of("fourth-key", "dave"))
    found = [ring.find(key) for key in (KEY.encode(), b"second-key", b"third-key", b"fourth-key")]
    assert [key.user if key else None for key in found] == ["alice", "bob", None, "dave"]
    ring.put("folder", {})
    assert ring.find(b"second-key") is None
    assert len(ring) == 2


def test_of_two_keys_that_are_the_same_the_configured_one_counts() -> None:
    ring = ring_of({"user": "alice", "key": KEY})
    ring.put("folder", {**key_of(KEY, "mallory"), **key_of("second-key", "bob")})
    ring.put("database", key_of("second-key", "mallory"))
    first, second = ring.find(KEY.encode()), ring.find(b"second-key")
    assert first is not None
    assert second is not None
    assert (first.user, second.user) == ("alice", "bob")


@pytest.mark.parametrize(
    ("models", "allowed", "refused"),
    [
        (("gpt-4o*",), ["gpt-4o", "gpt-4o-mini"], ["gpt-4", "GPT-4o", "xgpt-4o", "gpt-4\n", ""]),
        (("gpt-4o", "o?"), ["gpt-4o", "o9"], ["gpt-4o-mini", "o10", "gpt-4o\n"]),
        (("a.b",), ["a.b"], ["axb"]),
    ],
)
def test_patterns(models: tuple[str, ...], allowed: list[str], refused: list[str]) -> None:
    matcher = allows(patterns(models))
    assert all(matcher.match(name) for name in allowed)
    assert not any(matcher.match(name) for name in refused)


def test_one_pattern_needs_no_list() -> None:
    assert patterns("gpt-4o*") == ("gpt-4o*",)
    assert patterns(()) == ()
