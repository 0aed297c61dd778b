"""`steer bench router`: trace-steps a second of router and pools, with engines that answer at once."""

import statistics
import time

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from actors.router.router import Job, Router
from actors.simulated.instant import SimulatedReplica
from steer.config.policy import SteerPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.storage.questions import question_table
from steer.traces import Question

LIVE = (1_000, 10_000, 100_000)
STEPS = 8
"""Steps of every trace. There are enough of them that admission and retirement do not dominate the loop."""
ROUNDS = 3


def bench_router() -> list[dict]:
    """A row for each number of live traces: medians over turns A B C A B C ...

    `trace_steps_per_s`: kept steps by the seconds from handing over the questions until the last table is back. That
    includes admission, drafts, scoring passes, fits and the building of tables.
    """
    pool = PoolConfig(cpus=0.1, max_rows=4096)
    simulated = {"steps": STEPS, "exact": True}
    pair = PairConfig(
        small=ModelConfig(path="simulated-small", parameters=1.0, engine=simulated),
        large=ModelConfig(path="simulated-large", parameters=10.0, engine=simulated),
    )
    router = ray.remote(Router).options(num_cpus=0).remote(pair, PoolsConfig(small=pool, large=pool), SimulatedReplica)
    ray.get(router.start.remote())
    tables = {n: ray.put(made_up_questions([f"question {i}" for i in range(n)], "math")) for n in LIVE}
    seconds: dict[int, list[float]] = {n: [] for n in LIVE}
    fit_s: dict[int, list[float]] = {n: [] for n in LIVE}
    try:
        _route(router, tables[LIVE[0]], "warm-up")
        for turn in range(ROUNDS):
            for n in LIVE:
                before = ray.get(router.stats.remote()).fit_s
                started = time.monotonic()
                steps = _route(router, tables[n], f"{n}-{turn}")
                seconds[n].append((time.monotonic() - started) / steps)
                fit_s[n].append((ray.get(router.stats.remote()).fit_s - before) / steps)
    finally:
        ray.get(router.close.remote())
        ray.kill(router)
    cost = {n: statistics.median(seconds[n]) for n in LIVE}
    return [
        {
            "live_traces": n,
            "trace_steps_per_s": round(1 / cost[n]),
            "us_per_trace_step": round(1e6 * cost[n], 1),
            "of_which_us_in_policy": round(1e6 * statistics.median(fit_s[n]), 1),
            "cost_vs_smallest": round(cost[n] / cost[LIVE[0]], 2),
            "turns": ROUNDS,
        }
        for n in LIVE
    ]


def _route(router: ActorHandle, table: ray.ObjectRef, group: str) -> int:
    """Route one group. Returns its kept steps."""
    job = Job("bench", group, SteerPolicy(preset="stepwise"), RoutingOptions(), "all", 0)
    stream = router.route.options(num_returns="streaming").remote(table, job)
    return sum(sum(ray.get(ref)["steps"].to_pylist()) for ref in stream)


def made_up_questions(prompts: list[str], grader: str) -> pa.Table:
    """Questions with these prompts, as the router takes them."""
    return question_table([Question(f"q{i}", 0, "bench", prompt, "7", grader) for i, prompt in enumerate(prompts)])
