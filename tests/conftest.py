"""Where CI runs, a test that is skipped because a part is missing fails: a green run has run everything.

Generated examples are the same in every CI run, so that a change is judged by what it changed; elsewhere they
differ from run to run, and find what is new.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.database import postgres as postgres
from tests.database import postgres_server as postgres_server

# How quickly examples are made says something of the machine, not of the test.
settings.register_profile("here", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


_HERE = Path(__file__).parent
_WITH_PROCESSES = {
    _HERE / name
    for name in (
        *("e2e", "faults", "scripts", "bench", "deploy", "core/server", "core/upstream/httpx2"),
        *("plugins/ledger", "plugins/limiter/redis", "plugins/tracing/test_plugin.py"),
        *("api/test_database.py", "admin/test_openapi.py", "admin/test_workers.py", "test_site.py"),
        *(
            "cli/test_plugin.py",
            "cli/test_completion.py",
            "demo/test_demo.py",
            "core/test_watchdog.py",
            "core/test_inflight.py",
        ),
    )
}


def _starts_processes(path: Path) -> bool:
    return not _WITH_PROCESSES.isdisjoint((path, *path.parents))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make unit` does not even read what it would not run."""
    return True if config.option.markexpr == "not slow" and collection_path in _WITH_PROCESSES else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts processes or servers is `slow`, all of it: `make unit` is for between two edits."""
    slow = {path: _starts_processes(path) for path in {item.path for item in items}}
    for item in items:
        if slow[item.path]:
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where CI runs: {report.longrepr}"
    return report
