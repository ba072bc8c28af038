"""The copy of a database's keys, against the database."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sqlalchemy import update

from plugins.auth.keys import Key
from plugins.auth.mirror import Mirror
from plugins.auth.store import KEYS, STATE, Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'weir.db'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    opened.open()
    yield opened
    opened.close()


def look_afresh(url: str) -> Mapping[bytes, Key]:
    """What one sees who has never looked before."""
    mirror = Mirror(lambda: url)
    try:
        return mirror.look() or {}
    finally:
        mirror.close()


def hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def test_what_is_made_changed_rotated_and_revoked_is_seen(store: Store, url: str) -> None:
    mirror = Mirror(lambda: url)
    assert mirror.look() == {}
    assert mirror.look() is None
    made = store.create({"user": "alice"}, "x")
    keys = mirror.look()
    assert keys is not None
    assert keys[hashed(made.key)].user == "alice"
    store.update(made.record.id, {"user": "bob"}, "x")
    rotated = store.rotate(made.record.id, "x")
    keys = mirror.look()
    assert keys is not None
    assert {key.user for key in keys.values()} == {"bob"}
    assert set(keys) == {hashed(made.key), hashed(rotated.key)}
    store.revoke(made.record.id, "x")
    assert mirror.look() == {}
    assert mirror.look() is None
    mirror.close()


def test_a_key_that_did_not_change_is_the_same_object(store: Store, url: str) -> None:
    """So whoever keeps something by its limits can go by the object."""
    mirror = Mirror(lambda: url)
    made = store.create({"user": "alice", "limits": [{"requests": "1/day"}]}, "x")
    before = mirror.look()
    store.create({"user": "bob"}, "x")
    after = mirror.look()
    assert before is not None
    assert after is not None
    assert len(after) == 2
    assert before[hashed(made.key)] is after[hashed(made.key)]
    mirror.close()


def test_what_was_given_out_is_not_changed_afterwards(store: Store, url: str) -> None:
    mirror = Mirror(lambda: url)
    made = store.create({"user": "alice"}, "x")
    before = mirror.look()
    store.revoke(made.record.id, "x")
    assert mirror.look() == {}
    assert before is not None
    assert len(before) == 1
    mirror.close()


def test_another_database_replaces_all(url: str, tmp_path: Path) -> None:
    urls = [url, f"sqlite:///{tmp_path / 'other.db'}"]
    keys = []
    for number, each in enumerate(urls):
        store = Store(each)
        store.open()
        keys.append(store.create({"user": f"user{number}"}, "x").key)
        store.close()
    mirror = Mirror(lambda: urls[0])
    assert set(mirror.look() or ()) == {hashed(keys[0])}
    other = Store(urls[1])
    mirror.store().close()
    mirror._store = other
    assert set(mirror.look() or ()) == {hashed(keys[1])}
    mirror.close()


DAMAGES = [
    {"limits": "["},
    {"limits": "7"},
    {"models": "null"},
    {"sha256": "not hexadecimal"},
    {"expires_at": "soon"},
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_row_that_somebody_has_damaged_is_no_key_and_hides_no_other(
    store: Store, url: str, damage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    mirror = Mirror(lambda: url)
    first, other = store.create({"user": "alice"}, "x"), store.create({"user": "bob"}, "x")
    assert len(mirror.look() or ()) == 2
    with store.database.begin() as connection:
        connection.execute(update(KEYS).where(KEYS.c.id == first.record.id).values(version=99, **damage))
        connection.execute(update(STATE).values(version=99))
    assert set(mirror.look() or ()) == {hashed(other.key)}
    assert set(look_afresh(url)) == {hashed(other.key)}
    revoked = store.create({"user": "carol"}, "x")
    assert set(mirror.look() or ()) == {hashed(other.key), hashed(revoked.key)}
    told = [record for record in caplog.records if record.message.startswith("a key cannot be read")]
    assert {record.fields["key_id"] for record in told} == {first.record.id}  # type: ignore[attr-defined]
    assert len(told) == 2  # once by each that looked
    mirror.close()


def test_what_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    mirror = Mirror(lambda: f"sqlite:///{blocked}/weir.db")
    with pytest.raises(ValueError, match="cannot be opened"):
        mirror.look()
    blocked.unlink()
    assert mirror.look() == {}
    mirror.close()


class Mirrored(RuleBasedStateMachine):
    """Any changes, looked at whenever: the copy is what a fresh look at the database would be."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{self.folder.name}/weir.db"
        self.store = Store(self.url)
        self.store.open()
        self.mirror = Mirror(lambda: self.url)
        self.ids: list[str] = []
        self.seen: dict[bytes, Key] = {}

    @rule()
    def create(self) -> None:
        self.ids.append(self.store.create({"user": f"user{len(self.ids)}"}, "x").record.id)

    @rule(number=st.integers(0, 9), what=st.sampled_from(["update", "rotate", "revoke"]))
    def change(self, number: int, what: str) -> None:
        if number >= len(self.ids):
            return
        arguments: tuple[Any, ...] = ({"team": "red"}, "x") if what == "update" else ("x",)
        try:
            getattr(self.store, what)(self.ids[number], *arguments)
        except ValueError:
            pass  # it is revoked

    @rule()
    def look(self) -> None:
        keys = self.mirror.look()
        if keys is not None:
            self.seen = dict(keys)
        assert self.seen == look_afresh(self.url)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.mirror.close()
            self.store.close()
            self.folder.cleanup()


TestMirrored = Mirrored.TestCase
TestMirrored.settings = settings(
    max_examples=300 if os.environ.get("WEIR_SOAK") else 10, stateful_step_count=15, deadline=None
)
