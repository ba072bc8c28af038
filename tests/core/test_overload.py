"""When new requests are turned away, and when they are taken again."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from proxy.core import overload as module
from proxy.core.config import OverloadSettings
from proxy.core.overload import ROW, Overload, cgroups, memory, resident
from tests.core.test_app import app, ask, settings

MANY = 2**30


class Clock:
    """An overload whose timer the test is: each look at the memory and the lag that are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **bounds: Any) -> None:
        self.used: float | None = 0.0
        monkeypatch.setattr(module, "memory", lambda bound: self.used)
        monkeypatch.setattr(Overload, "_wait", lambda _: None)
        monkeypatch.setattr(module, "SELDOM", 1)
        self.overload = Overload(OverloadSettings.model_validate({"loop_lag": 0.25, **bounds}))
        self._monkeypatch = monkeypatch

    def look(self, used: float | None = 0.0, lag: float = 0.0) -> str:
        self.used = used
        self._monkeypatch.setattr("proxy.core.overload.time.monotonic", lambda: lag)
        self.overload._look()
        return self.overload.cause


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# -- when ----------------------------------------------------------------------------------------------


def test_memory_counts_at_once_and_relief_needs_some_room(clock: Clock) -> None:
    assert clock.look(1.0) == ""
    assert clock.look(1.001) == "memory"
    assert clock.look(0.96) == "memory"
    assert clock.look(0.95) == ""
    assert clock.look(0.96) == ""


def test_one_long_pause_is_no_overload(clock: Clock) -> None:
    assert clock.look(lag=10.0) == ""
    assert clock.look() == ""


def test_a_loop_that_is_late_again_and_again_is(clock: Clock) -> None:
    causes = [clock.look(lag=0.3) for _ in range(ROW)]
    assert causes == [""] * (ROW - 1) + ["loop_lag"]
    causes = [clock.look(lag=0.1) for _ in range(ROW)]
    assert causes == ["loop_lag"] * (ROW - 1) + [""]
    assert [clock.look(lag=0.3) for _ in range(ROW)][-1] == "loop_lag"


def test_however_long_it_was_late_it_recovers_soon(clock: Clock) -> None:
    for _ in range(100):
        clock.look(lag=1.0)
    assert [clock.look() for _ in range(2 * ROW)][-1] == ""


def test_what_cannot_be_known_is_no_overload(clock: Clock) -> None:
    assert clock.look(None) == ""


def test_both_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, memory="off", loop_lag="off")
    assert [clock.look(5.0, lag=9.0) for _ in range(10)] == [""] * 10


def test_turned_off_while_it_lasts_it_is_over(clock: Clock) -> None:
    clock.look(2.0)
    clock.overload.settings = OverloadSettings(memory=None, loop_lag=None)
    assert clock.look(2.0) == ""


def test_each_change_is_told_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "weir"):
        for used in (2.0, 2.0, 0.1, 0.1):
            clock.look(used)
    assert [record.message for record in caplog.records] == [
        "overloaded: new requests are turned away",
        "no longer overloaded",
    ]


# -- what then -----------------------------------------------------------------------------------------


async def test_a_request_is_refused_before_anything_is_made_of_it(caplog: pytest.LogCaptureFixture) -> None:
    made = app()
    await made.start()
    made.overload.cause = "memory"
    with caplog.at_level(logging.INFO, "weir"):
        found = await ask(made, "POST", "/v1/chat/completions", body=b"{}")
    assert found.status == 503
    assert orjson.loads(found.body)["error"]["code"] == "server_overloaded"
    assert found.headers[b"retry-after"] == b"1"
    assert int(found.headers[b"content-length"]) == len(found.body)
    assert found.headers[b"cache-control"] == b"no-store"
    (record,) = caplog.records
    fields: dict[str, Any] = getattr(record, "fields", {})
    assert fields["id"] == found.headers[b"x-request-id"].decode()
    assert (fields["end_reason"], fields["end_code"]) == ("rejected", "server_overloaded")
    assert (await ask(made, "GET", "/health")).status == 200
    text = generate_latest(made.server.metrics).decode()
    assert 'weir_overloaded{cause="memory"} 1.0' in text
    assert 'weir_overloaded{cause="loop_lag"} 0.0' in text
    assert 'weir_shed_requests_total{cause="memory"} 1.0' in text
    await made.stop()


