"""Hand-over-once policies on a prefix table: the small model writes until its first unsure step, then the large one.

A step is unsure if its score is below the threshold of its step index, or if it has no score. With `refine: every` the
unsure step is discarded and the large model writes it again; with `never` it stays, and the large model goes on behind
it. The last step is looked at like any other with `every`; with `never` nothing comes after it.
"""

from typing import Literal, NamedTuple

import numpy as np

from steer.costs.flops import flops_full, flops_paper
from steer.plans.table import Bools, Floats, Ints, PrefixTable

Refine = Literal["every", "never"]


class Answers(NamedTuple):
    """What answering each question brings and costs. The last axis is `_Q`; others may stand before it."""

    correct: Floats
    """1 right, 0 wrong; between them the mean over several answers, or the expectation of a coin."""
    flops_full: Floats
    """1e12 FLOPs by the full count."""
    flops_paper: Floats
    """1e12 FLOPs by the paper's count."""

    def of(self, at: Bools) -> "Answers":
        """The same for the questions of a mask."""
        return Answers(*(values[..., at] for values in self))


class Priced(NamedTuple):
    """The answer of each question by its first unsure step f in 0..K [Q, K + 1]. Column K: every step was sure."""

    correct_QF: Floats
    flops_full_QF: Floats
    flops_paper_QF: Floats

    def answers(self, first_PQ: Ints) -> Answers:
        """The answers of policies by their first unsure steps [P, Q]."""
        q = np.arange(first_PQ.shape[1])
        return Answers(*(values_QF[q, first_PQ] for values_QF in self))


def price(table: PrefixTable, refine: Refine, tokens_past: float = 0.0) -> Priced:
    """Price a hand-over at every step. FLOPs as `steer.costs.flops` counts them: each model reads the prompt, and the
    large one the prefix, once; discarded tokens are charged.

    `tokens_past`: tokens that the small model has written behind the unsure step when it is stopped, on average; no
    more than its answer has left.
    """
    K = table.tokens_QK.shape[1]
    past_QK = table.tokens_QK.cumsum(axis=1)
    whole_Q = past_QK[:, -1]
    small_QK = np.minimum(past_QK + tokens_past, whole_Q[:, None])
    boundary_K = np.arange(K) + (refine == "never")
    handed_QK = (boundary_K < table.steps_Q[:, None]) & table.inside_QK
    at_K = boundary_K.clip(max=K - 1)

    def by_first(handed: Floats, never_Q: Floats) -> Floats:
        """`handed` at a hand-over, `never_Q` where there is none: sure to the end, or unsure behind the last step."""
        return np.concatenate([np.where(handed_QK, handed, never_Q[:, None]), never_Q[:, None]], axis=1)

    zero_Q = np.zeros(len(table))
    correct_QF = by_first(table.large_correct_QK[:, at_K].astype(float), table.small_correct_Q.astype(float))
    small_QF = by_first(small_QK, whole_Q)
    large_QF = by_first(table.large_tokens_QK[:, at_K], zero_Q)
    read_QF = by_first(table.large_prompt_QK[:, at_K], zero_Q)
    sizes = (table.n_small, table.n_large)
    prompt_QF = np.broadcast_to(table.small_prompt_Q[:, None], small_QF.shape)
    full_QF = flops_full(small_QF, large_QF, *sizes, prompt_QF, read_QF)
    return Priced(correct_QF, full_QF, flops_paper(small_QF, large_QF, *sizes))


def first_unsure(score_QK: Floats, inside_QK: Bools, thresholds_PK: Floats) -> Ints:
    """The first unsure step of each question by each policy [P, Q]; K where there is none.

    `thresholds_PK`: a threshold for each step index. It may have fewer columns than K: the last holds for all later
    steps.
    """
    K = score_QK.shape[1]
    spread_PK = thresholds_PK[:, np.arange(K).clip(max=thresholds_PK.shape[1] - 1)]
    # A comparison with NaN is false, so a step without a score is not sure.
    sure_PQK = (score_QK >= spread_PK[:, None, :]) | ~inside_QK
    unsure_PQK = ~sure_PQK
    first: Ints = np.where(unsure_PQK.any(axis=2), unsure_PQK.argmax(axis=2), K)
    return first


def small_alone(table: PrefixTable) -> Answers:
    """The small model's own answers."""
    priced = price(table, "every")
    return Answers(*(values_QF[:, -1] for values_QF in priced))


def large_alone(table: PrefixTable) -> Answers:
    """The large model's own answers: its completion from the boundary before step 0, with no small model before it."""
    tokens_Q, prompt_Q, none_Q = table.large_tokens_QK[:, 0], table.large_prompt_QK[:, 0], np.zeros(len(table))
    sizes = (table.n_small, table.n_large)
    full_Q = flops_full(none_Q, tokens_Q, *sizes, none_Q, prompt_Q)
    return Answers(table.large_correct_QK[:, 0].astype(float), full_Q, flops_paper(none_Q, tokens_Q, *sizes))
