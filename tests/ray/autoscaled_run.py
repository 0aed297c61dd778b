"""`steer run` with elastic pools on nodes that Ray's autoscaler starts; prints what it saw as JSON, in one line.

Ray reads its cluster's token (RAY_AUTH_MODE, RAY_AUTH_TOKEN) when it is imported: they must be set. A process of its
own, so that the tests' Ray knows nothing of it; nothing of it stays. (`ray stop` would end every cluster there is.)
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import ray
from patience import PATIENCE_S
from ports import free_ports

from pipelines.run import prewarm, session
from pipelines.run.run import run_one
from steer.config.load import SettingsError
from steer.config.policy import RandomStepPolicy
from steer.config.run import BenchmarkConfig, ModelConfig, PairConfig, PoolConfig, PoolsConfig, RunConfig


def until(true):
    deadline = time.monotonic() + PATIENCE_S
    while not (value := true()):
        assert time.monotonic() < deadline, true
        time.sleep(0.1)
    return value


@contextmanager
def folder():
    """For Ray's sockets and logs: a short path. Whatever process still names it afterwards is ended."""
    path = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    try:
        yield path
    finally:
        ray.shutdown()  # first: a driver that loses its cluster waits for it for a minute and then ends itself
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                mine = path.encode() in entry.read_bytes() and int(entry.parent.name) != os.getpid()
                if mine:
                    os.kill(int(entry.parent.name), signal.SIGKILL)
            except OSError:
                continue
        shutil.rmtree(path, ignore_errors=True)


def autoscaled(path: str) -> dict:
    """`steer run` with elastic pools on a cluster that has only its head: what was asked for, which nodes came."""
    (port,) = free_ports(1)
    config = Path(path) / "cluster.json"
    config.write_text(json.dumps(_cluster_config(f"{ray.util.get_node_ip_address()}:{port}")))
    command = ["ray", "start", "--head", "--block", f"--port={port}", f"--temp-dir={path}", "--num-cpus=2"]
    command += ["--include-dashboard=false", f"--autoscaling-config={config}", "--object-store-memory=100000000"]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
    }
    head = subprocess.Popen(command, env=environment, stdout=sys.stderr, stderr=sys.stderr)
    address = f"{ray.util.get_node_ip_address()}:{port}"
    os.environ["RAY_ADDRESS"] = address
    try:
        until(lambda: _reachable(port))
        return _autoscaled_run(address, path)
    finally:
        head.kill()  # told to end, it would drain its node for half a minute
        head.wait()


HEAD = "f" * 51 + "00000"
HEAD_TYPE = "ray.head.default"
"""Names that the fake provider gives its head."""


def _cluster_config(gcs_address: str) -> dict:
    def workers(pool: str) -> dict:
        return {"resources": {"CPU": 1, "object_store_memory": 100_000_000}, "labels": {"steer-pool": pool},
                "node_config": {}, "min_workers": 0, "max_workers": 2}  # fmt: skip

    synced = ("cluster_synced_files", "rsync_exclude", "rsync_filter")
    commands = ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands")
    return {
        **{name: [] for name in (*commands, "head_start_ray_commands", "worker_start_ray_commands", *synced)},
        **{name: {} for name in ("auth", "file_mounts", "docker")},
        "cluster_name": "steer",
        "max_workers": 4,
        "upscaling_speed": 10,
        "idle_timeout_minutes": 0.05,
        "provider": {
            # Ray's own fake one, by its name as an external: as `fake_multinode` it wants a file that wheels lack.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": gcs_address,
            "head_node_id": HEAD,
            "launch_multiple": True,
        },
        "available_node_types": {
            HEAD_TYPE: {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
            "small": workers("small"),
            "large": workers("large"),
        },
        "head_node_type": HEAD_TYPE,
    }


def _reachable(port: int) -> bool:
    with socket.socket() as there:
        return there.connect_ex((ray.util.get_node_ip_address(), port)) == 0


def _autoscaled_run(address: str, path: str) -> dict:
    seen = {"small": 0, "large": 0}
    asked: list = []
    original = prewarm.request_resources

    def request(bundles, bundle_label_selectors):
        pairs = zip(bundles, bundle_label_selectors, strict=True)
        asked.append([[selector["steer-pool"], bundle["CPU"]] for bundle, selector in pairs])
        original(bundles=bundles, bundle_label_selectors=bundle_label_selectors)

    prewarm.request_resources = request
    started, loaded = session.Session, {}

    def opened(*what):
        loaded["standing"] = _standing(address)
        return started(*what)

    session.Session = opened
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            if ray.is_initialized():
                for label, number in _workers().items():
                    seen[label] = max(seen[label], number)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    engine = {"row_s": 0.05, "tokens": 2}
    pair = PairConfig(
        small=ModelConfig(path="simulated:small", parameters=1.0, engine=engine),
        large=ModelConfig(path="simulated:large", parameters=1.0, engine=engine),
    )
    elastic = {"max_num_seqs": 8, "max_replicas": 2}
    pools = PoolsConfig(
        small=PoolConfig(label="small", min_replicas=1, **elastic),
        large=PoolConfig(label="large", min_replicas=0, max_replicas=1),
    )
    benchmark = BenchmarkConfig(name="chain_math", limit=30)
    config = RunConfig(benchmark=benchmark, pair=pair, pools=pools, policy=RandomStepPolicy(p=0.3))
    summary = run_one(config, Path(path) / "run")
    over.set()
    watcher.join()
    refused = _refusal(config, Path(path) / "refused")
    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    until(lambda: not sum(_workers().values()))
    left, standing = sum(_workers().values()), _standing(address)
    ray.shutdown()
    described = json.loads((Path(path) / "run" / "run.json").read_text())
    return {
        "asked": 30,
        "answered": summary.n,
        "asked_before_start": asked[0],
        "standing_while_loaded": loaded["standing"],
        "most": seen,
        "nodes_at_end": left,
        "standing_at_end": standing,
        "replica_s": described["engines"]["replica_s"],
        "refused": refused,
    }


def _refusal(config: RunConfig, out: Path) -> str:
    """What is said to a label that no type of node has."""
    small = config.pools.small.model_copy(update={"label": "smal"})
    try:
        run_one(config.model_copy(update={"pools": config.pools.model_copy(update={"small": small})}), out)
    except SettingsError as refusal:
        return "" if out.exists() else str(refusal)
    return ""


def _workers() -> dict[str, int]:
    labels = [node["Labels"].get("steer-pool") for node in ray.nodes() if node["Alive"]]
    return {label: labels.count(label) for label in ("small", "large")}


def _standing(address: str) -> int:
    """Bundles that the autoscaler is asked to have room for."""
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    constraints = get_cluster_resource_state(ray._raylet.GcsClient(address=address)).cluster_resource_constraints
    return sum(len(constraint.resource_requests) for constraint in constraints)


if __name__ == "__main__":
    with folder() as place:
        print(json.dumps(autoscaled(place)))
