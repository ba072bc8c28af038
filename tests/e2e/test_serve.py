"""`make run` for somebody new: what the banner says can be pasted, and works."""

import os
import pty
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import orjson
import pytest

from tests.faults.upstream import RawUpstream, answer, json_answer
from tests.ports import free_ports

from .command import Command, run, run_any, two_ports
from .either import NO_TLS, sdk
from .twins import comparable

UPSTREAM = "sk-upstream-0123456789"
SAID = 'Hello from Weir\'s demo upstream! You said "Hello!".'


def block(banner: str, first: str, last: str) -> str:
    """The lines of the banner from one to another, as they are selected on a terminal: with their indent."""
    lines = banner.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line.strip().startswith(first)]
    assert len(starts) == 1, banner
    ends = [number for number in range(starts[0], len(lines)) if last in lines[number]]
    assert ends, banner
    return "".join(lines[starts[0] : ends[0] + 1])


def without_indent(text: str) -> str:
    lines = text.splitlines(keepends=True)
    indent = len(lines[0]) - len(lines[0].lstrip())
    assert not any(line[:indent].strip() for line in lines)
    return "".join(line[indent:] for line in lines)


@pytest.fixture(scope="module")
def port() -> int:
    return two_ports()


@pytest.fixture(scope="module")
def served(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """No file, no key: just a port."""
    folder = tmp_path_factory.mktemp("serve")
    with Command("-m", "proxy", "serve", folder=folder, env={"PORT": str(port)}) as weir:
        weir.wait_listening(port)
        weir.wait_for_stdout("Ctrl-C")
        yield weir
        assert UPSTREAM not in weir.stderr


def test_banner(served: Command, port: int) -> None:
    banner = served.stdout
    assert f"listens on http://127.0.0.1:{port}/v1\n" in banner
    assert "demo upstream" in banner
    assert "OPENAI_API_KEY" in banner
    assert max(len(line) for line in banner.splitlines()) <= 120
    listening = orjson.loads(served.stderr.splitlines()[0])
    assert (listening["event"], listening["listen"]) == ("listening", f"127.0.0.1:{port}")
    assert listening["management"] == f"127.0.0.1:{port + 1}"


def test_curl_of_the_banner(served: Command, tmp_path: Path) -> None:
    ended = run_any("sh", "-c", block(served.stdout, "curl", "}'"), folder=tmp_path)
    assert ended.status == 0
    message = orjson.loads(ended.stdout)["choices"][0]["message"]["content"]
    assert message.startswith(SAID)


def test_python_of_the_banner(served: Command, tmp_path: Path) -> None:
    """In a file or at a prompt, without the indent that the banner has."""
    pasted = without_indent(block(served.stdout, "from openai", "print("))
    script = tmp_path / "pasted.py"
    script.write_text(pasted)
    ended = run(str(script), folder=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.startswith(SAID)
    assert run("-q", "-i", folder=tmp_path, stdin=pasted + "\n").stdout.startswith(SAID)


def test_python_of_the_banner_as_it_is_pasted(served: Command, tmp_path: Path) -> None:
    """Whoever selects these lines on a terminal gets what stands before them too."""
    script = tmp_path / "pasted.py"
    script.write_text(block(served.stdout, "from openai", "print("))
    ended = run(str(script), folder=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.startswith(SAID)


def test_management_port_is_the_next(served: Command, port: int) -> None:
    with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=10) as http:
        for path in ("/healthz", "/readyz", "/startupz"):
            answer = http.get(f"http://127.0.0.1:{port + 1}{path}")
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert http.get(f"http://127.0.0.1:{port + 1}/metrics").status_code == 200
        assert http.get(f"http://127.0.0.1:{port}/health").json()["status"] == "ok"
        # On the data port these are the upstream's: the demo does not know them.
        assert (
            http.get(f"http://127.0.0.1:{port}/healthz").json()["error"]["message"].startswith("Invalid URL")
        )


async def test_demo_behind_it_is_the_demo(served: Command, port: int, tmp_path: Path) -> None:
    (alone,) = free_ports(1)
    answers = []
    with Command("-m", "proxy.demo", "--port", str(alone), folder=tmp_path) as demo:
        demo.wait_listening(alone)
        for each in (alone, port):
            async with sdk("async", f"http://127.0.0.1:{each}/v1") as client:
                raw = await client.models.with_raw_response.list()
                answers.append(comparable([raw.status_code, raw.content, raw.parse()]))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(tmp_path: Path, number: int) -> None:
    """The demo stops with it."""
    port = two_ports()
    with Command("-m", "proxy", "serve", folder=tmp_path, env={"PORT": str(port)}) as weir:
        weir.wait_listening(port)
        weir.wait_for_stdout("Ctrl-C")
        assert weir.stop(number) == 128 + number
        assert "Traceback" not in weir.stderr
        with pytest.raises(httpx2.ConnectError), httpx2.Client(trust_env=False, verify=NO_TLS) as http:
            http.get(f"http://127.0.0.1:{port}/health")


@pytest.mark.parametrize("key", [UPSTREAM, None], ids=["key", "no key"])
async def test_openai_variables(tmp_path: Path, key: str | None) -> None:
    """Without a key of its own Weir passes the client's."""
    port = two_ports()
    async with RawUpstream(answer(json_answer({"object": "list", "data": []}))) as up:
        env = {"PORT": str(port), "OPENAI_BASE_URL": up.base_url, **({"OPENAI_API_KEY": key} if key else {})}
        with Command("-m", "proxy", "serve", folder=tmp_path, env=env) as weir:
            weir.wait_listening(port)
            async with sdk("async", f"http://127.0.0.1:{port}/v1") as client:
                assert [model async for model in client.models.list()] == []
            assert weir.stop() == 143
            assert weir.stdout == ""
            assert UPSTREAM not in weir.stderr
    request = up.requests[0]
    assert request.target == b"/v1/models"
    assert request.all("authorization") == [f"Bearer {key or 'sk-client'}".encode()]
    assert (b"sk-client" in request.raw) == (key is None)


def test_banner_on_a_terminal(tmp_path: Path) -> None:
    """With an upstream of one's own it comes only there, and names the upstream but no key."""
    port = two_ports()
    (nobody,) = free_ports(1)
    env = {
        "PORT": str(port),
        "OPENAI_BASE_URL": f"http://127.0.0.1:{nobody}/v1",
        "OPENAI_API_KEY": UPSTREAM,
    }
    near, far = pty.openpty()
    try:
        with Command("-m", "proxy", "serve", folder=tmp_path, env=env, stdout=far) as weir:
            weir.wait_listening(port)
            shown = read_until(near, "Ctrl-C")
            assert weir.stop() == 143
    finally:
        os.close(near)
        os.close(far)
    assert f"openai at http://127.0.0.1:{nobody}/v1" in shown
    assert 'api_key="your key"' in shown
    assert UPSTREAM not in shown


def read_until(fd: int, text: str, within: float = 10.0) -> str:
    deadline = time.monotonic() + within
    shown = ""
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([fd], [], [], 0.1)[0]:
            shown += os.read(fd, 65536).decode()
    return shown
