"""Grading: a response and a gold answer in, a verdict out. Each grader has its own file.

Model output is hostile input.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from steer.grading.aime import grade_aime
from steer.grading.choice import grade_choice
from steer.grading.exact import grade_exact
from steer.grading.golds import Scalar, plain, stands_for_nothing
from steer.grading.kor import grade_kor
from steer.grading.math import grade_math
from steer.grading.qa import grade_qa
from steer.grading.verdict import NO_RESPONSE, Verdict

__all__ = ["GRADERS", "NO_RESPONSE", "Verdict", "grade"]

GRADERS = ("math", "aime", "choice", "qa", "kor", "exact")


def grade(text: str, gold: Scalar, grader: str, labels: Mapping[str, Any]) -> Verdict:
    """Grade one response. A gold answer that is a number counts as its plain decimal text (27.0 as `27`).

    Raises ValueError for an unknown grader.

    `labels` holds further inputs of some graders, all of them optional: `aliases` (math, choice, qa, exact: other
    right answers); `letters`, `options` (the options' texts) and `official` (choice); `subset` and `rule_id` (kor).

    A gold answer that shows nothing, or for grader math spells a missing number (`nan`), is equal to no response.
    A trace without a response (status `error`) is not graded: its verdict is `NO_RESPONSE`.
    """
    if not isinstance(gold, str):
        gold = plain(gold) if gold == gold else ""  # NaN is no gold answer
    text, gold = _storable(text), _storable(gold)
    golds = (gold, *labels.get("aliases", ()))
    verdict = _verdict(text, golds, grader, labels)
    if verdict.correct and all(stands_for_nothing(grader, right) for right in golds):
        return replace(verdict, correct=False, rule=f"{verdict.rule.split(':')[0]}:no_gold", f1=verdict.f1 and 0.0)
    return verdict


def _verdict(text: str, golds: Sequence[str], grader: str, labels: Mapping[str, Any]) -> Verdict:
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


def _storable(text: str) -> str:
    """Replace lone surrogates by question marks: UTF-8 cannot encode them."""
    return text.encode("utf-8", "replace").decode("utf-8")
