"""The tutorial and the how-tos, as somebody who goes through them: files saved, commands and snippets run.

The providers that the pages name are the demo upstream here. The clients are the real ones: `make test`
installs those of PyPI that need an older `openai` into an environment of their own, and, where Node.js is,
those of npm.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import httpx2
import orjson
import pytest
from ruamel.yaml import YAML

from tests.pages import DOCS, ROOT, fences

from .command import Command, two_ports
from .reader import Reader
from .reader import reader as reading
from .twins import demo_upstream

HOWTO = DOCS / "howto"
CLIENTS = Path(sys.prefix) / "clients" / "bin" / "python"
NODE = Path(sys.prefix) / "node" / "node_modules"
ENDING = "Set OPENAI_API_KEY and start Weir again to talk to a real one."
"""How the demo upstream's answers end, which a client that got one whole has printed."""
COST = "0.0000309"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with demo_upstream(tmp_path_factory.mktemp("upstream"), two_ports()) as url:
        yield url.removesuffix("/v1")


@pytest.fixture
def reader(tmp_path: Path, upstream: str) -> Iterator[Reader]:
    with reading(tmp_path, upstream) as somebody:
        yield somebody


def test_the_tutorial_works_as_written(reader: Reader) -> None:
    reader.read(DOCS / "tutorial.md", outputs=True)
    steps = ("make run", "weir serve", ".venv/bin/python ask.py", "kill -HUP")
    assert tuple(what for what in reader.did if what in steps) == steps
    assert reader.did.count("curl -i") == 2
    status = reader.get("/rate-limit/status", {"authorization": "Bearer alices-long-random-word"}).json()
    # The page says that what she had used was kept: three before the reload, one after it.
    assert status["limits"][0]["limit"] == 30
    assert 3 <= status["limits"][0]["used"] <= 4


@pytest.mark.parametrize("page", ["curl", "local-models"])
def test_the_how_to_works_as_written(reader: Reader, page: str) -> None:
    text = HOWTO / f"{page}.md"
    if not any("weir serve" in fence.text for fence in fences(text, "sh")):
        reader.do("weir serve")  # as the pages of clients take for granted
    reader.read(text)
    assert "weir serve" in reader.did
    assert reader.get("/health").json()["status"] == "ok"


# -- clients ---------------------------------------------------------------------------------------------


def _asked_by(reader: Reader) -> list[str]:
    """For whom the requests were that Weir has forwarded, in their order."""
    lines = [orjson.loads(line) for line in reader.out.splitlines() if line.startswith('{"ts"')]
    return [line["user"] for line in lines if line.get("path", "").startswith("/v1/")]


@pytest.mark.parametrize(("page", "costs"), [("langchain", 1), ("llamaindex", 0)])
def test_a_framework_of_pypi_works_as_written(reader: Reader, page: str, costs: int) -> None:
    if not CLIENTS.exists():
        pytest.skip("the clients are not installed: make test ARGS=tests/e2e/test_howto.py does it")
    reader.python = str(CLIENTS)
    reader.do("weir serve")
    reader.read(HOWTO / f"{page}.md")
    assert reader.did == ["weir serve", "pip install", "python"]
    assert reader.told.count(ENDING) == 2  # an answer whole, and one as a stream
    assert reader.told.count(COST) == costs
    assert _asked_by(reader) == ["alice", "alice"]


@pytest.mark.parametrize(("page", "snippets", "alice"), [("node", 2, False), ("vercel-ai-sdk", 1, True)])
def test_a_client_of_npm_works_as_written(reader: Reader, page: str, snippets: int, alice: bool) -> None:
    _needs_node()
    reader.node_modules = NODE
    reader.do("weir serve")
    told = ""
    for fence in fences(HOWTO / f"{page}.md"):
        reader.block(fence)
        told += reader.told if fence.language == "js" else ""
    assert reader.did == ["weir serve", "npm install", *["js"] * snippets]
    assert told.count(ENDING) == 2
    assert told.count(COST) == snippets  # in a header, and the one without an SDK reads it in the stream
    assert (set(_asked_by(reader)) == {"alice"}) is alice


def _needs_node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js with npm on PATH: install it, then make test")
    if not NODE.exists():
        pytest.skip("npm has not installed the clients: make test says why")


@pytest.mark.parametrize("page", ["node", "vercel-ai-sdk"])
def test_a_page_says_what_to_install(page: str) -> None:
    imported = {
        match[1]
        for fence in fences(HOWTO / f"{page}.md", "js")
        for match in re.finditer(r'^import .* from "([^"]+)";$', fence.text, re.MULTILINE)
    }
    installed = {name for fence in fences(HOWTO / f"{page}.md", "sh") for name in fence.text.split()[2:]}
    assert imported == installed


