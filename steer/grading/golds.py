"""Whether a grader can read a gold answer: a gold that no response could match is refused before a model is asked.

Invariant: a gold that is not refused is graded right when it is given back as the response, in at least one of the
forms in which responses state an answer.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from steer.grading.aime import integer
from steer.grading.answers import is_placeholder, visible
from steer.grading.formulas.limits import MAX_NESTING, nesting
from steer.grading.graders import verdict
from steer.grading.verdict import MAX_ANSWER_CHARS

Scalar = str | int | float | Decimal
MAX_PLAIN_CHARS = 200
"""Longest gold answer that is not given to its grader to see whether it can be read."""
SHOWN_CHARS = 60
"""How much of a gold answer a reason shows."""

_MISSING_NUMBER = re.compile(r"[+-]?nan|null|nat|<na>|#?n/a|undefined", re.IGNORECASE)
"""How pandas, NumPy, JSON and JavaScript spell a number that is not there."""
_NUMERAL = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_LETTER_OR_INTEGER = re.compile(r"[A-Z]|[0-9]{1,3}")
_PLAIN_ANSWER = re.compile(r"-?[^\W_](?:[\w ,.'-]*[\w.'])?")
# A formula of ASCII with a digit, without a box of its own and without a backslash at its end.
_ONE_STATEMENT = re.compile(r"(?!.*(?:box|<|\\$))(?=[^0-9]*[0-9])[!-~](?:[ -~]*[!-~])?")
_LETTER_AND_TEXT = re.compile(r"[(\[]?([A-Za-z])(?:[)\]][.:]?|[.:])\s*\S")
_ESCAPE_OR_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BRACKET = re.compile(r"[()\[\]]")
_NO_DELIMITER = re.compile(r"\\(?:left|right)\s*\.")
_TWO_WORDS = re.compile(r"\b[^\W\d_]{2,}\s+[^\W\d_]{2,}\b")
_SPACING = re.compile(
    r"\\(?:text|mathrm|mbox|boxed|fbox)\s*(?=\{)|\\(?:quad|qquad|left|right)(?![A-Za-z])|\\[ ,;:!()\[\]]"
)
_COMMAND = re.compile(r"\\[A-Za-z]|\\\{")
_MATH_SIGNS = frozenset("∞∅<>=≤≥≠+±%°")
"""Signs that can be a whole answer to a question of mathematics."""


def plain(value: Scalar) -> str:
    """A text without spaces at its ends; a number as its shortest exact decimal: 27.0 is `27`, 1e-05 `0.00001`."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int):
        return str(value)
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if not exact.is_finite():
        return str(float(exact))
    digits = f"{exact:f}"
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits


def unreadable_gold(grader: str, gold: str, labels: Mapping[str, Any]) -> str | None:
    """Why no response could be graded right with this gold answer, as the end of a sentence that begins with the name
    of its field; None: the grader can read it.

    `labels` are those of `steer.grading.grade`. Any string is safe: nothing is evaluated. Raises ValueError for an
    unknown grader, and what grader `math` raises if it needs its worker and cannot start it.
    """
    if not gold.isprintable():  # A line break, an invisible character or half of a surrogate pair.
        gold = gold.encode("utf-8", "replace").decode()
        if not visible(gold).strip():
            return "is empty"
    elif not gold.strip():
        return "is empty"
    if grader == "math" and _NUMERAL.fullmatch(gold):
        return None
    if grader == "choice" and gold.strip().upper() not in set(str(labels.get("letters", "ABCD"))):
        opening = _LETTER_AND_TEXT.match(gold.strip())
        remedy = f" (write {opening[1].upper()} alone)" if opening else ""
        return f"is no letter of {labels.get('letters', 'ABCD')}, which grader choice needs{remedy}{_shown(gold)}"
    if grader == "aime" and integer(gold).kind != "integer":
        return f"is no integer from 0 to 999, which grader aime needs{_shown(gold)}"
    if grader == "math" and (reason := _unreadable_formula(gold)):
        return f"{reason}{_shown(gold)}"
    if _is_plainly_readable(gold, grader):
        return None
    if any(verdict(response, (gold,), grader, labels).correct for response in _stating(gold, grader)):
        return None
    if len(gold) > MAX_ANSWER_CHARS and grader != "exact":
        return f"is longer than {MAX_ANSWER_CHARS:,} characters, the longest answer that counts{_shown(gold)}"
    return f"is no answer that grader {grader} can read in a response{_shown(gold)}"


def _is_plainly_readable(gold: str, grader: str) -> bool:
    """Whether a box of this gold is right for sure, so that no grader need be asked: grading costs ten times the
    reading of a row. The gold can be read as far as its kind goes: a letter, an integer, a balanced formula."""
    if grader in ("choice", "aime"):
        return _LETTER_OR_INTEGER.fullmatch(gold) is not None
    if grader not in ("math", "qa", "exact") or len(gold) > MAX_PLAIN_CHARS:
        return False
    # A word or a number stays one whatever a grader removes, and no box is taken for a blank to fill in.
    if _PLAIN_ANSWER.fullmatch(gold):
        return "answer" not in gold.lower() and not is_placeholder(gold)
    return grader == "math" and _ONE_STATEMENT.fullmatch(gold) is not None and "answer" not in gold.lower()


def stands_for_nothing(grader: str, gold: str) -> bool:
    """Whether a gold answer shows nothing, or for grader math spells a missing number: no response equals it."""
    bare = (gold if gold.isprintable() else visible(gold)).strip()
    return not bare or (grader == "math" and _MISSING_NUMBER.fullmatch(bare.strip("$ ")) is not None)


def _shown(gold: str) -> str:
    short = " ".join(gold.split())
    return f": it holds {short if len(short) <= SHOWN_CHARS else short[:SHOWN_CHARS] + '...'!r}"


def _unreadable_formula(gold: str) -> str | None:
    bare = (gold if gold.isprintable() else visible(gold)).strip()
    if stands_for_nothing("math", bare):
        return "stands for a missing number"
    content = _SPACING.sub("", bare)
    if not (_COMMAND.search(content) or any(char.isalnum() or char in _MATH_SIGNS for char in content)):
        return "has no number, formula or word"
    if len(gold) > MAX_ANSWER_CHARS:
        return f"is longer than {MAX_ANSWER_CHARS:,} characters, the longest answer that counts"
    if not _is_balanced(bare):
        return "has brackets that do not match"
    return f"has more than {MAX_NESTING} brackets in each other" if nesting(bare) > MAX_NESTING else None


def _is_balanced(text: str) -> bool:
    """Whether every brace has its partner, and outside of sentences every other bracket has one of some kind.

    Intervals mix brackets (`[0, 1)`, `]0, 1[`), and sentences number their parts by one alone (`1)`).
    """
    depth = 0
    for match in _ESCAPE_OR_BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth < 0:
            return False
    paired = len(_BRACKET.findall(text)) % 2 == 0 or _TWO_WORDS.search(text) or _NO_DELIMITER.search(text)
    return depth == 0 and bool(paired)


def _stating(gold: str, grader: str) -> Iterator[str]:
    """Responses that state the gold answer, in the forms that prompts ask for."""
    if grader == "kor":
        yield gold if gold.lstrip().startswith("[[") else f"[[{gold}]]"
    yield f"\\boxed{{{gold}}}"
    yield f"The answer is {gold}"
    yield gold
