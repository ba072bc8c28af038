from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from plugins.auth import Auth, secret
from plugins.auth.plugin import USER_LIMIT
from plugins.auth.store import Store
from proxy.api import IDENTITY, Identity, Server
from proxy.api.testing import Played, Sent, play

from .issuer import NAME, SigningKey, key_set

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


@pytest.mark.fault("C18")
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


# -- what a key may say besides ------------------------------------------------------------------------


async def test_limits_and_models_come_with_the_key() -> None:
    limits = [{"requests": "100/minute"}, {"cost": "20/day"}]
    auth = Auth([{"user": "alice", "key": KEY, "limits": limits, "models": ["gpt-4o*"]}])
    played = await play([auth], Sent("GET", "/v1/files", headers=[("api-key", KEY)]))
    who = played.ex[IDENTITY]
    assert who.limits == tuple(limits)
    assert who.models == ("gpt-4o*",)
    again = await play([auth], Sent("GET", "/v1/files", headers=[("api-key", KEY)]))
    assert again.ex[IDENTITY].limits is who.limits  # so that whoever reads them can keep what came of it


async def test_an_unknown_an_expired_and_a_revoked_key_get_the_same_answer(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'weir.db'}")
    store.open()
    revoked, expired = (
        store.create({"user": "bob"}, "x"),
        store.create({"user": "bob", "expires": "1ms"}, "x"),
    )
    store.revoke(revoked.record.id, "x")
    store.close()
    past = {"user": "alice", "key": KEY, "expires": "2020-01-01"}
    auth = Auth([past], store="database")
    server = Server(CollectorRegistry(), state_dir=tmp_path)
    answers = []
    for key in (KEY, "never-was-a-key", secret.new(), revoked.key, expired.key):
        played = await play([auth], Sent(headers=[("api-key", key)]), server=server)
        names = [name for name, _ in played.headers]
        answers.append((played.status, played.body, names))
    assert answers[0][0] == 401
    assert all(answer == answers[0] for answer in answers)


# -- where keys come from ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"keys": KEYS},
        {"keys_dir": "."},
        {"store": "database"},
        {"jwt": {"issuer": NAME, "audience": "weir", "jwks": "/nowhere"}},
    ],
)
def test_each_place_of_keys_is_a_guard_even_while_it_has_none(options: dict[str, Any]) -> None:
    assert Auth(**options).guards()


async def test_keys_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "carol").write_text("weir-carols-key\n")
    auth = Auth(KEYS, keys_dir=str(tmp_path))
    who, _ = await admitted(auth, ("api-key", "weir-carols-key"))
    assert (who.user, who.key_id) == ("carol", "carol")
    who, _ = await admitted(Auth(KEYS, keys_dir=str(tmp_path)), ("api-key", KEY))
    assert who.user == "alice"


async def test_keys_of_a_database(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'weir.db'}")
    store.open()
    made = store.create({"user": "carol", "team": "red", "limits": [{"in_flight": 1}]}, "x")
    store.close()
    server = Server(CollectorRegistry(), state_dir=tmp_path)
    played = await play([Auth(store="database")], Sent(headers=[("api-key", made.key)]), server=server)
    who = played.ex[IDENTITY]
    assert (who.user, who.team, who.key_id) == ("carol", "red", made.record.id)
    assert who.limits == ({"in_flight": 1},)


async def test_a_token_names_who_asks(tmp_path: Path) -> None:
    signer = SigningKey("ES256", "e")
    (tmp_path / "jwks").write_bytes(key_set(signer))
    auth = Auth(KEYS, jwt={"issuer": NAME, "audience": "weir", "jwks": str(tmp_path / "jwks"), "team": "ns"})
    token = ("authorization", f"Bearer {signer.sign(ns='search')}")
    who, sent = await admitted(auth, token, ("x-user-id", "customer-7"))
    assert who == Identity("alice", PEER, None, "search", "customer-7")
    assert "authorization" not in sent


async def test_what_is_not_known_is_unavailable_and_not_wrong() -> None:
    jwt = {"issuer": NAME, "audience": "weir", "jwks": "/nowhere/jwks.json"}
    auth = Auth(KEYS, jwt=jwt)
    played = await asked(auth, ("api-key", "wrong-key-here"))
    assert (played.status, played.json()["error"]["code"]) == (503, "keys_unavailable")
    assert played.headers["retry-after"] == "1"
    assert auth.ready() == "jwks /nowhere/jwks.json cannot be read"
    who, _ = await admitted(Auth(KEYS, jwt=jwt), ("api-key", KEY))  # this one is
    assert who.user == "alice"


