from typing import Any

import pytest

from plugins.auth import Auth
from plugins.auth.plugin import USER_LIMIT
from proxy.api import IDENTITY, Identity
from proxy.api.testing import Played, Sent, play

KEY = "weir-0123456789"
KEYS: list[dict[str, Any]] = [
    {"user": "alice", "team": "red", "id": "k1", "key": KEY},
    {"user": "bob", "key": "weir-bobs-key"},
]
PEER = "192.0.2.1"


async def asked(auth: Auth, *headers: tuple[str, str], settings: dict[str, Any] | None = None) -> Played:
    return await play([auth], Sent(headers=headers), settings=settings)


async def admitted(auth: Auth, *headers: tuple[str, str], **more: Any) -> tuple[Identity, dict[str, str]]:
    """Who was found, and what went upstream."""
    played = await asked(auth, *headers, **more)
    assert played.status == 200
    assert played.forwarded is not None
    return played.ex[IDENTITY], dict(played.forwarded.headers)


async def refused(auth: Auth, code: str, *headers: tuple[str, str]) -> None:
    played = await asked(auth, *headers)
    assert (played.status, played.forwarded) == (401, None)
    assert played.json()["error"]["code"] == code
    assert played.headers["www-authenticate"] == "Bearer"
    assert played.headers["x-should-retry"] == "false"
    assert (played.end.reason, played.end.code) == ("rejected", code)
    assert IDENTITY not in played.ex
    for _, value in headers:
        assert value.encode("latin-1") not in played.body


def test_it_says_what_it_is() -> None:
    assert Auth.provides == (IDENTITY,)
    assert Auth.on_error == "fail"
    assert not Auth().guards()
    assert not Auth(keys=[]).guards()
    assert Auth(keys=KEYS).guards()


def test_keys_that_will_not_do_stop_the_start() -> None:
    with pytest.raises(ValueError, match="user must be set"):
        Auth(keys=[{"key": KEY}])


# -- with keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", f"Bearer {KEY}"),
        ("Authorization", f"bearer {KEY}"),
        ("authorization", f"BEARER   {KEY}  "),
        ("authorization", KEY),
        ("api-key", KEY),
    ],
)
async def test_a_key_is_found_and_goes_no_further(header: tuple[str, str]) -> None:
    who, sent = await admitted(Auth(KEYS), header, ("x-one", "1"))
    assert who == Identity("alice", PEER, "k1", "red")
    assert "authorization" not in sent
    assert "api-key" not in sent
    assert sent["x-one"] == "1"


async def test_each_key_has_its_own_identity() -> None:
    who, _ = await admitted(Auth(KEYS), ("api-key", "weir-bobs-key"))
    assert (who.user, who.team) == ("bob", None)
    assert who.key_id is not None
    assert who.key_id.startswith("bob-")


async def test_what_the_client_says_of_its_user_is_the_end_user_then() -> None:
    who, sent = await admitted(Auth(KEYS), ("api-key", KEY), ("x-user-id", "customer-7"))
    assert (who.user, who.end_user) == ("alice", "customer-7")
    assert sent["x-user-id"] == "customer-7"


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", "Bearer wrong-key-here"),
        ("authorization", f"Basic {KEY}"),
        ("authorization", f"Bearer {KEY[:-1]}"),
        ("authorization", f"Bearer {KEY}, Bearer {KEY}"),
        ("authorization", "Bearer \xff\xfe\xfd"),
        ("api-key", f"Bearer {KEY}"),
        ("api-key", "wrong-key-here"),
    ],
)
async def test_a_wrong_key_is_refused(header: tuple[str, str]) -> None:
    await refused(Auth(KEYS), "invalid_api_key", header)


@pytest.mark.parametrize(
    "header", [("authorization", "Bearer"), ("authorization", "Bearer "), ("api-key", "")]
)
async def test_an_empty_key_is_refused(header: tuple[str, str]) -> None:
    played = await asked(Auth(KEYS), header)
    assert (played.status, played.forwarded) == (401, None)


async def test_none_at_all_is_told_how_to_send_one() -> None:
    await refused(Auth(KEYS), "missing_api_key")
    await refused(Auth(KEYS), "missing_api_key", ("x-user-id", "alice"))


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
        [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer weir-bobs-key")],
        [("authorization", f"Bearer {KEY}"), ("api-key", "weir-bobs-key")],
        [("api-key", "wrong-key-here"), ("authorization", f"Bearer {KEY}")],
    ],
)
async def test_two_credentials_are_refused(headers: list[tuple[str, str]]) -> None:
    await refused(Auth(KEYS), "invalid_api_key", *headers)


async def test_one_refusal_does_not_change_the_next() -> None:
    auth = Auth(KEYS)
    first, second = await asked(auth), await asked(auth)
    for name in ("www-authenticate", "x-request-id", "date", "content-length", "x-weir-request-id"):
        assert len(second.headers.getall(name)) == 1
    assert first.body == second.body


async def test_a_connection_header_cannot_take_the_key_away_before_it_is_looked_at() -> None:
    who, sent = await admitted(
        Auth(KEYS), ("connection", "authorization"), ("authorization", f"Bearer {KEY}")
    )
    assert who.user == "alice"
    assert "authorization" not in sent


# -- without keys --------------------------------------------------------------------------------------


async def test_everybody_passes_as_they_came() -> None:
    who, sent = await admitted(Auth(), ("authorization", "Bearer sk-the-clients-own"))
    assert sent["authorization"] == "Bearer sk-the-clients-own"
    assert (who.key_id, who.team, who.end_user) == (None, None, None)


async def test_the_user_is_what_the_client_says() -> None:
    who, _ = await admitted(Auth(), ("authorization", "Bearer sk-a"), ("x-user-id", "alice"))
    assert who == Identity("alice", PEER)


async def test_else_a_hash_of_its_credential_that_is_not_the_credential() -> None:
    one, _ = await admitted(Auth(), ("authorization", "Bearer sk-the-clients-own"))
    same, _ = await admitted(Auth(), ("api-key", "sk-the-clients-own"))
    other, _ = await admitted(Auth(), ("authorization", "Bearer sk-another-one"))
    assert one.user == same.user != other.user
    assert "clients" not in one.user
    assert len(one.user) <= 16


async def test_else_its_address() -> None:
    who, _ = await admitted(Auth())
    assert who == Identity(PEER, PEER)
    who, _ = await admitted(Auth(), ("x-user-id", ""))
    assert who.user == PEER


@pytest.mark.parametrize(("trusted", "address"), [([], PEER), (["192.0.2.0/24"], "198.51.100.7")])
async def test_the_address_is_the_proxys_word_only_if_it_is_trusted(trusted: list[str], address: str) -> None:
    who, _ = await admitted(
        Auth(), ("x-forwarded-for", "198.51.100.7"), settings={"trusted_proxies": trusted}
    )
    assert who.address == address


@pytest.mark.parametrize("keys", [[], KEYS])
async def test_what_the_client_says_is_cut(keys: list[dict[str, Any]]) -> None:
    who, sent = await admitted(Auth(keys), ("api-key", KEY), ("x-user-id", "é" * 1000))
    said = who.end_user if keys else who.user
    assert said == "é" * USER_LIMIT
    assert len(sent["x-user-id"]) == 1000  # what is forwarded is not changed
