"""The Weir of the demo's own, as a process."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import httpx2
import pytest

from proxy.cli.demo import own
from proxy.cli.demo.own import StartFailed, own_weir
from proxy.core.config import load
from proxy.core.pricing import load as load_prices

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folders(clean: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it may put what it needs; it must leave nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(clean))
    return clean


def serves(url: str) -> bool:
    try:
        return httpx2.get(url.replace("/v1", "/health"), trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def test_it_serves_inside_and_is_gone_outside(folders: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with own_weir() as url:
        assert serves(url)
        assert signal.getsignal(signal.SIGTERM) is not before
    assert not serves(url)
    assert list(folders.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_it_along(folders: Path, number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as ended, own_weir() as url:
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number
    assert not serves(url)
    assert list(folders.iterdir()) == []


def test_nothing_around_configures_it(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folders / "weir.yaml").write_text("nonsense: 1\n")
    (folders / "proxy").mkdir()  # a folder of somebody's that is called as Weir's package is
    (folders / "proxy" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    for name, value in {
        "WEIR_LISTEN": "nonsense",
        "PORT": "nonsense",
        "OPENAI_API_KEY": "sk-costs-money-0123",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }.items():
        monkeypatch.setenv(name, value)
    with own_weir() as url:
        asked = {"model": own.MODEL, "messages": [{"role": "user", "content": "Hello!"}]}
        answer = httpx2.post(f"{url}/chat/completions", json=asked, trust_env=False)
        assert "demo upstream" in answer.json()["choices"][0]["message"]["content"]


def test_one_that_does_not_start_says_why(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_CONFIG", "listne: 1\n")
    with pytest.raises(StartFailed, match="listne: unknown key"), own_weir():
        raise AssertionError("it started")
    assert list(folders.iterdir()) == []


def test_one_that_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_COMMAND", ("true",))
    with pytest.raises(StartFailed, match="ended without a word"), own_weir():
        raise AssertionError("it started")


def test_one_that_never_listens_is_given_up(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    monkeypatch.setattr(own, "_COMMAND", (sys.executable, "-c", deaf))
    monkeypatch.setattr(own, "_START", 0.3)
    monkeypatch.setattr(own, "_STOP", 0.3)
    with pytest.raises(StartFailed, match="did not start within"), own_weir():
        raise AssertionError("it started")
    assert list(folders.iterdir()) == []


def test_its_prices_make_its_model_one_of_theirs(folders: Path) -> None:
    (folders / "prices.yaml").write_text(own._PRICES)
    model = load_prices(folders / "prices.yaml").model(own.MODEL)
    assert model is not None
    assert model.id == own.PRICED_AS


def test_its_chain_is_what_the_panel_shows(folders: Path) -> None:
    (folders / "prices.yaml").write_text(own._PRICES)
    (folders / "weir.yaml").write_text(own._CONFIG)
    plugins = load(folders / "weir.yaml", {}).plugins or []
    assert [plugin.use for plugin in plugins] == ["auth", "precost", "limiter", "annotate"]
