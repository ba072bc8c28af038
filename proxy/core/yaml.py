"""YAML 1.2 with line numbers, and the references (`${NAME}`, `${file:/path}`) in its text.

Works on ruamel's events and resolves plain scalars itself, by the YAML 1.2 core schema: `on`, `off`, `yes`
and `no` are text, `010` is ten. What a configuration has no need of is refused rather than half supported:
tags of one's own, merge keys, several documents, aliases that grow without bound.

No message repeats a value: nobody here knows which of them are secret.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

import orjson
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

MAX_BYTES: Final = 2**20
"""Of a YAML file. Reading that much text takes 5 s at worst, since ruamel is Python."""
MAX_VALUES: Final = 40_000
"""Of a document, keys and aliased ones included: that of 5000 client keys, which takes 5 s."""
MAX_SECRET_BYTES: Final = 2**16
"""Of a file that `${file:…}` names."""
MAX_DEPTH: Final = 64
MAX_ALIASED: Final = 10_000
"""Nodes that all aliases of a document may add together."""

Loc: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys and indexes from the top, as pydantic writes it."""


class Problem(NamedTuple):
    """One thing that is wrong. `line` counts from 1, 0 is the file as a whole; `text` is one line."""

    line: int
    loc: Loc
    text: str


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value. `hidden`: it came from the environment or a file, and no message may show it.

    `broken`: it could not be read, which has been reported; its value is None.
    """

    value: str | int | float | bool | None
    line: int
    hidden: bool = False
    broken: bool = False


@dataclass(frozen=True, slots=True)
class ListNode:
    """A sequence."""

    items: tuple["Node", ...]
    line: int


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping; keys are always text, as written. `lines` has the line of each key."""

    items: dict[str, "Node"]
    lines: dict[str, int]
    line: int


Node: TypeAlias = ScalarNode | ListNode | MapNode


class Spot(NamedTuple):
    """Where a value stands. `key_line` is the line of its key, in a list that of the item."""

    key_line: int
    line: int
    hidden: bool = False
    broken: bool = False


def show_loc(loc: Loc) -> str:
    """`upstreams[0].timeouts.connect`; keys that would be ambiguous or long are quoted and cut."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_/-]{1,64}", part):
            text += f".{part}" if text else part
        else:
            text += f"[{quote(part)}]"
    return text


def quote(text: str, limit: int = 60) -> str:
    """In double quotes, on one line, cut to `limit` characters."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    written = orjson.dumps(cut.encode("utf-8", "replace").decode()).decode()
    # JSON leaves these as they are, and some terminals and str.splitlines() break lines at them.
    return re.sub(r"[\x7f-\x9f\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", written)


def read(path: Path) -> tuple[Node | None, list[Problem]]:
    """The document of a file, None if it is empty or unreadable, and everything that is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        return None, [Problem(0, (), why_unreadable(error))]
    if len(data) > MAX_BYTES:
        return None, [Problem(0, (), "is larger than 1 MiB")]
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:
        return None, [Problem(data.count(b"\n", 0, error.start) + 1, (), "is not UTF-8 text")]


def why_unreadable(error: OSError | ValueError) -> str:
    """A predicate in plain English for a file that could not be opened or read."""
    match error:
        case FileNotFoundError():
            return "no such file"
        case IsADirectoryError():
            return "is a directory, not a file"
        case PermissionError():
            return "may not be read: permission denied"
        case OSError():
            return f"cannot be read: {(error.strerror or 'unknown error').lower()}"
    return "is not a possible file name"


def parse(text: str) -> tuple[Node | None, list[Problem]]:
    """The document, and everything that is wrong with it. None if it is empty or no YAML at all.

    Every problem is reported but for syntax errors, of which only the first is known. Never raises.
    """
    builder = _Builder(text)
    try:
        root = builder.build()
    except _Stop:
        root = None
    return root, builder.problems


def plain(node: Node) -> Any:
    """The document as dictionaries, lists and scalars."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case MapNode():
            return {key: plain(item) for key, item in node.items.items()}


