"""Grader `aime`: an integer from 0 to 999, compared as an integer (`033` equals 33).

Invariant: `int()` gets at most three digits, whatever the model wrote.
"""

import re
from typing import NamedTuple

from steer.grading.answers import Stated, answer_is, boxed, response_end
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

MAX_DIGITS = 3
"""Digits of an AIME answer without leading zeros."""

_FORMATTING = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:bf|it|rm|sf)|mbox|boldsymbol)\s{0,4}\{")
_UNIT = re.compile(r"(?<=[0-9])[\s\\,;!~$]{0,8}\\(?:text|mathrm|mbox)\s{0,4}\{[^{}0-9]{0,100}\}")
_DEGREES = re.compile(r"\^?\{?\\(?:circ|degree)(?![A-Za-z])\}?|°")
_SPACE = re.compile(r"\\[,;:! ()\[\]$]|\\(?:left|right|displaystyle|quad)(?![A-Za-z])|[\s~$]")
_DIGITS_APART = re.compile(r"[0-9] +[0-9]")
_OPTION = re.compile(r"\([A-E]\)")
_IN_PARENTHESES = re.compile(r"\(([^()]*)\)")
_INTEGER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)")
# The pattern matches a number as a whole, with its decimals and its divisor: the model did not state a part of it.
# It skips exponents, indices, names and text in braces. A minus sign after an operand is a subtraction.
# (No possessive quantifier around a group: before Python 3.11.4 it finds nothing.)
_NUMBER = re.compile(
    r"(?<![\w.^\\/{])(?<![0-9],)(?:(?<![)}])[+-])?[0-9]++(?:[.,/][0-9]+)*(?:\s?/\s?[0-9]+)?"
    r"(?![\w^]|[.,/][0-9]|\\[dt]?frac)"
)


class Read(NamedTuple):
    text: str
    """The integer without leading zeros; for `not_an_integer`, the text as it stands."""
    kind: str
    """`integer`, `out_of_range` or `not_an_integer`."""


def grade_aime(text: str, gold: str) -> Verdict:
    found = extract(text)
    if found is None:
        return NO_ANSWER
    answer = integer(found.text)
    if answer.kind != "integer":
        return Verdict(answer.text, False, f"{found.where}:{answer.kind}")
    right = integer(gold)
    equal = right.kind == "integer" and int(answer.text) == int(right.text)
    return Verdict(answer.text, equal, f"{found.where}:{'integer' if equal else 'different'}")


def extract(text: str) -> Stated | None:
    """Find the stated answer: the last box; else the text after the last "answer is"; else the last integer.

    If the text after "answer is" is not an integer, the first number in it counts. An integer is returned without
    leading zeros, any other text as it stands.
    """
    end = response_end(text)
    found = boxed(end)
    if found is None and (found := answer_is(end)) and integer(found.text).kind == "not_an_integer":
        number = _NUMBER.search(_readable(found.text))
        found = found._replace(text=number.group()) if number else found
    if found is None:
        found = _last_integer(end)
    return found and found._replace(text=integer(found.text).text)


def integer(answer: str) -> Read:
    """Read the integer in a box or a gold answer.

    The reading ignores formatting, units in `\\text{}` after a digit, degree signs, an option's letter as in `(A)`,
    parentheses, the left side of `x = 5`, thousands separators as in `1,000` and `1{,}000`, and a full stop at the end.
    """
    bare = _FORMATTING.sub("", _DEGREES.sub("", _UNIT.sub("", _one_form(answer))))
    bare = _SPACE.sub(" ", bare).replace("{", "").replace("}", "").lstrip(" *").rstrip(" *.")
    left, equals, right = bare.rpartition("=")
    if equals and "," not in left:
        bare = right
    bare = bare if _DIGITS_APART.search(bare) else bare.replace(" ", "")
    if option := _OPTION.match(bare):
        bare = bare[option.end() :]
    if around := _IN_PARENTHESES.fullmatch(bare):
        bare = around.group(1)
    if not _INTEGER.fullmatch(bare):
        return Read(answer.strip(), "not_an_integer")
    sign = "-" if bare.startswith("-") else ""
    digits = bare.lstrip("+-").replace(",", "").lstrip("0") or "0"
    if len(digits) > MAX_DIGITS or (sign and digits != "0"):
        return Read((sign + digits)[:MAX_ANSWER_CHARS], "out_of_range")
    return Read(digits, "integer")


def _last_integer(text: str) -> Stated | None:
    last = None
    for match in _NUMBER.finditer(_readable(text)):
        if _INTEGER.fullmatch(match.group()):
            last = match
    return Stated(last.group(), "last_integer", last.start(), last.end()) if last else None


def _readable(text: str) -> str:
    """Remove formatting commands and their opening braces, so that the number in `\\mathbf{33}` stands free."""
    return _FORMATTING.sub(" ", _one_form(text))


def _one_form(text: str) -> str:
    return text.replace("{,}", ",").replace("−", "-")
