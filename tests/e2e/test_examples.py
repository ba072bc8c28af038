"""Two programs that were written for another proxy go on as they are: no `/v1`, no key, only `x-user-id`."""

import base64
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from .command import Command, run_any, two_ports
from .either import NO_TLS

ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}
DRAW: dict[str, Any] = {"prompt": "A weir at dawn", "size": "1024x1024", "quality": "standard"}
WHO = {"x-user-id": "user-123"}


@pytest.fixture(scope="module")
def port() -> int:
    return two_ports()


@pytest.fixture(scope="module")
def weir(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """As `make run` starts it: no file, no key, the demo upstream."""
    folder = tmp_path_factory.mktemp("examples")
    env = {"PORT": str(port), "WEIR_LOG_FORMAT": "json"}
    with Command("-m", "proxy", "serve", folder=folder, env=env) as command:
        command.wait_listening(port)
        command.wait_for_stdout("Ctrl-C")
        yield command


@pytest.fixture
def http(weir: Command, port: int) -> Iterator[httpx2.Client]:
    url = f"http://127.0.0.1:{port}"
    with httpx2.Client(base_url=url, trust_env=False, verify=NO_TLS, timeout=10) as client:
        yield client


def logged(weir: Command, answer: httpx2.Response) -> dict[str, Any]:
    """The line of this exchange; a thread of Weir's writes it, so it may be a moment late."""
    deadline = time.monotonic() + 5
    while True:
        for line in map(orjson.loads, weir.stderr.rpartition("\n")[0].splitlines()):
            if line.get("id") == answer.headers["x-weir-request-id"]:
                return line  # type: ignore[no-any-return]
        assert time.monotonic() < deadline, weir.stderr
        time.sleep(0.02)


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_chat_with_a_user_id_alone(http: httpx2.Client, weir: Command, prefix: str) -> None:
    answer = http.post(f"{prefix}/chat/completions", json=ASK, headers=WHO)
    assert answer.status_code == 200
    found = answer.json()
    assert found["object"] == "chat.completion"
    assert found["choices"][0]["message"]["role"] == "assistant"
    assert "Hello!" in found["choices"][0]["message"]["content"]
    assert found["usage"]["prompt_tokens"] > 0
    assert logged(weir, answer)["user"] == "user-123"


def test_chat_as_a_stream(http: httpx2.Client) -> None:
    answer = http.post("/chat/completions", json={**ASK, "stream": True}, headers=WHO)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("model", [None, "dall-e-3", "gpt-image-1"])
@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_an_image_with_and_without_a_model(http: httpx2.Client, prefix: str, model: str | None) -> None:
    body = DRAW if model is None else {**DRAW, "model": model}
    answer = http.post(f"{prefix}/images/generations", json=body, headers=WHO)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["size"], found["quality"]) == ("1024x1024", "standard")
    assert base64.b64decode(found["data"][0]["b64_json"]).startswith(b"\x89PNG")


CURLS = [
    ("chat/completions", ASK, ["-H", "content-type: application/json", "-H", "x-user-id: user-123"]),
    ("chat/completions", ASK, ["-H", "x-user-id: user-123"]),  # curl then says that it is a form
    ("chat/completions", ASK, []),
    ("chat/completions", ASK, ["-H", "content-type:"]),
    ("chat/completions", ASK, ["-H", "content-type:", "-H", "accept:", "-H", "user-agent:"]),
    ("images/generations", DRAW, ["-H", "content-type: application/json", "-H", "x-user-id: user-123"]),
    ("images/generations", DRAW, []),
    ("images/generations", DRAW, ["-H", "content-type:", "-H", "accept:", "-H", "user-agent:"]),
    ("images/generations", DRAW, ["--http1.0"]),
    ("images/generations", DRAW, ["-H", "transfer-encoding: chunked"]),
]


@pytest.mark.parametrize(("path", "body", "options"), CURLS)
def test_curl(
    weir: Command, port: int, tmp_path: Path, path: str, body: dict[str, Any], options: list[str]
) -> None:
    url = f"http://127.0.0.1:{port}/{path}"
    curl = ("curl", "-sS", "--fail", "--noproxy", "*", url, "-d", orjson.dumps(body).decode(), *options)
    ended = run_any(*curl, folder=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    found = orjson.loads(ended.stdout)
    assert found["choices"] if path.startswith("chat") else found["data"]


@pytest.mark.parametrize(("path", "body"), [("/chat/completions", ASK), ("/images/generations", DRAW)])
def test_a_request_with_no_header_that_http_does_not_ask_for(
    weir: Command, port: int, path: str, body: dict[str, Any]
) -> None:
    data = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head.encode() + data)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_the_models_are_listed(http: httpx2.Client) -> None:
    found = http.get("/models", headers=WHO).json()
    assert found["upstream"] == {"name": "demo", "outcome": "200"}
    listed = [model["id"] for model in found["data"] if model["listed"]]
    assert {"gpt-4o", "gpt-image-1"} < set(listed)
    assert http.get("/v1/models").json()["data"][0]["owned_by"] == "weir-demo"


def test_health(http: httpx2.Client) -> None:
    assert http.get("/health").json()["status"] == "ok"


def test_with_a_default_model_and_checked_before_they_cost_anything(tmp_path: Path) -> None:
    """What the demo gets is a request for dall-e-3, which is not paid for by the token."""
    config = "default_models: {images/generations: dall-e-3}\nplugins: [auth, validate]\n"
    (tmp_path / "weir.yaml").write_text(config)
    port = two_ports()
    url = f"http://127.0.0.1:{port}"
    with (
        Command("-m", "proxy", "serve", folder=tmp_path, env={"PORT": str(port)}) as weir,
        httpx2.Client(base_url=url, trust_env=False, verify=NO_TLS, timeout=10) as http,
    ):
        weir.wait_listening(port)
        assert http.post("/chat/completions", json=ASK, headers=WHO).status_code == 200
        drawn = http.post("/images/generations", json=DRAW, headers=WHO)
        assert (drawn.status_code, "usage" in drawn.json()) == (200, False)
        paid = http.post("/images/generations", json={**DRAW, "model": "gpt-image-1"}, headers=WHO)
        assert paid.json()["usage"]["total_tokens"] > 0
        refused = http.post("/images/generations", json={"size": "1024x1024"}, headers=WHO)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")
