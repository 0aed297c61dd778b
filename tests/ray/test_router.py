"""The loop over real Ray actors, with simulated replicas."""

import asyncio
import os

import pyarrow as pa
import pytest
import ray

from actors.router.router import Job, Router
from actors.simulated.instant import SimulatedReplica
from steer.config.policy import (
    FirstTokenEntropyPolicy,
    PercentilePolicy,
    QueryRouterPolicy,
    RandomQueryPolicy,
    RandomStepPolicy,
    RsdPolicy,
    SmallPolicy,
    SpecReasonPolicy,
    SteerPolicy,
)
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.storage.schemas import ROUTED_SCHEMA, RUN_FIELDS
from steer.traces import PAIR, Role

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

TIMING = {"seconds", "fit_ms", "routing_seconds", "replica", "cached_tokens", "prompt_tokens", *RUN_FIELDS.names}


def questions(n, prompt="question {}"):
    rows = [
        dict(
            id=f"q{i}",
            sample=0,
            benchmark="made_up",
            prompt=prompt.format(i),
            gold="7",
            grader="math",
            subset="",
            difficulty="1",
            labels="{}",
            system="",
        )
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows)


def start_router(replicas=1, small=None, large=None, roles=PAIR, **pool):
    config = PoolConfig(replicas=replicas, cpus=0.1, **pool)
    prm = ModelConfig(path="simulated-prm", parameters=1e8)
    pair = PairConfig(
        small=ModelConfig(path="simulated-small", parameters=1e6, engine=small or {}),
        large=ModelConfig(path="simulated-large", parameters=1e7, engine=large or {}),
        prm=prm,
        judge=prm,
        probe="a probe",
    )
    pools = PoolsConfig(**{role.label: config for role in Role})
    router = ray.remote(Router).options(num_cpus=0).remote(pair, pools, SimulatedReplica, roles)
    infos = ray.get(router.start.remote())
    return router, infos


@pytest.fixture
def routers():
    started = []

    def start(**options):
        router, infos = start_router(**options)
        started.append(router)
        return router, infos

    yield start
    for router in started:
        ray.get(router.close.remote())
        ray.kill(router)


@pytest.fixture(scope="module")
def whole_router(local_ray):
    """(router, infos) with two replicas at every role, for tests that leave it as it was."""
    router, infos = start_router(replicas=2, roles=tuple(Role))
    yield router, infos
    ray.get(router.close.remote())
    ray.kill(router)


def route(router, table, policy=None, group="0", **routing):
    job = Job("cell", group, policy or SteerPolicy(preset="stepwise"), RoutingOptions(**routing), "all", 0)
    stream = router.route.options(num_returns="streaming").remote(table, job)
    return pa.concat_tables([ray.get(ref) for ref in stream])


def answers(table):
    """Everything but timing and placement, in question order."""
    rows = sorted(table.to_pylist(), key=lambda r: r["trace_id"])
    for row in rows:
        # repr: a NaN equals itself
        row["steps_seen"] = [repr({k: v for k, v in step.items() if k not in TIMING}) for step in row.pop("step_rows")]
        row["mixture_rows"] = None
        for name in ("cached_tokens", "prefill_small", "prefill_large", "flops_full"):
            row.pop(name)
    return rows


@pytest.mark.parametrize(
    "policy",
    [
        SmallPolicy(),
        RandomQueryPolicy(),
        RandomStepPolicy(),
        PercentilePolicy(percent=30),
        FirstTokenEntropyPolicy(tau=0.2),
        SteerPolicy(preset="stepwise"),
        SteerPolicy(preset="paper"),
    ],
    ids=lambda p: getattr(p, "preset", "") + p.name,
)
def test_every_question_is_one_row_under_every_policy(whole_router, policy):
    router, _ = whole_router
    for barrier in ("strict", "rolling"):
        table = route(router, questions(60), policy, barrier=barrier)
        assert table.schema == ROUTED_SCHEMA
        assert sorted(table["question_id"].to_pylist()) == sorted(f"q{i}" for i in range(60))
        assert set(table["status"].to_pylist()) == {"answered"}


def test_a_replica_killed_in_mid_run_changes_no_answer(routers, tmp_path):
    undisturbed, _ = routers()
    expected = answers(route(undisturbed, questions(80)))
    dying = dict(die_after=200, die_mark=str(tmp_path / "died"))
    router, _ = routers(small=dying)
    got = answers(route(router, questions(80)))
    assert os.path.exists(tmp_path / "died")
    assert ray.get(router.stats.remote()).replaced == 1
    assert got == expected


@pytest.mark.parametrize("option", ["poison", "fault"])
def test_a_trace_that_always_kills_or_fails_its_replica_is_the_only_one_lost(routers, option):
    router, _ = routers(small={option: "question 5"})
    rows = {r["question_id"]: r for r in route(router, questions(8)).to_pylist()}
    assert len(rows) == 8
    assert rows["q5"]["status"] == "error" and "3 times" in rows["q5"]["error"]
    assert all(r["status"] == "answered" for i, r in rows.items() if i != "q5")


WRITE_ON = {"barrier": "rolling", "write_on": True}
BANKED = SteerPolicy(preset="stepwise", fit_from="bank")


