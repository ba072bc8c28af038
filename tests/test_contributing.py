"""What a contributor meets: hooks before a commit, templates and CI fit the Makefile and each other."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from scripts.make_image import TOOLS

from .pages import ROOT, fences

GITHUB = ROOT / ".github"
MAKEFILE = (ROOT / "Makefile").read_text()


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


HOOKS: dict[str, dict[str, Any]] = {
    hook["id"]: hook for repo in load(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
}


def run_hook(name: str, file: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(HOOKS[name]["entry"])
    tool = Path(sys.prefix) / "bin" / words[0].removeprefix(".venv/bin/")
    command = [str(tool), *words[1:], "--config", str(ROOT / "pyproject.toml"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_commit_is_looked_at_by_all_that_make_check_runs() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    steps = [line.strip().replace("$(BIN)/", ".venv/bin/") for line in recipe[1].splitlines()]
    entries = " ; ".join(hook["entry"] for hook in HOOKS.values())
    assert len(steps) >= 4
    for step in steps:
        wanted = step.replace(" --check .", "").replace(" check .", " check")
        assert wanted in entries, f"no hook does {step!r}"
    assert all(
        hook["language"] == "system" for hook in HOOKS.values()
    )  # the locked tools, and nothing fetched


@pytest.mark.slow
def test_hooks_mend_what_can_be_mended_and_stop_at_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "changed.py"
    file.write_text("import sys\nimport os\n\nprint( sys.path, os.name )  # noqa: T201\n")
    assert run_hook("ruff-check", file).returncode == 1  # so that the commit is looked at again
    assert run_hook("ruff-format", file).returncode == 0
    assert file.read_text() == "import os\nimport sys\n\nprint(sys.path, os.name)  # noqa: T201\n"
    assert run_hook("ruff-check", file).returncode == 0
    assert run_hook("ruff", file).returncode == 0
    file.write_text("import json\n\njson.loads\n")
    assert run_hook("ruff", file).returncode == 1


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_forms_are_such(name: str) -> None:
    form = load(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in fields)


def test_ci_runs_what_contributors_run() -> None:
    jobs = load(GITHUB / "workflows" / "ci.yml")["jobs"]
    runs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert runs["test"][-1] == ".ci/run"
    assert "bubblewrap" in runs["test"][0]  # or the test that locks Weir up fails there
    assert runs["image"][-1] == "sudo make image"
    assert all(tool in runs["image"][0] for tool in TOOLS if tool != "bwrap")
    assert "bubblewrap" in runs["image"][0]
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    said = "\n".join(fence.text for fence in fences(ROOT / "CONTRIBUTING.md", "sh"))
    assert all(command in said for command in commands)


def test_a_vulnerability_has_a_way_that_is_not_public() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    assert "do not open a public issue" in text
    assert "SECURITY.md" in (GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text()
    assert "(SECURITY.md)" in (ROOT / "CONTRIBUTING.md").read_text()
