"""Pools that grow, shrink, wait for nodes and part with replicas: on counts, with simulated engines.

What needs nodes that come and go runs in a process of its own (`autoscaled_run.py`) and tells what it saw.
"""

import json
import os
import secrets
import subprocess
import sys
import time

import pyarrow as pa
import pytest
import ray
from paths import ROOT
from patience import PATIENCE_S
from test_router import answers, questions, route

from actors.router.router import Job, Router
from actors.simulated.instant import SimulatedReplica
from pipelines.run.prewarm import first_bundles
from steer.config.policy import RandomStepPolicy, SmallPolicy, SteerPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.traces import Role

pytestmark = [pytest.mark.ray]


@pytest.fixture
def start(local_ray):
    started = []

    def begin(small: PoolConfig, large: PoolConfig, unusable: bool = False, **engine):
        pair = PairConfig(
            small=ModelConfig(path="simulated-small", parameters=1e6, engine=engine),
            large=ModelConfig(path="simulated-large", parameters=1e7, engine={**engine, "unusable": unusable}),
        )
        router = (
            ray.remote(Router).options(num_cpus=0).remote(pair, PoolsConfig(small=small, large=large), SimulatedReplica)
        )
        started.append(router)
        ray.get(router.start.remote())
        return router

    yield begin
    for router in started:
        ray.get(router.close.remote())
        ray.kill(router)


def stats(router):
    return ray.get(router.stats.remote())


def until(router, true):
    """The router's counts, once they are so."""
    deadline = time.monotonic() + PATIENCE_S
    while not true(now := stats(router)):
        assert time.monotonic() < deadline, now
    return now


def pool(**given):
    return PoolConfig(**{"cpus": 0.1, **given})


def test_a_pool_grows_under_load_and_shrinks_in_the_tail_and_no_row_is_lost_or_asked_twice(start):
    router = start(pool(max_replicas=3, max_num_seqs=10, max_rows=100), pool(), row_s=0.05, tokens=3)
    # So much is announced that another start pays, however long one takes on this machine.
    ray.get(router.expect.remote(10**6))
    job = Job("cell", "0", SmallPolicy(), RoutingOptions(), "all", 0)
    stream = router.route.options(num_returns="streaming").remote(questions(900), job)
    until(router, lambda now: now.replicas[Role.SMALL] + now.starting[Role.SMALL] == 3)
    table = pa.concat_tables([ray.get(ref) for ref in stream])
    assert sorted(table["question_id"].to_pylist()) == sorted(f"q{i}" for i in range(900))
    assert set(table["status"].to_pylist()) == {"answered"}
    end = until(router, lambda now: now.replicas[Role.SMALL] == 1 and not now.starting[Role.SMALL])
    assert end.replaced == 0 and end.tokens_small == sum(table["tokens_small"].to_pylist())


def test_a_large_pool_of_none_starts_with_the_first_large_row_and_changes_no_answer(start):
    router = start(pool(), pool(min_replicas=0, max_replicas=1))
    table = route(router, questions(20), SmallPolicy())
    assert set(ray.get(router.infos.remote())) == {Role.SMALL} and set(table["flops_paper"].to_pylist()) != {0.0}
    assert stats(router).replica_s[Role.LARGE] == 0.0
    from_none = answers(route(router, questions(40), SteerPolicy(preset="stepwise")))
    assert ray.get(router.infos.remote())[Role.LARGE].replica == "large-0"
    assert from_none == answers(route(router, questions(40), SteerPolicy(preset="stepwise")))
    until(router, lambda now: now.replicas[Role.LARGE] == 0)


def test_a_model_that_cannot_be_loaded_later_still_ends_the_run_with_the_reason(start):
    router = start(pool(), pool(min_replicas=0, max_replicas=2), unusable=True)
    with pytest.raises(Exception, match="cannot load simulated-large"):
        route(router, questions(10), RandomStepPolicy(p=1.0))


def test_what_the_pools_begin_with_is_asked_of_the_autoscaler():
    pools = PoolsConfig(
        small=pool(replicas=2, cpus=2, gpus=1, label="small"), large=pool(min_replicas=0, max_replicas=9)
    )
    assert first_bundles(pools, [Role.SMALL, Role.LARGE]) == (
        [{"CPU": 2, "GPU": 1}] * 2,
        [{"steer-pool": "small"}] * 2,
    )
    assert first_bundles(PoolsConfig(), [Role.SMALL]) == ([{"CPU": 1}], [{}])


def seen():
    # Ray asks for a token from 2.59 on: the run's cluster has one of its own, which ends with it.
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "ray" / "autoscaled_run.py")],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


def test_an_autoscaler_brings_nodes_for_the_pools_and_takes_them_away():
    saw = seen()
    assert saw["answered"] == saw["asked"]
    assert saw["asked_before_start"] == [["small", 1.0]] and saw["standing_while_loaded"] == 0
    assert saw["most"]["small"] >= 1 and saw["most"]["large"] == 1
    assert saw["nodes_at_end"] == 0 and saw["standing_at_end"] == 0
    # No node has the label of either pool when the run begins: one the autoscaler can bring, the other it cannot.
    assert "pools.small.label = smal" in saw["refused"]