def spots(node: Node, loc: Loc = (), key_line: int | None = None) -> Iterator[tuple[Loc, Spot]]:
    """Where each value of the document stands, the document itself at `()` included."""
    match node:
        case ScalarNode(hidden=hidden, broken=broken):
            yield loc, Spot(key_line or node.line, node.line, hidden, broken)
        case _:
            yield loc, Spot(key_line or node.line, node.line)
    match node:
        case ListNode():
            for index, item in enumerate(node.items):
                yield from spots(item, (*loc, index))
        case MapNode():
            for key, item in node.items.items():
                yield from spots(item, (*loc, key), node.lines[key])


def interpolate(
    node: Node, environ: Mapping[str, str], folder: Path, problems: list[Problem], loc: Loc = ()
) -> Node:
    """The document with every reference in its text replaced; keys are left alone. The result stays text.

    Relative paths start from `folder`. Appends to `problems` what cannot be found.
    """
    match node:
        case ScalarNode(value=str(text)) if "${" in text:
            try:
                value, hidden = _expand(text, environ, folder)
            except _BadReference as error:
                problems.append(Problem(node.line, loc, str(error)))
                return ScalarNode(None, node.line, broken=True)
            return replace(node, value=value, hidden=hidden)
        case ListNode():
            items = (
                interpolate(item, environ, folder, problems, (*loc, index))
                for index, item in enumerate(node.items)
            )
            return replace(node, items=tuple(items))
        case MapNode():
            return replace(
                node,
                items={
                    key: interpolate(item, environ, folder, problems, (*loc, key))
                    for key, item in node.items.items()
                },
            )
    return node


class _BadReference(ValueError):
    """Its text is a whole message, and never has more of the value than the name in the braces."""


# `$${` first: it must win over the `${` inside it. A brace that is never closed matches with no `}`.
_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^{}]*)(\})?")


def _expand(text: str, environ: Mapping[str, str], folder: Path) -> tuple[str, bool]:
    hidden = False

    def value(match: re.Match[str]) -> str:
        nonlocal hidden
        if match[0] == "$${":
            return "${"
        hidden = True
        if match[2] is None:
            raise _BadReference('a "${" without its "}" (write "$${" for a literal "${")')
        return _lookup(match[1], environ, folder)

    return _REFERENCE.sub(value, text), hidden


def _lookup(name: str, environ: Mapping[str, str], folder: Path) -> str:
    if name.startswith("file:") and len(name) > len("file:"):
        return _contents(folder / name.removeprefix("file:"))
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,200}", name):
        raise _BadReference('what is in "${…}" must be the name of an environment variable, or file:/path')
    if not (value := environ.get(name)):
        raise _BadReference(f"the environment variable {name} is not set, or empty")
    return value


