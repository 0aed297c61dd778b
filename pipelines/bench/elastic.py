"""`steer bench elastic`: time and cost of elastic pools against fixed ones, on a load that is heavy only at first."""

import json
import statistics
import time

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from actors.router.router import Job, Router
from actors.simulated.instant import SimulatedReplica
from pipelines.bench.router import made_up_questions
from steer.config.policy import RandomStepPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.traces import Role

HARD, EASY = 1200, 60
"""Numbers of questions. The hard ones come first and send every second step to the large model; the easy ones send it
none. So at first both pools are full, and later only the small one has work, a few rows at a time."""
STEPS = 8
"""Mean steps of a trace. The longest trace takes about six times as many, which makes the tail of both parts."""
SEQS = 16
"""Rows that a replica runs at once. At first nearly ten times as many wait for each replica of the fixed pools."""
ROW_S = 0.1
"""Seconds that a row takes."""
START_S = 1.0
"""Seconds that an engine loads once its process has started. If two cores start several at a time, a start takes four
to five seconds, a quarter of the whole run on fixed pools. So starts weigh far more here than in a run of hours."""
MOST = 4
"""Most replicas of a pool."""
TURNS = 2


def bench_elastic() -> list[dict]:
    """Three rows: fixed pools (4 + 4 replicas), elastic pools (small 1 to 4, large 0 to 4), and their ratio.

    Figures are medians over turns A B A B ... `wall_s` counts from handing over the first question to the last answer;
    the models that the pools begin with are loaded before. Replica-seconds count from a replica's placement on a node
    to its end, loading included.
    """
    fixed = PoolConfig(cpus=0.1, replicas=MOST, max_num_seqs=SEQS)
    least = {Role.SMALL: 1, Role.LARGE: 0}
    elastic = {
        role.label: fixed.model_copy(update={"min_replicas": n, "max_replicas": MOST}) for role, n in least.items()
    }
    kinds = {"fixed": PoolsConfig(small=fixed, large=fixed), "elastic": PoolsConfig(**elastic)}
    runs: dict[str, list[dict]] = {kind: [] for kind in kinds}
    for _ in range(TURNS):
        for kind, pools in kinds.items():
            runs[kind].append(_run(pools))
    if any(run["questions"] != HARD + EASY for mine in runs.values() for run in mine):
        raise RuntimeError(f"a question was not answered exactly once: {json.dumps(runs)}")
    middle = {
        kind: {name: statistics.median(run[name] for run in mine) for name in mine[0]} for kind, mine in runs.items()
    }
    rows = [{"pools": kind, **{name: round(value, 1) for name, value in middle[kind].items()}} for kind in kinds]
    ratio = {
        name: [a[name] / b[name] for a, b in zip(runs["elastic"], runs["fixed"], strict=True)]
        for name in middle["fixed"]
    }
    rows.append({"pools": "elastic/fixed", **{name: round(statistics.median(each), 2) for name, each in ratio.items()}})
    return [{**row, "turns": TURNS} for row in rows]


def _run(pools: PoolsConfig) -> dict:
    """Seconds, replica-seconds and answered questions of one run on fresh pools."""
    engine = {"steps": STEPS, "row_s": ROW_S, "start_s": START_S}
    pair = PairConfig(
        small=ModelConfig(path="simulated-small", parameters=1.0, engine=engine),
        large=ModelConfig(path="simulated-large", parameters=10.0, engine=engine),
    )
    router = ray.remote(Router).options(num_cpus=0).remote(pair, pools, SimulatedReplica)
    try:
        ray.get(router.start.remote())
        ray.get(router.expect.remote(HARD + EASY))
        started = time.monotonic()
        answered = _routed(router, "hard", HARD, 0.5) | _routed(router, "easy", EASY, 0.0)
        wall_s = time.monotonic() - started
        replica_s = ray.get(router.stats.remote()).replica_s
    finally:
        ray.get(router.close.remote())
        ray.kill(router)
    small_s, large_s = replica_s[Role.SMALL], replica_s[Role.LARGE]
    return {
        "wall_s": wall_s,
        "replica_s": small_s + large_s,
        "replica_s_small": small_s,
        "replica_s_large": large_s,
        "questions": len(answered),
    }


def _routed(router: ActorHandle, kind: str, n: int, p: float) -> set[str]:
    """Route `n` questions, of whose steps a share `p` goes to the large model. Returns those that were answered."""
    table = made_up_questions([f"{kind} {i}" for i in range(n)], "math")
    job = Job(kind, kind, RandomStepPolicy(p=p), RoutingOptions(), "all", 0)
    stream = router.route.options(num_returns="streaming").remote(table, job)
    rows = pa.concat_tables([ray.get(ref) for ref in stream]).to_pylist()
    return {f"{kind} {row['question_id']}" for row in rows if row["status"] == "answered"}
