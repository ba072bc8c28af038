"""The Compose file."""

from pathlib import Path
from typing import Any

import pytest

from proxy import __version__
from proxy.core.units import parse_duration

from .manifests import DEPLOY, check, drain, load, shares_limits

pytestmark = pytest.mark.slow

FOLDER = DEPLOY / "compose"


@pytest.fixture
def file() -> Any:
    (found,) = load((FOLDER / "compose.yaml").read_text())
    return found


def test_its_configuration_is_whole(tmp_path: Path) -> None:
    assert check(FOLDER / "weir.yaml", tmp_path).splitlines()[-1] == "ok"


def test_its_services_are_locked_up(file: Any) -> None:
    assert set(file["services"]) == {"weir", "redis"}
    for service in file["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("user", "65532") != "0"


def test_weir_is_reached_from_this_machine_alone(file: Any) -> None:
    assert file["services"]["weir"]["ports"] == ["127.0.0.1:3006:3006"]
    assert "ports" not in file["services"]["redis"]


def test_weir_has_its_configuration_its_keys_and_its_redis(file: Any) -> None:
    weir = file["services"]["weir"]
    assert weir["image"] == f"weir:{__version__}"
    assert (FOLDER / weir["build"]).resolve() == DEPLOY.parent
    assert weir["configs"] == [{"source": "weir", "target": "/etc/weir/weir.yaml"}]
    assert (FOLDER / file["configs"]["weir"]["file"]).exists()
    (settings,) = load((FOLDER / "weir.yaml").read_text())
    assert settings["redis"].startswith("redis://redis:")
    assert shares_limits(settings)
    assert weir["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert weir["volumes"] == [f"state:{settings['state_dir']}"]
    assert set(file["volumes"]) == {"state"}
    named = (FOLDER / "weir.yaml").read_text()
    assert all("${" + name + "}" in named for name in weir["environment"])


def test_a_stop_has_the_time_it_takes(file: Any) -> None:
    grace = parse_duration(file["services"]["weir"]["stop_grace_period"])
    assert grace >= drain(FOLDER / "weir.yaml") + 10
