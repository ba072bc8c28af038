"""Any bytes as `weir.yaml`: `Settings`, or a `ConfigError` whose lines say where; plugins' options too."""

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from proxy.core import loader
from proxy.core.config import Settings, load
from proxy.core.settings.messages import ConfigError

FOLDER: Final = Path(tempfile.mkdtemp(prefix="weir-fuzz-"))
atexit.register(shutil.rmtree, FOLDER)
FILE: Final = FOLDER / "weir.yaml"
LINE: Final = re.compile(r"weir\.yaml(:[0-9]+)?: \S")
MORE: Final = re.compile(r"and [0-9]+ more")
SECRET: Final = "s3cret-of-the-environment"
"""What `${SECRET}` stands for: no message may show it."""
BUILT_IN: Final = frozenset(("annotate", "auth", "ledger", "limiter", "precost", "tracing", "validate"))
"""Other names would have any module of this machine imported."""


def target(data: bytes) -> None:
    """The file as it is."""
    FILE.write_bytes(data)
    before = Path.cwd()
    os.chdir(FOLDER)  # the name in messages is then a short one
    try:
        settings = _load(data)
        if settings is not None and settings.plugins and all(p.use in BUILT_IN for p in settings.plugins):
            _plugins(settings, data)
    finally:
        os.chdir(before)


def _load(data: bytes) -> Settings | None:
    try:
        settings = load(Path("weir.yaml"), {"SECRET": SECRET, "EMPTY": ""})
    except ConfigError as error:
        _told(error, data)
        return None
    assert isinstance(settings, Settings)
    assert SECRET not in repr(settings)
    return settings


def _plugins(settings: Settings, data: bytes) -> None:
    try:
        plugins = loader.load(settings.plugins or [])
    except ConfigError as error:
        _told(error, data)
    else:
        assert len(plugins) == len(settings.plugins or [])


def _told(error: ConfigError, data: bytes) -> None:
    assert error.problems
    lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xe2\x80") + data.count(b"\xc2\x85") + 1
    for problem in error.problems:
        assert "\n" not in problem
        assert SECRET not in problem
        assert LINE.match(problem) or MORE.fullmatch(problem), problem
        place = re.match(r"weir\.yaml:([0-9]+)", problem)
        assert place is None or 1 <= int(place[1]) <= lines + 1, problem
