"""Policies that route each step by the confidence of the one before it: `steer` and `percentile`.

They share Algorithm 1's order of events (method.md, Routing); they differ only in how scores become a decision.
"""

from abc import ABC, abstractmethod

import numpy as np

from steer.config.policy import Scored
from steer.policies.base import Act, View
from steer.traces import MEASURES


class ByConfidence(ABC):
    """Draft step 0, refine it where unsure, then route step i by the decision on step i-1."""

    whole = False
    finishes = False
    also = None
    barrier = True
    signal = None

    def __init__(self, config: Scored):
        self.measure = MEASURES.index(config.measure)
        self.scored_by_small = config.scored_by == "small"
        self.drafts = config.refine
        self.ahead = config.ahead

    @abstractmethod
    def decision(self, view: View, step: int, rows_N: np.ndarray, draft: bool) -> tuple[np.ndarray, np.ndarray]:
        """(sure [N] bool, posterior [N]) of the traces `rows_N` after step `step`; `draft`: some may be rewritten."""

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        acts_N = np.full(len(ready_N), Act.SMALL, np.int8)
        posterior_N = np.full(len(ready_N), np.nan)
        steps_N = view.step_L[ready_N]
        for step in np.unique(steps_N):
            if step < 0:
                continue  # Algorithm 1: the small model answers every question first
            at_N = np.flatnonzero(steps_N == step)
            rows_N = ready_N[at_N]
            draft_N = view.draft_L[rows_N]
            sure_N, posterior = self.decision(view, int(step), rows_N, draft=bool(draft_N.any()))
            posterior_N[at_N] = posterior
            acts_N[at_N] = np.where(sure_N, Act.SMALL, Act.LARGE)
            rewrite_N = draft_N & ~sure_N
            if rewrite_N.any():
                acts_N[at_N[rewrite_N]] = Act.REWRITE
                if view.strict:  # the step is not over: its kept scores are fitted again when the rewrites are in
                    acts_N[at_N[~rewrite_N]] = Act.KEEP
        return acts_N, posterior_N

    def mixtures(self) -> list[dict]:
        return []
