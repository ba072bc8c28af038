import re
from xml.etree import ElementTree

from bench.picture import LABEL, RIGHT, WIDTH, Bar, Group, draw

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = [
    Group("short & <sweet>", [Bar("caddy", 1, 1, 1), Bar("weir", 1.5, 1.2, 2.0), Bar("litellm", 90, 80, 95)]),
    Group("stream", [Bar("caddy", 1, 1, 1), Bar("weir-bare", 0.5, 0.4, 0.6)]),
]


def drawn() -> ElementTree.Element:
    return ElementTree.fromstring(draw("CPU", GROUPS))  # noqa: S314 # our own


def bars() -> list[tuple[str, float]]:
    found = drawn().iter(f"{SVG}rect")
    return [
        (rect.attrib["class"], float(rect.attrib["width"]))
        for rect in found
        if "page" not in rect.attrib["class"]
    ]


def test_bars_are_as_long_as_their_values() -> None:
    room = WIDTH - LABEL - RIGHT
    assert bars()[:2] == [("bar", room / 2), ("ours", 0.75 * room)]  # the scale ends where the range does
    assert bars()[3:] == [("bar", room), ("ours", room / 2)]


def test_a_bar_that_would_make_nothing_of_others_is_cut_and_says_so() -> None:
    assert bars()[2] == ("bar", WIDTH - LABEL - RIGHT)
    texts = [text.text for text in drawn().iter(f"{SVG}text")]
    assert "90 (cut)" in texts
    assert "1.5" in texts


def test_the_range_is_drawn_where_a_bar_is_whole() -> None:
    ranges = [line for line in drawn().iter(f"{SVG}line") if line.attrib["class"] == "range"]
    room = (WIDTH - LABEL - RIGHT) / 2
    assert len(ranges) == 4
    assert float(ranges[1].attrib["x1"]) == LABEL + 1.2 * room
    assert float(ranges[1].attrib["x2"]) == LABEL + 2 * room


def test_names_are_text() -> None:
    assert "short & <sweet>" in [text.text for text in drawn().iter(f"{SVG}text")]


def test_every_colour_has_one_for_dark_pages() -> None:
    light, dark = draw("CPU", GROUPS).split("@media (prefers-color-scheme: dark)")
    named = {name for name, rule in re.findall(r"^(\S+) \{([^}]*)\}", light, re.MULTILINE) if "#" in rule}
    assert named == set(re.findall(r"^  (\S+) \{", dark, re.MULTILINE))
