import hashlib
import math
from dataclasses import replace
from typing import Any

import pytest

from plugins.auth.record import MICROSECONDS, Record, checked, digest

NOW = 1_900_000_000.0
RECORD = Record(
    id="key_1",
    sha256=digest("weir-0123456789"),
    user="alice",
    team="red",
    limits=({"requests": "5/minute"},),
    models=("gpt-4o*",),
    created_at=int(NOW * MICROSECONDS),
    created_by="cli:root",
    updated_at=int(NOW * MICROSECONDS),
)


def at(seconds: float) -> int:
    return int((NOW + seconds) * MICROSECONDS)


def test_a_key_is_kept_by_its_hash() -> None:
    assert RECORD.sha256 == hashlib.sha256(b"weir-0123456789").hexdigest()
    (key,) = RECORD.keys().values()
    assert (key.id, key.user, key.team, key.models) == ("key_1", "alice", "red", ("gpt-4o*",))
    assert key.digest == hashlib.sha256(b"weir-0123456789").digest()
    assert key.until == math.inf


def test_after_a_rotation_two_are_good_each_for_its_time() -> None:
    rotated = replace(RECORD, previous_sha256=digest("before"), previous_until=at(60), expires_at=at(90))
    keys = rotated.keys()
    assert keys[bytes.fromhex(digest("before"))].until == NOW + 60
    assert keys[bytes.fromhex(RECORD.sha256)].until == NOW + 90
    shorter = replace(rotated, expires_at=at(30)).keys()
    assert {key.until for key in shorter.values()} == {NOW + 30}


def test_a_revoked_one_is_none_and_neither_is_the_one_before_it() -> None:
    revoked = replace(RECORD, revoked_at=at(0), previous_sha256=digest("before"), previous_until=at(60))
    assert revoked.keys() == {}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "active"),
        ({"expires_at": at(1)}, "active"),
        ({"expires_at": at(0)}, "expired"),
        ({"revoked_at": at(-5), "expires_at": at(-9)}, "revoked"),
    ],
)
def test_its_state(changes: dict[str, Any], state: str) -> None:
    assert replace(RECORD, **changes).state(NOW) == state


def test_neither_the_key_nor_its_hash_is_shown() -> None:
    rotated = replace(RECORD, previous_sha256=digest("before"), previous_until=at(60))
    for text in (repr(rotated), str(rotated.shown(NOW))):
        assert RECORD.sha256 not in text
        assert digest("before") not in text
    assert rotated.shown(NOW)["previous_until"] == "2030-03-17T17:47:40Z"
    assert rotated.shown(NOW)["expires"] is None


def test_what_is_said_of_a_key_is_checked() -> None:
    said = {
        "user": "alice",
        "team": None,
        "limits": [{"requests": "5/minute"}],
        "models": "gpt-4o",
        "expires": "1d",
    }
    assert checked(said, NOW) == {
        "user": "alice",
        "team": None,
        "limits": ({"requests": "5/minute"},),
        "models": ("gpt-4o",),
        "expires_at": at(86400),
    }
    assert checked({"limits": None, "models": None, "expires": None}, NOW) == {
        "limits": (),
        "models": (),
        "expires_at": None,
    }


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"user": None}, "user is a line of text"),
        ({"user": ""}, "user is a line of text"),
        ({"user": "a\nb"}, "user is a line of text"),
        ({"user": "x" * 257}, "at most 256 characters"),
        ({"team": 7}, "team is a line of text"),
        ({"sha256": "00"}, "unknown field 'sha256'; there are user, team, limits, models, expires"),
        ({"expires": "2020-01-01"}, "expires is over already"),
        ({"expires": 7}, "expires is neither a span"),
        ({"models": 7}, "models is a pattern"),
        ({"limits": 7}, "limits is a list"),
    ],
)
def test_what_will_not_do_is_told(said: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        checked(said, NOW)
