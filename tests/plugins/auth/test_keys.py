import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.auth.keys import KeyRing

KEY = "weir-0123456789"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


def test_no_keys_are_no_ring() -> None:
    ring = KeyRing([])
    assert not ring
    assert ring.find(b"") is None
    assert ring.find(KEY.encode()) is None


def test_a_key_is_found_with_what_stands_beside_it() -> None:
    ring = KeyRing([{"user": "alice", "team": "red", "id": "k1", "key": KEY}])
    assert ring
    key = ring.find(KEY.encode())
    assert key is not None
    assert (key.id, key.user, key.team) == ("k1", "alice", "red")


@pytest.mark.parametrize("hashed", [HASH, HASH.upper()])
def test_a_key_may_be_given_by_its_hash(hashed: str) -> None:
    key = KeyRing([{"user": "alice", "key_sha256": hashed}]).find(KEY.encode())
    assert key is not None
    assert key.user == "alice"
    assert key.team is None


def test_the_hash_is_not_the_key() -> None:
    ring = KeyRing([{"user": "alice", "key_sha256": HASH}])
    assert ring.find(HASH.encode()) is None
    assert ring.find(bytes.fromhex(HASH)) is None


def test_an_id_that_is_not_given_names_the_user_and_is_stable_and_not_the_key() -> None:
    one = KeyRing([{"user": "alice", "key": KEY}]).find(KEY.encode())
    other = KeyRing([{"user": "alice", "key_sha256": HASH}]).find(KEY.encode())
    assert one is not None
    assert one == other
    assert one.id.startswith("alice-")
    assert KEY not in one.id
    assert len(one.id) < 20


def test_one_user_may_have_several_keys() -> None:
    ring = KeyRing([{"user": "alice", "key": "first-key"}, {"user": "alice", "key": "second-key"}])
    first, second = ring.find(b"first-key"), ring.find(b"second-key")
    assert first is not None
    assert second is not None
    assert first.user == second.user == "alice"
    assert first.id != second.id


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=30))
def test_nothing_else_is_found(presented: bytes) -> None:
    ring = KeyRing([{"user": "alice", "key": KEY}])
    assert (ring.find(presented) is None) is (presented != KEY.encode())


@pytest.mark.parametrize("presented", [KEY + " ", " " + KEY, KEY.upper(), KEY[:-1], KEY + "\0", ""])
def test_almost_is_not_the_key(presented: str) -> None:
    assert KeyRing([{"user": "alice", "key": KEY}]).find(presented.encode()) is None


def test_a_key_of_other_letters_is_found_by_its_utf8() -> None:
    key = KeyRing([{"user": "alice", "key": "schlüssel-€"}]).find("schlüssel-€".encode())
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
        KeyRing(entries)
    assert KEY not in str(caught.value)
    assert HASH not in str(caught.value)
    assert "short" not in str(caught.value)


def test_no_repr_holds_a_key_or_its_hash() -> None:
    ring = KeyRing([{"user": "alice", "key": KEY}])
    key = ring.find(KEY.encode())
    for text in (repr(ring), repr(key), str(key)):
        assert KEY not in text
        assert HASH not in text
        assert "digest" not in text
