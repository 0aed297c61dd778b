"""Grader `qa`: a short text answer, exact match after SQuAD's normalisation, over the gold answer and its aliases."""

import re
import string
from collections.abc import Iterable

from steer.grading.answers import Stated, answer_is, boxed, response_end
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\{([^{}]{0,500})\}")


def grade_qa(text: str, gold: str, aliases: Iterable[str] = ()) -> Verdict:
    end = response_end(text)
    found = _last_stated(end)
    if found is None:
        return NO_ANSWER
    answer = normalised(found.text)
    if answer and answer == normalised(gold):
        return Verdict(found.text, True, f"{found.where}:answer")
    if answer and any(answer == normalised(alias) for alias in aliases):
        return Verdict(found.text, True, f"{found.where}:alias")
    return Verdict(found.text, False, f"{found.where}:different")


def _last_stated(text: str) -> Stated | None:
    """The box or the "answer is" that stands last; a response without either is its own answer."""
    box, said = boxed(text), answer_is(text)
    if box and said:
        # A box on the line that "answer is" opens is that answer.
        return box if box.start > said.start else said
    if box or said:
        return box or said
    whole = text.strip()
    return Stated(whole, "whole", 0) if 0 < len(whole) <= MAX_ANSWER_CHARS else None


def normalised(answer: str) -> str:
    """Lower case, no punctuation, no articles, single spaces."""
    plain = _TEXT_COMMAND.sub(r"\1", answer).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())
