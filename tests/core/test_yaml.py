import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.core import yaml
from proxy.core.yaml import MapNode, Node, Problem, ScalarNode, parse, plain, quote, read, show_loc, spots


def good(text: str) -> Node:
    node, problems = parse(text)
    assert problems == []
    assert node is not None
    return node


def bad(text: str) -> list[Problem]:
    _, problems = parse(text)
    assert problems
    for problem in problems:
        assert len(problem.text.splitlines()) == 1
    return problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("Off", "Off"),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0b11", "0b11"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("5s", "5s"),
        (":3006", ":3006"),
        (">-\n  a\n  b", "a b"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert plain(good(f"a: {text}")) == {"a": value}
    assert plain(good(f"%YAML 1.1\n---\na: {text}")) == {"a": value}


def test_keys_are_text_as_written() -> None:
    assert plain(good("on: 1\n1: 2\n1.0: 3\nnull: 4\n'a b': 5")) == {
        "on": 1,
        "1": 2,
        "1.0": 3,
        "null": 4,
        "a b": 5,
    }


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "--- ~\n", "\ufeff"])
def test_empty(text: str) -> None:
    node, problems = parse(text)
    assert problems == []
    assert node is None or plain(node) is None


def test_lines() -> None:
    text = "a: 1\nb:\n  - x\n  - c:\n      d: 2\ne:\n  >-\n  folded\n"
    assert {show_loc(loc): spot[:2] for loc, spot in spots(good(text))} == {
        "": (1, 1),
        "a": (1, 1),
        "b": (2, 3),
        "b[0]": (3, 3),
        "b[1]": (4, 4),
        "b[1].c": (4, 5),
        "b[1].c.d": (5, 5),
        "e": (6, 7),
    }


def test_lines_count_as_editors_count_them() -> None:
    assert bad("a: '\u2028'\r\nb: '\x85'\nc: d: e")[0].line == 3


def test_duplicate_keys_are_told_with_both_lines_and_reading_goes_on() -> None:
    problems = bad("a: 1\nb:\n  c: 1\n  c: 2\na: 3\nd: !x 1")
    assert [(p.line, show_loc(p.loc), p.text) for p in problems] == [
        (4, "b.c", "duplicate key; it is already on line 3"),
        (5, "a", "duplicate key; it is already on line 1"),
        (6, "d", 'tags are not understood here (put text that starts with "!" in quotes)'),
    ]


def test_aliases() -> None:
    assert plain(good("a: &x {k: [1]}\nb: *x\nc: [*x]")) == {
        "a": {"k": [1]},
        "b": {"k": [1]},
        "c": [{"k": [1]}],
    }
    assert plain(good("a: &x 1\nb: &x 2\nc: *x")) == {"a": 1, "b": 2, "c": 2}


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (bomb(9), 4, "expand to more than 10000"),
        ("a: &x [*x]", 1, "contains itself"),
        ("\na: *nowhere", 2, "without its anchor"),
        ("a: " + "[" * 200, 1, "nested more than 64"),
        ("- " * 200 + "a", 1, "nested more than 64"),
        ("? " * 200, 1, "nested more than 64"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 80)), 63, "nested more"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("a: !!int 5", 1, "tags"),
        ("a: !!python/object:os.system {}", 1, "tags"),
        ("a: !mine [1]", 1, "tags"),
        ("a: !h!x 1", 1, "tags"),
        ("\n<<: {a: 1}", 2, "merge key"),
        ("? [a]\n: b", 1, "a key must be a word"),
        (": b", 1, "a key must be a word"),
        ("a: " + "9" * 101, 1, "too many digits"),
        ('a: "\\ud800"', 1, "an escape that is no character"),
        ('a: "\\U00110000"', 1, "an escape that is no character"),
        ('b: 1\na: "\\UFFFFFFFF"', 2, "an escape that is no character"),
        ('a: "\\q"', 1, "unknown escape"),
        ('a: "\\x1"', 1, "incomplete escape"),
        ("b: 1\na: \x07", 2, "U+0007 is not allowed"),
        ("a:\n\tb: 1", 2, "a tab; indent with spaces"),
        ("a: @x", 1, "put the text in quotes"),
        ("a: b: c", 1, 'a ":" where none can be'),
        ("a: - b", 1, 'a "- " where none can be'),
        ("a: 1\nb\nc: 2", 2, 'a key without its ":"'),
        ("a: [1\nb: 2", 2, 'lacks its "," or "]"'),
        ("a: {k: ${X}}", 1, 'quote "${…}" inside'),
        ("a:\n  b: 1\n c: 2", 3, "indent does not fit"),
        ("b: 1\na: 'x\n\nc: 1\n", 2, "never closed"),
        ("a: 'x\n---\nc: 1\n", 1, "never closed"),
        ("a: &", 1, "without a name"),
        ("a: !<x", 1, "cannot be read"),
        ("%YAML 2.0\n---\na: 1", 1, "YAML 1.2"),
    ],
)
def test_what_is_refused(text: str, line: int, why: str) -> None:
    problem = bad(text)[0]
    assert problem.line == line
    assert why in problem.text


