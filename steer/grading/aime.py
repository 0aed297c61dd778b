"""Grader `aime`: an integer from 0 to 999, compared as an integer (`033` equals 33).

Invariant: `int()` gets at most three digits, whatever the model wrote.
"""

import re
from typing import NamedTuple

from steer.grading.answers import Stated, response_end, stated
from steer.grading.formulas.latex import without_units
from steer.grading.formulas.qualifiers import unqualified
from steer.grading.responses.statements import said_inside, statements
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

MAX_DIGITS = 3
"""Digits of an AIME answer without leading zeros."""

_FORMATTING = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|math(?:bf|it|rm|sf|tt)|mbox|boldsymbol|bm|underline|operatorname)\s{0,4}\{"
)
_UNIT = re.compile(
    r"(?<=[0-9.}])(?:\\[,;:! ]|[\s~$]){0,8}\\(?:text|mathrm|mbox)\s{0,4}"
    r"\{(?!\s{0,4}(?:hundred|thousand|million|billion|percent|(?:in\s)?base)\b)[^{}0-9]{0,100}\}(?:\^\{?[23]\}?)?"
)
_DEGREES = re.compile(r"\^?\{?\\(?:circ|degree)(?![A-Za-z])\}?|°")
_BASE_TEN = re.compile(
    r"(?<=[0-9)}])\s?(?:_\s?\{?(?:\\(?:text|mathrm)\s{0,4}\{)?\(?(?:base\s?\}?\s?)?(?:10|ten)(?![0-9A-Za-z])\)?\}{0,2}"
    r"|(?:\\text\{)?\s{0,4}\(?(?:in\s)?base[\s~-](?:10|ten)(?![0-9A-Za-z])\)?\}?)"
)
# `70 (mod 1000)` in each of its spellings: `\pmod{1000}`, `\bmod 1000`, `\text{ (mod 1000)}`, `modulo 10^3`.
_MODULUS = re.compile(
    r"(?:\\[,;:! ]|\\(?:q?quad|left)(?![A-Za-z])|[\s~({]|\\(?:text|mathrm|operatorname)(?=\s{0,4}\{)){0,12}"
    r"(?:\\[pb]?mod(?![A-Za-z])|(?<![A-Za-z\\])mod(?:ulo|ulus)?(?![A-Za-z]))"
    r"(?:\\[,;:! ]|[\s~{}$]){0,8}(10\s?\^\s?\{?[1-9](?![0-9])\}?|[0-9]{1,3}(?:\{?,\}?[0-9]{3})+|[0-9]{1,9})"
    r"(?![\w^.]|\{?,\}?[0-9])(?:\\right)?[)}\s]{0,6}"
)
_SPACE = re.compile(r"\\[,;:! ()\[\]$]|\\(?:left|right|displaystyle|quad)(?![A-Za-z])|[\s~$]")
_DIGITS_APART = re.compile(r"[0-9] +[0-9]")
_OPTION = re.compile(r"\([A-E]\)")
_IN_PARENTHESES = re.compile(r"\(([^()]*)\)")
_EQUAL = re.compile(r"=|≡|\\equiv(?![A-Za-z])")
_INTEGER = re.compile(r"([+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+))(?:\.0*)?")
# The pattern matches a number as a whole, with its decimals and its divisor: the model did not state a part of it.
# It skips exponents, indices, names and text in braces. A minus sign after an operand is a subtraction.
# (No possessive quantifier around a group: before Python 3.11.4 it finds nothing.)
_NUMBER = re.compile(
    r"(?<![\w.^\\/{])(?<![0-9],)(?:(?<![)}])[+-])?[0-9]++(?:[.,/][0-9]+)*(?:\s?/\s?[0-9]+)?"
    r"(?![\w^]|[.,/][0-9]|\\[dt]?frac)"
)
# A word between "answer is" and a number, other than those that only lead to it.
_WORDS = re.compile(
    r"(?<![\\A-Za-z])(?!(?:the|therefore|then|thus|hence|so|indeed|just|simply|now|exactly|equal|equals|to|integer|number"
    r"|value|final|that|and|is|be|sum|remainder|actually|clearly|definitely|really|rather|obviously|certainly|still"
    r"|given|by|as|follows|we|get|have|of)(?![A-Za-z]))[A-Za-z]{2,}(?![A-Za-z])",
    re.IGNORECASE,
)

