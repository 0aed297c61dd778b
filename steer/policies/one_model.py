"""`small` and `large`: one model writes everything."""

import numpy as np

from steer.policies.base import Act, Acts, Floats, Indices, View
from steer.policies.blind import Blind


class OneModel(Blind):
    """One model in one pass, without steps."""

    whole = True

    def __init__(self, act: Act):
        self._act = act

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        return np.full(len(ready_N), self._act, np.int8), np.full(len(ready_N), np.nan)
