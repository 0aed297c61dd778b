"""What a policy said about a group's ready traces, call by call: kept for the journal, and repeated from it.

Invariant: while there is something to repeat, the policy is not asked.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from steer.policies import Policy
from steer.policies.base import View


class Decision(NamedTuple):
    """One call's answer on N ready traces, and the seconds it took."""

    acts_N: np.ndarray
    posterior_N: np.ndarray
    seconds: float


class Decisions:
    def __init__(self):
        self._new: list[Decision] = []
        self._remembered: deque[Decision] = deque()

    def ask(self, policy: Policy, view: View, ready_N: np.ndarray) -> Decision:
        if self._remembered:
            return self._remembered.popleft()
        started = time.perf_counter()
        decision = Decision(*policy.decide(view, ready_N), time.perf_counter() - started)
        self._new.append(decision)
        return decision

    def take(self) -> list[Decision]:
        """What the policy was asked and said since the last call."""
        new, self._new = self._new, []
        return new

    def repeat(self, decisions: Iterable[Decision]) -> None:
        """The next calls of `ask` get these."""
        self._remembered.extend(decisions)
