from pathlib import Path

import pytest

from bench import weir
from tests.e2e.command import run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chain", "late"),
    [({}, False), ({"auth": weir.PLUGINS["auth"]}, True), (weir.PLUGINS, False), (weir.MEASURED_USE, True)],
)
def test_weir_takes_the_configuration(chain: dict[str, str], late: bool, tmp_path: Path) -> None:
    (tmp_path / "weir.yaml").write_text(weir.config(chain.values(), port=9300, upstream=9200, late=late))
    checked = run("-m", "proxy", "check", folder=tmp_path)
    assert (checked.status, checked.stderr) == (0, "")
    assert [name for name in chain if name not in checked.stdout] == []


def test_limits_can_be_in_redis() -> None:
    text = weir.config(weir.in_redis(9302).values(), port=9300, upstream=9200)
    assert "store: redis://127.0.0.1:9302/0\n" in text
    assert text.index("- precost") < text.index("store: redis")


@pytest.mark.slow
def test_the_ledger_stands_behind_auth_and_keeps_its_rows_where_it_is_told(tmp_path: Path) -> None:
    text = weir.config(weir.LEDGER.values(), port=9300, upstream=9200, state=tmp_path / "state")
    (tmp_path / "weir.yaml").write_text(text)
    checked = run("-m", "proxy", "check", folder=tmp_path)
    assert (checked.status, checked.stderr) == (0, "")
    assert set(weir.LEDGER) - set(weir.PLUGINS) == {"ledger"}
    assert f"state_dir: {tmp_path}/state\n" in text
    assert text.index("use: auth") < text.index("- ledger") < text.index("use: limiter")
