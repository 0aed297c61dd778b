"""What a run must survive: nodes, processes and disks that fail in the middle of it, and input that is broken.

`steer run` as a process, on a cluster of its own whose nodes come and go, with simulated engines. After every scenario
the same holds (`Run.ended`): each question has exactly one row, every part can be read, each trace's steps and its
group's mixtures are there, and no process of the run is left. docs/reliability.md has the list.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import fsspec
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from paths import ROOT
from patience import PATIENCE_S
from pool_cluster import PoolCluster
from quota_filesystem import READ_ONLY, SCHEME, QuotaFileSystem, install

from steer.events import What
from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray

PROGRAM = [sys.executable, str(Path(__file__).with_name("talkative_steer.py"))]
N = 24
"""Questions of a run, where a scenario has no reason for another number."""

fsspec.register_implementation(SCHEME, QuotaFileSystem, clobber=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The head, and a node for each pool. What a scenario loses, it puts back."""
    package = tmp_path_factory.mktemp("package")
    install(package)
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", package)))
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    cluster = PoolCluster(environment | {"PYTHONPATH": paths})
    yield cluster
    assert cluster.close() == []


@pytest.fixture
def runs(cluster, tmp_path):
    """Makes `Run`s; none outlives its test."""
    made = []

    def make(**options):
        made.append(Run(cluster, tmp_path, **options))
        return made[-1]

    yield make
    for run in made:
        run.kill()


