"""Plugins that are installed, whatever is wrong with some."""

import pytest

from proxy.api import Exchange, Plugin
from proxy.cli.installed import installed, overridden

from .running import install

HERE = "tests.cli.test_installed"


class Fine(Plugin):
    """Does
    one thing. And another.

    At length.
    """

    async def on_request(self, ex: Exchange) -> None: ...


class Silent(Plugin): ...


NotAPlugin = object


def test_each_is_told_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"silent": f"{HERE}:Silent", "fine": f"{HERE}:Fine"})
    found = {plugin.name: plugin for plugin in installed()}
    assert list(found) == ["fine", "silent"]
    assert (found["fine"].cls, found["fine"].about, found["fine"].problem) == (Fine, "Does one thing.", None)
    assert found["silent"].about == ""


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no.such.module:X", "the plugin 'odd' cannot be loaded: No module named 'no'"),
        (f"{HERE}:Nowhere", "the plugin 'odd' cannot be loaded: module"),
        (f"{HERE}:NotAPlugin", "the plugin 'odd' is not a subclass of proxy.api.Plugin"),
    ],
)
def test_a_broken_one_says_why(monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    install(monkeypatch, {"odd": value, "silent": f"{HERE}:Silent"})
    odd, silent = installed()
    assert odd.cls is None
    assert odd.problem is not None
    assert odd.problem.startswith(says)
    assert (odd.about, odd.commands()) == ("", ())
    assert silent.problem is None


def test_a_built_in_one_comes_from_this_package() -> None:
    auth = next(plugin for plugin in installed() if plugin.name == "auth")
    assert (auth.package, auth.version[:1].isdigit()) == ("weir-proxy", True)


def test_only_the_hooks_that_a_plugin_has_of_its_own_are_its_hooks() -> None:
    assert overridden(Fine) == ["on_request"]
    assert overridden(Silent) == []