_NOT = re.compile(r"(?<![A-Za-z])(?:not|never|isn't)(?: equal(?: to)?)?\W{0,4}\Z", re.IGNORECASE)
_OR = re.compile(r"[^\w.;!?]{0,6}or[^\w.;!?]{0,6}[0-9]")


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
    """Find the stated answer: the box or the "answer is" that stands last; else the last integer.

    If the text after "answer is" is not an integer, the first number in it counts. It does not count against a box
    unless it begins with a number: "\\boxed{33}. The answer is plausible" states 33. An integer is returned without
    leading zeros, any other text as it stands.
    """
    end = response_end(text)
    found = _stated(end) or _last_integer(end) or stated(end)
    return found and found._replace(text=integer(found.text).text)


def _stated(text: str) -> Stated | None:
    """The last statement of a number; if no statement holds one, the last statement as it is."""
    in_order = list(statements(text))
    has_box = any(statement.where == "boxed" for statement in in_order)
    for found in map(said_inside, in_order):
        if found.where == "boxed" or integer(found.text).kind != "not_an_integer":
            return found
        readable = _readable(found.text)
        number = _NUMBER.search(readable)
        if number and _NOT.search(readable[: number.start()]):
            return found
        if number and not (has_box and _WORDS.search(readable[: number.start()])):
            return found if _OR.match(readable, number.end()) else found._replace(text=number.group())
    return said_inside(in_order[0]) if in_order else None


def integer(answer: str) -> Read:
    """Read the integer in a box or a gold answer.

    The reading ignores formatting, units in `\\text{}` after a digit, degree signs, an option's letter as in `(A)`,
    parentheses, the left side of `x = 5` and `N \\equiv 5`, the base in `5_{10}`, thousands separators as in `1,000`
    and `1{,}000`, conditions and reasons, a full stop at the end, and zeros after a decimal point. It ignores the
    modulus in `5 \\pmod{1000}` if the integer is its own remainder. Powers, factorials, other bases and `7e1` are not
    integers.
    """
    read = _integer(answer)
    if read.kind == "not_an_integer":
        # Without a condition, a reason or a unit: `70 (since 7+63=70)`, `70 cm`.
        shorter = without_units(unqualified(answer)).removesuffix("%").removesuffix("\\").strip()
        if 0 < len(shorter) < len(answer.strip()) and (without := _integer(shorter)).kind == "integer":
            return without
    return read


def _integer(answer: str) -> Read:
    bare = _one_form(answer)
    modulus = _MODULUS.search(bare)
    if modulus:
        bare = bare[: modulus.start()] + bare[modulus.end() :]
    bare = _FORMATTING.sub("", _BASE_TEN.sub("", _DEGREES.sub("", _UNIT.sub("", bare))))
    bare = _SPACE.sub(" ", bare).replace("{", "").replace("}", "").lstrip(" *").rstrip(" *.")
    *lefts, bare = _EQUAL.split(bare)
    if any("," in left for left in lefts):
        return Read(answer.strip(), "not_an_integer")
    bare = bare if _DIGITS_APART.search(bare) else bare.replace(" ", "")
    if option := _OPTION.match(bare):
        bare = bare[option.end() :]
    if around := _IN_PARENTHESES.fullmatch(bare):
        bare = around.group(1)
    written = _INTEGER.fullmatch(bare)
    if not written:
        return Read(answer.strip(), "not_an_integer")
    sign = "-" if bare.startswith("-") else ""
    digits = written.group(1).lstrip("+-").replace(",", "").lstrip("0") or "0"
    if modulus and (sign or not _less(digits, modulus.group(1))):
        return Read(answer.strip(), "not_an_integer")
    if len(digits) > MAX_DIGITS or (sign and digits != "0"):
        return Read((sign + digits)[:MAX_ANSWER_CHARS], "out_of_range")
    return Read(digits, "integer")


def _last_integer(text: str) -> Stated | None:
    last = None
    for match in _NUMBER.finditer(_readable(text)):
        if _INTEGER.fullmatch(match.group()):
            last = match
    return Stated(last.group(), "last_integer", last.start(), last.end()) if last else None


def _less(digits: str, modulus: str) -> bool:
    """Whether an integer without leading zeros is less than a modulus such as `1000`, `1,000` or `10^{3}`."""
    bound = re.sub(r"[\s{},]", "", modulus)
    if "^" in bound:
        bound = "1" + "0" * int(bound[-1])
    return (len(digits), digits) < (len(bound), bound)


def _readable(text: str) -> str:
    """Remove what hides a number or is none of its own: formatting commands and their opening braces, the base ten, and
    moduli. The number in `\\mathbf{33}` then stands free, and that in `(mod 1000)` is gone."""
    return _FORMATTING.sub(" ", _BASE_TEN.sub("", _MODULUS.sub(" ", _one_form(text))))


def _one_form(text: str) -> str:
    return text.replace("{,}", ",").replace("−", "-")
