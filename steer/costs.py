"""What an answer costs, and how sure an accuracy is. FLOPs are in units of 1e12, accuracies in [0, 1]."""

from math import sqrt

import numpy as np

UNIT = 1e12
Z_95 = 1.959963984540054
"""Quantile .975 of the standard normal."""
RESAMPLES = 2000
"""Bootstrap resamples: an end of the interval moves by about .01 of its width from seed to seed."""


def flops_paper(tokens_small, tokens_large, n_small: float, n_large: float):
    """The paper's count: 2N for each generated token of the model that generated it, discarded ones included.

    Tokens are numbers or arrays, `n_small` and `n_large` parameter counts; the result has the tokens' shape.
    """
    return 2.0 * (n_small * _float(tokens_small) + n_large * _float(tokens_large)) / UNIT


def flops_full(tokens_small, tokens_large, n_small: float, n_large: float, prefill_small, prefill_large):
    """What a user really pays: `flops_paper`, and 2N for each prompt token a model computed (those that its prefix
    cache did not hold): prompts, re-prefill after a switch, scoring passes."""
    prefill = flops_paper(prefill_small, prefill_large, n_small, n_large)
    return flops_paper(tokens_small, tokens_large, n_small, n_large) + prefill


def accuracy_per_flop(accuracy, flops):
    """`A/F`: accuracy in percent by FLOPs a question (1e12); NaN where nothing was computed."""
    accuracy, flops = _float(accuracy), _float(flops)
    ratio = np.where(flops > 0, 100.0 * accuracy / np.where(flops > 0, flops, 1.0), np.nan)
    return float(ratio) if ratio.ndim == 0 else ratio


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of `correct` right answers to `n` independent questions; (0, 1) if there are none."""
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} right answers of {n}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = correct / n, Z_95**2
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    # At 0 and n the exact ends are 0 and 1; rounding would leave them a hair off.
    return (0.0 if correct == 0 else center - half), (1.0 if correct == n else center + half)


def clustered_interval(correct_QS: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `correct_QS` (bool or float [questions, answers]) by a bootstrap over questions.

    Answers to one question are not independent, so whole questions are drawn. Where all questions have the same mean
    the bootstrap has no spread, though the truth may: then Wilson's interval for that many questions.
    """
    correct_QS = np.asarray(correct_QS, np.float64)
    if correct_QS.ndim != 2 or not correct_QS.size:
        raise ValueError(f"needs verdicts of shape [questions, answers], not {correct_QS.shape}")
    mean_Q = correct_QS.mean(axis=1)
    if np.ptp(mean_Q) == 0:
        return accuracy_interval(round(float(mean_Q.sum())), len(mean_Q))
    rng = np.random.default_rng(seed)
    means = [mean_Q[rng.integers(0, len(mean_Q), len(mean_Q))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _float(value):
    """A scalar stays one: NumPy would make it an array of no axes."""
    return value if isinstance(value, float) else np.asarray(value, np.float64)[()]
