"""Keys and whoever is after them: guesses, detours, traces in logs, metrics and errors (G1-G12).

What is planted everywhere and looked for everywhere (G6) is in tests/e2e/test_canary.py.
"""

import asyncio
import os
import random
import secrets
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.ports import free_ports

from .client import RawClient, chat, get, post, request
from .framing import RawResponse
from .process import Process
from .stage import BEARER, KEY, OK, Stage, is_error, once
from .upstream import Conn, RawUpstream, answer, chunk, json_answer, last_chunk, sse_head
from .wire import until

SOAK = bool(os.environ.get("WEIR_SOAK"))
MANY = 10_000 if SOAK else 1_000
EXPIRED, SHA = "expired-key-0123456789", "a" * 64
OWN = "sk-" + "o" * 40


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


async def in_turn(c: RawClient, requests: list[bytes]) -> list[RawResponse]:
    """Answers to requests that are sent some at a time."""
    answers = []
    for at in range(0, len(requests), 50):
        some = requests[at : at + 50]
        await c.send(b"".join(some))
        answers += [await c.response() for _ in some]
    return answers


def without_ids(answered: RawResponse) -> tuple[Any, ...]:
    """What does not name the one request, nor tells the time."""
    own = (b"x-weir-request-id", b"x-request-id", b"date", b"server-timing")
    return answered.status, [pair for pair in answered.headers if pair[0] not in own], answered.body


# -- G1, G2: guesses


@pytest.mark.fault("G1")
async def test_every_wrong_key_gets_one_answer_and_after_many_there_are_none() -> None:
    auth = {
        "use": "auth",
        "keys": [
            {"user": "alice", "key": KEY},
            {"user": "bob", "key": EXPIRED, "expires": "2020-01-01"},
            {"user": "carol", "key_sha256": SHA},
        ],
    }
    chance = random.Random(1)
    wrong = [EXPIRED, KEY[:-1], KEY + "0", KEY.upper(), SHA, "x", "weir_sk_" + "0" * 52]
    wrong += [f"{chance.getrandbits(128):032x}" for _ in range(MANY - len(wrong))]
    async with (
        RawUpstream(answer(OK)) as up,
        Process(up.base_url, upstream={"api_key": OWN}, config={"plugins": [auth]}) as p,
        p.client() as c,
    ):
        answers = await in_turn(c, [get("/v1/models", [bearer(key)]) for key in wrong])
        assert {without_ids(one)[0] for one in answers[:100]} == {401}
        assert len({str(without_ids(one)) for one in answers[:100]}) == 1
        is_error(answers[0], 401, "invalid_api_key")
        for one in answers[100:]:
            is_error(one, 429, "too_many_invalid_keys")
        # A right key that somebody thought up may just have been guessed.
        is_error(await c.ask(get("/v1/models", [bearer(KEY)])), 429, "too_many_invalid_keys")
        assert up.connections == 0
        assert not [key for key in wrong if key != "x" and key in p.stderr]


@pytest.mark.fault("G1")
async def test_a_key_that_is_taken_away_is_as_unknown_as_any(tmp_path: Path) -> None:
    async with RawUpstream(answer(OK)) as up:
        auth = {"use": "auth", "keys": [{"user": "alice", "key": KEY}, {"user": "bob", "key": "b" * 24}]}
        async with Process(up.base_url, config={"plugins": [auth]}) as p, p.client() as c:
            assert (await c.ask(get("/v1/models", [BEARER]))).status == 200
            p.write_config(plugins=[{**auth, "keys": auth["keys"][1:]}])
            p.signal(signal.SIGHUP)
            await p.logged(10, event="configuration reloaded")
            gone = await c.ask(get("/v1/models", [BEARER]))
            never = await c.ask(get("/v1/models", [bearer("n" * 24)]))
            assert without_ids(gone) == without_ids(never)
            is_error(gone, 401, "invalid_api_key")


