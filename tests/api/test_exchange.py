import pytest

from proxy.api.asked import Asked
from proxy.api.errors import ClientError, WeirError
from proxy.api.exchange import Attempt, End, Exchange
from proxy.api.headers import Headers
from proxy.api.request import Request
from proxy.api.slots import Slot

COUNT: Slot[int] = Slot("count")
OTHER: Slot[int] = Slot("count")


class Driver:
    def __init__(self) -> None:
        self.causes: list[WeirError] = []
        self.asked: list[tuple[Exchange, str, bytes, float]] = []

    def interrupt(self, cause: WeirError) -> None:
        self.causes.append(cause)

    async def ask(self, ex: Exchange, endpoint: str, body: bytes, timeout: float) -> Asked:
        self.asked.append((ex, endpoint, body, timeout))
        return Asked(404, Headers(), b"")


class NoBody:
    length: int | None = None

    async def read(self) -> bytes:
        return b""

    async def peek(self, count: int) -> bytes:
        return b""

    def replace(self, body: bytes) -> None:
        raise NotImplementedError


def exchange(driver: Driver | None = None) -> Exchange:
    request = Request("GET", b"/v1/models", b"", Headers(), NoBody(), "192.0.2.1", "192.0.2.1")
    return Exchange("id-1", request, driver or Driver())


def test_a_new_one_knows_its_request_and_nothing_else() -> None:
    ex = exchange()
    assert ex.id == "id-1"
    assert ex.request.path == "/v1/models"
    assert (ex.response.status, ex.response.started, ex.upstream, ex.attempts) == (0, False, None, [])


def test_slots_keep_what_is_put_into_them() -> None:
    ex = exchange()
    assert COUNT not in ex
    assert ex.get(COUNT) is None
    with pytest.raises(KeyError):
        ex[COUNT]
    ex[COUNT] = 0
    assert COUNT in ex
    assert ex[COUNT] == 0
    assert ex.get(COUNT) == 0
    assert OTHER not in ex


def test_exchanges_share_nothing() -> None:
    one, other = exchange(), exchange()
    one[COUNT] = 1
    one.attempts.append(Attempt("up", 1, 2, "200"))
    assert COUNT not in other
    assert other.attempts == []


def test_abort_is_the_drivers() -> None:
    driver = Driver()
    error = ClientError(402, "no_money", "No.")
    exchange(driver).abort(error)
    assert driver.causes == [error]


async def test_asking_is_the_drivers_where_there_is_an_upstream() -> None:
    driver = Driver()
    ex = exchange(driver)
    with pytest.raises(RuntimeError, match="no upstream"):
        await ex.ask("responses/input_tokens", b"{}", timeout=2)
    assert driver.asked == []
    ex.upstream = "up"
    assert (await ex.ask("responses/input_tokens", b"{}", timeout=2)).status == 404
    assert driver.asked == [(ex, "responses/input_tokens", b"{}", 2)]


def test_an_end_has_a_reason_a_code_and_perhaps_an_error() -> None:
    assert End("complete", "completed") == ("complete", "completed", None)
    error = ClientError(400, "c", "m")
    assert End("rejected", "c", error).error is error


def test_an_attempt_was_not_resent_unless_it_says_so() -> None:
    assert Attempt("up", 1, 2, "200").resent is False
