"""A run's rows for people and programs: accuracy with its interval, compute, and the bar at equal compute.

`RUN/summary.json` is a list of rows with the keys of `Summary`; docs/tables.md describes them.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steer.statistics.intervals import accuracy_interval, clustered_interval
from steer.statistics.thresholds import Point, random_query_accuracy
from steer.storage.run_folder import RunFolder


class Entry(NamedTuple):
    """One row to be: which cells of the run belong to it."""

    benchmark: str
    split: str
    policy: str
    setting: str
    cells: tuple[str, ...]
    """One a sampling seed."""
    bar: bool
    """Whether the row is a point of the random_query bar."""


class Summary(NamedTuple):
    """One row of `summary.json`."""

    benchmark: str
    split: str
    policy: str
    """Label of the row: the policy's name, or the sweep variant's."""
    setting: str
    """The threshold, as `gamma=0.5`; empty where the policy has none."""
    seeds: int
    """Sampling seeds that went in."""
    n: int
    """Questions; each was answered once a sample and seed."""
    accuracy: float
    """Share of right answers over all questions, samples and seeds, 0 to 1; a question without an answer is wrong."""
    accuracy_low: float
    accuracy_high: float
    """Ends of the 95 % interval. The unit is the question: with several answers a question, a bootstrap over
    questions; with one, Wilson's."""
    flops_paper: float
    """1e12 FLOPs a question: 2N for every generated token, discarded drafts included."""
    flops_full: float
    """The same with prompt tokens, re-prefill after a switch, and scoring passes."""
    share_large: float
    """Share of the kept steps that the large model wrote."""
    random_query_accuracy: float
    """Accuracy of sending random questions to the large model at the same `flops_paper`; NaN (null) where `small`
    and `large` were not measured."""
    seconds: float
    """Wall time of the pipelines the row's cells ran in, each shared among its cells by the time their steps took."""


def note_seconds(run: RunFolder, cells: Sequence[str], seconds: float) -> None:
    """Put the wall time of one pipeline (`evaluate` call) into `run.json`, shared among its cells by the time their
    steps took."""
    took = _step_seconds(run.read("steps", cells=list(cells), columns=["cell", "seconds"]))
    whole = sum(took.values())
    share = {name: took.get(name, 0.0) / whole if whole else 1 / len(cells) for name in cells}
    listed = run.describe()["cells"]
    run.update(cells=[_longer(c, share[c["name"]] * seconds) if c["name"] in share else c for c in listed])


def _longer(cell: dict, seconds: float) -> dict:
    """A cell that took some seconds more than it had when its run was cut off."""
    return cell | {"seconds": cell.get("seconds", 0.0) + seconds}


def summarise(run: RunFolder, entries: Sequence[Entry]) -> list[Summary]:
    """The rows of a run. Raises ValueError if a cell has no traces."""
    names = [name for entry in entries for name in entry.cells]
    columns = ["cell", "question_id", "sample", "correct", "flops_paper", "flops_full", "steps", "steps_large"]
    traces = run.read("traces", cells=names, columns=columns)
    # Of a cell whose pipeline was cut off after its last trace no time is known.
    took = {cell["name"]: cell.get("seconds", 0.0) for cell in run.describe()["cells"]}
    rows = []
    for entry in entries:
        mine = traces.filter(pc.is_in(traces["cell"], pa.array(entry.cells)))
        rows.append(_row(entry, mine, sum(took.get(name, 0.0) for name in entry.cells)))
    return with_bar(rows, {(e.benchmark, e.split, e.policy, e.setting) for e in entries if e.bar})


def with_bar(rows: Sequence[Summary], bar: set[tuple[str, str, str, str]]) -> list[Summary]:
    """Rows with `random_query_accuracy` filled in from those whose (benchmark, split, policy, setting) is in `bar`."""

    def point(row: Summary) -> Point:
        return Point(row.setting, row.accuracy, row.flops_paper)

    filled = []
    for row in rows:
        points = [point(r) for r in rows if r[:4] in bar and r[:2] == row[:2]]
        value = random_query_accuracy(row.flops_paper, points) if len(points) > 1 else math.nan
        filled.append(row._replace(random_query_accuracy=value))
    return filled


def write_json(run: RunFolder, rows: Iterable[Summary]) -> None:
    records = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row._asdict().items()} for row in rows
    ]
    run.write_file("summary.json", (json.dumps(records, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(run: RunFolder) -> list[Summary] | None:
    """The rows of `summary.json`; None if the run did not get so far."""
    data = run.read_file("summary.json")
    if data is None:
        return None
    records = json.loads(data)
    return [Summary(**{k: math.nan if v is None else v for k, v in record.items()}) for record in records]


def _row(entry: Entry, traces: pa.Table, seconds: float) -> Summary:
    if not traces.num_rows:
        raise ValueError(f"no traces of {entry.policy} {entry.setting} on {entry.benchmark} {entry.split}")
    correct_QA = _by_question(traces)
    low, high = _interval(correct_QA)
    steps = pc.sum(traces["steps"]).as_py()
    return Summary(
        *entry[:4],
        seeds=len(entry.cells),
        n=len(correct_QA),
        accuracy=float(correct_QA.mean()),
        accuracy_low=float(low),
        accuracy_high=float(high),
        flops_paper=pc.mean(traces["flops_paper"]).as_py(),
        flops_full=pc.mean(traces["flops_full"]).as_py(),
        share_large=pc.sum(traces["steps_large"]).as_py() / steps if steps else 0.0,
        random_query_accuracy=math.nan,
        seconds=seconds,
    )


def _by_question(traces: pa.Table) -> np.ndarray:
    """Verdicts as bool [Q, S]: questions, and their answers over samples and seeds."""
    order = traces.sort_by([("question_id", "ascending"), ("cell", "ascending"), ("sample", "ascending")])
    questions = len(pc.unique(order["question_id"]))
    correct = np.array(pc.fill_null(order["correct"], False).to_pylist(), dtype=bool)
    counts = np.array(order.group_by("question_id").aggregate([("correct", "count", pc.CountOptions("all"))])[1])
    if (counts * questions != len(correct)).any():
        raise ValueError("questions have different numbers of answers: the run is not whole")
    return correct.reshape(questions, -1)


def _interval(correct_QA: np.ndarray) -> tuple[float, float]:
    questions, answers = correct_QA.shape
    if answers == 1:
        return accuracy_interval(int(correct_QA.sum()), questions)
    return clustered_interval(correct_QA, seed=0)


def _step_seconds(steps: pa.Table) -> dict[str, float]:
    sums = steps.group_by("cell").aggregate([("seconds", "sum")]).to_pydict()
    return dict(zip(sums["cell"], (s or 0.0 for s in sums["seconds_sum"]), strict=True))