@pytest.mark.fault("G2")
async def test_a_guess_takes_as_long_whatever_is_right_in_it() -> None:
    """Medians of five hundred each in turn, within a tenth; five tries, since others use this machine too."""
    keys = [{"user": f"u{n}", "key": f"{KEY}{n:04}"} for n in range(1000)]
    auth = {"use": "auth", "keys": keys, "failures": "off"}
    chance = random.Random(2)
    async with (
        RawUpstream(answer(OK)) as up,
        Process(up.base_url, config={"plugins": [auth]}) as p,
        p.client() as c,
    ):
        differences = []
        for _ in range(5):
            took: tuple[list[float], list[float]] = ([], [])
            for _ in range(MANY // 2):
                noise = f"{chance.getrandbits(32):08x}"
                near, far = KEY + "09" + noise[:2] + "x", (noise * 4)[: len(KEY) + 5]
                for kind, key in enumerate((near, far)):
                    sent = get("/v1/models", [bearer(key)])
                    start = time.perf_counter()
                    assert (await c.ask(sent)).status == 401
                    took[kind].append(time.perf_counter() - start)
            near_by, far_off = map(statistics.median, took)
            differences.append(abs(near_by - far_off) / far_off)
            if differences[-1] < 0.1:
                return
    raise AssertionError(f"medians differ by {differences}")


# -- G3: keys where they do not belong


@once
@pytest.mark.fault("G3")
async def test_a_key_counts_only_in_its_header_and_is_not_written_down(keyed: Stage) -> None:
    async with keyed.plant(answer(OK)) as up:
        wrong_places = [
            get(f"/v1/models?api_key={KEY}"),
            get(f"/v1/models?key={KEY}&access_token={KEY}"),
            get("/v1/models", [("cookie", f"authorization={KEY}; api-key={KEY}")]),
            get("/v1/models", [("x-goog-api-key", KEY)]),
            get("/v1/models", [("proxy-authorization", f"Bearer {KEY}")]),
            post("/v1/chat/completions", orjson.dumps({"api_key": KEY, "authorization": KEY})),
        ]
        for sent in wrong_places:
            is_error(await keyed.ask(sent), 401, "missing_api_key")
        userinfo = await keyed.ask(get(f"http://user:{KEY}@127.0.0.1/v1/models", [("host", "127.0.0.1")]))
        assert userinfo.status in (400, 401)
        assert up.connections == 0
        assert KEY.encode() not in userinfo.raw


@once
@pytest.mark.fault("G3")
async def test_a_key_in_the_path_is_known_by_its_shape(keyed: Stage) -> None:
    shaped = "sk-" + secrets.token_urlsafe(24), "weir_sk_" + secrets.token_hex(24)
    for key in shaped:
        is_error(await keyed.ask(get(f"/v1/models/{key}")), 401, "missing_api_key")
    lines = await keyed.ends(2)
    assert [line["path"] for line in lines] == ["/v1/models/***"] * 2


@once
@pytest.mark.fault("G3")
async def test_the_path_of_the_log_has_no_query(stage: Stage) -> None:
    secret = secrets.token_hex(16)
    async with stage.plant(answer(OK)) as up:
        await stage.ask(get(f"/v1/models?api_key={secret}", [bearer(secret)]))
        assert up.requests[0].target == f"/v1/models?api_key={secret}".encode()
    await stage.ends()
    assert secret not in stage.p.stderr


# -- G4, G5: addresses


def _elsewhere(port: int) -> list[bytes]:
    """Requests that name another server, in every place and spelling."""
    hosts = ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "[::1]", "localhost", "017700000001"]
    urls = [f"http://{host}:{port}" for host in hosts]
    made = [
        chat([(name, f"{url}/v1")])
        for url in urls[:3]
        for name in (
            "x-base-url",
            "x-forwarded-host",
            "x-original-url",
            "x-rewrite-url",
            "x-upstream",
            "forwarded",
        )
    ]
    for url in urls:
        body = {"model": url, "base_url": url, "api_base": url, "endpoint": url, "messages": []}
        made.append(post("/v1/chat/completions", orjson.dumps(body)))
        made.append(get(f"{url}/v1/models", [("host", url.removeprefix("http://"))]))
        made.append(get("/v1/models", [("host", url.removeprefix("http://"))]))
        made.append(get(f"/v1/models?base_url={url}"))
        made.append(get(f"/{url}/v1/models"))
        made.append(get(f"/v1/@{url.removeprefix('http://')}/"))
        made.append(request("CONNECT", url.removeprefix("http://")))
    return made


