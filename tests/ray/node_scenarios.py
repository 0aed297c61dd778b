"""Runs one scenario on a cluster of its own whose nodes come and go, and prints what it saw as a line of JSON.

    python tests/ray/node_scenarios.py nodes | autoscaler

Ray reads its cluster's token (RAY_AUTH_MODE, RAY_AUTH_TOKEN) when it is imported: they must be set. A process of its
own, so that the tests' Ray knows nothing of it; nothing of it stays (`ray stop` would end every
cluster of the machine).
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

import pyarrow as pa
import ray

from actors.router import Job, Router
from actors.simulated import SimulatedReplica
from pipelines import prewarm, session
from pipelines.run import run_one
from steer.config import BenchmarkConfig, ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions, RunConfig
from steer.policy_config import RandomStepPolicy
from steer.traces import Seat

PATIENCE_S = 60.0
DEADLINE_MS = 30_000
"""A drained node's: longer than its replica needs for the rows that it has."""
SPOT = 2
"""Ray's DRAIN_NODE_REASON_PREEMPTION."""


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


# --- nodes: a drain, then a lost node -------------------------------------------------------------------------------


def nodes(path: str) -> dict:
    """A router's small pool is on a node that is drained, its large pool on one that is lost; both have another day."""
    import ray._private.utils as addresses
    from ray.cluster_utils import Cluster

    # Else `ray.init()` of every other process on this machine would find this cluster.
    addresses.write_ray_address = addresses.reset_ray_address = lambda *_: None
    health = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": path, "_system_config": health}
    head["labels"] = {"steer-pool": "none"}
    cluster = Cluster(True, head_node_args=head)

    def node(pool: str):
        return cluster.add_node(num_cpus=1, labels={"steer-pool": pool})

    first, large = node("small"), node("large")
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    model = {"parameters": 1.0, "engine": {"step_s": 0.05, "steps": 180, "exact": True, "tokens": 1}}
    pair = PairConfig(small=ModelConfig(path="small", **model), large=ModelConfig(path="large", **model))
    pools = PoolsConfig(small=PoolConfig(label="small"), large=PoolConfig(label="large"))
    at_head = ray.remote(Router).options(num_cpus=0, label_selector={"steer-pool": "none"})
    router = at_head.remote(pair, pools, SimulatedReplica)
    ray.get(router.start.remote())

    def stats():
        return ray.get(router.stats.remote())

    job = Job("cell", "0", RandomStepPolicy(p=0.3), RoutingOptions(max_steps=1000, barrier="rolling"), "all", 0)
    stream = router.route.options(num_returns="streaming").remote(_questions(40), job)
    until(lambda: stats().steps_large > 0)
    second = node("small")
    gcs = ray._raylet.GcsClient(address=cluster.address)
    assert gcs.drain_node(first.node_id, SPOT, "spot", int(time.time() * 1000) + DEADLINE_MS)[0]
    until(lambda: _holders(SimulatedReplica.__name__, second.node_id))
    steps = stats().steps_small
    until(lambda: stats().steps_small > steps + 100 and not _holders(SimulatedReplica.__name__, first.node_id))
    drained = {"replaced": stats().replaced, "node": second.node_id}
    cluster.remove_node(large, allow_graceful=False)
    waiting = until(lambda: stats().waiting.get(Seat.LARGE))
    node("large")
    table = pa.concat_tables([ray.get(ref) for ref in stream])
    end = stats()
    ray.get(router.close.remote())
    return {
        "asked": 40,
        "answered": table["status"].to_pylist().count("answered"),
        "after_drain": drained,
        "second_node": second.node_id,
        "waiting": waiting,
        "replaced": end.replaced,
        "tokens": end.tokens_small + end.tokens_large,
        "tokens_in_table": sum(table["tokens_small"].to_pylist()) + sum(table["tokens_large"].to_pylist()),
    }


def _holders(actor: str, node: str) -> int:
    from ray._private import state

    actors = state.state.actor_table(None, actor_state_name="ALIVE").values()
    return sum(a["ActorClassName"] == actor and a["Address"]["NodeID"] == node for a in actors)


def _questions(n: int) -> pa.Table:
    made_up = dict(sample=0, benchmark="made_up", gold="7", grader="math", subset="", difficulty="", labels="{}")
    return pa.Table.from_pylist([dict(id=f"q{i}", prompt=f"question {i}", system="", **made_up) for i in range(n)])


# --- autoscaler: a whole run on nodes that Ray's autoscaler starts -------------------------------------------------


def autoscaler(path: str) -> dict:
    """`steer run` with elastic pools on a cluster that has only its head: what was asked for, which nodes came."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
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

    def opened(router):
        loaded["standing"] = _standing(address)
        return started(router)

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
    }


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
        print(json.dumps({"nodes": nodes, "autoscaler": autoscaler}[sys.argv[1]](place)))
