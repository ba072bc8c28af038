"""`weir plugin new`: what it makes works."""

import sys
import tomllib
from pathlib import Path

import pytest

from proxy import __version__
from proxy.cli.plugin import _compatible
from tests.e2e.command import Ended, run, run_any

from .running import said, weir


def python(folder: Path, *arguments: str, **env: str) -> Ended:
    return run("-W", "error", "-m", *arguments, folder=folder, env=env, within=60)


@pytest.mark.parametrize(
    "name",
    [
        "request-size",
        pytest.param("x9", marks=pytest.mark.slow),
        pytest.param("none", marks=pytest.mark.slow),  # its class must not be None ...
        pytest.param("reply", marks=pytest.mark.slow),  # ... nor Reply, which it imports
    ],
)
def test_what_it_makes_passes_its_own_tests(clean: Path, name: str) -> None:
    told = said(weir("plugin", "new", name))
    folder = clean / f"weir-{name}"
    assert f"made weir-{name}" in told
    assert f"`use: {name}`" in told
    ended = python(folder, "pytest", "-q", "-p", "no:cacheprovider")
    assert ended.status == 0, ended.stdout
    assert "5 passed" in ended.stdout


@pytest.mark.slow
def test_its_tests_can_fail(clean: Path) -> None:
    said(weir("plugin", "new", "request-size"))
    module = clean / "weir-request-size" / "weir_request_size.py"
    module.write_text(module.read_text().replace("<= self.max_messages", "<= 1_000_000"))
    ended = python(clean / "weir-request-size", "pytest", "-q", "-p", "no:cacheprovider")
    assert ended.status == 1
    assert "1 failed, 4 passed" in ended.stdout


@pytest.mark.slow
def test_what_it_makes_is_installed_and_found_by_its_name(clean: Path) -> None:
    said(weir("plugin", "new", "request-size"))
    site = clean / "site"
    pip = ("pip", "-q", "install", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site))
    installed = run("-m", *pip, "./weir-request-size", folder=clean, within=60)
    assert installed.status == 0, installed.stderr
    (clean / "weir.yaml").write_text("plugins: [auth, {use: request-size, max_messages: 7}]\n")
    checked = python(clean, "proxy", "check", PYTHONPATH=str(site))
    assert (checked.status, checked.stderr) == (0, "")
    assert "auth → request-size" in checked.stdout
    listed = python(clean, "proxy", "plugins", PYTHONPATH=str(site)).stdout
    assert "request-size  weir-request-size 0.1.0  on_request, on_response, on_end" in listed
    assert sorted(path.name for path in site.iterdir() if path.suffix == ".py") == ["weir_request_size.py"]
    again = python(clean, "proxy", "plugin", "new", "request-size", PYTHONPATH=str(site))
    assert (again.status, again.stdout) == (2, "")
    assert "there is a plugin 'request-size' already" in again.stderr


@pytest.mark.slow
def test_what_it_makes_is_clean(clean: Path) -> None:
    said(weir("plugin", "new", "request-size"))
    folder = clean / "weir-request-size"
    bin_ = Path(sys.executable).parent
    line = ("--line-length", "110")
    for command in (
        (str(bin_ / "ruff"), "check", "--isolated", "--select", "E,F,W,I,B,UP,RUF,SIM", *line, "."),
        (str(bin_ / "ruff"), "format", "--isolated", "--check", *line, "."),
        (str(bin_ / "mypy"), "--strict", "--cache-dir", str(clean / "cache"), "."),
    ):
        ended = run_any(*command, folder=folder, within=100)
        assert ended.status == 0, ended.stdout + ended.stderr


def test_its_metadata(clean: Path) -> None:
    said(weir("plugin", "new", "request-size"))
    project = tomllib.loads((clean / "weir-request-size" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "weir-request-size"
    assert project["entry-points"] == {"weir.plugins": {"request-size": "weir_request_size:RequestSize"}}
    assert project["dependencies"] == [f"weir-proxy{_compatible(__version__)}"]


def test_everything_that_stands_for_something_is_filled_in(clean: Path) -> None:
    said(weir("plugin", "new", "request-size"))
    files = [path for path in (clean / "weir-request-size").rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        assert "$" not in path.read_text()
        assert "MODULE" not in path.name


@pytest.mark.parametrize(
    ("version", "compatible"),
    [("0.1.0", "~=0.1.0"), ("0.12.3", "~=0.12.0"), ("1.4.2", "~=1.4"), ("2.0.0", "~=2.0")],
)
def test_versions_with_the_same_plugin_api(version: str, compatible: str) -> None:
    assert _compatible(version) == compatible


def test_a_name_that_says_weir_already(clean: Path) -> None:
    said(weir("plugin", "new", "weir-request-size"))
    assert (clean / "weir-request-size" / "weir_request_size.py").exists()


@pytest.mark.parametrize(
    "name",
    ["Request", "request_size", "request size", "../request", "9lives", "a--b", "-", "weir-", "x" * 41],
)
def test_a_name_that_will_not_do(clean: Path, name: str) -> None:
    assert "is not a name like request-size" in said(weir("plugin", "new", "--", name), 2)
    assert list(clean.iterdir()) == []


def test_a_name_that_is_taken(clean: Path) -> None:
    assert "there is a plugin 'auth' already" in said(weir("plugin", "new", "auth"), 2)
    assert list(clean.iterdir()) == []


def test_a_folder_that_is_there_stays(clean: Path) -> None:
    folder = clean / "weir-request-size"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    assert "weir-request-size is there already" in said(weir("plugin", "new", "request-size"), 1)
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_into_another_folder(clean: Path) -> None:
    (clean / "plugins").mkdir()
    said(weir("plugin", "new", "request-size", "--into", "plugins"))
    assert (clean / "plugins" / "weir-request-size" / "pyproject.toml").exists()
    assert weir("plugin", "new", "request-size", "--into", "nowhere").exit_code == 2
