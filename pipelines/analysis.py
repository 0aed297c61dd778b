"""A run's tables to the numbers of its report: plain functions of data frames, no drawing.

`load` gives `traces`, one row a trace (`KEYS`, question_id, sample, seed, verdict, compute), and `load_steps` the kept
steps of some of them: `trace` (row number in `traces`), `step` from 0, `of` (kept steps of its trace), `large`, and a
column for each name in `SCORES`. A *row* of the report is one policy setting on one benchmark and split, with all of
its sampling seeds. Everything random is seeded: the same tables give the same numbers.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from pyarrow import fs

from pipelines.choice import Point, random_query_accuracy
from pipelines.grids import setting_of
from pipelines.store import SCHEMAS, RunFolder
from pipelines.summary import BAR
from steer.costs import RESAMPLES, accuracy_interval, clustered_interval
from steer.traces import MEASURES

KEYS = ["benchmark", "split", "policy", "setting"]
"""What names a row of the report."""

SCORES = {f"{measure}_{scorer}": (measure, scorer) for scorer in ("small", "large") for measure in MEASURES} | {
    "confidence": ("routed by", "policy"),
    "signal": ("signal", "policy"),
}
"""Columns of `steps/` that say how good a step is: (measure, scorer)."""

TRACE_COLUMNS = (
    *("cell", "trace_id", "question_id", "sample", "seed", "benchmark", "difficulty", "correct", "status", "steps"),
    *("steps_large", "tokens_discarded", "flops_paper", "flops_full"),
)
DECILES = 10
MIN_SCORES = 5
"""What is said of fewer traces than that is noise: it is left out."""


class Row(NamedTuple):
    benchmark: str
    split: str
    policy: str
    setting: str


def rows_of(described: dict[str, Any]) -> dict[str, Row]:
    """Cell name -> row, from `run.json`: names are benchmark/split/label[/setting]/seedN."""
    known = [(b["benchmark"], b["split"]) for b in described.get("benchmarks", [])]
    return {cell["name"]: _row_of(cell, known) for cell in described["cells"]}


def _row_of(cell: dict[str, Any], known: Sequence[tuple[str, str]]) -> Row:
    policy, name = cell["policy"], cell["name"]
    setting = setting_of(policy)
    for benchmark, split in known:
        if name.startswith(f"{benchmark}/{split}/"):
            label = name.removeprefix(f"{benchmark}/{split}/").rpartition("/seed")[0]
            return Row(benchmark, split, label.removesuffix(f"/{setting}") or policy["name"], setting)
    return Row("", "", policy["name"], setting)


def read(run: RunFolder, table: str, columns: Sequence[str], wanted: pads.Expression | None = None) -> pa.Table:
    """Only these columns, unsorted: `RunFolder.read` sorts by text, which a million steps do not need. Columns that an
    older STEER did not write are null."""
    filesystem, path = fs.FileSystem.from_uri(run.root)
    parts = pads.dataset(f"{path}/{table}", SCHEMAS[table], format="parquet", filesystem=filesystem)
    return parts.to_table(columns=[c for c in columns if c in SCHEMAS[table].names], filter=wanted)


def load(run: RunFolder, described: dict[str, Any]) -> pd.DataFrame:
    """All traces, cells in the run's order. A trace without a verdict counts as wrong, as everywhere."""
    table = read(run, "traces", TRACE_COLUMNS).sort_by([("question_id", "ascending"), ("sample", "ascending")])
    for name in ("cell", "benchmark", "difficulty", "status"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].dictionary_encode())
    frame = table.to_pandas()
    rows = rows_of(described)
    frame["cell"] = frame["cell"].cat.set_categories([*rows, *sorted(set(frame["cell"].cat.categories) - set(rows))])
    frame = frame.sort_values("cell", kind="stable", ignore_index=True)
    cells = [rows.get(cell, Row("", "", cell, "")) for cell in frame["cell"].cat.categories]
    codes = frame["cell"].cat.codes.to_numpy()
    measured_on = frame.pop("benchmark").astype(str)
    for position, key in enumerate(KEYS):
        names = pd.Categorical([cell[position] for cell in cells], categories=_unique(c[position] for c in cells))
        frame[key] = pd.Categorical.from_codes(names.codes[codes], names.categories)
    if (frame["benchmark"] == "").any():
        frame["benchmark"] = pd.Categorical(measured_on)
    frame["correct"] = frame["correct"].fillna(False).astype(bool)
    return frame


