"""`small` and `large`: one model alone."""

import numpy as np

from steer.policies.base import Act, View
from steer.policies.blind import Blind


class OneModel(Blind):
    """`small` and `large`: one model in one pass, no steps."""

    whole = True

    def __init__(self, act: Act):
        self._act = act

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(ready_N), self._act, np.int8), np.full(len(ready_N), np.nan)
