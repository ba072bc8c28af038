"""The database of plugins: SQLite and a real PostgreSQL, opened, migrated, shared, and lost."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, OperationalError

from proxy.api import Server
from proxy.api.database import Database, default_state_dir, default_url, state_dir

FIRST = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "first", None
def upgrade():
    op.create_table("things", sa.Column("name", sa.Text, primary_key=True))
    op.create_table("parts", sa.Column("of", sa.Text, sa.ForeignKey("things.name"), nullable=False))
"""
SECOND = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "second", "first"
def upgrade():
    op.add_column("things", sa.Column("size", sa.Integer, server_default="1", nullable=False))
"""
BROKEN = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "third", "second"
def upgrade():
    op.create_table("more", sa.Column("name", sa.Text))
    op.execute("INSERT INTO nowhere VALUES (1)")
"""


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of revisions of the importable package `things_kept`."""
    folder = tmp_path / "modules" / "things_kept" / "versions"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "first.py").write_text(FIRST)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/weir.db"
    found: str = request.getfixturevalue("postgres")
    return found


@pytest.fixture
def database(url: str, versions: Path) -> Iterator[Database]:
    database = make(url)
    yield database
    database.dispose()


def make(url: str, name: str = "things") -> Database:
    return Database(url, package="things_kept", name=name)


def put(database: Database, *names: str) -> None:
    with database.begin() as connection:
        for name in names:
            connection.execute(text("INSERT INTO things (name) VALUES (:name)"), {"name": name})


def names(database: Database, column: str = "name") -> list[object]:
    query = f"SELECT {column} FROM things ORDER BY name"  # noqa: S608
    with database.read() as connection:
        return [row[0] for row in connection.execute(text(query))]


def test_what_was_committed_is_there(database: Database) -> None:
    database.migrate()
    put(database, "a", "b")
    assert names(database) == ["a", "b"]


def test_what_raised_is_not_there(database: Database) -> None:
    database.migrate()
    with pytest.raises(IntegrityError):
        put(database, "a", "a")
    assert names(database) == []


def test_a_newer_revision_keeps_the_rows(database: Database, versions: Path) -> None:
    database.migrate()
    put(database, "a")
    (versions / "second.py").write_text(SECOND)
    database.migrate()
    assert names(database, "size") == [1]


def test_migrating_stops_at_the_revision_that_was_asked_for(database: Database, versions: Path) -> None:
    (versions / "second.py").write_text(SECOND)
    database.migrate("first")
    with pytest.raises(DBAPIError):
        names(database, "size")


def test_a_revision_that_fails_leaves_nothing_behind(database: Database, versions: Path) -> None:
    database.migrate()
    put(database, "a")
    (versions / "second.py").write_text(SECOND)
    (versions / "third.py").write_text(BROKEN)
    with pytest.raises(DBAPIError, match="nowhere"):
        database.migrate()
    with pytest.raises(DBAPIError):
        names(database, "size")
    (versions / "third.py").unlink()
    database.migrate()
    assert names(database, "size") == [1]


def test_two_packages_share_a_database(database: Database, url: str, tmp_path: Path) -> None:
    other = tmp_path / "modules" / "others_kept" / "versions"
    other.mkdir(parents=True)
    (other.parent / "__init__.py").touch()
    (other / "one.py").write_text(
        FIRST.replace("things", "others").replace("parts", "bits").replace("first", "one")
    )
    second = Database(url, package="others_kept", name="others")
    database.migrate()
    second.migrate()
    database.migrate()
    put(database, "a")
    with second.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM others")).scalar() == 0
    second.dispose()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(database: Database, versions: Path) -> None:
    (versions / "second.py").write_text(SECOND)
    database.migrate()
    put(database, "a")
    (versions / "second.py").unlink()
    with pytest.raises(ValueError, match="newer version of Weir"):
        database.migrate()
    assert names(database, "size") == [1]


def test_threads_that_migrate_at_once_do_it_once(url: str, versions: Path) -> None:
    databases = [make(url) for _ in range(4)]
    failures: list[BaseException] = []

    def migrate(database: Database) -> None:
        try:
            database.migrate()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    put(databases[0], "a")
    assert names(databases[3]) == ["a"]
    for database in databases:
        database.dispose()


@pytest.mark.slow
def test_processes_that_migrate_at_once_do_it_once(url: str, versions: Path) -> None:
    program = (
        "from proxy.api.database import Database; import sys; sys.stdin.readline();"
        f"Database({url!r}, package='things_kept', name='things').migrate()"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(versions.parents[1]), os.getcwd()])}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=env, stdin=-1, stderr=-1) for _ in range(4)
    ]
    ends = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate(timeout=30)
        ends.append((process.returncode, said.decode()))
    assert ends == [(0, "")] * 4
    database = make(url)
    put(database, "a")
    assert names(database) == ["a"]
    database.dispose()


def test_foreign_keys_hold(database: Database) -> None:
    database.migrate()
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(text("INSERT INTO parts VALUES ('of nothing')"))


def test_who_reads_sees_one_moment_and_stops_nobody(database: Database) -> None:
    database.migrate()
    put(database, "a")
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM things")).scalar() == 1
        put(database, "b")
        assert connection.execute(text("SELECT count(*) FROM things")).scalar() == 1
    assert names(database) == ["a", "b"]


async def test_work_runs_in_one_thread_in_its_order(database: Database) -> None:
    await asyncio.to_thread(database.migrate)

    async def insert(name: str) -> str:
        def run(connection: Connection) -> str:
            connection.execute(text("INSERT INTO things (name) VALUES (:name)"), {"name": name})
            return threading.current_thread().name

        return await database.run(run)

    threads = await asyncio.gather(*(insert(f"{n:02}") for n in range(20)))
    assert len(set(threads)) == 1
    assert threads[0] != threading.current_thread().name
    assert len(names(database)) == 20
    await database.close()


async def test_work_that_raises_is_rolled_back_and_raises_here(database: Database) -> None:
    await asyncio.to_thread(database.migrate)

    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO things (name) VALUES ('a')"))
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.run(work)
    assert names(database) == []
    await database.close()


# -- SQLite --------------------------------------------------------------------------------------------


def test_the_file_is_the_owners_alone(tmp_path: Path, versions: Path) -> None:
    database = make(f"sqlite:///{tmp_path}/a/b/weir.db")
    database.migrate()
    put(database, "a")
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*") if path.is_file()
    }
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    database.dispose()


def test_sqlite_writes_ahead_and_waits(tmp_path: Path, versions: Path) -> None:
    database = make(f"sqlite:///{tmp_path}/weir.db")
    with database.read() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 1, 1, 5000]
    database.dispose()


def test_two_writers_of_one_file_wait_for_each_other(tmp_path: Path, versions: Path) -> None:
    one, two = make(f"sqlite:///{tmp_path}/weir.db"), make(f"sqlite:///{tmp_path}/weir.db")
    one.migrate()

    def fill(database: Database, mark: str) -> None:
        for n in range(50):
            with database.begin() as connection:
                last = connection.execute(text("SELECT count(*) FROM things")).scalar()
                connection.execute(
                    text("INSERT INTO things (name) VALUES (:name)"), {"name": f"{last}{mark}{n}"}
                )

    threads = [threading.Thread(target=fill, args=pair) for pair in ((one, "x"), (two, "y"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each counted what was there and added one, so no count was seen twice.
    counts = [int(str(name).partition("x")[0].partition("y")[0]) for name in names(one)]
    assert sorted(counts) == list(range(100))
    one.dispose()
    two.dispose()


def test_a_file_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path, versions: Path) -> None:
    (tmp_path / "file").touch()
    database = make(f"sqlite:///{tmp_path}/file/weir.db")
    with pytest.raises(ValueError, match=r"cannot be opened \(.+\): set database, or state_dir"):
        database.migrate()


def test_what_is_no_database_is_told(tmp_path: Path, versions: Path) -> None:
    (tmp_path / "weir.db").write_text("no database, and long enough to be read as a header" * 10)
    with pytest.raises(DBAPIError, match="not a database"):
        make(f"sqlite:///{tmp_path}/weir.db").migrate()


# -- PostgreSQL ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_who_reads_cannot_write(postgres: str, versions: Path) -> None:
    database = make(postgres)
    database.migrate()
    with pytest.raises(InternalError, match="read-only"), database.read() as connection:
        connection.execute(text("INSERT INTO things (name) VALUES ('a')"))
    put(database, "a")  # the same connection may write again
    assert names(database) == ["a"]
    database.dispose()


@pytest.mark.slow
def test_a_connection_that_was_cut_is_replaced(postgres: str, versions: Path) -> None:
    database = make(postgres)
    database.migrate()
    other = make(postgres)
    with other.begin() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        )
    other.dispose()
    put(database, "a")
    assert names(database) == ["a"]
    database.dispose()


def test_a_server_that_is_not_there_is_an_operational_error(tmp_path: Path, versions: Path) -> None:
    with pytest.raises(OperationalError):
        make(f"postgresql://weir@/weir?host={tmp_path}").migrate()


# -- URLs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://root:hunter2@db/weir", "mysql is not known here"),
        ("not a url", "no URL"),
        ("postgresql://weir:hunter2@db:port/weir", "no URL"),
        ("sqlite://", "keeps nothing"),
        ("sqlite:///:memory:", "keeps nothing"),
    ],
)
def test_a_url_that_will_not_do_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        make(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_postgresql_is_spelt_in_many_ways(scheme: str) -> None:
    database = make(f"{scheme}://weir:hunter2@db.internal/weir?application_name=mine")
    assert not database.is_sqlite
    assert repr(database).startswith("Database(postgresql+psycopg://weir:***@db.internal/weir?")
    assert "application_name=mine" in repr(database)


def server(**given: object) -> Server:
    return Server(CollectorRegistry(), **given)  # type: ignore[arg-type]


def test_the_configured_database_comes_first(tmp_path: Path) -> None:
    assert default_url(server(state_dir=tmp_path, database_url="postgresql://db/weir")) == (
        "postgresql://db/weir"
    )
    assert default_url(server(state_dir=tmp_path)) == f"sqlite:///{tmp_path}/weir.db"


def test_the_folder_for_state_is_made_for_its_owner(tmp_path: Path) -> None:
    folder = state_dir(server(state_dir=tmp_path / "a" / "state"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_used_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="set state_dir"):
        state_dir(server(state_dir=tmp_path / "file" / "state"))


def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ValueError, match="set state_dir"):
        state_dir(server(state_dir=tmp_path))


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_STATE_HOME": "/x/state"}, Path("/x/state/weir")),
        ({"XDG_STATE_HOME": "relative"}, None),
        ({}, None),
    ],
)
def test_without_a_configured_folder_it_is_the_users(environ: dict[str, str], folder: Path | None) -> None:
    assert default_state_dir(environ) == (folder or Path.home() / ".local" / "state" / "weir")


def test_who_has_no_home_has_a_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", no_home)
    assert default_state_dir({}) == Path("/var/lib/weir")


def test_nobody_pays_for_sqlalchemy_who_does_not_use_it() -> None:
    program = "import proxy.api, proxy.api.testing, sys; assert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)


def test_a_killed_process_leaves_the_file_whole(tmp_path: Path, versions: Path) -> None:
    program = (
        "from proxy.api.database import Database; from sqlalchemy import text; import os, signal, sys\n"
        "database = Database(sys.argv[1], package='things_kept', name='things')\n"
        "database.migrate()\n"
        "for n in range(3):\n"
        "    with database.begin() as connection:\n"
        "        connection.execute(text('INSERT INTO things (name) VALUES (:n)'), {'n': str(n)})\n"
        "        if n == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    url = f"sqlite:///{tmp_path}/weir.db"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(versions.parents[1]), os.getcwd()])}
    assert subprocess.run([sys.executable, "-c", program, url], env=env).returncode == -9
    database = make(url)
    assert names(database) == ["0", "1"]
    with sqlite3.connect(tmp_path / "weir.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    database.dispose()
