"""The loop over engines that take their time: every trace is written as long as it is told, and shares are shares."""

import pytest
import ray

from actors.router.router import Job, Router
from actors.simulated.timed import TimedReplica
from pipelines.bench.loop import LARGE_ALONE, MODES, ROLLING, STRICT, Mode, pair, take_turns
from pipelines.bench.router import made_up_questions
from steer.config.policy import RandomStepPolicy, SmallPolicy, SteerPolicy
from steer.config.run import PoolConfig, PoolsConfig, RoutingOptions

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

LENGTHS = [[3, 1, 4], [1], [5, 9, 2, 6]]
POOLS = PoolsConfig(small=PoolConfig(cpus=0.01), large=PoolConfig(cpus=0.01))
TOKENS = {tuple(steps) for steps in LENGTHS}


@pytest.fixture(scope="module")
def router(local_ray):
    handle = ray.remote(Router).options(num_cpus=0).remote(pair(LENGTHS), POOLS, TimedReplica)
    ray.get(handle.start.remote())
    yield handle
    ray.get(handle.close.remote())
    ray.kill(handle)


def test_every_mode_routes_and_its_shares_are_shares(router):
    rows = take_turns(router, POOLS, MODES, live=16, turns=2)
    assert [row["mode"] for row in rows] == [mode.name for mode in MODES]
    for row in rows:
        for role in ("small", "large"):
            assert 0 <= row[f"{role}_idle_waiting"] <= row[f"{role}_idle"] <= 1
        assert 0 <= row["on_the_way"] <= 1 and 0 <= row["discarded"] < 1
        assert 0 < row["live"] <= 16 and row["turns"] == 2
    assert min(row["wall_vs_best"] for row in rows) == 1.0


def test_routed_modes_are_held_against_the_large_model_alone(router):
    four_groups = Mode("four groups", STRICT, RoutingOptions(groups_in_flight=4))
    large, strict, rolling = take_turns(router, POOLS, (LARGE_ALONE, four_groups, ROLLING), live=16, turns=1)
    assert large["wall_vs_large_alone"] == 1.0 and strict["wall_vs_large_alone"] > 0
    assert (large["large_steps"], large["small_idle"], large["discarded"]) == (1.0, 1.0, 0.0)
    for row in (strict, rolling):
        assert 0 < row["large_steps"] < 1 and row["small_idle"] < 1
    (alone,) = take_turns(router, POOLS, (ROLLING,), live=16, turns=1)
    assert "wall_vs_large_alone" not in alone  # there is nothing to hold it against


def routed(router, policy, **routing):
    job = Job(f"{policy} {routing}", "g", policy, RoutingOptions(**routing), "all", 0)
    stream = router.route.options(num_returns="streaming").remote(
        made_up_questions([f"q{i}" for i in range(12)], "math"), job
    )
    return [row for ref in stream for row in ray.get(ref).to_pylist()]


def kept(row):
    return tuple(step["tokens"] for step in row["step_rows"] if step["accepted"])


def test_steps_are_as_long_as_the_file_says_whoever_writes_them(router):
    for policy in (RandomStepPolicy(p=0.5), SteerPolicy(preset="stepwise")):
        rows = routed(router, policy)
        assert len(rows) == 12 and {row["status"] for row in rows} == {"answered"}
        assert {kept(row) for row in rows} == TOKENS


def test_a_pass_writes_the_rest_of_the_trace(router):
    ahead, whole = routed(router, SteerPolicy()), routed(router, SmallPolicy())
    assert {sum(kept(row)) for row in ahead} == {sum(kept(row)) for row in whole} == {sum(t) for t in TOKENS}
    assert {len(row["step_rows"]) for row in whole} == {1}


def test_a_pass_comes_back_behind_the_step_that_reaches_its_tokens(router):
    whole = routed(router, SmallPolicy(), pass_tokens=4)
    assert {kept(row) for row in whole} == {(3 + 1, 4), (1,), (5, 9, 2 + 6)}
    ahead = routed(router, SteerPolicy(preset="stepwise", ahead=True, gamma=0.0), pass_tokens=4)
    assert {kept(row) for row in ahead} == TOKENS
    assert {row["tokens_discarded"] for row in ahead} == {0}


def test_a_trace_ends_at_its_budget(router):
    rows = routed(router, RandomStepPolicy(p=0.0), max_new_tokens=4)
    assert {row["status"] for row in rows if sum(kept(row)) == 4 and len(kept(row)) > 1} == {"length"}
    assert max(row["tokens_small"] for row in rows) == 4


def test_engines_are_never_busy_for_longer_than_the_run(router):
    routed(router, SteerPolicy(preset="stepwise", fit_from="bank"), barrier="rolling")
    stats = ray.get(router.stats.remote())
    lived_s = sum(stats.trace_s.values())
    assert 0 < sum(stats.busy_s.values()) <= 2 * lived_s
    assert sum(stats.row_s.values()) <= stats.trace_s["out"] <= lived_s
