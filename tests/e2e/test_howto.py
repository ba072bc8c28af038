"""The tutorial and the how-tos, as somebody who goes through them: files saved, commands and snippets run.

The providers that the pages name are the demo upstream here. What the npm registry has is not run.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ruamel.yaml import YAML

from tests.test_docs import ROOT, Fence, commands, fences

from .command import CLEAN, two_ports
from .twins import demo_upstream

DOCS = ROOT / "docs"
HOWTO = DOCS / "howto"
RUN = ["curl", "azure", "local-models", "open-webui", "gateway"]

pytestmark = pytest.mark.slow


class Reader:
    """Somebody who does what a page says, on free ports, in a folder of their own."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.folder = folder
        self.port = two_ports()
        self.env = {**CLEAN, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.did: list[str] = []
        self.told = ""
        """What the last command has written."""
        self._upstream = upstream
        self._server: subprocess.Popen[bytes] | None = None
        (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
        (folder / ".venv").symlink_to(sys.prefix)

    def read(self, page: Path, *, outputs: bool = False) -> None:
        """Every block in order; with `outputs`, those of text are what the command before has written."""
        for fence in fences(page):
            if name := self._file(fence):
                (self.folder / name).write_text(self._moved(fence.text))
            elif fence.language == "sh":
                for command in commands(fence.text):
                    self.do(command)
            elif fence.language == "python":
                self.run([sys.executable, "-W", "error", "-c", self._moved(fence.text)])
                self.did.append("python")
                assert len(self.told) > 20
            elif fence.language == "text" and outputs:
                for line in fence.text.splitlines():
                    assert line in self.told, f"{page.name}:{fence.line}: {line!r} is not in {self.told}"

    def do(self, command: str) -> None:
        name = " ".join(command.split()[:2])
        if command.startswith("export "):
            for pair in command.split()[1:]:
                variable, _, value = pair.partition("=")
                self.env[variable] = value if variable != "PATH" else self.env["PATH"]
        elif name in ("make run", "weir serve"):
            self._serve(command.replace("make run", "make -o .venv/.run run"))
        elif not name.endswith(("pip install", "npm install")):
            self.run(["bash", "-euo", "pipefail", "-c", self._moved(command)])
            if name == "weir check":
                assert self.told.splitlines()[-1] == "ok"
            if name.startswith("kill"):
                self.wait_for("configuration reloaded")
        self.did.append(name)

    def run(self, command: list[str]) -> None:
        """A command to its end; it must succeed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        self.told = done.stdout
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.out}"

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, *, management: bool = False
    ) -> httpx2.Response:
        return httpx2.get(f"http://127.0.0.1:{self.port + management}{path}", headers=headers, timeout=10)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 10
        while text not in self.out:
            assert time.monotonic() < deadline, self.out
            time.sleep(0.02)

    @property
    def out(self) -> str:
        """What the server has written."""
        path = self.folder / "out"
        return path.read_text() if path.exists() else ""

    def stop(self) -> None:
        if self._server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None
            deadline = time.monotonic() + 10
            while self._listens():
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def _serve(self, command: str) -> None:
        self.stop()
        with (self.folder / "out").open("wb") as out:
            self._server = subprocess.Popen(
                ["bash", "-c", f"{command}\nwait"],
                cwd=self.folder,
                env={**self.env, "PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while not self._listens():
            assert self._server.poll() is None, self.out
            assert time.monotonic() < deadline, self.out
            time.sleep(0.05)

    def _listens(self) -> bool:
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _moved(self, text: str) -> str:
        text = text.replace(":3006", f":{self.port}").replace(":3007", f":{self.port + 1}")
        return re.sub(r"(base_url: )(http\S+)", rf"\g<1>{self._upstream}", text)

    def _file(self, fence: Fence) -> str | None:
        """The file that a block is to be saved as: it says so itself, or is the configuration."""
        named = re.match(r"# (\w+\.\w+)\n", fence.text)
        return named[1] if named else "weir.yaml" if fence.language == "yaml" else None


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = two_ports()
    with demo_upstream(tmp_path_factory.mktemp("upstream"), port) as url:
        yield url


@pytest.fixture
def reader(tmp_path: Path, upstream: str) -> Iterator[Reader]:
    somebody = Reader(tmp_path, upstream)
    try:
        yield somebody
    finally:
        somebody.stop()


def test_the_tutorial_works_as_written(reader: Reader) -> None:
    reader.read(DOCS / "tutorial.md", outputs=True)
    steps = ("make run", "weir serve", ".venv/bin/python ask.py", "kill -HUP")
    assert tuple(what for what in reader.did if what in steps) == steps
    assert reader.did.count("curl -i") == 2
    status = reader.get("/rate-limit/status", {"authorization": "Bearer alices-long-random-word"}).json()
    # The page says that what she had used was kept: three before the reload, one after it.
    assert status["limits"][0]["limit"] == 30
    assert 3 <= status["limits"][0]["used"] <= 4


@pytest.mark.parametrize("page", RUN)
def test_the_how_to_works_as_written(reader: Reader, page: str) -> None:
    text = HOWTO / f"{page}.md"
    if not any("weir serve" in fence.text for fence in fences(text, "sh")):
        reader.do("weir serve")  # as the pages of clients take for granted
    reader.read(text)
    assert "weir serve" in reader.did
    assert reader.get("/health").json()["status"] == "ok"


def test_a_gateway_knows_its_people_and_its_proxy(reader: Reader) -> None:
    reader.read(HOWTO / "gateway.md")
    assert reader.get("/rate-limit/status").json()["error"]["code"] == "missing_api_key"
    headers = {"authorization": "Bearer a-long-random-word", "x-forwarded-for": "192.0.2.7"}
    status = reader.get("/rate-limit/status", headers).json()
    assert (status["user"], status["team"], status["address"]) == ("alice", "search", "192.0.2.7")
    assert [limit["name"] for limit in status["limits"]] == ["chat", "at once", "budget", "flood"]
    assert reader.get("/openapi.json", management=True).status_code == 401
    token = {"authorization": "Bearer another-long-random-word"}
    assert reader.get("/openapi.json", token, management=True).status_code == 200


def test_open_webui_names_its_users(reader: Reader) -> None:
    reader.read(HOWTO / "open-webui.md")
    variables = dict(line.split("=", 1) for line in fences(HOWTO / "open-webui.md", "text")[0].text.split())
    headers = {"authorization": f"Bearer {variables['OPENAI_API_KEY']}"}
    headers[variables["FORWARD_USER_INFO_HEADER_USER_ID"]] = "user-7"
    status = reader.get("/rate-limit/status", headers).json()
    assert (status["user"], status["end_user"]) == ("webui", "user-7")
    assert {limit["per"] for limit in status["limits"]} == {"end_user"}
    models = f"{variables['OPENAI_API_BASE_URL'].partition('3006')[2]}/models"
    assert reader.get(models, headers).status_code == 200


def test_a_pod_starts_and_is_probed(reader: Reader) -> None:
    (fence,) = fences(HOWTO / "sidecar.md", "yaml")
    settings, pod = list(YAML(typ="safe").load_all(fence.text))
    (weir,) = pod["spec"]["initContainers"]
    (program,) = pod["spec"]["containers"]
    (reader.folder / "weir.yaml").write_text(reader._moved(settings["data"]["weir.yaml"]))
    reader.env["OPENAI_API_KEY"] = "sk-of-the-provider"
    assert weir["args"][-1] == "/etc/weir/weir.yaml"
    reader.do("weir check")
    reader.do(f"weir {weir['args'][0]}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = weir[probe]["httpGet"]
        (port,) = [port["containerPort"] for port in weir["ports"] if port["name"] == asked["port"]]
        assert port == 3007
        assert reader.get(asked["path"], management=True).status_code == 200
    reader.env |= {variable["name"]: reader._moved(variable["value"]) for variable in program["env"]}
    reader.run([sys.executable, "-W", "error", "-c", ASK])
    assert "demo upstream" in reader.told
    grace = YAML(typ="safe").load(StringIO(settings["data"]["weir.yaml"]))["drain"]["grace"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > int(grace.removesuffix("s"))


ASK = """
from openai import OpenAI
with OpenAI() as client:
    ask = [{"role": "user", "content": "Hello!"}]
    print(client.chat.completions.create(model="gpt-4o", messages=ask).choices[0].message.content)
"""


def test_every_how_to_is_run_or_is_known_not_to_be() -> None:
    elsewhere = {"index", "sidecar", "node", "vercel-ai-sdk", "llamaindex", "langchain"}
    assert {page.stem for page in HOWTO.glob("*.md")} == {*RUN, *elsewhere}


def _modules(page: str) -> list[Any]:
    return [
        match[1]
        for fence in fences(HOWTO / f"{page}.md", "js")
        for match in re.finditer(r'^import .* from "([^"]+)";$', fence.text, re.MULTILINE)
    ]


@pytest.mark.parametrize("page", ["node", "vercel-ai-sdk"])
def test_a_page_says_what_to_install(page: str) -> None:
    installed = {name for fence in fences(HOWTO / f"{page}.md", "sh") for name in fence.text.split()[2:]}
    assert set(_modules(page)) == installed
