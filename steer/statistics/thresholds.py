"""Choose a threshold from its measured grid, and price the bar that routing policies are held against.

Invariant: these are pure functions of the points they are given. That only validation points come in is the caller's
business (`pipelines.sweep`).
"""

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
    """1e12 FLOPs a question, by the paper's count."""


_ROUNDING = 1e-9
"""Accuracies are ratios of counts. A setting exactly at the tolerance must not be refused for its last bit."""


def choose(points: Sequence[Point], objective: Objective, tolerance: float = 1.0, budget: float | None = None) -> Point:
    """The point that `objective` prefers (docs/method.md, Routing). `tolerance` is in points of accuracy (%).

    Ties go to the cheaper point, then to the earlier one. If no point is under `budget`, the cheapest is taken; the
    curve shows that the budget was not met. Raises ValueError if there are no points, or objective `budget` has none.
    """
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

    `bar`: the measured points of `small`, `random_query` (each p) and `large` on the same benchmark and split. The
    accuracy is piecewise linear between them in order of cost, and beyond the cheapest and the dearest it is that of
    the nearest. Points of equal cost are averaged. NaN if `bar` is empty.
    """
    if not bar:
        return float("nan")
    costs = np.unique([p.flops_paper for p in bar])
    accuracies = [float(np.mean([p.accuracy for p in bar if p.flops_paper == cost])) for cost in costs]
    return float(np.interp(flops_paper, costs, accuracies))
