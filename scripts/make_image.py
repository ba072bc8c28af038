"""Builds Weir's image from the Dockerfile without a Docker engine, runs it, and looks at what it does.

    python scripts/make_image.py [--base IMAGE] [--tag NAME]

Without --base a small Debian is put together first, of the release that this machine runs or else the current
one. The wheels are fetched here, by pip as it is set up here, so the build itself needs no network. What came
of it is tried as Kubernetes would run it: nobody's root, without a capability, and with nothing to write to.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from packaging.markers import Marker

import proxy

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("buildah", "mmdebstrap", "bwrap")
USER = "65532"


def main() -> None:
    parser = argparse.ArgumentParser(description="Build and try Weir's image without a Docker engine.")
    parser.add_argument("--base", help="the image to build on, with python3 and its venv in it")
    parser.add_argument(
        "--tag", default=f"localhost/weir:{proxy.__version__}", help="the image's name (%(default)s)"
    )
    given = parser.parse_args()
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        sys.exit(
            f"make image needs {' and '.join(missing)}. On Debian or Ubuntu:\n"
            "    apt-get install --no-install-recommends buildah mmdebstrap bubblewrap\n"
            "With a Docker engine it takes neither: docker build -t weir ."
        )
    if os.geteuid() != 0:  # mounting an image takes a user namespace
        os.execvp("buildah", ["buildah", "unshare", sys.executable, *sys.argv])  # noqa: S606, S607
    os.environ.setdefault("BUILDAH_ISOLATION", "chroot")
    os.environ.setdefault("STORAGE_DRIVER", "vfs")
    with tempfile.TemporaryDirectory(prefix="weir-image-") as folder:
        base = given.base or make_base(Path(folder))
        build(base, given.tag, Path(folder))
        with mounted(given.tag) as root:
            look_at(root, settings_of(given.tag))
    say(f"{given.tag} is built, and serves")


def make_base(folder: Path) -> str:
    """A Debian with Python and nothing else."""
    release = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    debian = "ID=debian" in Path("/etc/os-release").read_text().split()
    suite = release[1] if release and debian else "trixie"
    say(f"a base of Debian {suite}")
    tar = folder / "base.tar"
    run(
        "mmdebstrap",
        "-q",
        "--variant=minbase",
        "--include=python3,python3-venv,ca-certificates",
        suite,
        str(tar),
    )
    name = f"localhost/weir-base:{suite}"
    container = run("buildah", "from", "scratch").strip()
    run("buildah", "add", "-q", container, str(tar), "/")
    run("buildah", "commit", "-q", "--rm", container, name)
    tar.unlink()
    return name


def build(base: str, tag: str, folder: Path) -> None:
    say("the wheels")
    container = run("buildah", "from", base).strip()
    tell = "import platform; print(platform.python_version())"
    python = run("buildah", "run", container, "--", "python3", "-c", tell).strip()
    run("buildah", "rm", container)
    for lock in ("build", "run"):
        lines = folder / f"{lock}.txt"
        lines.write_text(needed((ROOT / "requirements" / f"{lock}.txt").read_text(), python))
        fetch = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
        only = ["--only-binary=:all:", "--python-version", python, "--require-hashes"]
        run(*fetch, *only, "-d", str(folder / "wheels"), "-r", str(lines))
    say("the image")
    run(
        *("buildah", "bud", "-q", "--format", "docker", "--tag", tag, "--build-arg", f"BASE={base}"),
        *("--volume", f"{folder / 'wheels'}:/wheels:ro", "--network", "host"),
        *("--build-arg", "PIP_OPTIONS=--no-index --find-links /wheels", str(ROOT)),
    )


def needed(lock: str, python: str) -> str:
    """The entries of a lock that this version of Python needs; pip would ask the one that it runs on."""
    there = {"python_version": python.rpartition(".")[0], "python_full_version": python}
    kept = []
    for entry in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE):
        marker = re.match(r"\S+ ; (.*) \\$", entry, re.MULTILINE)
        if marker is None:
            kept.append(entry)
        elif Marker(marker[1]).evaluate(there):
            kept.append(entry.replace(f" ; {marker[1]}", "", 1))
    return "".join(kept)


def settings_of(tag: str) -> dict[str, Any]:
    """How the image says it is to be run."""
    found: dict[str, Any] = orjson.loads(run("buildah", "inspect", "--type", "image", tag))["Docker"][
        "config"
    ]
    return found


@contextmanager
def mounted(tag: str) -> Iterator[Path]:
    container = run("buildah", "from", tag).strip()
    try:
        yield Path(run("buildah", "mount", container).strip())
    finally:
        run("buildah", "umount", container)
        run("buildah", "rm", container)


def look_at(root: Path, config: dict[str, Any]) -> None:
    """Run it, locked up; each thing that is not as it should be ends this."""
    say("a run of it")
    expect(config["User"] == f"{USER}:{USER}", "it runs as nobody's root")
    environment = [part for pair in config["Env"] for part in ("--setenv", *pair.split("=", 1))]
    inside = [
        *("bwrap", "--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),  # noqa: S108
        *("--tmpfs", "/var/lib/weir", "--unshare-user", "--unshare-pid", "--uid", USER, "--gid", USER),
        *(
            "--as-pid-1",
            "--cap-drop",
            "ALL",
            "--chdir",
            config["WorkingDir"],
            "--die-with-parent",
            "--clearenv",
            *environment,
        ),
    ]
    command = [*config["Entrypoint"], *config["Cmd"]]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    health = [word.replace(":3007/", f":{port + 1}/") for word in config["Healthcheck"]["Test"][1:]]
    expect(":3007/" not in " ".join(health) and len(health) == 3, "it has a health check")
    python = ["/opt/weir/bin/python", "-c"]
    expect(ends(*inside, *python, "open('/x', 'w')") == 1, "its root cannot be written to")
    expect(ends(*inside, *python, "open('/var/lib/weir/x', 'w')") == 0, "its state folder can")
    weir = subprocess.Popen([*inside, "--setenv", "PORT", str(port), *command])  # noqa: S603
    try:
        body = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}'
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions", body, {"content-type": "application/json"}
        )
        deadline = time.monotonic() + 30
        while True:
            with suppress(urllib.error.URLError), urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
                cost, tokens = answer.headers["x-weir-cost-usd"], answer.headers["x-weir-input-tokens"]
                expect(answer.status == 200 and b'"choices"' in answer.read(), "it serves a request")
                expect(cost is not None and tokens == "2", "it has the vocabulary and the prices")
                break
            if weir.poll() is not None or time.monotonic() > deadline:
                sys.exit("make image: it does not serve")
            time.sleep(0.1)
        expect(ends(*inside, *health) == 0, "its health check finds it well")
        os.kill(int(Path(f"/proc/{weir.pid}/task/{weir.pid}/children").read_text()), signal.SIGTERM)
        expect(weir.wait(20) == 128 + signal.SIGTERM, "it stops when it is told to")
    finally:
        weir.kill()
        weir.wait()
    expect(ends(*inside, *health) != 0, "its health check finds it gone")


def expect(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"make image: this does not hold: {what}")
    say(f"  {what}")


def ends(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode  # noqa: S603


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603
    if done.returncode:
        sys.exit(f"make image: {' '.join(command[:2])} failed with status {done.returncode}")
    return done.stdout


def say(text: str) -> None:
    print(f"make image: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
