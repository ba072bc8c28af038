"""Where limits count and whom they count: from an endpoint to the limits that apply there, made once."""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv6Address
from operator import attrgetter
from typing import Any, Final
from urllib.parse import unquote

from proxy.api import Identity
from proxy.pricing.endpoints import operation

from .demand import Demand
from .headers import Told
from .limit import Kind, Limit, Per
from .store import Ask

GROUPS: Final = {
    "chat": ("chat/completions", "responses", "completions"),
    "images": ("images/*",),
    "embeddings": ("embeddings",),
    "audio": ("audio/*",),
}
"""What the names in `on` stand for; whatever else stands there is a path pattern."""
SERVED_AT: Final = {
    "chat": "chat/completions",
    "responses": "responses",
    "completion": "completions",
    "embedding": "embeddings",
    "image_generation": "images/generations",
    "audio_transcription": "audio/transcriptions",
    "audio_speech": "audio/speech",
}
"""Where models of a kind (`Model.kind`) are asked, for telling which limits concern them."""
USE: Final[frozenset[Kind]] = frozenset(("input_tokens", "tokens", "cost"))
"""The kinds that count what a request uses, rather than the request."""
ENDPOINTS: Final = 1024
"""Endpoints whose plans are kept."""
IDENTITIES: Final = 1024
"""Identities whose asks are kept, of each plan; when there are more, all are made anew."""
CHOICES: Final = 64
"""Choices of a plan's limits, by models, for which is kept what headers tell of them."""
_MODEL_LENGTH: Final = 256

KeyOf = Callable[[Identity], str]
Matches = Callable[[str], Any]


class _Counted(dict[Identity, Sequence[Ask]]):
    """What an identity asks of limits that count each request as one. Bounded."""

    def __init__(self, limits: Sequence[tuple[Limit, KeyOf, Matches]]) -> None:
        super().__init__()
        self._limits = limits

    def __missing__(self, who: Identity) -> Sequence[Ask]:
        if len(self) >= IDENTITIES:
            self.clear()
        asks = self[who] = self.asks(who)
        return asks

    def asks(self, who: Identity) -> Sequence[Ask]:
        """The same, of an identity that cannot be looked up, since its own limits cannot."""
        return [(limit, key_of(who), 1) for limit, key_of, _ in self._limits]


class Plan:
    """The limits that apply to requests of one kind, and what it takes to ask them."""

    __slots__ = (
        "_limits",
        "_told",
        "_uses",
        "burns",
        "by_model",
        "by_use",
        "counted",
        "limits",
        "means_use",
        "queues",
        "settles",
        "told",
        "varies",
    )

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = [
            (limit, _of_key(limit) if limit.of_key else _KEYS[limit.per], _matcher(limit.models))
            for limit in limits
        ]
        self.limits = limits
        self.counted = _Counted(self._limits)
        """By identity: what it asks, unless it `varies` or the identity has limits of its own."""
        self.by_model = any(limit.models or limit.per == "model" for limit in limits)
        self._uses = [(place, limit) for place, limit in enumerate(limits) if limit.kind in USE]
        self.by_use = bool(self._uses)
        self.varies = self.by_model or self.by_use
        """Whether one identity's requests ask for different things."""
        self.burns = any(limit.fuse != "off" for limit in limits)
        """Whether streams may be charged as they come."""
        self.means_use = any(limit.kind in USE and not limit.shadow for limit in limits)
        """Whether what a request uses may be a reason to refuse it."""
        self.settles = any(limit.kind != "requests" for limit in limits)
        """Whether the end of a request changes anything, as long as the request went out at all."""
        self.queues = any(limit.queue is not None for limit in limits)
        """Whether a request may wait."""
        self.told = None if self.by_model else Told([(limit, "", 0) for limit in limits])
        """What headers tell of all these limits; None where it depends on the model which are asked."""
        self._told: dict[tuple[int, ...], Told] = {}

    def told_of(self, asks: Sequence[Ask]) -> Told:
        """What headers tell of those that are asked, which are some of these limits, and the same again and
        again."""
        these = tuple([id(limit) for limit, _, _ in asks])
        told = self._told.get(these)
        if told is None:
            if len(self._told) >= CHOICES:
                self._told.clear()
            told = self._told[these] = Told(asks)
        return told

    def asks(self, who: Identity, model: str | None, demand: Demand) -> Sequence[Ask]:
        """What a request of this identity asks of each limit; not to be changed, it may be another's too.

        A limit for some models, or per model, is not asked by a request without one.
        """
        if not self.by_model:
            counted = self.counted.asks(who) if who.limits else self.counted[who]
            if not self._uses:
                return counted
            asks = list(counted)
            for place, limit in self._uses:
                asks[place] = limit, asks[place][1], demand.of(limit)
            return asks
        asks = []
        for limit, key_of, is_for in self._limits:
            if (limit.per == "model" or limit.models) and (model is None or not is_for(model)):
                continue
            key = model if limit.per == "model" and model is not None else key_of(who)
            asks.append((limit, key, demand.of(limit) if limit.kind in USE else 1))
        return asks


