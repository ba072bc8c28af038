"""The price table of a configuration: at the start, at a reload, and when it is broken."""

import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.process import Process

from .command import run
from .either import NO_TLS

TABLE = """
version: 1
currency: USD
unit: per_1m_tokens
updated: "2026-11-22"
models:
  my-model:
    kind: chat
    encoding: o200k_base
    prices:
      - standard: {input: "%s", output: "4"}
"""
BROKEN = TABLE.replace('"%s"', "2.5")


async def prices(weir: Process) -> dict[str, Any]:
    """The prices of every model that has some."""
    async with httpx2.AsyncClient(trust_env=False, verify=NO_TLS, timeout=10) as http:
        found = (await http.get(f"http://127.0.0.1:{weir.port}/models")).json()
    return {model["id"]: model["prices"] for model in found["data"] if model["prices"]}


async def test_the_table_that_comes_with_weir() -> None:
    async with Process("http://127.0.0.1:9/v1") as weir:
        found = await prices(weir)
        assert len(found) > 50
        assert found["gpt-4o"]["standard"]["output"] == "10"
        assert found["dall-e-3"]["per_image"]["hd 1024x1024"] == "0.08"


async def test_a_table_of_ones_own_and_a_reload(tmp_path: Path) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text(TABLE % "2.50")
    async with Process("http://127.0.0.1:9/v1", config={"pricing": str(table)}) as weir:
        assert (await prices(weir))["my-model"]["standard"]["input"] == "2.5"
        table.write_text(TABLE % "3")
        weir.signal(signal.SIGHUP)
        await weir.logged(event="configuration reloaded")
        assert (await prices(weir))["my-model"]["standard"]["input"] == "3"
        table.write_text(BROKEN)
        weir.signal(signal.SIGHUP)
        line = await weir.logged(event="configuration not reloaded")
        assert line["problem"].startswith(f"{table}:")
        assert (await prices(weir))["my-model"]["standard"]["input"] == "3"


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_broken_one_stops_the_start_with_its_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "prices.yaml").write_text(BROKEN)
    (tmp_path / "weir.yaml").write_text("pricing: prices.yaml\n")
    ended = run("-m", "proxy", command, folder=tmp_path)
    assert (ended.status, ended.stdout) == (2, "")
    (told,) = ended.stderr.splitlines()
    line = BROKEN[: BROKEN.index("2.5")].count("\n") + 1
    assert told.startswith(f"weir: prices.yaml:{line}: models.my-model")
