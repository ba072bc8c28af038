import atexit
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import log as logs
from proxy.core.log import VALUE_LIMIT, configure, log, raised, safe


class Terminal(io.StringIO):
    """A stderr: a terminal or not, whose reader may stall."""

    def __init__(self, tty: bool = False) -> None:
        super().__init__()
        self._tty = tty
        self.reads = threading.Event()
        self.reads.set()
        self.asked = threading.Event()
        """Somebody writes, and perhaps waits."""

    def isatty(self) -> bool:
        return self._tty

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.reads.wait(10)
        return super().write(text)


class Logs:
    """Configured logging, and what has come out of it."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal

    @property
    def text(self) -> str:
        """All that was logged up to now."""
        [handler] = logging.getLogger().handlers
        waiting: Any = handler.queue  # type: ignore[attr-defined] # the queue's own handler
        deadline = time.monotonic() + 5
        with waiting.all_tasks_done:
            while waiting.unfinished_tasks:
                assert waiting.all_tasks_done.wait(max(0.0, deadline - time.monotonic())), (
                    "not written in time"
                )
        return self.terminal.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text.splitlines()]


Start = Callable[..., Logs]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = (root.handlers[:], root.level, log.level, uvicorn.level)
    stops: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", stops.append)
    terminals: list[Terminal] = []

    def configured(
        form: Any = "json", level: str = "info", tty: bool = False, worker: int | None = None
    ) -> Logs:
        terminal = Terminal(tty)
        terminals.append(terminal)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            configure(level, form, worker)
        return Logs(terminal)

    yield configured
    for terminal in terminals:
        terminal.reads.set()
    for stop in stops:
        stop()
    root.handlers[:], root.level = before[0], before[1]
    log.setLevel(before[2])
    uvicorn.setLevel(before[3])


def say(event: str = "request", **fields: Any) -> None:
    log.info(event, extra={"fields": fields})


# -- the two forms -------------------------------------------------------------------------------------


def test_json_is_one_object_a_line(start: Start) -> None:
    logged = start()
    say(status=200, path="/v1/x", resent=False, ttfb_ms=1.5, key_id=None)
    log.warning("second")
    first, second = logged.lines
    assert first.pop("ts").endswith("Z")
    assert first == {
        "level": "info",
        "event": "request",
        "status": 200,
        "path": "/v1/x",
        "resent": False,
        "ttfb_ms": 1.5,
        "key_id": None,
    }
    assert (second["level"], second["event"]) == ("warning", "second")


@pytest.mark.parametrize(
    ("form", "shown"), [("json", '"event":"request","worker":2'), ("text", "[2] request")]
)
def test_a_worker_says_which_it_is(start: Start, form: str, shown: str) -> None:
    logged = start(form, worker=2)
    say("request")
    assert shown in logged.text
    assert logged.text.count("2]") + logged.text.count('"worker"') == 1


def test_what_waits_can_be_written_out(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """Before an exit that calls nobody: that of a process that was forked."""
    start()
    monkeypatch.setattr(sys, "stderr", terminal := Terminal(False))
    flush = configure("info", "json", 1)
    for number in range(50):
        say(str(number))
    flush()
    assert len(terminal.getvalue().splitlines()) == 50


def test_times_are_utc_with_milliseconds(start: Start) -> None:
    logged = start()
    record = logging.LogRecord("weir", logging.INFO, "", 0, "x", None, None)
    record.created = 1757000000.0504
    log.handle(record)
    assert logged.lines[0]["ts"] == "2025-09-04T15:33:20.050Z"


def test_text_is_a_readable_line(start: Start) -> None:
    logged = start("text")
    say("request", status=200, path="/v1/x", note="two words", nothing=None, empty="")
    line = logged.text
    assert line.endswith(' info    request status=200 path=/v1/x note="two words" empty=""\n')
    assert "nothing" not in line


@pytest.mark.parametrize(("tty", "is_json"), [(True, False), (False, True)])
def test_auto_is_text_on_a_terminal(start: Start, tty: bool, is_json: bool) -> None:
    logged = start("auto", tty=tty)
    say()
    assert logged.text.startswith("{") is is_json


def test_a_form_that_is_named_counts_on_a_terminal_too(start: Start) -> None:
    logged = start("json", tty=True)
    say()
    assert logged.lines[0]["event"] == "request"


def test_the_level_says_what_is_logged(start: Start) -> None:
    logged = start(level="warning")
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in logged.lines] == ["yes"]


def test_libraries_are_heard_from_warnings_on(start: Start) -> None:
    logged = start(level="debug")
    logging.getLogger("some.library").info("chatter: https://user:pass@host")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("some.library").warning("%s happened", "something")
    log.debug("ours")
    assert [line["event"] for line in logged.lines] == ["something happened", "ours"]


def test_configuring_again_does_not_write_twice(start: Start) -> None:
    first, second = start(), start()
    say()
    assert len(second.lines) == 1
    assert first.terminal.getvalue() == ""


# -- what must not get out -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        "Bearer abc.def-123",
        "Bearer   x",
        "sk-abcdefgh12345678",
        "sk-proj-Ab_c-1234567890",
        "is sk-weir-12345678!",
    ],
)
def test_what_looks_like_a_credential_is_taken_out(secret: str) -> None:
    found = safe(f"before {secret} after")
    assert found.startswith("before ")
    assert found.endswith(" after")
    assert "***" in found
    for part in secret.replace("Bearer", "").split():
        assert part not in found or part in ("is",)


@pytest.mark.parametrize("form", ["json", "text"])
def test_it_is_taken_out_of_fields_and_messages(start: Start, form: str) -> None:
    logged = start(form)
    say("sent Bearer topsecret", path="/v1/sk-topsecret12345")
    log.warning("also %s", "sk-topsecret12345", extra={"fields": {"key": "Bearer topsecret"}})
    assert "topsecret" not in logged.text
    assert logged.text.count("***") == 4


def test_a_credential_that_the_cut_goes_through_leaves_nothing_of_it() -> None:
    for start_at in range(VALUE_LIMIT - 40, VALUE_LIMIT):
        found = safe("x" * (start_at - 1) + " sk-SECRETSECRETSECRETSECRET")
        assert "SEC" not in found, start_at


def test_values_inside_values_are_no_way_round_the_filter(start: Start) -> None:
    class Odd:
        def __str__(self) -> str:
            return "Bearer topsecret"

    logged = start()
    say(list=["Bearer topsecret"], mapping={"a": "sk-topsecret12345"}, odd=Odd())
    assert "topsecret" not in logged.text


@pytest.mark.parametrize("form", ["json", "text"])
def test_values_are_cut(start: Start, form: str) -> None:
    logged = start(form)
    say("m" * 10_000, path="p" * 10_000)
    text = logged.text
    assert text.count("p" * VALUE_LIMIT) == 1
    assert text.count("p") <= VALUE_LIMIT + 1
    assert text.count("m") <= VALUE_LIMIT
    assert VALUE_LIMIT == 256


@pytest.mark.parametrize(
    "control", ["\n", "\r", "\x1b[31m", "\0", "\x7f", "\x9b31m", "\x85", "\u2028", "\u202e", "\U000e0001"]
)
@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.fault("G8")
def test_control_characters_are_escaped(start: Start, form: str, control: str) -> None:
    """A client's path or request id must not write lines of its own, nor drive a terminal (C1 included)."""
    logged = start(form)
    say(f"bad{control}event", path=f"/v1/{control}x")
    line = logged.text.removesuffix("\n")
    if form == "json":
        assert orjson.loads(line)["path"] == f"/v1/{control}x"
    assert line.isprintable(), ascii(line)


