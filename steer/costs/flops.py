"""FLOPs of answers by the two counts of docs/method.md (Cost), in units of 1e12."""

from typing import Any, TypeVar

import numpy.typing as npt

UNIT = 1e12

Tokens = TypeVar("Tokens", float, npt.NDArray[Any])
"""One count, or an array of counts. The FLOPs have the same shape, in float64."""


def flops_paper(tokens_small: Tokens, tokens_large: Tokens, n_small: float, n_large: float) -> Tokens:
    """The paper's count: 2N for each generated token of the model that generated it, discarded tokens included.

    `n_small` and `n_large` are the models' parameter counts N.
    """
    return (2.0 * n_small * tokens_small + 2.0 * n_large * tokens_large) / UNIT


def flops_full(
    tokens_small: Tokens,
    tokens_large: Tokens,
    n_small: float,
    n_large: float,
    prefill_small: Tokens,
    prefill_large: Tokens,
) -> Tokens:
    """What a user really pays: `flops_paper`, and 2N for each prompt token that a model computed.

    Computed are the tokens that its prefix cache did not hold: prompts, re-prefill after a switch, scoring passes.
    """
    prefill = flops_paper(prefill_small, prefill_large, n_small, n_large)
    flops: Tokens = flops_paper(tokens_small, tokens_large, n_small, n_large) + prefill
    return flops
