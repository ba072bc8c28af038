"""`make docs` builds the whole documentation, and what it builds holds together."""

import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import pytest
from ruamel.yaml import YAML

import proxy.api
import proxy.api.edit
import proxy.api.testing
import proxy.pricing.values

from .pages import ROOT
from .test_docs import ENGINES

PAGES = [
    *ROOT.glob("*.md"),
    *(page for top in ("docs", "requirements") for page in (ROOT / top).rglob("*.md")),
    ROOT / "tests" / "golden" / "README.md",
]

pytestmark = pytest.mark.slow


class Html(HTMLParser):
    """What a built page links to, loads, can be linked at, and says in its paragraphs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.paragraphs: list[str] = []
        self._code = 0
        self._in = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag == "link" and "stylesheet" in found.get("rel", ""):
            self.loads.append(found["href"])
        elif tag in ("img", "script", "iframe") and found.get("src"):
            self.loads.append(found["src"])
        self._code += tag == "code"
        if tag == "p":
            self._in = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag == "code"
        self._in = self._in and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._in and not self._code:
            self.paragraphs[-1] += data


def tree(folder: Path) -> Path:
    """This checkout with a docs folder of its own, and what the tests run in as its environment."""
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
        elif path.name[0] != "." and path.name not in ("build", "dist", "docs"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", folder / "docs")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def make_docs(folder: Path) -> subprocess.CompletedProcess[str]:
    # What the tests run in is installed already; nothing is to be installed anew.
    return subprocess.run(
        ["make", "-o", ".venv/.dev", "docs"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tree(tmp_path_factory.mktemp("site"))
    made = make_docs(folder)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder / "build" / "site"


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Html]:
    return {path: Html(path.read_text()) for path in site.rglob("*.html")}


def place(page: Path) -> Path:
    """Where a page is on the site."""
    folder = page.relative_to(ROOT).parent
    return folder / "index.html" if page.stem in ("README", "index") else folder / page.stem / "index.html"


def test_every_page_is_on_it(site: Path, built: dict[Path, Html]) -> None:
    assert len(PAGES) > 30
    assert [page for page in PAGES if site / place(page) not in built] == []
    titles = re.findall(r"<h1[^>]*>([^<]+)", (site / "docs/tutorial/index.html").read_text())
    assert titles == ["From nothing to your own gateway"]


def _public(module: ModuleType) -> dict[str, object]:
    """What a module defines for others, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if name[0] != "_"
        and not isinstance(value, TypeVar)
        and getattr(value, "__module__", "") == module.__name__
    }


@pytest.mark.parametrize("module", [proxy.api, proxy.api.testing, proxy.api.edit, proxy.pricing.values])
def test_the_reference_has_every_public_name_and_its_members(
    site: Path, built: dict[Path, Html], module: ModuleType
) -> None:
    there = {found for page in built.values() for found in page.ids if found.startswith("proxy.")}
    names = {name: getattr(module, name) for name in getattr(module, "__all__", _public(module))}
    assert len(names) > 4
    missing = []
    for name, value in names.items():
        places = [f"{home}.{name}" for home in (module.__name__, "proxy.api", "proxy.pricing.values")]
        found = [place for place in places if place in there]
        if not found:
            missing.append(name)
        elif isinstance(value, type):
            own = {part for part in vars(value) if part[0] != "_" and f"{name}.{part}" not in ENGINES}
            missing += [f"{name}.{part}" for part in own if f"{found[0]}.{part}" not in there]
    assert missing == []


def test_the_reference_shows_docstrings_and_signatures(site: Path) -> None:
    page = (site / "docs/reference/plugin-api/index.html").read_text()
    told = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", page)))
    assert "Override what you need; a hook you leave alone costs nothing at run time." in told
    assert "on_request( ex: Exchange, ) -> Coroutine[Any, Any, Reply | None] | Reply | None" in told
    for engines in ("proxy.api.Response.begin", "proxy.api.Exchange.__init__", "Driver"):
        assert engines not in page


def test_what_pages_link_to_is_on_it(site: Path) -> None:
    assert (site / "examples/redact.py").read_bytes() == (ROOT / "examples/redact.py").read_bytes()
    listed = Html((site / "examples/index.html").read_text()).links
    assert {"add_header.py", "slow_log/pyproject.toml"} <= set(listed)
    assert not (site / "proxy").exists()


def test_every_link_on_it_leads_somewhere(site: Path, built: dict[Path, Html]) -> None:
    broken, looked_at = [], 0
    for path, page in built.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            looked_at += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in built and anchor not in built[target].ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []
    assert looked_at > 1000


def test_showing_it_loads_nothing_from_elsewhere(built: dict[Path, Html]) -> None:
    loads = {load for page in built.values() for load in page.loads}
    assert len(loads) > 3
    assert [load for load in loads if urlsplit(load).netloc] == []


def test_lists_and_tables_became_such(site: Path, built: dict[Path, Html]) -> None:
    """The site's Markdown wants an empty line before them; without one they are text in a paragraph."""
    wrong = [
        f"{path.relative_to(site)}: {line}"
        for path, page in built.items()
        for paragraph in page.paragraphs
        for line in paragraph.splitlines()
        if re.match(r"(- |\* |\| |\d+\. |```)", line)
    ]
    assert wrong == []


@pytest.mark.parametrize("planted", ["[x](nowhere.md)", "[x](cli.md#nowhere)", "[x](../CHANGES.md)"])
def test_a_broken_link_stops_it(tmp_path: Path, planted: str) -> None:
    folder = tree(tmp_path)
    with (folder / "docs" / "errors.md").open("a") as page:
        page.write(f"\n{planted}\n")
    made = make_docs(folder)
    assert made.returncode != 0
    assert "errors.md" in made.stdout + made.stderr


def test_every_page_has_its_place_in_the_menu() -> None:
    def named(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [name for part in parts for name in named(part)]  # type: ignore[attr-defined]

    menu = named(YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert [name for name in menu if not (ROOT / name).exists()] == []
    # The decisions are listed on a page of their own.
    pages = [page for page in (ROOT / "docs").rglob("*.md") if not re.match(r"\d", page.name)]
    assert {str(page.relative_to(ROOT)) for page in pages} - set(menu) == set()
