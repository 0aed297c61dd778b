"""Grader `exact`: the stated answer equals the gold character by character, but for space at the ends."""

from steer.grading.answers import response_end, stated
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict


def grade_exact(text: str, gold: str) -> Verdict:
    """The box, else the line after "answer is" (with or without its full stop), else the whole response."""
    found = stated(response_end(text))
    if found is None:
        whole = text.strip()
        if not whole or len(whole) > max(MAX_ANSWER_CHARS, len(gold)):
            return NO_ANSWER
        return Verdict(whole, whole == gold.strip(), "whole")
    answer = found.text
    if found.where == "answer_is" and answer != gold.strip():
        answer = answer.removesuffix(".")
    return Verdict(answer, answer == gold.strip(), found.where)
