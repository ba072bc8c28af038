"""Keys in a SQLite file and in a real PostgreSQL."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from plugins.auth.keys import KeyRing
from plugins.auth.record import digest
from plugins.auth.store import NoSuchKey, Seen, Store


class Clock:
    def __init__(self) -> None:
        self.now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'weir.db'}"
    found: str = request.getfixturevalue("postgres")
    return found


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    opened = Store(url, clock=clock)
    opened.open()
    yield opened
    opened.close()


def test_a_key_is_made_and_told_once(store: Store) -> None:
    said = {
        "user": "alice",
        "team": "red",
        "limits": [{"cost": "20/day"}],
        "models": ["o9"],
        "expires": "90d",
    }
    made = store.create(said, "cli:root")
    assert made.record.sha256 == digest(made.key)
    assert made.key not in repr(made)
    found = store.get(made.record.id)
    assert found == made.record
    assert (found.user, found.team, found.models) == ("alice", "red", ("o9",))
    assert found.limits == ({"cost": "20/day"},)
    assert found.expires_at == (1_900_000_000 + 90 * 86400) * 1_000_000
    with store.database.read() as connection:
        for table in ("weir_keys", "weir_keys_audit", "weir_keys_state"):
            for row in connection.execute(text(f"SELECT * FROM {table}")):  # noqa: S608
                assert made.key not in str(row)
                assert made.key[8:51] not in str(row)


def test_a_key_needs_a_user(store: Store) -> None:
    with pytest.raises(ValueError, match="user must be set"):
        store.create({"team": "red"}, "x")
    assert store.find() == []


def test_what_is_not_named_stays(store: Store, clock: Clock) -> None:
    made = store.create({"user": "alice", "team": "red", "models": ["o9"]}, "x")
    clock.now += 5
    changed = store.update(made.record.id, {"team": None, "expires": "1d"}, "x")
    assert (changed.user, changed.team, changed.models) == ("alice", None, ("o9",))
    assert changed.expires_at == (1_900_000_005 + 86400) * 1_000_000
    assert changed.updated_at == 1_900_000_005 * 1_000_000
    assert changed == store.get(made.record.id)
    assert changed.sha256 == made.record.sha256
    with pytest.raises(ValueError, match="nothing to change"):
        store.update(made.record.id, {}, "x")


def test_a_rotation_keeps_all_but_the_key(store: Store) -> None:
    first = store.create({"user": "alice", "models": ["o9"]}, "x")
    second = store.rotate(first.record.id, "x", 60)
    assert second.key != first.key
    assert (second.record.id, second.record.models) == (first.record.id, ("o9",))
    ring = KeyRing()
    ring.put("database", second.record.keys())
    assert second.record.previous_sha256 == digest(first.key)
    assert second.record.previous_until == 1_900_000_060 * 1_000_000
    # The one before the one before has had its time.
    third = store.rotate(first.record.id, "x")
    assert third.record.previous_sha256 == digest(second.key)
    good = third.record.keys()
    assert bytes.fromhex(digest(first.key)) not in good
    for grace in (-1, 91 * 86400):
        with pytest.raises(ValueError, match="grace is at most 90d"):
            store.rotate(first.record.id, "x", grace)


def test_what_is_revoked_stays_so(store: Store, clock: Clock) -> None:
    made = store.create({"user": "alice"}, "x")
    revoked = store.revoke(made.record.id, "x")
    clock.now += 5
    assert store.revoke(made.record.id, "y").revoked_at == revoked.revoked_at == 1_900_000_000 * 1_000_000
    for change in (
        lambda: store.update(made.record.id, {"team": "red"}, "x"),
        lambda: store.rotate("x", "x"),
    ):
        with pytest.raises((ValueError, NoSuchKey)):
            change()
    with pytest.raises(ValueError, match="is revoked; make a new one"):
        store.rotate(made.record.id, "x")
    assert store.find() == []
    assert [record.id for record in store.find(revoked=True)] == [made.record.id]


def test_an_id_that_is_not_there(store: Store) -> None:
    for ask in (store.get, lambda id: store.revoke(id, "x"), lambda id: store.rotate(id, "x")):
        with pytest.raises(NoSuchKey, match="there is no key 'key_x'"):
            ask("key_x")


def test_they_are_listed_by_user_and_team_and_in_pages(store: Store) -> None:
    made = [
        store.create({"user": user, "team": team}, "x") for user in "ab" for team in ("red", "blue", None)
    ]
    ids = sorted(one.record.id for one in made)
    assert [record.id for record in store.find()] == ids
    assert {record.user for record in store.find(user="a")} == {"a"}
    assert len(store.find(user="a", team="red")) == 1
    pages = []
    after = ""
    while page := store.find(after=after, most=4):
        after = page[-1].id
        pages.append(len(page))
        assert [record.id for record in page] == ids[sum(pages[:-1]) : sum(pages)]
    assert pages == [4, 2]


def test_every_change_is_in_the_audit_and_no_secret(store: Store) -> None:
    made = store.create({"user": "alice"}, "cli:root")
    other = store.create({"user": "bob"}, "cli:root")
    store.update(made.record.id, {"team": "red"}, "management:::1")
    rotated = store.rotate(made.record.id, "cli:root")
    store.revoke(made.record.id, "cli:root")
    store.revoke(made.record.id, "cli:root")
    with pytest.raises(ValueError, match="revoked"):
        store.update(made.record.id, {"team": "blue"}, "cli:root")
    lines = store.audit(made.record.id)
    assert [line["what"] for line in lines] == ["revoke", "rotate", "update", "create"]
    assert lines[2]["who"] == "management:::1"
    assert lines[2]["changed"] == {"team": "red"}
    assert lines[0]["at"] == 1_900_000_000
    assert len(store.audit()) == 5
    assert len(store.audit(most=2)) == 2
    for key in (made.key, other.key, rotated.key):
        assert digest(key) not in str(store.audit())


def test_a_poll_sees_what_changed_and_nothing_else(store: Store) -> None:
    one, other = store.create({"user": "alice"}, "x"), store.create({"user": "bob"}, "x")
    first = store.changes(Seen())
    assert first is not None
    assert first.whole
    assert {record.id for record in first.records} == {one.record.id, other.record.id}
    assert store.changes(first.seen) is None
    store.revoke(one.record.id, "x")
    second = store.changes(first.seen)
    assert second is not None
    assert not second.whole
    assert [record.id for record in second.records] == [one.record.id]
    assert second.records[0].revoked_at is not None
    assert store.changes(second.seen) is None


def test_another_database_in_its_place_is_noticed(store: Store) -> None:
    store.create({"user": "alice"}, "x")
    changes = store.changes(Seen("another", 99))
    assert changes is not None
    assert changes.whole
    back = store.changes(Seen(changes.seen.epoch, 99))  # a backup was restored
    assert back is not None
    assert back.whole


def test_many_at_once_lose_nothing(store: Store, url: str) -> None:
    made = store.create({"user": "alice"}, "x")

    def work() -> None:
        own = Store(url)
        try:
            for _ in range(5):
                own.rotate(made.record.id, "x")
                own.create({"user": "bob"}, "x")
        finally:
            own.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.find()) == 21
    assert len(store.audit()) == 41
    changes = store.changes(Seen())
    assert changes is not None
    assert changes.seen.version == 41
    assert len({record.version for record in changes.records}) == 21


def test_opening_twice_changes_nothing(store: Store, url: str) -> None:
    made = store.create({"user": "alice"}, "x")
    again = Store(url)
    again.open()
    assert again.get(made.record.id) == made.record
    again.close()
