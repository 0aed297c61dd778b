"""What a grader returns, and the limits that all graders share.

Invariant: a grader is a total function of text: whatever a model wrote, it returns a verdict within a time limit, and
evaluates nothing.
"""

from dataclasses import dataclass

MAX_TEXT_CHARS = 50_000
"""Answers stand at the end: only so much of a response's end is looked at. 4,096 tokens are about 16,000 characters."""

MAX_ANSWER_CHARS = 2_000
"""A longer answer than this is no answer that a gold of these graders could equal."""


@dataclass(frozen=True)
class Verdict:
    extracted: str
    """The answer that was read out of the response; empty if there was none."""
    correct: bool
    rule: str
    """Where the answer stood and what decided, as `boxed:number`; `none`: no answer, `error`: no response."""
    f1: float | None = None
    """Token F1 of a `qa` answer; None for every other grader."""


NO_ANSWER = Verdict("", False, "none")
NO_RESPONSE = Verdict("", False, "error")
