"""`steer bench router`: what its options take, and that its replica writes what a run writes."""

from types import SimpleNamespace

import pytest

from pipelines.bench.prompt_replies import STEP_TOKENS, STEPS, PromptReplies
from pipelines.bench.router import WAYS, read_options
from steer.config.load import SettingsError
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import Op, Prompt, Sampling, StepBatch
from steer.traces import MEASURES, Finish


def test_options_are_lists_of_numbers_and_names():
    assert read_options("1000,20", "small,steer", 2) == {
        "live": [1000, 20],
        "policies": ["small", "steer"],
        "routers": 2,
    }
    assert read_options() == {"routers": 1}


@pytest.mark.parametrize("live", ["", "10,", "0", "ten", "-5", "1e3"])
def test_what_is_no_number_of_traces_is_refused(live):
    with pytest.raises(SettingsError, match="no number of traces: give for example"):
        read_options(live)


def test_an_unknown_policy_is_refused_with_the_names_that_there_are():
    with pytest.raises(SettingsError, match="there is no 'larg', but .*stepwise_rolling"):
        read_options(policies="small,larg")
    assert len({(way.policy, way.routing) for way in WAYS.values()}) == len(WAYS)


def replica():
    return PromptReplies("small-0", ModelConfig(path="simulated"), PoolConfig(), MEASURES)


def batch(op, held, new, keys=("a", "b")):
    n = len(keys)
    seeds = [11 + i for i in range(n)]
    return StepBatch(Sampling(), list(keys), [int(op)] * n, seeds, [4096] * n, [held] * n, [new] * n)


def test_a_trace_ends_after_its_steps_whether_they_are_asked_for_one_by_one_or_at_once():
    by_step, ends = replica(), []
    results = by_step._answer(batch(Op.STEP, 0, (Prompt("q"),)))
    for step in range(1, STEPS):
        assert [len(ids) for ids in results.ids_R] == [STEP_TOKENS] * 2 == results.tokens_R
        ends += results.finish_R
        results = by_step._answer(batch(Op.STEP, step + 1, ()))
    assert set(ends) == {Finish.STEP} and set(results.finish_R) == {Finish.END}
    whole = replica()._answer(batch(Op.WHOLE, 0, (Prompt("q"),)))
    assert whole.finish_R == [Finish.END] * 2 and whole.tokens_R == [STEPS * STEP_TOKENS] * 2
    ahead = replica()._answer(batch(Op.AHEAD, 0, (Prompt("q"),)))
    assert [len(more) for more in ahead.more_R.values()] == [STEPS - 1] * 2
    assert {more[-1].finish for more in ahead.more_R.values()} == {Finish.END}


def test_a_prefix_that_it_does_not_hold_is_missing_and_a_dropped_one_too():
    model = replica()
    assert model._answer(batch(Op.STEP, 1, ())).finish_R == [Finish.MISSING] * 2
    model._answer(batch(Op.STEP, 0, (Prompt("q"),)))
    model._answer(SimpleNamespace(**{**vars(batch(Op.SCORE, 2, ())), "drop": ("a",)}))
    assert model._answer(batch(Op.STEP, 2, ())).finish_R == [Finish.MISSING, Finish.STEP]


def test_what_is_drawn_depends_on_the_seed_alone():
    first, second = (replica()._answer(batch(Op.STEP, 0, (Prompt("q"),))) for _ in range(2))
    assert first.text_R == second.text_R and first.ids_R == second.ids_R
    assert first.text_R[0] != first.text_R[1] and (first.scores_RS == second.scores_RS).all()
