import contextlib
import os
import re
import socket
import typing
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError, validate_call

from proxy.core import config, yaml
from proxy.core.config import (
    Address,
    ConfigError,
    PluginSettings,
    Settings,
    Timeouts,
    TlsSettings,
    UpstreamSettings,
    load,
    schema,
    strangers,
)
from proxy.core.units import format_duration, format_size, parse_duration, parse_size

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


class Loader:
    """Loads text as `weir.yaml` of a folder; messages come back without the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "weir.yaml"

    def ok(self, text: str = "", environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        self.path.write_text(text, "utf-8")
        return load(self.path, environ or {}, overrides)

    def problems(
        self, text: str = "", environ: Mapping[str, str] | None = None, **overrides: Any
    ) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.ok(text, environ, **overrides)
        assert caught.value.problems
        assert str(caught.value) == "\n".join(caught.value.problems)
        for problem in caught.value.problems:
            assert len(problem.splitlines()) == 1
        return [problem.replace(f"{self.folder}/", "") for problem in caught.value.problems]


@pytest.fixture
def weir(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


def upstream(weir: Loader, text: str, base_url: str = "https://api.example/v1") -> UpstreamSettings:
    (one,) = weir.ok(f"upstreams:\n  - base_url: {base_url}\n    {text}").upstreams
    return one


# --- defaults and precedence ---


@pytest.mark.parametrize("text", [None, "", "# nothing\n", "---\n", "listen:\nlog:\nplugins:\nupstreams:\n"])
def test_defaults(weir: Loader, text: str | None) -> None:
    found = load(None, {}) if text is None else weir.ok(text)
    assert found == Settings()
    assert found.listen == Address("127.0.0.1", 3006)
    assert found.management == Address("127.0.0.1", 3007)
    assert found.upstreams == []
    assert found.plugins is None
    assert (found.pricing, found.default_models, found.cors.origins) == (None, {}, [])
    assert found.log.level == "info"
    assert found.drain.grace == 30.0
    assert found.limits_http.header_bytes == 65536


def test_everything_set(weir: Loader, tmp_path: Path) -> None:
    for name in ("ca.pem", "c.pem", "k.pem"):
        (tmp_path / name).write_text("x")
    found = weir.ok(
        """
        listen: "[::1]:80"
        management: off
        management_token: t0ken
        allow_open: yes
        trusted_proxies: [10.0.0.0/8, "::1", 192.168.1.1]
        server_timing: off
        upstreams:
          - base_url: HTTPS://API.example:8443/v1/
            name: main
            api_key: sk-1
            timeouts: {connect: 500ms, first_byte: 1.5s, idle: 10m, total: 1d, drain: 5s}
            pool: {max: 7, idle: 2s}
            breaker: {failures: off, open: 2s, most: 1m}
            tls: {ca: ca.pem, cert: c.pem, key: k.pem, server_name: Other.example}
            proxy: socks5h://u:p@proxy:1080
            http2: on
            on_disconnect: drain
        plugins: []
        pricing: ca.pem
        default_models: {images/generations: dall-e-3, "a%20b/c:d": " x "}
        cors: {origins: [https://app.example, "HTTP://[0::1]:3000"]}
        limits_http: {header_bytes: 1KiB, headers: 5, uri: 512, header_time: 1s, body_idle: 2s,
                      write_idle: 3s, json_body: 1MB, hold_total: 1GiB}
        drain: {delay: 5s, grace: 0s}
        log: {level: WARNING, format: json}
        state_dir: /var/lib/weir
        database: postgresql://u:p@db/weir
        redis: redis://:p@redis
        replicas: 3
        workers: 4
        watch: 5s
        overload: {memory: 512MiB, loop_lag: 1s}
        """
    )
    assert found.listen == Address("::1", 80)
    assert found.management is None
    assert found.management_token == SecretStr("t0ken")
    assert found.allow_open is True
    assert found.server_timing is False
    assert found.trusted_proxies == [
        ip_network("10.0.0.0/8"),
        ip_network("::1/128"),
        ip_network("192.168.1.1/32"),
    ]
    (one,) = found.upstreams
    assert one.base_url == "https://api.example:8443/v1"
    assert (one.name, one.api_key, one.http2) == ("main", SecretStr("sk-1"), True)
    assert one.timeouts == Timeouts(connect=0.5, first_byte=1.5, idle=600.0, total=86400.0, drain=5.0)
    assert one.on_disconnect == "drain"
    assert (one.pool.max, one.pool.idle) == (7, 2.0)
    assert (one.breaker.failures, one.breaker.open, one.breaker.most) == (None, 2.0, 60.0)
    assert one.tls == TlsSettings(
        ca=tmp_path / "ca.pem", cert=tmp_path / "c.pem", key=tmp_path / "k.pem", server_name="other.example"
    )
    assert one.proxy == "socks5h://u:p@proxy:1080"
    assert found.plugins == []
    assert found.pricing == tmp_path / "ca.pem"
    assert found.default_models == {"images/generations": "dall-e-3", "a%20b/c:d": "x"}
    assert found.cors.origins == ["https://app.example", "http://[::1]:3000"]
    assert found.limits_http.model_dump() == {
        "header_bytes": 1024,
        "headers": 5,
        "uri": 512,
        "header_time": 1.0,
        "body_idle": 2.0,
        "write_idle": 3.0,
        "json_body": 1_000_000,
        "hold_total": 2**30,
    }
    assert (found.drain.delay, found.drain.grace) == (5.0, 0.0)
    assert (found.log.level, found.log.format) == ("warning", "json")
    assert found.state_dir == Path("/var/lib/weir")
    assert (found.database, found.redis, found.replicas, found.workers) == (
        "postgresql://u:p@db/weir",
        "redis://:p@redis",
        3,
        4,
    )


@pytest.mark.parametrize(
    ("text", "memory"),
    [("0.5", 0.5), ("'.75'", 0.75), ("1", 1.0), ("1.0", 1.0), ("64MiB", 64 * 2**20), ("2", 2), ("off", None)],
)
def test_memory_is_a_part_or_a_size(weir: Loader, text: str, memory: float | None) -> None:
    found = weir.ok(f"overload: {{memory: {text}}}").overload.memory
    assert (found, type(found)) == (memory, type(memory))


def test_what_is_no_overload(weir: Loader) -> None:
    assert weir.ok("overload: {loop_lag: off, memory: false}").overload.loop_lag is None
    for text in ("0.0", "1.5", "-1", "much", "true", "90%"):
        (problem,) = weir.problems(f"overload: {{memory: {text}}}")
        assert problem.startswith("weir.yaml:1: overload.memory: ")
    (problem,) = weir.problems("overload: {loop_lag: 250}")
    assert "has no unit" in problem


def test_how_many_workers(weir: Loader) -> None:
    assert weir.ok("workers: 2", {"WEIR_WORKERS": "3"}, workers=4).workers == 4
    assert weir.ok("workers: 2", {"WEIR_WORKERS": "3"}).workers == 3
    assert weir.problems("workers: 0") == ["weir.yaml:1: workers: 0 is not a number from 1 to 2147483647"]
    assert weir.problems("workers: 257") == ["weir.yaml:1: workers: 257 is more than 256"]
    assert weir.problems("", {"WEIR_WORKERS": "two"}) == ['WEIR_WORKERS: "two" is not a whole number']
    assert weir.problems("", workers=0) == ["--workers: 0 is not a number from 1 to 2147483647"]


@pytest.mark.parametrize(
    ("text", "environ", "overrides", "listen"),
    [
        ("listen: 10.0.0.1:1", {}, {}, "10.0.0.1:1"),
        ("listen: 10.0.0.1:1", {"PORT": "2"}, {}, "10.0.0.1:2"),
        ("listen: 10.0.0.1:1", {"HOST": "::1"}, {}, "[::1]:1"),
        ("listen: 10.0.0.1:1", {"HOST": "[::1]", "PORT": " 2 "}, {}, "[::1]:2"),
        ("listen: 10.0.0.1:1", {"WEIR_LISTEN": ":5"}, {}, "0.0.0.0:5"),
        ("listen: 10.0.0.1:1", {"WEIR_LISTEN": ":5", "PORT": "6"}, {}, "0.0.0.0:6"),
        ("listen: 10.0.0.1:1", {"PORT": "2", "HOST": "localhost"}, {"port": 3}, "localhost:3"),
        ("listen: 10.0.0.1:1", {"PORT": "2"}, {"port": None, "host": "0.0.0.0"}, "0.0.0.0:2"),
        ("listen: 10.0.0.1:1", {"PORT": "", "HOST": " ", "WEIR_LISTEN": ""}, {}, "10.0.0.1:1"),
        ("", {}, {"port": "0"}, "127.0.0.1:0"),
    ],
)
def test_who_sets_listen(
    weir: Loader, text: str, environ: dict[str, str], overrides: dict[str, Any], listen: str
) -> None:
    assert str(weir.ok(text, environ, **overrides).listen) == listen


def test_the_environment_wins_over_the_file(weir: Loader) -> None:
    found = weir.ok(
        "management: off\nmanagement_token: a\nlog: {level: error, format: text}\nallow_open: true\n"
        "state_dir: a",
        {
            "WEIR_MANAGEMENT": ":9",
            "WEIR_MANAGEMENT_TOKEN": "b",
            "WEIR_LOG_LEVEL": "DEBUG",
            "WEIR_ALLOW_OPEN": "0",
            "WEIR_STATE_DIR": "b",
            "WEIR_CONFIG": "other.yaml",
        },
    )
    assert found.management == Address("0.0.0.0", 9)
    assert found.management_token == SecretStr("b")
    assert (found.log.level, found.log.format) == ("debug", "text")
    assert found.allow_open is False
    assert found.state_dir == Path("b")


def test_relative_paths_of_the_file_start_from_its_folder(weir: Loader) -> None:
    assert weir.ok("state_dir: state").state_dir == weir.folder / "state"


def test_home(weir: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert weir.ok("state_dir: ~/state").state_dir == Path("/home/me/state")
    assert weir.ok("state_dir: ~no-such-user-here/x").state_dir == weir.folder / "~no-such-user-here/x"


# --- addresses ---


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:3006", ("127.0.0.1", 3006)),
        (":3006", ("0.0.0.0", 3006)),
        ("3006", ("127.0.0.1", 3006)),
        (3006, ("127.0.0.1", 3006)),
        ("[::1]:3006", ("::1", 3006)),
        ("[0::0]:3006", ("::", 3006)),
        ("[fe80::1%eth0]:3006", ("fe80::1%eth0", 3006)),
        ("LocalHost:0", ("localhost", 0)),
        (" my_host.internal:65535 ", ("my_host.internal", 65535)),
    ],
)
def test_addresses(text: object, address: tuple[str, int]) -> None:
    found = Address.parse(text)
    assert (found.host, found.port) == address
    assert Address.parse(str(found)) == found
    assert Address.parse(found) is found


@pytest.mark.parametrize(
    "text",
    [
        "300.0.0.1:x",
        "300.0.0.1:80",
        "1.2.3:80",
        "0x7f.1:80",
        "127.0.0.1.:80",
        "127.0.0.1",
        "::1:80",
        "[::1]",
        "[::1:80",
        "[127.0.0.1]:80",
        "[fe80::1%a b]:80",
        "host:65536",
        "host:-1",
        "host:٣",
        "ho st:80",
        "-host:80",
        "*:80",
        "http://host:80",
        "",
        "²",
        "a" * 64 + ":80",
        True,
        None,
        1.5,
        -1,
        65536,
        ["127.0.0.1:80"],
    ],
)
def test_what_is_no_address(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not an address like 127\.0\.0\.1:3006"):
        Address.parse(text)


@given(st.text())
def test_any_text_is_an_address_or_not(text: str) -> None:
    try:
        found = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(found)) == found


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        (":80", "127.0.0.1:80", True),
        (":80", "[::1]:80", True),
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("localhost:80", "127.0.0.1:80", True),
        ("localhost:80", "localhost:80", True),
        ("a.example:80", "127.0.0.1:80", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        (":0", ":0", False),
    ],
)
def test_addresses_that_overlap(one: str, other: str, overlaps: bool) -> None:
    assert Address.parse(one).overlaps(Address.parse(other)) is overlaps
    assert Address.parse(other).overlaps(Address.parse(one)) is overlaps


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("x.localhost:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        (":1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("example.com:1", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert Address.parse(address).loopback is loopback


# --- management ---


@pytest.mark.parametrize(
    ("text", "management"),
    [
        ("listen: :80", "127.0.0.1:81"),
        ("listen: 10.0.0.1:0", "127.0.0.1:0"),
        ("listen: 65535", "127.0.0.1:65534"),
        ("management: :9", "0.0.0.0:9"),
        ("management: 9", "127.0.0.1:9"),
        ("management:", "127.0.0.1:3007"),
        ("management: OFF", "None"),
        ("management: false", "None"),
        ('management: "off"', "None"),
    ],
)
def test_management(weir: Loader, text: str, management: str) -> None:
    assert str(weir.ok(text).management) == management


def test_management_by_default_follows_the_port(weir: Loader) -> None:
    assert weir.ok("listen: :80", {"PORT": "90"}).management == Address("127.0.0.1", 91)


def test_the_two_ports_must_differ(weir: Loader) -> None:
    assert weir.problems("listen: :80\nmanagement: 80") == [
        "weir.yaml:2: management: 80 is taken by the data port (listen: 0.0.0.0:80)"
    ]
    assert weir.problems("management: 127.0.0.1:80", {"PORT": "80"}) == [
        'weir.yaml:1: management: "127.0.0.1:80" is taken by the data port (listen: 127.0.0.1:80)'
    ]
    assert weir.problems("", {"WEIR_MANAGEMENT": ":3006"}) == [
        'WEIR_MANAGEMENT: "0.0.0.0:3006" is taken by the data port (listen: 127.0.0.1:3006)'
    ]


# --- the environment ---


def test_all_bad_variables_are_told(weir: Loader) -> None:
    assert weir.problems(
        "",
        {
            "PORT": "abc",
            "HOST": "a b",
            "WEIR_LISTEN": "x",
            "WEIR_MANAGEMENT": "on",
            "WEIR_MANAGEMENT_TOKEN": "hush hush",
            "WEIR_LOG_LEVEL": "inof",
            "WEIR_LOG_FORMAT": "xml",
            "WEIR_ALLOW_OPEN": "maybe",
            "WEIR_STATE_DIR": __file__,
        },
        port=70000,
        host="",
    ) == [
        '--host: "" is neither a host name nor an IP address',
        "--port: 70000 is not a port number (1 to 65535)",
        'HOST: "a b" is neither a host name nor an IP address',
        'PORT: "abc" is not a port number (1 to 65535)',
        'WEIR_ALLOW_OPEN: "maybe" is neither true nor false',
        'WEIR_LISTEN: "x" is not an address like 127.0.0.1:3006',
        'WEIR_LOG_FORMAT: "xml" is not one of auto, json, text',
        'WEIR_LOG_LEVEL: "inof" is not one of debug, info, warning, error; did you mean "info"?',
        'WEIR_MANAGEMENT: "on" is neither an address like 127.0.0.1:3007 nor "off"',
        "WEIR_MANAGEMENT_TOKEN: the value must be one word of ASCII characters",
        f'WEIR_STATE_DIR: "{yaml.quote(__file__)[1:-1]}" is not a folder',
    ]


def test_unknown_variables_are_told_and_stop_nothing(weir: Loader) -> None:
    environ = {"WEIR_LOGLEVEL": "x", "WEIR_Z\n": "sk-1", "WEIR_MANAGEMENT_PORT": "9", "WEIR_PORT": "3006"}
    weir.ok("", environ)
    assert strangers(environ) == [
        'WEIR_LOGLEVEL: unknown variable; did you mean "WEIR_LOG_LEVEL"?',
        'WEIR_MANAGEMENT_PORT: unknown variable; did you mean "WEIR_MANAGEMENT"?',
        "WEIR_Z\\n: unknown variable; known: WEIR_ALLOW_OPEN, WEIR_CONFIG, WEIR_LISTEN, WEIR_LOG_FORMAT, "
        "WEIR_LOG_LEVEL, WEIR_MANAGEMENT, WEIR_MANAGEMENT_TOKEN, WEIR_STATE_DIR, WEIR_WORKERS",
    ]


def test_what_kubernetes_injects_is_ignored(weir: Loader) -> None:
    weir.ok(
        "",
        {
            "WEIR_PORT": "tcp://10.0.0.1:3006",
            "WEIR_PORT_3006_TCP": "tcp://10.0.0.1:3006",
            "WEIR_PORT_3006_TCP_ADDR": "10.0.0.1",
            "WEIR_SERVICE_HOST": "10.0.0.1",
            "WEIR_SERVICE_PORT_HTTP": "3006",
            "WEIR_MANAGEMENT_PORT": "tcp://10.0.0.2:3007",
            "WEIR_MANAGEMENT_PORT_3007_TCP_PROTO": "tcp",
            "WEIR_MANAGEMENT_SERVICE_HOST": "10.0.0.2",
            "WEIR_MANAGEMENT_SERVICE_PORT": "3007",
        },
    )


def test_unknown_options_are_no_crash(weir: Loader) -> None:
    assert weir.problems("", colour="red") == ["--colour: unknown option"]


# --- upstreams ---


def test_the_default_upstream(weir: Loader) -> None:
    key = {"OPENAI_API_KEY": "sk-1"}
    assert load(None, key).upstreams == [
        UpstreamSettings(name="openai", base_url="https://api.openai.com/v1", api_key=SecretStr("sk-1"))
    ]
    assert weir.ok("upstreams: []", key).upstreams == load(None, key).upstreams
    assert load(None, {"OPENAI_BASE_URL": "http://h:1/x/"}).upstreams == [
        UpstreamSettings(name="openai", base_url="http://h:1/x")
    ]
    named = weir.ok(
        "upstreams: [{base_url: 'http://mine'}]", {**key, "OPENAI_BASE_URL": "nonsense"}
    ).upstreams
    assert [one.base_url for one in named] == ["http://mine"]
    assert named[0].api_key is None
    assert load(None, {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": " "}).upstreams == []


def test_a_bad_default_upstream(weir: Loader) -> None:
    assert weir.problems("", {"OPENAI_API_KEY": "sk 1", "OPENAI_BASE_URL": "ftp://x"}) == [
        "OPENAI_API_KEY: the value must be one word of ASCII characters",
        'OPENAI_BASE_URL: "ftp://x" is not a URL that starts with http:// or https://',
    ]
    assert weir.problems("", {"OPENAI_BASE_URL": "http://localhost:3006/v1"}) == [
        'OPENAI_BASE_URL: "http://localhost:3006/v1" is Weir\'s own address (it listens on 127.0.0.1:3006): '
        "it would call itself"
    ]
    assert "link-local" in weir.problems("", {"OPENAI_BASE_URL": "http://169.254.169.254"})[0]


@pytest.mark.parametrize(
    ("base_url", "parts"),
    [
        ("https://api.openai.com/v1", ("https", "api.openai.com", 443, "/v1", "api-openai-com")),
        ("http://h", ("http", "h", 80, "", "h")),
        ("http://h:8000/", ("http", "h", 8000, "", "h")),
        ("http://h//a//", ("http", "h", 80, "//a", "h")),
        ("http://[::1]:1/a", ("http", "::1", 1, "/a", "1")),
        ("http://[::]", ("http", "::", 80, "", "upstream")),
        ("http://" + "a" * 60 + ".bcdefgh", ("http", "a" * 60 + ".bcdefgh", 80, "", "a" * 60 + "-bcd")),
    ],
)
def test_base_urls(base_url: str, parts: tuple[str, str, int, str, str]) -> None:
    one = UpstreamSettings(base_url=base_url)
    assert (one.scheme, one.host, one.port, one.path, one.name) == parts


@pytest.mark.parametrize(
    ("base_url", "why"),
    [
        ("api.openai.com", "starts with http:// or https://"),
        ("ws://h", "starts with http:// or https://"),
        ("http:/h", "starts with http:// or https://"),
        ("http://", "has no host"),
        ("http:///v1", "has no host"),
        ("http://:80", "has no host"),
        ("http://h:0", "port that is not from 1"),
        ("http://h:65536", "port that is not from 1"),
        ("http://h:x", "port that is not from 1"),
        ("http://1.2.3", "neither a name nor an IP"),
        ("http://2852039166", "neither a name nor an IP"),
        ("http://169.254.169.254.", "neither a name nor an IP"),
        ("http://[::1", "neither a name nor an IP"),
        ("http://h?a=1", "must have no query"),
        ("http://h/#a", "must have no query"),
        ("http://h/a/../b", 'no "." or ".."'),
        ("http://h/%2E%2e", 'no "." or ".."'),
        ("http://h/a b", "characters that a URL cannot have"),
        ("http://h\\\\x", "characters that a URL cannot have"),
        ("http://hä", "characters that a URL cannot have"),
        ("''", "is empty"),
        ('"http://h\\n"', None),
        ('"http://h\\0x"', "control characters"),
        ("12", "must be text: put it in quotes"),
        ("[a]", "a list must be text"),
        ("https://user:pass@h", "must have no user and password: put the key into api_key"),
        ("http://169.254.169.254/latest", "is link-local"),
        ("http://[fe80::1]", "is link-local"),
        ("http://[fe80::1%25eth0]", "is link-local"),
        ("http://[::ffff:169.254.169.254]", "is link-local"),
    ],
)
def test_base_urls_that_are_refused(weir: Loader, base_url: str, why: str | None) -> None:
    text = f"upstreams:\n  - name: x\n    base_url: {base_url}"
    if why is None:
        weir.ok(text)
        return
    (problem,) = weir.problems(text)
    assert problem.startswith("weir.yaml:3: upstreams[0].base_url: ")
    assert why in problem
    assert "pass@" not in problem


def test_link_local_on_request(weir: Loader) -> None:
    assert upstream(weir, "allow_link_local: true", "http://169.254.1.1").host == "169.254.1.1"
    one = upstream(weir, "allow_link_local: true", "'http://[fe80::1%25eth0]:1/x'")
    assert (one.host, one.port, one.base_url) == ("fe80::1%eth0", 1, "http://[fe80::1%25eth0]:1/x")


def test_several_upstreams(weir: Loader) -> None:
    assert weir.problems("upstreams:\n  - base_url: http://a\n  - base_url: http://b\n  - {}\n") == [
        "weir.yaml:3: upstreams[1]: routes between several upstreams are not there yet: keep one",
        "weir.yaml:4: upstreams[2].base_url: is missing",
    ]


@pytest.mark.parametrize(
    ("listen", "base_url", "own"),
    [
        ("127.0.0.1:3006", "http://127.0.0.1:3006/v1", True),
        ("127.0.0.1:3006", "http://localhost:3006", True),
        ("localhost:3006", "http://[::1]:3006", True),
        (":80", "http://127.0.0.2", True),
        ("10.0.0.1:443", "https://10.0.0.1", True),
        ("weir.internal:443", "https://WEIR.internal", True),
        ("127.0.0.1:3006", "http://127.0.0.1:3005", False),
        ("127.0.0.1:3006", "http://10.0.0.1:3006", False),
        ("10.0.0.1:3006", "http://127.0.0.1:3006", False),
        (":0", "http://127.0.0.1:3006", False),
    ],
)
def test_an_upstream_that_is_weir_itself(weir: Loader, listen: str, base_url: str, own: bool) -> None:
    text = f"listen: {listen}\nupstreams:\n  - base_url: {base_url}"
    if not own:
        weir.ok(text)
        return
    (problem,) = weir.problems(text)
    assert problem.startswith(f'weir.yaml:3: upstreams[0].base_url: "{base_url}" is Weir\'s own address')
    # Through a proxy or a socket the same URL leads elsewhere.
    weir.ok(text + "\n    unix_socket: /run/x.sock")
    weir.ok(text + "\n    proxy: http://proxy:1")


def test_an_upstream_may_become_weir_itself_by_the_environment(weir: Loader) -> None:
    text = "upstreams:\n  - base_url: http://localhost:8000"
    weir.ok(text)
    assert "own address" in weir.problems(text, {"PORT": "8000"})[0]


@pytest.mark.parametrize(
    ("base_url", "text", "problems"),
    [
        ("https://h", "http2: true", []),
        ("http://h", "http2: true", ["4: upstreams[0].http2: needs https://"]),
        ("http://h", "http2: off", []),
        ("http://h", "tls: {}", []),
        ("http://h", "tls: {verify: false}", ["4: upstreams[0].tls: has no use with http://"]),
        ("https://h", "tls: {verify: false}", []),
        ("https://h", "tls: {cert: f}", ["4: upstreams[0].tls.cert: needs key beside it"]),
        ("https://h", "tls: {key: f}", ["4: upstreams[0].tls.key: needs cert beside it"]),
        ("https://h", "tls: {ca: f, verify: no}", ["4: upstreams[0].tls.ca: has no use with verify: false"]),
        (
            "https://h",
            "unix_socket: /s\n    http2: true\n    proxy: http://p:1",
            [
                "4: upstreams[0].unix_socket: cannot go through a proxy: keep one of unix_socket and proxy",
                "5: upstreams[0].http2: cannot be had over a unix_socket",
            ],
        ),
    ],
)
def test_what_does_not_go_together(weir: Loader, base_url: str, text: str, problems: list[str]) -> None:
    (weir.folder / "f").write_text("")
    text = f"upstreams:\n  - name: x\n    base_url: {base_url}\n    {text}\n    pool: {{max: 0}}"
    # Told beside other mistakes of the same upstream.
    assert weir.problems(text)[:-1] == [f"weir.yaml:{problem}" for problem in problems]


def test_models_made_in_python_are_checked_too() -> None:
    with pytest.raises(ValidationError, match="http2 needs https"):
        UpstreamSettings(base_url="http://h", http2=True)
    with pytest.raises(ValidationError, match="link-local"):
        UpstreamSettings(base_url="http://169.254.1.1")
    with pytest.raises(ValidationError, match="no use with http"):
        UpstreamSettings(base_url="http://h", tls=TlsSettings(verify=False))
    with pytest.raises(ValidationError, match="more than 0"):
        Timeouts(connect=0)
    assert Timeouts(connect=0.25).connect == 0.25
    with pytest.raises(ValidationError, match="frozen"):
        Settings().replicas = 2
    assert Settings(management=None).management is None
    assert Settings(plugins=[PluginSettings(use="a")]).plugins == [PluginSettings(use="a")]


def test_files_of_tls(weir: Loader) -> None:
    (weir.folder / "f").write_text("")
    assert upstream(weir, "tls: {ca: f}").tls.ca == weir.folder / "f"
    text = "upstreams:\n  - base_url: https://h\n    tls:\n      ca: none\n      cert: .\n      key: sk-pem"
    assert weir.problems(text) == [
        'weir.yaml:4: upstreams[0].tls.ca: "none" cannot be used: no such file',
        'weir.yaml:5: upstreams[0].tls.cert: "." cannot be used: is a directory, not a file',
        "weir.yaml:6: upstreams[0].tls.key: the value cannot be used: no such file",
    ]


@contextlib.contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Root may read everything: be somebody else, who may reach this folder."""
    if os.geteuid() != 0:
        yield
        return
    for one in (folder, *folder.parents):
        if one.stat().st_mode & 0o001 == 0:
            one.chmod(one.stat().st_mode | 0o011)
    os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_that_may_not_be_read(weir: Loader) -> None:
    (weir.folder / "f").write_text("")
    (weir.folder / "f").chmod(0)
    text = "upstreams: [{base_url: 'https://h', tls: {ca: f}}]"
    with as_nobody(weir.folder):
        assert "may not be read: permission denied" in weir.problems(text)[0]


def test_unix_sockets(weir: Loader) -> None:
    (weir.folder / "f").write_text("")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(weir.folder / "s"))
        assert upstream(weir, "unix_socket: s", "http://h").unix_socket == weir.folder / "s"
    assert upstream(weir, "unix_socket: later", "http://h").unix_socket == weir.folder / "later"
    text = "upstreams:\n  - base_url: http://h\n    unix_socket: "
    assert weir.problems(text + "f") == [
        'weir.yaml:3: upstreams[0].unix_socket: "f" is not a unix socket',
    ]
    assert "too long for a unix socket" in weir.problems(text + "/" + "x" * 107)[0]


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("http://p:3128", None),
        ("https://u:hush@p:1", None),
        ("socks5://[::1]:1", None),
        ("SOCKS5H://p:1/", None),
        ("ftp://u:hush@p:1", "starts with http://"),
        ("u:hush@p:1", "starts with http://"),
        ("http://u:hush@p", "has no port"),
        ("http://u:hush@:1", "has no host"),
        ("http://u:hush@p:1/x", "a host and a port only"),
        ("http://u:hush@p:x", "has a port that is not"),
        ("http://u:hush@1.2.3:1", "neither a name nor an IP"),
    ],
)
def test_proxies(weir: Loader, proxy: str, why: str | None) -> None:
    if why is None:
        assert upstream(weir, f"proxy: {proxy}").proxy == proxy.rstrip("/")
        return
    (problem,) = weir.problems(f"upstreams:\n  - base_url: http://h\n    proxy: {proxy}")
    assert problem.startswith("weir.yaml:3: upstreams[0].proxy: the value ")
    assert why in problem
    assert "hush" not in problem


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("*", "is not an origin"),
        ("null", "is not an origin"),
        ("app.example", "is not an origin"),
        ("app.example:443", "is not an origin"),
        ("1ttp://app.example", "is not an origin"),
        ("https://*", "neither a name nor an IP address"),
        ("https://*.example", "neither a name nor an IP address"),
        ("https://", "has no host"),
        ("file://", "has no host"),
        ("https://app.example/", "must end after the host and port"),
        ("https://app.example/x", "must end after the host and port"),
        ("https://app.example?", "must end after the host and port"),
        ("https://hush@app.example", "must end after the host and port"),
        ("https://app.example:x", "port that is not from 1"),
        ("https://äpp.example", "neither a name nor an IP address"),
    ],
)
def test_origins_are_as_browsers_write_them(weir: Loader, written: str, origin: str) -> None:
    text = f"cors: {{origins: ['{written}']}}"
    if "://" in origin:
        assert weir.ok(text).cors.origins == [origin]
        return
    (problem,) = weir.problems(text)
    assert problem.startswith("weir.yaml:1: cors.origins[0]: ")
    assert origin in problem
    assert "hush" not in problem


