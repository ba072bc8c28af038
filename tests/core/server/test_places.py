import logging
import resource
import subprocess
import sys

import orjson
import pytest

from proxy.core.server.places import LINGERING, Places, descriptors


def test_half_of_the_descriptors_are_for_clients_but_for_what_else_is_needed() -> None:
    assert Places(1024).most == 480
    assert Places(65536).most == 32736
    assert Places(10).most == 1
    assert Places(None).most > 1_000_000


def test_who_finds_no_place_is_told_until_there_are_too_many_to_tell(
    caplog: pytest.LogCaptureFixture,
) -> None:
    places = Places(1024)
    with caplog.at_level(logging.INFO, "weir"):
        head, _, body = places.turn_away(480 + LINGERING).partition(b"\r\n\r\n")
        for _ in range(10_000):
            assert places.turn_away(481 + LINGERING) == b""
    assert head.startswith(b"HTTP/1.1 503 ")
    lines = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
    assert (lines[b"retry-after"], lines[b"connection"]) == (b"1", b"close")
    assert int(lines[b"content-length"]) == len(body)
    assert orjson.loads(body)["error"]["code"] == "too_many_connections"
    assert len(caplog.records) == 1, "a flood of connections is no flood of lines"
    ((sample,),) = [family.samples for family in places.collect()]
    assert (sample.name, sample.value) == ("weir_connections_turned_away_total", 10_001)


@pytest.mark.parametrize("hard", [300, 500])
def test_as_many_descriptors_are_asked_for_as_the_system_allows(hard: int) -> None:
    """In a process of its own: a hard limit that was lowered stays so."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, {hard}));"
        "from proxy.core.server.places import descriptors; print(descriptors());"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(hard)] * 2


def test_asking_again_changes_nothing() -> None:
    assert descriptors() == descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == descriptors()