class _Plans(dict[tuple[str, bool], Plan]):
    """See `Scopes`: a look-up in a dictionary, and no call, once a plan is known."""

    def __init__(self, limits: Sequence[tuple[Limit, Matches]], most: int) -> None:
        super().__init__()
        self._limits = limits
        self._most = most

    def __missing__(self, asked: tuple[str, bool]) -> Plan:
        endpoint, uses = asked
        read, meant = loosely(endpoint), endpoint_of(endpoint)
        plan = Plan(
            [
                limit
                for limit, counts_on in self._limits
                if (counts_on(read) or counts_on(meant)) and (uses or limit.kind not in USE)
            ]
        )
        if len(self) >= self._most:
            self.clear()
        if len(endpoint) <= 256:
            self[asked] = plan
        return plan


class Scopes:
    """The plans of a configuration, by endpoint; made when first needed; when there are
    too many, all are made anew."""

    def __init__(self, limits: Sequence[Limit], endpoints: int = ENDPOINTS) -> None:
        self.everything = Plan(limits)
        """What applies somewhere."""
        self.limits = limits
        self.plans = _Plans([(limit, _endpoints(limit.on)) for limit in limits], endpoints)
        """By endpoint, and whether the request `uses` something; see `plan`."""

    def plan(self, endpoint: str, uses: bool) -> Plan:
        """What applies to requests at an endpoint. Only those that may use tokens or money (`uses`) are asked
        for them: whoever has none left can still list models."""
        return self.plans[endpoint, uses]


def loosely(path: str) -> str:
    """A path as the most lenient server may read it: decoded, in lower case, without parameters, doubled or
    outer slashes and `v1`.

    Limits look at this, so that `chat%2Fcompletions` or `Chat/completions/` is no way around them.
    """
    path = re.sub(r";[^/]*", "", unquote(path, errors="replace"))
    return re.sub(r"/+", "/", path).strip("/").lower().removeprefix("v1/")


def endpoint_of(path: str) -> str:
    """The endpoint that the most lenient server may take a path for, and Azure too."""
    return operation(loosely(path))[0]


def model_key(name: str) -> str:
    """A model's name as limits know it."""
    return name[:_MODEL_LENGTH].lower()


def _endpoints(on: Sequence[str]) -> Callable[[str], Any]:
    return _matcher([pattern for name in on for pattern in GROUPS.get(name, (loosely(name),))])


def _matcher(patterns: Sequence[str]) -> Callable[[str], Any]:
    """Whether a text in lower case matches one of the patterns, or there are none."""
    if not patterns:
        return _always
    return re.compile("|".join(translate(pattern.lower()) for pattern in patterns)).match


def _always(_: str) -> bool:
    return True


# -- whom a limit counts -------------------------------------------------------------------------------

# What is not known of somebody must not be a way around a limit: who has no key, team or end user counts as
# their user. No name holds a line feed, so none can be mistaken for that.


def _key(who: Identity) -> str:
    return who.key_id or "\n" + who.user


def _team(who: Identity) -> str:
    return who.team or "\n" + who.user


def _end_user(who: Identity) -> str:
    # The client names them, so one client's must not be another's.
    return f"{who.user}\n{who.end_user or ''}"


def _address(who: Identity) -> str:
    address = who.address
    return _network(address) if ":" in address else address


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    """An IPv6 address as its /64: whoever has one address of it has all."""
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64"


def _everybody(_: Identity) -> str:
    return ""


def _of_key(limit: Limit) -> KeyOf:
    """A key's own limits are told apart by their names."""
    name = limit.name
    return lambda who: f"{_key(who)}\n{name}"


_KEYS: Final[dict[Per, KeyOf]] = {
    "address": _address,
    "key": _key,
    "user": attrgetter("user"),
    "end_user": _end_user,
    "team": _team,
    "model": _everybody,  # the model's name stands in for it
    "all": _everybody,
}
