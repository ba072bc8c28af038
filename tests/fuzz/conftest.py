"""Targets by name."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

Target = Callable[[bytes], None]


def load(name: str) -> Target:
    """The target of this module."""
    module: Any = importlib.import_module(f"tests.fuzz.{name}")
    target: Target = module.target
    return target


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    """That of the parameter."""
    return load(request.param)
