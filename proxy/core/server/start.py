"""From settings to a running Weir: sockets, chain, demo upstream, and the banner that says so."""

import asyncio
import os
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from proxy import __version__
from proxy.core import log as logs
from proxy.core import pricing
from proxy.core.chain import Chain
from proxy.core.config import Address, Settings, UpstreamSettings
from proxy.core.log import log
from proxy.core.server import arenas, cores
from proxy.core.server.changes import Changes
from proxy.core.server.origin import Load, Origin, made, reload
from proxy.core.server.reloads import Reloads
from proxy.core.server.run import Listener, StartError, Weir, listen, listener, loop_factory

__all__ = ["StartError", "run", "serve", "serve_with_workers"]

_OTHER_MANAGEMENT = "choose another management port with WEIR_MANAGEMENT=127.0.0.1:PORT (or off)"


def run(load: Load, source: str, path: Path | None = None) -> int:
    """Serve until a signal; returns its number. SIGHUP loads the configuration anew.

    In this process, or, with `workers` above 1, in that many others. `source` is what messages call the
    configuration, `path` its file, to be watched. Raises `ConfigError` or `StartError`.
    """
    cores.forbid()
    arenas.limit()
    settings = load()
    if settings.workers > 1:
        return serve_with_workers(settings, load, source, path)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(serve(load, source, path))


class _Sockets(ExitStack):
    """What a Weir listens on, bound before anything starts; closed at the end."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        with ExitStack() as failing:
            failing.callback(self.close)
            self.data = self.enter_context(listen(settings.listen))
            self.admin = (
                None
                if settings.management is None
                else self.enter_context(listen(settings.management, _OTHER_MANAGEMENT))
            )
            self.demo = None if settings.upstreams else self.enter_context(listen(Address("127.0.0.1", 0)))
            failing.pop_all()

    @property
    def upstream(self) -> UpstreamSettings | None:
        """The demo upstream, where there is one."""
        if self.demo is None:
            return None
        return UpstreamSettings(name="demo", base_url=f"http://127.0.0.1:{self.demo.getsockname()[1]}/v1")


async def serve(load: Load, source: str, path: Path | None = None) -> int:
    """Serve in this process until a signal; returns its number. Raises `ConfigError` or `StartError`."""
    origin = Origin(load, source, path)
    settings = origin.settings()
    logs.configure(settings.log.level, settings.log.format)
    chain = origin.chain(settings)
    prices = pricing.load(settings.pricing)
    with _Sockets(settings) as sockets:
        origin.demo = sockets.upstream
        settings = origin.with_demo(settings)
        async with _Demo(sockets.demo):
            app = made(settings, chain, prices)
            reloads = Reloads()
            app.server.metrics.register(reloads)
            weir = Weir(app, sockets.data, sockets.admin)
            changes = Changes(lambda: origin.files(app.settings), settings.watch, weir.reload)

            async def reload_it() -> None:
                await changes.seen()
                changed = await reload(app, origin)
                if changed is None:
                    reloads.failed()
                else:
                    reloads.done()
                    changed.tell()

            try:
                async with changes:
                    return await weir.run(lambda: _tell(sockets, settings, chain), reload_it)
            except Exception as error:
                if app.setup is None:
                    raise origin.not_started(error) from error
                raise


def serve_with_workers(settings: Settings, load: Load, source: str, path: Path | None = None) -> int:
    """Serve in as many processes as `settings.workers`, under this one; otherwise as `serve`.

    Call it while there is neither a thread nor an event loop: the process forks.
    """
    if not hasattr(os, "fork"):
        raise StartError("this system cannot fork: run with one worker")
    from proxy.core.server import forkserver  # only who needs them pays for them
    from proxy.core.server.parent import Parent
    from proxy.core.server.worker import work

    origin = Origin(load, source, path)
    chain = origin.chain(settings)
    prices = pricing.load(settings.pricing)
    with _Sockets(settings) as sockets:
        origin.demo = sockets.upstream
        settings = origin.with_demo(settings)
        _preload(settings)
        template = forkserver.Template(origin, settings, prices)
        listening = Address(*sockets.data.getsockname()[:2])
        alone = [sock for sock in (sockets.admin, sockets.demo) if sock is not None]
        fork_server, pid = forkserver.fork(work, template, sockets.data, alone)
        try:
            sockets.data.close()  # theirs alone: when all have closed it, nobody can connect
            logs.configure(settings.log.level, settings.log.format)

            async def serve_all() -> int:
                async with _Demo(sockets.demo):
                    parent = Parent(settings, fork_server, sockets.admin, origin.files(settings))
                    return await parent.run(lambda: _tell(sockets, settings, chain, listening))

            # asyncio's own loop: uvloop keeps SIGCHLD for itself, and nothing here has to be fast.
            return asyncio.run(serve_all())
        finally:
            fork_server.close()
            forkserver.joined(pid)


def _preload(settings: Settings) -> None:
    """Load the vocabularies that a plugin would load at its start: once, and for all processes."""
    if any(plugin.options.get("preload") is True for plugin in settings.plugins or ()):
        from proxy.pricing import tokens
        from proxy.pricing.vocabulary import VocabularyError

        with suppress(VocabularyError):  # whoever counts will say so
            tokens.preload()


def _tell(sockets: _Sockets, settings: Settings, chain: Chain, listening: Address | None = None) -> None:
    upstream = settings.upstreams[0]
    address = str(listening or Address(*sockets.data.getsockname()[:2]))
    fields: dict[str, Any] = {
        "listen": address,
        "management": str(Address(*sockets.admin.getsockname()[:2])) if sockets.admin else None,
        "upstream": upstream.name,
        "plugins": ",".join(plugin.name for plugin in chain.plugins),
        "version": __version__,
    }
    if settings.workers > 1:
        fields["workers"] = settings.workers
    log.info("listening", extra={"fields": fields})
    if sockets.demo is not None or sys.stdout.isatty():
        sys.stdout.write(banner(address, upstream, demo=sockets.demo is not None))
        sys.stdout.flush()


def banner(address: str, upstream: UpstreamSettings, *, demo: bool) -> str:
    """What a person who starts Weir on a terminal reads: where it is and how to use it."""
    host, _, port = address.rpartition(":")
    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}/v1"  # noqa: S104
    where = (
        "the built-in demo upstream (no OPENAI_API_KEY is set: answers are made up, and cost nothing)"
        if demo
        else f"{upstream.name} at {upstream.base_url}"
    )
    return f"""
Weir {__version__} listens on {url}
and forwards to {where}.

Ask it with curl:

curl {url}/chat/completions -H 'content-type: application/json' \\
  -d '{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

or with the OpenAI SDK (pip install openai):

from openai import OpenAI

client = OpenAI(base_url="{url}", api_key="{"demo" if demo else "your key"}")
stream = client.chat.completions.create(
    model="gpt-4o-mini", stream=True, messages=[{{"role": "user", "content": "Hello!"}}]
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)

Ctrl-C stops it.

"""


class _Demo:
    """The demo upstream on a socket, in this process; nothing without one."""

    def __init__(self, sock: socket.socket | None) -> None:
        self._sock = sock
        self._server: Listener | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        if self._sock is None:
            return
        from proxy.demo import create_app  # only who needs it pays for it

        server = self._server = listener(create_app())
        self._task = asyncio.get_running_loop().create_task(server.serve(sockets=[self._sock]))
        while not server.started and not self._task.done():
            await asyncio.sleep(0.005)

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._task
