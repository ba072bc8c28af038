"""Whose key it is, without a server."""

from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from plugins.auth import Auth
from proxy.api import IDENTITY, ClientError, Exchange, Identity, Plugin, Reply, Server
from proxy.cli.identify import CannotTell, described, identify, may_use
from proxy.core.chain import Chain

HERE = Server(metrics=CollectorRegistry())
KEYS = [{"user": "alice", "team": "search", "id": "a1", "key": "alices-long-key"}]


class Seen(Plugin):
    """Must not be called: it says nothing of who asks."""

    async def on_request(self, ex: Exchange) -> None:
        raise AssertionError


class Odd(Plugin):
    provides = (IDENTITY,)

    def __init__(self, does: Any) -> None:
        self.does = does
        self.name = "odd"

    async def on_request(self, ex: Exchange) -> Reply | None:
        if isinstance(self.does, Exception):
            raise self.does
        if isinstance(self.does, Identity):
            ex[IDENTITY] = self.does
            return None
        reply: Reply | None = self.does
        return reply


class Elsewhere(Odd):
    """Knows keys only while it runs."""

    def __init__(self, starts: Exception | None = None) -> None:
        super().__init__(AttributeError())
        self.starts = starts
        self.stopped = False

    async def start(self, server: Server) -> None:
        if self.starts is not None:
            raise self.starts
        self.does = Identity("alice", "127.0.0.1")

    async def stop(self) -> None:
        self.stopped = True


class Describes(Plugin):
    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        return {"of": model, "to": ex[IDENTITY].user}


def alone(plugin: Plugin) -> Chain:
    return Chain([plugin])


async def test_only_who_says_who_asks_is_called() -> None:
    ex = await identify(Chain([Seen(), Auth(KEYS), Seen()]), "alices-long-key", HERE)
    assert ex[IDENTITY] == Identity("alice", "127.0.0.1", "a1", "search")


async def test_where_no_keys_are_asked_for_anybody_is_somebody() -> None:
    ex = await identify(alone(Auth()), "whatever", HERE)
    assert ex[IDENTITY].user.startswith("key-")


async def test_who_keeps_keys_elsewhere_is_started_for_it_and_stopped() -> None:
    plugin = Elsewhere()
    assert (await identify(alone(plugin), "k", HERE))[IDENTITY].user == "alice"
    assert plugin.stopped


@pytest.mark.parametrize(
    ("plugin", "says"),
    [
        (Auth(KEYS), "Incorrect API key provided."),
        (Odd(ClientError(403, "too_late", "That key has run out.")), "That key has run out."),
        (Odd(AttributeError()), "odd cannot say whose it is: AttributeError"),
        (Elsewhere(ValueError("the database is away")), "the database is away"),
        (Odd(Reply(204)), "it is answered with 204"),
        (Odd(None), "no plugin of the chain says who asks"),
        (Seen(), "no plugin of the chain says who asks"),
    ],
)
async def test_what_cannot_be_told_is_a_line(plugin: Plugin, says: str) -> None:
    with pytest.raises(CannotTell) as error:
        await identify(alone(plugin), "bobs-long-key", HERE)
    assert str(error.value) == says


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
async def test_what_no_header_can_carry_is_no_key(key: str) -> None:
    with pytest.raises(CannotTell, match="such characters"):
        await identify(alone(Auth(KEYS)), key, HERE)


async def test_what_plugins_say_is_said_to_who_asks() -> None:
    chain = Chain([Auth(KEYS), Describes(), Seen()])
    chain.plugins[1].name = "describes"
    ex = await identify(chain, "alices-long-key", HERE)
    assert described(chain, ex, "gpt-4o") == {"describes": {"of": "gpt-4o", "to": "alice"}}


@pytest.mark.parametrize(
    ("models", "may"), [((), True), (("gpt-4o*",), True), (("o3", "gpt-4o"), True), (("o3",), False)]
)
async def test_which_models_a_key_is_for(models: tuple[str, ...], may: bool) -> None:
    ex = await identify(alone(Odd(Identity("a", "b", models=models))), "k", HERE)
    assert may_use(ex, "gpt-4o") is may
