"""95 % intervals of accuracies, which are shares in [0, 1]: Wilson's, and a bootstrap over questions or clusters.

Invariant: the unit is the question, or the cluster of questions that share a rule or a passage. Answers within a unit
are never counted as independent.
"""

from math import sqrt

import numpy as np
import numpy.typing as npt

Z_95 = 1.959963984540054
"""Quantile .975 of the standard normal."""

RESAMPLES = 2000
"""Bootstrap draws. From seed to seed an end of the interval moves by about .01 of its width."""


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """Wilson's interval of `correct` right answers to `n` independent questions; (0, 1) if there are no questions.

    Raises ValueError if `correct` is not in 0 to n.
    """
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} right answers of {n}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = correct / n, Z_95**2
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    # At 0 and n the exact ends are 0 and 1, and rounding would miss them.
    return (0.0 if correct == 0 else center - half), (1.0 if correct == n else center + half)


def clustered_interval(correct_QA: npt.ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Interval of the mean of `correct_QA` (bool or float [questions, answers]) by a bootstrap over questions.

    Whole questions are drawn, because answers to one question are not independent. If all questions have the same mean,
    the bootstrap has no spread although the truth may have some: then it is Wilson's interval for that many questions.
    Raises ValueError on another shape or no answers.
    """
    right_QA = np.asarray(correct_QA, np.float64)
    if right_QA.ndim != 2 or not right_QA.size:
        raise ValueError(f"needs verdicts of shape [questions, answers], not {right_QA.shape}")
    mean_Q = right_QA.mean(axis=1)
    if np.ptp(mean_Q) == 0:
        return accuracy_interval(round(float(mean_Q.sum())), len(mean_Q))
    rng = np.random.default_rng(seed)
    means = [mean_Q[rng.integers(0, len(mean_Q), len(mean_Q))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def ratio_interval(
    right_C: npt.NDArray[np.float64], answers_C: npt.NDArray[np.float64], seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of sum(right)/sum(answers) over resampled units, which may differ in size (Efron and
    Tibshirani 1993, 13).

    If all units have the same share of right answers, the bootstrap has no spread although the truth may have some:
    then it is Wilson's interval for that many units.
    """
    share_C, n = right_C / answers_C, len(right_C)
    if np.ptp(share_C) == 0:
        return accuracy_interval(round(float(share_C[0]) * n), n)
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, n, n)
        ratios.append(right_C[drawn].sum() / answers_C[drawn].sum())
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
