"""Signals: what of a small model's steps a policy looks at, as one score a step. Larger is surer."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from steer.plans.table import Floats, PrefixTable

SoFar = Literal["none", "min", "mean"]
LengthFit = tuple[float, float]
"""a and b of a + b ln n, the expected minimum over the n scored tokens of a step."""


class Signal(NamedTuple):
    measure: str
    aggregate: str
    so_far: SoFar = "none"
    """What of the steps up to this one counts: this one's score alone, the lowest, or the mean."""
    by_length: bool = False
    """The score less its expectation for a step of that many tokens. The least of many tokens is low by itself."""

    def __str__(self) -> str:
        parts = [self.measure, self.aggregate, *(["by length"] if self.by_length else [])]
        return " ".join(parts + ([] if self.so_far == "none" else [f"{self.so_far} so far"]))


def signals_of(table: PrefixTable) -> list[Signal]:
    """Every signal that the table's scores allow."""
    counted = bool(np.isfinite(table.scored_QK).any())
    return [
        Signal(measure, aggregate, so_far, by_length)
        for measure, aggregate in table.scores
        for by_length in ((False, True) if aggregate == "min" and counted else (False,))
        for so_far in ("none", "min", "mean")
    ]


def fit_length(table: PrefixTable, signal: Signal, trained_Q: npt.ArrayLike) -> LengthFit | None:
    """a and b by least squares over the steps of the questions `trained_Q` (mask). None: the signal has no correction.

    If all these steps have the same number of tokens, b is 0.
    """
    if not signal.by_length:
        return None
    score_QK, tokens_QK = table.scores[signal.measure, signal.aggregate], table.scored_QK
    used_QK = np.isfinite(score_QK) & (tokens_QK >= 1) & np.asarray(trained_Q)[:, None]
    if not used_QK.any():
        return 0.0, 0.0
    y, x = score_QK[used_QK], np.log(tokens_QK[used_QK])
    spread = float(x.var())
    b = float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else 0.0
    return float(y.mean() - b * x.mean()), b


def scores(table: PrefixTable, signal: Signal, fitted: LengthFit | None = None) -> Floats:
    """The signal's score of every step [Q, K]. NaN behind the last step, and for a step that was not measured.

    Steps without a score do not count in the minimum and the mean of those after them. `fitted`: see `fit_length`.
    """
    step_QK = table.scores[signal.measure, signal.aggregate]
    if fitted is not None:
        a, b = fitted
        step_QK = step_QK - (a + b * np.log(np.maximum(table.scored_QK, 1.0)))
    if signal.so_far == "none":
        return step_QK
    finite_QK = np.isfinite(step_QK)
    if signal.so_far == "min":
        so_far_QK = np.minimum.accumulate(np.where(finite_QK, step_QK, np.inf), axis=1)
    else:
        sums_QK = np.where(finite_QK, step_QK, 0.0).cumsum(axis=1)
        so_far_QK = sums_QK / np.maximum(finite_QK.cumsum(axis=1), 1)
    return np.where(finite_QK, so_far_QK, np.nan)
