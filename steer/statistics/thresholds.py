"""Choosing a threshold from its measured grid, and the bar a routing policy is held against. Pure functions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from steer.config.sweep import Objective


class Point(NamedTuple):
    """One measured setting of a policy on one split."""

    setting: str
    accuracy: float
    """Share of right answers, 0 to 1."""
    flops_paper: float
    """1e12 FLOPs a question, by the paper's rule."""


_ROUNDING = 1e-9
"""Accuracies are ratios of counts: a setting exactly at the tolerance must not fall out by a last bit."""


def choose(points: Sequence[Point], objective: Objective, tolerance: float = 1.0, budget: float | None = None) -> Point:
    """The point that `objective` prefers (method.md, Routing); `tolerance` in points of accuracy (%).

    Ties go to the cheaper point, then to the earlier one. With `budget` and nothing under it, the cheapest point:
    the curve shows that the budget was not met. Raises ValueError on no points."""
    if not points:
        raise ValueError("no measured setting to choose from")
    if objective == "accuracy":
        return min(points, key=lambda p: (-p.accuracy, p.flops_paper))
    if objective == "budget":
        if budget is None:
            raise ValueError("objective budget needs a budget (1e12 FLOPs a question)")
        under = [p for p in points if p.flops_paper <= budget]
        return choose(under, "accuracy") if under else min(points, key=lambda p: (p.flops_paper, -p.accuracy))
    best = max(p.accuracy for p in points)
    within = [p for p in points if p.accuracy >= best - tolerance / 100 - _ROUNDING]
    return min(within, key=lambda p: (p.flops_paper, -p.accuracy))


def random_query_accuracy(flops_paper: float, bar: Sequence[Point]) -> float:
    """Accuracy that sending random questions to the large model reaches at `flops_paper` a question.

    Piecewise linear between the measured points of `small`, `random_query` (each p) and `large` of the same benchmark
    and split, in order of cost; beyond the cheapest and the dearest the nearest point's accuracy. NaN where nothing of
    the bar was measured. Points of equal cost are averaged."""
    if not bar:
        return float("nan")
    costs = np.unique([p.flops_paper for p in bar])
    accuracies = [float(np.mean([p.accuracy for p in bar if p.flops_paper == cost])) for cost in costs]
    return float(np.interp(flops_paper, costs, accuracies))
