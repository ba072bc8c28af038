"""How `weir serve` ends. What it serves is in tests/e2e."""

import socket
from pathlib import Path
from typing import Any

import pytest

from .running import said, weir


def test_a_wrong_configuration_is_2(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text("listne: 1\n")
    assert "weir.yaml:1" in said(weir("serve"), 2)


def test_where_it_cannot_serve_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy.core import log

    monkeypatch.setattr(log, "configure", lambda level, form: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in said(weir("serve", "--port", str(port)), 1)


def test_what_is_given_reaches_the_configuration(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    from proxy.core.server import start

    found = []

    def run(load: Any, source: str, path: Path | None) -> int:
        found.append((load().workers, str(load().listen), source, path))
        return 0

    monkeypatch.setattr(start, "run", run)
    assert weir("serve", "--workers", "3", "--port", "4000").exit_code == 0
    clean.joinpath("weir.yaml").write_text("workers: 2\n")
    assert weir("serve").exit_code == 0
    assert found == [
        (3, "127.0.0.1:4000", "weir.yaml", None),
        (2, "127.0.0.1:3006", "weir.yaml", Path("weir.yaml")),
    ]
    assert "WEIR_WORKERS" not in said(weir("serve", "--workers", "0"), 2)


@pytest.mark.parametrize(("number", "status"), [(0, 0), (2, 130), (15, 143)])
def test_it_ends_as_its_signal_says(monkeypatch: pytest.MonkeyPatch, number: int, status: int) -> None:
    from proxy.core.server import start

    async def serve(*arguments: Any) -> int:
        return number

    monkeypatch.setattr(start, "serve", serve)
    assert weir("serve").exit_code == status
