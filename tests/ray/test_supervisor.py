"""A run whose router dies goes on from its journal, in the same process or in another."""

import threading
from functools import partial

import pytest
import ray
from held_rows import held
from test_router import TIMING

from pipelines.run.cells import Cell
from pipelines.run.evaluate import evaluate
from pipelines.run.session import session
from pipelines.run.supervisor import Supervisor, lost
from steer.benchmarks import BenchmarkRow
from steer.config.pairs import load_pair
from steer.config.policy import SteerPolicy
from steer.config.run import PoolConfig, PoolsConfig, RoutingOptions
from steer.storage.run_folder import RunFolder
from steer.traces import Question

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

N = 60
REREAD = {"prefill_small", "prefill_large", "flops_full"}
"""What a new replica reads again of the traces it goes on with is computed, and charged."""


def simulated(**options):
    pair = load_pair("simulated")
    models = {name: getattr(pair, name).model_copy(update={"engine": options}) for name in ("small", "large")}
    return pair.model_copy(update=models)


def cell():
    rows = [BenchmarkRow(Question(f"q{i:03d}", 0, "made_up", f"question {i}", "7", "math")) for i in range(N)]
    rows.append(BenchmarkRow(Question("bad", 0, "made_up", "", "7", "math"), "own.jsonl row 61: no question"))
    policy = SteerPolicy(preset="stepwise", fit_from="bank")
    return Cell("cell", policy, RoutingOptions(), held(rows), "all")


def start(run, replicas=1, steps=5, **options):
    pool = PoolConfig(replicas=replicas, cpus=0.1)
    return partial(
        session,
        simulated(steps=steps, **options),
        PoolsConfig(small=pool, large=pool),
        policies=[],
        journal=run.journal,
    )


def rows_of(run, table, leave_out=()):
    rows = run.read(table).drop_columns([name for name in run.read(table).column_names if name in leave_out])
    return [repr(row) for row in rows.to_pylist()]


def test_a_router_that_is_killed_in_mid_run_costs_no_row_and_changes_no_answer(tmp_path):
    runs = {name: RunFolder.create(tmp_path / name, "run", {}, [0]) for name in ("whole", "killed")}
    with start(runs["whole"])() as opened:
        evaluate([cell()], opened.routers, runs["whole"])

    run, kills = runs["killed"], []

    def work(cells, opened, run):
        def kill():
            while not kills and run.read("traces").num_rows <= N // 4:
                stop.wait(0.05)
            kills.append(opened.router)
            ray.kill(opened.router)

        stop = threading.Event()
        if not kills:
            threading.Thread(target=kill, daemon=True).start()
        evaluate(cells, opened.routers, run)

    with Supervisor(run, start(run, step_s=0.25)) as supervisor:
        supervisor.evaluate([cell()], work)
    assert len(kills) == 1
    assert run.read("traces")["trace_id"].to_pylist() == runs["whole"].read("traces")["trace_id"].to_pylist()
    steps = run.read("steps", columns=["trace_id", "step", "attempt"]).to_pylist()
    assert len({tuple(row.values()) for row in steps}) == len(steps)
    for table in ("traces", "steps", "mixtures"):
        assert rows_of(run, table, TIMING | REREAD) == rows_of(runs["whole"], table, TIMING | REREAD)


def test_a_run_goes_on_in_another_process_on_other_pools(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    with start(run, step_s=0.25)() as opened:
        pipeline = threading.Thread(target=_until_killed, args=(opened.routers, run), daemon=True)
        pipeline.start()
        while run.read("traces").num_rows <= N // 4:
            pipeline.join(0.05)
        ray.kill(opened.router)
        pipeline.join(60)
    before = set(run.read("traces")["trace_id"].to_pylist())
    assert N // 4 < len(before) < N
    run.clean()
    with start(run, replicas=3)() as opened:
        evaluate([cell()], opened.routers, run)
        stats = opened.stats()
        assert stats.done == stats.total == N + 1 - len(before | {"bad#0"})
        assert stats.live == stats.queued == 0
    assert sorted(run.read("traces")["trace_id"].to_pylist()) == sorted([f"q{i:03d}#0" for i in range(N)] + ["bad#0"])
    run.finish()
    assert not (tmp_path / "run" / "journal").exists()


def _until_killed(routers, run):
    try:
        evaluate([cell()], routers, run)
    except Exception as failure:
        assert lost(failure)


def test_a_run_that_gets_nowhere_is_given_up(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    lives_lived = []

    def work(cells, opened, run):
        lives_lived.append(opened.router)
        ray.kill(opened.router)
        while True:  # a call may still get through
            ray.get(opened.router.stats.remote())

    with pytest.raises(ray.exceptions.RayActorError), Supervisor(run, start(run)) as supervisor:
        supervisor.evaluate([cell()], work)
    assert len(lives_lived) == 3
