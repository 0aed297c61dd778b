"""The data frames that the statistics read, and what names their rows.

`traces` has a line for each trace: `KEYS`, question_id, sample, seed, correct, compute; and `cluster`, if questions may
share a rule or a passage (`steer.statistics.clusters`). `steps` has a line for each
kept step: `trace` (index in `traces`), `step` from 0, `of` (kept steps of its trace), `large`, and the columns of
`SCORES`. `pipelines.report.frames` reads both from a run. A *row* of the report is one policy setting on one benchmark
and split, with all of its sampling seeds.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from steer.traces import MEASURES, score_columns

KEYS = ["benchmark", "split", "policy", "setting"]
"""Columns that name a row of the report, in the order of `ReportRow`."""

SCORES = {
    name: (measure if aggregate == "mean" else f"{measure}, {aggregate}", scorer)
    for scorer in ("small", "large")
    for name, (aggregate, measure) in zip(score_columns(scorer), product(("mean", "min"), MEASURES), strict=False)
} | {
    "confidence": ("routed by", "policy"),
    "signal": ("signal", "policy"),
}
"""Columns of `steps/` that say how good a step is, each with its measure and scorer: means, the least sure token, and
what the policy routed by. (The other aggregates are in `steps/` too.)"""

DECILES = 10
"""Parts into which a trace's length is divided."""

MIN_SCORES = 5
"""Numbers of fewer traces than this are noise: they are left out."""

T = TypeVar("T")


class ReportRow(NamedTuple):
    """One row of the report."""

    benchmark: str
    split: str
    policy: str
    setting: str


def unique(values: Iterable[T]) -> list[T]:
    """The different values, in the order in which they come first."""
    return list(dict.fromkeys(values))


def by_row(traces: pd.DataFrame) -> Iterator[tuple[ReportRow, pd.DataFrame]]:
    """Each row of the report with its traces, in the order in which rows come first. The index is kept."""
    for key, mine in traces.groupby(KEYS, observed=True, sort=False):
        yield ReportRow(*map(str, key)), mine


def units(traces: pd.DataFrame) -> pd.Series:
    """What is resampled, for each trace: the cluster of its question, or the question where clusters are not known."""
    return traces["cluster" if "cluster" in traces else "question_id"]


def present(steps: pd.DataFrame) -> list[str]:
    """The score columns that hold a number. `confidence` comes first, since the policy routed by it."""
    held = [name for name in SCORES if name in steps and np.isfinite(steps[name].to_numpy()).any()]
    return sorted(held, key=lambda name: name != "confidence")
