"""`steer prefixes`: the prefix table of a pair and a benchmark, from which `steer search` prices policies offline.

The table is a run folder of kind `prefixes`. Cell `small` holds each validation question's whole small answer, step by
step, with the scores of every step and token. Cell `large@k` holds the large model's completion from the boundary
before step k, graded together with the steps before it; `large@0` is the large model alone. A trace that is handed over
once, at whatever step, by whatever signal, is one of these completions.

Invariants: validation questions alone are asked. A completion goes on from the steps as text. (Within one tokenizer a
run hands over token ids; a text that the small model sampled in unusual pieces is then read in other ones here.)
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipelines.run.cells import Cell
from pipelines.run.ingest import ingest
from pipelines.run.lifecycle import Lifecycle
from pipelines.run.rows import Rows
from steer.benchmarks import reading
from steer.config.load import refusals_as_settings_errors
from steer.config.policy import LargePolicy, PolicyConfig, SteerPolicy
from steer.config.run import RoutingOptions, RunConfig
from steer.storage.one_cell import from_one_cell
from steer.storage.questions import question_table, to_questions
from steer.storage.run_folder import RunFolder
from steer.traces import Question

KIND = "prefixes"
SMALL = "small"
LARGE = "large@"
"""Begins the names of the cells of completions. The step before which they begin follows."""
NEVER_UNSURE = -1e30
"""A score that every step reaches."""
SMALL_ANSWERS = SteerPolicy(
    decide="threshold", thresholds=(NEVER_UNSURE,), measure="margin", aggregate="mean", refine="never", ahead=True
)
"""The small model writes each answer in one pass, which is answered step by step."""


class Priced(NamedTuple):
    """What a prefix table cost. FLOPs in units of 1e12, prompts included."""

    questions: int
    completions: int
    tokens_small: int
    tokens_large: int
    flops_full: float
    large_flops_full: float
    """What the large model alone took for these questions, once."""

    def text(self) -> str:
        times = self.flops_full / self.large_flops_full if self.large_flops_full else float("nan")
        return (
            f"{self.questions} questions, {self.completions} completions by the large model; tokens: "
            f"{self.tokens_small:,} small, {self.tokens_large:,} large; {times:.1f} times the FLOPs of the large model "
            "alone on these questions"
        )


def write_prefixes(
    config: RunConfig,
    out: str | Path,
    replica_class: type | None = None,
    verbose: bool = False,
    resume: bool = False,
) -> Priced:
    """Write the prefix table of the configured benchmark's validation questions to the folder `out`.

    `config.policy` and `config.benchmark.split` are not read. `resume`: go on with the table in `out`, or begin it;
    what is committed is not written again. Raises SettingsError for a configuration that cannot be used, before
    anything starts.
    """
    config = of_validation(config)
    lifecycle = Lifecycle(
        KIND,
        config,
        [SMALL_ANSWERS, LargePolicy()],
        out,
        seeds=[config.seed],
        resume=resume,
        replica_class=replica_class,
        verbose=verbose,
    )
    held = {} if lifecycle.resumed is None else lifecycle.resumed.describe()
    admitted: dict[str, Any] = {cell["name"]: cell for cell in held.get("cells", ())}
    with refusals_as_settings_errors():
        plan = None if admitted else reading(config.benchmark)
    with lifecycle:
        if plan is not None:
            benchmark = ingest(plan)
            small = _cell(config, SMALL, SMALL_ANSWERS, config.routing, benchmark.rows, benchmark.tokens)
            lifecycle.begin([benchmark], [small])
        else:
            small = _cell(config, SMALL, SMALL_ANSWERS, config.routing, None, admitted[SMALL]["tokens"])
            lifecycle.begin([])
        lifecycle.evaluate([small])
        lifecycle.evaluate(_completions(config, lifecycle.run, small.tokens))
    run = lifecycle.run
    run.finish()
    return priced(run)


def of_validation(config: RunConfig) -> RunConfig:
    """The configuration as a prefix table is written by: validation questions, every token's scores, no policy."""
    return config.model_copy(
        update={
            "benchmark": config.benchmark.model_copy(update={"split": "validation", "groups": 1}),
            "policy": LargePolicy(),
            "routing": config.routing.model_copy(update={"token_scores": True}),
        }
    )


