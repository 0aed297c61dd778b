"""The protocol of a routing policy, and what a group shows it.

A policy is asked about the traces that are ready and answers with one `Act` each. Each group has a policy object of its
own. Invariant: a policy owns no trace, clock or actor; it may keep what it fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from steer.messages import Op
from steer.traces import Role

Acts = npt.NDArray[np.int8]
"""Values of `Act`."""
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
"""Positions of traces in their group."""
Drafts = Literal["never", "first", "every"]
"""Which of the small model's steps are drafts: none, step 0 alone, or every step."""


class Act(IntEnum):
    """What happens to a ready trace. SMALL and LARGE accept its last step for good; the other acts do not."""

    KEEP = 0
    """The draft stays. The trace waits until the rest of the group is ready, and the policy is asked again."""
    SMALL = 1
    """The small model writes the next step."""
    LARGE = 2
    """The large model writes the next step."""
    REWRITE = 3
    """The draft is discarded and the large model writes this step again."""
    PEEK = 4
    """The small model writes one token of the next step, for its entropy alone."""
    SIGNAL = 5
    """The policy's signal is asked about the draft, or before the first step about the question."""


class Signal(NamedTuple):
    """Which model a policy asks for a signal, and what it asks."""

    role: Role
    op: Op
    greedy: bool = False
    """JUDGE answers the likeliest digit instead of the expectation."""


@dataclass
class StepScores:
    """The confidences of one step index over all traces of the group (axis `_L`)."""

    conf_L: Floats
    """NaN where the trace has not answered this step or has no score."""
    also_L: Floats
    """The same by the policy's second measure."""
    model_L: npt.NDArray[np.int8]
    """The `Model` that wrote the kept text."""
    ongoing_L: Bools
    """Whether the trace went on after this step. (A trace that ended earlier has no score here.)"""

    @classmethod
    def empty(cls, n: int) -> "StepScores":
        return cls(np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, np.int8), np.ones(n, bool))


class View(Protocol):
    """What a policy may read of a group. Axis `_L`: all traces of the group, live or not."""

    strict: bool
    """Whether the strict barrier holds."""
    hash_L: npt.NDArray[np.uint64]
    """Stable hash of (run seed, question, sample)."""
    step_L: npt.NDArray[np.int32]
    """Index of the step last written, -1 before the first."""
    draft_L: Bools
    """Whether the step last written may still be rewritten."""
    peek_L: Floats
    """Entropy (nats) of the next step's first token; NaN before a peek."""
    signalled_L: Bools
    """Whether the signal has answered on this draft, or on this question."""
    signal_L: Floats
    """What the signal answered; NaN if it could not read the text."""

    @property
    def scores(self) -> Mapping[int, StepScores]:
        """Scores by step index. A step that no trace has answered yet is absent."""
        ...


class Policy(Protocol):
    """A routing policy: what it needs of the group and the replicas, and its decisions."""

    whole: bool
    """Every trace is written in one pass, without steps."""
    ahead: bool
    """The small model writes whole traces, and the policy decides on them step by step (`Op.AHEAD`)."""
    peeks: bool
    """The policy looks at the first token of a step before it decides who writes the step (`Act.PEEK`)."""
    finishes: bool
    """The large model writes to the end, in one pass, whatever it takes over."""
    measure: int | None
    """Index into MEASURES of the confidence that the policy routes by. None: it reads no confidence."""
    also: int | None
    """Index of a second measure. None: the policy reads one at most."""
    scored_by_small: bool
    """The small model scores steps of the large one before the policy is asked."""
    drafts: Drafts
    """Which of the small model's steps may be rewritten."""
    signal: Signal | None
    """What the policy asks of another model. None: nothing."""
    barrier: bool
    """A decision reads the scores of other traces, so the strict barrier applies."""

    # A policy may leave out what follows: it is younger than the protocol.
    #   peeks: bool = False          see above
    #   aggregate: str = "mean"      of `steer.traces.AGGREGATES`: which score of a step `view.scores` holds
    #   so_far: str | None = None    "min" or "mean": over the trace's scores up to the step
    #   by_length: tuple | None      (a, b): less a + b ln n for a step of n chosen tokens
    #   forget(trace: int)           another question takes the place of a trace that has ended (a live group)

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        """Acts [N] and posteriors [N] (NaN where there is none) for the ready traces `ready_N`."""
        ...

    def mixtures(self) -> list[dict[str, Any]]:
        """Mixture rows (MIXTURE_STRUCT without `group_id`) fitted since the last call."""
        ...
