"""`steer bench loop`: how long the engines of each pool have nothing to do, by the way the loop is run.

Engines are simulated (`actors/simulated_timed.py`): steps are as long as those of a trace file (`--trace`; none: drawn,
`pipelines/step_lengths.py`), seconds a token follow from the models' sizes and the card's datasheet. The loop around
them (router, pools, messages, fits) is the real one, and so is the time it takes.
"""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ray

from actors.router import Job, Router, RouterStats
from actors.simulated_timed import TimedReplica
from actors.timed_engine import Speed
from pipelines.bench_router import question_table
from pipelines.step_lengths import SHIPPED, read
from steer.cards import GIB, SHAPES
from steer.config import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.policy_config import SteerPolicy
from steer.traces import Seat

LIVE = 512
TURNS = 2
H100_BYTES_S, H100_FLOPS_S = 3.35e12, 989e12
"""NVIDIA's datasheet of the H100 SXM: memory bandwidth, and dense bfloat16."""
MODELS = {"small": "Qwen2.5-1.5B-Instruct", "large": "Qwen2.5-7B-Instruct"}
"""Their dimensions; a token of one row takes 0.9 and 4.5 ms, of 256 rows 1.2 and 4.8."""
PROMPT_TOKENS = 150
UNSURE = 0.2
"""Share of the steps that the policy is unsure of. The large model takes about five times as long a token, so with one
step in five the two pools have about equally much to do; otherwise the one with less must idle, whatever the loop."""
BANK = SteerPolicy(preset="stepwise", fit_from="bank")


@dataclass(frozen=True)
class Mode:
    """One way to run the loop that a user can choose."""

    name: str
    policy: SteerPolicy
    barrier: str
    groups: int
    """What the traces are cut into (`benchmark.groups`)."""
    in_flight: int
    """Groups routed at the same time (`routing.groups_in_flight`)."""
    times: int = 1
    """So many times `LIVE` traces, of which `LIVE` are live at any time until the last groups run out."""


STRICT = SteerPolicy(preset="stepwise")
MODES = (
    Mode("strict, 1 group of all", STRICT, "strict", 1, 1),
    Mode("strict, 4 groups in flight", STRICT, "strict", 4, 4),
    Mode("strict, 8 groups in flight", STRICT, "strict", 8, 8),
    Mode("rolling, 1 group of all", BANK, "rolling", 1, 1),
    Mode("default policy, 1 group of all", SteerPolicy(), "strict", 1, 1),
)


class Share(NamedTuple):
    """Of one pool in one run, as shares of its replicas' seconds (replicas x wall seconds)."""

    idle: float
    """No row in the engine."""
    idle_waiting: float
    """The part of `idle` in which rows were submitted to the pool and not answered: they were on their way, or at the
    other replica."""
    rows: float
    """Mean number of rows that write in an engine that has any."""


class Turn(NamedTuple):
    """One run of one mode."""

    wall_s: float
    """From handing the questions over until the last trace is back: some trace was live all the time."""
    shares: dict[Seat, Share]
    large_steps: float
    """Share of the written steps."""


def bench_loop(
    trace: Path | None = None, modes: Sequence[Mode] = MODES, live: int = LIVE, replicas: int = 1, turns: int = TURNS
) -> list[dict]:
    """A row a mode, medians over `turns`; the modes take turns (A B C A B C ...). Raises SettingsError for a `trace`
    that is no table of steps. `live`: traces that are live at the beginning, the same for every mode."""
    lengths = read(trace or SHIPPED)
    pool = PoolConfig(cpus=0.01, replicas=replicas)
    models = {seat: model(shape, lengths) for seat, shape in MODELS.items()}
    router = ray.remote(Router).options(num_cpus=0, max_concurrency=1000)
    handle = router.remote(PairConfig(**models), PoolsConfig(small=pool, large=pool), TimedReplica)
    ray.get(handle.start.remote())
    try:
        run_turn(handle, modes[-1], live, replicas, turns)
        measured: dict[Mode, list[Turn]] = {mode: [] for mode in modes}
        for turn in range(turns):
            for mode in modes:
                measured[mode].append(run_turn(handle, mode, live, replicas, turn))
    finally:
        ray.get(handle.close.remote())
        ray.kill(handle)
    fastest = min(_median(measured[mode], mode.times) for mode in modes)
    return [_row(mode, measured[mode], live, replicas, fastest) for mode in modes]


