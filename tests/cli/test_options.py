"""Which file is read, and how a command fails."""

from pathlib import Path

import pytest

from proxy.cli.options import fail

from .running import said, weir


def test_the_file_that_is_named_counts_before_the_one_that_is_there(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text("nonsense: 1\n")
    other = clean / "other.yaml"
    other.write_text("listen: 127.0.0.1:4001\n")
    for result in (weir("check", "-c", str(other)), weir("check", WEIR_CONFIG=str(other))):
        assert "127.0.0.1:4001" in said(result)


def test_the_file_that_is_there_is_read(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text("listen: 127.0.0.1:4002\n")
    assert "127.0.0.1:4002" in said(weir("check"))


def test_a_file_that_is_not_there() -> None:
    assert "no-such.yaml" in said(weir("check", "--config", "no-such.yaml"), 2)


def test_a_variable_that_means_nothing_is_a_warning() -> None:
    result = weir("check", WEIR_LISTN=":3006")
    assert result.exit_code == 0
    assert result.stderr == 'weir: warning: WEIR_LISTN: unknown variable; did you mean "WEIR_LISTEN"?\n'


def test_a_module_beside_the_file_is_found(clean: Path) -> None:
    clean.joinpath("beside_weir.py").write_text("from proxy.api import Plugin\nclass Own(Plugin): ...\n")
    clean.joinpath("weir.yaml").write_text("plugins: ['beside_weir:Own']\n")
    assert "plugins     Own\n" in said(weir("check"))


def test_failing_is_a_line_for_each_problem_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        fail(["one", "two"], 2)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "weir: one\nweir: two\n")
