from pathlib import Path

import pytest

from proxy.cli.configured import configured


def test_without_a_file_it_is_the_defaults() -> None:
    found = configured(None)
    assert found.plugins is None
    assert (found.server.database_url, found.server.state_dir, found.server.replicas) == (None, None, 1)


def test_what_plugins_would_be_started_with(clean: Path) -> None:
    (clean / "weir.yaml").write_text(
        "database: sqlite:///x.db\nredis: redis://x/0\nstate_dir: state\nreplicas: 3\n"
        "plugins: [tracing, {use: auth, store: database}]\n"
    )
    found = configured(None)
    server = found.server
    assert (server.database_url, server.redis_url, server.replicas) == ("sqlite:///x.db", "redis://x/0", 3)
    assert server.state_dir is not None
    assert server.state_dir.absolute() == clean / "state"
    assert found.plugins == [("tracing", {}), ("auth", {"store": "database"})]


def test_the_environment_counts(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    monkeypatch.setenv("WEIR_STATE_DIR", str(clean / "elsewhere"))
    assert configured(None).server.state_dir == clean / "elsewhere"


def test_a_file_that_is_wrong_ends_the_command(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = clean / "wrong.yaml"
    wrong.write_text("databas: x\nlisten: 7777777\n")
    with pytest.raises(SystemExit) as ended:
        configured(wrong)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("weir: ") for line in lines)
