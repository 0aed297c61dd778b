"""What an answer costs, and how sure an accuracy is. FLOPs are in units of 1e12, accuracies in [0, 1]."""

import numpy as np

UNIT = 1e12


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


def _float(value):
    """A scalar stays one: NumPy would make it an array of no axes."""
    return value if isinstance(value, float) else np.asarray(value, np.float64)[()]
