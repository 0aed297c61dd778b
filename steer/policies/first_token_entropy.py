"""`first_token_entropy`: the small model looks at the first token of a step."""

import numpy as np

from steer.policies.base import Act, View
from steer.policies.blind import Blind


class FirstTokenEntropy(Blind):
    """The small model writes one token of the next step; above tau nats of entropy the large model takes the step
    (GlimpRouter, arXiv 2601.05110). The token is thrown away and charged."""

    whole = False

    def __init__(self, tau: float):
        self._tau = tau

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        entropy_N = view.peek_L[ready_N]
        acts_N = np.where(entropy_N > self._tau, Act.LARGE, Act.SMALL)
        acts_N[np.isnan(entropy_N)] = Act.PEEK
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)
