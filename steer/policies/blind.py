"""Policies that read no confidence: one model alone, or a coin."""

import numpy as np

from steer.policies.base import Act, View
from steer.seeds import coin


class Blind:
    """No confidence, no drafts, no barrier: a subclass says `whole` and decides."""

    ahead = finishes = False
    measure = also = None
    scored_by_small = False
    drafts = "never"
    signal = None
    barrier = False

    def mixtures(self) -> list[dict]:
        return []


class OneModel(Blind):
    """`small` and `large`: one model in one pass, no steps."""

    whole = True

    def __init__(self, act: Act):
        self._act = act

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(ready_N), self._act, np.int8), np.full(len(ready_N), np.nan)


class RandomQuery(Blind):
    """Each question wholly to the large model with probability p: the honest bar."""

    whole = True

    def __init__(self, p: float):
        self._p = p

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        large_N = coin(view.hash_L[ready_N], np.zeros(len(ready_N))) < self._p
        return np.where(large_N, Act.LARGE, Act.SMALL).astype(np.int8), np.full(len(ready_N), np.nan)


class RandomStep(Blind):
    """Each next step to the large model with probability p."""

    whole = False

    def __init__(self, p: float):
        self._p = p

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        large_N = coin(view.hash_L[ready_N], view.step_L[ready_N] + 1) < self._p
        return np.where(large_N, Act.LARGE, Act.SMALL).astype(np.int8), np.full(len(ready_N), np.nan)


class FirstTokenEntropy(Blind):
    """The small model writes one token of the next step; above tau nats of entropy the large model takes the step
    (GlimpRouter, arXiv 2601.05110). The token is thrown away and charged."""

    whole = False

    def __init__(self, tau: float):
        self._tau = tau

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        entropy_N = view.probe_L[ready_N]
        acts_N = np.where(entropy_N > self._tau, Act.LARGE, Act.SMALL)
        acts_N[np.isnan(entropy_N)] = Act.PROBE
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)
