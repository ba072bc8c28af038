"""Write docs/faults.md anew, from tests/faults/rows.py and the tests that are marked with its rows.

    python -m scripts.update_faults            # in the root of a checkout
    python -m scripts.update_faults --check    # write nothing; 1 if the page is not what would be written

Marks are read and nothing is run: `@pytest.mark.fault("A1", "A2")` above a test, in one of its parameters, or
as `pytestmark` of a module or class.
"""

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.rows import INVARIANTS, LETTERS, ROWS, Row

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"
INTRO = """\
# Faults

What can go wrong between a client, Weir and an upstream; what the client then sees; what is kept. Each line
is shown by tests, named beside it and linked to; nearly all run the real process on real sockets. `make test`
runs them all.

This page is written by `python -m scripts.update_faults` from the tests and their table,
[`rows.py`](../tests/faults/rows.py), and a test fails when it is not up to date. Error codes are explained in
[errors](errors.md), settings in [configuration](configuration.md).
"""
DIFFERS = """\
## Decided otherwise

What one might expect of a proxy, and why Weir does something else.
"""
ALWAYS = """\
## What always holds

After each test in `tests/faults` the process is looked at, whatever went wrong in that test. That the look
would find something is shown by tests too: they plant a leak, a second end or a secret in a running process,
and see it found.
"""


class Shown(NamedTuple):
    """A test that shows a row."""

    file: str
    """From the root of the checkout."""
    name: str


class Misplaced(Exception):
    """A mark that nobody can make sense of. One line that says where."""


def shown(root: Path = ROOT) -> dict[str, list[Shown]]:
    """The tests that show each row, by row; rows that there are not included. Raises `Misplaced`."""
    found: dict[str, list[Shown]] = {}
    for path in sorted((root / "tests").rglob("*.py")):
        text = path.read_text()
        if "mark.fault" not in text:
            continue
        for row, name in marks(text, path.relative_to(root).as_posix()):
            test = Shown(path.relative_to(root).as_posix(), name)
            if test not in found.setdefault(row, []):
                found[row].append(test)
    return found


def marks(source: str, file: str) -> Iterator[tuple[str, str]]:
    """Pairs of a row and a test in one file."""
    module = ast.parse(source)
    understood: set[ast.Call] = set()

    def look(body: list[ast.stmt], outer: list[ast.Call]) -> Iterator[tuple[str, str]]:
        here = list(outer)
        for node in body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "pytestmark":
                here += _marks(node)
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from look(node.body, [*here, *(m for d in node.decorator_list for m in _marks(d))])
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                own = [mark for decorator in node.decorator_list for mark in _marks(decorator)]
                understood.update(here, own)
                for mark in [*own, *here]:
                    for row in mark.args:
                        if not (isinstance(row, ast.Constant) and isinstance(row.value, str)):
                            raise Misplaced(f"{file}:{mark.lineno}: write the row as text")
                        yield row.value, node.name

    yield from look(module.body, [])
    for mark in _marks(module):
        if mark not in understood or not mark.args:
            raise Misplaced(f"{file}:{mark.lineno}: put this mark on a test, with a row")


def _marks(tree: ast.AST) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "fault"
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == "mark"
    ]


def page(rows: Mapping[str, Row], tests: Mapping[str, Sequence[Shown]]) -> str:
    """The whole page."""
    parts = [INTRO]
    for letter, title in LETTERS.items():
        parts.append(f"## {letter}. {title}\n")
        lines = ["| | what happens | what the client sees | what is kept | shown by |", "|" + " --- |" * 5]
        for id, row in rows.items():
            if id[0] == letter:
                cells = (id, row.fault, row.client, row.kept, _links(tests.get(id, ())))
                lines.append("".join(f"| {cell} " if cell else "| " for cell in cells) + "|")
        parts.append("\n".join(lines) + "\n")
    parts.append(DIFFERS)
    parts.append("\n".join(f"- **{id}.** {row.differs}" for id, row in rows.items() if row.differs) + "\n")
    parts.append(ALWAYS)
    lines = ["| | what holds | shown to be looked at by |", "|" + " --- |" * 3]
    lines += [f"| {id} | {text} | {_links(tests.get(id, ()))} |" for id, text in INVARIANTS.items()]
    parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _links(tests: Sequence[Shown]) -> str:
    """Names as the sentences that they are."""
    return "; ".join(
        f"[{test.name.removeprefix('test_').replace('_', ' ')}](../{test.file})" for test in tests
    )


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    try:
        text = page(ROWS, shown())
    except Misplaced as error:
        print(f"update_faults: {error}", file=sys.stderr)  # noqa: T201 # a command speaks
        return 1
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    if "--check" in arguments:
        print("update_faults: docs/faults.md is not up to date", file=sys.stderr)  # noqa: T201
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
