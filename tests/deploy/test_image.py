"""The image, as far as it can be looked at without building it; `make image` builds it and tries it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from scripts.make_image import TOOLS, needed
from tests.pages import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
LINES = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if re.match("[A-Z]+ ", line)]


def said(word: str) -> list[str]:
    return [rest for each, rest in LINES if each == word]


def test_what_is_run_needs_no_shell_and_no_root() -> None:
    (user,) = said("USER")
    assert user == "65532:65532"
    for word in ("ENTRYPOINT", "CMD"):
        (command,) = said(word)
        assert orjson.loads(command)
    (health,) = said("HEALTHCHECK")
    test = orjson.loads(health[health.index("CMD ") + 4 :])
    compile(test[2], "the health check", "exec")
    assert ":3007/healthz" in test[2]


def test_what_builds_it_is_not_in_it() -> None:
    assert said("FROM") == ["${BASE} AS build", "${BASE}"]
    last = [words for words in LINES[[words[0] for words in LINES].index("LABEL") :] if words[0] == "COPY"]
    assert len(last) == 2
    assert all(rest.startswith("--from=build ") for _, rest in last)


def test_what_it_copies_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    sources = {source for rest in said("COPY") if "--from" not in rest for source in shlex.split(rest)[:-1]}
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source.partition('/')[0]}" in ignored


def test_the_state_folder_is_the_users() -> None:
    assert any("--chown=65532:65532" in rest and rest.endswith("/var/lib/weir") for rest in said("COPY"))
    assert "WEIR_STATE_DIR=/var/lib/weir" in said("ENV")[-1]


@pytest.mark.parametrize("there", [(), ("buildah",), ("buildah", "bwrap")])
def test_it_says_what_is_missing(tmp_path: Path, there: tuple[str, ...]) -> None:
    for tool in there:
        (tmp_path / tool).symlink_to("/bin/false")
    done = subprocess.run(
        [sys.executable, "scripts/make_image.py"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    missing = [tool for tool in TOOLS if tool not in there]
    assert done.stderr.startswith(f"make image needs {' and '.join(missing)}. ")
    assert "apt-get install" in done.stderr


def test_make_image_is_that() -> None:
    make = shutil.which("make")
    assert make is not None
    told = subprocess.run(
        [make, "-n", "-o", ".venv/.dev", "image"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "scripts/make_image.py" in told.stdout


def test_a_lock_for_another_python() -> None:
    lock = (
        "anyio==4.1 \\\n    --hash=sha256:aa\n"
        "async-timeout==5.0.1 ; python_full_version < '3.11.3' \\\n    --hash=sha256:bb\n"
        "tzdata==2026.1 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"
    )
    older = needed(lock, "3.11.2")
    assert older.replace(" ; ", "") == older
    assert [line for line in older.splitlines() if "==" in line] == [
        "anyio==4.1 \\",
        "async-timeout==5.0.1 \\",
    ]
    assert "--hash=sha256:bb" in older
    assert needed(lock, "3.13.1") == "anyio==4.1 \\\n    --hash=sha256:aa\n"


@pytest.mark.parametrize("lock", ["run", "build"])
def test_the_locks_are_read_whole(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    for_linux = [
        line for line in text.splitlines() if "==" in line and "win32'" not in line.replace("!= 'win32'", "")
    ]
    kept = [line for line in needed(text, "3.11.2").splitlines() if "==" in line]
    assert 0 < len(kept) <= len(for_linux)
    assert not any(";" in line for line in kept)