def test_what_is_printable_stays_as_it_is_beside_what_is_not(start: Start) -> None:
    logged = start()
    say(path="/é😀\x9b")
    assert '"path":"/é😀\\u009b"' in logged.text


def test_a_value_cannot_look_like_another_field(start: Start) -> None:
    logged = start("text")
    say(path="/x status=200")
    assert logged.text.endswith('path="/x status=200"\n')


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_every_text_can_be_made_safe(text: str) -> None:
    found = safe(text)
    assert len(found) <= VALUE_LIMIT + 8
    assert "Bearer x" not in safe("Bearer x" + text)


@pytest.mark.parametrize("value", [None, True, 3, 1.5])
def test_what_is_no_text_stays(value: Any) -> None:
    assert safe(value) is value


def test_text_that_is_no_unicode_does_not_lose_the_line(start: Start) -> None:
    logged = start()
    say(path="/\ud800", status=200)
    assert [line["status"] for line in logged.lines] == [200]


def fails() -> None:
    raise ValueError("a secret prompt")


def test_an_exception_is_its_type_and_places_never_its_message(start: Start) -> None:
    logged = start()
    try:
        fails()
    except ValueError as error:
        fields = raised(error)
        log.exception("internal error", extra={"fields": {"id": "1"}})
    assert fields["raised"] == "ValueError"
    assert [place.partition(":")[0] for place in fields["at"].split()] == ["test_log.py", "test_log.py"]
    [line] = logged.lines
    assert (line["raised"], line["id"]) == ("ValueError", "1")
    assert "secret" not in logged.text


def test_a_library_that_logs_a_traceback_does_not_quote_it(start: Start) -> None:
    logged = start("text")
    try:
        fails()
    except ValueError:
        logging.getLogger("some.library").exception("oh no")
    assert "raised=ValueError" in logged.text
    assert "secret" not in logged.text
    assert len(logged.text.splitlines()) == 1


def test_of_a_deep_traceback_the_last_places_are_kept() -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        else:
            fails()

    try:
        deep(50)
    except ValueError as error:
        places = raised(error)["at"].split()
    assert len(places) == 8


def test_an_exception_that_was_never_raised_has_no_places() -> None:
    assert raised(KeyError("x")) == {"raised": "KeyError", "at": ""}


# -- a reader that stalls ------------------------------------------------------------------------------


def test_a_stalled_stderr_stops_nobody_and_what_does_not_fit_is_counted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "QUEUE", 50)
    logged = start()
    [handler] = logging.getLogger().handlers
    before = type(handler).dropped  # type: ignore[attr-defined] # our own handler's count
    logged.terminal.reads.clear()
    say(n=0)
    assert logged.terminal.asked.wait(5)
    began = time.monotonic()
    for n in range(1, 200):
        say(n=n)
    assert time.monotonic() - began < 5
    dropped = type(handler).dropped - before  # type: ignore[attr-defined]
    logged.terminal.reads.set()
    kept = [line["n"] for line in logged.lines]
    assert kept == list(range(51))  # the one that is being written, and those that wait
    assert dropped + len(kept) == 200
    say(n="after")
    assert logged.lines[-1]["n"] == "after"
