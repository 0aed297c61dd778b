"""Grading: a response and a gold answer in, a verdict out. One grader a file; model output is hostile input."""

from collections.abc import Mapping
from typing import Any

from steer.grading.choice import grade_choice
from steer.grading.exact import grade_exact
from steer.grading.math import grade_math
from steer.grading.qa import grade_qa
from steer.grading.verdict import NO_RESPONSE, Verdict

__all__ = ["GRADERS", "NO_RESPONSE", "Verdict", "grade"]

GRADERS = ("math", "choice", "qa", "exact")


def grade(text: str, gold: str, grader: str, labels: Mapping[str, Any]) -> Verdict:
    """`labels`: `aliases` of a qa answer, `letters` of a choice. Raises ValueError for an unknown grader.

    A trace without a response (status `error`) is not graded: its verdict is `NO_RESPONSE`.
    """
    match grader:
        case "math":
            return grade_math(text, gold)
        case "choice":
            return grade_choice(text, gold, labels.get("letters", "ABCD"))
        case "qa":
            return grade_qa(text, gold, labels.get("aliases", ()))
        case "exact":
            return grade_exact(text, gold)
        case _:
            raise ValueError(f"grader {grader!r}: there are {', '.join(GRADERS)}")
