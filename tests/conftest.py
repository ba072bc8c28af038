"""Where CI runs, a test that is skipped because a part is missing fails: a green run has run everything.

Generated examples are the same in every CI run, so that a change is judged by what it changed; elsewhere they
differ from run to run, and find what is new.
"""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# How quickly examples are made says something of the machine, not of the test.
settings.register_profile("here", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where CI runs: {report.longrepr}"
    return report
