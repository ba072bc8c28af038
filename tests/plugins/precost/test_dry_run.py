from decimal import Decimal

import orjson
import pytest

from plugins.precost.dry_run import dry_run, impossible, wanted
from proxy.api import ClientError, Estimate
from proxy.pricing.prompt import ENDPOINTS, Prompt

PROMPT = Prompt("chat", "gpt-4o", "o200k_base", 11, 7, ["hello world"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"true", True), (b"True", True), (b" 1 ", True), (b"false", False), (b"FALSE", False), (b"0", False)],
)
def test_what_the_header_says(value: bytes, expected: bool) -> None:
    assert wanted(value) is expected


@pytest.mark.parametrize("value", [b"", b"yes", b"on", b"2", b"tru", b"true, true", b"\xff"])
def test_what_is_unclear_is_refused(value: bytes) -> None:
    with pytest.raises(ClientError) as caught:
        wanted(value)
    assert (caught.value.status, caught.value.code) == (400, "invalid_dry_run")


def test_the_refusal_names_every_endpoint() -> None:
    for endpoint in ENDPOINTS:
        assert endpoint in impossible().message


def test_the_answer_has_all_digits_of_the_costs() -> None:
    estimate = Estimate(18, "tiktoken", 9, 100, Decimal("0.000000123456789012345"))
    assert orjson.dumps(dry_run(PROMPT, estimate, Decimal("5E-8")).body) == (
        b'{"object":"weir.estimate","model":"gpt-4o","encoding":"o200k_base","method":"tiktoken",'
        b'"input_tokens":9,"max_output_tokens":100,"input_cost_usd":0.00000005,'
        b'"max_cost_usd":0.000000123456789012345,"admitted":true,"limits":[]}'
    )


def test_what_is_not_known_is_null() -> None:
    estimate = Estimate(18, "upper_bound")
    body = orjson.loads(orjson.dumps(dry_run(PROMPT, estimate, None).body))
    assert body["input_tokens"] == 18
    assert body["method"] == "upper_bound"
    assert body["max_output_tokens"] is body["input_cost_usd"] is body["max_cost_usd"] is None
