"""Grader `math`: numbers and short formulas, compared as strings and as exact fractions.

Nothing is evaluated: a number is read by one pattern each for integers, decimals, fractions and mixed numbers.
"""

import re
from fractions import Fraction

from steer.grading.answers import Stated, answer_is, boxed, response_end
from steer.grading.verdict import NO_ANSWER, Verdict

MAX_DIGITS = 200
"""Digits of a number at most: comparing fractions stays in microseconds, and Python's integer limit is 4,300."""

_NUMBER = rf"\d{{1,{MAX_DIGITS}}}"
_DECIMAL = re.compile(rf"[+-]?(?:{_NUMBER}(?:\.\d{{0,{MAX_DIGITS}}})?|\.{_NUMBER})")
_FRACTION = re.compile(rf"([+-]?)(?:\\frac\{{([+-]?{_NUMBER})\}}\{{([+-]?{_NUMBER})\}}|({_NUMBER})/({_NUMBER}))")
_MIXED = re.compile(rf"([+-]?)({_NUMBER})\\frac\{{({_NUMBER})\}}\{{({_NUMBER})\}}")
_SHORT_FRACTION = re.compile(r"\\frac(\d)(\d)")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3}){1,60}(?:\.\d{1,200})?")
_IN_TEXT = re.compile(
    # A minus counts as a sign only where nothing stands before it that it could be subtracted from.
    # Digit runs are taken whole, however long: a part of one is not a number that anybody wrote.
    r"(?<![\w.)])[+-]?\d{1,3}(?:,\d{3}){1,60}(?:\.\d++)?(?!\d)|(?:(?<![\w.)])[+-])?\d++(?:\.\d++|/\d++)?"
)
_DOLLARS = re.compile(r"\$([^$]{1,500})\$")
_NAMED = re.compile(r"[A-Za-z]\w{0,15}=(?!.*=)(.+)", re.DOTALL)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\{([^{}]{0,200})\}")
_NOISE = (
    *("\\left", "\\right", "\\!", "\\,", "\\;", "\\:", "\\ ", "\\quad", "^\\circ", "^{\\circ}", "\\circ", "\\degree"),
    *("°", "\\%", "%", "\\$", "$", "\\(", "\\)", "\\[", "\\]", "−", "~"),
)


def grade_math(text: str, gold: str) -> Verdict:
    end = response_end(text)
    found = boxed(end) or _after_answer_is(end) or _last_number(end)
    if found is None:
        return NO_ANSWER
    how = _equal(found.text, gold)
    if how is None and found.where == "answer_is":
        # "The answer is 5 apples": a sentence, of which its first number is the answer.
        number = _IN_TEXT.search(found.text)
        if number and (how := _equal(number.group(), gold)):
            found = found._replace(text=number.group())
    return Verdict(found.text, how is not None, f"{found.where}:{how or 'different'}")


def _after_answer_is(text: str) -> Stated | None:
    found = answer_is(text)
    if found is None:
        return None
    formula = _DOLLARS.match(found.text)
    return found._replace(text=formula.group(1) if formula else found.text.rstrip("."))


def _last_number(text: str) -> Stated | None:
    last = None
    for match in _IN_TEXT.finditer(text.replace("{,}", ",")):
        last = match
    return Stated(last.group(), "last_number", last.start()) if last else None


def _equal(answer: str, gold: str) -> str | None:
    """How the two are equal: `exact`, `normalised` or `number`; None if they are not."""
    if answer.strip() == gold.strip():
        return "exact"
    answer, gold = normalised(answer), normalised(gold)
    if answer and answer == gold:
        return "normalised"
    number = as_number(answer)
    return "number" if number is not None and number == as_number(gold) else None


def normalised(answer: str) -> str:
    """Without spacing, size, dollar, degree and percent marks, `x=`, and units in `\\text{}` after a digit."""
    answer = answer.strip().rstrip(".").replace("−", "-").replace("{,}", ",")
    answer = answer.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    answer = _TEXT_COMMAND.sub(
        lambda match: "" if answer[: match.start()].rstrip("\\, ~")[-1:].isdigit() else match.group(1), answer
    )
    for mark in _NOISE:
        answer = answer.replace(mark, "")
    answer = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", "".join(answer.split()))
    named = _NAMED.fullmatch(answer)
    return named.group(1) if named else answer


def as_number(answer: str) -> Fraction | None:
    """The exact value of a normalised integer, decimal, fraction or mixed number; None if it is none of them."""
    if _THOUSANDS.fullmatch(answer):
        answer = answer.replace(",", "")
    if _DECIMAL.fullmatch(answer):
        return Fraction(answer.rstrip(".") if answer.endswith(".") else answer)
    if match := _FRACTION.fullmatch(answer):
        sign, over, under, plain_over, plain_under = match.groups()
        return _ratio(sign, 0, int(over or plain_over), int(under or plain_under))
    if match := _MIXED.fullmatch(answer):
        sign, whole, over, under = match.groups()
        return _ratio(sign, int(whole), int(over), int(under))
    return None


def _ratio(sign: str, whole: int, over: int, under: int) -> Fraction | None:
    if under == 0:
        return None
    return (-1 if sign == "-" else 1) * (whole + Fraction(over, under))
