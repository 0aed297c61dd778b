"""The base of policies that route each step by the confidence of the step before it: `steer` with each rule that
decides, and `percentile`.

They share the order of events of Algorithm 1 (docs/method.md, Routing). They differ only in how scores become a
decision.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from steer.config.policy import Scored
from steer.policies.base import Act, Acts, Bools, Drafts, Floats, Indices, Signal, View
from steer.traces import MEASURES


class ByConfidence(ABC):
    """Draft step 0, rewrite it where it is unsure, then route step i by the decision on step i-1."""

    whole: bool = False
    peeks: bool = False
    finishes: bool = False
    also: int | None = None
    signal: Signal | None = None
    barrier: bool = True

    def __init__(self, config: Scored):
        self.measure: int | None = MEASURES.index(config.measure)
        self.aggregate, self.so_far, self.by_length = config.aggregate, config.so_far, config.by_length
        self.scored_by_small: bool = config.scored_by == "small"
        self.drafts: Drafts = config.refine
        self.ahead: bool = config.ahead

    @abstractmethod
    def decision(self, view: View, step: int, rows_N: Indices, draft: bool) -> tuple[Bools, Floats]:
        """Which of the traces `rows_N` are sure after step `step` [N], and their posteriors [N].

        `draft`: some of them may still be rewritten.
        """

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        acts_N = np.full(len(ready_N), Act.SMALL, np.int8)
        posterior_N = np.full(len(ready_N), np.nan)
        steps_N = view.step_L[ready_N]
        for step in np.unique(steps_N):
            if step < 0:
                continue  # Algorithm 1: the small model answers every question first
            at_N = np.flatnonzero(steps_N == step)
            rows_N = ready_N[at_N]
            draft_N = view.draft_L[rows_N]
            sure_N, posterior_N[at_N] = self.decision(view, int(step), rows_N, draft=bool(draft_N.any()))
            acts_N[at_N] = np.where(sure_N, Act.SMALL, Act.LARGE)
            rewrite_N = draft_N & ~sure_N
            if rewrite_N.any():
                acts_N[at_N[rewrite_N]] = Act.REWRITE
                if view.strict:  # the step is not over: its kept scores are fitted again with those of the rewrites
                    acts_N[at_N[~rewrite_N]] = Act.KEEP
        return acts_N, posterior_N

    def mixtures(self) -> list[dict[str, Any]]:
        return []