@once
@pytest.mark.fault("G4")
async def test_a_client_cannot_choose_the_upstream(stage: Stage) -> None:
    async with RawUpstream(answer(OK)) as trap, stage.plant(answer(OK)) as up:
        sent = _elsewhere(trap.port)
        statuses = [(await stage.ask(one)).status for one in sent]
        assert set(statuses) <= {200, 400, 405}
        assert trap.connections == 0
        assert statuses.count(200) == len(up.requests) > 20
        assert {asked.all("host")[0] for asked in up.requests} == {stage.host}


@pytest.mark.fault("G5")
@pytest.mark.parametrize(
    "url",
    [
        *("http://169.254.169.254/latest", "https://[fe80::1]/v1", "http://[::ffff:169.254.169.254]/v1"),
    ],
)
async def test_a_link_local_upstream_is_refused(url: str) -> None:
    with pytest.raises(AssertionError, match="ended with 2 while starting") as failed:
        async with Process(url):
            raise AssertionError("it serves")
    assert "allow_link_local: true" in str(failed.value)


@pytest.mark.fault("G5")
@pytest.mark.parametrize("url", ["http://2852039166/v1", "http://0xa9fea9fe/v1"])
async def test_a_number_that_the_system_would_take_for_an_address_is_refused(url: str) -> None:
    with pytest.raises(AssertionError, match="ended with 2 while starting"):
        async with Process(url):
            raise AssertionError("it serves")


@pytest.mark.fault("G5")
async def test_a_link_local_upstream_may_be_meant() -> None:
    async with Process("http://169.254.1.1:9/v1", upstream={"allow_link_local": True}) as p:
        assert p.alive


# -- G7, G8: what the log says

CRASHES = '''
from proxy.api import Plugin


class Crashes(Plugin):
    """Raises the request itself."""

    async def on_request(self, ex):
        try:
            raise ValueError(await ex.request.read(), ex.request.headers.raw)
        except ValueError as error:
            raise RuntimeError(f"{ex.request.headers.raw} {await ex.request.json()}") from error
'''


@pytest.mark.fault("G7")
async def test_an_exception_that_holds_a_request_is_told_without_it(tmp_path: Path) -> None:
    (tmp_path / "crashes.py").write_text(CRASHES)
    prompt = secrets.token_hex(16)
    config = {"plugins": [{"use": "auth", "keys": [{"user": "a", "key": KEY}]}, "crashes:Crashes"]}
    env = {"PYTHONPATH": str(tmp_path), "WEIR_LOG_LEVEL": "debug"}
    async with RawUpstream(answer(OK)) as up, Process(up.base_url, config=config, env=env) as p:
        async with p.client() as c:
            answered = await c.ask(chat([BEARER], messages=[{"role": "user", "content": prompt}]))
        is_error(answered, 500, "plugin_error")
        line = await p.logged(event="a plugin failed")
        assert line["raised"] == "RuntimeError"
        assert "crashes.py:" in line["at"]
        for secret in (prompt, KEY):
            assert secret not in p.stderr
            assert secret.encode() not in answered.raw
        assert up.connections == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["json", "text"])
