"""Running into a limit on purpose."""

import httpx2
import openai
import orjson
import pytest

from proxy.cli.demo import limit
from proxy.cli.demo.limit import run_into
from proxy.cli.screen import Screen

from .wired import Answer, sdk

FINE = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}


def fine(left: int | None = None) -> httpx2.Response:
    headers = {} if left is None else {"x-ratelimit-remaining-requests": str(left)}
    return httpx2.Response(200, json=FINE, headers=headers)


def refused(**headers: str) -> httpx2.Response:
    error = {"message": "The limit is\nreached.", "type": "requests", "code": "rate_limit_exceeded"}
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(429, json={"error": error}, headers=fields)


class Server:
    """Answers one after the other, and the last one again and again."""

    def __init__(self, *answers: httpx2.Response) -> None:
        self._answers = list(answers)
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def run(server: Answer, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], float]:
    """The lines, and the seconds that were waited."""
    waited: list[float] = []
    with sdk(server) as client:
        run_into(client, "m", Screen(), waited.append)
    return capsys.readouterr().out.splitlines(), sum(waited)


REFUSED = "  429  rate_limit_exceeded: The limit is reached."


def test_it_asks_until_it_is_refused_waits_and_asks_again(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(fine(1), fine(0), refused(retry_after="2"), fine(0))
    lines, waited = run(server, capsys)
    assert lines == [
        "  request 1  200  1 left",
        "  request 2  200  0 left",
        "  request 3" + REFUSED,
        "  it says to wait for 2.0 s",
        "  request 4  200  0 left",
    ]
    assert waited == pytest.approx(2.0)
    assert len(server.asked) == 4
    body = orjson.loads(server.asked[0].content)
    assert (body["model"], body["max_completion_tokens"]) == ("m", 16)


def test_milliseconds_count_before_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    lines, waited = run(Server(refused(retry_after="9", retry_after_ms="250"), fine()), capsys)
    assert waited == pytest.approx(0.25)
    assert lines[-1] == "  request 2  200"


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"retry_after": "3600"}, "  it says to wait for 3600 s: too long for a demo"),
        ({"retry_after": "1", "x_should_retry": "false"}, "  there is no use in waiting here, it says"),
        ({}, "  there is no use in waiting here, it says"),
        ({"retry_after": "soon"}, "  there is no use in waiting here, it says"),
    ],
)
def test_what_is_not_worth_a_wait(
    capsys: pytest.CaptureFixture[str], headers: dict[str, str], says: str
) -> None:
    server = Server(refused(**headers))
    lines, waited = run(server, capsys)
    assert (lines, waited) == (["  request 1" + REFUSED, says], 0)
    assert len(server.asked) == 1


def test_a_limit_that_takes_too_many_is_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "MOST", 5)
    server = Server(fine())
    lines, _ = run(server, capsys)
    assert lines[-1] == "  no limit said no to 5 requests"
    assert len(server.asked) == 5


def test_another_error_is_the_sdks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(openai.InternalServerError):
        run(Server(httpx2.Response(500, json={})), capsys)


def test_an_error_without_the_apis_shape_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = run(Server(httpx2.Response(429, text="slow \x1b[2Jdown")), capsys)
    assert "429" in lines[0]
    assert "\x1b" not in lines[0]
