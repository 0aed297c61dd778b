"""`steer bench router`: trace-steps a second on the path of a run, with engines that answer at once.

The path is that of `steer run`: its routers with their journal and default pools, groups of its size, and the stage
that hands a group to its router and collects the finished traces. What Ray Data does in other processes stays outside:
reading, grading and committing. The router is told of a commit as soon as the traces are there.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import ray

from pipelines.bench.prompt_replies import PromptReplies
from pipelines.run.cells import group_name
from pipelines.run.routers import Routers
from pipelines.run.session import Session, session
from pipelines.run.stages import CellJob, RouteGroup
from steer.config.load import SettingsError
from steer.config.policy import PolicyConfig, RandomStepPolicy, SmallPolicy, SteerPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.storage.one_cell import from_one_cell, in_one_cell
from steer.storage.questions import question_table
from steer.storage.run_folder import CommittedRows
from steer.storage.schemas import GROUPS_SCHEMA, MIXTURE_KEYS, MIXTURES_SCHEMA, TRACES_SCHEMA
from steer.traces import Question

LIVE = (1_000, 10_000, 100_000)
TURNS = 3
WARM_UP = 500
"""Traces of the group that each way routes before it is measured."""
PROMPT = "Question {number}: " + "find the sum of all positive integers that divide both numbers below. " * 3
"""A prompt of 220 characters, as MATH-500 has on average."""


@dataclass(frozen=True)
class Way:
    """A policy and how it is routed."""

    policy: PolicyConfig
    routing: RoutingOptions = RoutingOptions()


BANKED = SteerPolicy(preset="stepwise", fit_from="bank")
WAYS = {
    "steer": Way(SteerPolicy()),
    "stepwise_strict": Way(SteerPolicy(preset="stepwise")),
    "stepwise_rolling": Way(BANKED, RoutingOptions(barrier="rolling")),
    "stepwise_write_on": Way(BANKED, RoutingOptions(barrier="rolling", write_on=True)),
    "random_step": Way(RandomStepPolicy(p=0.2)),
    "small": Way(SmallPolicy()),
}
"""By the name that `--policies` takes. `small` writes every trace in one pass, which is one trace-step."""


class Turn(NamedTuple):
    """One way at one number of live traces, once. Per trace-step: seconds, and tokens."""

    wall_s: float
    policy_s: float
    journal_s: float
    loop_s: float
    tokens: float


def read_options(live: str | None = None, policies: str | None = None, routers: int = 1) -> dict[str, Any]:
    """Arguments of `bench_router`, from the command line's comma-separated lists. None: its default.

    Raises SettingsError for what is no number of traces, or no name in `WAYS`.
    """
    options: dict[str, Any] = {"routers": routers}
    if live is not None:
        for text in live.split(","):
            if not (text.isdecimal() and 0 < int(text) < 10**9):
                raise SettingsError(f"--live {live}: {text!r} is no number of traces: give for example 1000,10000")
        options["live"] = [int(text) for text in live.split(",")]
    if policies is not None:
        options["policies"] = policies.split(",")
        for name in options["policies"]:
            if name not in WAYS:
                raise SettingsError(f"--policies {policies}: there is no {name!r}, but {', '.join(WAYS)}")
    return options


def bench_router(
    live: Sequence[int] = LIVE, policies: Sequence[str] = tuple(WAYS), routers: int = 1, turns: int = TURNS
) -> list[dict]:
    """A row for each way and number of live traces: medians over turns A B C A B C ...

    `policies`: names in `WAYS`. `routers`: as `pools.routers`, with a replica of each model for each of them.
    `trace_steps_per_s`: recorded steps by the seconds from handing over the questions until the last table is back.
    That includes admission, drafts, scoring passes, fits, the journal and the building of tables. The seconds in policy
    and journal are of threads, beside the event loop's CPU seconds.
    """
    pool = PoolConfig(cpus=0.01, replicas=routers)
    pair = PairConfig(
        small=ModelConfig(path="simulated-small", parameters=1.0),
        large=ModelConfig(path="simulated-large", parameters=10.0),
    )
    pools = PoolsConfig(small=pool, large=pool, routers=routers)
    cases = [(name, n) for name in policies for n in live]
    taken: dict[tuple[str, int], list[Turn]] = {case: [] for case in cases}
    with (
        tempfile.TemporaryDirectory(prefix="steer-bench-") as folder,
        session(pair, pools, PromptReplies, journal=f"{folder}/journal") as started,
    ):
        for name in policies:
            run_turn(started, name, WARM_UP, "warm-up")
        for turn in range(turns):
            for name, n in cases:
                taken[name, n].append(run_turn(started, name, n, str(turn)))
    return [_row(name, n, taken[name, n], taken[name, live[0]]) for name, n in cases]


def run_turn(started: Session, name: str, live: int, turn: str) -> Turn:
    """Route `live` questions as a run does, in groups of its size, all at the same time."""
    way, cell = WAYS[name], f"{name} {live} {turn}"
    count = -(-live // way.routing.most_in_group)
    prompts = [PROMPT.format(number=i) for i in range(live)]
    groups = []
    for number in range(count):
        questions = in_one_cell(made_up_questions(prompts[number::count], "math"))
        columns = [[cell], [group_name(cell, number)], questions]
        groups.append(pa.table(dict(zip(GROUPS_SCHEMA.names, columns, strict=True)), schema=GROUPS_SCHEMA))
    routers = started.routers.of_run([{"name": cell, "groups": count}])
    stage = RouteGroup(routers, {cell: CellJob(way.policy, way.routing, "all", 0)}, ray.put(_nothing_committed()))
    before, began_s = started.stats(), time.monotonic()
    with ThreadPoolExecutor(count) as threads:
        counts = list(threads.map(lambda group: _routed(stage, routers, group), groups))
    wall_s = time.monotonic() - began_s
    after = started.stats()
    steps, tokens = (sum(column) for column in zip(*counts, strict=True))
    spent_s = [getattr(after, what) - getattr(before, what) for what in ("fit_s", "journal_s", "loop_s")]
    return Turn(*(value / steps for value in (wall_s, *spent_s, tokens)))


def _routed(stage: RouteGroup, routers: Routers, group: pa.Table) -> tuple[int, int]:
    """Route one group and have its traces count as committed. Returns its recorded steps and their tokens."""
    steps, tokens = 0, 0
    for parcel in stage(group):
        traces = from_one_cell(parcel["traces"])
        routers.committed(group["cell"][0].as_py(), group["group_id"][0].as_py(), traces["trace_id"].to_pylist())
        recorded = traces["step_rows"].combine_chunks().flatten()
        steps += len(recorded)
        tokens += sum(recorded.field("tokens").to_pylist())
    return steps, tokens


def _nothing_committed() -> CommittedRows:
    traces = [TRACES_SCHEMA.field(name) for name in ("group_id", "trace_id")]
    mixtures = [MIXTURES_SCHEMA.field(name) for name in ("group_id", *MIXTURE_KEYS)]
    return CommittedRows(pa.schema(traces).empty_table(), pa.schema(mixtures).empty_table())


def _row(name: str, live: int, turns: Sequence[Turn], smallest: Sequence[Turn]) -> dict:
    def median_us(of: Sequence[Turn], what: str) -> float:
        return 1e6 * statistics.median(getattr(turn, what) for turn in of)

    cost_us = median_us(turns, "wall_s")
    return {
        "policy": name,
        "live_traces": live,
        "trace_steps_per_s": round(1e6 / cost_us),
        "us_per_trace_step": round(cost_us, 1),
        "us_in_policy": round(median_us(turns, "policy_s"), 1),
        "us_in_journal": round(median_us(turns, "journal_s"), 1),
        "us_cpu_of_event_loop": round(median_us(turns, "loop_s"), 1),
        "tokens_per_trace_step": round(statistics.median(turn.tokens for turn in turns)),
        "cost_vs_first": round(cost_us / median_us(smallest, "wall_s"), 2),
        "turns": len(turns),
    }


def made_up_questions(prompts: Sequence[str], grader: str) -> pa.Table:
    """Questions with these prompts, as the router takes them."""
    return question_table([Question(f"q{i}", 0, "bench", prompt, "7", grader) for i, prompt in enumerate(prompts)])