# --- one setting at a time ---


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("listen: 300.0.0.1:x", '1: listen: "300.0.0.1:x" is not an address like 127.0.0.1:3006'),
        ("listen: true", "1: listen: true is not an address like 127.0.0.1:3006"),
        ("listen: {port: 1}", "1: listen: a mapping is not an address like 127.0.0.1:3006"),
        ("management: on", '1: management: "on" is neither an address like 127.0.0.1:3007 nor "off"'),
        ("management_token: [a]", "1: management_token: the value must be text"),
        ("management_token: 12", "1: management_token: the value must be text: put it in quotes"),
        ("allow_open: maybe", '1: allow_open: "maybe" is neither true nor false'),
        ("allow_open: 1", "1: allow_open: 1 is neither true nor false"),
        ("trusted_proxies: 10.0.0.1", '1: trusted_proxies: "10.0.0.1" must be a list'),
        (
            "trusted_proxies:\n- 10.0.0.1/8",
            '2: trusted_proxies[0]: "10.0.0.1/8" has bits set after its prefix: write the first address of '
            "the network",
        ),
        (
            "trusted_proxies: [1]",
            "1: trusted_proxies[0]: 1 is neither an IP address nor a network like 10.0.0.0/8",
        ),
        (
            "trusted_proxies: [a]",
            '1: trusted_proxies[0]: "a" is neither an IP address nor a network like 10.0.0.0/8',
        ),
        ("upstreams: {}", "1: upstreams: a mapping must be a list"),
        ("upstreams: [a]", '1: upstreams[0]: "a" must be a mapping'),
        ("upstreams: [~]", "1: upstreams[0]: null must be a mapping"),
        ("upstreams:\n  - name: a", "2: upstreams[0].base_url: is missing"),
        ("upstreams:\n  - name: a\n    base_url:", "3: upstreams[0].base_url: is missing"),
        ("plugins: auth", '1: plugins: "auth" must be a list'),
        ("plugins: [1]", '1: plugins[0]: 1 is not a plugin: give its name, or a mapping with "use"'),
        ("plugins: [[a]]", '1: plugins[0]: a list is not a plugin: give its name, or a mapping with "use"'),
        ("plugins:\n\n - a: 1", "3: plugins[0].use: is missing"),
        ("plugins: [{use: 1}]", "1: plugins[0].use: 1 must be text: put it in quotes"),
        ("plugins: ['']", '1: plugins[0].use: "" is empty'),
        ("limits_http: {uri: 1.5}", "1: limits_http.uri: 1.5 is not a size like 64KiB, 16MiB or 512B"),
        ("limits_http: {uri: 0}", "1: limits_http.uri: 0 must be more than 0"),
        ("limits_http: {uri: -1}", "1: limits_http.uri: -1 must not be negative"),
        (
            "limits_http: {uri: 5M}",
            '1: limits_http.uri: "5M" has an unknown unit (units of size: B, KB, MB, GB, TB, KiB, MiB, GiB, '
            "TiB)",
        ),
        ("limits_http: {headers: many}", '1: limits_http.headers: "many" is not a whole number'),
        ("limits_http: {headers: 0}", "1: limits_http.headers: 0 is not a number from 1 to 2147483647"),
        ("limits_http: {headers: 1.0}", "1: limits_http.headers: 1.0 is not a whole number"),
        (
            "limits_http:\n  body_idle: 30",
            "2: limits_http.body_idle: 30 has no unit: say 30s for seconds (units: ms, s, m, h, d)",
        ),
        (
            "limits_http: {body_idle: 1.5}",
            "1: limits_http.body_idle: 1.5 has no unit: say 1.5s for seconds (units: ms, s, m, h, d)",
        ),
        (
            "limits_http: {body_idle: '30'}",
            '1: limits_http.body_idle: "30" has no unit: say 5s for five seconds (units: ms, s, m, h, d)',
        ),
        (
            "limits_http: {body_idle: .nan}",
            "1: limits_http.body_idle: nan has no unit: say 5s for seconds (units: ms, s, m, h, d)",
        ),
        ("limits_http: {body_idle: 0s}", '1: limits_http.body_idle: "0s" must be more than 0'),
        (
            "limits_http: {body_idle: true}",
            "1: limits_http.body_idle: true is not a duration like 5s, 500ms, 10m, 1h or 1d",
        ),
        ("drain: {delay: 0}", "1: drain.delay: 0 has no unit: say 0s for seconds (units: ms, s, m, h, d)"),
        ("drain: 5s", '1: drain: "5s" must be a mapping'),
        (
            "log: {level: warn}",
            '1: log.level: "warn" is not one of debug, info, warning, error; did you mean "warning"?',
        ),
        ("log: {format: 1}", "1: log.format: 1 is not one of auto, json, text"),
        ("state_dir: weir.yaml", '1: state_dir: "weir.yaml" is not a folder'),
        ("database: 1", "1: database: the value must be text: put it in quotes"),
        ("replicas: 0", "1: replicas: 0 is not a number from 1 to 2147483647"),
        ("pricing: none.yaml", '1: pricing: "none.yaml" cannot be used: no such file'),
        ("pricing: .", '1: pricing: "." cannot be used: is a directory, not a file'),
        ("pricing: {a: 1}", "1: pricing: a mapping must be text"),
        ("default_models: [a]", "1: default_models: a list must be a mapping"),
        (
            "default_models:\n  images/generations: dall-e-3\n  /v1/images/edits: x",
            '3: default_models./v1/images/edits: "/v1/images/edits" is not an endpoint like '
            "images/generations (without /v1/)",
        ),
        (
            "default_models:\n  v1/images/edits:\n    x",
            '2: default_models.v1/images/edits: "v1/images/edits" is not an endpoint like images/generations '
            "(without /v1/)",
        ),
        ("default_models: {a/b: 1}", "1: default_models.a/b: 1 must be text: put it in quotes"),
        ("default_models:\n  a/b:", "2: default_models.a/b: null must be text"),
        ("default_models: {a/b: ''}", '1: default_models.a/b: "" is empty'),
        ("cors: true", "1: cors: true must be a mapping"),
        ("cors:\n  origin: [a]", '2: cors.origin: unknown key; did you mean "origins"?'),
        ("cors: {origins: https://a}", '1: cors.origins: "https://a" must be a list'),
        (
            "cors:\n  origins:\n    - https://a\n    - '*'",
            '4: cors.origins[1]: "*" is not an origin like https://app.example: name each one',
        ),
        ("conect: 1\nlog: {levle: info}", None),
    ],
)
def test_what_is_refused(weir: Loader, text: str, problem: str | None) -> None:
    if problem is None:
        first, second = weir.problems(text)
        assert first.startswith("weir.yaml:1: conect: unknown key; known here: allow_open, cors, database,")
        assert second == 'weir.yaml:2: log.levle: unknown key; did you mean "level"?'
        return
    assert weir.problems(text) == [f"weir.yaml:{problem}"]


