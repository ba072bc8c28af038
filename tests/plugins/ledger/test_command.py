import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from plugins.ledger.command import usage
from plugins.ledger.table import insert

from .making import a_database, a_payload, server

NOW = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000


class Configured:
    """What the command line finds out of a configuration."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[Path | None] = []

    def __call__(self, config: Path | None) -> Any:
        self.asked.append(config)
        self.server = server(self._folder)
        return self


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    database = a_database(tmp_path)
    with database.begin() as connection:
        insert(
            connection,
            [
                a_payload("a", started_at=NOW - 1, cost_pico=3 * 10**12, cost_high_pico=3 * 10**12),
                a_payload("b", started_at=NOW - 1, model_served="o3", team="blue"),
            ],
        )
    database.dispose()
    return tmp_path


def run(configured: Configured, *arguments: str) -> Result:
    return CliRunner().invoke(usage, arguments, obj=configured)


def test_it_prints_a_table_with_bars(filled: Path) -> None:
    done = run(Configured(filled))
    lines = done.output.splitlines()
    assert done.exit_code == 0
    assert lines[0].split() == ["model", "requests", "failed", "input", "output", "cost"]
    assert lines[1].startswith("gpt-4o-2024-08-06")
    assert "$3.0000" in lines[1]
    assert "█" in lines[1]
    assert lines[2].startswith("o3")
    assert lines[3].split()[:2] == ["all", "2"]


def test_groups_filters_and_limits(filled: Path) -> None:
    assert "blue" in run(Configured(filled), "--by", "team", "--since", "1h").output
    only = run(Configured(filled), "--where", "team=red").output
    assert "o3" not in only
    cut = run(Configured(filled), "--limit", "1").output
    assert "(1 more; --limit shows them)" in cut
    assert "nothing was used" in run(Configured(filled), "--until", "2d", "--since", "3d").output


def test_the_database_is_that_of_the_configuration_or_the_one_that_is_named(
    filled: Path, tmp_path: Path
) -> None:
    configured = Configured(filled)
    run(configured, "--config", "other.yaml")
    assert configured.asked == [Path("other.yaml")]
    elsewhere = Configured(tmp_path / "nothing")
    assert run(elsewhere, "--database", f"sqlite:///{filled}/weir.db").exit_code == 0
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--by", "colour"), 2, "by: 'colour' is none of"),
        (("--since", "then"), 2, "since: 'then' is neither"),
        (("--where", "team"), 2, "write NAME=VALUE"),
        (("--database", "mysql://x"), 2, "mysql is not known here"),
        (("--database", "sqlite:////nowhere/weir.db"), 1, "there is no ledger in /nowhere/weir.db"),
        (("--database", "postgresql://weir@/weir?host=/nowhere"), 1, "the ledger cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(filled: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    done = run(Configured(filled), *arguments)
    assert done.exit_code == status
    assert done.stderr.startswith("weir: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_no_ledger_is_told(tmp_path: Path) -> None:
    (tmp_path / "weir.db").write_text("not a database, and long enough to be taken for one" * 20)
    done = run(Configured(tmp_path))
    assert (done.exit_code, "not a database" in done.stderr) == (1, True)


def test_reconciling_lists_what_differs(filled: Path, tmp_path: Path) -> None:
    day = (NOW - 1) // 86_400_000_000 * 86_400
    export = tmp_path / "usage.csv"
    heading = "start_time,end_time,model,num_model_requests,input_tokens,output_tokens\n"
    export.write_text(
        heading + f"{day},{day + 86400},gpt-4o-2024-08-06,1,1000,100\n{day},{day + 86400},o3,1,1000,100\n"
    )
    same = run(Configured(filled), "reconcile", str(export))
    assert (same.exit_code, same.output) == (0, "0 of 6 figures differ\n")
    export.write_text(
        heading + f"{day},{day + 86400},gpt-4o-2024-08-06,2,1000,100\n{day},{day + 86400},o3,1,1000,100\n"
    )
    differs = run(Configured(filled), "reconcile", str(export))
    assert differs.exit_code == 1
    assert "gpt-4o-2024-08-06  requests: theirs 2, ours 1" in differs.output
    export.write_text("a shopping list")
    assert run(Configured(filled), "reconcile", str(export)).exit_code == 2