async def shared_writing(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    env = {"WEIR_LOG_FORMAT": request.param}
    config = {"plugins": ["auth", "precost", "annotate"], "log": {"level": "debug"}}
    async with Stage(config=config, env=env) as stage:
        yield stage


@pytest.mark.fault("G8")
async def test_nobody_writes_lines_into_the_log(shared_writing: Stage) -> None:
    """One request is one line, of printable text, whatever stands in it."""
    p = shared_writing.p
    await until(lambda: "listening" in p.stderr)
    told = len(p.stderr)
    text = '\r\n{"level":"error","event":"forged"}\n\x1b[2J\x1b]0;owned\x07\u2028\x85'
    escaped = "%0d%0a%1b%5b2J"
    odd = [
        chat(model=text, user=text, messages=[{"role": text, "content": text}]),
        chat(model="m" * 1_000_000),
        chat([("x-user-id", b"\x1b[2J".replace(b"\x1b", b"\x9b") + b"\x85forged\xad")]),
        chat([("x-request-id", b"\x85\x9bforged" + b"y" * 5000)]),
        get(f"/v1/{escaped}"),
        get("/v1/" + "p" * 10_000),
        request("FORGED" + "M" * 100, "/v1/x"),
    ]
    async with shared_writing.plant(answer(OK)):
        for one in odd:
            await shared_writing.ask(one)
        await shared_writing.ask(get("/v1/the-end"))
        for _ in range(100):
            if "/v1/the-end" in p.stderr:
                break
            await asyncio.sleep(0.02)
    written = p.stderr[told:]
    lines = written.split("\n")[:-1]
    assert len(lines) == len(odd) + 1, lines
    for line in lines:
        assert line.isprintable(), line
        assert len(line) < 256 * 8
        assert not line.startswith('{"level":"error"')
        if line.startswith("{"):
            assert all(len(value) <= 256 for value in orjson.loads(line).values() if isinstance(value, str))


# -- G9: labels


@pytest.mark.fault("G9")
async def test_whoever_makes_up_names_makes_no_labels() -> None:
    limits = [
        {"name": "each", "requests": "1000000/minute", "per": "user"},
        {"name": "models", "tokens": "1000000000/minute", "per": "model"},
    ]
    chain = ["tracing", "auth", "precost", "ledger", {"use": "limiter", "limits": limits, "buckets": 100}]
    config = {"plugins": [*chain, "annotate"], "state_dir": "state"}

    def made_up(n: int) -> bytes:
        path = f"/v1/made-up-{n}" if n % 5 == 0 else "/v1/chat/completions"
        body = orjson.dumps({"model": f"model-{n}", "messages": [], "n": n % 3})
        return post(path, body, [bearer(f"key-{n}"), ("x-user-id", f"user-{n}"), ("x-request-id", f"r{n}")])

    async with RawUpstream(answer(OK)) as up, Process(up.base_url, config=config) as p, p.client() as c:
        await in_turn(c, [made_up(n) for n in range(50)])
        before = await _metrics(p)
        answers = await in_turn(c, [made_up(n) for n in range(50, MANY // 2)])
        assert {one.status for one in answers} == {200}
        after = await _metrics(p)
        assert len(after) - len(before) < 30, set(after) - set(before)
        assert not [
            line for line in after if any(word in line for word in ("made-up", "model-", "user-", "key-"))
        ]


async def _metrics(p: Process) -> list[str]:
    """Every series there is, without its value."""
    page = (await p.get("/metrics", management=True)).body.decode()
    return [line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")]


# -- G10: management


@once
@pytest.mark.fault("G10")
async def test_nothing_of_the_management_port_is_on_the_data_port(keyed: Stage) -> None:
    paths = [
        "/metrics",
        "/admin",
        "/inflight",
        "/keys",
        "/keys/audit",
        "/healthz",
        "/readyz",
        "/openapi.json",
    ]
    async with keyed.plant(answer(json_answer({"planted": True}, 404))) as up:
        for path in paths:
            is_error(await keyed.ask(get(path)), 401, "missing_api_key")
        assert up.connections == 0
        for path in paths:
            answered = await keyed.ask(get(path, [BEARER]))
            assert (answered.status, answered.json()) == (404, {"planted": True})
        assert [asked.target for asked in up.requests] == [b"/v1" + path.encode() for path in paths]


# -- G11: pages

PAGE = ("origin", "https://evil.example")
PREFLIGHT = [
    PAGE,
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization"),
]


@pytest.mark.fault("G11")
@pytest.mark.parametrize("origins", [None, ["https://app.example"]])
async def test_a_page_of_an_unknown_origin_is_let_nowhere(origins: list[str] | None) -> None:
    config = {} if origins is None else {"cors": {"origins": origins}}
    nosy = [*PREFLIGHT[1:]]
    async with RawUpstream(answer(OK)) as up, Process(up.base_url, config=config) as p:
        for origin in (
            "https://evil.example",
            "null",
            "https://app.example.evil.example",
            "http://app.example",
        ):
            for one in (
                request("OPTIONS", "/v1/chat/completions", [("origin", origin), *nosy]),
                chat([("origin", origin)]),
                get("/models", [("origin", origin)]),
            ):
                async with p.client() as c:
                    answered = await c.ask(one)
                assert [name for name, _ in answered.headers if name.startswith(b"access-control-")] == []


# -- G12: whose key it is


@pytest.mark.fault("G12")
@pytest.mark.parametrize("client", ["http1", "httpx2"])
async def test_a_key_goes_to_its_own_upstream_alone(client: str) -> None:
    """Through a redirect, a try anew, and a reload with a stream still running; every byte was looked at."""
    ports = free_ports(2)
    urls = [f"http://127.0.0.1:{port}/v1" for port in ports]
    ups = [
        {"name": "first", "base_url": urls[0], "api_key": "sk-key-of-the-first", "client": client},
        {"name": "second", "base_url": urls[1], "api_key": "sk-key-of-the-second", "client": client},
    ]
    location = [("location", f"{urls[1]}/chat/completions")]

    async def first(conn: Conn) -> None:
        while True:
            asked = await conn.request()
            does = (asked.all("x-do") or [b""])[0]
            if does == b"redirect":
                await conn.send(json_answer({}, 307, location))
            elif does == b"stream":
                await conn.send(sse_head() + chunk(b"data: 1\n\n"))
                await going_on.wait()
                await conn.send(last_chunk)
            else:
                await conn.send(OK)
            if does == b"leave":
                conn.close()
                return

    going_on = asyncio.Event()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(RawUpstream(first, port=ports[0]))
        two = await stack.enter_async_context(RawUpstream(answer(OK), port=ports[1]))
        p = await stack.enter_async_context(Process(config={"upstreams": ups[:1]}))
        c = await stack.enter_async_context(p.client())
        answered = await c.ask(chat([("x-do", "redirect"), bearer("of-the-client")]))
        assert (answered.status, answered.get("location")) == (307, location[0][1].encode())
        for does in ("leave", "", "leave", ""):  # a connection that is stale is replaced by a new one
            assert (await c.ask(chat([("x-do", does)]))).status == 200
        assert (len(two.requests), len(one.requests)) == (0, 5)
        # The other upstream takes over while a stream runs at the first.
        await c.send(chat([("x-do", "stream")], stream=True))
        assert await c.read_events(1) == [b"data: 1\n\n"]
        p.write_config(upstreams=ups[1:])
        p.signal(signal.SIGHUP)
        await p.logged(10, event="configuration reloaded")
        async with p.client() as other:
            assert (await other.ask(chat())).status == 200
        going_on.set()
        assert (await c.response()).ended == "chunked"
        assert (await c.ask(chat())).status == 200
        assert (len(one.requests), len(two.requests)) == (6, 2)
        assert {asked.all("authorization")[0] for asked in one.requests} == {b"Bearer sk-key-of-the-first"}
        assert {asked.all("authorization")[0] for asked in two.requests} == {b"Bearer sk-key-of-the-second"}
        for asked in [*one.requests, *two.requests]:
            assert len(asked.all("authorization")) == 1
            assert b"of-the-client" not in str(asked.headers).encode()
        assert "sk-key" not in p.stderr


@pytest.mark.fault("G12")
async def test_an_upstream_without_a_key_never_gets_that_of_another() -> None:
    """A key is taken out of the configuration: then the client's own goes through, and no other."""
    async with RawUpstream(answer(OK)) as up:
        entry = {"name": "up", "base_url": up.base_url}
        keyed = {**entry, "api_key": "sk-key-of-yesterday"}
        async with Process(config={"upstreams": [keyed]}) as p, p.client() as c:
            await c.ask(get("/v1/models", [bearer("of-the-client")]))
            p.write_config(upstreams=[entry])
            p.signal(signal.SIGHUP)
            await p.logged(10, event="configuration reloaded")
            await c.ask(get("/v1/models", [bearer("of-the-client")]))
            await c.ask(get("/v1/models"))
        told = [asked.all("authorization") for asked in up.requests]
        assert told == [[b"Bearer sk-key-of-yesterday"], [b"Bearer of-the-client"], []]


@pytest.mark.fault("G6")
async def test_a_server_leaves_no_core_dump(tmp_path: Path) -> None:
    for workers in (1, 2):
        config = {} if workers == 1 else {"workers": 2}
        async with RawUpstream(answer(OK)) as up, Process(up.base_url, config=config) as p:
            for pid in [p.pid, *_children(p.pid)]:
                assert set(_core_limits(pid)) <= {"0", "1"}


def _core_limits(pid: int) -> list[str]:
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
        if line.startswith("Max core file size")
    ]
    return line.split()[4:6]


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_children(int(child))]
    return found
