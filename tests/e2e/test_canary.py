"""Secrets canaries: what nobody may read again is planted wherever it can come in, and looked for wherever
something is written down.

A real server with every plugin, at debug level, is asked rightly and wrongly, by whole and broken upstreams;
then everything that it, its crashes and its commands have left behind is searched: `WRITTEN` says where.
"""

import asyncio
import secrets
import signal
import sqlite3
import string
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from proxy.cli import main
from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, json_answer, sse
from tests.plugins.auth.issuer import NAME, SigningKey, key_set
from tests.plugins.tracing.collector import Collector

from .command import run

pytestmark = pytest.mark.slow

PART = 8
"""Characters of each part of a canary that is looked for: so any 15 in a row are a leak."""
PLUGINS = ("tracing", "auth", "validate", "precost", "limiter", "annotate")

LEAKY = '''
import logging

from proxy.api import Plugin


class Crashes(Plugin):
    """Raises what it has read, as plugins do."""

    on_error = "skip"

    async def on_request(self, ex):
        if "x-crash" in ex.request.headers:
            raise RuntimeError((await ex.request.read()).decode(errors="replace"), ex.request.headers.raw)

    async def on_end(self, ex, end):
        if "x-crash" in ex.request.headers:
            raise ValueError(await ex.request.read()) from KeyError(str(ex.request.headers.raw))


class Leaks(Plugin):
    """Logs half of a prompt."""

    async def on_request(self, ex):
        body = (await ex.request.read()).decode()
        text = body[body.index("Is it ") + 9 :][:16]
        logging.getLogger("weir.leaky").debug("seen", extra={"fields": {"text": text}})
'''


def leaks(text: bytes, planted: Mapping[str, str]) -> list[str]:
    """The names of canaries that any part of can be read in a text: as they are, or in hexadecimal."""
    found = []
    for name, canary in planted.items():
        parts = (canary[at : at + PART].encode() for at in range(0, len(canary) - PART + 1, PART))
        if any(part in text or part.hex().encode() in text for part in parts):
            found.append(name)
    return found


def new_canary() -> str:
    """32 letters and digits, so that no escaping hides it."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32))


class Canaries:
    """A new one for each name that is asked for."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return self.planted.setdefault(name, new_canary())

    def key(self, name: str) -> str:
        """One in the shape of an API key."""
        return f"sk-{self[name]}"


@dataclass
class Scene:
    """A server that has had its day, and what can be read of it."""

    server: Process
    up: RawUpstream
    collector: Collector
    folder: Path
    canaries: Canaries
    keys: dict[str, str]
    errors: list[bytes] = field(default_factory=list)
    """Weir's own answers: heads and bodies."""
    pages: list[bytes] = field(default_factory=list)
    """What the management port and our own endpoints have answered."""


def _logs(scene: Scene) -> Iterator[bytes]:
    yield scene.server.stderr.encode()


def _spans(scene: Scene) -> Iterator[bytes]:
    assert scene.collector.spans, "no span came: there is nothing to look at"
    yield from scene.collector.raw


def _errors(scene: Scene) -> Iterator[bytes]:
    assert len(scene.errors) > 5
    yield from scene.errors


def _pages(scene: Scene) -> Iterator[bytes]:
    assert any(b"weir_limiter_decisions_total" in page for page in scene.pages), "no metrics"
    yield from scene.pages


def _rows(scene: Scene) -> Iterator[bytes]:
    """Every table of the database, as text, and every file of the state folder, as it is: keys, audit, the
    ledger's rows and its journal."""
    tables = 0
    with sqlite3.connect(f"file:{scene.folder / 'weir.db'}?mode=ro", uri=True) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f"SELECT * FROM {name}"):  # noqa: S608 # a name of the database's own
                tables += 1
                yield repr(row).encode()
    connection.close()
    assert tables > 3
    yield from _files(scene.folder)


WRITTEN: Mapping[str, Callable[[Scene], Iterator[bytes]]] = {
    "logs": _logs,
    "spans": _spans,
    "errors": _errors,
    "pages": _pages,
    "rows": _rows,
}
"""Everything that outlives a request. Whoever adds something that does adds it here."""


