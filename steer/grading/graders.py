"""The graders by their names: the one place that knows them all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steer.grading.aime import grade_aime
from steer.grading.choice import grade_choice
from steer.grading.exact import grade_exact
from steer.grading.kor import grade_kor
from steer.grading.math import grade_math
from steer.grading.qa import grade_qa
from steer.grading.verdict import Verdict

GRADERS = ("math", "aime", "choice", "qa", "kor", "exact")


def verdict(text: str, golds: Sequence[str], grader: str, labels: Mapping[str, Any]) -> Verdict:
    """What a grader says of one response. `golds`: the gold answer, then the others that are right, too. `labels`: see
    `steer.grading.grade`. Raises ValueError for an unknown grader."""
    gold = golds[0]
    match grader:
        case "math":
            return _first_right(grade_math(text, right) for right in golds)
        case "aime":
            return grade_aime(text, gold)
        case "choice":
            letters, options = labels.get("letters", "ABCD"), labels.get("options", ())
            official = bool(labels.get("official", False))
            return _first_right(grade_choice(text, right, letters, options, official=official) for right in golds)
        case "qa":
            return grade_qa(text, gold, golds[1:])
        case "kor":
            return grade_kor(text, gold, str(labels.get("subset", "")), str(labels.get("rule_id", "")))
        case "exact":
            return _first_right(grade_exact(text, right) for right in golds)
        case _:
            raise ValueError(f"grader {grader!r}: there are {', '.join(GRADERS)}")


def _first_right(verdicts: Iterable[Verdict]) -> Verdict:
    """The first verdict that is right, else the first. Verdicts behind a right one are not asked for."""
    first = None
    for verdict in verdicts:
        if verdict.correct:
            return verdict
        first = first or verdict
    assert first is not None, "there is a gold answer"
    return first