@pytest.mark.parametrize("policy", [RandomStepPolicy(p=0.3), BANKED, SteerPolicy()], ids=lambda p: p.name)
def test_traces_that_are_written_on_keep_each_step_once_and_charge_what_was_cut(whole_router, policy):
    router, _ = whole_router
    table = route(router, questions(60), policy, group=f"on {policy}", **WRITE_ON)
    rows = table.to_pylist()
    assert sorted(row["question_id"] for row in rows) == sorted(f"q{i}" for i in range(60))
    for row in rows:
        assert row["status"] == "answered"
        kept = [step for step in row["step_rows"] if step["accepted"]]
        assert [step["step"] for step in kept] == list(range(len(kept)))
        spent = row["tokens_small"] + row["tokens_large"]
        assert spent == sum(step["tokens"] for step in kept) + row["tokens_discarded"]
    assert sum(row["tokens_discarded"] for row in rows) > 0


def test_a_replica_that_dies_while_it_writes_on_loses_no_trace(routers, tmp_path):
    die = {"die_after": 30, "die_mark": str(tmp_path / "died"), "step_s": 0.02}
    router, _ = routers(small=die)
    rows = route(router, questions(40), BANKED, **WRITE_ON).to_pylist()
    assert os.path.exists(die["die_mark"]) and ray.get(router.stats.remote()).replaced == 1
    assert sorted(row["question_id"] for row in rows) == sorted(f"q{i}" for i in range(40))
    assert {row["status"] for row in rows} == {"answered"}


def test_a_trace_that_kills_whoever_writes_it_on_is_the_only_one_lost(routers):
    router, _ = routers(small={"poison": "question 7", "step_s": 0.01})
    rows = route(router, questions(10), RandomStepPolicy(p=0.0), **WRITE_ON).to_pylist()
    assert {row["question_id"]: row["status"] for row in rows} == {
        f"q{i}": "error" if i == 7 else "answered" for i in range(10)
    }


def test_a_prompt_longer_than_the_context_is_an_error_row_and_the_rest_goes_on(routers):
    router, _ = routers(small=dict(max_len=12))
    table = pa.concat_tables(
        [questions(4), questions(1, prompt="far too long a prompt").set_column(0, "id", [["long"]])]
    )
    rows = {r["question_id"]: r for r in route(router, table).to_pylist()}
    assert rows["long"]["status"] == "error" and "context" in rows["long"]["error"]
    assert sum(r["status"] == "answered" for r in rows.values()) == 4


def test_several_groups_share_the_pools_and_same_seed_means_same_tables(routers):
    router, _ = routers(replicas=1)

    async def both():
        async def one(group, table):
            job = Job("cell", group, SteerPolicy(preset="stepwise"), RoutingOptions(), "all", 0)
            stream = router.route.options(num_returns="streaming").remote(table, job)
            return pa.concat_tables([await ref async for ref in stream])

        return await asyncio.gather(one("a", questions(40)), one("b", questions(40, "other {}")))

    a, b = asyncio.run(both())
    alone = route(router, questions(40), group="a")
    assert answers(a) == answers(alone)
    assert len(b) == 40


def test_credits_bound_the_rows_out_at_a_replica_and_nothing_is_lost(routers):
    router, _ = routers(replicas=2, max_rows=7)
    assert len(route(router, questions(100))) == 100


def test_a_model_that_cannot_start_fails_with_the_remedy():
    pools = PoolsConfig(small=PoolConfig(cpus=0.1, label="nowhere", start_timeout_s=0.5), large=PoolConfig(cpus=0.1))
    model = ModelConfig(path="simulated", parameters=1.0)
    router = (
        ray.remote(Router).options(num_cpus=0).remote(PairConfig(small=model, large=model), pools, SimulatedReplica)
    )
    with pytest.raises(Exception, match="steer-pool=nowhere"):
        ray.get(router.start.remote())
    ray.get(router.close.remote())
    ray.kill(router)


def test_stats_add_up(routers):
    router, _ = routers()
    ray.get(router.expect.remote(50))
    table = route(router, questions(50))
    stats = ray.get(router.stats.remote())
    assert (stats.done, stats.live, stats.queued) == (50, 0, 0)
    assert stats.tokens_small + stats.tokens_large == sum(table["tokens_small"].to_pylist()) + sum(
        table["tokens_large"].to_pylist()
    )


@pytest.mark.parametrize(
    ("policy", "role", "n"),
    [
        (RsdPolicy(threshold=0.7), Role.PRM, 1e8),
        (SpecReasonPolicy(threshold=6.3), Role.JUDGE, 1e8),
        (SpecReasonPolicy(threshold=6.3), Role.LARGE, 1e7),
        (QueryRouterPolicy(threshold=0.7), Role.QUERY, 1e6),
    ],
)
def test_signals_come_from_a_pool_of_their_own_and_are_charged(whole_router, routers, policy, role, n):
    # A pair without a judge of its own has the large model judge.
    router, infos = routers(replicas=2) if role == Role.LARGE else whole_router
    assert set(infos) == set(PAIR if role == Role.LARGE else Role)
    rows = route(router, questions(60), policy).to_pylist()
    assert len({row["trace_id"] for row in rows}) == 60
    assert 0 < sum(row["tokens_large"] > 0 for row in rows) < 60
    steps = [step for row in rows for step in row["step_rows"]]
    assert all(step["signal"] == step["signal"] for step in steps if step["attempt"] == 0)
    for row in rows:
        assert row["flops_signal"] == pytest.approx(2 * row["tokens_signal"] * n / 1e12) and row["tokens_signal"] > 0
        assert row["flops_full"] > row["flops_paper"] + row["flops_signal"]


def test_one_seat_alone_is_enough_for_a_policy_that_needs_no_other(routers):
    router, infos = routers(roles=[Role.SMALL])
    assert set(infos) == {Role.SMALL}
    assert route(router, questions(10), SmallPolicy()).num_rows == 10