def test_an_unknown_key_is_told_with_the_line_of_the_key(weir: Loader) -> None:
    assert weir.problems(
        "upstreams:\n  - base_url: http://h\n    timeouts:\n      conect:\n        5s\n    x:\n"
    ) == [
        'weir.yaml:4: upstreams[0].timeouts.conect: unknown key; did you mean "connect"?',
        "weir.yaml:6: upstreams[0].x: unknown key; known here: allow_link_local, api_key, base_url, breaker, "
        "client, http2, name, on_disconnect, pool, proxy, timeouts, tls, unix_socket",
    ]


def test_everything_wrong_is_told_in_the_order_of_the_file(weir: Loader) -> None:
    text = "replicas: x\nlisten: x\nlog: {level: '${NONE}'}\nlog: {}\nupstreams:\n- {}\n- {}\nredis: 1\n"
    assert [problem.partition(" ")[0] for problem in weir.problems(text, {"PORT": "x"})] == [
        "weir.yaml:1:",
        "weir.yaml:2:",
        "weir.yaml:3:",
        "weir.yaml:4:",
        "weir.yaml:6:",
        "weir.yaml:7:",
        "weir.yaml:7:",
        "weir.yaml:8:",
        "PORT:",
    ]


# --- the file as a whole ---


def test_files_that_cannot_be_loaded(weir: Loader) -> None:
    def problems(path: Path) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(path, {"PORT": "x"})
        return [problem.replace(str(weir.folder), "") for problem in caught.value.problems]

    port = 'PORT: "x" is not a port number (1 to 65535)'
    weir.path.write_bytes(b"a: 1\n\n\xff\n")
    assert problems(weir.path) == ["/weir.yaml:3: is not UTF-8 text", port]
    assert problems(weir.folder / "none") == ["/none: no such file", port]
    assert problems(weir.folder) == [": is a directory, not a file", port]
    assert problems(Path("a\nb")) == ["a b: no such file", port]
    weir.path.write_bytes(b"#" * (2**20 + 1))
    assert problems(weir.path) == ["/weir.yaml: is larger than 1 MiB", port]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("- a\n", ["1: must be a mapping, such as listen: :3006"]),
        ("\nlisten\n", ["2: must be a mapping, such as listen: :3006"]),
        ("listen: 1\nlog: 'x\n", ["2: not valid YAML: a quote that is never closed"]),
        ("log: {}\n\nlog: {}", ["3: log: duplicate key; it is already on line 1"]),
        ("a: 1\n---\nb: 1", ["2: a second document starts here; keep one"]),
        (
            "listen: !x 1\nallow_open: ${NONE}",
            [
                '1: listen: tags are not understood here (put text that starts with "!" in quotes)',
                "2: allow_open: the environment variable NONE is not set, or empty",
            ],
        ),
    ],
)
def test_documents_that_are_refused(weir: Loader, text: str, problems: list[str]) -> None:
    assert weir.problems(text) == [f"weir.yaml:{problem}" for problem in problems]


