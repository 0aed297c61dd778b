"""Exact numbers: the value of a canonical integer, decimal, fraction, mixed number or power of ten, as a Fraction.

Invariants: at most one fraction and one power of ten are evaluated, and the digits of every part are capped, so that a
number costs microseconds. Nothing is rounded: two numbers are equal only if they are the same rational.
"""

import re
from fractions import Fraction

MAX_DIGITS = 200
"""Most digits of a number. Fractions of this size are compared in microseconds; Python's int() allows 4,300 digits."""

_INTEGER = rf"\d{{1,{MAX_DIGITS}}}"
_UNSIGNED = rf"(?:{_INTEGER}(?:\.\d{{0,{MAX_DIGITS}}})?|\.{_INTEGER})"
_DECIMAL = re.compile(rf"([+-]?)({_UNSIGNED})")
_FRACTION = re.compile(
    rf"([+-]?)(?:\\frac\{{([+-]?{_UNSIGNED})\}}\{{([+-]?{_UNSIGNED})\}}|({_UNSIGNED})/({_UNSIGNED}))"
)
_MIXED = re.compile(rf"([+-]?)({_INTEGER})(?:\\frac\{{({_INTEGER})\}}\{{({_INTEGER})\}}| ({_INTEGER})/({_INTEGER}))")
_SCIENTIFIC = re.compile(rf"([+-]?)(?:({_UNSIGNED})\\cdot)?10\^\{{([+-]?\d{{1,3}})\}}")
_REPEATING = re.compile(
    rf"([+-]?)(\d{{0,{MAX_DIGITS}}})\.(\d{{0,50}})(?:\\overline\{{(\d{{1,50}})\}}|\\(?:dot|bar)\{{(\d)\}})"
)
_THOUSANDS = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3}){1,60}(?:\.\d{1,200})?)")
_LONG_INTEGER = re.compile(r"[+-]?\d+")


def as_number(text: str) -> Fraction | None:
    """The exact value of a canonical number (see `latex.normalised`); None for other text or a zero denominator."""
    if match := _DECIMAL.fullmatch(text):
        return _signed(match[1], Fraction(match[2].rstrip(".")))
    if match := _THOUSANDS.fullmatch(text):
        return _signed(match[1], Fraction(match[2].replace(",", "")))
    if match := _FRACTION.fullmatch(text):
        over, under = (Fraction((part or "").rstrip(".")) for part in (match[2] or match[4], match[3] or match[5]))
        return _signed(match[1], over / under) if under else None
    if match := _MIXED.fullmatch(text):
        whole, numerator, denominator = int(match[2]), int(match[3] or match[5]), int(match[4] or match[6])
        # `11 6/6` is no mixed number: the fraction of one is less than 1.
        return _signed(match[1], whole + Fraction(numerator, denominator)) if numerator < denominator else None
    if match := _SCIENTIFIC.fullmatch(text):
        return _signed(match[1], Fraction((match[2] or "1").rstrip(".")) * Fraction(10) ** int(match[3]))
    if match := _REPEATING.fullmatch(text):
        first, period = match[3], match[4] or match[5]
        tail = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(first))
        return _signed(match[1], Fraction(f"{match[2] or 0}.{first or 0}") + tail)
    return None


def is_long_integer(text: str) -> bool:
    """Whether a text is an integer of any length. Integers too long for `as_number` are compared by their digits."""
    return _LONG_INTEGER.fullmatch(text) is not None


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value