class Run:
    """One `steer run`, begun or gone on with, in `folder`/run."""

    def __init__(
        self,
        cluster,
        folder,
        questions=N,
        out=None,
        engine=None,
        pools=None,
        small=None,
        groups=1,
        prompt="{}",
        broken=None,
        resume=False,
        gated=False,
    ):
        """`engine`: options of the simulated engines; `pools`: of both pools, `small`: of the small one; `broken`:
        the question without answer; `gated`: no trace ends before `release`, however long a scenario takes."""
        self.cluster, self.folder = cluster, folder
        self.out = out or str(folder / "run")
        self.asked = [f"q{i:03d}#0" for i in range(questions)]
        self._log = folder / "log"
        self._said = folder / f"said-{len(list(folder.glob('said-*')))}"
        self._said.touch()
        self._may_end = folder / "may-end"
        texts = [prompt.format(f"question {i:03d}") for i in range(questions)]
        rows = [{"id": f"q{i:03d}", "question": text, "answer": "7"} for i, text in enumerate(texts)]
        if broken is not None:
            del rows[broken]["answer"]
        (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = {"steps": 5, "exact": True, "step_s": 0.2, "log": str(self._log), **(engine or {})}
        options |= {"end_mark": str(self._may_end)} if gated else {}
        model = {"parameters": 1e6, "engine": options}
        pool = {"cpus": 0.1, **(pools or {})}
        names = {"source": str(folder / "own.jsonl"), "question": "question", "answer": "answer", "id": "id"}
        self.config = {
            "benchmark": {"name": "own", "split": "all", "grader": "math", "groups": groups, **names},
            "pair": {"small": {"path": "simulated:small", **model}, "large": {"path": "simulated:large", **model}},
            "policy": {"name": "steer", "preset": "stepwise"},
            "routing": {"max_steps": 10_000, "max_new_tokens": 100_000},
            "pools": {"small": {**pool, "label": "small", **(small or {})}, "large": {**pool, "label": "large"}},
        }
        self._process = None
        self._folder_option = "--resume" if resume else "--out"

    def start(self):
        (self.folder / "run.yaml").write_text(yaml.safe_dump(self.config))
        environment = self.cluster.environment | {"RAY_ADDRESS": self.cluster.address}
        command = [*PROGRAM, "run", str(self.folder / "run.yaml"), self._folder_option, self.out]
        with open(self._said, "w") as said:
            streams = {"stdout": subprocess.DEVNULL, "stderr": said}
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, **streams)
        return self

    def until(self, true):
        """Returns when `true()`, with its value; fails if the run ends first."""
        for _ in range(PATIENCE_S * 10):
            if value := true():
                return value
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
                pytest.fail(f"the run ended by itself, with {self._process.returncode}: {self.said}")
        pytest.fail(f"waited in vain: {self.said}")

    def steps_begun(self):
        """How often an engine was asked to write a step."""
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0

    def until_busy(self, steps=2 * N):
        """Until so many steps were begun: all traces are live, none has ended."""
        self.until(lambda: self.steps_begun() >= steps)

    def until_more(self, steps=2 * N):
        """Until so many further steps were begun."""
        self.until_busy(self.steps_begun() + steps)

    def release(self):
        """Let the traces of a gated run end."""
        self._may_end.touch()

    @property
    def said(self):
        return self._said.read_text()

    def wait(self):
        """The exit code."""
        return self._process.wait(PATIENCE_S)

    def code(self):
        """The exit code; afterwards nothing of the run is left on the cluster."""
        code = self.wait()
        for _ in range(PATIENCE_S * 10):
            left = self.cluster.working()
            if not left:
                break
            psutil.wait_procs(left, timeout=0.1)
        assert left == []
        return code

    def ended(self, errors=()):
        """Ended well; `errors`: the traces that must have ended as error rows, and no others."""
        assert self.code() == 0, self.said
        rows = self.rows()
        assert sorted(rows) == self.asked
        assert {i for i, row in rows.items() if row["status"] == "error"} == set(errors)
        engines = RunFolder.open(self.out).describe()["engines"]
        assert engines["replaced_replicas"] == self.events()[What.DIED]
        return engines

    def rows(self):
        """Traces by id: each once, every part of every table readable, each trace's steps and mixtures there."""
        run = RunFolder.open(self.out)
        files, path = fsspec.core.url_to_fs(self.out)
        for part in files.find(path):
            assert "/." not in part.removeprefix(path) or "/journal/" in part, "half-written"
            if part.endswith(".parquet"):
                pq.read_table(files.open(part))
        traces = run.read("traces").to_pylist()
        rows = {row["trace_id"]: row for row in traces}
        assert len(rows) == len(traces)
        kept = Counter(s["trace_id"] for s in run.read("steps").to_pylist() if s["decision"] != "rewrite")
        answered = [row for row in traces if row["status"] != "error"]
        assert all(kept[row["trace_id"]] == row["steps"] > 0 for row in answered)
        assert {row["group_id"] for row in answered} <= {row["group_id"] for row in run.read("mixtures").to_pylist()}
        return rows

    def events(self):
        """How often each kind of event is in the table. Every death is on standard error too."""
        table = RunFolder.open(self.out).read_events().to_pylist()
        for row in table:
            if row["what"] == What.DIED:
                assert row["reason"] and row["time"].tzinfo is not None
                assert f"steer: {row['replica']} died and is replaced (node {row['node'][:8]})" in self.said
        return Counter(row["what"] for row in table)

    def writers(self):
        """Steps by the replica that wrote them."""
        return Counter(step["replica"] for step in RunFolder.open(self.out).read("steps").to_pylist())

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()


# --- nodes ----------------------------------------------------------------------------------------------------------


