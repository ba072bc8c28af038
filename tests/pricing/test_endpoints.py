import pytest

from proxy.pricing.endpoints import LONGEST, operation


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("chat/completions", ("chat/completions", None)),
        ("responses", ("responses", None)),
        ("openai/deployments/prod-4o/chat/completions", ("chat/completions", "prod-4o")),
        ("deployments/prod-4o/embeddings", ("embeddings", "prod-4o")),
        ("openai/deployments/my%20own/images/generations", ("images/generations", "my own")),
        ("openai/v1/chat/completions", ("chat/completions", None)),
        ("openai/responses", ("responses", None)),
        ("openai/deployments//chat/completions", ("chat/completions", None)),
        ("openai/deployments/prod-4o", ("", "prod-4o")),
        ("openai/", ("", None)),
        ("openai/models", ("models", None)),
        (
            "azure/openai/deployments/a/chat/completions",
            ("azure/openai/deployments/a/chat/completions", None),
        ),
        ("", ("", None)),
    ],
)
def test_the_endpoint_and_the_deployment(endpoint: str, expected: tuple[str, str | None]) -> None:
    assert operation(endpoint) == expected


def test_a_name_is_bounded() -> None:
    assert operation(f"openai/deployments/{'x' * 1000}/responses") == ("responses", "x" * LONGEST)
