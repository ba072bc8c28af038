import inspect
from typing import get_type_hints

from prometheus_client import CollectorRegistry

from proxy.api import End, Event, Plugin, Server
from proxy.api.testing import json, play, sse


class Nothing(Plugin):
    """Overrides no hook."""


def test_a_plugin_promises_nothing_of_its_own() -> None:
    plugin = Nothing()
    assert (plugin.requires, plugin.provides, plugin.reads_at_end) == ((), (), ())
    assert plugin.on_error == "fail"
    assert plugin.name == ""
    assert plugin.ready() is None
    assert plugin.guards() is False
    assert list(plugin.routes()) == []
    assert list(plugin.management_routes()) == []
    assert list(Nothing.commands()) == []


async def test_hooks_left_alone_do_nothing() -> None:
    plugin = Nothing()
    ex = (await play([], answer=json({}))).ex
    assert plugin.on_request(ex) is None
    assert plugin.on_response(ex) is None
    assert plugin.on_event(ex, Event(b"data: 1\n\n")) is None
    assert plugin.on_end(ex, End("complete", "completed")) is None
    assert plugin.describe_model(ex, "gpt-4o") == {}
    plugin.adopt(Nothing())
    await plugin.start(Server(metrics=CollectorRegistry()))
    await plugin.stop()


async def test_an_exchange_with_it_is_one_without_it() -> None:
    events = (b"data: 1\n\n", b"data: [DONE]\n\n")
    with_it, without = await play([Nothing()], answer=sse(*events)), await play([], answer=sse(*events))
    assert with_it.pieces == without.pieces == list(events)
    assert with_it.end == without.end


def test_on_event_cannot_wait() -> None:
    assert not inspect.iscoroutinefunction(Plugin.on_event)
    for name in ("start", "stop"):
        assert inspect.iscoroutinefunction(getattr(Plugin, name))


def test_every_part_is_documented() -> None:
    for name, member in vars(Plugin).items():
        if inspect.isfunction(member) or isinstance(member, classmethod):
            assert inspect.getdoc(member), name


def test_its_hooks_are_typed() -> None:
    assert set(get_type_hints(Plugin.on_event)) == {"ex", "event", "return"}
