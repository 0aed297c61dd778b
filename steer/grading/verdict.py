"""What a grader returns, and the limits that all graders share.

Invariant: a grader is a total function of text. Whatever the model wrote, the grader returns a verdict within a time
limit, and evaluates no text.
"""

from dataclasses import dataclass

MAX_TEXT_CHARS = 50_000
"""How many characters at the end of a response are searched for an answer. 4,096 tokens are about 16,000 characters."""

MAX_ANSWER_CHARS = 2_000
"""Longest text that counts as an answer. Grader `exact` also accepts a response as long as its gold answer."""


@dataclass(frozen=True)
class Verdict:
    extracted: str
    """The answer found in the response; empty if there is none."""
    correct: bool
    rule: str
    """Where the answer was found and which comparison decided, for example `boxed:number`; `none` without an answer,
    `error` without a response."""
    f1: float | None = None
    """Token F1 of grader `qa`; None for every other grader."""


NO_ANSWER = Verdict("", False, "none")
NO_RESPONSE = Verdict("", False, "error")
