"""`first_token_entropy`: the entropy of a step's first token says which model writes the step."""

import numpy as np

from steer.policies.base import Act, Acts, Floats, Indices, View
from steer.policies.blind import Blind


class FirstTokenEntropy(Blind):
    """The small model peeks at the next step: it writes the first token alone. Above tau nats of entropy the large
    model takes the step (GlimpRouter, arXiv 2601.05110). The token is thrown away and charged."""

    whole = False
    peeks = True

    def __init__(self, tau: float):
        self._tau = tau

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        entropy_N = view.peek_L[ready_N]
        acts_N = np.where(entropy_N > self._tau, Act.LARGE, Act.SMALL)
        acts_N[np.isnan(entropy_N)] = Act.PEEK
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)
