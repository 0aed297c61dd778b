"""Questions, steps and finished traces: the plain records that every other module speaks of.

Invariants: every question and sample admitted to a group becomes exactly one row of `traces/`. Every step that a model
wrote and the policy decided on, kept or discarded, becomes exactly one row of `steps/`.

Names of arrays and lists end in their axes, one capital a letter, in order: `_L` traces of a group (of a table: its
traces), `_N` traces that are ready, `_M` the pair's two models, `_O` roles, `_T` tokens, `_B` rows of a batch, `_R`
answered rows, `_S` the scores of a step, `_Q` questions, `_A` answers to a question, `_H` numbers of a hidden state; in
`steer.statistics` also `_D` bootstrap draws, `_U` distinct scores and `_V` compared quantities.
"""

import json
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple


class Model(IntEnum):
    """One of the pair's two models. The integer is its index on every `_M` axis."""

    SMALL = 0
    LARGE = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class Role(IntEnum):
    """What a model is asked to be: one of the pair, or the source of a signal that some policies route by.

    The integer is the index on every `_O` axis, the router's pools among them.
    """

    SMALL = 0
    LARGE = 1
    PRM = 2
    """A process reward model (`rsd`)."""
    JUDGE = 3
    """A model that only rates drafts (`spec_reason`). Where the pair names none, the large model rates them."""
    QUERY = 4
    """The small model's prompt states, read by a probe (`query_router`)."""

    @property
    def label(self) -> str:
        return self.name.lower()


PAIR = (Role.SMALL, Role.LARGE)
"""The roles of the pair: the two models that write."""


class Status(StrEnum):
    """How a trace ended."""

    ANSWERED = "answered"
    """With the end-of-sequence token."""
    LENGTH = "length"
    """At `max_steps`, `max_new_tokens` or the model's context."""
    ERROR = "error"
    """Without an answer: the row's `error` says why."""


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
    CUT = "cut"
    """Not kept: the row was to stop writing. What it had written after its last answered step is thrown away."""
    MISSING = "missing"
    """Not written: the replica no longer holds the token prefix. The router sends the whole prefix and asks again."""


MEASURES = ("max_logit", "entropy", "max_prob", "margin")
"""What is measured of a token, in the order of every axis of measures. `entropy` is negated, so that a larger value
always means surer. `margin` is the difference of the two largest raw logits."""
AGGREGATES = ("mean", "min", "window", "tenth")
"""How the chosen tokens of a step make its score (`steer.confidence.step_scores`)."""
SCORES = len(AGGREGATES) * len(MEASURES) + 1
"""Length of every `_S` axis: the scores of a step, for each aggregate the measures in their order, and last the number
of tokens that they are taken over."""

Measured = tuple[float, ...]
"""The scores [S] of a step; NaN where not measured."""


def score_index(measure: str, aggregate: str = "mean") -> int:
    """Place of a score on the `_S` axis. ValueError if there is no such measure or aggregate."""
    return AGGREGATES.index(aggregate) * len(MEASURES) + MEASURES.index(measure)


def score_columns(scorer: str) -> list[str]:
    """Names of the columns of `steps/` that hold the scores [S] of one scorer, `small` or `large`: `margin_min_small`;
    a mean has no aggregate in its name."""
    by = [f"{m}_{scorer}" if a == "mean" else f"{m}_{a}_{scorer}" for a in AGGREGATES for m in MEASURES]
    return [*by, f"scored_tokens_{scorer}"]


@dataclass(frozen=True)
class Question:
    """One sample of one benchmark question, as the router admits it."""

    id: str
    sample: int
    benchmark: str
    prompt: str
    """The user turn. Each model applies its own chat template to it."""
    gold: str
    grader: str
    subset: str = ""
    difficulty: str = ""
    labels: str = "{}"
    """JSON object of what else the grader needs (answer aliases, choices, rule id)."""
    system: str = ""
    """The system turn. A model without a system role gets this text at the head of the user turn."""
    begun: str = ""
    """JSON array of the steps that the answer begins with, each as [text, tokens]: another trace wrote them. Empty:
    none. (`steer prefixes` has the large model go on from each step of the small one's answers.)"""

    @property
    def begun_steps(self) -> list[tuple[str, int]]:
        """(text, tokens) of the steps that the answer begins with."""
        return [(text, tokens) for text, tokens in json.loads(self.begun)] if self.begun else []

    @property
    def trace_id(self) -> str:
        return f"{self.id}#{self.sample}"


class Step(NamedTuple):
    """One written step, kept or discarded.

    A named tuple, because it is built five times faster than a frozen dataclass: that counts at 100,000 live traces.
    """

    step: int
    attempt: int
    """0: the first text written for this step. 1: the large model's rewrite of a discarded draft."""
    model: int
    accepted: bool
    finish: str
    text: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    by_small: Measured | None
    """Scores over the chosen tokens, by the small model. None: it did not score this step."""
    by_large: Measured | None
    """The same, scored by the large model."""
    confidence: float
    """The score that the policy routed by; NaN if it has none."""
    posterior: float
    signal: float
    """What the policy's signal said of this draft or of the question; NaN if the policy asks for no signal."""
    signal_seconds: float
    """Seconds from asking for the signal to its answer."""
    routing_seconds: float
    """Seconds that the decision after this step took: the small model's pass over a step of the large one, a peek, the
    signal, and the step's share of the policy's own work. Waiting at the barrier is not counted."""
    decision: str
    """What the policy did after this step: `small` or `large` (which writes next), `rewrite` (discarded) or `end`."""
    replica: str
    seconds: float
    tokens_by_small: Any = None
    """With `routing.token_scores`: the measures of each token by the small model, and whether it was chosen, float32
    [T, 5]."""
    tokens_by_large: Any = None


@dataclass(frozen=True)
class Trace:
    """A finished trace: one row of `traces/` before grading."""

    question: Question
    status: Status
    text: str
    steps: list[Step]
    tokens_small: int
    """Tokens that the small model generated, discarded drafts included."""
    tokens_large: int
    """Tokens that the large model generated."""
    tokens_discarded: int
    """Tokens of both models that no kept step contains: discarded drafts, peeks, and what was written ahead of them."""
    prompt_tokens: int
    """Length of the prompt alone, in tokens of the model that wrote first."""
    prefill_small: int
    """Prompt tokens that the small model computed over all calls of this trace (prompt less cached), scoring passes
    included."""
    prefill_large: int
    """Prompt tokens that the large model computed."""
    cached_tokens: int
    """Prompt tokens that the prefix caches saved over all calls of this trace."""
    tokens_signal: tuple[int, ...]
    """Tokens that the model of each `Role` computed for signals: read and not cached, or generated."""
    error: str = ""
    cell: str = ""
    group: str = ""
    seed: int = 0
