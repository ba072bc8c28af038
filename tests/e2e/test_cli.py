"""How the command ends: with the right status, and one line that helps for each thing that is wrong."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, chunk, event, last_chunk, sse_head
from tests.faults.wire import until
from tests.ports import free_ports

from .command import Command, Ended, run, run_any
from .either import sdk

SECRET = "sk-upstream-0123456789"
DATA, MANAGEMENT, FREE = free_ports(3)
LISTEN = f"listen: 127.0.0.1:{DATA}\nmanagement: 127.0.0.1:{MANAGEMENT}\n"


def serve(folder: Path, config: str | None, *arguments: str, env: dict[str, str] | None = None) -> Ended:
    """A start that must fail."""
    if config is not None:
        (folder / "weir.yaml").write_text(config)
    return run("-m", "proxy", "serve", *arguments, folder=folder, env=env)


def tells(ended: Ended, lines: list[list[str]]) -> None:
    """A refusal: status 2, a line for each problem, in it all that somebody needs to mend it."""
    assert (ended.status, ended.stdout) == (2, "")
    told = ended.stderr.splitlines()
    assert len(told) == len(lines), ended.stderr
    for line, words in zip(told, lines, strict=True):
        assert line.startswith("weir: ")
        assert [word for word in words if word not in line] == [], line
    assert SECRET not in ended.stderr


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        (f"lisen: 127.0.0.1:{DATA}\n", [["weir.yaml:1: ", "lisen", 'did you mean "listen"?']]),
        (
            LISTEN + "upstreams:\n- base_url: http://127.0.0.1:1/v1\n  timeouts:\n    conect: 5s\n",
            [["weir.yaml:6: ", "upstreams[0].timeouts.conect", 'did you mean "connect"?']],
        ),
        (LISTEN + "plugins: [oauth]\n", [["weir.yaml:3: ", '"oauth"', 'did you mean "auth"?']]),
        (
            LISTEN + "plugins:\n- use: auth\n  kees: []\n",
            [["weir.yaml:5: ", "plugins", "kees", 'did you mean "keys"?']],
        ),
        (
            LISTEN + f"plugins:\n- use: auth\n  keys:\n  - user: a\n    kee: {SECRET}\n",
            [["weir.yaml:", "plugins", "keys[0]", "kee", "key"]],
        ),
        (
            LISTEN + f"upstreams: [{{base_url: 'http://localhost:{DATA}/v1'}}]\n",
            [["weir.yaml:3: ", "upstreams[0].base_url", "Weir's own address", f"127.0.0.1:{DATA}"]],
        ),
        (
            f"listen: 192.0.2.1:{DATA}\nupstreams: [{{base_url: 'http://127.0.0.1:1', api_key: {SECRET}}}]\n",
            [[f"192.0.2.1:{DATA}", "outside", "upstream key", "allow_open"]],
        ),
        (
            "listn: 1\nlog: {level: loud}\n",
            [["weir.yaml:1: ", "listn", '"listen"'], ["weir.yaml:2: ", "log.level", '"loud"', "info"]],
        ),
        ("listen: [\n", [["weir.yaml:", "not valid YAML"]]),
    ],
    ids=["key", "nested key", "plugin", "plugin's key", "key's key", "itself", "open", "two", "yaml"],
)
def test_bad_configuration(tmp_path: Path, config: str, lines: list[list[str]]) -> None:
    tells(serve(tmp_path, config), lines)


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (("--config", "nope.yaml"), {}, ["nope.yaml", "no such file"]),
        ((), {"PORT": "http"}, ["PORT", '"http"', "port number"]),
        ((), {"OPENAI_BASE_URL": "ftp://x"}, ["OPENAI_BASE_URL", "http"]),
        (
            (),
            {"HOST": "192.0.2.1", "PORT": str(DATA), "OPENAI_API_KEY": SECRET},
            [f"192.0.2.1:{DATA}", "outside", "upstream key", "allow_open"],
        ),
        (
            ("--port", str(DATA)),
            {"OPENAI_BASE_URL": f"http://127.0.0.1:{DATA}/v1"},
            ["OPENAI_BASE_URL", "Weir's own address", f"127.0.0.1:{DATA}"],
        ),
    ],
    ids=["no file", "port", "url", "open", "itself"],
)
def test_bad_surroundings(tmp_path: Path, arguments: Any, env: dict[str, str], words: list[str]) -> None:
    tells(serve(tmp_path, None, *arguments, env={"PORT": str(FREE), **env}), [words])


def test_bad_option(tmp_path: Path) -> None:
    ended = serve(tmp_path, None, "--prot", "1")
    assert (ended.status, ended.stdout) == (2, "")
    assert "No such option '--prot'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


@pytest.mark.parametrize("which", ["listen", "management"])
def test_port_taken(tmp_path: Path, taken: int, which: str) -> None:
    ports = {"listen": FREE, "management": MANAGEMENT, which: taken}
    config = "".join(f"{name}: 127.0.0.1:{port}\n" for name, port in ports.items())
    ended = serve(tmp_path, config)
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"weir: cannot listen on 127.0.0.1:{taken}: Address already in use; ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("which", ["listen", "management"])
def test_hint_for_a_port_taken_is_for_that_port(tmp_path: Path, taken: int, which: str) -> None:
    """`--port` moves the data port alone, where the file names both."""
    ports = {"listen": FREE, "management": MANAGEMENT, which: taken}
    ended = serve(tmp_path, "".join(f"{name}: 127.0.0.1:{port}\n" for name, port in ports.items()))
    assert ("--port" in ended.stderr) == (which == "listen")


async def test_second_weir_on_the_same_port(tmp_path: Path) -> None:
    """It is told, instead of sharing the port."""
    async with Process() as weir:
        (tmp_path / "weir.yaml").write_bytes((weir.folder / "weir.yaml").read_bytes())
        ended = await asyncio.to_thread(serve, tmp_path, None)
        assert ended.status == 1
        assert f"cannot listen on 127.0.0.1:{weir.port}: Address already in use" in ended.stderr
        assert (await weir.get("/v1/models")).status == 200


def test_check(tmp_path: Path) -> None:
    (tmp_path / "weir.yaml").write_text(
        LISTEN + f"upstreams: [{{base_url: 'http://h:1/v1', api_key: {SECRET}}}]\n"
    )
    ended = run("-m", "proxy", "check", folder=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    assert f"127.0.0.1:{DATA}" in ended.stdout
    assert SECRET not in ended.stdout


def weir(folder: Path, *arguments: str, stdin: str = "") -> str:
    """A command that must go well; what it prints."""
    ended = run("-m", "proxy", *arguments, folder=folder, stdin=stdin)
    assert (ended.status, ended.stderr) == (0, "")
    return ended.stdout


def test_from_nothing_to_a_running_weir(tmp_path: Path) -> None:
    assert "wrote weir.yaml" in weir(tmp_path, "init")
    assert weir(tmp_path, "check").endswith("\nok\n")
    assert weir(tmp_path, "schema") == (tmp_path / "weir.schema.json").read_text()
    config = (tmp_path / "weir.yaml").read_bytes()
    again = run("-m", "proxy", "init", folder=tmp_path)
    assert (again.status, again.stdout) == (1, "")
    assert again.stderr == "weir: weir.yaml is there already; --force writes over it\n"
    assert (tmp_path / "weir.yaml").read_bytes() == config
    # As it is, but on a port of the test's own.
    port = str(FREE)
    with Command(
        "-m", "proxy", "serve", "--port", port, folder=tmp_path, env={"WEIR_MANAGEMENT": "off"}
    ) as it:
        it.wait_listening(FREE)
        answer = httpx2.get(f"http://127.0.0.1:{FREE}/v1/models", trust_env=False)
        assert answer.status_code == 200


def test_a_request_is_counted(tmp_path: Path) -> None:
    body = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}'
    assert "input tokens   9 (o200k_base)" in weir(tmp_path, "tokens", "-", stdin=body)


def test_what_is_installed_is_listed(tmp_path: Path) -> None:
    assert "auth" in weir(tmp_path, "plugins")


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -m proxy schema | true"
    ended = run_any("bash", "-c", script, folder=tmp_path)
    assert (ended.stdout, ended.stderr) == ("", "")


# Signals


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def piece(number: int) -> bytes:
    choice = {"index": 0, "delta": {"content": str(number)}, "finish_reason": None}
    return chunk(event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}))


@asynccontextmanager
async def streaming(weir: Process, up: RawUpstream) -> AsyncIterator[tuple[Conn, Any]]:
    """A stream whose first piece has come."""
    async with (
        sdk("async", f"http://127.0.0.1:{weir.port}/v1") as client,
        asyncio.timeout(20),
    ):
        asking = asyncio.create_task(client.chat.completions.create(model="gpt-4o", messages=[], stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + piece(0))
        stream = await asking
        assert (await anext(stream)).choices[0].delta.content == "0"
        yield conn, stream


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_running_stream_finishes(number: int, status: int) -> None:
    async with RawUpstream() as up, Process(up.base_url) as weir:
        async with streaming(weir, up) as (conn, stream):
            weir.signal(number)
            await weir.logged(event="shutting down", in_flight=1)
            await until(lambda: not accepts(weir.port), 2.0, "the port to close")
            for index in range(1, 5):
                await conn.send(piece(index))
                await asyncio.sleep(0.05)
            assert weir.alive
            await conn.send(chunk(b"data: [DONE]\n\n") + last_chunk)
            rest = [item.choices[0].delta.content async for item in stream]
            assert rest == ["1", "2", "3", "4"]
        assert await weir.wait(timeout=3.0) == status
        line = await weir.logged(event="request", path="/v1/chat/completions")
        assert (line["end_reason"], line["end_code"]) == ("complete", "completed")
        assert "Traceback" not in weir.stderr


async def test_stream_that_goes_on_for_too_long() -> None:
    """After the grace it ends with an event that says why, never as if it were complete."""
    async with RawUpstream() as up, Process(up.base_url, config={"drain": {"grace": "300ms"}}) as weir:
        async with streaming(weir, up) as (conn, stream):
            weir.signal(signal.SIGTERM)
            with pytest.raises(openai.APIError) as error:
                await anext(stream)
            assert type(error.value) is openai.APIError
            assert (error.value.code, error.value.message) == ("server_shutdown", "Weir is shutting down.")
            await conn.wait_closed(timeout=2.0)
        assert await weir.wait(timeout=3.0) == 143
        assert (await weir.logged(event="request"))["end_reason"] == "shutdown"


@pytest.mark.fault("F8")
async def test_second_signal_forces() -> None:
    async with RawUpstream() as up, Process(up.base_url) as weir:
        async with streaming(weir, up) as (_, stream):
            weir.signal(signal.SIGINT)
            await weir.logged(event="shutting down")
            weir.signal(signal.SIGINT)
            with pytest.raises(openai.APIError):
                await anext(stream)
        assert await weir.wait(timeout=3.0) == 130


async def test_idle_connections_do_not_hold_it_up() -> None:
    async with Process() as weir, sdk("async", f"http://127.0.0.1:{weir.port}/v1") as client:
        await client.models.list()
        start = asyncio.get_running_loop().time()
        assert await weir.stop() == 143
        assert asyncio.get_running_loop().time() - start < 3.0
