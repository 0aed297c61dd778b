"""Nodes of a Ray cluster on one machine that are added, drained and lost: the head (label `cpu`), and one a pool.

Run as a program it holds the cluster and does what lines on its standard input ask; `PoolCluster` starts it and asks.
Invariant: every process of the cluster is a descendant of the program, also when its raylet was killed, since the
program adopts orphans; so what is left of a run, or of the cluster, can be counted.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import psutil

STORE_BYTES = 80 * 2**20
"""Object store of each node: about the least that Ray takes, so that long texts are more than it holds."""
ADOPT_ORPHANS = 36
"""Linux's PR_SET_CHILD_SUBREAPER."""
RAYS_OWN = (
    "ray::IDLE",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "ray::_",
    "ray::ActorLocationTracker",
    "ray::AutoscalingRequester",
)
"""Titles of processes that Ray keeps: idle workers, agents, and the counting actors of Ray Data."""
DRAIN_S = 20
PREEMPTED = 2
"""Ray's DRAIN_NODE_REASON_PREEMPTION."""


class PoolCluster:
    """The program's other end. Not thread-safe."""

    def __init__(self, environment: dict[str, str]):
        """`environment`: of every process of the cluster, and what its drivers need."""
        self.environment = environment
        command = [sys.executable, __file__]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._program = subprocess.Popen(command, env=environment, text=True, **pipes)
        self.address = self._answer()
        self.everything = self._processes()
        """Every process that was ever seen here."""

    def add(self, pool: str) -> None:
        """A node with the label steer-pool=`pool`."""
        self._ask("add", pool)

    def lose(self, pool: str) -> None:
        """The node of a pool is gone from one moment to the next, with all that runs on it."""
        self._ask("lose", pool)

    def drain(self, pool: str) -> None:
        """The node of a pool is announced to go within `DRAIN_S`, as a spot instance is."""
        self._ask("drain", pool)

    def working(self) -> list[psutil.Process]:
        """Processes of the cluster that belong to a run: actors and tasks, but not Ray's own and idle workers."""
        self.everything |= self._processes()
        titles = {process: _title(process) for process in self.everything}
        return [p for p, title in titles.items() if title.startswith("ray::") and not title.startswith(RAYS_OWN)]

    def close(self) -> list[psutil.Process]:
        """Ends the cluster; returns the processes that are still there."""
        self.everything |= self._processes()
        self._program.stdin.close()
        self._program.wait(60)
        return psutil.wait_procs(self.everything, timeout=20)[1]

    def _processes(self) -> set[psutil.Process]:
        return set(psutil.Process(self._program.pid).children(recursive=True))

    def _ask(self, what: str, pool: str) -> None:
        self.everything |= self._processes()
        print(what, pool, file=self._program.stdin, flush=True)
        self._answer()

    def _answer(self):
        line = self._program.stdout.readline()
        assert line, "the cluster's program has ended"
        return json.loads(line)


def _title(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


# --- the program ----------------------------------------------------------------------------------------------------


class _Nodes:
    def __init__(self, folder: str):
        import ray._private.utils as addresses
        from ray.cluster_utils import Cluster

        # Else `ray.init()` of every other process on this machine would find this cluster.
        addresses.write_ray_address = addresses.reset_ray_address = lambda *_: None
        health = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_timeout_ms": 5000,  # a machine with work to do may be slow to answer
            "health_check_failure_threshold": 3,
        }
        self._all = {"include_dashboard": False, "num_cpus": 1, "object_store_memory": STORE_BYTES}
        head = {**self._all, "temp_dir": folder, "labels": {"steer-pool": "cpu"}, "_system_config": health}
        self._cluster = Cluster(True, head_node_args=head)
        self._nodes: dict[str, list] = {}
        for pool in ("small", "large"):
            self.add(pool)

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self, pool: str) -> None:
        self._nodes.setdefault(pool, []).append(self._cluster.add_node(**self._all, labels={"steer-pool": pool}))

    def lose(self, pool: str) -> None:
        node = self._nodes[pool].pop(0)
        (raylet,) = node.all_processes["raylet"]
        for process in [psutil.Process(raylet.process.pid), *psutil.Process(raylet.process.pid).children(True)]:
            process.send_signal(signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)

    def drain(self, pool: str) -> None:
        import ray

        gcs = ray._raylet.GcsClient(address=self.address)
        deadline_ms = int((time.time() + DRAIN_S) * 1000)
        assert gcs.drain_node(self._nodes[pool][0].node_id, PREEMPTED, "spot", deadline_ms)[0]

    def close(self) -> None:
        self._cluster.shutdown()


def main() -> None:
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C for the tests ends this by its standard input
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints is no answer
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short, since sockets lie in it
    nodes = _Nodes(folder)
    try:
        print(json.dumps(nodes.address), file=answers, flush=True)
        for line in sys.stdin:
            what, pool = line.split()
            getattr(nodes, what)(pool)
            print(json.dumps("done"), file=answers, flush=True)
    finally:
        nodes.close()
        for orphan in psutil.Process().children(recursive=True):
            orphan.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
