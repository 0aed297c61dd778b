"""Grading: a response and a gold answer in, a verdict out. Each grader has its own file.

Model output is hostile input.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from steer.grading.golds import Scalar, plain, stands_for_nothing
from steer.grading.graders import GRADERS, verdict
from steer.grading.verdict import NO_RESPONSE, Verdict
from steer.thoughts import UNCLOSED, answer_start

__all__ = ["GRADERS", "NO_RESPONSE", "Verdict", "grade"]


def grade(text: str, gold: Scalar, grader: str, labels: Mapping[str, Any], closing_tag: str = "") -> Verdict:
    """Grade one response. A gold answer that is a number counts as its plain decimal text (27.0 as `27`).

    `closing_tag`: what ends the thought of the model that wrote the response; empty if it does not think. The answer
    behind the thought is graded alone. A thought that does not end has none: the verdict's rule is `unclosed_thought`.

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
    start = answer_start(text, closing_tag) if closing_tag else 0
    found = verdict("" if start is None else text[start:], golds, grader, labels)
    if start is None:
        return replace(found, extracted="", correct=False, rule=UNCLOSED, f1=found.f1 and 0.0)
    if found.correct and all(stands_for_nothing(grader, right) for right in golds):
        return replace(found, correct=False, rule=f"{found.rule.split(':')[0]}:no_gold", f1=found.f1 and 0.0)
    return found


def _storable(text: str) -> str:
    """Replace lone surrogates by question marks: UTF-8 cannot encode them."""
    return text.encode("utf-8", "replace").decode("utf-8")
