"""The cluster files beside cluster.yaml: what can be checked without machines, and that all three agree.

These tests would catch a misspelt key, a worker without a GPU, nodes of different images, a head that runs replicas, a
job that does not start as ``kvcomm submit`` starts one, a Ray that is not the one that is tested, and a start without
token authentication.
"""

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import ClickException
from ray.autoscaler._private.util import prepare_config, validate_config

from sweeps.jobs.job import entrypoint

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "sweeps" / "cluster"


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


@pytest.fixture
def on_premises() -> dict[str, Any]:
    return read(FOLDER / "on-premises.yaml")


@pytest.fixture
def rayjob() -> dict[str, Any]:
    return read(FOLDER / "rayjob.yaml")


def ray_version() -> str:
    [version] = re.findall(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return str(version)


def containers(rayjob: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By group: the only container of its pods."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"]} | {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {name: group["template"]["spec"]["containers"][0] for name, group in groups.items()}


def test_ray_accepts_the_machines_of_ones_own(on_premises: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(on_premises))
    validate_config(prepared)
    workers = on_premises["provider"]["worker_ips"]
    assert on_premises["min_workers"] == on_premises["max_workers"] == len(workers)
    assert on_premises["provider"]["head_ip"] not in workers


def test_ray_refuses_machines_that_are_not_named(on_premises: dict[str, Any]) -> None:
    del on_premises["provider"]["worker_ips"]
    with pytest.raises(ClickException, match="worker_ips"):
        validate_config(prepare_config(on_premises))


def test_both_ray_clusters_set_up_and_start_alike(on_premises: dict[str, Any]) -> None:
    aws = read(ROOT / "cluster.yaml")
    assert on_premises["setup_commands"][:2] == aws["setup_commands"][:2]
    for side in ("head_start_ray_commands", "worker_start_ray_commands"):
        for cluster in (on_premises, aws):
            [start] = cluster[side]
            assert "RAY_AUTH_MODE=token ray start" in start, side
            assert "export PATH=~/kvcomm/.venv/bin:$PATH;" in start, "a job runs the python that is there"
    for cluster in (on_premises, aws):
        assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][0]
        assert any(target.endswith("/.ray/auth_token") for target in cluster["file_mounts"])
        assert "build/kvcomm.bundle" in cluster["file_mounts"].values()
    assert "--num-cpus=0 --num-gpus=0" in on_premises["head_start_ray_commands"][0]


def test_the_job_is_that_of_kubernetes(rayjob: dict[str, Any]) -> None:
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    assert set(rayjob) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(rayjob["spec"]) == {
        "entrypoint",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    }
    assert set(rayjob["spec"]["rayClusterSpec"]) == {
        "rayVersion",
        "authOptions",
        "enableInTreeAutoscaling",
        "headGroupSpec",
        "workerGroupSpecs",
    }
    for group in rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_job_starts_as_submit_starts_one(rayjob: dict[str, Any]) -> None:
    command = shlex.split(rayjob["spec"]["entrypoint"])
    sweep, results = command[4], command[6]
    assert rayjob["spec"]["entrypoint"] == entrypoint(sweep, results)
    dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    [folder] = [line.removeprefix("WORKDIR ") for line in dockerfile.splitlines() if line.startswith("WORKDIR ")]
    assert (ROOT / Path(sweep).relative_to(folder)).is_file()


def test_one_image_with_the_ray_that_is_tested(rayjob: dict[str, Any]) -> None:
    cluster, dockerfile = rayjob["spec"]["rayClusterSpec"], (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert cluster["rayVersion"] == ray_version()
    assert f"FROM rayproject/ray:{ray_version()}-py311" in dockerfile
    [image] = {container["image"] for container in containers(rayjob).values()}
    assert f"-t {image} ." in dockerfile
    for line in dockerfile.splitlines():
        if line.startswith("COPY"):
            for source in line.split()[2:-1]:
                assert (ROOT / source).exists(), source


def test_replicas_have_gpus_and_the_head_has_none(rayjob: dict[str, Any]) -> None:
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    for name, container in containers(rayjob).items():
        resources = container["resources"]
        assert resources["requests"] == resources["limits"], "Ray takes the limits, Kubernetes places by the requests"
        assert ("nvidia.com/gpu" in resources["limits"]) == (name != "head")


def pods(rayjob: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By group: the specification of its pods."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"]} | {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {name: group["template"]["spec"] for name, group in groups.items()}


def test_every_pod_has_the_volumes_that_are_claimed(rayjob: dict[str, Any]) -> None:
    """Catches a mount without a volume, a volume that nobody claims, and replicas that cannot leave checkpoints."""
    documents = list(yaml.safe_load_all((FOLDER / "volumes.yaml").read_text(encoding="utf-8")))
    assert {(claim["apiVersion"], claim["kind"]) for claim in documents} == {("v1", "PersistentVolumeClaim")}
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in documents}
    results = shlex.split(rayjob["spec"]["entrypoint"])[6]
    for name, pod in pods(rayjob).items():
        volumes = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in containers(rayjob)[name]["volumeMounts"]}
        assert mounts == {results: "kvcomm-results", "/models": "kvcomm-models"}
        assert set(volumes.values()) == set(claims)
        assert pod["securityContext"] == {"fsGroup": 100}, "the image's user may write to them"
    for claim in claims.values():
        assert claim["accessModes"] == ["ReadWriteMany"], "pods on several machines mount it"
        assert re.fullmatch(r"\d+Gi", claim["resources"]["requests"]["storage"])


def test_every_pod_finds_models_and_the_token_of_the_hub(rayjob: dict[str, Any]) -> None:
    """Catches a cache that each pod fills for itself, and a token that stands in the file."""
    head = (FOLDER / "rayjob.yaml").read_text(encoding="utf-8")
    for container in containers(rayjob).values():
        home, token = container["env"]
        assert home == {"name": "HF_HOME", "value": "/models/huggingface"}
        assert (token["name"], set(token)) == ("HF_TOKEN", {"name", "valueFrom"})
        secret = token["valueFrom"]["secretKeyRef"]
        assert secret["optional"], "without one, open models can be had"
        assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in head
