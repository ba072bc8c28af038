"""`weir plugin new`: a package with a plugin in it, its entry point and its tests."""

import keyword
import re
import shutil
from pathlib import Path
from string import Template

import click

import proxy.api
from proxy import __version__
from proxy.cli.options import fail

TEMPLATES = Path(__file__).parent / "templates" / "plugin"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40


@click.group(epilog="Example: weir plugin new request-size")
def plugin() -> None:
    """Write a plugin of your own."""


@plugin.command(
    epilog="\b\nExample: weir plugin new request-size\n"
    "         cd weir-request-size && pip install -e . && python -m pytest"
)
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="The folder in which the package's own is made; without it, this one.",
)
def new(name: str, into: Path) -> None:
    """Make a package with a plugin in it: weir-NAME.

    The plugin works and its tests pass: change both to what you need. NAME is what weir.yaml will call it:
    lower-case words with dashes, such as request-size.
    """
    name = name.removeprefix("weir-")
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        fail([f"{name!r} is not a name like request-size: lower-case words and digits, with dashes"], 2)
    from proxy.core.loader import installed

    if name in installed():
        fail([f"there is a plugin {name!r} already; `weir plugins` lists what is installed"], 2)
    folder = into / f"weir-{name}"
    try:
        folder.mkdir()
    except FileExistsError:
        fail([f"{folder} is there already; choose another name, or remove it"], 1)
    except OSError as error:
        fail([f"{folder} cannot be made: {error.strerror}"], 1)
    try:
        _fill(folder, name)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)  # it was made just now, and half of it helps nobody
        fail([f"{folder} cannot be filled: {error.strerror}"], 1)
    click.echo(f"made {folder}; its tests: cd {folder} && python -m pytest")
    click.echo(f"install it with: pip install -e {folder}; then `use: {name}` in weir.yaml is all it takes")


def _fill(folder: Path, name: str) -> None:
    words = name.split("-")
    module = "_".join(["weir", *words])
    cls = "".join(word.capitalize() for word in words)
    if keyword.iskeyword(cls) or hasattr(proxy.api, cls):
        cls += "Plugin"
    values = {"name": name, "module": module, "cls": cls, "weir": _compatible(__version__)}
    for template in sorted(TEMPLATES.rglob("*.in")):
        path = folder / str(template.relative_to(TEMPLATES)).removesuffix(".in").replace("MODULE", module)
        path.parent.mkdir(exist_ok=True)
        path.write_text(Template(template.read_text("utf-8")).substitute(values), "utf-8")


def _compatible(version: str) -> str:
    """The versions with the same plugin API: see "What stays as it is" in docs/plugins.md."""
    major, minor = version.split(".")[:2]
    return f"~={major}.{minor}" if int(major) else f"~=0.{minor}.0"
