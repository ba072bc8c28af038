"""Where CI runs, a test that is skipped because a part is missing fails: a green run has run everything.

Generated examples are the same in every CI run, so that a change is judged by what it changed; elsewhere they
differ from run to run, and find what is new. `make unit` makes fewer.
"""

import gc
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
PROFILE = "ci" if os.environ.get("CI") else "here"
settings.load_profile(PROFILE)


_HERE = Path(__file__).parent
_SLOW = {
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
        "fuzz/test_generated.py",  # seconds of random inputs
    )
}


def _is_slow(path: Path) -> bool:
    return not _SLOW.isdisjoint((path, *path.parents))


def _is_unit(config: pytest.Config) -> bool:
    return bool(config.option.markexpr == "not slow")


def pytest_configure(config: pytest.Config) -> None:
    """`make unit` makes half as many examples as `make test`, where a test does not say how many."""
    if _is_unit(config):
        usual = settings.get_profile(PROFILE)
        settings.register_profile("unit", usual, max_examples=usual.max_examples // 2)
        settings.load_profile("unit")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make unit` does not even read what it would not run."""
    return True if _is_unit(config) and collection_path in _SLOW else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests live as long as the run: the garbage collector need not go through them, neither as
    they are made nor again and again later, which took a tenth of it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts processes or servers is `slow`, all of it: `make unit` is for between two edits."""
    slow = {path: _is_slow(path) for path in {item.path for item in items}}
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
