"""A newcomer's first hour: from the README to a plugin of their own."""

import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import ROOT, fences

from .command import run
from .reader import Reader, reader

ASK = """
import sys
from openai import APIStatusError, OpenAI

with OpenAI(base_url="http://127.0.0.1:3006/v1", api_key=sys.argv[1], max_retries=0) as client:
    for messages in map(int, sys.argv[2:]):
        try:
            answer = client.chat.completions.with_raw_response.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}] * messages
            )
            told = answer.headers
            print(told["x-weir-cost-usd"], told["x-ratelimit-remaining-requests"], told.get("x-max-messages"))
        except APIStatusError as error:
            print(error.status_code, error.code, error.response.headers.get("retry-after"))
"""
KEY = "a-long-random-word"


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Reader]:
    """In an environment of their own, so that what they install is gone after; Weir is installed in it."""
    with reader(tmp_path) as somebody:
        _move_in(somebody)
        yield somebody


def _move_in(somebody: Reader) -> None:
    venv = somebody.folder / ".venv"
    venv.unlink()
    made = run("-m", "venv", "--without-pip", str(venv), folder=somebody.folder, within=60)
    assert made.status == 0, made.stderr
    (packages,) = venv.glob("lib/python*/site-packages")
    installed = next(place for place in site.getsitepackages() if place.startswith(sys.prefix))
    (packages / "weir.pth").write_text(f"import site; site.addsitedir({installed!r})\n")
    command = (Path(sys.prefix) / "bin" / "weir").read_text().splitlines(keepends=True)
    (venv / "bin" / "weir").write_text("".join([f"#!{venv}/bin/python\n", *command[1:]]))
    (venv / "bin" / "weir").chmod(0o755)
    (venv / "bin" / "pip").write_text(f'#!/bin/sh\nexec {venv}/bin/python -m pip "$@"\n')
    (venv / "bin" / "pip").chmod(0o755)
    somebody.python = str(venv / "bin" / "python")
    somebody.env["PATH"] = f"{venv / 'bin'}:{os.environ['PATH']}"
    # What it takes to build a package is here already; without an index it must do.
    somebody.env |= {"PIP_NO_BUILD_ISOLATION": "false", "PIP_NO_INDEX": "1"}


def _ask(somebody: Reader, *messages: int) -> list[list[str]]:
    """A chat with so many messages each: cost, requests left, the plugin's header; or status, code, wait."""
    words = [str(number) for number in messages]
    somebody.run([somebody.python, "-W", "error", "-c", somebody.moved(ASK), KEY, *words])
    return [line.split() for line in somebody.told.splitlines()]


def _bare(text: str, first: str) -> str:
    """A configuration with the # taken off one setting and what is below it, as the file says to do."""
    before, found, after = text.partition(f"#{first}")
    block, blank, rest = (found + after).partition("\n\n")
    return before + "\n".join(line.removeprefix("#") for line in block.splitlines()) + blank + rest


@pytest.mark.timeout(300)
def test_from_the_readme_to_a_plugin_of_ones_own(newcomer: Reader) -> None:
    folder = newcomer.folder
    # The README's first screen.
    newcomer.do("make run")
    _, curl, *_ = fences(ROOT / "README.md", "sh")
    newcomer.block(curl)
    assert '"choices"' in newcomer.told
    newcomer.block(fences(ROOT / "README.md", "python")[0])
    newcomer.stop()

    # A configuration, and what it comes to.
    newcomer.do("weir init")
    assert sorted(path.name for path in folder.glob("weir*")) == ["weir.schema.json", "weir.yaml"]
    newcomer.do("weir check")
    config = _bare((folder / "weir.yaml").read_text(), "plugins:").replace("100/minute", "3/minute")
    (folder / "weir.yaml").write_text(config)
    newcomer.do(f"export ALICE_KEY={KEY}")
    newcomer.do("weir check")
    assert "auth → precost → limiter → annotate" in newcomer.told
    newcomer.run(["bash", "-c", f"echo {KEY} | weir check --key - --model gpt-4o-mini"])
    assert "alice" in newcomer.told
    assert "limit 3, window minute" in newcomer.told

    # Served, asked by the SDK, and run into the limit.
    newcomer.do("weir serve")
    answers = _ask(newcomer, 1, 1, 1, 1)
    assert [words[1:] for words in answers[:3]] == [["2", "None"], ["1", "None"], ["0", "None"]]
    assert all(float(words[0]) > 0 for words in answers[:3])
    status, code, wait = answers[3]
    assert (status, code) == ("429", "rate_limit_exceeded")
    assert 1 <= int(wait) <= 20

    # A plugin: made, tested, installed.
    newcomer.do("weir plugin new request-size")
    for command in ("pip install -q -e .", "python -m pytest -q -p no:cacheprovider"):
        newcomer.run(["bash", "-euc", f"cd weir-request-size && {command}"])
    assert "5 passed" in newcomer.told
    newcomer.do("weir plugins")
    assert "request-size" in newcomer.told
    use = "  - use: request-size\n    max_messages: 2\n  - precost"
    (folder / "weir.yaml").write_text(config.replace("3/minute", "30/minute").replace("  - precost", use))
    newcomer.do("weir check")
    assert "auth → request-size → precost → limiter → annotate" in newcomer.told

    # And seen at work.
    newcomer.do("weir serve")
    passed, refused = _ask(newcomer, 2, 3)
    assert passed[2] == "2"
    assert refused[:2] == ["400", "too_many_messages"]