def test_a_broken_file_says_nothing_of_the_default_upstream(weir: Loader) -> None:
    assert len(weir.problems("listen: 'x", {"OPENAI_BASE_URL": "nonsense"})) == 1


def test_a_flood_of_problems_is_cut(weir: Loader) -> None:
    problems = weir.problems("\n".join(f"k{n}:" for n in range(300)))
    assert len(problems) == 201
    assert problems[-1] == "and 100 more"


# --- references and secrets ---


def test_references(weir: Loader) -> None:
    (weir.folder / "key").write_text("sk-file\n")
    found = weir.ok(
        """
        listen: ${ADDRESS}:${NUMBER}
        replicas: ${NUMBER}
        allow_open: ${YES}
        drain: {grace: "${NUMBER}s"}
        upstreams: [{base_url: "http://${ADDRESS}/$${x}", api_key: "${file:key}"}]
        plugins: [{use: auth, keys: ["${file:key}", "$${x}"]}]
        """.replace("/$${x}", "/x"),
        {"ADDRESS": "10.0.0.1", "NUMBER": "7", "YES": "yes"},
    )
    assert str(found.listen) == "10.0.0.1:7"
    assert (found.replicas, found.allow_open, found.drain.grace) == (7, True, 7.0)
    assert found.upstreams[0].api_key == SecretStr("sk-file")
    assert found.plugins is not None
    assert found.plugins[0].options == {"keys": ["sk-file", "${x}"]}


