"""What the pages say is so: commands and snippets run, links resolve, and nothing public is left out."""

import ast
import importlib
import inspect
import re
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import httpx2
import pytest

import proxy
import proxy.api
import proxy.api.testing
import proxy.pricing.values
from proxy.api import Plugin
from tests.e2e.command import Command, run, two_ports
from tests.e2e.reader import reader
from tests.pages import ROOT, code, fences, rows, without_fences

README, CHANGELOG, CONTRIBUTING = ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"
PLUGINS, ERRORS, DEPENDENCIES = (
    ROOT / "docs" / f"{name}.md" for name in ("plugins", "errors", "dependencies")
)
REFERENCE = ROOT / "docs" / "reference" / "plugin-api.md"
PAGES = [
    *ROOT.glob("*.md"),
    ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md",
    *(page for top in ("docs", "tests", "requirements", "deploy") for page in (ROOT / top).rglob("*.md")),
]


# -- the plugin interface ------------------------------------------------------------------------------

# What is public because the engine needs it, and nobody else should.
ENGINES = {"Response.begin", "Response.rewriting", "Response.held_limit"}


def members(cls: type) -> set[str]:
    names = {name for base in cls.__mro__ for name in (*vars(base), *getattr(base, "__annotations__", ()))}
    inherited = {*dir(tuple), *dir(Exception)} - set(getattr(cls, "_fields", ()))
    return {
        name
        for name in names - inherited
        if not name.startswith("_") and f"{cls.__name__}.{name}" not in ENGINES
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


def test_the_reference_has_every_public_name_and_nothing_else() -> None:
    """By what it asks for; that the docstrings are then there is looked at on the site (test_site.py)."""
    directives = re.findall(r"^::: (\S+)$", without_fences(REFERENCE), re.MULTILINE)
    assert len(directives) == len(set(directives))
    values = {f"proxy.api.{name}" for name in proxy.api.__all__ if hasattr(proxy.pricing.values, name)}
    assert {*directives, *values} == {*(f"proxy.api.{name}" for name in proxy.api.__all__), "proxy.api.edit"}


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


# -- headers, endpoints, options -----------------------------------------------------------------------

_SOURCES = [
    path
    for top in ("proxy", "plugins")
    for path in sorted((ROOT / top).rglob("*.py"))
    if not {"demo", "cli"} & set(path.relative_to(ROOT).parts)
]
# Not only ours: what else Weir reads or sets has these names.
_HEADER = re.compile(
    r"x-[a-z0-9%-]+|retry-after(-ms)?|ratelimit(-policy)?|server-timing|traceparent|tracestate|allow"
    r"|www-authenticate|access-control-[a-z-]+"
)
_NO_HEADERS = {"x-gzip"}  # a content coding


def headers_in(source: str) -> set[str]:
    """The header names in a source file; `%s` stands for anything, and a dash at the end for a beginning."""
    found = {
        node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    }
    return {name for name in found if _HEADER.fullmatch(name)} - _NO_HEADERS


def _documented_headers() -> set[str]:
    cells = re.findall(r"^\| (`[^|]+`) \|", (ROOT / "docs" / "headers.md").read_text(), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_header_is_documented(path: Path) -> None:
    for name in headers_in(path.read_text()):
        shape = re.escape(name).replace("%s", "[a-z-]+") + ("[a-z-]*[a-z*-]" if name.endswith("-") else "")
        found = [known for known in _documented_headers() if re.fullmatch(shape, known)]
        assert found, f"docs/headers.md does not say what {name} is"


def test_no_header_is_made_up() -> None:
    made = {name for path in _SOURCES for name in headers_in(path.read_text())}
    shapes = [
        re.escape(name).replace("%s", "[a-z-]+") + ("[a-z*-]*" if name[-1] == "-" else "") for name in made
    ]
    ours = {name for name in _documented_headers() if name.startswith("x-")}
    assert len(ours) > 20
    assert {name for name in ours if not any(re.fullmatch(shape, name) for shape in shapes)} == set()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('pairs.append((b"x-weir-odd", b"1"))', {"x-weir-odd"}),
        ('f = "x-odd-%s-limit"', {"x-odd-%s-limit"}),
        ('"x-gzip"; "an x-ray"; "retry-after-ms"', {"retry-after-ms"}),
    ],
)
def test_a_planted_header_is_found(line: str, names: set[str]) -> None:
    assert headers_in(line) == names


def routes_in(source: str) -> set[str]:
    """The paths of the routes that a source file makes."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    makers = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "starlette.routing"
        for alias in node.names
        if alias.name in ("Route", "Mount")
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in makers:
            first = node.args[0]
            path = first.value if isinstance(first, ast.Constant) else constants.get(getattr(first, "id", ""))
            assert isinstance(path, str), f"what is the path of {ast.unparse(node)}?"
            found.add(path)
    return found


def test_every_endpoint_is_documented() -> None:
    """That the OpenAPI document has each of them, and that they do as it says, is in tests/admin."""
    said = "\n".join(code(ROOT / "docs" / f"{page}.md") for page in ("endpoints", "architecture"))
    served = {path for source in _SOURCES for path in routes_in(source.read_text())}
    assert {"/models", "/rate-limit/status", "/metrics", "/openapi.json"} <= served
    assert {path for path in served if not re.search(rf"{re.escape(path)}(?![\w/-])", said)} == set()


_PLUGINS = {
    name: getattr(importlib.import_module(place.partition(":")[0]), place.partition(":")[2])
    for name, place in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "weir.plugins"
    ].items()
}


@pytest.mark.parametrize("name", _PLUGINS)
def test_every_option_of_a_plugin_is_documented(name: str) -> None:
    """On a page that has it: as a key of a configuration, or by itself."""
    pages = [
        page
        for page in (ROOT / "docs").glob("*.md")
        if re.search(rf"`{name}`|use: {name}\b", page.read_text())
    ]
    said = "\n".join(code(page) for page in pages)
    named = inspect.signature(_PLUGINS[name]).parameters.values()
    for option in [one.name for one in named if one.kind is one.POSITIONAL_OR_KEYWORD]:
        assert re.search(rf"^\W*{option}\b|\b{option}:", said, re.MULTILINE), (
            f"say what {option} of {name} is"
        )


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


@pytest.mark.slow
def test_the_readme_works_as_pasted(tmp_path: Path) -> None:
    with reader(tmp_path) as somebody:
        for fence in fences(README):
            somebody.block(fence)
            if somebody.did[-1:] == ["curl http://127.0.0.1:3006/v1/chat/completions"]:
                assert '"choices"' in somebody.told
            if "make run" in fence.text and somebody.did.count("make run") == 1:
                somebody.wait_for(f"listens on http://127.0.0.1:{somebody.port}/v1")
        assert somebody.did == [
            *("make run", "make demo", "make test"),
            "curl http://127.0.0.1:3006/v1/chat/completions",
            "python",
            *("export OPENAI_API_KEY=sk-your-key", ".venv/bin/weir check", "make run"),
        ]
        # The second `make run` serves by the weir.yaml of the page: no key, no answer.
        refused = httpx2.post(f"http://127.0.0.1:{somebody.port}/v1/chat/completions", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")


def test_the_readme_is_one_screen() -> None:
    assert len(README.read_text().splitlines()) <= 90
