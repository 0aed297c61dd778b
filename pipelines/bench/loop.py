"""`steer bench loop`: how long the engines of each pool are idle, by the way the loop is run.

The engines are simulated (`actors/simulated/timed.py`). Their steps are as long as those of a trace file (`--trace`),
or drawn (`pipelines/bench/step_lengths.py`). The seconds of a token follow from the models' sizes and the card's
datasheet. The loop around the engines (router, pools, messages, fits) is the real one, and so is the time that it
takes.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from actors.router.router import Job, Router
from actors.simulated.timed import TimedReplica
from actors.simulated.timed_engine import Speed
from pipelines.bench.router import made_up_questions
from pipelines.report.time_spent import TRACES, Spent, spent
from steer.config.policy import SteerPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.costs.gpu_memory import DIMENSIONS, GIB
from steer.traces import PAIR, Role

LIVE = 512
"""Live traces at the beginning."""
TURNS = 2
H100_BYTES_S, H100_FLOPS_S = 3.35e12, 989e12
"""NVIDIA's datasheet of the H100 SXM: memory bandwidth, and dense bfloat16."""
MODELS = {"small": "Qwen2.5-1.5B-Instruct", "large": "Qwen2.5-7B-Instruct"}
"""Models whose dimensions are simulated. A token takes 0.9 and 4.5 ms with one row, 1.2 and 4.8 ms with 256 rows."""
PROMPT_TOKENS = 150
UNSURE = 0.2
"""Share of the steps that the policy is unsure of. A token of the large model takes about five times as long, so with
one step in five the two pools have about the same work. Otherwise the pool with less would be idle, whatever the
loop."""


@dataclass(frozen=True)
class Mode:
    """One way to run the loop that a user can choose."""

    name: str
    policy: SteerPolicy
    barrier: str
    groups: int
    """Groups that the traces are cut into (`benchmark.groups`), all routed at the same time (`groups_in_flight`)."""


STRICT = SteerPolicy(preset="stepwise")
ROLLING = Mode("rolling, 1 group of all", SteerPolicy(preset="stepwise", fit_from="bank"), "rolling", 1)
MODES = (
    Mode("strict, 1 group of all", STRICT, "strict", 1),
    Mode("strict, 4 groups in flight", STRICT, "strict", 4),
    Mode("strict, 8 groups in flight", STRICT, "strict", 8),
    ROLLING,
    Mode("default policy, strict, 1 group of all", SteerPolicy(), "strict", 1),
)

ABOUT = f"""idle: 1 - (seconds in which its engines had at least one row) / (replicas x wall seconds of the run)
idle_waiting: the part of idle in which rows were submitted to the pool: on their way, or at its other replica
rows: mean rows that write in an engine that has any; live: mean live traces; on_the_way: share of the traces' seconds
in which a row of it is out but in no engine; wall_vs_best: wall seconds by those of the fastest mode of these replicas
simulated: {MODELS["small"]} and {MODELS["large"]} on an H100 by its datasheet; {UNSURE:.0%} of the steps unsure"""


class Turn(NamedTuple):
    """One run of one mode."""

    wall_s: float
    """Seconds from handing over the questions until the last trace is back. Some trace was live all the time."""
    spent: Spent
    row_s: dict[Role, float]
    """By role: seconds that writing rows were in its engines, summed over rows."""
    large_steps: float
    """Share of the written steps that the large model wrote."""

    def idle(self, role: Role) -> float:
        """Share of the replicas' seconds in which the engine had no row."""
        parts = self.spent[role.label]
        return (parts["idle"] + parts["idle_waiting"] + parts["no_trace"]) / sum(parts.values())

    def idle_waiting(self, role: Role) -> float:
        parts = self.spent[role.label]
        return parts["idle_waiting"] / sum(parts.values())

    def rows(self, role: Role) -> float:
        """Mean number of writing rows in an engine that has any row."""
        parts = self.spent[role.label]
        return self.row_s[role] / max(parts["writing"] + parts["scoring"], 1e-9)

    @property
    def live(self) -> float:
        return sum(self.spent[TRACES].values()) / self.wall_s

    @property
    def on_the_way(self) -> float:
        return self.spent[TRACES]["on_the_way"] / sum(self.spent[TRACES].values())


def bench_pools(lengths: list[list[int]]) -> list[dict]:
    """Measure every mode with one replica in each pool, and `ROLLING`, the fastest, with two."""
    return bench_loop(lengths) + bench_loop(lengths, [ROLLING], replicas=2)


