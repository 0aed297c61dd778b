"""The data frames that the statistics read and give."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from steer.traces import MEASURES

KEYS = ["benchmark", "split", "policy", "setting"]
"""What names a row of the report."""


SCORES = {f"{measure}_{scorer}": (measure, scorer) for scorer in ("small", "large") for measure in MEASURES} | {
    "confidence": ("routed by", "policy"),
    "signal": ("signal", "policy"),
}
"""Columns of `steps/` that say how good a step is: (measure, scorer)."""


DECILES = 10


MIN_SCORES = 5
"""What is said of fewer traces than that is noise: it is left out."""


class ReportRow(NamedTuple):
    benchmark: str
    split: str
    policy: str
    setting: str


def _unique(values) -> list:
    return list(dict.fromkeys(values))


def by_row(traces: pd.DataFrame) -> Iterator[tuple[ReportRow, pd.DataFrame]]:
    """Each row's traces, rows in the order in which they come first; the index is kept."""
    for key, mine in traces.groupby(KEYS, observed=True, sort=False):
        yield ReportRow(*key), mine


def present(steps: pd.DataFrame) -> list[str]:
    """The score columns that hold a number; `confidence` first, since the policy routed by it."""
    held = [name for name in SCORES if name in steps and np.isfinite(steps[name].to_numpy()).any()]
    return sorted(held, key=lambda name: name != "confidence")
