"""`random_query` and `random_step`: a coin decides."""

import numpy as np

from steer.policies.base import Act, View
from steer.policies.blind import Blind
from steer.seeds import coin


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
