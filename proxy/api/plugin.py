"""The plugin: four hooks, and what it tells of itself."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from proxy.api.event import Event
from proxy.api.exchange import End, Exchange
from proxy.api.response import Reply
from proxy.api.server import Server
from proxy.api.slots import Slot

if TYPE_CHECKING:
    import click
    from starlette.routing import BaseRoute


class Plugin:
    """Override what you need; a hook you leave alone costs nothing at run time.

    `on_request` runs in the configured order, the rest in reverse. `on_end` runs exactly once for every
    plugin whose turn in `on_request` had come, whatever happened since. All hooks of one exchange see the
    same context variables. The keywords of `__init__` are the plugin's configuration: an unknown or missing
    one stops the start with a line that names it; raise `ValueError` for a value that will not do.

    `on_request`, `on_response` and `on_end` are `async def`, or plain functions where there is nothing to
    await, which cost less: a chain without a coroutine for `on_end` needs no task for it.
    """

    requires: ClassVar[tuple[Slot[Any], ...]] = ()
    """Slots that an earlier plugin of the chain must provide."""
    provides: ClassVar[tuple[Slot[Any], ...]] = ()
    """Slots that this plugin fills."""
    reads_at_end: ClassVar[tuple[Slot[Any], ...]] = ()
    """Slots that `on_end` reads; any plugin of the chain may provide them, later ones too."""
    on_error: ClassVar[Literal["fail", "skip"]] = "fail"
    """"fail": an exception ends the exchange with `plugin_error`. "skip": it is logged and passed over."""

    name: str = ""
    """What the configuration calls this plugin; set by the loader."""

    def on_request(self, ex: Exchange) -> Coroutine[Any, Any, Reply | None] | Reply | None:
        """The request is here, its body once you read it. A `Reply` answers the client at once."""

    def on_response(self, ex: Exchange) -> Coroutine[Any, Any, None] | None:
        """The answer's status and headers are here and nothing is sent yet: edit headers, or announce what
        `on_event` will do with `ex.response.rewrites()` or `ex.response.hold()`."""

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        """One event of a stream, **not the entire body**, or a whole JSON body. Must not block.

        None leaves the event as it is, an Event replaces it, a sequence replaces it by several or, empty,
        by none. Replacing needs `ex.response.rewrites()`; without it events were sent before they come here.
        """

    def on_end(self, ex: Exchange, end: End) -> Coroutine[Any, Any, None] | None:
        """The exchange is over. Shielded from cancellation; stopped after 5 seconds.

        On a whole answer this runs before its last bytes go out: who has the answer has its settlement.
        """

    async def start(self, server: Server) -> None:
        """Before the first request, on the event loop: open pools and files. Raising stops the start."""

    async def stop(self) -> None:
        """After the last exchange has ended: flush and close."""

    def ready(self) -> str | None:
        """None while this plugin can serve, else one line that says why not: readiness fails with it."""
        return None

    def adopt(self, previous: "Plugin") -> None:
        """Take over state from the plugin of the same name that a reload replaces, before `start`."""

    def guards(self) -> bool:
        """Whether this plugin, as configured, turns away who has no valid credential.

        Weir listens beyond loopback with an upstream key only if a plugin of the chain does.
        """
        return False

    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        """What `GET /models` says of this model besides its price, to who asks for the list in `ex`.

        Fields and JSON values, such as the limits that apply; those of other plugins and of the upstream are
        replaced, Weir's own are not. Called once a model, after the chain up to IDENTITY. Must not block.
        """
        return {}

    def routes(self) -> "Sequence[BaseRoute]":
        """Starlette routes on the data port, answered here and not forwarded.

        Before one is called, the chain runs `on_request` up to the plugin that provides IDENTITY (all of it
        if none does); the exchange is in `request.scope["weir.exchange"]`.
        """
        return ()

    def management_routes(self) -> "Sequence[BaseRoute]":
        """Starlette routes on the management port."""
        return ()

    @classmethod
    def commands(cls) -> "Sequence[click.Command]":
        """Sub-commands that this plugin adds to `weir`."""
        return ()