def test_what_came_by_reference_is_never_shown(weir: Loader) -> None:
    text = "listen: ${S}\nlog: {level: '${S}'}\ndrain: {grace: '${S}'}\nupstreams: [{base_url: 'x${S}'}]\n"
    text += "replicas: ${S}"
    problems = weir.problems(text, {"S": "hush"})
    assert len(problems) == 5
    for problem in problems:
        assert ": the value " in problem
        assert "hush" not in problem


def test_a_number_by_reference_is_never_shown(weir: Loader) -> None:
    (problem,) = weir.problems("drain: {grace: '${S}'}", {"S": "987654"})
    assert "has no unit" in problem
    assert "987654" not in problem


def test_a_missing_reference_is_told_once(weir: Loader) -> None:
    text = "upstreams:\n  - base_url: ${A}\n    api_key: ${B}\ntrusted_proxies: ['${C}']\n"
    text += "plugins: [{use: '${D}'}]"
    assert weir.problems(text) == [
        "weir.yaml:2: upstreams[0].base_url: the environment variable A is not set, or empty",
        "weir.yaml:3: upstreams[0].api_key: the environment variable B is not set, or empty",
        "weir.yaml:4: trusted_proxies[0]: the environment variable C is not set, or empty",
        "weir.yaml:5: plugins[0].use: the environment variable D is not set, or empty",
    ]