def test_the_lock_of_the_clients_names_no_registry() -> None:
    folder = ROOT / "tests" / "clients"
    wanted = orjson.loads((folder / "package.json").read_bytes())["dependencies"]
    lock = orjson.loads((folder / "package-lock.json").read_bytes())["packages"]
    assert lock[""]["dependencies"] == wanted
    assert b"registry" not in (folder / "package-lock.json").read_bytes()
    for name, package in lock.items():
        assert "resolved" not in package
        assert name == "" or package["integrity"].startswith("sha512-")


# -- providers -------------------------------------------------------------------------------------------


def test_azure_works_as_written(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    port = two_ports()
    here = {"PYTHONPATH": str(ROOT)}
    with Command(
        "-m", "tests.e2e.azure", str(port), folder=tmp_path_factory.mktemp("azure"), env=here
    ) as azure:
        azure.wait_listening(port)
        with reading(tmp_path, f"http://127.0.0.1:{port}") as somebody:
            somebody.env["AZURE_OPENAI_API_KEY"] = "overridden by the page"
            told = ""
            for fence in fences(HOWTO / "azure.md"):
                somebody.block(fence)
                told += somebody.told if fence.language == "python" else ""
            assert somebody.did.count("weir serve") == 2
            assert told.count(ENDING) == 2  # by the v1 API, and by the older one
            # Whose key it is: Weir's own in the first, the client's in the second.
            assert httpx2.get(f"http://127.0.0.1:{port}/openai/v1/models").status_code == 401


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


def test_open_webui_is_served_and_names_its_users(reader: Reader) -> None:
    """The requests that it makes with the page's variables; it is too large to be installed for this."""
    reader.read(HOWTO / "open-webui.md")
    variables = dict(line.split("=", 1) for line in fences(HOWTO / "open-webui.md", "text")[0].text.split())
    api = reader.moved(variables["OPENAI_API_BASE_URL"])
    assert variables["ENABLE_FORWARD_USER_INFO_HEADERS"] == "true"
    headers = {
        "authorization": f"Bearer {variables['OPENAI_API_KEY']}",
        variables["FORWARD_USER_INFO_HEADER_USER_ID"]: "user-7",
        "x-openwebui-user-name": "Zo%C3%AB",
        "x-openwebui-chat-id": "chat-1",
    }
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
    with httpx2.Client(headers=headers, timeout=10) as webui:
        models = webui.get(f"{api}/models").json()["data"]
        assert "gpt-4o-mini" in {model["id"] for model in models}
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        chat = webui.post(f"{api}/chat/completions", json={**ask, **usage})
        assert chat.headers["content-type"].startswith("text/event-stream")
        assert b'"usage":{' in chat.content.replace(b" ", b"")
        assert chat.text.endswith("data: [DONE]\n\n")
        title = webui.post(f"{api}/chat/completions", json={**ask, "stream": False, "max_tokens": 1000})
        assert title.json()["choices"][0]["message"]["content"]
    status = reader.get("/rate-limit/status", headers).json()
    assert (status["user"], status["end_user"]) == ("webui", "user-7")
    assert {limit["per"] for limit in status["limits"]} == {"end_user"}
    assert _asked_by(reader) == ["webui"] * 3


def test_a_pod_starts_and_is_probed(reader: Reader) -> None:
    (fence,) = fences(HOWTO / "sidecar.md", "yaml")
    settings, pod = list(YAML(typ="safe").load_all(fence.text))
    (weir,) = pod["spec"]["initContainers"]
    (program,) = pod["spec"]["containers"]
    (reader.folder / "weir.yaml").write_text(reader.moved(settings["data"]["weir.yaml"]))
    reader.env["OPENAI_API_KEY"] = "sk-of-the-provider"
    assert weir["args"][-1] == "/etc/weir/weir.yaml"
    reader.do("weir check")
    reader.do(f"weir {weir['args'][0]}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = weir[probe]["httpGet"]
        (port,) = [port["containerPort"] for port in weir["ports"] if port["name"] == asked["port"]]
        assert port == 3007
        assert reader.get(asked["path"], management=True).status_code == 200
    reader.env |= {variable["name"]: reader.moved(variable["value"]) for variable in program["env"]}
    reader.run([sys.executable, "-W", "error", "-c", ASK])
    assert ENDING in reader.told
    grace = YAML(typ="safe").load(StringIO(settings["data"]["weir.yaml"]))["drain"]["grace"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > int(grace.removesuffix("s"))


ASK = """
from openai import OpenAI
with OpenAI() as client:
    ask = [{"role": "user", "content": "Hello!"}]
    print(client.chat.completions.create(model="gpt-4o", messages=ask).choices[0].message.content)
"""


def test_every_how_to_is_run() -> None:
    here = Path(__file__).read_text()
    pages = {page.stem for page in HOWTO.glob("*.md")} - {"index"}
    assert [page for page in sorted(pages) if f'"{page}"' not in here and f'"{page}.md"' not in here] == []
