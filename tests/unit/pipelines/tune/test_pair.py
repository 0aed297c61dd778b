"""What `steer tune CONFIG` runs besides the prefix table."""

import pytest
from prefix_tables import made_table

from pipelines.tune.pair import HAND_BACK_LEVELS, Tuning, _to_run
from steer.config.run import RunConfig
from steer.plans.candidates import search
from steer.plans.knobs import Knob

KNOB = Knob(name="budget", value=0.6)


@pytest.fixture(scope="module")
def candidates():
    return search(made_table(120, seed=8), 3)


def test_levels_that_return_traces_are_those_of_one_policy_spread_over_its_costs(candidates):
    (run,) = _to_run(RunConfig(pair="simulated"), KNOB, candidates, Tuning(hands_back=True)).values()
    policies = [variant.settings()[0][1] for variant in run]
    assert 2 <= len(policies) <= HAND_BACK_LEVELS and all(policy.hands_back for policy in policies)
    assert len({policy.thresholds for policy in policies}) == len(policies)
    assert len({(policy.measure, policy.aggregate, policy.so_far, policy.refine) for policy in policies}) == 1


def test_a_probe_is_run_where_the_pair_has_one(candidates):
    assert set(_to_run(RunConfig(), KNOB, candidates, Tuning())) == {"query_router"}
    assert _to_run(RunConfig(pair="simulated"), KNOB, candidates, Tuning()) == {}
