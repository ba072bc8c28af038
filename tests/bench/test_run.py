import os
import socket
import sys
from pathlib import Path

import orjson
import pytest

from bench import report, targets
from bench.process import processes
from bench.run import main, options
from bench.targets import Place, Target
from bench.upstream import CHAT
from tests.ports import row

pytestmark = pytest.mark.slow
SCENARIOS = ("short", "stream", "one")


def bench(tmp_path: Path, *said: str, port: int | None = None) -> int:
    where = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--peers", str(tmp_path)]
    quick = ["--seconds", "0.15", "--rounds", "2", "--port", str(port or row(45))]
    return main([*quick, *where, *said])


def below() -> set[int]:
    """The processes that this one started, and those that they did."""
    return set(processes(os.getpid())) - {os.getpid()}


def test_a_run_measures_every_target_in_every_scenario(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["lean", "weir"]
    before = below()
    status = bench(tmp_path, "--targets", ",".join(names), "--scenarios", ",".join(SCENARIOS))
    said = capsys.readouterr()
    assert status == 0, said.err
    results = orjson.loads((tmp_path / "out" / report.RESULTS).read_bytes())
    assert (results["baseline"], list(results["targets"])) == ("lean", names)
    assert set(results["scenarios"]) == set(SCENARIOS)
    asked = "--rounds 2 --seconds 0.15 --targets lean,weir --scenarios short,stream,one"
    assert results["made"]["command"] == f'make bench ARGS="{asked}"'
    for scenario, taken in results["scenarios"].items():
        assert set(taken) == set(names)
        for rounds in taken.values():
            assert len(rounds) == 2
            for measured in rounds:
                assert (measured["errors"], measured["first_error"]) == (0, "")
                assert measured["requests"] > 0
                assert measured["p50"] > 0
                assert ("added_p50" in measured) is (scenario == "one")
                assert (measured["ttft_p50"] is None) is (scenario != "stream")
        assert sum(measured["user"] + measured["system"] for measured in taken["weir"]) > 0
    assert all(held > 10_000_000 for held in results["memory"].values())
    assert said.out == (tmp_path / "out" / "results.md").read_text()
    assert (tmp_path / "out" / "results.svg").exists()
    assert below() == before  # what it started has ended


def test_rounds_may_have_programs_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = below()
    assert bench(tmp_path, "--targets", "lean,weir-bare", "--scenarios", "one", "--restart") == 0
    said = capsys.readouterr().err.splitlines()
    answered = [line.split()[1] for line in said if line.endswith(" answers")]
    results = orjson.loads((tmp_path / "out" / report.RESULTS).read_bytes())
    assert answered == ["lean", "weir-bare"] * 2, said
    assert results["made"]["command"].count(" --restart ") == 1
    assert all(len(rounds) == 2 for rounds in results["scenarios"]["one"].values())
    assert below() == before


def test_slow_streams_all_end(tmp_path: Path) -> None:
    assert bench(tmp_path, "--targets", "weir-bare", "--scenarios", "slow", "--rounds", "1") == 0
    (measured,) = orjson.loads((tmp_path / "out" / report.RESULTS).read_bytes())["scenarios"]["slow"][
        "weir-bare"
    ]
    assert measured["errors"] == 0
    assert measured["requests"] >= 200
    assert measured["p50"] >= 1980


def test_what_is_not_there_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_SBIN", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    assert bench(tmp_path, "--targets", "nginx,lean,litellm", "--scenarios", "first", "--rounds", "1") == 0
    results = orjson.loads((tmp_path / "out" / report.RESULTS).read_bytes())
    assert set(results["left_out"]) == {"nginx", "litellm"}
    assert "Left out: nginx: there is no nginx" in (tmp_path / "out" / "results.md").read_text()


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = row(45)
    with socket.create_server(("127.0.0.1", port + 10)):
        assert bench(tmp_path, "--targets", "lean", port=port) == 1
    line = f"bench: port {port + 10}, for lean, is taken; choose where the ports begin with --port\n"
    assert capsys.readouterr().err.endswith(line)
    assert not (tmp_path / "out").exists()


_LIAR = f"""
import http.server, sys
class Liar(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.wfile.write({CHAT!r})
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Liar).serve_forever()
"""


def liar(place: Place) -> Target:
    return Target("a liar", [sys.executable, "-c", _LIAR, str(place.port)], "1.0")


def test_a_target_that_answers_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(targets.TARGETS, "lean", liar)
    assert bench(tmp_path, "--targets", "lean") == 1
    assert capsys.readouterr().err.startswith("bench: lean streams other events than the upstream's: 200")


def test_a_target_that_answers_by_itself_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(targets.TARGETS, "lean", liar)
    monkeypatch.setattr(targets, "verify", lambda *_: None)
    assert bench(tmp_path, "--targets", "lean", "--scenarios", "one") == 1
    assert "chats and asked the upstream for 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [
        ["--targets", "apache"],
        ["--scenarios", "x"],
        ["--rounds", "0"],
        ["--seconds", "0"],
        ["--targets", "weir", "--baseline", "lean"],
    ],
)
def test_what_cannot_be_asked_for_is_refused(said: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        options(said)
    assert raised.value.code == 2


def test_peers_come_only_when_asked_for() -> None:
    assert "litellm" not in options([]).targets
    assert "litellm" in options(["--with-peers"]).targets
    assert "litellm" in options(["--targets", "litellm"]).targets