def _files(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.read_bytes()


# -- the upstream, whole and broken --------------------------------------------------------------------------


def upstream(canaries: Canaries) -> Callable[[Conn], Any]:
    """Answers as the request's `x-do` says; whatever it says holds a canary."""

    def completion(name: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": f"Yes: {canaries[name]}."}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {
            "id": "x",
            "object": "chat.completion",
            "model": "gpt-4o",
            "choices": [choice],
            "usage": usage,
        }

    def delta(name: str) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"content": canaries[name]}, "finish_reason": None}
        return {"id": "x", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": [choice]}

    async def script(conn: Conn) -> None:
        while True:
            request = await conn.request()
            does = (request.all("x-do") or [b""])[0]
            cookie = [("set-cookie", f"session={canaries['answer cookie']}")]
            if does == b"stream":
                await conn.send(sse(delta("streamed completion"), delta("streamed completion")))
            elif does == b"break":
                await conn.send(sse(delta("broken completion"), done=False)[:-5])
                conn.reset()
                return
            elif does == b"fail":
                said = {"error": {"message": canaries["upstream error"], "type": "server_error"}}
                await conn.send(json_answer(said, 500, cookie))
            elif does == b"garbage":
                await conn.send(f"HTTP/9.9 {canaries['garbage']}\r\n{canaries['garbage']}\r\n\r\n".encode())
                conn.close()
                return
            elif does == b"header":
                line = f"x-bad: {canaries['bad header']}\x00"
                await conn.send(f"HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 0\r\n\r\n".encode())
                conn.close()
                return
            elif does == b"notjson":
                body = f"{{not json {canaries['broken json']}".encode()
                length = b"content-length: %d" % len(body)
                await conn.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%b\r\n\r\n" % length + body
                )
            else:
                await conn.send(json_answer(completion("completion"), headers=cookie))

    return script


# -- the day of a server -------------------------------------------------------------------------------------


@asynccontextmanager
async def day(folder: Path, *more: Any, plugins: tuple[Any, ...] = ()) -> AsyncIterator[Scene]:
    """A server with every plugin, everything planted, and asked for all that it can do."""
    canaries = Canaries()
    signer = SigningKey("ES256", "e")
    work, state = folder / "work", folder / "state"
    for each in (work, state, folder / "keys"):
        each.mkdir()
    (folder / "jwks.json").write_bytes(key_set(signer))
    (folder / "keys" / "bob").write_text(canaries.key("mounted key"))
    (work / "leaky.py").write_text(LEAKY)
    made = run(
        "-m", "proxy", "keys", "create", "--user", "carol", folder=work, env={"WEIR_STATE_DIR": str(state)}
    )
    assert made.status == 0, made.stderr
    keys = {
        "configured": canaries.key("configured key"),
        "mounted": canaries.key("mounted key"),
        "database": made.stdout.strip(),
        "token": signer.sign(sub="dave", secret=canaries["claim"]),
    }
    canaries.planted["database key"] = keys["database"].removeprefix("weir_sk_")
    canaries.planted["token"] = keys["token"].split(".")[2]
    auth = {
        "use": "auth",
        "keys": [{"user": "alice", "key": keys["configured"], "models": ["gpt-4o*", "gpt-3*"]}],
        "keys_dir": str(folder / "keys"),
        "store": "database",
        "jwt": {"issuer": NAME, "audience": "weir", "jwks": str(folder / "jwks.json")},
    }
    options: dict[str, Any] = {
        "auth": auth,
        "limiter": {"use": "limiter", "limits": [{"name": "most", "requests": "1000/minute", "per": "key"}]},
    }
    chain: list[Any] = [options.get(name, name) for name in PLUGINS]
    chain.insert(2, "plugins.ledger:Ledger")
    config = {
        "plugins": [*chain, "leaky:Crashes", *plugins],
        "log": {"level": "debug", "format": "json"},
        "state_dir": str(state),
        "management_token": canaries["management token"],
        "limits_http": {"json_body": "20KiB"},
        "default_models": {"images/generations": "dall-e-3"},
    }
    with Collector() as collector:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "PYTHONPATH": str(work),
            "PYTHONFAULTHANDLER": "1",
        }
        async with RawUpstream(upstream(canaries)) as up:
            upstream_key = {"api_key": canaries.key("upstream key")}
            async with Process(up.base_url, upstream=upstream_key, config=config, env=env) as server:
                scene = Scene(server, up, collector, state, canaries, keys)
                await _ask_all(scene)
                async with asyncio.timeout(10):
                    while not any(span.kind == "CLIENT" for span in collector.spans):
                        await asyncio.sleep(0.02)
                yield scene


