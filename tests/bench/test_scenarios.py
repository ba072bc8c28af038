import orjson
import pytest

from bench.scenarios import NUMBER, SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_a_body_is_a_chat_whose_prompt_can_be_numbered(scenario: Scenario) -> None:
    raw = scenario.body()
    asked = orjson.loads(raw)
    prompt = asked["messages"][1]["content"]
    assert len(prompt) == scenario.prompt
    assert raw.count(b"0" * NUMBER) == 1
    assert prompt.startswith("0" * NUMBER + " ")
    assert asked.get("stream", False) is scenario.stream


def test_a_short_chat_has_about_500_bytes_and_a_long_one_100_thousand() -> None:
    assert 450 < len(SCENARIOS["short"].body()) < 650
    assert 100_000 < len(SCENARIOS["long"].body()) < 101_000


def test_a_stream_ends_with_its_usage_and_done() -> None:
    assert SCENARIOS["stream"].data_lines == 102
    assert SCENARIOS["short"].data_lines == 0
