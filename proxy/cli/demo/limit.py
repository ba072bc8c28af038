"""Running into a limit on purpose: the 429, what it says, and the wait."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.screen import Screen, safe

if TYPE_CHECKING:
    from openai import OpenAI

MOST: Final = 200
"""Requests that are sent; a limit that takes more is left alone."""
LONGEST: Final = 30.0
"""Seconds that are waited for."""
_ANSWER: Final = 16
"""Tokens of an answer."""


def run_into(
    client: "OpenAI", model: str, screen: Screen, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Ask until a limit says no, tell of it, wait as long as it says, and ask once more.

    Raises what the SDK raises for other reasons.
    """
    import openai

    for number in range(1, MOST + 1):
        try:
            _ask(client, model, screen, number)
        except openai.RateLimitError as error:
            _tell(screen, number, "429", "red", said(error))
            if _waited(screen, error.response.headers, sleep):
                _ask(client, model, screen, number + 1)
            return
    screen.line(f"  no limit said no to {MOST} requests")


def said(error: Any) -> str:
    """An error of the SDK in one line: the API's code and message."""
    body = error.body if isinstance(error.body, dict) else {}
    words = " ".join(safe(str(body.get("message") or error.message)).split())
    code = body.get("code")
    return f"{safe(str(code))}: {words}" if code else words


def _ask(client: "OpenAI", model: str, screen: Screen, number: int) -> None:
    headers = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "Hello!"}], max_completion_tokens=_ANSWER
    ).headers
    left = headers.get("x-ratelimit-remaining-requests")
    _tell(screen, number, "200", "green", "" if left is None else f"{safe(left)} left")


def _tell(screen: Screen, number: int, status: str, colour: str, more: str) -> None:
    screen.line(f"  request {number}  {screen.style(status, fg=colour, bold=True)}  {more}".rstrip())


def _waited(screen: Screen, headers: Mapping[str, str], sleep: Callable[[float], None]) -> bool:
    """Wait as these say, if that is worth it; whether it was."""
    seconds = _seconds(headers)
    if seconds is None or headers.get("x-should-retry") == "false":
        screen.line("  there is no use in waiting here, it says")
    elif seconds > LONGEST:
        screen.line(f"  it says to wait for {seconds:.0f} s: too long for a demo")
    else:
        screen.line(f"  it says to wait for {seconds:.1f} s")
        _count_down(screen, seconds, sleep)
        return True
    return False


def _seconds(headers: Mapping[str, str]) -> float | None:
    """How long to wait, read as the SDK reads it."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None


def _count_down(screen: Screen, seconds: float, sleep: Callable[[float], None]) -> None:
    steps = max(1, round(seconds / 0.1))
    for step in range(steps):
        screen.over(f"  {screen.style(screen.bar((step + 1) / steps, 24), fg='yellow')}")
        sleep(seconds / steps)
    screen.over("")