@pytest.mark.parametrize(
    "value", ["sk-hush x", '"sk-hush\\n\\n  x"', "[sk-hush]", "{sk-hush: 1}", "ä sk-hush"]
)
def test_a_bad_key_is_never_shown(weir: Loader, value: str) -> None:
    (problem,) = weir.problems(f"upstreams:\n  - base_url: http://h\n    api_key: {value}")
    assert problem.startswith("weir.yaml:3: upstreams[0].api_key: the value must be ")
    assert "hush" not in problem


def test_secrets_where_none_should_be(weir: Loader) -> None:
    problems = weir.problems(
        "listen: sk-hush\nlog: {level: Bearer hush}\nstate_dir: weir.yaml\ndrain: u:hush@x"
    )
    assert len(problems) == 4
    assert "hush" not in "\n".join(problems)


def test_settings_do_not_show_secrets(weir: Loader) -> None:
    found = weir.ok(
        "management_token: hush1\ndatabase: pg://u:hush2@h\nredis: redis://:hush3@h\n"
        "plugins: [{use: a, key: hush4}]\n"
        "upstreams: [{base_url: 'http://h', api_key: hush5, proxy: 'http://u:hush6@p:1'}]\n"
    )
    assert "hush" not in repr(found)
    dumped = found.model_dump(mode="json", exclude={"plugins": {"__all__": {"options"}}})
    assert "hush" not in repr(dumped)
    assert dumped["upstreams"][0]["api_key"] == dumped["redis"] == "**********"
    assert dumped["management"] == "127.0.0.1:3007"
    assert dumped["drain"] == {"delay": "0s", "grace": "30s"}


# --- plugins ---


