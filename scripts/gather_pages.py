"""Gathers what the documentation's site is made of: the pages here, their style, and every file they link to.

    python scripts/gather_pages.py build/pages

Everything keeps its place, so that a link is the same in a checkout and on the site. A folder that is linked
to comes with its files and, if it has no page, with one that lists them.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path


def links(page: Path) -> Iterator[Path]:
    """What a page links to in this checkout."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s#]+)", text):
        if not re.match(r"[a-z]+:", link):
            yield Path(os.path.normpath(page.parent / link))


def files(folder: Path) -> list[Path]:
    """The files of a folder that somebody wrote."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(path for path in found if "__pycache__" not in path.parts and path.name[0] != ".")


def gather(to: Path) -> None:
    """Copy it all. A link that leads nowhere is left for the builder to complain of."""
    seen: set[Path] = set()
    ahead = [*Path().glob("*.md"), *Path("docs").rglob("*.md"), *Path("docs").rglob("*.css")]
    while ahead:
        path = ahead.pop()
        if path in seen or path.is_absolute() or ".." in path.parts:
            continue
        seen.add(path)
        if path.is_dir():
            ahead += files(path)
            if not any((path / name).exists() for name in ("README.md", "index.md")):
                listed = [file.relative_to(path).as_posix() for file in files(path)]
                text = f"# {path.name}\n\n" + "".join(f"- [{name}]({name})\n" for name in listed)
                (to / path).mkdir(parents=True, exist_ok=True)
                (to / path / "index.md").write_text(text)
        elif path.is_file():
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / path)
            if path.suffix == ".md":
                ahead += links(path)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    gather(target)
