"""Accuracy against compute."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from steer.config.policy import BAR
from steer.statistics.frames import by_row
from steer.statistics.intervals import RESAMPLES, accuracy_interval, clustered_interval
from steer.statistics.thresholds import Point, random_query_accuracy


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
