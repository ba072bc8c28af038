"""Imports point one way, each library has one place, and each source file has its test."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("proxy", "plugins") for path in (ROOT / top).rglob("*.py"))

# Who may import what of ours. The longest prefix counts; a folder may always import itself.
ALLOWED = {
    "proxy.pricing": (),
    "proxy.api": ("proxy.pricing.values",),
    # The kit drives the real engine, so that what it shows is what happens (docs/adr/0008).
    "proxy.api.testing": ("proxy.api", "proxy.core.testing"),
    "proxy.core": ("proxy.api", "proxy.pricing", "proxy"),
    "proxy.core.server": ("proxy.core", "proxy.api", "proxy.pricing", "proxy.admin", "proxy.demo", "proxy"),
    "proxy.admin": ("proxy.api", "proxy.pricing", "proxy.core"),
    "proxy.demo": (),
    "proxy.cli": ("proxy",),
    "proxy.__main__": ("proxy.cli",),
    "plugins": ("proxy.api", "proxy.pricing"),
}
# Each library is one place to swap.
PLACES = {
    "httpx2": ("proxy.core.upstream.httpx2",),
    "httpcore2": ("proxy.core.upstream.httpx2",),
    "ruamel": ("proxy.core.yaml",),
    "uvloop": ("proxy.core.server",),
    "uvicorn": ("proxy.core.server", "proxy.demo.__main__"),
    "httptools": ("proxy.core.upstream.http1", "proxy.core.server.protocol"),
    "click": ("proxy.cli", "proxy.api.plugin", "plugins"),
    "opentelemetry": ("plugins.tracing",),
    "tiktoken": ("proxy.pricing.tokens",),
    "redis": ("plugins.limiter.redis.connection",),
    "jwt": ("plugins.auth",),
    "sqlalchemy": ("proxy.api.database", "plugins"),
    "alembic": ("proxy.api.database", "plugins"),
    "psycopg": ("proxy.api.database",),
}


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str, source: str) -> Iterator[str]:
    package = name if (ROOT / Path(*name.split("."))).is_dir() else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def offences(name: str, source: str) -> list[str]:
    rule = max((prefix for prefix in ALLOWED if under(name, prefix)), key=len, default="proxy")
    found = []
    own = ".".join(name.split(".")[:2]) if rule == "plugins" else rule
    for imported in imports(name, source):
        if under(imported, "proxy") or under(imported, "plugins"):
            exact = rule == "proxy.core" and imported in ("proxy.__version__",)
            allowed = [prefix for prefix in ALLOWED.get(rule, ()) if prefix != "proxy" or rule == "proxy.cli"]
            version = imported == "proxy.__version__"
            if not (exact or version or under(imported, own) or any(under(imported, p) for p in allowed)):
                found.append(f"{name} imports {imported}")
        for library, places in PLACES.items():
            if under(imported, library) and not any(under(name, place) for place in places):
                found.append(f"{name} imports {imported}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_imports_point_one_way(path: Path) -> None:
    assert offences(module(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plugins.auth.plugin", "from proxy.core.chain import Chain"),
        ("plugins.limiter.plugin", "from plugins.auth.keys import Key"),
        ("proxy.core.loader", "from plugins.auth import Auth"),
        ("proxy.api.plugin", "import proxy.core"),
        ("proxy.api.plugin", "from proxy.core.testing import drive"),
        ("proxy.pricing.values", "from proxy.api import Usage"),
        ("proxy.core.chain", "def f():\n    from proxy.admin.app import management"),
        ("proxy.core.chain", "import httpx2"),
        ("proxy.demo.chat", "from ..core import chain"),
    ],
)
def test_a_planted_import_is_found(name: str, line: str) -> None:
    assert offences(name, line)


def test_the_public_names_are_exactly_those_of_the_package() -> None:
    import proxy.api

    listed = set(proxy.api.__all__)
    public = {
        name
        for name, value in vars(proxy.api).items()
        if not name.startswith("_") and not isinstance(value, type(proxy))
    }
    assert listed == public


def _needs_a_test(path: Path) -> bool:
    # The demo is tested as a whole; the settings' parts are through the loader, in tests/core/test_config.py.
    whole = {"demo", "settings"} & set(path.parts)
    return path.name not in ("__init__.py", "__main__.py") and not whole


@pytest.mark.parametrize("path", [path for path in SOURCES if _needs_a_test(path)], ids=module)
def test_each_source_file_has_its_test(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    folders = parts[1:-1] if parts[0] == "proxy" else parts[:-1]
    expected = ROOT.joinpath("tests", *folders, f"test_{path.name}")
    assert expected.exists(), f"write {expected.relative_to(ROOT)}"


def test_no_index_address_and_no_path_of_a_machine_is_committed() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text, path
        assert "index-url" not in text, path
