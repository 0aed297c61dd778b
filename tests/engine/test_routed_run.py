"""Whole runs on the embedded pair: real vLLM in two Ray pools, through Ray Data, to Parquet."""

import os
import signal
import threading

import pytest
import ray
from held_rows import held
from patience import PATIENCE_S

from pipelines.run.cells import Cell
from pipelines.run.evaluate import evaluate
from pipelines.run.session import cluster, session
from steer.benchmarks import load_benchmark
from steer.config.pairs import load_pair
from steer.config.policy import SteerPolicy
from steer.config.run import BenchmarkConfig, PoolsConfig, RoutingOptions
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import RUN_FIELDS

pytestmark = [pytest.mark.ray, pytest.mark.engine]

QUESTIONS = 48
TIMING = {"seconds", "fit_ms", "routing_seconds", *RUN_FIELDS.names}
CACHE = {"cached_tokens", "prompt_tokens", "prefill_small", "prefill_large", "flops_full", "replica"}
"""Differ when a replica starts with another prefix cache; never the answers."""


def routed(opened, folder, policy) -> RunFolder:
    benchmark = load_benchmark(BenchmarkConfig(name="chain_math", split="validation", limit=QUESTIONS))
    cell = Cell("cell", policy, RoutingOptions(), held(benchmark.rows), benchmark.tokens)
    run = RunFolder.create(folder, "run", {}, [0])
    evaluate([cell], opened.routers, run)
    return run


def rows(run, table, without):
    kept = [name for name in run.read(table).column_names if name not in without]
    return [repr(row) for row in run.read(table, columns=kept).to_pylist()]


STEPWISE = SteerPolicy(preset="stepwise")


def test_same_seed_same_tables_and_a_killed_replica_changes_no_answer(tmp_path):
    runs, ahead = [], []
    for name in ("first", "second"):
        with cluster(), session(load_pair("embedded"), PoolsConfig()) as opened:
            runs.append(routed(opened, tmp_path / name, STEPWISE))
            ahead.append(routed(opened, tmp_path / f"ahead {name}", SteerPolicy()))
            if name == "second":
                killed = _routed_while_killing(opened, tmp_path / "killed", opened.large.pid)
                assert opened.stats().replaced == 1
    first, second = runs
    for table in ("traces", "steps", "mixtures"):
        assert rows(first, table, TIMING) == rows(second, table, TIMING)
        assert rows(ahead[0], table, TIMING) == rows(ahead[1], table, TIMING)
    traces = first.read("traces").to_pylist()
    assert len(traces) == QUESTIONS and {t["status"] for t in traces} == {"answered"}
    assert {s["model"] for s in first.read("steps").to_pylist()} == {"small", "large"}
    assert rows(killed, "traces", TIMING | CACHE) == rows(first, "traces", TIMING | CACHE)


def _routed_while_killing(opened, folder, pid) -> RunFolder:
    """The same run, with a SIGKILL to one engine's process once its pool has rows out."""
    before = opened.stats()

    def kill():
        while opened.stats().steps_large == before.steps_large:
            pass  # each call waits for the router's answer
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run = routed(opened, folder, STEPWISE)
    killer.join(timeout=PATIENCE_S)
    assert ray.is_initialized()
    return run
