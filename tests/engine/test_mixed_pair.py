"""The pair of `mixed_chain`, whole: hard steps among easy ones are the large model's, and the small one goes on."""

import pytest

from pipelines.run.cells import Cell
from pipelines.run.evaluate import evaluate
from pipelines.run.ingest import ingest
from pipelines.run.session import cluster, session
from steer.benchmarks import reading
from steer.config.pairs import load_pair
from steer.config.policy import LargePolicy, SmallPolicy, SteerPolicy
from steer.config.run import BenchmarkConfig, PoolsConfig, RoutingOptions
from steer.embedded.tasks import HARD_OPERATIONS
from steer.storage.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.engine]

QUESTIONS = 48


def test_a_routed_run_gives_hard_steps_to_the_large_model_and_takes_the_trace_back(tmp_path):
    policies = [SmallPolicy(), LargePolicy(), SteerPolicy(preset="stepwise", refine="every")]
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    with cluster(), session(load_pair("embedded-mixed"), PoolsConfig()) as opened:
        benchmark = ingest(reading(BenchmarkConfig(name="mixed_chain", split="validation", limit=QUESTIONS)))
        cells = [Cell(p.name, p, RoutingOptions(), benchmark.rows, benchmark.tokens) for p in policies]
        evaluate(cells, opened.routers, run)
        parameters = {role.label: info.parameters for role, info in opened.infos.items()}
    assert parameters == {"small": 43_392, "large": 650_240}
    traces = run.read("traces").to_pandas()
    assert (traces.status == "answered").all() and len(traces) == len(policies) * QUESTIONS
    right = traces.groupby(["cell", "difficulty"]).correct.mean()
    assert right["large"].min() >= 0.9
    assert right["small", "1"] >= 0.9 > 0.6 > right["small", "2"] > right["small", "4"] - 0.2, right
    accuracy = traces.groupby("cell").correct.mean()
    assert accuracy["steer"] > accuracy["small"] + 0.2, accuracy

    steps = run.read("steps").to_pandas()
    kept = steps[(steps.cell == "steer") & steps.accepted].sort_values(["trace_id", "step"])
    by_large = kept.model == "large"
    hard = kept.text.str.split(" = ").str[0].isin(HARD_OPERATIONS)
    assert by_large[hard].mean() > by_large[~hard].mean() + 0.3
    # A trace that was handed back ends right, written by the small model.
    last = kept.groupby("trace_id").model.last()
    handed_back = last.index[(last == "small") & by_large.groupby(kept.trace_id).any()]
    answers = traces[(traces.cell == "steer") & traces.trace_id.isin(handed_back)]
    assert answers.correct.sum() >= 5
