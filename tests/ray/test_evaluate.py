"""The pipeline on a local Ray, with a router that needs no engines."""

import json
import threading

import duckdb
import fake_router
import pandas as pd
import pytest
import ray
from fake_router import LOSE, WAIT, WRONG, CpuHolder, FakeRouter
from held_rows import held
from patience import PATIENCE_S

from pipelines.run.cells import Cell
from pipelines.run.evaluate import evaluate
from pipelines.run.ingest import ingest
from pipelines.run.routers import Routers
from steer.benchmarks import BenchmarkRow, reading
from steer.config.policy import SmallPolicy, SteerPolicy
from steer.config.run import BenchmarkConfig, RoutingOptions
from steer.storage.run_folder import RunFolder
from steer.traces import Question

# Ray's workers look for modules in the working directory, not in pytest's path.
ray.cloudpickle.register_pickle_by_value(fake_router)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
STEPWISE = SteerPolicy(preset="stepwise")


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run", "run", {"seed": 0}, [0])


@pytest.fixture
def router():
    handle = FakeRouter.remote()
    yield handle
    ray.kill(handle)


def rows(prompts, **question):
    return held(
        [
            BenchmarkRow(Question(f"q{i:03d}", 0, "made_up", p, str(i), "math", **question))
            for i, p in enumerate(prompts)
        ]
    )


def test_own_data_with_bad_rows_becomes_tables_that_others_can_read(tmp_path, run, router):
    path = tmp_path / "own.jsonl"
    data = [{"q": WRONG if i % 5 == 0 else "fine", "a": str(i)} for i in range(30)]
    del data[7]["a"]
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    own = BenchmarkConfig(source=str(path), question="q", answer="a", grader="math", split="all", samples=2)
    benchmark, first = ingest(reading(own)), ingest(reading(own.model_copy(update={"limit": 5})))
    routing = RoutingOptions(groups_in_flight=2)
    cells = [
        Cell("steer/seed1", STEPWISE, routing, benchmark.rows, benchmark.tokens, seed=1, groups=4),
        Cell("small/seed2", SmallPolicy(), routing, first.rows, first.tokens, seed=2),
    ]
    evaluate(cells, Routers((router,)), run)

    traces = run.read("traces").to_pandas()
    admitted = {(cell.name, trace_id) for cell in cells for trace_id in cell.rows.trace_ids.to_pylist()}
    assert len(traces) == len(admitted) == 70
    assert set(zip(traces.cell, traces.trace_id, strict=True)) == admitted
    bad = traces[traces.status == "error"]
    assert set(bad.trace_id) == {"8#0", "8#1"}
    assert set(bad.rule) == {"error"}
    assert "own.jsonl row 8" in bad.error.iloc[0]
    right = (traces.status == "answered") & ((traces.question_id.astype(int) - 1) % 5 > 0)
    assert list(traces.correct) == list(right)

    # Read back by others, as docs/tables.md shows it.
    query = "select cell, count(*), count(distinct trace_id) from '{}' group by cell order by cell"
    counts = duckdb.sql(query.format(f"{run.root}/traces/*.parquet")).fetchall()
    assert counts == [("small/seed2", 10, 10), ("steer/seed1", 60, 60)]
    steps = pd.read_parquet(f"{run.root}/steps")
    assert len(steps) == 68
    assert set(zip(steps.cell, steps.trace_id, strict=True)) < admitted
    assert set(steps.max_prob_small) == {0.9}
    assert steps.max_prob_large.isna().all()
    mixtures = run.read("mixtures").to_pandas()
    assert set(zip(mixtures.cell, mixtures.group_id, strict=True)) == {
        ("small/seed2", "small/seed2/000"),
        *(("steer/seed1", f"steer/seed1/{number:03d}") for number in range(4)),
    }

    seen = ray.get(router.seen.remote())
    assert seen["expected"] == 68
    assert {(job.cell, job.policy.name, job.seed) for job in seen["jobs"]} == {
        ("steer/seed1", "steer", 1),
        ("small/seed2", "small", 2),
    }


def test_groups_run_together_and_finished_traces_are_committed_while_they_run_on_no_free_cpu(run, router):
    engine = CpuHolder.options(num_cpus=ray.cluster_resources()["CPU"]).remote()
    ray.get(engine.ready.remote())
    prompts = [WAIT if i % 4 == 0 else "fine" for i in range(40)]
    cell = Cell("c", STEPWISE, RoutingOptions(groups_in_flight=3), rows(prompts), "math", groups=3)
    pipeline = threading.Thread(target=evaluate, args=([cell], Routers((router,)), run), daemon=True)
    pipeline.start()
    # Nothing lets the waiting traces go before the others are committed: a pipeline that holds those back never ends.
    for _ in range(5 * PATIENCE_S):
        pipeline.join(0.2)
        if run.read("traces").num_rows == 30:
            break
    assert run.read("traces").num_rows == 30
    assert ray.get(router.seen.remote())["in_flight"] == 3
    ray.get(router.release.remote())
    pipeline.join(PATIENCE_S)
    assert not pipeline.is_alive()
    assert run.read("traces")["question_id"].to_pylist() == [
        trace_id[:-2] for trace_id in cell.rows.trace_ids.to_pylist()
    ]
    ray.kill(engine)


def test_more_groups_than_in_flight_wait_their_turn(run, router):
    cell = Cell("c", STEPWISE, RoutingOptions(groups_in_flight=2), rows(["fine"] * 24), "math", groups=8)
    evaluate([cell], Routers((router,)), run)
    assert run.read("traces").num_rows == 24
    seen = ray.get(router.seen.remote())
    assert len(seen["jobs"]) == 8
    assert seen["most"] <= 2


def test_many_small_commits_end_as_one_file_a_table(run, router):
    cell = Cell("c", STEPWISE, RoutingOptions(groups_in_flight=4), rows(["fine"] * 40), "math", groups=20)
    evaluate([cell], Routers((router,)), run)
    assert [len(run.parts(table)) for table in ("traces", "steps", "mixtures")] == [2, 2, 2]
    assert run.read("traces").num_rows == run.read("steps").num_rows == 40
    assert run.finished_cells() == {"c"}


def test_a_run_takes_further_cells_and_routes_no_committed_trace_again(run, router):
    cell = Cell("a", SmallPolicy(), RoutingOptions(), rows(["fine"] * 3), "all")
    evaluate([cell], Routers((router,)), run)
    evaluate([Cell("b", SmallPolicy(), RoutingOptions(), rows(["fine"] * 3), "all")], Routers((router,)), run)
    assert run.read("traces", columns=["cell"])["cell"].to_pylist() == ["a"] * 3 + ["b"] * 3
    evaluate([cell], Routers((router,)), run)
    assert run.read("traces").num_rows == 6
    assert len(ray.get(router.seen.remote())["jobs"]) == 2


def test_a_router_that_loses_a_trace_stops_the_run_by_name(run, router):
    cell = Cell("c", SmallPolicy(), RoutingOptions(), rows(["fine", LOSE, "fine"]), "all")
    with pytest.raises(Exception, match="q001#0"):
        evaluate([cell], Routers((router,)), run)
