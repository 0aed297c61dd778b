"""Exact numbers: the value of a canonical integer, decimal, fraction, mixed number or power of ten, as a Fraction.

Invariants: nothing is evaluated beyond one fraction and one power of ten, and the digits of every part are capped, so a
number costs microseconds. No rounding: two numbers are equal only if they are the same rational.
"""

import re
from fractions import Fraction

MAX_DIGITS = 200
"""Digits of a number at most: comparing fractions stays in microseconds, and Python's integer limit is 4,300."""

_INTEGER = rf"\d{{1,{MAX_DIGITS}}}"
_UNSIGNED = rf"(?:{_INTEGER}(?:\.\d{{0,{MAX_DIGITS}}})?|\.{_INTEGER})"
_DECIMAL = re.compile(rf"([+-]?)({_UNSIGNED})")
_FRACTION = re.compile(
    rf"([+-]?)(?:\\frac\{{([+-]?{_UNSIGNED})\}}\{{([+-]?{_UNSIGNED})\}}|({_UNSIGNED})/({_UNSIGNED}))"
)
_MIXED = re.compile(rf"([+-]?)({_INTEGER})(?:\\frac\{{({_INTEGER})\}}\{{({_INTEGER})\}}| ({_INTEGER})/({_INTEGER}))")
_SCIENTIFIC = re.compile(rf"([+-]?)({_UNSIGNED})\\cdot10\^\{{([+-]?\d{{1,3}})\}}")
_THOUSANDS = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3}){1,60}(?:\.\d{1,200})?)")
_LONG_INTEGER = re.compile(r"[+-]?\d+")


def as_number(text: str) -> Fraction | None:
    """The exact value of a canonical number (see `latex.normalised`); None if it is anything else, or over a zero."""
    if match := _DECIMAL.fullmatch(text):
        return _signed(match[1], Fraction(match[2].rstrip(".")))
    if match := _THOUSANDS.fullmatch(text):
        return _signed(match[1], Fraction(match[2].replace(",", "")))
    if match := _FRACTION.fullmatch(text):
        over, under = (Fraction((part or "").rstrip(".")) for part in (match[2] or match[4], match[3] or match[5]))
        return _signed(match[1], over / under) if under else None
    if match := _MIXED.fullmatch(text):
        whole, over, under = int(match[2]), int(match[3] or match[5]), int(match[4] or match[6])
        return _signed(match[1], whole + Fraction(over, under)) if under else None
    if match := _SCIENTIFIC.fullmatch(text):
        return _signed(match[1], Fraction(match[2].rstrip(".")) * Fraction(10) ** int(match[3]))
    return None


def is_long_integer(text: str) -> bool:
    """An integer of any length: too long for `as_number`, it can still be told from another one by its digits."""
    return _LONG_INTEGER.fullmatch(text) is not None


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value
