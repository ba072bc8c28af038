"""Notices that a configuration has changed: its file, what that refers to, prices and certificates.

By content, looked at every few seconds, through every link on the way: Kubernetes swaps a link to a folder
when a ConfigMap or Secret changes, of which inotify on the file says nothing.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from proxy.core.config import Settings

LARGEST = 8 * 1024 * 1024
"""Bytes of a file that are looked at."""

_REFERENCE = re.compile(rb"\$\{file:([^{}\n]+)\}")


class Changes:
    """Calls `changed` for each change, when all files have been the same at two looks; a context manager.

    It is called again, at the next look, while it returns False. Whoever reads the files for another reason
    tells so by `seen`. Without `every` (seconds) nothing is looked at.
    """

    def __init__(
        self, files: Callable[[], Iterable[Path]], every: float | None, changed: Callable[[], bool]
    ) -> None:
        self._files = files
        self._every = every
        self._changed = changed
        self._known = b""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.seen()
        if self._every is not None:
            self._task = asyncio.get_running_loop().create_task(self._watch(self._every))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def seen(self) -> None:
        """The files as they are now are known, or about to be."""
        if self._every is not None:
            self._known = await asyncio.to_thread(self._look)

    async def _watch(self, every: float) -> None:
        before = self._known
        while True:
            await asyncio.sleep(every)
            # In a thread: a mounted file system may hang.
            now = await asyncio.to_thread(self._look)
            if now == before and now != self._known and self._changed():
                self._known = now
            before = now

    def _look(self) -> bytes:
        found = hashlib.sha256()
        for file in self._files():
            found.update(str(file).encode("utf-8", "surrogateescape") + b"\0" + _digest(file))
        return found.digest()


def _digest(file: Path) -> bytes:
    return hashlib.sha256(_content(file) or b"").digest()


def _content(file: Path) -> bytes | None:
    with suppress(OSError, ValueError), file.open("rb") as opened:
        return opened.read(LARGEST)
    return None


def files_of(path: Path | None, settings: Settings) -> Iterator[Path]:
    """The files that a configuration is made of: its own, those it refers to, its prices and certificates."""
    if path is not None:
        yield path
        for name in sorted(set(_REFERENCE.findall(_content(path) or b""))):
            yield path.parent / name.decode("utf-8", "surrogateescape")
    if settings.pricing is not None:
        yield settings.pricing
    for upstream in settings.upstreams:
        yield from (
            file for file in (upstream.tls.ca, upstream.tls.cert, upstream.tls.key) if file is not None
        )
