"""What is written to a terminal, and what to a file."""

import io
import sys

import pytest

from proxy.cli.screen import Screen, safe


class Output(io.TextIOWrapper):
    """A standard output that may be a terminal."""

    def __init__(self, encoding: str, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


def screen(
    monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8", terminal: bool = True, **env: str
) -> tuple[Screen, Output]:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    output = Output(encoding, terminal)
    monkeypatch.setattr(sys, "stdout", output)
    return Screen(), output


@pytest.mark.parametrize(
    ("encoding", "terminal", "env", "drawn", "coloured"),
    [
        ("utf-8", True, {"TERM": "xterm"}, True, True),
        ("utf-8", True, {}, True, True),
        ("utf-8", True, {"NO_COLOR": "1"}, True, False),
        ("utf-8", True, {"NO_COLOR": ""}, True, True),
        ("utf-8", True, {"TERM": "dumb"}, False, False),
        ("ascii", True, {"TERM": "xterm"}, False, False),
        ("utf-8", False, {"TERM": "xterm"}, False, False),
    ],
)
def test_what_a_terminal_can_do(
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    terminal: bool,
    env: dict[str, str],
    drawn: bool,
    coloured: bool,
) -> None:
    found, output = screen(monkeypatch, encoding, terminal, **env)
    assert (found.drawn, found.coloured) == (drawn, coloured)
    found.line(found.style("red", fg="red"))
    found.over("soon gone")
    found.over("")
    assert ("\x1b[31m" in output.text) == coloured
    assert ("\r" in output.text) == drawn
    assert "red" in output.text


def test_plain_output_is_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    found, output = screen(monkeypatch, terminal=False)
    found.line("one")
    found.over("gone")
    found.write("two")
    found.line()
    assert output.text == "one\ntwo\n"


def test_somebody_elses_text_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    found, output = screen(monkeypatch)
    found.write("a\x1b[2Jb\rc\x07\td\ne\u202e")
    assert output.text == "a[2Jbc\td\ne"
    assert safe("é 日本 😀\x9b") == "é 日本 😀"


@pytest.mark.parametrize(
    ("share", "drawn", "plain"),
    [(0.0, "", ""), (0.0001, "▏", "#"), (0.5, "██", "##"), (0.53, "██▏", "##"), (1.0, "████", "####")],
)
def test_bars(monkeypatch: pytest.MonkeyPatch, share: float, drawn: str, plain: str) -> None:
    assert screen(monkeypatch)[0].bar(share, 4) == drawn
    assert screen(monkeypatch, terminal=False)[0].bar(share, 4) == plain