def test_lost_announced_and_missing_nodes_cost_no_row(cluster, runs):
    """Three scenarios in one run: a lost node, a preemption notice, and a pool that is gone with its node."""
    cluster.add("small")
    run = runs(gated=True, small={"replicas": 2, "cpus": 0.6}).start()  # of a node's one CPU: a replica on each
    run.until_busy()

    cluster.lose("small")
    cluster.add("small")
    run.until_more()

    cluster.add("small")  # for the successor of the replica on the node that is announced to go
    replicas = set(simulated(cluster))
    cluster.drain("small")
    run.until(lambda: not replicas >= set(simulated(cluster)))
    run.until_more(4 * N)

    cluster.lose("large")
    run.until(lambda: "waits for a node with" in run.said and "steer-pool=large" in run.said)
    cluster.add("large")
    run.until_more()

    run.release()
    assert run.ended()["replaced_replicas"] == 2, "the replica on the announced node did not leave by itself"
    events = run.events()
    # Each of the first three replicas, and a successor of each that was lost or left.
    assert (events[What.DRAINED], events[What.LOADED]) == (1, 6)
    assert run.writers()["small-0"] > 0 < run.writers()["small-1"]
    for _ in range(2):
        cluster.lose("small")


def simulated(cluster):
    """The processes of simulated replicas."""
    return [process for process in cluster.working() if "SimulatedReplica" in process.name()]


def test_a_run_that_two_drivers_work_on_is_the_later_one_s(runs):
    first = runs(engine={"steps": 16}).start()
    first.until_busy()
    second = runs(engine={"steps": 16}, out=first.out, resume=True).start()
    assert first.wait() == 1
    assert "has gone on with" in first.said and "Traceback" not in first.said
    second.ended()
    assert "may still work on" in second.said


# --- replicas -------------------------------------------------------------------------------------------------------


def test_slow_and_hung_replicas_cost_no_row(cluster, runs):
    """Two scenarios in one run: a replica ten times slower than its peer, and one that hangs."""
    slow = {"engine": {"slow": "small-1"}, "small": {"replicas": 2}}
    run = runs(gated=True, pools={"step_timeout_s": 10}, **slow).start()
    run.until_busy(10 * N)
    hung = simulated(cluster)[0]
    hung.send_signal(signal.SIGSTOP)
    assert psutil.wait_procs([hung], timeout=PATIENCE_S)[1] == [], "the stopped process is still there"
    run.until_more()
    run.release()
    assert run.ended()["replaced_replicas"] == 1
    assert run.writers()["small-1"] < run.writers()["small-0"]


def test_a_trace_on_which_the_replica_always_dies_is_one_error_row(runs):
    run = runs(questions=4, engine={"poison": "question 002", "step_s": 0.0}).start()
    run.ended(errors=["q002#0"])
    assert "3 times" in run.rows()["q002#0"]["error"]


# --- disks ----------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_stops_the_run_with_one_message_and_it_goes_on_when_there_is_room(runs, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    run = runs(out=f"{SCHEME}://{disk}/run").start()
    run.until_busy()
    (disk / ".quota").write_text("0")
    assert run.code() == 1
    told = [line for line in run.said.splitlines() if not line.startswith("[") and " is loaded (node " not in line]
    assert len(told) == 1 and "Traceback" not in run.said, run.said
    for part in (f"{run.out}/", "No space left on device", "free space", f"steer run --resume {run.out}"):
        assert part in told[0]
    before = set(run.rows())
    assert before < set(run.asked)
    (disk / ".quota").unlink()
    runs(out=run.out, resume=True).start().ended()


def test_a_read_only_output_is_said_before_a_model_is_loaded(runs, tmp_path):
    (tmp_path / ".quota").write_text(READ_ONLY)
    run = runs(out=f"{SCHEME}://{tmp_path}/run").start()
    assert run.code() == 2
    assert run.said.count("\n") == 1 and run.out in run.said and "choose another --out" in run.said
    assert run.steps_begun() == 0 and not (tmp_path / "run").exists()


# --- input and memory -----------------------------------------------------------------------------------------------


def test_texts_beyond_the_object_stores_and_a_broken_row_among_them_are_one_row_each(runs):
    texts = {"questions": 100, "prompt": "{} " + "x" * 10**6, "broken": 3}
    run = runs(**texts, groups=2, engine={"step_s": 0.0, "steps": 3}).start()
    run.ended(errors=["q003#0"])
    assert "row 4" in run.rows()["q003#0"]["error"]