async def test_a_reload_knows_what_was_known(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'weir.db'}")
    store.open()
    made = store.create({"user": "carol"}, "x")
    store.close()
    server = Server(CollectorRegistry(), state_dir=tmp_path)
    before, after = Auth(store="database"), Auth(store="database", failures="5/minute")
    await before.start(server)
    after.adopt(before)
    assert after.ready() is None
    assert len(after._ring) == 1
    await before.stop()
    played = await play([after], Sent(headers=[("api-key", made.key)]), server=server)
    assert played.ex[IDENTITY].user == "carol"


async def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    auth = Auth(keys_dir=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere cannot be read"):
        await auth.start(Server(CollectorRegistry()))


def test_only_keys_of_a_database_are_managed() -> None:
    assert Auth(KEYS).management_routes() == ()
    assert len(Auth(store="database").management_routes()) == 7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"store": "memory"}, "store is database, or left out"),
        ({"keys_dir": ""}, "keys_dir is the path of a folder"),
        ({"keys_dir": 7}, "keys_dir is the path of a folder"),
        ({"stale": "10"}, "stale is not a span"),
        ({"failures": "100"}, "failures is how many wrong keys"),
        ({"failures": "0/minute"}, "failures is how many wrong keys"),
        ({"failures": 100}, "failures is how many wrong keys"),
        ({"jwt": {}}, "jwt: issuer must be set"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Auth(**options)


# -- whoever guesses -----------------------------------------------------------------------------------


async def test_an_address_has_so_many_guesses() -> None:
    auth = Auth(KEYS, failures="3/minute")
    for _ in range(3):
        await refused(auth, "invalid_api_key", ("api-key", "wrong-key-here"))
    played = await asked(auth, ("api-key", "wrong-key-here"))
    assert (played.status, played.json()["error"]["code"]) == (429, "too_many_invalid_keys")
    assert 0 < int(played.headers["retry-after"]) <= 60
    assert played.end.code == "too_many_invalid_keys"


async def test_a_key_that_might_have_been_guessed_waits_too_and_one_of_ours_does_not() -> None:
    made = secret.new()
    auth = Auth([*KEYS, {"user": "carol", "key": made}], failures="2/minute")
    for _ in range(3):
        await asked(auth, ("api-key", "wrong-key-here"))
    assert (await asked(auth, ("api-key", KEY))).status == 429
    who, _ = await admitted(auth, ("api-key", made))
    assert who.user == "carol"


async def test_a_token_is_not_guessed_either(tmp_path: Path) -> None:
    signer = SigningKey("ES256", "e")
    (tmp_path / "jwks").write_bytes(key_set(signer))
    auth = Auth(jwt={"issuer": NAME, "audience": "weir", "jwks": str(tmp_path / "jwks")}, failures="1/minute")
    for _ in range(3):
        await asked(auth, ("api-key", "wrong-key-here"))
    played = await asked(auth, ("authorization", f"Bearer {signer.sign()}"))
    assert played.status == 200


async def test_none_or_two_credentials_are_no_guess() -> None:
    auth = Auth(KEYS, failures="1/minute")
    for _ in range(3):
        await refused(auth, "missing_api_key")
        await refused(auth, "invalid_api_key", ("api-key", KEY), ("authorization", f"Bearer {KEY}"))
    await refused(auth, "invalid_api_key", ("api-key", "wrong-key-here"))


async def test_other_addresses_are_not_concerned() -> None:
    auth = Auth(KEYS, failures="1/minute")
    trusting = {"trusted_proxies": ["192.0.2.0/24"]}
    wrong = ("api-key", "wrong-key-here")
    for _ in range(3):
        await asked(auth, wrong, ("x-forwarded-for", "198.51.100.7"), settings=trusting)
    assert (await asked(auth, wrong, ("x-forwarded-for", "198.51.100.7"), settings=trusting)).status == 429
    assert (await asked(auth, wrong, ("x-forwarded-for", "198.51.100.8"), settings=trusting)).status == 401


async def test_guesses_need_not_be_counted() -> None:
    auth = Auth(KEYS, failures="off")
    for _ in range(150):
        await refused(auth, "invalid_api_key", ("api-key", "wrong-key-here"))


async def test_a_reload_forgets_no_guess() -> None:
    before, after = Auth(KEYS, failures="1/minute"), Auth(KEYS, failures="1/minute")
    await asked(before, ("api-key", "wrong-key-here"))
    after.adopt(before)
    assert (await asked(after, ("api-key", "wrong-key-here"))).status == 429
