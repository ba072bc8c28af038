from typing import Any

from proxy.core.seal import FIELDS, sealed, sealing


def test_an_answer_of_our_own_is_not_kept_framed_or_guessed_at() -> None:
    assert sealed([(b"content-type", b"application/json")]) == [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"frame-ancestors 'none'"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
    ]


def test_what_an_answer_says_of_itself_stays() -> None:
    pairs = [
        (b"x-frame-options", b"SAMEORIGIN"),
        (b"a", b"1"),
        (b"a", b"2"),
        (b"cache-control", b"max-age=5"),
    ]
    made = sealed(pairs)
    assert made[:4] == pairs
    assert made[4:] == FIELDS[1:3]


def test_what_came_in_is_not_changed() -> None:
    pairs: list[tuple[bytes, bytes]] = []
    sealed(pairs)
    assert pairs == []


async def test_a_send_adds_them_to_the_head_alone() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    made = sealing(send)
    start: dict[str, Any] = {"type": "http.response.start", "status": 200}
    body = {"type": "http.response.body", "body": b"x"}
    await made(start)
    await made(body)
    assert sent == [{**start, "headers": FIELDS}, body]
    assert "headers" not in start
