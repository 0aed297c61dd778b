"""Reads a run's tables into the data frames that `steer.statistics` works on.

`load` gives `traces`: one line a trace, with `KEYS`, question_id, cluster, sample, seed, verdict and compute.
`load_steps` gives the kept steps of some of them: `trace` (the line in `traces`), `step` from 0, `of` (kept steps of
its trace), `large`, and a column for each name in `SCORES`. A *row* of the report is one policy setting on one
benchmark and split, with all of its sampling seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from pipelines.report.summary import priced
from steer.config.policy import BAR
from steer.config.thresholds import setting_of
from steer.costs.money import TOKEN_COLUMNS, recorded_prices
from steer.statistics.clusters import clusters
from steer.statistics.frames import KEYS, SCORES, ReportRow, unique
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import SCHEMAS

TRACE_COLUMNS = (
    *("cell", "trace_id", "question_id", "sample", "seed", "benchmark", "difficulty", "correct", "status", "steps"),
    *("steps_large", "tokens_discarded", "flops_paper", "flops_full", "labels"),
)


def rows_of(described: dict[str, Any]) -> dict[str, ReportRow]:
    """Cell name -> row, from `run.json`. A cell's name is benchmark/split/label[/setting]/seedN."""
    known = [(b["benchmark"], b["split"]) for b in described.get("benchmarks", [])]
    return {cell["name"]: _row_of(cell, known) for cell in described["cells"]}


def bar_labels(described: dict[str, Any]) -> set[str]:
    """Labels of the rows that make up the bar, from `run.json`: those whose policy is one of `BAR`."""
    rows = rows_of(described)
    return {rows[cell["name"]].policy for cell in described["cells"] if cell["policy"]["name"] in BAR}


def _row_of(cell: dict[str, Any], known: Sequence[tuple[str, str]]) -> ReportRow:
    policy, name = cell["policy"], cell["name"]
    setting = setting_of(policy)
    for benchmark, split in known:
        if name.startswith(f"{benchmark}/{split}/"):
            label = name.removeprefix(f"{benchmark}/{split}/").rpartition("/seed")[0]
            return ReportRow(benchmark, split, label.removesuffix(f"/{setting}") or policy["name"], setting)
    return ReportRow("", "", policy["name"], setting)


def read(run: RunFolder, table: str, columns: Sequence[str], wanted: pads.Expression | None = None) -> pa.Table:
    """Some columns of a table, unsorted. Columns that an older STEER did not write are null.

    `RunFolder.read` sorts by text, which is slow for a million steps."""
    return run.read_unsorted(table, columns=[c for c in columns if c in SCHEMAS[table].names], wanted=wanted)


def load(run: RunFolder, described: dict[str, Any]) -> pd.DataFrame:
    """All traces, cells in the run's order. A trace without a verdict counts as wrong."""
    prices = recorded_prices(described["config"])
    columns = (*TRACE_COLUMNS, *(TOKEN_COLUMNS if prices else ()))
    table = read(run, "traces", columns).sort_by([("question_id", "ascending"), ("sample", "ascending")])
    for name in ("cell", "benchmark", "difficulty", "status", "labels"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].dictionary_encode())
    frame = priced(table.to_pandas(), prices)
    rows = rows_of(described)
    frame["cell"] = frame["cell"].cat.set_categories([*rows, *sorted(set(frame["cell"].cat.categories) - set(rows))])
    frame = frame.sort_values("cell", kind="stable", ignore_index=True)
    cells = [rows.get(cell, ReportRow("", "", cell, "")) for cell in frame["cell"].cat.categories]
    codes = frame["cell"].cat.codes.to_numpy()
    measured_on = frame.pop("benchmark").astype(str)
    for position, key in enumerate(KEYS):
        names = pd.Categorical([cell[position] for cell in cells], categories=unique(c[position] for c in cells))
        frame[key] = pd.Categorical.from_codes(names.codes[codes], names.categories)
    if (frame["benchmark"] == "").any():
        frame["benchmark"] = pd.Categorical(measured_on)
    frame["correct"] = frame["correct"].fillna(False).astype(bool)
    frame["cluster"] = clusters(frame)
    return frame.drop(columns="labels")


def load_steps(run: RunFolder, traces: pd.DataFrame) -> pd.DataFrame:
    """Kept steps of these traces, which are some of those that `load` gave."""
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
