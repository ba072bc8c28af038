"""Keys in a database: made, changed and revoked in one transaction each, with a line in the audit table.

Every change takes the next number of one counter and writes it into the key's row. So whoever keeps a copy
asks for the counter alone, and then for the rows above the number that they have seen.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    insert,
    select,
    update,
)

from proxy.api.database import Database

from . import secret
from .record import MICROSECONDS, Record, checked, digest

GRACE: Final = 86400.0
"""Seconds that the key before a rotation stays good, unless told otherwise."""
LONGEST_GRACE: Final = 90 * 86400.0
PAGE: Final = 1000
"""Records or audit lines of one answer."""

_metadata = MetaData()
KEYS = Table(
    "weir_keys",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("sha256", Text),
    Column("user", Text),
    Column("team", Text),
    Column("limits", Text),
    Column("models", Text),
    Column("created_at", BigInteger),
    Column("created_by", Text),
    Column("updated_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("previous_sha256", Text),
    Column("previous_until", BigInteger),
    Column("version", BigInteger),
)
STATE = Table(
    "weir_keys_state",
    _metadata,
    Column("one", Integer, primary_key=True),
    Column("epoch", Text),
    Column("version", BigInteger),
)
AUDIT = Table(
    "weir_keys_audit",
    _metadata,
    Column("number", BigInteger, primary_key=True),
    Column("at", BigInteger),
    Column("who", Text),
    Column("what", Text),
    Column("key_id", Text),
    Column("changed", Text),
)
_NAMES = [one.name for one in fields(Record)]


class NoSuchKey(LookupError):
    """There is no key of this id. One line."""

    def __init__(self, id: str) -> None:
        super().__init__(f"there is no key {id!r}")


class Made(NamedTuple):
    """A key that was just made: the one moment at which it can be told."""

    record: Record
    key: str

    def __repr__(self) -> str:
        return f"Made({self.record.id!r})"


class Seen(NamedTuple):
    """How much of a database somebody has seen: the counter, and which database it was."""

    epoch: str = ""
    version: int = 0


class Changes(NamedTuple):
    """What came since. `whole`: these are all records there are, and what was kept before is void."""

    seen: Seen
    whole: bool
    records: Sequence[Record]
    damaged: Sequence[str] = ()
    """The ids of rows that are no record: nobody of ours has written them so."""


class Store:
    """Keys in a database. Blocking: for a thread, or a command.

    What the database says is raised as SQLAlchemy's `DBAPIError`, what a person has to put right as
    `ValueError`, an id that is not there as `NoSuchKey`; each in one line.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.database = Database(url, package=__package__, name="keys")
        self._clock = clock

    def open(self) -> None:
        """Bring the tables up to date; to be called once, before all else."""
        self.database.migrate()

    def close(self) -> None:
        """Close all connections."""
        self.database.dispose()

    # -- changing ----------------------------------------------------------------------------------

    def create(self, said: Mapping[str, Any], who: str) -> Made:
        """Make a key of what is said of it: `user`, and perhaps `team`, `limits`, `models`, `expires`."""
        now = self._now()
        if "user" not in said:
            raise ValueError("user must be set")
        values = {"team": None, "limits": (), "models": (), "expires_at": None, **self._checked(said)}
        key = secret.new()
        made = {
            "id": secret.new_id(),
            "sha256": digest(key),
            "created_at": now,
            "created_by": who,
            "updated_at": now,
            **values,
        }
        with self.database.begin() as connection:
            version = _next(connection)
            connection.execute(insert(KEYS).values(_row({**made, "version": version})))
            _note(connection, now, who, "create", made["id"], values)
        return Made(Record(**made, version=version), key)

    def update(self, id: str, said: Mapping[str, Any], who: str) -> Record:
        """Change what is said of a key; what is not named stays. A revoked key cannot be changed."""
        if not said:
            raise ValueError("there is nothing to change")
        return self._change(id, who, "update", lambda _: self._checked(said))

    def rotate(self, id: str, who: str, grace: float = GRACE) -> Made:
        """Put a new key in the place of this one, which stays good for `grace` seconds.

        Its id, limits and counts go on. The one from a rotation before, if it is still good, ends now.
        """
        if not 0 <= grace <= LONGEST_GRACE:
            raise ValueError(f"grace is at most {LONGEST_GRACE / 86400:.0f}d")
        key = secret.new()

        def changes(old: Record) -> dict[str, Any]:
            until = self._now() + int(grace * MICROSECONDS)
            return {"sha256": digest(key), "previous_sha256": old.sha256, "previous_until": until}

        return Made(self._change(id, who, "rotate", changes), key)

    def revoke(self, id: str, who: str) -> Record:
        """End a key for good, and the one before a rotation with it. To revoke it twice changes nothing."""
        return self._change(id, who, "revoke", lambda _: {"revoked_at": self._now()}, again=True)

    def _change(
        self,
        id: str,
        who: str,
        what: str,
        changes: Callable[[Record], Mapping[str, Any]],
        *,
        again: bool = False,
    ) -> Record:
        now = self._now()
        with self.database.begin() as connection:
            version = _next(connection)  # first: it holds the lock that makes changes wait for each other
            row = connection.execute(select(KEYS).where(KEYS.c.id == id)).one_or_none()
            if row is None:
                raise NoSuchKey(id)
            old = _record(row)
            if old.revoked_at is not None:
                if again:
                    return old
                raise ValueError(f"the key {id!r} is revoked; make a new one")
            changed = changes(old)
            values = {**changed, "updated_at": now, "version": version}
            connection.execute(update(KEYS).where(KEYS.c.id == id).values(_row(values)))
            _note(connection, now, who, what, id, changed)
            return _record(connection.execute(select(KEYS).where(KEYS.c.id == id)).one())

    # -- reading -----------------------------------------------------------------------------------

    def get(self, id: str) -> Record:
        """One key."""
        with self.database.read() as connection:
            row = connection.execute(select(KEYS).where(KEYS.c.id == id)).one_or_none()
        if row is None:
            raise NoSuchKey(id)
        return _record(row)

    def find(
        self,
        *,
        user: str | None = None,
        team: str | None = None,
        revoked: bool = False,
        after: str = "",
        most: int = PAGE,
    ) -> list[Record]:
        """Keys in the order of their ids, from the one after `after`; revoked ones only if asked for."""
        query = select(KEYS).where(KEYS.c.id > after).order_by(KEYS.c.id).limit(min(most, PAGE))
        if user is not None:
            query = query.where(KEYS.c.user == user)
        if team is not None:
            query = query.where(KEYS.c.team == team)
        if not revoked:
            query = query.where(KEYS.c.revoked_at.is_(None))
        with self.database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def audit(self, id: str | None = None, most: int = PAGE) -> list[dict[str, Any]]:
        """What was done, the latest first: to one key or to all."""
        query = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(min(most, PAGE))
        if id is not None:
            query = query.where(AUDIT.c.key_id == id)
        with self.database.read() as connection:
            return [
                {
                    "at": row.at / MICROSECONDS,
                    "who": row.who,
                    "what": row.what,
                    "key_id": row.key_id,
                    "changed": orjson.loads(row.changed),
                }
                for row in connection.execute(query)
            ]

    def changes(self, seen: Seen) -> Changes | None:
        """What has changed since; None if nothing has, which takes one cheap query to know."""
        with self.database.read() as connection:
            now = Seen(*connection.execute(select(STATE.c.epoch, STATE.c.version)).one())
            if now == seen:
                return None
            whole = now.epoch != seen.epoch or now.version < seen.version
            query = select(KEYS).where(KEYS.c.version > (0 if whole else seen.version))
            records, damaged = [], []
            for row in connection.execute(query):
                try:
                    record = _record(row)
                    record.keys()
                except (TypeError, ValueError):  # one row is not to keep the others from being seen
                    damaged.append(str(row.id))
                else:
                    records.append(record)
            return Changes(now, whole, records, damaged)

    def _checked(self, said: Mapping[str, Any]) -> dict[str, Any]:
        return checked(said, self._clock())

    def _now(self) -> int:
        return int(self._clock() * MICROSECONDS)


def _next(connection: Connection) -> int:
    connection.execute(update(STATE).values(version=STATE.c.version + 1))
    return int(connection.execute(select(STATE.c.version)).scalar_one())


def _note(connection: Connection, now: int, who: str, what: str, id: str, changed: Mapping[str, Any]) -> None:
    told = {name: value for name, value in changed.items() if not name.endswith("sha256")}
    connection.execute(
        insert(AUDIT).values(at=now, who=who, what=what, key_id=id, changed=orjson.dumps(told).decode())
    )


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the table has them: lists as JSON text."""
    return {
        name: orjson.dumps(value).decode() if name in ("limits", "models") else value
        for name, value in values.items()
    }


def _record(row: Row[Any]) -> Record:
    values = {name: getattr(row, name) for name in _NAMES}
    values["limits"] = tuple(orjson.loads(values["limits"]))
    values["models"] = tuple(orjson.loads(values["models"]))
    return Record(**values)
