"""A SQL database for plugins that keep tables: a SQLite file or PostgreSQL, migrated when it is opened.

    database = Database(default_url(server), package="plugins.ledger", name="ledger")
    await asyncio.to_thread(database.migrate)
    rows = await database.run(lambda connection: connection.execute(select(table)).all())

The one place that knows either database. It is imported where it is used (`from proxy.api.database import
Database`), so that nobody else pays for SQLAlchemy and Alembic.
"""

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

from proxy.api.server import Server

T = TypeVar("T")

LOCK_WAIT: Final = 5.0
"""Seconds that one process waits for another that writes to the same SQLite file."""
_POSTGRESQL: Final = {
    # Without these a machine that has vanished holds a thread for as long as TCP likes: a quarter of an hour.
    "connect_timeout": "5",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "weir",
}
_MIGRATIONS: Final = 0x77656972  # the advisory lock: "weir"
_WITHOUT_PASSWORD: Final = "write it as sqlite:///weir.db or postgresql://user:password@host/name"  # noqa: S105
# Alembic hands the running migration around in module globals.
_alembic = threading.Lock()


class Database:
    """One SQL database, a SQLite file or PostgreSQL, for blocking code in a thread of its own.

    Nothing is opened before it is used. `begin` and `read` may be called from any thread and block it; `run`
    is for the event loop. What the database says is raised as SQLAlchemy's `DBAPIError`; what a person has to
    put right as `ValueError` with a line that says how.
    """

    def __init__(self, url: str, *, package: str, name: str) -> None:
        """`url` is `sqlite:///PATH` or `postgresql://…`; the driver is chosen here.

        `package` is an importable package with Alembic revisions in its folder `versions`; `name` names the
        table that remembers which of them have run: `weir_{name}_version`.
        """
        self._package = package
        self._version_table = f"weir_{name}_version"
        self._url = _read(url)
        self._engine = _engine(self._url)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"weir-{name}")

    def __repr__(self) -> str:
        return f"Database({self._url.render_as_string(hide_password=True)})"

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a SQLite file, else it is PostgreSQL."""
        return self._url.get_backend_name() == "sqlite"

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to the newest revision, or to the one that is named. Blocks.

        All in one transaction, and one process at a time: who comes second finds it done. Raises `ValueError`
        for a database that a newer Weir has been at.
        """
        script = _script(self._package)
        with _alembic, self.begin() as connection:
            if not self.is_sqlite:  # a SQLite file has one writer at a time as it is
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATIONS})

            def steps(current: Any, _: Any) -> Any:
                return script._upgrade_revs(revision, current)

            try:
                with EnvironmentContext(Config(), script, fn=steps, destination_rev=revision) as environment:
                    environment.configure(connection=connection, version_table=self._version_table)
                    environment.run_migrations()
            except CommandError as error:
                raise ValueError(
                    f"the database has tables that this version does not know ({error}): it was used by a "
                    "newer version of Weir; install that one, or name another database"
                ) from error

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction, committed when it is left, rolled back when that is by an exception. Blocks.

        On SQLite it holds the file's one lock for writing from its beginning.
        """
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads, as of one moment; it stops nobody who writes. Blocks."""
        with self._engine.connect() as connection:
            connection = connection.execution_options(weir_reads=True)
            if not self.is_sqlite:
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                yield connection

    async def run(self, work: Callable[[Connection], T]) -> T:
        """`work` in one transaction, in this database's one thread, after what was asked for before."""

        def transaction() -> T:
            with self.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, transaction)

    async def close(self) -> None:
        """Close all connections, after what `run` was asked for is done."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self.dispose)
        self._executor.shutdown(wait=False)

    def dispose(self) -> None:
        """Close all connections that are not in use now, for who has no event loop."""
        self._engine.dispose()


def default_url(server: Server) -> str:
    """The database of the configuration, else `weir.db` in the folder for state. Raises as `state_dir`."""
    if server.database_url:
        return server.database_url
    return "sqlite:///" + str(state_dir(server) / "weir.db")


def state_dir(server: Server) -> Path:
    """The folder for what must outlive the process; it is there, with mode 0700 if it was made here.

    `state_dir` of the configuration (`WEIR_STATE_DIR`), else `$XDG_STATE_HOME/weir`, else
    `~/.local/state/weir`. Raises `ValueError` with a line that says what to do if it cannot be written to.
    """
    folder = server.state_dir
    if folder is None:
        folder = default_state_dir(os.environ)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _no_folder(folder, PermissionError(errno.EACCES, "it may not be written to"))
    return folder.absolute()


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Where state goes when nothing is configured (XDG Base Directory Specification)."""
    base = environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):  # the specification: anything else is to be ignored
        return Path(base) / "weir"
    try:
        return Path.home() / ".local" / "state" / "weir"
    except RuntimeError:  # an arbitrary user of a container has no home
        return Path("/var/lib/weir")


def _no_folder(folder: Path, error: OSError) -> ValueError:
    return ValueError(
        f"the folder for state, {folder}, cannot be used ({error.strerror or error}): "
        "set state_dir (WEIR_STATE_DIR) to a folder that outlives the process and may be written to"
    )


def _read(url: str) -> URL:
    """The URL with our driver. Its password must not get into a message."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise ValueError(f"database: that is no URL; {_WITHOUT_PASSWORD}") from None
    if backend in ("postgresql", "postgres"):
        query = {**_POSTGRESQL, **parsed.query}
        return parsed.set(drivername="postgresql+psycopg", query=query)
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError(
                "database: a SQLite database in memory keeps nothing; name a file: sqlite:///weir.db"
            )
        return parsed.set(drivername="sqlite+pysqlite")
    raise ValueError(f"database: {backend} is not known here; {_WITHOUT_PASSWORD}")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=2, max_overflow=4)
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT}, pool_size=2, max_overflow=4)
    path = Path(url.database or "")

    @event.listens_for(engine, "do_connect")
    def make_file(*_: Any) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made here for its mode: names and addresses are nobody else's. SQLite's other files follow it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO):
                raise sqlite3.OperationalError(f"{path}: {error.strerror}") from error
            raise ValueError(
                f"the database {path} cannot be opened ({error.strerror}): set database, or state_dir "
                "(WEIR_STATE_DIR), to where Weir may write"
            ) from error

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # Python's own BEGIN comes too late for DDL, and never for reading
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA busy_timeout={int(LOCK_WAIT * 1000)}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes could not be retried when it finds the lock taken.
        reads = connection.get_execution_options().get("weir_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: Any) -> None:
    """To change the mode needs the file alone, and SQLite does not wait for that by itself."""
    give_up = time.monotonic() + LOCK_WAIT
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _script(package: str) -> ScriptDirectory:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} is not a package that could have revisions")
    folder = Path(spec.submodule_search_locations[0])
    return ScriptDirectory(folder, version_locations=[folder / "versions"])
