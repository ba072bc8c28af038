"""The Kubernetes files: valid by the letter, and the same in what Weir wants of them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from proxy import __version__
from tests.e2e.command import Ended, run_any
from tests.pages import DOCS, fences

from .manifests import DEPLOY, VALIDATE, check, drain, load, shares_limits

pytestmark = pytest.mark.slow

KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.29", "1.33", "1.37")
"""The first with sidecars of its own, one between, and the newest that the validator knows."""
OVERLAYS = ("sidecar-example", "gateway")
WHOLE = sorted(
    path
    for path in KUBERNETES.rglob("*.yaml")
    if path.name not in ("kustomization.yaml", "weir.yaml", "patch.yaml")
)


def validate(text: str, version: str, folder: Path) -> Ended:
    if not VALIDATE.exists():
        pytest.skip("kubernetes-validate is not installed: make test ARGS=tests/deploy does it")
    file = folder / "manifest.yaml"
    file.write_text(text)
    return run_any(str(VALIDATE), "--strict", "-k", version, file.name, folder=folder, within=60)


def rendered(overlay: str) -> str:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on PATH, which renders the overlays")
    done = subprocess.run(
        ["kubectl", "kustomize", KUBERNETES / overlay],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pods() -> dict[str, tuple[dict[str, Any], dict[str, Any], Path]]:
    """The pods that Weir is in: their specification, Weir's container, and its configuration."""
    (patch,) = load((KUBERNETES / "sidecar" / "patch.yaml").read_text())
    (gateway,) = load((KUBERNETES / "gateway" / "deployment.yaml").read_text())
    beside, alone = (found["spec"]["template"]["spec"] for found in (patch, gateway))
    return {
        "sidecar": (beside, beside["initContainers"][0], KUBERNETES / "sidecar" / "weir.yaml"),
        "gateway": (alone, alone["containers"][0], KUBERNETES / "gateway" / "weir.yaml"),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_file_is_valid(version: str, tmp_path: Path) -> None:
    assert len(WHOLE) >= 6
    ended = validate("---\n".join(path.read_text() for path in WHOLE), version, tmp_path)
    assert ended.status == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("passed for resource") >= 8


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_renders_to_what_is_valid(overlay: str, version: str, tmp_path: Path) -> None:
    ended = validate(rendered(overlay), version, tmp_path)
    assert ended.status == 0, ended.stdout + ended.stderr
    assert "deployment/" in ended.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_of_the_how_to_is_valid(version: str, tmp_path: Path) -> None:
    (fence,) = fences(DOCS / "howto" / "sidecar.md", "yaml")
    ended = validate(fence.text, version, tmp_path)
    assert ended.status == 0, ended.stdout + ended.stderr
    assert "pod/my-program" in ended.stdout


def test_a_misspelt_field_is_found(tmp_path: Path) -> None:
    (fence,) = fences(DOCS / "howto" / "sidecar.md", "yaml")
    wrong = fence.text.replace("restartPolicy:", "restartPolicyy:")
    assert validate(wrong, VERSIONS[-1], tmp_path).status != 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_puts_weir_and_its_configuration_in(overlay: str) -> None:
    found = load(rendered(overlay))
    (config,) = [each for each in found if each["kind"] == "ConfigMap"]
    (deployment,) = [
        each
        for each in found
        if each["metadata"]["name"] in ("program", "weir") and each["kind"] == "Deployment"
    ]
    spec = deployment["spec"]["template"]["spec"]
    (weir,) = [one for one in [*spec["containers"], *spec.get("initContainers", [])] if one["name"] == "weir"]
    assert weir["image"] == f"registry.example.com/weir:{__version__}"
    assert {volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume} == {
        config["metadata"]["name"]
    }
    assert list(config["data"]) == ["weir.yaml"]


@pytest.mark.parametrize("name", ["sidecar", "gateway"])
def test_its_configuration_is_whole(name: str, tmp_path: Path) -> None:
    told = check(pods()[name][2], tmp_path)
    assert told.splitlines()[-1] == "ok"
    assert "https://api.openai.com/v1" in told


@pytest.mark.parametrize("name", ["sidecar", "gateway"])
def test_probes_ask_the_management_port(name: str) -> None:
    _, weir, config = pods()[name]
    (settings,) = load(config.read_text())
    (port,) = [port["containerPort"] for port in weir["ports"] if port["name"] == "management"]
    assert settings["management"] == f"0.0.0.0:{port}"  # probes come from outside the pod
    asked = {probe: weir[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")}
    assert {each["port"] for each in asked.values()} == {"management"}
    assert [each["path"] for each in asked.values()] == ["/startupz", "/readyz", "/healthz"]


@pytest.mark.parametrize("name", ["sidecar", "gateway"])
def test_a_stop_has_the_time_it_takes(name: str) -> None:
    pod, _, config = pods()[name]
    assert pod["terminationGracePeriodSeconds"] >= drain(config) + 10


@pytest.mark.parametrize("name", ["sidecar", "gateway"])
def test_it_is_nobodys_root_and_can_write_its_state_alone(name: str) -> None:
    pod, weir, config = pods()[name]
    security = {**pod.get("securityContext", {}), **weir["securityContext"]}
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == 65532
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    (settings,) = load(config.read_text())
    writable = {mount["mountPath"] for mount in weir["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {settings["state_dir"]}
    assert weir["args"][-1] == "/etc/weir/weir.yaml"
    assert "/etc/weir" in {mount["mountPath"] for mount in weir["volumeMounts"]}


@pytest.mark.parametrize("name", ["sidecar", "gateway"])
def test_memory_is_bounded_and_cpu_is_not(name: str) -> None:
    _, weir, _ = pods()[name]
    assert set(weir["resources"]["limits"]) == {"memory"}
    assert set(weir["resources"]["requests"]) == {"cpu", "memory"}


def test_a_sidecar_is_reached_from_its_pod_alone() -> None:
    pod, weir, config = pods()["sidecar"]
    assert weir["restartPolicy"] == "Always"
    (settings,) = load(config.read_text())
    assert settings["listen"] == "127.0.0.1:3006"
    (program,) = load((KUBERNETES / "sidecar-example" / "program.yaml").read_text())
    (container,) = program["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    assert env["OPENAI_BASE_URL"] == "http://127.0.0.1:3006/v1"
    assert "secret" not in str(container)  # the key is Weir's
    assert pod["volumes"]


def test_a_gateway_guards_its_key_and_shares_its_limits() -> None:
    _, weir, config = pods()["gateway"]
    (settings,) = load(config.read_text())
    (deployment,) = load((KUBERNETES / "gateway" / "deployment.yaml").read_text())
    assert settings["replicas"] == deployment["spec"]["replicas"]
    _, redis = load((KUBERNETES / "gateway" / "redis.yaml").read_text())
    port = redis["spec"]["ports"][0]["port"]
    assert shares_limits(settings)
    assert settings["redis"] == f"redis://{redis['metadata']['name']}:{port}/0"
    policies = load((KUBERNETES / "gateway" / "network.yaml").read_text())
    names = {port["name"] for port in weir["ports"]}
    opened = {port["port"] for rule in policies[0]["spec"]["ingress"] for port in rule["ports"]}
    assert opened == names
    assert "egress" not in policies[1]["spec"]  # Redis asks nobody