def test_plugins(weir: Loader) -> None:
    found = weir.ok(
        "plugins:\n"
        "  - auth\n"
        "  - use: limits\n"
        "    limits:\n"
        "      - {per: key}\n"
        "      - per:\n"
        "          user\n"
        "    line: 7\n"
        "    options: ~\n"
    ).plugins
    assert found is not None
    first, second = found
    assert (first.use, first.options, first.line, first.lines) == ("auth", {}, 2, {})
    assert second.use == "limits"
    assert second.options == {"limits": [{"per": "key"}, {"per": "user"}], "line": 7, "options": None}
    assert second.line == 3
    assert second.lines == {
        "limits": 4,
        "limits[0]": 5,
        "limits[0].per": 5,
        "limits[1]": 6,
        "limits[1].per": 6,
        "line": 8,
        "options": 9,
    }
    source = str(weir.path)
    assert second.problem(("limits", 1, "per"), "no") == f"{source}:7: plugins[1].limits[1].per: no"
    assert second.problem(("limits", 1, "burst"), "no") == f"{source}:6: plugins[1].limits[1].burst: no"
    assert second.problem((), "no") == f"{source}:3: plugins[1]: no"
    assert PluginSettings(use="auth").problem(("a",), "no") == "plugins.a: no"


def test_a_plugin_can_explain_its_own_validation(weir: Loader) -> None:
    class Limit(BaseModel):
        per: typing.Literal["key", "user"]
        burst: int = 1

    @validate_call
    def make(*, limits: list[Limit], key: int = 1, name: str = "", ratio: float = 1.0, size: int = 1) -> None:
        """As `__init__` of a plugin would be."""

    text = """
plugins:
  - use: limits
    limts: []
    limits:
      - per: kee
        burst: much
      - 5
    key: sk-hush
    name: [x]
    size: ${S}
"""
    plugins = weir.ok(text, {"S": "hush"}).plugins
    assert plugins is not None
    with pytest.raises(ValidationError) as caught:
        make(**plugins[0].options)
    found = [
        problem.replace(f"{weir.folder}/", "")
        for problem in plugins[0].explain(caught.value, ["limits", "key"])
    ]
    assert found == [
        'weir.yaml:4: plugins[0].limts: unknown key; did you mean "limits"?',
        "weir.yaml:6: plugins[0].limits[0].per: \"kee\" must be one of 'key' or 'user'",
        'weir.yaml:7: plugins[0].limits[0].burst: "much" must be a whole number',
        "weir.yaml:8: plugins[0].limits[1]: 5 must be a mapping",
        "weir.yaml:9: plugins[0].key: the value must be a whole number",
        "weir.yaml:10: plugins[0].name: a list must be text",
        "weir.yaml:11: plugins[0].size: the value must be a whole number",
    ]


def test_words_of_others_are_not_trusted_with_what_is_hidden(weir: Loader) -> None:
    def refuse(value: str) -> str:
        raise ValueError(f"bad {value}")

    adapter = TypeAdapter(dict[str, typing.Annotated[str, config.PlainValidator(refuse)]])
    plugins = weir.ok("plugins: [{use: a, b: '${S}', c: d}]", {"S": "hush"}).plugins
    assert plugins is not None
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(plugins[0].options)
    found = [problem.partition("plugins[0].")[2] for problem in plugins[0].explain(caught.value)]
    assert found == ["b: the value cannot be used", 'c: "d" cannot be used: bad d']


# --- anything goes in, one of two things comes out ---

SECRETS = {"KEY": "hush-environment-1", "PASSWORD": "hush-environment-2"}
LITERAL = "hush-literal-3"
VALID: dict[str, Any] = {
    "listen": "127.0.0.1:3006",
    "management": "off",
    "management_token": LITERAL,
    "allow_open": True,
    "trusted_proxies": ["10.0.0.0/8"],
    "upstreams": [
        {
            "name": "x",
            "base_url": "https://api.example/v1",
            "api_key": "${KEY}",
            "timeouts": {"connect": "5s", "total": "1h"},
            "pool": {"max": 5},
            "tls": {"verify": True},
            "proxy": f"http://u:{LITERAL}@proxy:1",
        }
    ],
    "plugins": ["auth", {"use": "auth", "keys": ["${KEY}", {"key": LITERAL}]}],
    "default_models": {"images/generations": "dall-e-3"},
    "cors": {"origins": ["https://app.example", "http://localhost:3000"]},
    "limits_http": {"headers": 5, "uri": "1KiB"},
    "drain": {"delay": "0s"},
    "log": {"level": "info"},
    "database": "postgresql://u:${PASSWORD}@h/d",
}

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        [
            "${KEY}",
            "x${PASSWORD}",
            "${NONE}",
            "${",
            "$${",
            "${file:/nowhere}",
            "5s",
            "1MiB",
            "off",
            ":0",
            "http://h",
            "\0",
            "\ud800",
            "a\nb",
            "[::1]:1",
            "http://[::1",
            "//",
            "99999",
            "https://169.254.169.254",
            "~",
            "/",
        ]
    ),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
KEYS = st.sampled_from(
    ["name", "base_url", "timeouts", "use", "lsiten", "tls", "ca", "http2", "proxy", "<<"]
) | st.text(max_size=8)


def places(value: Any, loc: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield loc
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*loc, key))


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(orjson.dumps(VALID))
    for _ in range(draw(st.integers(0, 4))):
        loc = draw(st.sampled_from([place for place in places(document) if place] or [("x",)]))
        parent: Any = document
        for key in loc[:-1]:
            parent = parent[key]
        match draw(st.sampled_from(["replace", "delete", "add", "twice"])):
            case "delete" if isinstance(parent, dict):
                parent.pop(loc[-1], None)
            case "add" if isinstance(parent, dict):
                parent[draw(KEYS)] = draw(VALUES)
            case "twice" if isinstance(parent, list):
                parent.append(parent[loc[-1]])
            case _:
                parent[loc[-1]] = draw(VALUES)
    return document


def outcome(path: Path, text: str, environ: Mapping[str, str] = SECRETS) -> str:
    """What is told of a document, after the checks that hold for any; empty if it loads."""
    path.write_text(text, "utf-8", "surrogatepass")
    problems: list[str] = []
    try:
        load(path, environ)
    except ConfigError as error:
        problems = error.problems or ["nothing told"]
    told = "\n".join(problems)
    assert len(told.splitlines()) == len(problems)
    assert "hush" not in told
    assert "nothing told" not in told
    return told


def written(value: Any) -> str:
    """As YAML in one line; also what JSON cannot say."""
    match value:
        case dict():
            return "{" + ", ".join(f"{written(str(k))}: {written(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(written, value)) + "]"
        case str():
            return (
                '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in value) + '"'
            )
        case None | bool():
            return orjson.dumps(value).decode()
    return str(value)


MANY = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@MANY
@given(mutated())
@example(VALID)
def test_any_mutation_of_a_valid_document(tmp_path: Path, document: dict[str, Any]) -> None:
    told = outcome(tmp_path / "weir.yaml", written(document))
    if repr(document) == repr(VALID):  # 1 is equal to True, and is none
        assert told == ""


@MANY
@given(st.data())
def test_any_mutation_of_its_text(tmp_path: Path, data: st.DataObject) -> None:
    # No literal secrets here: a lost line break can make any text part of any other.
    text = PAGE.partition("```yaml\n")[2].partition("```")[0]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = (
            text[:start]
            + data.draw(st.text(st.sampled_from("\n :-#{}[]'\"&*!|>%@`,?a1\t$\x07ä"), max_size=3))
            + text[end:]
        )
    outcome(
        tmp_path / "weir.yaml",
        text,
        dict.fromkeys(
            ["ADMIN_TOKEN", "OPENAI_API_KEY", "PROXY_PASSWORD", "CLIENT_KEY", "DB_PASSWORD"], "hush-hush"
        ),
    )


ENVIRONMENT_NAMES = st.sampled_from([*config.ENVIRONMENT, "WEIR_X", "WEIR_PORT_1_TCP", "OTHER"])


