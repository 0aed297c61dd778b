"""What the router asks of an engine replica and what the replica answers, in columns.

A batch is one call. The replica has one stream of answers for all its calls. Invariants: results name rows by their
position in the batch (`row_R`). Every row of a batch is answered to its end once, unless the replica dies. Token logits
never leave the replica.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from steer.traces import Measured


class Op(IntEnum):
    """What one row asks for."""

    STEP = 0
    """Write the next step: up to and including the delimiter, or to the end-of-sequence token."""
    WHOLE = 1
    """Write to the end of the trace in one pass without stopping at delimiters, or as far as `Sampling.pass_tokens`."""
    SCORE = 2
    """Score the last piece of the prefix, which another model wrote, by one teacher-forced pass. Generates nothing."""
    PEEK = 3
    """Write one token of the next step and return its measures. The token is thrown away."""
    JUDGE = 4
    """Rate the last piece of the prefix, a draft, from 0 to 9 in one token. The token is thrown away."""
    REWARD = 5
    """Probability that the last piece of the prefix is right, by a process reward model. Generates nothing."""
    SOLVE = 6
    """Probability that the small model solves the question, by a probe on its prompt alone. Generates nothing."""
    AHEAD = 7
    """Write as far as WHOLE does, but answer step by step."""
    WRITE_ON = 8
    """Write to the end of the trace and answer every step as soon as it is written. The row stays open until it ends
    or is cut."""


PROMPT_TOO_LONG = "the prompt has"
PROMPT_UNREADABLE = "the prefix cannot be taken"
REFUSED_PROMPTS = (PROMPT_TOO_LONG, PROMPT_UNREADABLE)
"""How the reason of an error row begins where the prompt itself is at fault."""
WRITING = (Op.STEP, Op.WHOLE, Op.AHEAD, Op.WRITE_ON)
"""The operations that write text to keep."""


@dataclass(frozen=True)
class Sampling:
    """How a batch is sampled and scored."""

    temperature: float = 0.7
    top_p: float = 1.0
    tokens: str = "all"
    """Which tokens a step's score averages over: `math` or `all`."""
    greedy_judge: bool = False
    """JUDGE answers the likeliest digit instead of the expectation over all ten."""
    judge_prompt: str = ""
    """What JUDGE asks after the draft, as a user turn."""
    token_scores: bool = False
    """Answer the measures of every token beside the scores of a step."""
    pass_tokens: int | None = None
    """WHOLE answers, with finish `step`, at the end of the step in which it reaches this number of tokens."""
    ahead_tokens: int | None = None
    """The same of AHEAD."""
    stream: bool = False
    """WHOLE answers every finished step while it goes on, as WRITE_ON does. It asks vLLM for the same tokens."""

    def most_in_pass(self, op: int) -> int | None:
        """Tokens after which a pass of this operation comes back. None: at its end."""
        return self.ahead_tokens if op == Op.AHEAD else self.pass_tokens


@dataclass(frozen=True)
class Prompt:
    """The first piece of every prefix. The replica applies its model's chat template."""

    user: str
    system: str = ""
    earlier: tuple[tuple[str, str], ...] = ()
    """The turns before the last user turn, as (`user` or `assistant`, text) in their order."""


Ids = Sequence[int]
"""Token ids of a step: `array.array("i")` where a replica wrote them (4 bytes a token), compared by identity alone."""
Piece = Prompt | Ids | str
"""One piece of a trace's prefix: the prompt, then one piece a kept step. A step travels as token ids between models of
one tokenizer and as text between others. A piece is never tokenised again once a replica has taken it."""


@dataclass(frozen=True)
class StepBatch:
    """One call to one replica. Axis `_B`: the rows."""

    sampling: Sampling
    key_B: list[str]
    """Key of the trace, unique in the run, under which the replica keeps its prefix."""
    op_B: list[int]
    seed_B: list[int]
    max_tokens_B: list[int]
    held_B: list[int]
    """How many pieces of the prefix the replica already holds and may keep. It discards what it holds beyond these."""
    new_B: list[tuple[Piece, ...]]
    """The pieces that follow the held ones. For SCORE the last piece of the prefix is the step to score."""
    drop: tuple[str, ...] = ()
    """Keys of traces that the replica may forget."""
    flush_s: float | None = None
    """None: answer when every row is done. Otherwise answer what is done, in messages that are at least so far apart
    (rolling barrier). The replica uses the value that it got last for all its batches."""


TokenScores = npt.NDArray[np.float32] | None
"""The measures of a step's tokens, in the order of `steer.traces.MEASURES`, and whether each token was chosen: [T, 5].
None: not asked for."""


class Ahead(NamedTuple):
    """A step after the first of an AHEAD pass."""

    finish: str
    text: str
    ids: Ids
    scores: Measured
    token_scores: TokenScores = None


@dataclass(frozen=True)
class StepResults:
    """What a replica answers for rows `row_R` of a batch. Axis `_R`: the answered rows.

    A WRITE_ON row is answered once a step, in the order of its steps, and may be there several times.
    """

    row_R: list[int]
    finish_R: list[str]
    """Values of `steer.traces.Finish`. SCORE and PEEK rows answer `step`."""
    text_R: list[str]
    ids_R: list[Ids]
    """The new tokens, delimiter and end-of-sequence token included. Empty for SCORE and PEEK."""
    tokens_R: list[int]
    """Tokens generated (1 for PEEK, 0 for SCORE). Where the finish is `cut`: those after the last answered step."""
    prompt_tokens_R: list[int]
    cached_tokens_R: list[int]
    scores_RS: npt.NDArray[np.float64]
    """Scores [R, S] as `steer.traces.score_columns` names them, NaN where not measured. STEP, WHOLE: over the chosen
    tokens. SCORE: the same over the scored piece. PEEK: of the one token."""
    seconds_R: list[float]
    """From the row's arrival to this answer; of a later step of a WRITE_ON row, from the answer before it."""
    signal_R: list[float] = field(default_factory=list)
    """JUDGE: expected digit, 0 to 9 (with `Sampling.greedy_judge` the likeliest). REWARD, SOLVE: a probability. NaN
    where a row has no signal; empty where no row has one."""
    more_R: dict[int, tuple[Ahead, ...]] = field(default_factory=dict)
    """AHEAD: the further steps, by position in this message. The columns hold the first step and what the pass read."""
    error_R: dict[int, str] = field(default_factory=dict)
    """Reason by position in this message, for rows whose finish is `error`."""
    open_R: frozenset[int] = frozenset()
    """Positions in this message of rows that stay open: further answers to them follow."""
    token_scores_R: dict[int, TokenScores] = field(default_factory=dict)
    """With `Sampling.token_scores`, by position in this message: the measures of the written or scored tokens."""
    replica: str = ""
    busy_s: float = 0.0
    """Seconds in which this replica's engine has had work since it started."""


class CallAnswers(NamedTuple):
    """What one message of a replica holds of one call."""

    call: int
    """The number that the router gave the call."""
    results: StepResults


@dataclass(frozen=True)
class EngineInfo:
    """What a replica says of itself once it has loaded."""

    replica: str
    model: str
    parameters: float
    """Nominal parameter count N of the pair's entry, or the true count if the entry has none."""
    tokenizer: str
    """Fingerprint of the tokenizer. Models of equal fingerprints exchange token ids."""
    max_model_len: int
    measures: tuple[str, ...]
    pid: int
    node: str
    versions: dict[str, str] = field(default_factory=dict)
