"""Logs on stderr: one JSON object a line, or a readable line on a terminal.

Fields are an allow-list: whoever logs names each one. No header, body or query string is ever logged, and a
last filter takes out what looks like a credential. Writing happens in a thread behind a bounded queue, since
a reader of stderr that stalls must not stall requests; what does not fit is dropped and counted.
"""

import atexit
import logging
import os
import queue
import re
import sys
import time
from collections.abc import Callable, Mapping
from itertools import islice
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Literal

import orjson

log = logging.getLogger("weir")

QUEUE = 10_000
"""Lines that wait for a slow stderr before lines are dropped."""
VALUE_LIMIT = 256
"""Characters of one value: a model or path of a megabyte is somebody's attack."""

ITEMS_LIMIT = 20
"""Items of one value that is a list or a mapping."""

_SECRET = re.compile(r"Bearer\s+\S+|\bsk-[A-Za-z0-9_-]{8,}|\bweir_sk_\w+")


def safe(value: Any) -> Any:
    """A value as it may be logged: short, encodable, and with no credential in it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(safe(key)): safe(one) for key, one in islice(value.items(), ITEMS_LIMIT)}
    if isinstance(value, list | tuple | set | frozenset):
        return [safe(one) for one in islice(value, ITEMS_LIMIT)]
    # Filtered before it is cut, or the cut would leave the beginning of a key that no longer looks like one.
    text = str(value)[: 4 * VALUE_LIMIT].encode("utf-8", "backslashreplace").decode()
    return _SECRET.sub("***", text)[:VALUE_LIMIT]


def raised(error: BaseException) -> dict[str, str]:
    """What may be logged of an exception: its type, and the places it came through; never its message."""
    places = []
    where = error.__traceback__
    while where is not None:
        places.append(f"{os.path.basename(where.tb_frame.f_code.co_filename)}:{where.tb_lineno}")
        where = where.tb_next
    return {"raised": type(error).__name__, "at": " ".join(places[-8:])}


class _Formatter(logging.Formatter):
    """`worker` is the number of this process among those that share a port, None where it is alone."""

    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self.worker = worker


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "event": safe(record.getMessage()),
        }
        if self.worker is not None:
            entry["worker"] = self.worker
        entry.update((key, safe(value)) for key, value in getattr(record, "fields", {}).items())
        line = orjson.dumps(entry, default=str).decode()
        # JSON leaves some that a terminal takes for commands: U+009B begins one.
        return line if line.isprintable() else _UNPRINTABLE.sub(_escaped, line)


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(
            f"{key}={_printable(safe(value))}"
            for key, value in getattr(record, "fields", {}).items()
            if value is not None
        )
        head = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.levelname.lower():7}"
        which = "" if self.worker is None else f"[{self.worker}] "
        return f"{head} {which}{_printable(safe(record.getMessage()), quote=False)} {fields}".rstrip()


class _Handler(QueueHandler):
    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            _Handler.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The base class formats here, on the caller's thread; the writer's thread can do that.
        record.msg = record.getMessage()
        record.args = None
        if record.exc_info and record.exc_info[1] is not None:
            # A traceback may quote anything; its type and places do not.
            record.fields = {**getattr(record, "fields", {}), **raised(record.exc_info[1])}
        record.exc_info = None
        return record


_UNPRINTABLE = re.compile(r"[^ -~]")


def _escaped(match: re.Match[str]) -> str:
    if match[0].isprintable():
        return match[0]
    units = match[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _timestamp(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    whole, rest = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{rest:03d}Z"


def _printable(value: Any, *, quote: bool = True) -> str:
    text = str(value)
    if not text.isprintable():
        # A control character must not reach a terminal, not even one that JSON would leave as it is.
        text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return orjson.dumps(text).decode() if quote and (not text or " " in text or "\\" in text) else text


def configure(
    level: str, form: Literal["auto", "json", "text"], worker: int | None = None
) -> Callable[[], None]:
    """Send the logs of Weir and of its libraries to stderr. `auto` is text on a terminal, else JSON.

    With a number each line says which worker it is from. A thread writes from now on, so a process that is to
    be forked must not call this. Returns what writes out all that waits: it is called at exit, but a forked
    process has no such exit.
    """
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_TextFormatter(worker) if text else _JsonFormatter(worker))
    handler = _Handler(queue.Queue(QUEUE))
    listener = QueueListener(handler.queue, stream)
    listener.start()
    stopped = False

    def write_out() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            listener.stop()

    atexit.register(write_out)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries at INFO tell URLs and connection chatter
    log.setLevel(level.upper())
    # The servers' own INFO lines say nothing that ours do not.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return write_out