@MANY
@given(
    st.dictionaries(ENVIRONMENT_NAMES, VALUES.map(str) | st.text(max_size=10), max_size=5),
    st.dictionaries(st.sampled_from(["host", "port"]), VALUES, max_size=2),
)
def test_any_environment(environ: dict[str, str], overrides: dict[str, Any]) -> None:
    problems: list[str] = []
    try:
        load(None, environ, overrides)
    except ConfigError as error:
        problems = error.problems
    assert len("\n".join(problems).splitlines()) == len(problems)


def test_a_broken_file_still_tells_its_plugins(weir: Loader) -> None:
    weir.path.write_text("x: 1\nplugins: [a, 7, {use: b, c: 1}, {use: d, e: '${NOT_SET}'}, {f: 1}]\n")
    with pytest.raises(ConfigError) as caught:
        load(weir.path, {})
    assert [(plugin.use, plugin.place) for plugin in caught.value.plugins] == [
        ("a", "plugins[0]"),
        ("b", "plugins[2]"),
    ]
    weir.path.write_text("x: 1\nplugins: 7\n")
    with pytest.raises(ConfigError) as caught:
        load(weir.path, {})
    assert caught.value.plugins == []


# --- the page and the schema ---


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        annotation = str(info.annotation)
        inner = config._model_in(info.annotation)
        if inner is PluginSettings:
            yield path, info
            yield f"{path}[].use", PluginSettings.model_fields["use"]
            continue
        yield path, info
        if inner is not None:
            yield from walk(inner, f"{path}[]." if "list[" in annotation else f"{path}.")


SETTINGS = dict(walk(Settings))
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
}


def test_the_page_has_every_setting_and_nothing_else() -> None:
    assert len(SETTINGS) > 40
    assert {path for path in ROWS if len(ROWS[path]) == 3} == set(SETTINGS)


def test_the_page_has_every_variable_and_nothing_else() -> None:
    assert {name for name in ROWS if len(ROWS[name]) == 1} == set(config.ENVIRONMENT)


@pytest.mark.parametrize("path", SETTINGS)
def test_every_setting_is_described_and_its_default_is_on_the_page(path: str) -> None:
    info = SETTINGS[path]
    assert info.description
    kind, default, meaning = ROWS[path]
    assert meaning
    value = info.get_default(call_default_factory=False)
    readers: dict[str, Callable[[str], object]] = {
        "duration": parse_duration,
        "size": parse_size,
        "part, size or `off`": float,
        "duration or `off`": lambda text: None if text == "off" else parse_duration(text),
        "number": int,
        "number or `off`": int,
        "word": str,
        "address": Address.parse,
        "true or false": {"true": True, "false": False}.__getitem__,
    }
    if info.is_required():
        assert default == "required"
    elif kind in readers and kind != "duration":
        assert readers[kind](default.strip("`")) == value
    elif kind == "duration":
        assert parse_duration(default.strip("`"), zero=True) == value
    elif kind == "mapping":
        assert isinstance(value, BaseModel)
    elif isinstance(value, list | dict):
        assert default == f"`{value}`"
    elif path == "state_dir":
        assert value is None  # what the page says is where plugins then keep their files
    elif info.default_factory is None and path != "plugins":
        assert (value, default) == (None, "none")


def test_the_example_of_the_page_loads(weir: Loader) -> None:
    text = PAGE.partition("```yaml\n")[2].partition("```")[0]
    environ = {
        "ADMIN_TOKEN": "a",
        "OPENAI_API_KEY": "b",
        "CLIENT_KEY": "c",
        "DB_PASSWORD": "d",
        "PROXY_PASSWORD": "e",
    }
    found = weir.ok(text, environ)
    assert found.upstreams[0].api_key == SecretStr("b")
    # What it gives as defaults are the defaults.
    plain = Settings()
    for name in (
        "listen",
        "management",
        "limits_http",
        "drain",
        "overload",
        "workers",
        "log",
        "allow_open",
        "server_timing",
        "replicas",
    ):
        assert getattr(found, name) == getattr(plain, name)
    assert found.upstreams[0].timeouts == Timeouts()
    # It names every setting, and what is commented out is right as well.
    for path in SETTINGS:
        assert re.search(rf"(^|[ {{-]){path.rpartition('.')[2]}:", text, re.MULTILINE), path
    for name in ("ca.pem", "client.pem", "client.key", "prices.yaml"):
        (weir.folder / name).write_text("")
    weir.ok(re.sub(r"# ((server_name|ca|cert|key|proxy|pricing): )", r"\1", text), environ)


def test_the_messages_of_the_page_are_ours(weir: Loader) -> None:
    text = "\n\n\n\nupstreams: [{base_url: 'http://h', timeouts:\n{\nconect: 5s}}]\n\n\n\n\n"
    text += "listen: 300.0.0.1:x\n"
    assert "\n".join(weir.problems(text, {"PORT": "abc"})) in PAGE


def fits(value: Any, rule: dict[str, Any], top: dict[str, Any]) -> bool:
    """As much of JSON schema as ours needs."""
    if "$ref" in rule:
        return fits(value, top["$defs"][rule["$ref"].removeprefix("#/$defs/")], top)
    if "anyOf" in rule:
        return any(fits(value, one, top) for one in rule["anyOf"])
    if "const" in rule:
        return bool(value == rule["const"])
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "null": type(None),
    }
    if not isinstance(value, kinds[rule["type"]]) or (rule["type"] == "integer" and isinstance(value, bool)):
        return False
    match value:
        case dict():
            known = rule.get("properties", {})
            return (
                all(key in value for key in rule.get("required", []))
                and (rule.get("additionalProperties", True) or value.keys() <= known.keys())
                and all(fits(one, known[key], top) for key, one in value.items() if key in known)
            )
        case list():
            return all(fits(one, rule["items"], top) for one in value)
        case str():
            return len(value) >= rule.get("minLength", 0) and bool(re.search(rule.get("pattern", ""), value))
    return bool(rule.get("minimum", value) <= value <= rule.get("maximum", value))


def test_the_schema_takes_what_load_takes(weir: Loader) -> None:
    top = schema()
    orjson.dumps(top)
    text = PAGE.partition("```yaml\n")[2].partition("```")[0]
    node, _ = yaml.parse(text)
    assert node is not None
    assert fits(yaml.plain(node), top, top)
    assert fits(VALID, top, top)
    wrong: list[dict[str, Any]] = [
        {"listen": "x"},
        {"log": {"level": "x"}},
        {"x": 1},
        {"drain": {"grace": 5}},
        {"upstreams": [{}]},
    ]
    for one in wrong:
        assert not fits(one, top, top)
        weir.problems(written(one))


def test_the_schema_has_defaults_as_one_writes_them() -> None:
    top = schema()
    assert top["properties"]["listen"]["default"] == "127.0.0.1:3006"
    assert top["$defs"]["DrainSettings"]["properties"]["grace"]["default"] == "30s"
    assert top["$defs"]["HttpLimits"]["properties"]["uri"]["default"] == "16KiB"
    assert top["$defs"]["Timeouts"]["properties"]["total"]["default"] == "1h"
    assert fits(top["properties"]["limits_http"]["default"], {"$ref": "#/$defs/HttpLimits"}, top)


@given(st.floats(0.001, 10**6), st.integers(1, 2**40))
def test_what_is_dumped_loads_to_the_same(seconds: float, size: int) -> None:
    timeouts = Timeouts(connect=seconds)
    dumped = timeouts.model_dump(mode="json")
    assert dumped["connect"] == format_duration(seconds)
    assert Timeouts.model_validate(dumped) == timeouts
    limits = config.HttpLimits(uri=size)
    assert limits.model_dump(mode="json")["uri"] == format_size(size)
    assert config.HttpLimits.model_validate(limits.model_dump(mode="json")) == limits
