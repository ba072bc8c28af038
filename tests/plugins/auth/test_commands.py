"""`weir keys`, in this process."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from plugins.auth import Auth
from plugins.auth.secret import well_formed
from plugins.auth.store import Store
from proxy.cli import main

(KEYS,) = Auth.commands()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in list(os.environ):
        if name in ("HOST", "PORT") or name.startswith(("WEIR_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weir.yaml").write_text("state_dir: state\nplugins: [{use: auth, store: database}]\n")
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{folder / 'state' / 'weir.db'}")
    opened.open()
    yield opened
    opened.close()


def weir(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments], prog_name="weir")


def said(result: Result, status: int = 0) -> str:
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    if not status:
        return result.stdout.strip()
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("weir: ")
    return lines[0]


def test_the_example_of_the_documentation_makes_a_key(store: Store) -> None:
    result = weir(
        "create", "--user", "alice", "--team", "search", "--budget", "20/day", "--limit",
        "requests=100/minute", "--models", "gpt-4o*", "--expires", "90d",
    )  # fmt: skip
    key = said(result)
    assert well_formed(key.encode())  # and nothing else: it can be piped
    (record,) = store.find()
    assert key not in result.stderr
    assert record.id in result.stderr
    assert (record.user, record.team, record.models) == ("alice", "search", ("gpt-4o*",))
    assert record.limits == ({"requests": "100/minute"}, {"cost": "20/day"})
    assert record.expires_at is not None
    assert 0 <= time.time() + 90 * 86400 - record.expires_at / 1e6 < 60
    assert record.created_by.startswith("cli")


def test_several_limits_and_patterns(store: Store) -> None:
    limits = ("--limit", "in_flight=2", "--limit", "tokens=5/day,on=chat")
    said(weir("create", "--user", "a", *limits, "--models", "o1", "--models", "o2"))
    (record,) = store.find()
    assert record.limits == ({"in_flight": 2}, {"tokens": "5/day", "on": "chat"})
    assert record.models == ("o1", "o2")


def test_the_list_is_a_table_or_json_lines(store: Store) -> None:
    assert len(said(weir("list")).splitlines()) == 1
    made = [store.create({"user": user, "limits": [{"cost": "1/day"}]}, "x") for user in ("alice", "bob")]
    store.revoke(made[1].record.id, "x")
    lines = said(weir("list")).splitlines()
    assert lines[0].split() == ["ID", "STATE", "USER", "TEAM", "EXPIRES", "LIMITS", "MODELS"]
    assert lines[1].split() == [made[0].record.id, "active", "alice", "cost=1/day"]
    assert len(lines) == 2
    assert len(said(weir("list", "--revoked")).splitlines()) == 3
    found = [orjson.loads(line) for line in said(weir("list", "--revoked", "--json")).splitlines()]
    assert {one["user"]: one["state"] for one in found} == {"alice": "active", "bob": "revoked"}
    assert said(weir("list", "--user", "nobody", "--json")) == ""


def test_one_is_shown_with_what_was_done_to_it(store: Store) -> None:
    made = store.create({"user": "alice", "team": "red"}, "cli:somebody")
    told = said(weir("show", made.record.id))
    assert "alice" in told
    assert "create by cli:somebody" in told
    assert made.key not in told
    assert made.record.sha256 not in told
    assert orjson.loads(said(weir("show", made.record.id, "--json")))["team"] == "red"


def test_changes(store: Store) -> None:
    id = store.create({"user": "alice", "team": "red", "models": ["o9"]}, "x").record.id
    said(
        weir("update", id, "--budget", "40/day", "--limit", "requests=200/minute", "--expires", "2099-01-01")
    )
    record = store.get(id)
    assert record.limits == ({"requests": "200/minute"}, {"cost": "40/day"})
    assert (record.team, record.models) == ("red", ("o9",))
    said(weir("update", id, "--without", "limits", "--without", "team", "--without", "expires"))
    record = store.get(id)
    assert (record.limits, record.team, record.expires_at, record.models) == ((), None, None, ("o9",))


def test_a_rotation_prints_the_new_key(store: Store) -> None:
    made = store.create({"user": "alice"}, "x")
    key = said(weir("rotate", made.record.id, "--grace", "1h"))
    assert well_formed(key.encode())
    assert key != made.key
    record = store.get(made.record.id)
    assert record.previous_until is not None
    assert 3500 < record.previous_until / 1e6 - time.time() < 3601
    assert orjson.loads(said(weir("rotate", made.record.id, "--json")))["key"] != key


def test_a_revocation(store: Store) -> None:
    id = store.create({"user": "alice"}, "x").record.id
    assert "revoked" in said(weir("revoke", id))
    assert store.get(id).revoked_at is not None


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["show", "key_x"], 1, "there is no key 'key_x'"),
        (["revoke", "key_x"], 1, "there is no key 'key_x'"),
        (["create", "--user", "a", "--limit", "requests"], 2, "is not a limit like requests=100/minute"),
        (["create", "--user", "a", "--budget", "20"], 2, "cost is an amount above 0 per window"),
        (["create", "--user", "a", "--expires", "soon"], 2, "expires is neither a span"),
        (["create", "--user", "a\nb"], 2, "user is a line of text"),
        (["create", "--user", "a", "--database", "mysql://x"], 2, "mysql is not known here"),
        (["update", "key_x"], 2, "say what to change, such as --expires 90d"),
        (["update", "key_x", "--team", "a", "--without", "team"], 2, "which of the two?"),
        (["rotate", "key_x", "--grace", "long"], 2, "--grace is not a span"),
        (["rotate", "key_x", "--grace", "91d"], 2, "grace is at most 90d"),
    ],
)
def test_what_will_not_do_is_one_line(arguments: list[str], status: int, says: str) -> None:
    assert says in said(weir(*arguments), status)


def test_a_database_that_cannot_be_used_is_one_line(folder: Path) -> None:
    (folder / "no.db").write_bytes(b"this is no database, but long enough to be looked at" * 100)
    told = said(weir("list", "--database", f"sqlite:///{folder / 'no.db'}"), 1)
    assert told == "weir: the database cannot be used: file is not a database"


def test_a_configuration_that_is_wrong_is_told(folder: Path) -> None:
    (folder / "weir.yaml").write_text("databas: x\n")
    assert 'did you mean "database"?' in said(weir("list"), 2)


def test_another_configuration_names_another_database(folder: Path, store: Store) -> None:
    other = folder / "other.yaml"
    other.write_text(f"database: sqlite:///{folder / 'other.db'}\n")
    said(weir("create", "--user", "alice", "--config", str(other)))
    assert store.find() == []
    assert len(said(weir("list", "-c", str(other))).splitlines()) == 2


def test_who_makes_a_key_that_no_server_looks_for_is_warned(folder: Path) -> None:
    assert "warning" not in weir("create", "--user", "alice").stderr
    (folder / "weir.yaml").write_text("state_dir: state\nplugins: [auth]\n")
    assert "`store: database`" in weir("create", "--user", "alice").stderr
    (folder / "weir.yaml").write_text("state_dir: state\n")
    assert "`store: database`" in weir("create", "--user", "alice").stderr


@pytest.mark.parametrize("name", sorted(KEYS.commands) if isinstance(KEYS, click.Group) else [])
def test_every_commands_help_has_an_example(name: str) -> None:
    told = said(weir(name, "--help"))
    assert f"Example: weir keys {name}" in told