def _unique(values) -> list:
    return list(dict.fromkeys(values))


def by_row(traces: pd.DataFrame) -> Iterator[tuple[Row, pd.DataFrame]]:
    """Each row's traces, rows in the order in which they come first; the index is kept."""
    for key, mine in traces.groupby(KEYS, observed=True, sort=False):
        yield Row(*key), mine


def load_steps(run: RunFolder, traces: pd.DataFrame) -> pd.DataFrame:
    """Kept steps of these traces (a part of what `load` gave; `trace` is its index)."""
    cells = [str(c) for c in traces["cell"].unique()]
    columns = ("cell", "trace_id", "step", "model", *SCORES)
    table = read(run, "steps", columns, pads.field("cell").isin(cells) & pads.field("accepted"))
    cell = pd.Index(cells).get_indexer(table["cell"].to_pandas())
    ids = pd.Index(traces["trace_id"].unique())
    key = cell * len(ids) + ids.get_indexer(table["trace_id"].to_pandas())
    cell_of_trace = pd.Index(cells).get_indexer(traces["cell"].astype(str))
    found = pd.Index(cell_of_trace * len(ids) + ids.get_indexer(traces["trace_id"])).get_indexer(key)
    steps = pd.DataFrame({"trace": np.where(found >= 0, traces.index.to_numpy()[found], -1)})
    steps["step"] = table["step"].to_numpy()
    steps["large"] = pc.equal(table["model"], "large").to_numpy()
    for name in SCORES:
        if name in table.column_names:
            steps[name] = table[name].to_numpy().astype(np.float64)
    steps = steps[steps["trace"] >= 0].sort_values(["trace", "step"], kind="stable", ignore_index=True)
    steps["of"] = np.bincount(steps["trace"], minlength=1)[steps["trace"]]
    return steps


# --- accuracy and compute -------------------------------------------------------------------------------------------