def test_a_broken_scalar_is_marked_so_that_it_is_told_once() -> None:
    node, problems = parse("a: !x 1")
    assert len(problems) == 1
    assert isinstance(node, MapNode)
    assert node.items["a"] == ScalarNode(None, 1, broken=True)


@pytest.mark.parametrize(
    ("loc", "shown"),
    [
        ((), ""),
        (("a", 0, "b"), "a[0].b"),
        ((0,), "[0]"),
        (("images/*",), '["images/*"]'),
        (("a", "b.c\n"), 'a["b.c\\n"]'),
    ],
)
def test_places(loc: yaml.Loc, shown: str) -> None:
    assert show_loc(loc) == shown


@given(st.text(max_size=200))
def test_quotes_stay_on_one_line_and_are_short(text: str) -> None:
    assert len(quote(text).splitlines()) == 1
    assert len(quote(text, 10)) <= 2 + 11 * 6


def test_quotes_of_what_utf8_cannot_say() -> None:
    assert quote("a\ud800b\x9b") == '"a?b\\u009b"'


# --- files ---


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: \xc3\xa4\r\n")
    node, problems = read(tmp_path / "a.yaml")
    assert problems == []
    assert node is not None
    assert plain(node) == {"a": "ä"}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"a: 1\nb: \xe4\n")
    (tmp_path / "large").write_bytes(b"#" * (yaml.MAX_BYTES + 1))
    (tmp_path / "full").write_bytes(b"#" * yaml.MAX_BYTES)
    assert read(tmp_path / "latin") == (None, [Problem(2, (), "is not UTF-8 text")])
    assert read(tmp_path / "large") == (None, [Problem(0, (), "is larger than 1 MiB")])
    assert read(tmp_path / "full") == (None, [])
    assert read(tmp_path / "none") == (None, [Problem(0, (), "no such file")])
    assert read(tmp_path) == (None, [Problem(0, (), "is a directory, not a file")])
    assert read(tmp_path / "full" / "x")[1][0].text == "cannot be read: not a directory"
    assert read(Path("a\0b"))[1][0].text == "is not a possible file name"


def test_why_unreadable_says_permission() -> None:
    assert yaml.why_unreadable(PermissionError()) == "may not be read: permission denied"


# --- references ---


