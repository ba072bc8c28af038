from pathlib import Path

import pytest

from tests.faults.certificates import Certificates


@pytest.fixture
def tls(tmp_path: Path) -> Certificates:
    """Of an upstream at 127.0.0.1 or localhost."""
    return Certificates(tmp_path)
