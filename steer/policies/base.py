"""The protocol of a routing policy, and what a group shows it.

A policy is asked about the traces that are ready and answers with one `Act` each. It owns no trace, clock or actor; it
may keep what it fitted (one policy object a group).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple, Protocol

import numpy as np

from steer.messages import Op
from steer.traces import Role


class Act(IntEnum):
    """What happens to a ready trace. SMALL and LARGE accept its last step for good; the others do not."""

    KEEP = 0
    """The draft stays; wait until the rest of the group is ready, then be asked again."""
    SMALL = 1
    """The small model writes the next step."""
    LARGE = 2
    """The large model writes the next step."""
    REWRITE = 3
    """The draft is discarded and the large model writes this step again."""
    PEEK = 4
    """The small model writes one token of the next step, for its entropy alone."""
    SIGNAL = 5
    """The policy's signal is asked about the draft, or about the question before the first step."""


class Signal(NamedTuple):
    """Which model is asked what, for a policy that routes by another model's word."""

    role: Role
    op: Op
    greedy: bool = False
    """JUDGE answers the likeliest digit, not the expectation."""


@dataclass
class StepScores:
    """The confidences of one step index over all traces of the group (axis `_L`)."""

    conf_L: np.ndarray
    """float64; NaN where the trace has not answered this step or has no score."""
    also_L: np.ndarray
    """The same by the policy's second measure."""
    model_L: np.ndarray
    """int8: who wrote the kept text."""
    ongoing_L: np.ndarray
    """bool: did not end at this step (a trace that ended earlier has no score here)."""

    @classmethod
    def empty(cls, n: int) -> "StepScores":
        return cls(np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, np.int8), np.ones(n, bool))


class View(Protocol):
    """What a policy may read of a group. Axis `_L`: all its traces, live or not."""

    strict: bool
    hash_L: np.ndarray
    """uint64: stable hash of (run seed, question, sample)."""
    step_L: np.ndarray
    """int32: index of the step last written, -1 before the first."""
    draft_L: np.ndarray
    """bool: the step last written may still be rewritten."""
    peek_L: np.ndarray
    """float64: entropy (nats) of the probed first token of the next step, NaN where not probed."""
    signalled_L: np.ndarray
    """bool: the signal has answered on this draft, or on this question."""
    signal_L: np.ndarray
    """float64: what it answered; NaN where it could not read the text."""
    scores: dict[int, StepScores]


class Policy(Protocol):
    whole: bool
    """Writes every trace in one pass, without steps."""
    ahead: bool
    """The small model writes whole traces, which are decided on step by step (`Op.AHEAD`)."""
    finishes: bool
    """What the large model takes over it writes to the end in one pass."""
    measure: int | None
    """Index into MEASURES of the confidence it routes by; None: it reads no confidence."""
    also: int | None
    """Index of a second one; None: it reads one at most."""
    scored_by_small: bool
    """Steps of the large model are scored by the small one before the policy is asked."""
    drafts: Literal["never", "first", "every"]
    """Which of the small model's steps are drafts, that may be rewritten."""
    signal: Signal | None
    """What it asks of another model; None: nothing."""
    barrier: bool
    """Its decision reads the other traces' scores, so that the strict barrier applies."""

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Acts (int8 [N]) and posteriors (float64 [N], NaN where there is none) for the ready traces `ready_N`."""
        ...

    def mixtures(self) -> list[dict]:
        """Mixture rows (MIXTURE_STRUCT without `group`) fitted since the last call."""
        ...
