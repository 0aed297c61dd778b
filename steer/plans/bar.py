"""The bar: small, large and the coin between them, and the distance of other answers from it, with intervals.

The coin sends a whole question to the large model with probability p. Its accuracy and cost lie on the straight line
between the two models', so they are known without being run. The bar at a cost is the best that these reach at that
cost or less. Invariant: everything random is seeded, so the same answers give the same numbers.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from steer.plans.handover import Answers
from steer.plans.table import Floats
from steer.statistics.intervals import RESAMPLES, accuracy_interval

_ROUNDING = 1e-9
"""The coin is on the bar but for its last bits."""
Interval = tuple[float, float]


class Standing(NamedTuple):
    """How answers stand to the bar. Intervals are 95 %, by a bootstrap over questions; the bar is resampled too."""

    accuracy: float
    accuracy_interval: Interval
    cost: float
    """Share of the large model's mean `flops_full`."""
    cost_interval: Interval
    bar: float
    """The bar's accuracy at that cost."""
    above_bar: float
    above_bar_interval: Interval
    behind_large: float
    """Accuracy less that of the large model."""
    behind_large_interval: Interval

    @property
    def is_above_bar(self) -> bool:
        """Whether the interval of the difference to the bar lies above 0."""
        return self.above_bar_interval[0] > _ROUNDING


def coin(small: Answers, large: Answers, p: float) -> Answers:
    """The expected answers of `random_query` at `p`."""
    return Answers(*((1.0 - p) * s + p * b for s, b in zip(small, large, strict=True)))


def bar_accuracy(
    cost: npt.ArrayLike,
    small_cost: npt.ArrayLike,
    small_accuracy: npt.ArrayLike,
    large_cost: npt.ArrayLike,
    large_accuracy: npt.ArrayLike,
) -> Floats:
    """The bar at `cost`; arrays are broadcast. Below the cheaper model's cost it is that model's accuracy."""
    costs = np.stack(np.broadcast_arrays(small_cost, large_cost)).astype(float)
    accuracies = np.stack(np.broadcast_arrays(small_accuracy, large_accuracy)).astype(float)
    cheap = costs.argmin(axis=0)[None]
    low_cost, low = (np.take_along_axis(values, cheap, 0)[0] for values in (costs, accuracies))
    high_cost, high = (np.take_along_axis(values, 1 - cheap, 0)[0] for values in (costs, accuracies))
    width = np.maximum(high_cost - low_cost, np.finfo(float).tiny)
    share = np.clip((np.asarray(cost, float) - low_cost) / width, 0.0, 1.0)
    # A dearer model that is worse adds nothing: then the bar is level.
    bar: Floats = low + share * np.maximum(high - low, 0.0)
    return bar


def standing(answers: Answers, small: Answers, large: Answers, seed: int = 0) -> Standing:
    """How the answers [Q] stand to the bar on the same questions. ValueError if there are no questions."""
    n = len(answers.correct)
    if not n:
        raise ValueError("no question to compare answers on")
    values_QV = np.stack([v for a in (answers, small, large) for v in (a.correct, a.flops_full)], axis=1).astype(float)
    point, drawn = _measures(values_QV.mean(axis=0)[None]), _measures(_weights(n, seed) @ values_QV)
    ends = {name: _ends(values) for name, values in drawn.items()}
    if np.ptp(answers.correct) == 0:
        ends["accuracy"] = accuracy_interval(round(float(answers.correct.sum())), n)
    for name, other in (("above", None), ("behind", large)):
        differs = ends[name][0] != ends[name][1] if other is None else bool((answers.correct != other.correct).any())
        if not differs:
            # The bootstrap has no spread, although some questions could still differ.
            could, at = accuracy_interval(0, n)[1], float(point[name][0])
            ends[name] = (max(at - could, -1.0), min(at + could, 1.0))
    return Standing(
        float(point["accuracy"][0]),
        ends["accuracy"],
        float(point["cost"][0]),
        ends["cost"],
        float(point["bar"][0]),
        float(point["above"][0]),
        ends["above"],
        float(point["behind"][0]),
        ends["behind"],
    )


@lru_cache(maxsize=4)
def _weights(n: int, seed: int) -> Floats:
    """How often each of n questions is drawn [RESAMPLES, n], over n. Many answers to the same questions are compared,
    and the draws take most of the time."""
    at_BQ = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    counts: Floats = np.bincount(at_BQ.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n
    return counts


def _measures(means_BV: Floats) -> dict[str, Floats]:
    accuracy, cost, small, small_cost, large, large_cost = means_BV.T
    bar = bar_accuracy(cost, small_cost, small, large_cost, large)
    return {
        "accuracy": accuracy,
        "cost": cost / large_cost,
        "bar": bar,
        "above": accuracy - bar,
        "behind": accuracy - large,
    }


def _ends(values_B: Floats) -> Interval:
    low, high = np.quantile(values_B, [0.025, 0.975])
    return float(low), float(high)
