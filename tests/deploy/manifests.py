"""What is in deploy/, read, and the checks that Compose's and Kubernetes' files have in common."""

import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from proxy.core.units import parse_duration
from tests.e2e.command import run
from tests.pages import ROOT

DEPLOY = ROOT / "deploy"
VALIDATE = Path(sys.prefix) / "deploy" / "bin" / "kubernetes-validate"


def load(text: str) -> list[Any]:
    """The documents of a YAML file."""
    return [found for found in YAML(typ="safe").load_all(text) if found is not None]


def drain(config: Path) -> float:
    """How many seconds a stop may take by this weir.yaml."""
    (settings,) = load(config.read_text())
    told = settings.get("drain", {})
    return parse_duration(told.get("delay", "0s"), zero=True) + parse_duration(told.get("grace", "30s"))


def shares_limits(settings: Any) -> bool:
    """Whether the limits are counted in the Redis that these settings name."""
    used = [
        plugin for plugin in settings["plugins"] if isinstance(plugin, dict) and plugin["use"] == "limiter"
    ]
    return "redis" in settings and [limiter["store"] for limiter in used] == ["redis"]


def secrets_in(text: str, folder: Path) -> str:
    """A weir.yaml whose mounted secrets are files of this folder."""
    for secret in ("openai/api-key", "weir/openai-api-key", "weir/alice-key"):
        (folder / secret).parent.mkdir(exist_ok=True)
        (folder / secret).write_text(f"sk-{secret}-of-some-length\n")
    return text.replace("${file:/run/secrets/", "${file:" + f"{folder}/")


def check(config: Path, folder: Path) -> str:
    """What `weir check` says of this weir.yaml, with a file for each secret."""
    (folder / "weir.yaml").write_text(secrets_in(config.read_text(), folder))
    env = {"OPENAI_API_KEY": "sk-of-the-provider", "ALICE_KEY": "a-long-random-word"}
    ended = run("-m", "proxy", "check", folder=folder, env=env)
    assert ended.status == 0, ended.stderr
    return ended.stdout
