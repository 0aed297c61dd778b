"""Policies that route by a signal, whole: the pair and three models that signal, through Ray Data to Parquet."""

import numpy as np
import pytest

from pipelines.run.cells import Cell
from pipelines.run.evaluate import evaluate
from pipelines.run.ingest import ingest
from pipelines.run.session import cluster, session
from steer.benchmarks import reading
from steer.config.check import needed_roles
from steer.config.pairs import load_pair
from steer.config.policy import QueryRouterPolicy, RsdPolicy, SmallPolicy, SpecReasonPolicy
from steer.config.run import BenchmarkConfig, PoolsConfig, RoutingOptions
from steer.storage.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.engine]

QUESTIONS = 40


def test_rewards_verdicts_and_prospects_route_a_run_and_are_charged(tmp_path):
    pair, routing = load_pair("embedded"), RoutingOptions(max_steps=20)
    policies = [SmallPolicy(), RsdPolicy(), SpecReasonPolicy(), QueryRouterPolicy()]
    roles = needed_roles(policies, pair)
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    with cluster(engines=len(roles)), session(pair, PoolsConfig(), roles=roles) as opened:
        plan = reading(BenchmarkConfig(name="chain_math", split="validation", limit=QUESTIONS))
        benchmark = ingest(plan)
        cells = [Cell(p.name, p, routing, benchmark.rows, benchmark.tokens) for p in policies]
        evaluate(cells, opened.routers, run)
        parameters = {role.label: info.parameters for role, info in opened.infos.items()}
    traces = run.read("traces").to_pandas()
    assert (traces.status != "error").all() and len(traces) == len(policies) * QUESTIONS
    accuracy = traces.groupby("cell").correct.mean()
    assert (accuracy.drop("small") > accuracy["small"] + 0.25).all(), accuracy
    signalled = traces[traces.cell != "small"]
    assert (signalled.flops_signal > 0).all()
    assert (signalled.flops_full > signalled.flops_paper + signalled.flops_signal).all()
    steps = run.read("steps").to_pandas()
    for cell, most, threshold in (("rsd", 1, RsdPolicy().threshold), ("spec_reason", 9, SpecReasonPolicy().threshold)):
        drafts = steps[(steps.cell == cell) & (steps.attempt == 0)]
        assert drafts.signal.between(0, most).all() and (drafts.model == "small").all()
        # Every draft below the threshold was written again, no other was.
        rewritten = steps[(steps.cell == cell) & (steps.attempt > 0)]
        assert (rewritten.model == "large").all() and len(rewritten) == (drafts.signal < threshold).sum() > 0
    probed = steps[steps.cell == "query_router"]
    assert probed.signal.between(0, 1).all()
    assert ((probed.signal >= 0.5) == (probed.model == "small")).all()
    # The probe tells levels apart: levels 1 and 2 are the small model's, 3 and 4 the large one's.
    routed = traces[traces.cell == "query_router"].copy()
    share_large = (routed.tokens_large > 0).groupby(routed.difficulty.astype(int) > 2).mean()
    assert share_large[True] > 0.8 > 0.2 > share_large[False]
    assert np.isclose(parameters["query"], parameters["small"])
