"""Grader `exact`: the stated answer equals the gold character by character.

Spaces at the ends and invisible characters are ignored. A number is a text like any other: `27.0` is not `27`.
"""

from steer.grading.answers import Stated, response_end, visible
from steer.grading.responses.statements import last_statement
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict


def grade_exact(text: str, gold: str) -> Verdict:
    """Compare the last box or line after "answer is" (with or without its full stop); else the whole response."""
    gold = visible(gold).strip()
    found = extract(text, max(MAX_ANSWER_CHARS, len(gold)))
    if found is None:
        return NO_ANSWER
    answer = found.text
    if found.where == "answer_is" and answer != gold:
        answer = answer.removesuffix(".")
    return Verdict(answer, bool(answer) and answer == gold, found.where)


def extract(text: str, max_whole_chars: int = MAX_ANSWER_CHARS) -> Stated | None:
    """Find the stated answer. A response that states none is its own answer if it has at most `max_whole_chars`."""
    found = last_statement(response_end(text))
    if found is not None:
        return found
    whole = visible(text).strip()
    return Stated(whole, "whole", 0, len(whole)) if 0 < len(whole) <= max_whole_chars else None
