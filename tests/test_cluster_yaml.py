"""cluster.yaml: what Ray can check without a cloud, and what it does not check.

Ray validates keys and types, but nothing inside ``node_config``, and no command. These tests would catch a misspelt
key, a head that is not defined, a worker without a GPU or with the wrong number of cores, nodes of different images,
a dashboard open to the network, and a start command without token authentication.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError  # type: ignore[import-untyped]
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]

INSTANCES = {"m7i.2xlarge": (8, 0), "g5.2xlarge": (8, 1), "p5.4xlarge": (16, 1)}
"""vCPUs and GPUs of the instance types, from AWS's own pages."""


@pytest.fixture
def cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    return config


def check(config: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(config)))


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    check(cluster)


def test_ray_refuses_a_misspelt_key(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["a10g"]["max_worker"] = 4
    with pytest.raises(ValidationError, match="max_worker"):
        check(cluster)


def test_ray_refuses_an_undefined_head(cluster: dict[str, Any]) -> None:
    cluster["head_node_type"] = "heads"
    with pytest.raises(ValueError, match="head_node_type"):
        check(cluster)


def test_ray_refuses_more_workers_than_the_cluster_may_have(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["a10g"].update(min_workers=5, max_workers=5)
    with pytest.raises(ValueError, match="max_workers"):
        check(cluster)


def test_every_node_type_offers_what_its_instance_has(cluster: dict[str, Any]) -> None:
    for name, node in cluster["available_node_types"].items():
        cpus, gpus = INSTANCES[node["node_config"]["InstanceType"]]
        is_head = name == cluster["head_node_type"]
        assert node["resources"] == {"CPU": 0 if is_head else cpus, "GPU": gpus}, name
        assert gpus == (0 if is_head else 1), name
        labels = {} if is_head else {"ray.io/accelerator-type": name.upper()}
        assert node.get("labels", {}) == labels, "the autoscaler starts the type that a sweep's accelerator names"
        if not is_head:
            assert 0 <= node["min_workers"] <= node["max_workers"] <= cluster["max_workers"], name


def test_all_nodes_start_from_one_image(cluster: dict[str, Any]) -> None:
    images = {node["node_config"]["ImageId"] for node in cluster["available_node_types"].values()}
    assert len(images) == 1


def test_nothing_listens_without_a_token_or_to_the_world(cluster: dict[str, Any]) -> None:
    for side in ("head_start_ray_commands", "worker_start_ray_commands"):
        [start] = [command for command in cluster[side] if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start, side
    [start] = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in start


def test_setup_uses_a_target_that_the_makefile_has(cluster: dict[str, Any]) -> None:
    assert any(" setup PYTHON=" in command for command in cluster["setup_commands"])
    assert "\nsetup:" in (ROOT / "Makefile").read_text(encoding="utf-8")