async def test_of_a_flood_one_line_a_second_is_logged_with_how_many_came(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    now = 100.0
    monkeypatch.setattr("proxy.core.overload.time.monotonic", lambda: now)
    clock.overload.cause = "memory"

    async def flood(ids: str) -> None:
        for id_ in ids:
            await clock.overload.refuse(id_, {"client": ("192.0.2.7", 5)}, sent)

    async def sent(_: Any) -> None: ...

    with caplog.at_level(logging.INFO, "weir"):
        await flood("abc")
        now += 0.99
        await flood("d")
        now += 0.01
        await flood("ef")
        now += 1
        clock.overload._look()
        clock.overload._look()
        now += 1
        clock.overload.cause = "memory"
        await flood("gh")
        clock.overload.stop()
    told = [getattr(record, "fields", {}) for record in caplog.records if record.message == "refused"]
    assert [(fields.get("id"), fields.get("more", 0)) for fields in told] == [
        ("a", 0),
        ("e", 3),
        (None, 1),
        ("g", 0),
        (None, 1),
    ]
    assert told[0]["address"] == "192.0.2.7"
    assert {fields["end_code"] for fields in told} == {"server_overloaded"}
    assert clock.overload.shed["memory"] == 8


async def test_a_reload_brings_new_bounds() -> None:
    made = app()
    await made.start()
    new = settings(overload=OverloadSettings(memory=5))
    await made.reload(new, made.chain)
    assert made.overload.settings.memory == 5
    await made.stop()


async def test_it_looks_while_the_app_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.faults.wire import until

    monkeypatch.setattr(module, "TICK", 0.01)
    overload = Overload(OverloadSettings(memory=2))
    overload.start(CollectorRegistry())
    await until(lambda: overload.cause == "memory")
    overload.settings = OverloadSettings(memory=None)
    await until(lambda: not overload.cause)
    overload.stop()
    overload.stop()


# -- memory --------------------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path) -> Callable[[dict[str, str]], tuple[Path, Path]]:
    """A made-up /sys/fs/cgroup and /proc."""

    def make(files: dict[str, str]) -> tuple[Path, Path]:
        files = {"proc/self/statm": f"9999 {MANY // os.sysconf('SC_PAGE_SIZE')} 1 1 0 1 0\n", **files}
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "cgroup", tmp_path / "proc"

    return make


System = Callable[[dict[str, str]], tuple[Path, Path]]


def test_of_a_cgroup_v2_the_cache_that_could_go_does_not_count(system: System) -> None:
    root, proc = system(
        {
            "proc/self/cgroup": "0::/a/b\n",
            "cgroup/a/b/memory.max": "1000\n",
            "cgroup/a/b/memory.current": "900\n",
            "cgroup/a/b/memory.stat": "anon 500\ninactive_file 200\n",
        }
    )
    assert list(cgroups(root, proc)) == [0.7]
    assert memory(0.7, root, proc) == pytest.approx(1.0)


def test_the_tightest_limit_on_the_way_up_counts(system: System) -> None:
    root, proc = system(
        {
            "proc/self/cgroup": "0::/a/b\n",
            "cgroup/a/b/memory.max": "max\n",
            "cgroup/a/b/memory.current": "900\n",
            "cgroup/a/memory.max": "2000\n",
            "cgroup/a/memory.current": "1000\n",
            "cgroup/memory.max": "10000\n",
            "cgroup/memory.current": "8000\n",
        }
    )
    assert list(cgroups(root, proc)) == [0.5, 0.8]
    assert memory(0.8, root, proc) == pytest.approx(1.0)


def test_a_cgroup_v1(system: System) -> None:
    root, proc = system(
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
            "cgroup/memory/memory.limit_in_bytes": "1000\n",  # a container sees its own as the root
            "cgroup/memory/memory.usage_in_bytes": "500\n",
            "cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100\n",
        }
    )
    assert list(cgroups(root, proc)) == [0.4]


def test_no_limit_is_the_machine(system: System) -> None:
    root, proc = system(
        {
            "proc/self/cgroup": "4:memory:/\n",
            "proc/meminfo": f"MemTotal: {4 * MANY // 1024} kB\nMemFree: 1 kB\n",
            "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cgroup/memory/memory.usage_in_bytes": "500\n",
        }
    )
    assert list(cgroups(root, proc)) == []
    assert memory(0.5, root, proc) == 0.5
    assert memory(1.0, root, proc) == 0.25


def test_a_size_is_for_the_process(system: System) -> None:
    root, proc = system(
        {"proc/self/cgroup": "0::/\n", "cgroup/memory.max": "1\n", "cgroup/memory.current": "1\n"}
    )
    assert memory(2 * MANY, root, proc) == 0.5


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/statm": "odd"},
        {"proc/self/statm": ""},
        {"proc/self/cgroup": "what\n\n::", "proc/meminfo": "MemTotal:"},
    ],
)
def test_where_the_system_does_not_say_nothing_is_known(system: System, files: dict[str, str]) -> None:
    root, proc = system(files)
    assert memory(0.5, root, proc) is None


def test_of_this_process_something_is_known() -> None:
    found = resident()
    assert found is not None
    assert 10 * 2**20 < found < 10 * 2**30
    assert memory(0.9) is not None