def bench_loop(
    lengths: list[list[int]], modes: Sequence[Mode] = MODES, live: int = LIVE, replicas: int = 1, turns: int = TURNS
) -> list[dict]:
    """A row for each mode: medians over `turns`, in the order A B C A B C ...

    `lengths`: for each trace the tokens of its steps. `live`: traces at the beginning, the same ones in every mode.
    """
    pool = PoolConfig(cpus=0.01, replicas=replicas)
    pools = PoolsConfig(small=pool, large=pool)
    router = ray.remote(Router).options(num_cpus=0, max_concurrency=1000).remote(pair(lengths), pools, TimedReplica)
    ray.get(router.start.remote())
    try:
        run_turn(router, modes[-1], live // 8, turns)  # Warm up.
        return take_turns(router, pools, modes, live, turns)
    finally:
        ray.get(router.close.remote())
        ray.kill(router)


def take_turns(router: ActorHandle, pools: PoolsConfig, modes: Sequence[Mode], live: int, turns: int) -> list[dict]:
    """Measure the modes on a started router. Returns the rows."""
    measured: dict[Mode, list[Turn]] = {mode: [] for mode in modes}
    for turn in range(turns):
        for mode in modes:
            measured[mode].append(run_turn(router, mode, live, turn))
    fastest = min(statistics.median(turn.wall_s for turn in taken) for taken in measured.values())
    return [_row(mode, taken, live, pools, fastest) for mode, taken in measured.items()]


def pair(lengths: list[list[int]]) -> PairConfig:
    """The pair of `MODELS`, which writes steps of these lengths."""
    return PairConfig(**{role: model(shape, lengths) for role, shape in MODELS.items()})


def model(shape_name: str, lengths: list[list[int]]) -> ModelConfig:
    """One of `MODELS` on an H100, which writes steps of these lengths."""
    shape = DIMENSIONS[shape_name]
    speed = Speed(
        weights_bytes=shape.weights_gib(1) * GIB,
        cache_bytes_token=shape.cache_gib(1, 1) * GIB,
        flops_token=2 * shape.parameters,
        bytes_s=H100_BYTES_S,
        flops_s=H100_FLOPS_S,
    )
    options = {"lengths": lengths, "speed": speed._asdict(), "unsure": UNSURE, "prompt_tokens": PROMPT_TOKENS}
    return ModelConfig(path=f"timed-{shape_name}", parameters=shape.parameters, engine=options)


def run_turn(router: ActorHandle, mode: Mode, live: int, turn: int) -> Turn:
    """Route `live` questions in the groups of the mode, all groups at the same time, and measure."""
    options = RoutingOptions(barrier=mode.barrier, groups_in_flight=mode.groups)
    prompts = [f"question {i}" for i in range(live)]
    tables = [made_up_questions(prompts[i :: mode.groups], "math") for i in range(mode.groups)]
    jobs = [Job(f"{mode.name} {turn}", f"{i}", mode.policy, options, "all", turn) for i in range(mode.groups)]
    before, started = ray.get(router.stats.remote()), time.monotonic()
    with ThreadPoolExecutor(mode.groups) as threads:
        written = list(threads.map(lambda *group: _written(router, *group), tables, jobs))
    wall_s = time.monotonic() - started
    took = spent(before, ray.get(router.stats.remote()), wall_s)
    row_s = {role: sum(seconds[role] for seconds, _ in written) for role in PAIR}
    steps = [sum(counts[role] for _, counts in written) for role in PAIR]
    return Turn(wall_s, took, row_s, steps[Role.LARGE] / sum(steps))


def _written(router: ActorHandle, table: pa.Table, job: Job) -> tuple[dict[Role, float], dict[Role, int]]:
    """Route one group. Returns, by role: (seconds of writing rows in the engines, written steps)."""
    seconds, counts = dict.fromkeys(PAIR, 0.0), dict.fromkeys(PAIR, 0)
    for ref in router.route.options(num_returns="streaming").remote(table, job):
        for steps in ray.get(ref)["step_rows"].to_pylist():
            for step in steps:
                role = Role[step["model"].upper()]
                seconds[role] += step["seconds"]
                counts[role] += 1
    return seconds, counts


def _row(mode: Mode, turns: Sequence[Turn], live: int, pools: PoolsConfig, fastest: float) -> dict:
    def median(of: Callable[[Turn], float]) -> float:
        return statistics.median(map(of, turns))

    row = {"mode": mode.name, "traces": live, "replicas": f"{pools.small.replicas}+{pools.large.replicas}"}
    for role in PAIR:
        for name, of, digits in (
            ("idle", Turn.idle, 3),
            ("idle_waiting", Turn.idle_waiting, 3),
            ("rows", Turn.rows, None),
        ):
            row[f"{role.label}_{name}"] = round(median(partial(of, role=role)), digits)
    wall_s = median(lambda turn: turn.wall_s)
    return row | {
        "live": round(median(lambda turn: turn.live)),
        "on_the_way": round(median(lambda turn: turn.on_the_way), 3),
        "large_steps": round(median(lambda turn: turn.large_steps), 2),
        "wall_s": round(wall_s, 1),
        "wall_vs_best": round(wall_s / fastest, 2),
        "turns": len(turns),
    }
