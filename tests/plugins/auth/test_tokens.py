"""Tokens as credentials, from an issuer of the tests' own."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from plugins.auth import tokens as module
from plugins.auth.keys import Key
from plugins.auth.tokens import Tokens

from .issuer import NAME, SigningKey, key_set, serving

RSA, EC, OTHER = SigningKey("RS256", "r"), SigningKey("ES256", "e"), SigningKey("ES256", "o")


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(RSA, EC))
    return path


@asynccontextmanager
async def started(jwks: Any, **more: Any) -> AsyncIterator[Tokens]:
    tokens = Tokens({"issuer": NAME, "audience": "weir", "jwks": str(jwks), **more})
    for watch in tokens.watches:
        await watch.start()
    try:
        yield tokens
    finally:
        for watch in tokens.watches:
            watch.stop()


async def find(tokens: Tokens, token: str) -> Key | None:
    return await tokens.find(token.encode())


@pytest.mark.parametrize("key", [RSA, EC])
async def test_a_token_names_who_it_is_of(jwks: Path, key: SigningKey) -> None:
    async with started(jwks, team=["kubernetes.io", "namespace"], models="gpt-4o*") as tokens:
        claims: dict[str, Any] = {"kubernetes.io": {"namespace": "search", "pod": {}}}
        token = key.sign(**claims)
        found = await find(tokens, token)
        assert found is not None
        assert (found.id, found.user, found.team, found.models) == (None, "alice", "search", ("gpt-4o*",))
        assert await find(tokens, token) is found  # it is not checked again


async def test_other_claims_may_say_who_it_is(jwks: Path) -> None:
    async with started(jwks, user="email", team="https://x.test/team") as tokens:
        claims: dict[str, Any] = {"email": "a@x.test", "https://x.test/team": "red"}
        found = await find(tokens, EC.sign(**claims))
        assert found is not None
        assert (found.user, found.team) == ("a@x.test", "red")
        assert await find(tokens, EC.sign()) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.test"},
        {"iss": None},
        {"iss": [NAME]},
        {"aud": "other"},
        {"aud": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": 9_000_000_000},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": "x" * 300},
    ],
)
async def test_claims_that_will_not_do(jwks: Path, claims: dict[str, Any]) -> None:
    async with started(jwks) as tokens:
        try:
            token = EC.sign(**claims)
        except TypeError:  # the library will not write it
            parts = EC.sign().split(".")
            said = {"aud": "weir", "sub": "a", "exp": 9e9, **claims}
            token = f"{parts[0]}.{_encoded(said)}.{parts[2]}"
        assert await find(tokens, token) is None


async def test_one_audience_of_several_is_enough(jwks: Path) -> None:
    async with started(jwks, audience=["weir", "weir2"]) as tokens:
        assert await find(tokens, EC.sign(aud=["x", "weir2"])) is not None
        assert await find(tokens, EC.sign(aud=["x"])) is None


async def test_clocks_may_differ_a_little(jwks: Path) -> None:
    now = time.time()
    async with started(jwks, leeway="10s") as tokens:
        assert await find(tokens, EC.sign(exp=now - 5)) is not None
        assert await find(tokens, EC.sign(exp=now - 15)) is None
        assert await find(tokens, EC.sign(nbf=now + 5)) is not None
        assert await find(tokens, EC.sign(nbf=now + 15)) is None


async def test_a_token_that_was_seen_ends_with_its_time(jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    async with started(jwks, leeway="0s") as tokens:
        token = EC.sign(exp=now + 60)
        assert await find(tokens, token) is not None
        monkeypatch.setattr(module, "time", lambda: now + 61)
        monkeypatch.setattr(jwt, "decode", _expired)
        assert await find(tokens, token) is None


def _expired(*_: Any, **__: Any) -> None:
    raise jwt.ExpiredSignatureError


async def test_one_for_years_is_checked_again_within_the_hour(jwks: Path) -> None:
    async with started(jwks) as tokens:
        found = await find(tokens, EC.sign(exp=time.time() + 1e8))
        assert found is not None
        assert found.until <= time.time() + module.TRUST


# -- forgeries -------------------------------------------------------------------------------------------


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


def _claims() -> dict[str, Any]:
    return {"iss": NAME, "aud": "weir", "sub": "mallory", "exp": int(time.time()) + 60}


async def test_nobody_signs_for_the_issuer(jwks: Path) -> None:
    async with started(jwks, algorithms=["RS256", "ES256", "EdDSA"]) as tokens:
        good = EC.sign()
        head, body, signature = good.split(".")
        pem = RSA.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        forged = [
            f"{_encoded({'alg': 'none', 'kid': 'e'})}.{_encoded(_claims())}.",
            f"{_encoded({'alg': 'None'})}.{_encoded(_claims())}.",
            f"{head}.{_encoded(_claims())}.{signature}",
            f"{head}.{body}.",
            f"{head}.{body}.{signature[:-4]}AAAA",
            _hs256({"alg": "HS256", "kid": "r"}, pem),
            _hs256({"alg": "HS256", "kid": "r"}, b""),
            _hs256({"alg": "RS256", "kid": "r"}, pem),
            OTHER.sign(headers={"kid": "e"}),
            OTHER.sign(headers={"kid": "e", "jwk": OTHER.jwk()}),
            OTHER.sign(headers={"kid": "e", "jku": "https://evil.test/jwks"}),
            RSA.sign(headers={"kid": "e"}),
            EC.sign(headers={"kid": "r"}),
            EC.sign(headers={"crit": ["exp"]}),
        ]
        for token in forged:
            assert await find(tokens, token) is None, token
        assert await find(tokens, good) is not None


def _hs256(header: dict[str, Any], secret: bytes) -> str:
    signed = f"{_encoded(header)}.{_encoded(_claims())}"
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


async def test_an_algorithm_that_is_not_allowed_is_refused(jwks: Path) -> None:
    async with started(jwks, algorithms="RS256") as tokens:
        assert await find(tokens, RSA.sign()) is not None
        assert await find(tokens, EC.sign()) is None


@given(st.binary(max_size=60) | st.text(alphabet="eyJ.abc0=-_", max_size=60).map(str.encode))
async def test_rubbish_is_no_token(presented: bytes) -> None:
    tokens = Tokens({"issuer": NAME, "audience": "weir", "jwks": "/nowhere"})
    assert await tokens.find(presented) is None
    assert await tokens.find(b"." + presented + b".") is None


async def test_one_that_is_too_long_is_none(jwks: Path) -> None:
    async with started(jwks) as tokens:
        assert await find(tokens, EC.sign(more="x" * module.LONGEST)) is None


# -- keys that change ------------------------------------------------------------------------------------


async def test_a_new_key_of_the_issuer_is_asked_for_and_not_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(key_set(EC)) as served:
        async with started(served.url) as tokens:
            assert await find(tokens, EC.sign()) is not None
            served.answer = key_set(EC, OTHER)
            many = [find(tokens, OTHER.sign(jti=str(number))) for number in range(20)]
            assert all(await asyncio.gather(*many))  # whoever comes meanwhile waits too
            assert len(served.asked) == 2
            # Somebody makes key ids up.
            made_up = [OTHER.sign(headers={"kid": f"x{number}"}) for number in range(50)]
            for token in made_up:
                assert await find(tokens, token) is None
            assert len(served.asked) == 2
            monkeypatch.setattr(module, "UNKNOWN", 0.0)
            assert await find(tokens, made_up[0]) is None
            assert len(served.asked) == 3


async def test_a_key_that_is_taken_back_ends_its_tokens(jwks: Path) -> None:
    async with started(jwks) as tokens:
        token = EC.sign()
        assert await find(tokens, token) is not None
        await asyncio.to_thread(jwks.write_bytes, key_set(RSA))
        await tokens.watches[0].again(5)
        assert await find(tokens, token) is None


async def test_a_url_that_is_down_is_waited_for_and_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving((503, {}, b"")) as served:
        async with started(served.url) as tokens:
            (watch,) = tokens.watches
            assert watch.ready() == f"jwks {served.url} cannot be read"
            assert await find(tokens, EC.sign()) is None
            fields = caplog.records[0].__dict__["fields"]
            assert fields["source"] == f"jwks {served.url}"
            assert fields["raised"] == "Unreadable"
            served.answer = key_set(EC)
            await watch.again(5)
            assert watch.ready() is None
            assert await find(tokens, EC.sign()) is not None
            served.answer = (503, {}, b"")
            await watch.again(5)
            assert await find(tokens, EC.sign(jti="2")) is not None  # what it said last counts


async def test_the_table_of_tokens_is_bounded(jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFIED", 5)
    async with started(jwks) as tokens:
        for number in range(20):
            assert await find(tokens, EC.sign(jti=str(number))) is not None
        assert len(tokens._verified) == 5


async def test_several_issuers_each_with_its_own_keys(jwks: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.json"
    second.write_bytes(key_set(OTHER))
    mesh = "https://mesh.test"
    entries = [
        {"issuer": NAME, "audience": "weir", "jwks": str(jwks)},
        {"issuer": mesh, "audience": "weir", "jwks": str(second), "limits": [{"in_flight": 1}]},
    ]
    tokens = Tokens(entries)
    for watch in tokens.watches:
        await watch.start()
    found = await find(tokens, OTHER.sign(iss=mesh))
    assert found is not None
    assert found.limits == ({"in_flight": 1},)
    assert await find(tokens, OTHER.sign()) is None
    assert await find(tokens, EC.sign(iss=mesh)) is None
    for watch in tokens.watches:
        watch.stop()


# -- its configuration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"issuer": None}, "jwt: issuer must be set"),
        ({"audience": None}, "jwt: audience must be set"),
        ({"audience": []}, "jwt: audience must be set"),
        ({"jwks": None}, "jwt: jwks must be set"),
        ({"jwks": "http://issuer.test/"}, "jwt: jwks is a file or an https"),
        ({"algorithms": ["none"]}, "'none' is not one of RS256"),
        ({"algorithms": ["HS256"]}, "is signed with a private one"),
        ({"algorithms": []}, "algorithms must be set"),
        ({"leeway": "30"}, "jwt: leeway is not a span"),
        ({"user": 7}, "jwt: user must be set"),
        ({"limits": 7}, "jwt: limits is a list"),
        ({"models": 7}, "jwt: models is a pattern"),
        ({"isuer": "x"}, "jwt: unknown key 'isuer'"),
    ],
)
def test_what_will_not_do_is_told(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Tokens({"issuer": NAME, "audience": "weir", "jwks": "/nowhere", **change})


def test_a_list_names_the_place() -> None:
    one = {"issuer": NAME, "audience": "weir", "jwks": "/nowhere"}
    with pytest.raises(ValueError, match=r"jwt\[1\]: the issuer stands there twice"):
        Tokens([one, one])
    with pytest.raises(ValueError, match="jwt is a mapping like"):
        Tokens("https://issuer.test")