def _sent(scene: Scene, name: str, **headers: str) -> dict[str, Any]:
    """A request with canaries all over it, for the client."""
    c = scene.canaries
    return {
        "headers": {
            "authorization": f"Bearer {scene.keys['configured']}",
            "cookie": f"session={c['cookie']}",
            "x-secret": c["header"],
            "x-api-key": c["x-api-key"],
            "referer": f"https://a.test/{c['referer']}",
            **{header.replace("_", "-"): value for header, value in headers.items()},
        },
        "params": {"api_key": c["query"]},
        "json": {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": c["system prompt"]},
                {"role": "user", "content": f"Is it {c[name]}?", "name": c["name"]},
                {"role": "tool", "tool_call_id": "t", "content": c["tool result"]},
            ],
            "tools": [
                {"type": "function", "function": {"name": c["tool"], "parameters": {"x": c["schema"]}}}
            ],
            "metadata": {"note": c["metadata"]},
            "stop": [c["stop"]],
        },
    }


async def _ask_all(scene: Scene) -> None:
    c, server = scene.canaries, scene.server
    data, admin = f"http://127.0.0.1:{server.port}", f"http://127.0.0.1:{server.management}"
    chat = f"{data}/v1/chat/completions"
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as http:
        # Everybody who may, in every way.
        for name, key in scene.keys.items():
            sent = _sent(scene, f"prompt of {name}", authorization=f"Bearer {key}")
            answer = await http.post(chat, **sent)
            assert answer.status_code == 200, answer.text
        for does in ("stream", "fail", "notjson"):
            sent = _sent(scene, f"prompt to {does}", x_do=does)
            await http.post(chat, **{**sent, "json": {**sent["json"], "stream": does == "stream"}})
        dry = await http.post(chat, **_sent(scene, "dry prompt", x_weir_dry_run="true"))
        assert dry.status_code == 200, dry.text
        # What breaks on the way back.
        for does in ("break", "garbage", "header"):
            sent = _sent(scene, f"prompt to {does}", x_do=does)
            with suppress(httpx2.TransportError):
                answer = await http.post(chat, **{**sent, "json": {**sent["json"], "stream": True}})
                if does != "break":
                    _own(scene, answer)
        # Plugins that fail.
        crashed = await http.post(chat, **_sent(scene, "prompt of a crash", x_crash="1"))
        assert crashed.status_code == 200
        # What is refused.
        wrong = [
            _sent(scene, "prompt 1", authorization=f"Bearer {c.key('wrong key')}"),
            _sent(scene, "prompt 2", authorization=f"Basic {c['basic']}"),
            _sent(scene, "prompt 3", api_key=c["second key"]),
            _sent(scene, "prompt 4", authorization=f"Bearer {scene.keys['token'][:-9]}{c['forged']}"),
            _sent(scene, "prompt 5", x_weir_dry_run=c["dry run"]),
            _sent(scene, "prompt 6", expect=c["expectation"]),
        ]
        for sent in wrong:
            _own(scene, await http.post(chat, **sent))
        sent = _sent(scene, "prompt 7")
        bodies = {
            "messages": {"model": "gpt-4o", "messages": c["no messages"]},
            "temperature": {**sent["json"], "temperature": c["no temperature"]},
            "model": {**sent["json"], "model": {"x": c["no model"]}},
            "large": {**sent["json"], "more": c["large body"] * 1000},
        }
        for body in bodies.values():
            _own(scene, await http.post(chat, **{**sent, "json": body}))
        del sent["json"]
        broken = f'{{"messages": {c["broken body"]}'.encode()
        _own(scene, await http.post(chat, **sent, content=broken))
        files = {"file": (f"{c['file name']}.wav", c["file"].encode())}
        _own(scene, await http.post(f"{data}/v1/audio/transcriptions", **sent, files=files))
        own_key = {"authorization": f"Bearer {scene.keys['database']}"}
        await http.post(f"{data}/v1/files", headers=own_key, files=files)
        # Ours.
        for path in ("/models", "/rate-limit/status", "/health", "/usage"):
            scene.pages.append((await http.get(data + path, **sent)).content)
        token = {"authorization": f"Bearer {c['management token']}"}
        listed = (await http.get(f"{admin}/keys", headers=token)).json()["data"]
        for path in (
            "/metrics", "/healthz", "/readyz", "/openapi.json", "/inflight", "/keys", "/keys/audit",
            f"/keys/{listed[0]['id']}", "/usage",
        ):  # fmt: skip
            scene.pages.append((await http.get(admin + path, headers=token)).content)
        refused = await http.get(f"{admin}/keys", headers={"authorization": f"Bearer {c['wrong token']}"})
        _own(scene, refused)
        for said in ({"user": "x", "key": c["own key"]}, {"user": "x", "limits": [{c["limit"]: 1}]}):
            # A field's name is told back to who has sent it; that goes to nobody else.
            await http.post(f"{admin}/keys", headers=token, json=said)
        rotated = await http.post(f"{admin}/keys/{listed[0]['id']}/rotate", headers=token)
        c.planted["rotated key"] = rotated.json()["key"].removeprefix("weir_sk_")


