"""What a configuration comes to, or what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.api import COST, IDENTITY, End, Exchange, Plugin

from .running import said, weir

HERE = "tests.cli.test_check"


class Needs(Plugin):
    requires = (IDENTITY,)


class Prices(Plugin):
    provides = (COST,)


class Books(Plugin):
    requires = (IDENTITY,)
    reads_at_end = (COST,)

    async def on_request(self, ex: Exchange) -> None: ...

    async def on_end(self, ex: Exchange, end: End) -> None: ...


class Speaks(Plugin):
    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        limits = [{"name": "chat", "requests": 7, "on": ["a", "b"], "burst": None, "shadow": False}, "more"]
        return {"limits": limits, "asked": {"by": ex[IDENTITY].user, "for": model}}


class Mute(Plugin):
    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        raise RuntimeError


def test_without_anything_it_is_the_demo() -> None:
    told = said(weir("check"))
    assert "listen      127.0.0.1:3006" in told
    assert "demo" in told
    assert "auth" in told
    assert told.endswith("ok\n")


def test_it_says_what_a_file_comes_to_and_no_secret(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text(
        "listen: 127.0.0.1:4000\n"
        "management: off\n"
        "upstreams:\n"
        "  - name: up\n"
        "    base_url: https://up.test/v1\n"
        "    api_key: sk-topsecret12345\n"
        "plugins:\n"
        "  - use: auth\n"
        "    keys: [{user: alice, key: weir-topsecret}]\n"
    )
    told = said(weir("check"))
    for line in ("127.0.0.1:4000", "management  off", "up at https://up.test/v1, with a key", "auth"):
        assert line in told
    assert "topsecret" not in told


def test_it_counts_the_environment() -> None:
    told = said(weir("check", PORT="4002", OPENAI_API_KEY="sk-topsecret12345"))
    assert "127.0.0.1:4002" in told
    assert "https://api.openai.com/v1, with a key" in told
    assert "topsecret" not in told


def test_it_shows_the_chain_with_who_provides_and_reads_what(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text(f"plugins: [auth, '{HERE}:Books', '{HERE}:Prices']\n")
    lines = said(weir("check")).splitlines()
    assert lines[-5:-1] == [
        "plugins     auth → Books → Prices",
        "  auth    on_request; provides identity",
        "  Books   on_request, on_end; requires identity; reads at the end cost",
        "  Prices  no hook; provides cost",
    ]


def test_a_chain_without_plugins(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text("plugins: []\n")
    assert said(weir("check")).splitlines()[-2:] == ["plugins     none", "ok"]


# -- of a model, and to somebody -----------------------------------------------------------------------

KEYS = "{use: auth, keys: [{user: alice, team: search, id: a1, key: alices-long-key}]}"


def test_of_a_model_it_tells_what_it_costs_and_bears() -> None:
    told = said(weir("check", "--model", "openai/GPT-4o-mini"))
    assert (
        "model       openai/GPT-4o-mini: gpt-4o-mini, chat, window 128000, at most 16384 out, o200k_base"
        in told
    )
    assert "  standard  input 0.15, cached_input 0.075, output 0.6\n" in told


def test_a_model_without_a_price() -> None:
    assert "model       my-own has no price" in said(weir("check", "--model", "my-own"))


def test_the_prices_are_those_of_the_file(clean: Path) -> None:
    clean.joinpath("prices.yaml").write_text(
        "version: 1\nupdated: 2026-11-22\nextends: default\naliases: {my-own: gpt-4o-mini}\n"
    )
    clean.joinpath("weir.yaml").write_text("pricing: prices.yaml\n")
    assert "my-own: gpt-4o-mini, chat" in said(weir("check", "--model", "my-own"))


def test_of_a_key_it_tells_who_that_is_and_what_plugins_say(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text(f"plugins: [{KEYS}, '{HERE}:Speaks']\n")
    for result in (
        weir("check", "--key", "alices-long-key", "--model", "gpt-4o"),
        weir("check", "--key", "-", "--model", "gpt-4o", stdin="alices-long-key\n"),
    ):
        told = said(result)
        assert told.splitlines()[-5:] == [
            "key         key a1, user alice, team search",
            "  Speaks  limits: name chat, requests 7, on a b",
            "  Speaks  limits: more",
            "  Speaks  asked: by alice, for gpt-4o",
            "ok",
        ]
        assert "alices-long-key" not in told


@pytest.mark.parametrize(
    ("plugins", "says"),
    [
        (KEYS, "Incorrect API key provided."),
        (f"'{HERE}:Prices'", "no plugin of the chain says who asks"),
        (f"auth, '{HERE}:Mute'", "Mute cannot describe a model before it has started: RuntimeError"),
    ],
)
def test_a_key_that_nothing_can_be_told_of(clean: Path, plugins: str, says: str) -> None:
    clean.joinpath("weir.yaml").write_text(f"plugins: [{plugins}]\n")
    told = said(weir("check", "--key", "bobs-long-key"), 2)
    assert told == f"weir: --key: {says}\n"


# -- what is wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listne: 1\n", ["weir.yaml:1", "listne"]),
        ("listen: [\n", ["weir.yaml:"]),
        ("plugins: [auht]\n", ["weir.yaml:1", 'did you mean "auth"?']),
        ("plugins:\n  - use: auth\n    keys: [{key: weir-topsecret}]\n", ["user must be set"]),
        ("plugins:\n  - use: auth\n    kyes: []\n", ["weir.yaml:3", "kyes"]),
        (f"plugins:\n  - use: {HERE}:Needs\n", ["weir.yaml", "needs identity"]),
        (
            "listen: :3006\nupstreams: [{base_url: 'https://up.test', api_key: sk-topsecret12345}]\n",
            ["allow_open"],
        ),
    ],
)
def test_it_fails_with_2_and_says_what_is_wrong(clean: Path, text: str, says: list[str]) -> None:
    clean.joinpath("weir.yaml").write_text(text)
    result = weir("check")
    told = said(result, 2)
    assert result.stdout == ""
    assert [part for part in says if part not in told] == []
    assert "topsecret" not in told


def test_it_tells_every_problem(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text("listne: 1\nlog: {level: loud}\n")
    assert len(said(weir("check"), 2).splitlines()) == 2


def test_plugins_are_looked_at_even_if_the_rest_is_broken(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text(
        f"listne: 1\nplugins:\n- auht\n- use: auth\n  kyes: []\n  keez: []\n- 7\n- use: '{HERE}:Books'\n"
        "- use: auth\n  keys: [{user: a, key: '${NOT_SET}'}]\n"
    )
    told = said(weir("check"), 2).splitlines()
    assert [line.split(": ")[1] for line in told] == [f"weir.yaml:{number}" for number in (1, 7, 10, 3, 5, 6)]


def test_all_that_a_chain_lacks_is_told(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text(f"plugins: ['{HERE}:Books', '{HERE}:Needs']\n")
    told = said(weir("check"), 2)
    assert len(told.splitlines()) == 3
    for part in ("Books needs", "Books reads", "Needs needs"):
        assert part in told


def test_prices_and_plugins_are_told_together(clean: Path) -> None:
    clean.joinpath("prices.yaml").write_text("modles: {}\n")
    clean.joinpath("weir.yaml").write_text("pricing: prices.yaml\nplugins: [auht, limitre]\n")
    told = said(weir("check"), 2)
    for part in ("prices.yaml:1", "modles", "auht", "limitre"):
        assert part in told


@pytest.mark.parametrize("use", [":Class", ".relative:Class"])
def test_a_plugins_name_that_is_half_there_is_no_traceback(clean: Path, use: str) -> None:
    clean.joinpath("weir.yaml").write_text(f"plugins: ['{use}']\n")
    assert "weir.yaml:1" in said(weir("check"), 2)
