"""`random_query` and `random_step`: a coin decides.

The coin depends on the trace and the step alone (`steer.seeds.coin`), so a run can be repeated.
"""

import numpy as np

from steer.policies.base import Act, Acts, Floats, Indices, View
from steer.policies.blind import Blind
from steer.seeds import coin


class RandomQuery(Blind):
    """With probability p the large model gets the whole question: the bar that other policies are held against."""

    whole = True

    def __init__(self, p: float):
        self._p = p

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        large_N = coin(view.hash_L[ready_N], np.zeros(len(ready_N))) < self._p
        return np.where(large_N, Act.LARGE, Act.SMALL).astype(np.int8), np.full(len(ready_N), np.nan)


class RandomStep(Blind):
    """With probability p the large model writes the next step."""

    whole = False

    def __init__(self, p: float):
        self._p = p

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        large_N = coin(view.hash_L[ready_N], view.step_L[ready_N] + 1) < self._p
        return np.where(large_N, Act.LARGE, Act.SMALL).astype(np.int8), np.full(len(ready_N), np.nan)