def _own(scene: Scene, answer: httpx2.Response) -> None:
    """An answer that Weir made itself: an error."""
    assert answer.status_code >= 400, answer.text
    assert "x-weir-request-id" in answer.headers or "error" in answer.json()
    scene.errors += [answer.content, str(answer.headers.raw).encode()]


# -- the tests -----------------------------------------------------------------------------------------------


@pytest.mark.fault("G6", "I3")
async def test_nothing_secret_is_written_down(tmp_path: Path) -> None:
    async with day(tmp_path) as scene:
        scene.server.signal(signal.SIGHUP)  # a reload tells what it loads
        await scene.server.logged(10, event="configuration reloaded")
        # The crash of a process, with the traces of all that runs in it.
        scene.server.signal(signal.SIGABRT)
        await scene.server.wait()
        assert "Fatal Python error: Aborted" in scene.server.stderr
        assert '"event":"a plugin failed"' in scene.server.stderr
        planted = scene.canaries.planted
        assert len(planted) > 50
        for place, texts in WRITTEN.items():
            text = b"\n".join(texts(scene))
            assert text, place
            assert leaks(text, planted) == [], place


@pytest.mark.fault("I3")
async def test_a_planted_leak_is_found(tmp_path: Path) -> None:
    """Else the test above would prove nothing. Half of one prompt is enough."""
    async with day(tmp_path, plugins=("leaky:Leaks",)) as scene:
        await scene.server.logged(event="seen")
        found = leaks(scene.server.stderr.encode(), scene.canaries.planted)
        assert any("prompt" in name for name in found)


def test_a_part_of_a_canary_is_a_leak_and_other_text_is_not() -> None:
    canary = new_canary()
    planted = {"key": canary}
    for at in range(len(canary) - 14):
        assert leaks(b"..." + canary[at : at + 15].encode() + b"...", planted) == ["key"]
    assert leaks(b"..." + canary.encode().hex().encode(), planted) == ["key"]
    assert leaks(canary[1:8].encode() + b"..." + canary[9:16].encode(), planted) == []
    assert leaks(b"", planted) == []


WRONG = [
    "management_token: {canary: {CANARY}}",
    "management_token: [CANARY]",
    "upstreams: [{base_url: 'https://user:CANARY@up.test/v1', api_key: CANARY}]",
    "upstreams: [{base_url: 'ftp://up.test/v1', api_key: CANARY}]",
    "upstreams: [{base_url: 'https://up.test/v1', api_key: [CANARY]}]",
    "upstreams: [{base_url: 'https://up.test/v1', proxy: 'odd://user:CANARY@proxy.test:1'}]",
    "plugins: [{use: auth, keys: [{user: a, key: CANARY}, {user: b, key: CANARY}]}]",
    "plugins: [{use: auth, keys: [{user: [], key: CANARY}]}]",
    "plugins: [{use: auth, keys: [{key: CANARY}]}]",
    "plugins: [{use: auth, keys: CANARY}]",
    "plugins: [{use: auth, keys: [CANARY]}]",
    "plugins: [{use: auth, jwt: {issuer: a, audience: b, jwks: 'https://user:CANARY@a.test/'}}]",
]


@pytest.mark.parametrize("config", WRONG)
@pytest.mark.fault("G6")
def test_a_configuration_that_is_wrong_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    canary = new_canary()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weir.yaml").write_text(config.replace("{CANARY}", canary).replace("CANARY", canary) + "\n")
    ended = CliRunner().invoke(main, ["check"])
    assert ended.exit_code == 2, ended.output
    assert ended.stderr
    assert leaks(ended.output.encode(), {"canary": canary}) == []


@pytest.mark.fault("G6")
def test_a_start_that_fails_tells_no_secret(tmp_path: Path) -> None:
    canary = new_canary()
    (tmp_path / "weir.yaml").write_text(
        f"database: 'odd://user:{canary}@db.test/weir'\nplugins: [{{use: auth, store: database}}]\n"
    )
    ended = run("-m", "proxy", "serve", folder=tmp_path, env={"WEIR_LOG_LEVEL": "debug", "PORT": "0"})
    assert ended.status in (1, 2), ended.stderr
    assert "odd is not known here" in ended.stderr
    assert leaks((ended.stdout + ended.stderr).encode(), {"canary": canary}) == []
