"""Accuracy against compute: the points of the report, each with its interval and its distance from the bar.

Invariant: everything random is seeded, so the same tables give the same numbers.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from steer.config.policy import BAR
from steer.statistics.frames import by_row
from steer.statistics.intervals import RESAMPLES, accuracy_interval, clustered_interval
from steer.statistics.thresholds import Point, random_query_accuracy


def accuracy_with_interval(traces: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """Share of right answers, and its 95 % interval with the question as its unit.

    With one answer a question the interval is Wilson's. With equally many answers it is a bootstrap over questions
    (`steer.statistics.intervals`). If a run did not end and some questions have fewer answers, it is a bootstrap over
    questions of the ratio (sum of right)/(sum of answers).
    """
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


def _bootstrap(value_Q: npt.NDArray[np.float64], weight_Q: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """95 % percentile interval of sum(value)/sum(weight) over resampled questions (Efron and Tibshirani 1993, 13)."""
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(value_Q), len(value_Q))
        ratios.append(value_Q[drawn].sum() / weight_Q[drawn].sum())
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def curve(
    traces: pd.DataFrame, chosen: Sequence[Sequence[str]] = (), bar_labels: Collection[str] = BAR
) -> pd.DataFrame:
    """A point for each row of the report: accuracy with its interval, and 1e12 FLOPs a question by both counts.

    `bar` is the accuracy of `random_query` at the same `flops_paper`, NaN if fewer than two points of the bar were
    measured. `of_bar` marks the rows that make up the bar. `chosen`: [benchmark, policy, setting] of the rows that
    validation chose. `bar_labels`: the `policy` of the bar's rows, which a sweep may call by other names.
    """
    marked = {tuple(c) for c in chosen}
    points = []
    for row, mine in by_row(traces):
        accuracy, low, high = accuracy_with_interval(mine)
        points.append(
            {
                **row._asdict(),
                "of_bar": row.policy in bar_labels,
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
    bar = same[same["of_bar"]]
    points = [Point(p.setting, p.accuracy, p.flops_paper) for p in bar.itertuples()]
    return random_query_accuracy(point.flops_paper, points) if len(points) > 1 else math.nan
