"""Grader `qa`: a short text answer against the gold answer and its aliases, after SQuAD's normalisation.

The SQuAD script removes ASCII punctuation only. This grader also removes typographic quotes, dashes and all other
Unicode punctuation, because models write it where the gold has `'` or `-`.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

from steer.grading.answers import Stated, answer_is, boxed, response_end, visible
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_ASCII_PUNCTUATION = frozenset(string.punctuation)
_TEXT_COMMAND = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|up)?|math(?:bf|it|rm|sf|tt)|mbox|emph|operatorname)\s{0,4}\{")
_LATEX_SPACE = re.compile(r"\\[ ,;:]")


def grade_qa(text: str, gold: str, aliases: Iterable[str] = ()) -> Verdict:
    """Grade one response: `correct` is the exact match, and `f1` is the token F1.

    Both take the best value over the gold answer and the aliases. An answer that is empty after normalisation (articles
    and punctuation only) matches nothing.
    """
    found = extract(text)
    if found is None:
        return Verdict(NO_ANSWER.extracted, False, NO_ANSWER.rule, 0.0)
    answer = normalised(found.text)
    golds = [normalised(right) for right in (gold, *aliases)]
    f1 = max(token_f1(answer, right) for right in golds)
    if answer and answer in golds:
        return Verdict(found.text, True, f"{found.where}:{'answer' if answer == golds[0] else 'alias'}", f1)
    return Verdict(found.text, False, f"{found.where}:different", f1)


def extract(text: str) -> Stated | None:
    """The last box or "answer is", whichever comes later. A response without either is its own answer."""
    end = response_end(text)
    box, said = boxed(end), answer_is(end)
    if box and (said is None or said.start < box.end):
        # If the box is on the line after "answer is", the box is the answer. If "answer is" stands inside the box, the
        # text after it is the answer.
        return answer_is(box.text) or box
    if said:
        return said
    whole = end.strip()
    return Stated(whole, "whole", 0, len(whole)) if 0 < len(whole) <= MAX_ANSWER_CHARS else None


def normalised(answer: str) -> str:
    """Lower case, no punctuation, no articles, single spaces. Formatting commands of LaTeX are removed first."""
    plain = unicodedata.normalize("NFC", visible(answer))
    plain = _LATEX_SPACE.sub(" ", _TEXT_COMMAND.sub("", plain)).lower()
    plain = "".join(char for char in plain if not _is_punctuation(char))
    return " ".join(_ARTICLES.sub(" ", plain).split())


def token_f1(answer: str, gold: str) -> float:
    """F1 between the bags of tokens of two normalised texts; 0 if they share no token."""
    answer_tokens, gold_tokens = answer.split(), gold.split()
    shared = sum((Counter(answer_tokens) & Counter(gold_tokens)).values())
    return 2 * shared / (len(answer_tokens) + len(gold_tokens)) if shared else 0.0


def _is_punctuation(char: str) -> bool:
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")