def accuracy_with_interval(traces: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """Share of right answers and its 95 % interval; the unit is the question. With one answer a question Wilson's,
    with equally many a bootstrap over questions (`steer.costs`); where a run did not end and some questions have fewer
    answers, a bootstrap of the ratio (sum of right)/(sum of answers) over questions."""
    sums = traces.groupby("question_id", observed=True)["correct"].agg(["sum", "count"])
    right_Q, answers_Q = sums["sum"].to_numpy(float), sums["count"].to_numpy(float)
    accuracy = right_Q.sum() / answers_Q.sum()
    if answers_Q.max() == 1:
        low, high = accuracy_interval(int(right_Q.sum()), len(right_Q))
    elif np.ptp(answers_Q) == 0:
        low, high = clustered_interval((right_Q / answers_Q)[:, None], seed)
    else:
        low, high = _bootstrap(right_Q, answers_Q, seed)
    return float(accuracy), float(low), float(high)


def _bootstrap(value_Q: np.ndarray, weight_Q: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile interval of sum(value)/sum(weight) over resampled questions (Efron and Tibshirani 1993, 13)."""
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(value_Q), len(value_Q))
        ratios.append(value_Q[drawn].sum() / weight_Q[drawn].sum())
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def curve(traces: pd.DataFrame, chosen: Sequence[Sequence[str]] = ()) -> pd.DataFrame:
    """A point a row: accuracy with interval, 1e12 FLOPs a question by both counts, and `bar`, the accuracy of
    `random_query` at the same `flops_paper` (NaN where fewer than two points of the bar were measured). `chosen`:
    [benchmark, policy, setting] of what validation chose."""
    marked = {tuple(c) for c in chosen}
    points = []
    for row, mine in by_row(traces):
        accuracy, low, high = accuracy_with_interval(mine)
        points.append(
            {
                **row._asdict(),
                "chosen": (row.benchmark, row.policy, row.setting) in marked,
                "seeds": mine["seed"].nunique(),
                "questions": mine["question_id"].nunique(),
                "answers": len(mine),
                "accuracy": accuracy,
                "accuracy_low": low,
                "accuracy_high": high,
                "flops_paper": float(mine["flops_paper"].mean()),
                "flops_full": float(mine["flops_full"].mean()),
                "share_large": _ratio(mine["steps_large"].sum(), mine["steps"].sum()),
                "tokens_discarded": float(mine["tokens_discarded"].mean()),
                "unanswered": float((mine["status"] != "answered").mean()),
            }
        )
    frame = pd.DataFrame(points)
    frame["bar"] = [_bar(frame, p) for p in frame.itertuples()]
    frame["above_bar"] = frame["accuracy"] - frame["bar"]
    return frame


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _bar(frame: pd.DataFrame, point: Any) -> float:
    same = frame[(frame["benchmark"] == point.benchmark) & (frame["split"] == point.split)]
    bar = same[same["policy"].isin(BAR)]
    points = [Point(p.setting, p.accuracy, p.flops_paper) for p in bar.itertuples()]
    return random_query_accuracy(point.flops_paper, points) if len(points) > 1 else math.nan


# --- Figure 2: confidence of right and wrong traces -----------------------------------------------------------------


def confidence_by_step(traces: pd.DataFrame, steps: pd.DataFrame, least: int = MIN_SCORES) -> pd.DataFrame:
    """Mean and quartiles of each score over kept steps, right and wrong traces apart (the paper's Figure 2).

    `axis` `step`: x is the step's number from 1, n the traces that reached it; `relative`: x is the middle of a tenth
    of the trace in percent (step i of n lies at (i + 1/2)/n), n the steps in it, traces of one step left out. Points
    of fewer than `least` scores are left out."""
    blocks = []
    for row, mine in by_row(traces):
        own = steps[steps["trace"].isin(mine.index)]
        correct = traces["correct"].to_numpy()[traces.index.get_indexer(own["trace"])]
        several = own["of"].to_numpy() > 1
        every = np.ones(len(own), bool)
        for axis, x, on in (("step", own["step"].to_numpy() + 1, every), ("relative", _decile(own) * 10 + 5, several)):
            for name in present(own):
                value = own[name].to_numpy()
                keep = np.isfinite(value) & on
                found = _spread(x[keep], correct[keep], value[keep])
                found = found[found["n"] >= least]
                measure, scorer = SCORES[name]
                blocks.append(found.assign(**row._asdict(), measure=measure, scorer=scorer, axis=axis))
    columns = [*KEYS, "measure", "scorer", "axis", "x", "correct", "n", "mean", "q25", "median", "q75"]
    return pd.concat(blocks, ignore_index=True)[columns] if blocks else pd.DataFrame(columns=columns)


def present(steps: pd.DataFrame) -> list[str]:
    """The score columns that hold a number; `confidence` first, since the policy routed by it."""
    held = [name for name in SCORES if name in steps and np.isfinite(steps[name].to_numpy()).any()]
    return sorted(held, key=lambda name: name != "confidence")


def _decile(steps: pd.DataFrame) -> np.ndarray:
    """0 to 9: the tenth of its trace in which each step's middle lies."""
    return ((2 * steps["step"].to_numpy() + 1) * DECILES // (2 * steps["of"].to_numpy())).clip(0, DECILES - 1)


def _spread(x: np.ndarray, correct: np.ndarray, value: np.ndarray) -> pd.DataFrame:
    """n, mean and quartiles (linear between order statistics) of `value` for each (x, correct), by one sort."""
    order = np.lexsort((value, correct, x))
    x, correct, value = x[order], correct[order], value[order]
    first = np.flatnonzero(np.r_[len(x) > 0, (x[1:] != x[:-1]) | (correct[1:] != correct[:-1])])
    n = np.diff(np.r_[first, len(x)])
    found = pd.DataFrame({"x": x[first], "correct": correct[first], "n": n})
    found["mean"] = np.add.reduceat(value, first) / n if len(first) else np.empty(0)
    for name, q in (("q25", 0.25), ("median", 0.5), ("q75", 0.75)):
        at = q * (n - 1)
        low = np.floor(at).astype(int)
        below, above = value[first + low], value[first + np.minimum(low + 1, n - 1)]
        found[name] = below + (at - low) * (above - below)
    return found
