from pathlib import Path
from typing import Any

import orjson
import pytest

from plugins.auth import Auth
from proxy.api import Plugin
from proxy.core import config
from proxy.core.config import ConfigError, PluginSettings
from proxy.core.loader import installed, load

HERE = "tests.core.test_loader"


class Plain(Plugin):
    """Knows no keys."""


class Redactor(Plugin):
    def __init__(self, word: str, *, times: int = 1) -> None:
        if not word:
            raise ValueError("word must not be\nempty")
        self.word = word
        self.times = times


class Open(Plugin):
    def __init__(self, **keys: Any) -> None:
        self.keys = keys


class Picky(Plugin):
    def __init__(self, number: int = 0) -> None:
        self.double = number + 1


NotAPlugin = object


def function() -> None:
    """No class."""


class Loader:
    """Loads the plugins of a `weir.yaml`; messages come back without its folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "weir.yaml"

    def items(self, *plugins: Any) -> list[PluginSettings]:
        lines = ["plugins:"]
        lines += [f"  - {orjson.dumps(plugin).decode()}" for plugin in plugins]
        self.path.write_text("\n".join(lines))
        return config.load(self.path, {}).plugins or []

    def ok(self, *plugins: Any) -> list[Plugin]:
        return load(self.items(*plugins))

    def problems(self, *plugins: Any) -> list[str]:
        items = self.items(*plugins)
        with pytest.raises(ConfigError) as caught:
            load(items)
        for problem in caught.value.problems:
            assert len(problem.splitlines()) == 1
        return [problem.replace(f"{self.path.parent}/", "") for problem in caught.value.problems]


@pytest.fixture
def weir(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


def test_ours_are_installed() -> None:
    assert installed()["auth"].value == "plugins.auth:Auth"


def test_a_short_name_is_an_entry_point(weir: Loader) -> None:
    [plugin] = weir.ok("auth")
    assert isinstance(plugin, Auth)
    assert plugin.name == "auth"


def test_a_module_and_a_class(weir: Loader) -> None:
    [plugin] = weir.ok({"use": f"{HERE}:Redactor", "word": "x", "times": 2})
    assert (type(plugin).__name__, plugin.name) == ("Redactor", "Redactor")
    assert vars(plugin)["word"] == "x"
    assert vars(plugin)["times"] == 2


def test_the_order_is_kept_and_one_class_may_stand_twice(weir: Loader) -> None:
    redactor = f"{HERE}:Redactor"
    one, two, three = weir.ok({"use": redactor, "word": "a"}, "auth", {"use": redactor, "word": "b"})
    assert (vars(one)["word"], two.name, vars(three)["word"]) == ("a", "auth", "b")


def test_no_plugins_are_no_plugins() -> None:
    assert load([]) == []


def test_a_class_that_takes_everything_gets_everything(weir: Loader) -> None:
    [plugin] = weir.ok({"use": f"{HERE}:Open", "anything": [1]})
    assert vars(plugin)["keys"] == {"anything": [1]}


@pytest.mark.parametrize(
    ("wrong", "parts"),
    [
        ("auht", ['no plugin "auht"', 'did you mean "auth"?']),
        ("zzzzzz", ["installed are", "auth"]),
        ("no.such.module:X", ["cannot be loaded", "No module named 'no'"]),
        (f"{HERE}:Nothing", ["cannot be loaded", "Nothing"]),
        (f"{HERE}:NotAPlugin", ["is not a subclass of proxy.api.Plugin"]),
        (f"{HERE}:function", ["is not a subclass of proxy.api.Plugin"]),
        (f"{HERE}:Redactor", ["Redactor", "word"]),
        ({"use": f"{HERE}:Redactor", "wrod": "x"}, ["wrod", "unknown key", 'did you mean "word"?']),
        ({"use": f"{HERE}:Redactor", "word": "x", "zzz": 1}, ["zzz", "unknown key", "it knows word, times"]),
        ({"use": f"{HERE}:Plain", "x": 1}, ["unknown key", "x", "no keys"]),
        ({"use": f"{HERE}:Redactor", "word": ""}, ["Redactor: word must not be empty"]),
        ({"use": f"{HERE}:Picky", "number": "x"}, ["Picky"]),  # a TypeError of its own
    ],
)
def test_what_cannot_be_loaded_says_where_and_why(weir: Loader, wrong: Any, parts: list[str]) -> None:
    [problem] = weir.problems(wrong)
    assert problem.startswith("weir.yaml:2: plugins[0]")
    for part in parts:
        assert part in problem


@pytest.mark.parametrize("use", [":Class", "auth:", ":", ".relative:Class", "..:X", f"{HERE}:"])
def test_a_name_that_is_half_there_is_a_problem_of_the_configuration(weir: Loader, use: str) -> None:
    [problem] = weir.problems(use)
    assert problem.startswith("weir.yaml:2: ")


def test_a_value_is_not_repeated(weir: Loader) -> None:
    [problem] = weir.problems({"use": f"{HERE}:Redactor", "word": "x", "secret": "sk-topsecret"})
    assert "topsecret" not in problem


def test_the_line_is_that_of_the_key(weir: Loader) -> None:
    weir.path.write_text(f"plugins:\n  - auth\n  - use: {HERE}:Redactor\n    word: x\n    wrod: y\n")
    with pytest.raises(ConfigError) as caught:
        load(config.load(weir.path, {}).plugins or [])
    [problem] = caught.value.problems
    assert problem.startswith(f"{weir.path}:5: plugins[1].wrod")


def test_without_a_file_there_is_no_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load([PluginSettings(use="auht")])
    [problem] = caught.value.problems
    assert 'no plugin "auht"' in problem
    assert ":0:" not in problem


def test_all_problems_of_one_plugin_are_told(weir: Loader) -> None:
    found = weir.problems({"use": f"{HERE}:Redactor", "zzz": 1, "tmes": 2})
    assert [problem.split(": ", 1)[1] for problem in found] == [
        "plugins[0].zzz: unknown key; it knows word, times",
        'plugins[0].tmes: unknown key; did you mean "times"?',
        f"plugins[0]: {HERE}:Redactor needs word",
    ]


def test_all_problems_are_told_at_once(weir: Loader) -> None:
    found = weir.problems("auht", "auth", f"{HERE}:Redactor", {"use": f"{HERE}:Plain", "x": 1})
    assert [problem.split(": ")[0] for problem in found] == ["weir.yaml:2", "weir.yaml:4", "weir.yaml:5"]
