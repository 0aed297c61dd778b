"""`steer bench router` routes what it says: every way, in groups of a run's size, through routers with a journal."""

import pytest

import pipelines.bench.router as bench
from pipelines.bench.prompt_replies import STEP_TOKENS, STEPS, PromptReplies
from pipelines.run.session import session
from steer.config.policy import SmallPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_every_way_has_a_row_for_each_number_of_traces(monkeypatch):
    monkeypatch.setattr(bench, "WARM_UP", 4)
    rows = bench.bench_router([16, 8], turns=1)
    assert [(row["policy"], row["live_traces"]) for row in rows] == [(name, n) for name in bench.WAYS for n in (16, 8)]
    for row in rows:
        assert row["trace_steps_per_s"] > 0 and row["us_in_journal"] > 0
    assert {row["cost_vs_first"] for row in rows if row["live_traces"] == 16} == {1.0}
    tokens = {row["policy"]: row["tokens_per_trace_step"] for row in rows}
    assert tokens["small"] == STEPS * STEP_TOKENS and tokens["random_step"] == STEP_TOKENS


def test_more_traces_than_a_group_takes_are_several_groups_dealt_to_all_routers(tmp_path, monkeypatch):
    routing = RoutingOptions(max_live=8, groups_in_flight=4)
    monkeypatch.setitem(bench.WAYS, "small", bench.Way(SmallPolicy(), routing))
    model = ModelConfig(path="simulated", parameters=1.0)
    pool = PoolConfig(cpus=0.01, replicas=2)
    pools = PoolsConfig(small=pool, large=pool, routers=2)
    with session(PairConfig(small=model, large=model), pools, PromptReplies, journal=str(tmp_path)) as started:
        turn = bench.run_turn(started, "small", 7, "0")
        assert turn.tokens == STEPS * STEP_TOKENS and turn.wall_s > 0
        assert started.stats().done == 7
