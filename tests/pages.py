"""Pages as tests read them: their code blocks, the commands in these, and what their tables list."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


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


def commands(block: str) -> list[str]:
    """The commands of a shell block, without comments."""
    joined = block.replace("\\\n", " ")
    return [command for line in joined.splitlines() if (command := re.sub(r"(^|\s)#.*", "", line).strip())]
