"""A policy's decisions on a group's ready traces, call by call: kept for the journal and repeated from it.

Invariant: while there is a decision to repeat, the policy is not asked.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from steer.policies import Policy
from steer.policies.base import Acts, Floats, Indices, View


class Decision(NamedTuple):
    """One call's acts and posteriors on N ready traces, and the seconds it took."""

    acts_N: Acts
    posterior_N: Floats
    seconds: float


class Decisions:
    def __init__(self) -> None:
        self._new: list[Decision] = []
        self._to_repeat: deque[Decision] = deque()

    def ask(self, policy: Policy, view: View, ready_N: Indices) -> Decision:
        """The next decision to repeat, or what the policy decides now."""
        if self._to_repeat:
            return self._to_repeat.popleft()
        started = time.perf_counter()
        acts_N, posterior_N = policy.decide(view, ready_N)
        decision = Decision(acts_N, posterior_N, time.perf_counter() - started)
        self._new.append(decision)
        return decision

    def take(self) -> list[Decision]:
        """The policy's decisions since the last call."""
        new, self._new = self._new, []
        return new

    def repeat(self, decisions: Iterable[Decision]) -> None:
        """The next calls of `ask` return these."""
        self._to_repeat.extend(decisions)
