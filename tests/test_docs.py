"""What the pages say is so: commands and snippets run, links resolve, and nothing public is left out."""

import ast
import inspect
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

import proxy
import proxy.api
import proxy.api.testing
from proxy.api import Plugin
from tests.e2e.command import CLEAN, Command, run, two_ports

ROOT = Path(__file__).parents[1]
README, CHANGELOG, CONTRIBUTING = ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"
PLUGINS, ERRORS, DEPENDENCIES = (
    ROOT / "docs" / f"{name}.md" for name in ("plugins", "errors", "dependencies")
)
PAGES = [
    *ROOT.glob("*.md"),
    *(page for top in ("docs", "tests", "requirements") for page in (ROOT / top).rglob("*.md")),
]


class Fence(NamedTuple):
    """A code block of a page, and the line of the page that it begins after."""

    language: str
    line: int
    text: str


def fences(page: Path, *languages: str) -> list[Fence]:
    text = page.read_text()
    found = [
        Fence(match[1], text.count("\n", 0, match.start(2)), match[2])
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]
    return [fence for fence in found if not languages or fence.language in languages]


def without_fences(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def code(page: Path) -> str:
    """Everything on a page that is set as code."""
    spans = re.findall(r"`([^`\n]+)`", without_fences(page))
    return "\n".join([*spans, *(fence.text for fence in fences(page))])


def rows(page: Path) -> dict[str, str]:
    """The table rows of a page that begin with something in backticks."""
    return dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", page.read_text(), re.MULTILINE))


# -- the plugin interface ------------------------------------------------------------------------------

# What is public because the engine needs it, and nobody else should.
_ENGINES = {"Response.begin", "Response.rewriting", "Response.held_limit"}


def members(cls: type) -> set[str]:
    names = {name for base in cls.__mro__ for name in (*vars(base), *getattr(base, "__annotations__", ()))}
    inherited = {*dir(tuple), *dir(Exception)} - set(getattr(cls, "_fields", ()))
    return {
        name
        for name in names - inherited
        if not name.startswith("_") and f"{cls.__name__}.{name}" not in _ENGINES
    }


@pytest.mark.parametrize("name", sorted(members(Plugin)))
def test_every_part_of_a_plugin_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", code(PLUGINS)), f"docs/plugins.md does not say what `{name}` is"


@pytest.mark.parametrize("name", proxy.api.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", code(PLUGINS)), f"docs/plugins.md does not say what `{name}` is"


def test_every_part_of_the_kit_is_documented() -> None:
    kit = [
        name
        for name, value in vars(proxy.api.testing).items()
        if getattr(value, "__module__", "") == "proxy.api.testing" and not name.startswith("_")
    ]
    assert len(kit) > 5
    assert [name for name in kit if not re.search(rf"\b{name}\b", code(PLUGINS))] == []


_LISTED = [name for name in proxy.api.__all__ if name in rows(PLUGINS)]


@pytest.mark.parametrize("name", _LISTED)
def test_every_member_is_documented(name: str) -> None:
    cls = getattr(proxy.api, name)
    said = set(re.findall(r"\b\w+\b", " ".join(re.findall(r"`([^`]+)`", rows(PLUGINS)[name]))))
    assert members(cls) - said == set()


def test_the_table_of_members_has_what_plugins_hold() -> None:
    assert {"Exchange", "Request", "Response", "Reply", "Event", "End", "Headers", "Timeline"} <= set(_LISTED)


async def test_the_snippets_of_the_plugin_page_run() -> None:
    """In order, in one module; tests in them are run as they come."""
    module: dict[str, Any] = {"__name__": "my_plugins"}
    ran = 0
    for fence in fences(PLUGINS, "python"):
        before = set(module)
        exec(compile("\n" * fence.line + fence.text, str(PLUGINS), "exec"), module)  # noqa: S102
        for name in [name for name in module if name.startswith("test_") and name not in before]:
            assert inspect.iscoroutinefunction(module[name])
            await module[name]()
            ran += 1
    assert ran > 10


def _my_plugins(folder: Path) -> None:
    """The module that the plugin page grows, beside the weir.yaml that it shows."""
    (folder / "my_plugins.py").write_text("\n".join(fence.text for fence in fences(PLUGINS, "python")))
    (folder / "weir.yaml").write_text(fences(PLUGINS, "yaml")[0].text)


@pytest.mark.slow
def test_the_plugin_page_shows_what_check_says(tmp_path: Path) -> None:
    _my_plugins(tmp_path)
    shown = (tmp_path / "weir.yaml").read_text()
    ended = run("-m", "proxy", "check", folder=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    assert "auth → Models" in ended.stdout
    last = shown.splitlines()[-1]
    said = ""
    for wrong in (last.replace("allow", "alow"), "", "    allow: gpt-4o"):
        (tmp_path / "weir.yaml").write_text(shown.replace(last, wrong))
        said += run("-m", "proxy", "check", folder=tmp_path).stderr
    assert said == fences(PLUGINS, "text")[0].text


@pytest.mark.slow
def test_the_plugins_of_the_page_serve(tmp_path: Path) -> None:
    _my_plugins(tmp_path)
    port = two_ports()
    (tmp_path / "weir.yaml").write_text(
        f"listen: 127.0.0.1:{port}\nplugins: [auth, 'my_plugins:WhoAmI', 'my_plugins:Gate']\n"
    )
    data, admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    with Command("-m", "proxy", "serve", folder=tmp_path) as weir, httpx2.Client(timeout=10) as client:
        weir.wait_listening(port)
        assert client.get(f"{data}/whoami", headers={"x-user-id": "alice"}).json() == {"user": "alice"}
        assert client.get(f"{admin}/whoami/asked").json() == {"asked": 1}
        ready = client.get(f"{admin}/readyz")
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["Gate: there is no word today"])
        with pytest.raises(subprocess.TimeoutExpired):  # a reload, and it goes on
            weir.stop(signal.SIGHUP, within=0.2)
        deadline = time.monotonic() + 10
        while "configuration reloaded" not in weir.stderr:
            assert "not reloaded" not in weir.stderr, weir.stderr
            assert time.monotonic() < deadline, weir.stderr
            time.sleep(0.02)
        assert "gate_refused_total" in client.get(f"{admin}/metrics").text


# -- error codes ---------------------------------------------------------------------------------------

_RAISERS = {"ClientError", "UpstreamError", "WeirError", "InternalError", "ClientGone", "End"}
_MAKERS = {"error", "_failure", "_invalid", "gone", "left", "__init__"}
_CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+|completed|replied")


def codes_in(source: str) -> set[str]:
    """The codes of errors and ends that a source file makes."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: set[object] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _RAISERS | _MAKERS:
                for argument in [*node.args, *(word.value for word in node.keywords if word.arg == "code")]:
                    if isinstance(argument, ast.Constant):
                        found.add(argument.value)
                    elif isinstance(argument, ast.Name):
                        found.add(constants.get(argument.id))
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(
                getattr(target, "id", getattr(target, "attr", "")) in ("code", "_left") for target in targets
            ):
                found.add(node.value.value)
        elif isinstance(node, ast.arguments):
            named = [*node.posonlyargs, *node.args][
                len(node.posonlyargs) + len(node.args) - len(node.defaults) :
            ]
            for argument_name, default in zip(named, node.defaults, strict=True):
                if argument_name.arg == "code" and isinstance(default, ast.Constant):
                    found.add(default.value)
    return {value for value in found if isinstance(value, str) and _CODE.fullmatch(value)}


# The reasons of an End, and OpenAI's types: they look like codes.
_NOT_CODES = {"client_gone", "upstream_error", "internal_error", "service_unavailable"}


def _codes() -> dict[str, str]:
    demo = ROOT / "proxy" / "demo"
    return {
        found: str(path.relative_to(ROOT))
        for top in ("proxy", "plugins")
        for path in sorted((ROOT / top).rglob("*.py"))
        if demo not in path.parents
        for found in codes_in(path.read_text()) - (_NOT_CODES - {"internal_error"})
    }


CODES = _codes()


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_error_code_is_documented(name: str) -> None:
    assert name in rows(ERRORS), f"{CODES[name]} can answer with {name}: say when, and what to do"


def test_no_error_code_is_made_up() -> None:
    assert len(CODES) > 40
    assert set(rows(ERRORS)) - set(CODES) == set()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('raise ClientError(400, "too_odd", "Odd.")', "too_odd"),
        ('return Reply.error(429, "too_many", "Later.", type="x_y")', "too_many"),
        ('odd = _failure(502, "upstream_odd", "Odd.")', "upstream_odd"),
        ('ODD = "proxy_odd"\ndef f(): raise UpstreamError(502, ODD, "Odd.")', "proxy_odd"),
        ('class Odd(E):\n    def __init__(self, code: str = "odd_default"): ...', "odd_default"),
        ('End("rejected", "odd_end")', "odd_end"),
        ('Reply(204, code="odd_reply")', ""),
    ],
)
def test_a_planted_code_is_found(line: str, code: str) -> None:
    assert codes_in(line) == ({code} if code else set())


# -- links, versions, names ----------------------------------------------------------------------------


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_fences(page)):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", without_fences(target), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{link}: no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {README}
    while new:
        page = new.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", without_fences(page))
        new |= {(page.parent / link).resolve() for link in links if ":" not in link} - reached
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - reached == set()


def test_every_decision_is_numbered_and_has_its_parts() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    for number, page in enumerate(pages, 1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[^A-Za-z0-9._-]", entry)[0] for entry in declared}
    assert set(rows(DEPENDENCIES)) == names
    for extra in re.findall(r"\[([^\]]+)\]", " ".join(declared)):
        for part in extra.split(","):
            assert f"`{part}`" in DEPENDENCIES.read_text()


def test_the_changelog_has_this_version() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", CHANGELOG.read_text(), re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert proxy.__version__ in versions or versions == ["Unreleased"]
    assert "### Plugin API" in CHANGELOG.read_text()


@pytest.mark.parametrize("page", [README, CONTRIBUTING], ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    there = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z][a-z-]*)|\bmake ([a-z][a-z-]*)", code(page), re.MULTILINE))
    targets = {target for pair in named for target in pair if target}
    assert {"run", "test"} <= targets
    assert targets - there == set()


# -- the README, as somebody who pastes it ---------------------------------------------------------------


def commands(block: str) -> list[str]:
    """The commands of a shell block, without comments."""
    joined = block.replace("\\\n", " ")
    return [command for line in joined.splitlines() if (command := re.sub(r"(^|\s)#.*", "", line).strip())]


# What the tests run in is installed already; nothing is to be installed anew.
_MAKE = ["make", "-o", ".venv/.run", "-o", ".venv/.dev"]
_EXCEPTED = re.compile(r"make test|docker |helm ")


class _Reader:
    """Somebody who goes through the README from top to bottom, on a free port, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = two_ports()
        self.env = {**CLEAN, "PORT": str(self.port)}
        self.did: list[str] = []
        self._running: subprocess.Popen[bytes] | None = None
        (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
        (folder / ".venv").symlink_to(sys.prefix)

    def read(self, fence: Fence) -> None:
        if fence.language == "yaml":
            (self.folder / "weir.yaml").write_text(fence.text)
        elif fence.language == "python":
            told = self.told([sys.executable, "-W", "error", "-c", self._moved(fence.text)])
            assert len(told) > 5, "the stream of the snippet was empty"
            self.did.append("python")
        else:
            for command in commands(fence.text):
                self.do(command)

    def do(self, command: str) -> None:
        if command.startswith("export "):
            for pair in command.split()[1:]:
                name, _, self.env[name] = pair.partition("=")
        elif command == "make run":
            self.stop()
            self._start([*_MAKE, "run"])
            self.did.append(command)
        elif command.startswith("make ") and not _EXCEPTED.match(command):
            self.told([*_MAKE, *command.split()[1:]])
            self.did.append(command)
        elif not _EXCEPTED.match(command):
            told = self.told(["bash", "-euo", "pipefail", "-c", self._moved(command)])
            self.did.append(command.split()[0])
            if command.startswith("curl"):
                assert '"choices"' in told
            if command.endswith("weir check"):
                assert told.splitlines()[-1] == "ok"

    def _moved(self, text: str) -> str:
        return text.replace(":3006", f":{self.port}")

    def told(self, command: list[str]) -> str:
        """A command's output; it must succeed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, command: list[str]) -> None:
        with (self.folder / "out").open("wb") as out:
            self._running = subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + 20
        while True:
            with suppress(httpx2.TransportError):
                assert httpx2.get(f"http://127.0.0.1:{self.port}/health").status_code == 200
                return
            assert self._running.poll() is None, self.out
            assert time.monotonic() < deadline, self.out
            time.sleep(0.05)

    def wait_for(self, text: str) -> None:
        """Until the running command has written this."""
        deadline = time.monotonic() + 10
        while text not in self.out:
            assert time.monotonic() < deadline, self.out
            time.sleep(0.02)

    @property
    def out(self) -> str:
        """What the running command has written."""
        return (self.folder / "out").read_text()

    def stop(self) -> None:
        """Ctrl-C."""
        if self._running is not None:
            os.killpg(self._running.pid, signal.SIGINT)
            try:
                self._running.wait(10)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(self._running.pid, signal.SIGKILL)
            self._running = None


@contextmanager
def reader(folder: Path) -> Iterator[_Reader]:
    somebody = _Reader(folder)
    try:
        yield somebody
    finally:
        somebody.stop()


@pytest.mark.slow
def test_the_readme_works_as_pasted(tmp_path: Path) -> None:
    with reader(tmp_path) as somebody:
        for fence in fences(README):
            somebody.read(fence)
            if somebody.did == ["make run"]:
                somebody.wait_for(f"listens on http://127.0.0.1:{somebody.port}/v1")
        assert somebody.did == ["make run", "make demo", "curl", "python", ".venv/bin/weir", "make run"]
        # The second `make run` serves by the weir.yaml of the page: no key, no answer.
        refused = httpx2.post(f"http://127.0.0.1:{somebody.port}/v1/chat/completions", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")


def test_the_readme_is_one_screen() -> None:
    assert len(README.read_text().splitlines()) <= 90