def test_a_document_of_very_many_values_is_refused_where_it_becomes_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A megabyte of commas would keep the interpreter busy for a minute, in a process that serves."""
    monkeypatch.setattr(yaml, "MAX_VALUES", 1000)
    root, (problem,) = parse("a: [" + ",\n".join(["[]"] * 1000) + "]")
    assert (root, problem.line, problem.loc) == (None, 998, ())
    assert problem.text == "has more than 1000 values; keep keys in a database or a folder (docs/keys.md)"
    assert parse("a: [" + ",\n".join(["[]"] * 997) + "]")[1] == []


def expanded(
    value: str, folder: Path = Path("/nowhere"), environ: dict[str, str] | None = None
) -> tuple[object, bool, list[Problem]]:
    problems: list[Problem] = []
    node = yaml.interpolate(
        ScalarNode(value, 7), environ or {"A": "x", "B": "${A}"}, folder, problems, ("k",)
    )
    assert isinstance(node, ScalarNode)
    return node.value, node.hidden, problems


@pytest.mark.parametrize(
    ("text", "value", "hidden"),
    [
        ("plain", "plain", False),
        ("$A $ {A} $", "$A $ {A} $", False),
        ("${A}", "x", True),
        ("<${A}${A}>", "<xx>", True),
        ("$${A}", "${A}", False),
        ("$$${A}", "$${A}", False),
        ("$${A} ${A}", "${A} x", True),
        ("${B}", "${A}", True),
    ],
)
def test_references(text: str, value: str, hidden: bool) -> None:
    assert expanded(text) == (value, hidden, [])


def test_references_to_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hush\r\n\n")
    (tmp_path / "latin").write_bytes(b"\xe4")
    (tmp_path / "large").write_bytes(b"x" * (yaml.MAX_SECRET_BYTES + 1))
    assert expanded("${file:key}", tmp_path) == ("hush", True, [])
    assert expanded(f"-${{file:{tmp_path}/key}}-") == ("-hush-", True, [])
    for name, why in [
        ("none", "no such file"),
        ("latin", "is not UTF-8 text"),
        ("large", "is larger than 64 KiB"),
        (".", "is a directory, not a file"),
        ("a\0b", "is not a possible file name"),
    ]:
        value, _, problems = expanded(f"${{file:{name}}}", tmp_path)
        assert value is None
        assert [(p.line, p.loc) for p in problems] == [(7, ("k",))]
        assert why in problems[0].text
        assert len(problems[0].text.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("${NONE}", "the environment variable NONE is not set"),
        ("${EMPTY}", "the environment variable EMPTY is not set, or empty"),
        ("${A", 'a "${" without its "}"'),
        ("${A ${A}", 'a "${" without its "}"'),
        ("${}", "must be the name of an environment variable"),
        ("${sk-secret}", "must be the name of an environment variable"),
        ("${file:}", "must be the name of an environment variable"),
        ("${A:-default}", "must be the name of an environment variable"),
    ],
)
def test_bad_references(text: str, why: str) -> None:
    value, _, problems = expanded(text, environ={"A": "x", "EMPTY": ""})
    assert value is None
    assert why in problems[0].text
    assert "sk-secret" not in problems[0].text


def test_references_everywhere_but_in_keys() -> None:
    problems: list[Problem] = []
    node = yaml.interpolate(good("${A}: ['${A}', {b: '${A}', c: 1}]"), {"A": "x"}, Path(), problems)
    assert problems == []
    assert plain(node) == {"${A}": ["x", {"b": "x", "c": 1}]}
    assert [show_loc(loc) for loc, spot in spots(node) if spot.hidden] == ['["${A}"][0]', '["${A}"][1].b']


# --- any text ---


@settings(max_examples=400)
@example("\r'")
@given(
    st.text(st.sampled_from(list("ab1:-?&*!|>'\"%@`{}[],#~ \n\t\\$<.\x85\u2028\x07")), max_size=60)
    | st.text()
)
def test_any_text_is_read_or_refused(text: str) -> None:
    node, problems = parse(text)
    lines = len(re.findall("\r\n|\r|\n", text)) + 1  # YAML 1.2, 5.4
    for problem in problems:
        assert problem.line <= lines
        assert len(problem.text.splitlines()) == 1
    if node is not None:
        plain(node)
        assert all(spot.line >= 1 and spot.key_line >= 1 for _, spot in spots(node))


DATA: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


def as_yaml(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{as_yaml(k)}: {as_yaml(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(as_yaml, value)) + "]"
        case str():
            return (
                '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in value) + '"'
            )
        case float():
            return {"inf": ".inf", "-inf": "-.inf"}.get(str(value), repr(value))
        case None | bool():
            return orjson.dumps(value).decode()
    return str(value)


@given(DATA)
def test_data_comes_back(value: Any) -> None:
    assert plain(good(as_yaml(value))) == value