def _contents(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _BadReference(f"the file {quote(str(path), 200)}: {why_unreadable(error)}") from None
    if len(data) > MAX_SECRET_BYTES:
        raise _BadReference(f"the file {quote(str(path), 200)} is larger than 64 KiB")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise _BadReference(f"the file {quote(str(path), 200)} is not UTF-8 text") from None


class _Stop(Exception):
    """Nothing after this can be read; why is among the problems."""


_Start: TypeAlias = ScalarEvent | SequenceStartEvent | MappingStartEvent


class _Anchored(NamedTuple):
    node: Node
    size: int
    height: int


class _Builder:
    """Makes nodes out of events. Recursive, but never deeper than `MAX_DEPTH`."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._anchors: dict[str, _Anchored | None] = {}  # None while it is being built
        self._aliased = 0
        self._built = 0
        self._height = 0
        self._yaml = YAML(typ="safe", pure=True)
        self._events = self._parse()

    def build(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(event, (), "a second document starts here; keep one")
                root = self._node(next(self._events), (), 0)
        return root

    def _parse(self) -> Iterator[_Start | AliasEvent]:
        # There are others, of documents and ends; nothing but their class is looked at.
        # Every way in which ruamel gives up, as one problem with its line.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield from self._yaml.parse(self._text)
        except MarkedYAMLError as error:
            problem = str(error.problem)
            marks = [error.problem_mark, error.context_mark]
            if any(sign in problem for sign in _SEEN_LATE):
                marks.reverse()
            mark = marks[0] or marks[1]
            self._broken(mark.line + 1 if mark else 0, problem)
        except ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            self._broken(line, f"the character U+{ord(self._text[error.position]):04X} is not allowed")
        except (YAMLError, ValueError, OverflowError):
            # Escapes such as "\U00110000" reach chr() unchecked.
            escape = re.search(r"\\U(?!000|0010)[0-9a-fA-F]{8}", self._text)
            line = self._text.count("\n", 0, escape.start()) + 1 if escape else 0
            self._broken(line, "an escape that is no character")

    def _broken(self, line: int, problem: str) -> NoReturn:
        lines = self._text.split("\n")
        here = lines[line - 1] if 0 < line <= len(lines) else ""
        self.problems.append(Problem(line, (), f"not valid YAML: {_explain(problem, here)}"))
        raise _Stop

    def _stop(self, event: Event, loc: Loc, text: str) -> NoReturn:
        self.problems.append(Problem(_line(event), loc, text))
        raise _Stop

    def _node(self, event: _Start | AliasEvent, loc: Loc, depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, loc, depth)
        if depth >= MAX_DEPTH:
            self._stop(event, (), f"nested more than {MAX_DEPTH} deep")
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if self._built >= MAX_VALUES:
            text = f"has more than {MAX_VALUES} values; keep keys in a database or a folder (docs/keys.md)"
            self._stop(event, (), text)
        built = self._built
        outer, self._height = self._height, 0
        self._built += 1
        node: Node
        if isinstance(event, ScalarEvent):
            node = self._scalar(event, loc)
        elif isinstance(event, SequenceStartEvent):
            node = self._list(event, loc, depth)
        else:
            node = self._map(event, loc, depth)
        height = self._height + 1
        self._height = max(outer, height)
        if anchor is not None:
            self._anchors[anchor] = _Anchored(node, self._built - built, height)
        return node

    def _alias(self, event: AliasEvent, loc: Loc, depth: int) -> Node:
        if event.anchor not in self._anchors:
            # The name stays unsaid: it may be a secret that was not put in quotes.
            self._stop(event, loc, 'an alias without its anchor (put text that starts with "*" in quotes)')
        target = self._anchors[event.anchor]
        if target is None:
            self._stop(event, loc, "an alias that contains itself")
        self._aliased += target.size
        self._built += target.size
        self._height = max(self._height, target.height)
        if self._aliased > MAX_ALIASED:
            self._stop(event, loc, f"the aliases expand to more than {MAX_ALIASED} values")
        if depth + target.height > MAX_DEPTH:
            self._stop(event, loc, f"nested more than {MAX_DEPTH} deep")
        return target.node

    def _list(self, event: SequenceStartEvent, loc: Loc, depth: int) -> ListNode:
        self._refuse_tag(event, loc, "seq")
        items: list[Node] = []
        while not isinstance(item := next(self._events), CollectionEndEvent):
            items.append(self._node(item, (*loc, len(items)), depth + 1))
        return ListNode(tuple(items), _line(event))

    def _map(self, event: MappingStartEvent, loc: Loc, depth: int) -> MapNode:
        self._refuse_tag(event, loc, "map")
        items: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(key := next(self._events), CollectionEndEvent):
            name = self._key(key, loc, depth)
            node = self._node(next(self._events), loc if name is None else (*loc, name), depth + 1)
            if name is None:
                continue
            if name in items:
                text = f"duplicate key; it is already on line {lines[name]}"
                self.problems.append(Problem(_line(key), (*loc, name), text))
                continue
            items[name], lines[name] = node, _line(key)
        return MapNode(items, lines, _line(event))

    def _key(self, event: _Start | AliasEvent, loc: Loc, depth: int) -> str | None:
        node = self._node(event, loc, depth + 1)
        if not isinstance(event, ScalarEvent) or not event.value:
            self.problems.append(Problem(_line(event), loc, "a key must be a word"))
            return None
        if event.value == "<<" and not event.style:
            text = '"<<" (a merge key) is not part of YAML 1.2: write the keys out'
            self.problems.append(Problem(_line(event), loc, text))
            return None
        # As written, so that `on`, `1` and `1.0` mean what they look like; only its checks were wanted.
        return event.value if isinstance(node, ScalarNode) else None

    def _scalar(self, event: ScalarEvent, loc: Loc) -> ScalarNode:
        line = _line(event)
        tag = event.tag
        if tag is None and event.implicit[0]:
            try:
                return ScalarNode(_core_schema(event.value), line)
            except ValueError:
                self.problems.append(Problem(line, loc, "the number has too many digits"))
                return ScalarNode(None, line, broken=True)
        if re.search("[\ud800-\udfff]", event.value):
            self.problems.append(Problem(line, loc, "an escape that is no character"))
            return ScalarNode(None, line, broken=True)
        if tag is None or tag in {"!", "tag:yaml.org,2002:str"}:
            return ScalarNode(event.value, line)
        self._refuse_tag(event, loc, "str")
        return ScalarNode(None, line, broken=True)

    def _refuse_tag(self, event: _Start, loc: Loc, allowed: str) -> None:
        if event.tag not in {None, "!", f"tag:yaml.org,2002:{allowed}"}:
            text = 'tags are not understood here (put text that starts with "!" in quotes)'
            self.problems.append(Problem(_line(event), loc, text))


def _line(event: Event) -> int:
    line: int = event.start_mark.line + 1
    return line


_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def _core_schema(text: str) -> str | int | float | bool | None:
    """A plain scalar by YAML 1.2, chapter 10.3.2. Raises ValueError for integers beyond 100 digits."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > 100:
            raise ValueError("too many digits")
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    return float(text) if _FLOAT.fullmatch(text) else text


# Noticed only at the end of the file or some lines on: the line where it began is the one to mend.
_SEEN_LATE: Final = (
    "could not find expected ':'",
    "unexpected end of stream",
    "unexpected document separator",
)

_EXPLAINED: Final = (
    (
        "mapping values are not allowed here",
        'a ":" where none can be (wrong indent, or text that needs quotes)',
    ),
    ("sequence entries are not allowed here", 'a "- " where none can be (wrong indent?)'),
    ("unknown escape character", "an unknown escape after a backslash (use single quotes for literal text)"),
    ("escape sequence", "an incomplete escape after a backslash (use single quotes for literal text)"),
    ("character '\\t'", "a tab; indent with spaces"),
    ("character '", "a character that no value can start with; put the text in quotes"),
    ("could not find expected ':'", 'a key without its ":"'),
    ("expected ',' or ']'", 'a list in [ ] that lacks its "," or "]"'),
    ("expected ',' or '}'", 'a mapping in { } that lacks its "," or "}"'),
    ("expected <block end>", "the indent does not fit the lines above"),
    ("unexpected end of stream", "a quote that is never closed"),
    ("unexpected document separator", "a quote that is never closed"),
    ("tag handle", 'tags are not understood here (put text that starts with "!" in quotes)'),
    ("the character U+", ""),
    ("an escape that is no character", ""),
    ("incompatible YAML document", "only YAML 1.2 is understood"),
    (
        "alphabetic or numeric character",
        'a "*" or "&" without a name (put text that starts with it in quotes)',
    ),
)


def _explain(problem: str, line: str) -> str:
    # A fixed list, because some of ruamel's own messages repeat what they stumbled over.
    for sign, text in _EXPLAINED:
        if sign in problem:
            hint = ' (quote "${…}" inside [ ] and { })' if "${" in line and "lacks its" in text else ""
            return (text or problem) + hint
    return "something here cannot be read (a quote, bracket or indent that does not fit?)"
