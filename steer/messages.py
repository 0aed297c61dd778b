"""What the router asks of an engine replica and what comes back: one message a replica a round, in columns.

Invariants: results name rows by their position in the batch (`row_R`); every row of a batch is answered once, unless
the replica dies; token logits never leave the replica.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np


class Op(IntEnum):
    """What one row asks."""

    STEP = 0
    """Write the next step: up to and including the delimiter, or to the end-of-sequence token."""
    WHOLE = 1
    """Write to the end of the trace in one pass (no stop at the delimiter), or as far as `Sampling.pass_tokens`."""
    SCORE = 2
    """Score the last piece of the prefix (another model wrote it) by one teacher-forced pass; generates nothing."""
    PEEK = 3
    """Write one token of the next step and return its measures; the token is thrown away."""
    JUDGE = 4
    """Rate the last piece of the prefix, a draft, from 0 to 9 in one token that is thrown away."""
    REWARD = 5
    """Probability that the last piece of the prefix is right, by a process reward model; generates nothing."""
    SOLVE = 6
    """Probability that the small model solves the question, by a probe on its prompt alone; generates nothing."""
    AHEAD = 7
    """Write as far as for WHOLE, and answer step by step."""


WRITING = (Op.STEP, Op.WHOLE, Op.AHEAD)
"""Those that write text to keep."""


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.7
    top_p: float = 1.0
    tokens: str = "all"
    """Which tokens a step's score averages over: `math` or `all`."""
    aggregate: str = "mean"
    """A step's score over these tokens: their `mean` or their `min`."""
    greedy_judge: bool = False
    """JUDGE answers the likeliest digit, not the expectation over all ten."""
    judge_prompt: str = ""
    """What JUDGE asks after the draft, as a user turn."""
    pass_tokens: int | None = None
    """WHOLE and AHEAD answer at the end of the step in which they have written so many tokens, with finish `step`."""


@dataclass(frozen=True)
class Prompt:
    """The first piece of every prefix; the replica applies its model's chat template."""

    user: str
    system: str = ""


Piece = Prompt | tuple[int, ...] | str
"""One piece of a trace's prefix: the prompt, then one piece a kept step: token ids between models of one tokenizer,
text between others. Never re-tokenised once taken."""


@dataclass(frozen=True)
class StepBatch:
    """One call to one replica. Axis `_B`: the rows."""

    sampling: Sampling
    key_B: list[str]
    """Run-wide key of the trace, under which the replica keeps its prefix."""
    op_B: list[int]
    seed_B: list[int]
    max_tokens_B: list[int]
    held_B: list[int]
    """How many pieces of the prefix the replica already holds and may keep; what it has beyond these is discarded."""
    new_B: list[tuple[Piece, ...]]
    """The pieces that follow the held ones. For SCORE the last piece of the prefix is the step to score."""
    drop: tuple[str, ...] = ()
    """Traces the replica may forget."""
    flush_s: float | None = None
    """None: answer when every row is done. A number: answer what is done at this interval (rolling barrier)."""


class Ahead(NamedTuple):
    """A step after the first of an AHEAD pass."""

    finish: str
    text: str
    ids: tuple[int, ...]
    scores: tuple[float, float, float]


@dataclass(frozen=True)
class StepResults:
    """What a replica answers for rows `row_R` of a batch. Axis `_R`: the answered rows."""

    row_R: list[int]
    finish_R: list[str]
    """`steer.traces.Finish` values. SCORE and PEEK rows answer `step`."""
    text_R: list[str]
    ids_R: list[tuple[int, ...]]
    """The new tokens, delimiter and end-of-sequence token included; empty for SCORE and PEEK."""
    tokens_R: list[int]
    """Tokens generated (1 for PEEK, 0 for SCORE)."""
    prompt_tokens_R: list[int]
    cached_tokens_R: list[int]
    scores_R3: np.ndarray
    """float64 [R, 3] in the order of `steer.traces.MEASURES`; NaN where not measured. STEP, WHOLE: mean over the chosen
    tokens; SCORE: the same over the scored piece; PEEK: of the one token."""
    seconds_R: list[float]
    signal_R: list[float] = field(default_factory=list)
    """JUDGE: expected digit, 0 to 9 (with `Sampling.greedy_judge` the likeliest); REWARD, SOLVE: a probability. Empty,
    or NaN, where a row has none."""
    more_R: dict[int, tuple[Ahead, ...]] = field(default_factory=dict)
    """AHEAD: the further steps by position in this message; the columns hold the first, and what the pass read."""
    error_R: dict[int, str] = field(default_factory=dict)
    """Reason by position in this message, for rows whose finish is `error`."""
    replica: str = ""
    busy_s: float = 0.0
    """Seconds this replica's engine has had work since it started."""


@dataclass(frozen=True)
class EngineInfo:
    """What a replica says of itself once it is loaded."""

    replica: str
    model: str
    parameters: float
    """Nominal parameter count N of the pair's entry, or the true count where the entry has none."""
    tokenizer: str
    """Fingerprint of the tokenizer: equal fingerprints exchange token ids."""
    max_model_len: int
    measures: tuple[str, ...]
    pid: int
    node: str
    versions: dict[str, str] = field(default_factory=dict)