def model(shape_name: str, lengths: list[list[int]]) -> ModelConfig:
    """One of `MODELS` on an H100, writing steps of these lengths."""
    shape = SHAPES[shape_name]
    speed = Speed(
        weights_bytes=shape.weights_gib(1) * GIB,
        cache_bytes_token=shape.cache_gib(1, 1) * GIB,
        flops_token=2 * shape.parameters,
        bytes_s=H100_BYTES_S,
        flops_s=H100_FLOPS_S,
    )
    options = {"lengths": lengths, "speed": speed._asdict(), "unsure": UNSURE, "prompt_tokens": PROMPT_TOKENS}
    return ModelConfig(path=f"timed-{shape_name}", parameters=shape.parameters, engine=options)


def run_turn(router, mode: Mode, live: int, replicas: int, turn: int) -> Turn:
    """Route `mode.times` x `live` questions, the same ones in every mode, and measure."""
    options = RoutingOptions(barrier=mode.barrier)
    questions, size = live * mode.times, live * mode.times // mode.groups
    prompts = [f"question {i}" for i in range(questions)]
    tables = [question_table(prompts[at : at + size], "math") for at in range(0, questions, size)]
    jobs = [Job(f"{mode.name} {turn}", f"{i}", mode.policy, options, "all", turn) for i in range(len(tables))]
    before = ray.get(router.stats.remote())
    started = time.monotonic()
    with ThreadPoolExecutor(mode.in_flight) as threads:
        written = list(threads.map(lambda *group: _written(router, *group), tables, jobs))
    wall_s = time.monotonic() - started
    after = ray.get(router.stats.remote())
    row_s = {seat: sum(seconds[seat] for seconds, _ in written) for seat in (Seat.SMALL, Seat.LARGE)}
    shares = {seat: share(before, after, seat, replicas, wall_s, row_s[seat]) for seat in row_s}
    steps = [sum(counts[seat] for _, counts in written) for seat in row_s]
    return Turn(wall_s, shares, steps[Seat.LARGE] / sum(steps))


def share(before: RouterStats, after: RouterStats, seat: Seat, replicas: int, wall_s: float, row_s: float) -> Share:
    """`row_s`: seconds of the pool's rows in its engines, summed."""
    busy_s = after.busy_s[seat] - before.busy_s[seat]
    outstanding_s = after.outstanding_s[seat] - before.outstanding_s[seat]
    idle = 1 - busy_s / (replicas * wall_s)
    return Share(idle, (outstanding_s - busy_s / replicas) / wall_s, row_s / busy_s if busy_s else 0.0)


def _written(router, table, job: Job) -> tuple[dict[Seat, float], dict[Seat, int]]:
    """Of one routed group: seconds of its writing rows in the engines, and written steps, by seat."""
    seconds, counts = dict.fromkeys(Seat, 0.0), dict.fromkeys(Seat, 0)
    for ref in router.route.options(num_returns="streaming").remote(table, job):
        for steps in ray.get(ref)["step_rows"].to_pylist():
            for step in steps:
                seat = Seat[step["model"].upper()]
                seconds[seat] += step["seconds"]
                counts[seat] += 1
    return seconds, counts


def _median(turns: Sequence[Turn], times: int) -> float:
    """Wall seconds for `live` traces."""
    return statistics.median(turn.wall_s for turn in turns) / times


def _row(mode: Mode, turns: Sequence[Turn], live: int, replicas: int, fastest: float) -> dict:
    def of(seat: Seat, name: str) -> float:
        return statistics.median(getattr(turn.shares[seat], name) for turn in turns)

    row = {"mode": mode.name, "live_traces": live, "traces": live * mode.times, "replicas": f"{replicas}+{replicas}"}
    for seat in (Seat.SMALL, Seat.LARGE):
        row |= {
            f"{seat.label}_idle": round(of(seat, "idle"), 3),
            f"{seat.label}_idle_waiting": round(of(seat, "idle_waiting"), 3),
            f"{seat.label}_rows": round(of(seat, "rows")),
        }
    wall_s = _median(turns, mode.times)
    return row | {
        "large_steps": round(statistics.median(turn.large_steps for turn in turns), 2),
        "wall_s": round(wall_s * mode.times, 1),
        "wall_vs_best": round(wall_s / fastest, 2),
        "turns": len(turns),
    }
