"""`steer bench router`: trace-steps a second through router and pools, with engines that answer at once."""

import statistics
import time

import pyarrow as pa
import ray

from actors.router.router import Job, Router
from actors.simulated.instant import SimulatedReplica
from steer.config.policy import SteerPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions

LIVE = (1_000, 10_000, 100_000)
STEPS = 8
"""Steps of every trace: enough that admitting and retiring it do not hide the loop."""
ROUNDS = 3


def bench_router() -> list[dict]:
    """One row a number of live traces; the sizes take turns (A B C A B C ...), medians are reported.

    `trace_steps_per_s` counts kept steps from handing the questions over until the last table is back; admission,
    drafts, scoring passes, fits and table building are inside.
    """
    pool = PoolConfig(cpus=0.1, max_rows=4096)
    simulated = {"steps": STEPS, "exact": True}
    pair = PairConfig(
        small=ModelConfig(path="simulated-small", parameters=1.0, engine=simulated),
        large=ModelConfig(path="simulated-large", parameters=10.0, engine=simulated),
    )
    router = ray.remote(Router).options(num_cpus=0).remote(pair, PoolsConfig(small=pool, large=pool), SimulatedReplica)
    ray.get(router.start.remote())
    tables = {n: ray.put(question_table([f"question {i}" for i in range(n)], "math")) for n in LIVE}
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


def _route(router, table, group: str) -> int:
    """Kept steps of one routed group."""
    job = Job("bench", group, SteerPolicy(preset="stepwise"), RoutingOptions(), "all", 0)
    stream = router.route.options(num_returns="streaming").remote(table, job)
    return sum(sum(ray.get(ref)["steps"].to_pylist()) for ref in stream)


def question_table(prompts: list[str], grader: str) -> pa.Table:
    """What the router is sent of made-up questions with these prompts."""
    n = len(prompts)
    constant = {"benchmark": "bench", "gold": "7", "grader": grader, "subset": "", "difficulty": "", "system": ""}
    return pa.table(
        {
            "id": [f"q{i}" for i in range(n)],
            "sample": pa.array([0] * n, pa.int32()),
            "prompt": prompts,
            "labels": ["{}"] * n,
            **{name: [value] * n for name, value in constant.items()},
        }
    )
