"""How much of the gap between the two models a policy's curve recovers: APGR and CPT (Ong et al. 2024, RouteLLM,
arXiv 2406.18665, section 2.3).

The performance gap recovered of a setting is PGR = (accuracy - small) / (large - small). APGR is its mean over the
axis of cost, and CPT(x) the least cost at which it reaches x %. RouteLLM's cost is the share of calls to the large
model. A stepwise router has no such calls, so here cost is c = (flops_full - small) / (large - small): 0 for the small
model alone and 1 for the large one. What a router adds (scoring, prefill, discarded tokens) is counted. Random routing
of questions has APGR 0.5 and CPT(x) = x %.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class GapRecovered(NamedTuple):
    """NaN throughout where the large model is not both dearer and more accurate, or no setting lies between in cost."""

    apgr: float
    """Mean PGR over c from 0 to 1, by the trapezoid rule."""
    cpt_50: float
    """Least c, 0 to 1, at which the curve recovers 50 % of the gap."""
    cpt_80: float
    settings: int
    """Settings of the curve between the two models in cost."""


def gap_recovered(
    flops_full: Sequence[float], accuracy: Sequence[float], small: tuple[float, float], large: tuple[float, float]
) -> GapRecovered:
    """APGR and CPT of the straight lines from `small` through the settings to `large`, in order of cost.

    `small`, `large`: (flops_full, accuracy). Settings of equal cost are averaged. A setting that costs no more than the
    small model, or no less than the large one, is no part of the curve.
    """
    gap, span = large[1] - small[1], large[0] - small[0]
    # Not `<= 0`: a comparison with NaN must end here, too.
    if not (gap > 0 and span > 0):
        return GapRecovered(math.nan, math.nan, math.nan, 0)
    cost = (np.asarray(flops_full, float) - small[0]) / span
    recovered = (np.asarray(accuracy, float) - small[1]) / gap
    between = (cost > 0) & (cost < 1)
    if not between.any():
        return GapRecovered(math.nan, math.nan, math.nan, 0)
    inner = np.unique(cost[between])
    x = np.r_[0.0, inner, 1.0]
    y = np.r_[0.0, [recovered[cost == c].mean() for c in inner], 1.0]
    at_50, at_80 = (_first_crossing(x, y, share) for share in (0.5, 0.8))
    return GapRecovered(float(np.trapezoid(y, x)), at_50, at_80, int(between.sum()))


def _first_crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """The smallest x at which the straight lines through the points reach `level`; y begins below it and ends above."""
    after = int(np.argmax(y >= level))
    before = after - 1
    return float(x[before] + (level - y[before]) / (y[after] - y[before]) * (x[after] - x[before]))
