"""Questions, steps and traces, and the Arrow schemas of the tables they become.

Invariant: every question and sample admitted to a group becomes exactly one row of `traces/`; every step a model
generated and the policy decided on, kept or discarded, becomes exactly one row of `steps/`.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Model(IntEnum):
    """Which of the pair; the integer indexes every array whose last axis is the pair (`_M`)."""

    SMALL = 0
    LARGE = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class Role(IntEnum):
    """Who can be asked: the pair, and the models whose signals some policies route by. Indexes the router's pools."""

    SMALL = 0
    LARGE = 1
    PRM = 2
    """A process reward model (`rsd`)."""
    JUDGE = 3
    """A model that only rates drafts (`spec_reason`), where the pair names one; else the large model does."""
    QUERY = 4
    """The small model's prompt states under a probe (`query_router`)."""

    @property
    def label(self) -> str:
        return self.name.lower()


class Status(StrEnum):
    ANSWERED = "answered"
    """The trace ended with the end-of-sequence token."""
    LENGTH = "length"
    """The trace ran into `max_steps`, `max_new_tokens` or the model's context."""
    ERROR = "error"
    """No answer: the row's `error` says why."""


class Finish(StrEnum):
    """How one step ended."""

    STEP = "step"
    """At the step delimiter: the trace goes on."""
    END = "end"
    """At an end-of-sequence token: the trace is answered."""
    LENGTH = "length"
    """At the token budget or the model's context."""
    ERROR = "error"
    """Not written: `error` says why."""
    MISSING = "missing"
    """The replica no longer holds the trace's body: the router sends it whole and asks again."""


MEASURES = ("max_logit", "entropy", "max_prob")
"""Order of the measures on every `_3` axis. `entropy` is negated, so that larger always means surer."""


@dataclass(frozen=True)
class Question:
    """One sample of one benchmark question, as the router admits it."""

    id: str
    sample: int
    benchmark: str
    prompt: str
    """The user turn, before the chat template (each model applies its own)."""
    gold: str
    grader: str
    subset: str = ""
    difficulty: str = ""
    labels: str = "{}"
    """JSON object of what else the grader needs (answer aliases, choices, rule id)."""
    system: str = ""
    """The system turn; a model without that role gets it at the head of the user turn."""

    @property
    def trace_id(self) -> str:
        return f"{self.id}#{self.sample}"


class Step(NamedTuple):
    """One generated step, kept or discarded. A named tuple: at 100,000 live traces it is built five times faster
    than a frozen dataclass."""

    step: int
    attempt: int
    """0 for the first text written for this step, 1 for the large model's rewrite of a discarded draft."""
    model: int
    accepted: bool
    finish: str
    text: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    by_small: tuple[float, float, float] | None
    """(max_logit, entropy, max_prob) means over the chosen tokens, scored by the small model; None if it did not."""
    by_large: tuple[float, float, float] | None
    confidence: float
    """The score the policy routed by (NaN where it has none)."""
    posterior: float
    signal: float
    """What the policy's signal said of this draft, or of the question (NaN where the policy asks none)."""
    signal_seconds: float
    """Seconds from asking for the signal to its answer."""
    routing_seconds: float
    """Seconds that the decision after this step took: the small model's pass over a step of the large one, a probe, the
    signal, and the step's share of the policy's own work. Without waiting at the barrier."""
    decision: str
    """What the policy did after this step: `small`, `large` (who writes next), `rewrite` (discarded) or `end`."""
    replica: str
    seconds: float


@dataclass(frozen=True)
class Trace:
    """A finished trace: one row of `traces/` before grading."""

    question: Question
    status: Status
    text: str
    steps: list[Step]
    tokens_small: int
    """Tokens the small model generated, discarded drafts included."""
    tokens_large: int
    tokens_discarded: int
    """Tokens of both models that no kept step contains (drafts thrown away, probes, what was written ahead of them)."""
    prompt_tokens: int
    """Length of the prompt alone, in tokens of the model that wrote first."""
    prefill_small: int
    """Prompt tokens the small model computed over all calls of this trace (prompt less cached), scoring included."""
    prefill_large: int
    cached_tokens: int
    """Prompt tokens that the prefix caches saved over all calls of this trace."""
    tokens_signal: tuple[int, ...]
    """Tokens that the model of each `Role` computed for signals: read and not cached, or generated."""
    error: str = ""
    cell: str = ""
    group: str = ""
    seed: int = 0
