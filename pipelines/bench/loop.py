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
from dataclasses import dataclass, field
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
from steer.config.policy import LargePolicy, PolicyConfig, SteerPolicy
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
    policy: PolicyConfig
    routing: RoutingOptions
    """`groups_in_flight` is the number of groups that the traces are cut into (`benchmark.groups`)."""


STRICT, BANKED = SteerPolicy(preset="stepwise"), SteerPolicy(preset="stepwise", fit_from="bank")
LARGE_ALONE = Mode("large model alone, one pass", LargePolicy(), RoutingOptions(groups_in_flight=1))
"""The baseline: what a user of the large model has without a router."""
ROLLING = Mode("rolling, 1 group of all", BANKED, RoutingOptions(barrier="rolling", groups_in_flight=1))
WRITE_ON = Mode(
    "rolling, writing on, 1 group of all",
    BANKED,
    RoutingOptions(barrier="rolling", write_on=True, groups_in_flight=1),
)
MODES = (
    LARGE_ALONE,
    Mode("strict, 1 group of all", STRICT, RoutingOptions(groups_in_flight=1)),
    Mode("strict, 4 groups in flight", STRICT, RoutingOptions(groups_in_flight=4)),
    Mode("strict, 8 groups in flight", STRICT, RoutingOptions(groups_in_flight=8)),
    ROLLING,
    WRITE_ON,
    Mode("default policy, strict, 1 group of all", SteerPolicy(), RoutingOptions(groups_in_flight=1)),
)

ABOUT = f"""idle: 1 - (seconds in which its engines had at least one row) / (replicas x wall seconds of the run)
idle_waiting: the part of idle in which rows were submitted to the pool: on their way, or at its other replica
rows: mean rows that write in an engine that has any; live: mean live traces; on_the_way: share of the traces' seconds
in which a row of it is out but in no engine; wall_vs_best: wall seconds by those of the fastest mode of these replicas
wall_vs_large_alone: the same by the mode in which the large model writes all, in one pass, on its own replicas
discarded: share of the written tokens that no kept step contains
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
    discarded: float
    """Share of the written tokens that no kept step contains."""

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
    """Measure every mode with one replica in each pool, and the fastest ones and the baseline with two."""
    return bench_loop(lengths) + bench_loop(lengths, (LARGE_ALONE, ROLLING, WRITE_ON), replicas=2)


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
    wall_s = {mode.name: statistics.median(turn.wall_s for turn in taken) for mode, taken in measured.items()}
    against = {"best": min(wall_s.values())}
    if LARGE_ALONE in measured:
        against["large_alone"] = wall_s[LARGE_ALONE.name]
    return [_row(mode, taken, live, pools, against) for mode, taken in measured.items()]


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
    prompts, groups = [f"question {i}" for i in range(live)], mode.routing.groups_in_flight
    tables = [made_up_questions(prompts[i::groups], "math") for i in range(groups)]
    jobs = [Job(f"{mode.name} {turn}", f"{i}", mode.policy, mode.routing, "all", turn) for i in range(groups)]
    before, started = ray.get(router.stats.remote()), time.monotonic()
    with ThreadPoolExecutor(groups) as threads:
        written = list(threads.map(lambda *group: _written(router, *group), tables, jobs))
    wall_s = time.monotonic() - started
    took = spent(before, ray.get(router.stats.remote()), wall_s)
    row_s = {role: sum(group.row_s[role] for group in written) for role in PAIR}
    steps = [sum(group.steps[role] for group in written) for role in PAIR]
    discarded = sum(group.discarded for group in written) / sum(group.tokens for group in written)
    return Turn(wall_s, took, row_s, steps[Role.LARGE] / sum(steps), discarded)


@dataclass
class _Written:
    """What was written for one group: by role seconds of writing rows and steps; tokens, and those thrown away."""

    row_s: dict[Role, float] = field(default_factory=lambda: dict.fromkeys(PAIR, 0.0))
    steps: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(PAIR, 0))
    tokens: int = 0
    discarded: int = 0


def _written(router: ActorHandle, table: pa.Table, job: Job) -> _Written:
    """Route one group."""
    written = _Written()
    for ref in router.route.options(num_returns="streaming").remote(table, job):
        traces = ray.get(ref)
        for steps in traces["step_rows"].to_pylist():
            for step in steps:
                role = Role[step["model"].upper()]
                written.row_s[role] += step["seconds"]
                written.steps[role] += 1
        written.tokens += sum(traces["tokens_small"].to_pylist()) + sum(traces["tokens_large"].to_pylist())
        written.discarded += sum(traces["tokens_discarded"].to_pylist())
    return written


def _row(mode: Mode, turns: Sequence[Turn], live: int, pools: PoolsConfig, against: dict[str, float]) -> dict:
    """`against`: wall seconds that those of this mode are divided by, by the name of what took them."""

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
        "discarded": round(median(lambda turn: turn.discarded), 3),
        "wall_s": round(wall_s, 1),
        **{f"wall_vs_{name}": round(wall_s / seconds, 2) for name, seconds in against.items()},
        "turns": len(turns),
    }
