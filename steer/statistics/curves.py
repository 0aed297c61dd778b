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
from steer.statistics.frames import by_row, units
from steer.statistics.gap_recovered import GapRecovered, gap_recovered
from steer.statistics.intervals import accuracy_interval, clustered_interval, ratio_interval
from steer.statistics.thresholds import Point, random_query_accuracy

PLAN = "plan"
"""The label of a sweep's row that runs a chosen plan begins so."""


def accuracy_with_interval(traces: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """Share of right answers, and its 95 % interval with the question as its unit, or the cluster where there are some.

    With one answer a question the interval is Wilson's. With equally many answers it is a bootstrap over questions
    (`steer.statistics.intervals`). If a run did not end and some questions have fewer answers, or if questions share a
    rule or a passage, it is a bootstrap over questions or clusters of the ratio (sum of right)/(sum of answers).
    """
    sums = traces.groupby("question_id", observed=True)["correct"].agg(["sum", "count"])
    right_Q, answers_Q = sums["sum"].to_numpy(float), sums["count"].to_numpy(float)
    accuracy = right_Q.sum() / answers_Q.sum()
    unit = units(traces)
    if unit.nunique() < len(sums):
        clustered = traces.groupby(unit.astype(str), sort=True)["correct"].agg(["sum", "count"])
        low, high = ratio_interval(clustered["sum"].to_numpy(float), clustered["count"].to_numpy(float), seed)
    elif answers_Q.max() == 1:
        low, high = accuracy_interval(int(right_Q.sum()), len(right_Q))
    elif np.ptp(answers_Q) == 0:
        low, high = clustered_interval((right_Q / answers_Q)[:, None], seed)
    else:
        low, high = ratio_interval(right_Q, answers_Q, seed)
    return float(accuracy), float(low), float(high)


def curve(
    traces: pd.DataFrame, chosen: Sequence[Sequence[str]] = (), bar_labels: Collection[str] = BAR
) -> pd.DataFrame:
    """A point for each row of the report: accuracy with its interval, and 1e12 FLOPs a question by both counts.

    `clusters` is the number of units that the interval rests on: questions, or clusters of them. `pareto` marks the
    rows of a benchmark and split that no other beats in accuracy and `flops_full`; a row alone there is not marked.
    `plan` marks a chosen plan, by its label. `apgr`, `cpt_50`, `cpt_80` and `settings_between` (in cost) are those of
    the policy's whole curve on its benchmark and split (`gap_recovered`); NaN for `small` and `large`, and where the
    curve has none. These are over rows that answered all questions which any row there did.

    If the traces have `usd_tokens`, so has each point, and `usd_tokens_correct`: dollars a right answer.

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
                "plan": row.policy.startswith(PLAN),
                "chosen": (row.benchmark, row.policy, row.setting) in marked,
                "seeds": mine["seed"].nunique(),
                "questions": mine["question_id"].nunique(),
                "clusters": units(mine).nunique(),
                "answers": len(mine),
                "accuracy": accuracy,
                "accuracy_low": low,
                "accuracy_high": high,
                "flops_paper": float(mine["flops_paper"].mean()),
                "flops_full": float(mine["flops_full"].mean()),
                "share_large": _ratio(mine["steps_large"].sum(), mine["steps"].sum()),
                "tokens_discarded": float(mine["tokens_discarded"].mean()),
                "unanswered": float((mine["status"] != "answered").mean()),
                **_dollars(mine),
            }
        )
    frame = pd.DataFrame(points)
    frame["bar"] = [_bar(frame, p) for p in frame.itertuples()]
    frame["above_bar"] = frame["accuracy"] - frame["bar"]
    frame["pareto"] = False
    names = ["apgr", "cpt_50", "cpt_80", "settings_between"]
    frame[names] = math.nan
    for _, mine in frame.groupby(["benchmark", "split"], sort=False):
        # Rows of a run that did not end have answered fewer questions, perhaps the quick ones: they are not compared.
        mine = mine[mine["questions"] == mine["questions"].max()]
        if len(mine) > 1:
            frame.loc[mine.index, "pareto"] = pareto(mine["accuracy"].to_numpy(), mine["flops_full"].to_numpy())
        for policy, recovered in _recovered(mine).items():
            whose = mine.index[mine["policy"] == policy]
            frame.loc[whose, names] = list(map(float, recovered))
    return frame


def pareto(accuracy: npt.NDArray[np.float64], cost: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which points are in the Pareto set: no other is as cheap and as accurate, and better in one of the two.

    Points are taken as they were measured; the noise of neither is considered. Equal points are in it together.
    """
    order = np.lexsort((-accuracy, cost))
    member = np.zeros(len(cost), bool)
    best, at = -math.inf, math.nan
    for i in order:
        if accuracy[i] > best:
            best, at = accuracy[i], cost[i]
        member[i] = accuracy[i] == best and cost[i] == at
    return member


def _recovered(points: pd.DataFrame) -> dict[str, GapRecovered]:
    """By policy, on one benchmark and split; empty if `small` or `large` was not run."""
    ends = {
        str(policy): (float(mine["flops_full"].iloc[0]), float(mine["accuracy"].iloc[0]))
        for policy, mine in points[points["of_bar"]].groupby("policy", sort=False)
        if policy in ("small", "large")
    }
    if len(ends) < 2:
        return {}
    routed = points[~points["policy"].isin(ends)]
    return {
        str(policy): gap_recovered(list(mine["flops_full"]), list(mine["accuracy"]), ends["small"], ends["large"])
        for policy, mine in routed.groupby("policy", sort=False)
    }


def _dollars(traces: pd.DataFrame) -> dict[str, float]:
    """Dollars a question and a right answer by token prices. Nothing without prices; NaN if those of a trace are not
    known, or no answer is right."""
    if "usd_tokens" not in traces:
        return {}
    usd, right = float(traces["usd_tokens"].sum(skipna=False)), int(traces["correct"].sum())
    return {"usd_tokens": usd / len(traces), "usd_tokens_correct": usd / right if right else math.nan}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _bar(frame: pd.DataFrame, point: Any) -> float:
    same = frame[(frame["benchmark"] == point.benchmark) & (frame["split"] == point.split)]
    bar = same[same["of_bar"]]
    points = [Point(p.setting, p.accuracy, p.flops_paper) for p in bar.itertuples()]
    return random_query_accuracy(point.flops_paper, points) if len(points) > 1 else math.nan