def priced(run: RunFolder) -> Priced:
    """What the table in a run folder cost, by its committed traces."""
    traces = run.read_unsorted("traces", columns=["cell", "question_id", "tokens_small", "tokens_large", "flops_full"])
    alone = traces.filter(pc.equal(traces["cell"], f"{LARGE}0"))
    completed = traces.filter(pc.not_equal(traces["cell"], SMALL))
    return Priced(
        questions=traces.num_rows - completed.num_rows,
        completions=completed.num_rows,
        tokens_small=_sum(traces, "tokens_small"),
        tokens_large=_sum(traces, "tokens_large"),
        flops_full=float(_sum(traces, "flops_full")),
        large_flops_full=float(_sum(alone, "flops_full")),
    )


def _sum(table: pa.Table, column: str) -> Any:
    return pc.sum(table[column]).as_py() or 0


def _cell(
    config: RunConfig, name: str, policy: PolicyConfig, routing: RoutingOptions, rows: Rows | None, tokens: Any
) -> Cell:
    return Cell(name=name, policy=policy, routing=routing, rows=rows, tokens=tokens, seed=config.seed)


def _completions(config: RunConfig, run: RunFolder, tokens: Any) -> list[Cell]:
    """The cells of the completions, one for each boundary that any small answer has. All are in flight at once, so
    that the pool is full to the end: each is one pass, and none waits for another."""
    admitted = [cell["name"] for cell in run.describe()["cells"] if cell["name"] != SMALL]
    by_boundary = dict.fromkeys(admitted) or {
        f"{LARGE}{k}": _rows(questions) for k, questions in enumerate(_begun(run)) if questions
    }
    routing = config.routing.model_copy(update={"groups_in_flight": max(len(by_boundary), 1), "token_scores": None})
    return [_cell(config, name, LargePolicy(), routing, rows, tokens) for name, rows in by_boundary.items()]


def _begun(run: RunFolder) -> Iterator[list[Question]]:
    """Of each boundary, from the first on: the questions whose small answer has a step after it, with the steps before
    it. Traces that ended as an error are left out."""
    cell = next(cell for cell in run.describe()["cells"] if cell["name"] == SMALL)
    asked = {
        (question.id, question.sample): question
        for group in run.read_groups(cell["part"], [SMALL])
        for question in to_questions(from_one_cell(group["questions"]))
    }
    traces = run.read("traces", [SMALL], ["question_id", "sample", "status", "text"]).to_pylist()
    texts = {(row["question_id"], row["sample"]): row["text"] for row in traces if row["status"] != "error"}
    steps: dict[tuple[str, int], list[tuple[str, int]]] = {key: [] for key in texts}
    for row in run.read("steps", [SMALL], ["question_id", "sample", "text", "tokens"]).to_pylist():
        key = (row["question_id"], row["sample"])
        if key in steps:
            steps[key].append((row["text"], row["tokens"]))
    steps = {key: _with_all_text(written, texts[key]) for key, written in steps.items()}
    longest = max(map(len, steps.values()), default=0)
    for k in range(longest):
        yield [_going_on(asked[key], written[:k]) for key, written in steps.items() if len(written) > k]


def _with_all_text(steps: list[tuple[str, int]], text: str) -> list[tuple[str, int]]:
    """The steps with what stands between them in the answer: the tag that ended a thought at its budget, which no model
    wrote, goes to the step before it."""
    whole: list[tuple[str, int]] = []
    at = 0
    for written, tokens in steps:
        start = text.index(written, at)
        if whole and start > at:
            whole[-1] = (whole[-1][0] + text[at:start], whole[-1][1])
        whole.append((written, tokens))
        at = start + len(written)
    return whole


def _going_on(question: Question, steps: Sequence[tuple[str, int]]) -> Question:
    return replace(question, begun=json.dumps(steps, ensure_ascii=False) if steps else "")


def _rows(questions: Sequence[Question]) -> Rows:
    """These questions as rows of a cell."""
    table = question_table(questions)
    sizes = [len(question.prompt) + len(question.gold) + len(question.begun) for question in questions]
    return Rows(
        trace_ids=pa.array([question.trace_id for question in questions], pa.large_string()),
        bad=0,
        blocks=(ray.put(table),),
        block_I=np.zeros(len(questions), np.int32),
        row_I=np.arange(len(questions), dtype=np.int32),
        sample_I=np.array([question.sample for question in questions], np.int32),
        bytes_I=np.array(sizes, np.int64),
    )
