"""Completion, asked for as shells ask."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command import CLEAN, run_any

from .running import said, weir

COMMAND = Path(sys.executable).with_name("weir")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_weir(shell: str) -> None:
    assert f"_WEIR_COMPLETE={shell}_complete" in said(weir("completion", shell))


def test_without_a_name_it_is_the_shell_in_use() -> None:
    assert said(weir("completion", SHELL="/usr/bin/fish")) == said(weir("completion", "fish"))


@pytest.mark.parametrize("shell", ["", "/bin/ksh"])
def test_a_shell_that_is_not_known(shell: str) -> None:
    assert said(weir("completion", SHELL=shell), 2) == "weir: which shell? name one of bash, zsh, fish\n"


def test_another_word_is_wrong_use() -> None:
    assert weir("completion", "tcsh").exit_code == 2


def completed(folder: Path, *words: str) -> list[str]:
    env = {
        "_WEIR_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    return run_any(str(COMMAND), folder=folder, env=env).stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("weir", "che"), ["plain,check"]),
        (("weir", "serve", "--ho"), ["plain,--host"]),
        (("weir", "plugin", "n"), ["plain,new"]),
        (("weir", "completion", "z"), ["plain,zsh"]),
        (("weir", "check", "--config", "w"), ["file,w"]),
    ],
)
def test_commands_options_words_and_files_are_completed(
    clean: Path, words: tuple[str, ...], found: list[str]
) -> None:
    assert completed(clean, *words) == found


def test_bash_takes_the_script(clean: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    script = """
        eval "$(weir completion bash)"
        COMP_WORDS=(weir sch); COMP_CWORD=1
        _weir_completion weir
        echo "${COMPREPLY[@]}"
    """
    env = {**CLEAN, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [bash, "--norc", "-euc", script], cwd=clean, env=env, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("schema\n", "")
