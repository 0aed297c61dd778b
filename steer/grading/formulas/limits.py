"""Which text may reach the symbolic worker: plausible mathematics of bounded length, nesting and number size.

Invariant: the checks are linear patterns that run in the caller's process before anything is parsed. They are the first
line of defence: a formula that passes them still runs under the worker's limits on time and memory.
"""

import math
import re

from steer.grading.formulas.numbers import MAX_DIGITS

MAX_SYMBOLIC_CHARS = 500
"""Longest formula. The longest gold answer of MATH-500 and Omni-MATH has 170 characters."""

MAX_NESTING = 20
"""Deepest nesting of brackets. Gold answers reach 7."""

MAX_EXPONENT = 100_000
"""Largest number as an exponent. Gold answers reach 23,110."""

MAX_FACTORIAL = 5_000
"""Largest number before an exclamation mark. Gold answers reach 2,014."""

MAX_BINOMIAL = 20_000
"""Largest number in a binomial coefficient. Gold answers reach 4,048."""

MAX_SUMS = 2
"""Most sums and products in one formula."""

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[A-Za-z]+|\d+|.", re.DOTALL)
_PLAIN = frozenset("+-*/^_()[]{}|!.,;:=<>& °")
_ESCAPED = frozenset((r"\{", r"\}", r"\\", r"\|"))
_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell"
)
_COMMANDS = frozenset(
    f"{_GREEK} frac binom sqrt cdot pm mp infty le ge ne in cup cap lfloor rfloor lceil rceil langle rangle "
    "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan ln log exp min max gcd lcm sum prod begin end "
    "mathbb".split()
)
_MAX_WORD = 3
"""Longest run of letters that still counts as a product of variables."""

_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]{1,10}\}")
_LONG_NUMBER = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")
_EXPONENT = re.compile(r"\^\{?[+-]?(\d+)")
_POWER_IN_EXPONENT = re.compile(r"\^\{[^{}]*?(\d+)\^\{?(\d+)")
_TOWER = re.compile(r"\^\{[^{}]*\^\{[^{}]*(?:\^|\})[^{}]*\^|\^\{?\d+\}?\^")
_FACTORIAL = re.compile(r"(\d+)!")
_FACTORIAL_TWICE = re.compile(r"![)}\s]*!")
_FACTORIAL_OF_POWER = re.compile(r"\d\}[)}]*!")
_FACTORIAL_IN_EXPONENT = re.compile(r"\^\{[^{}]*!")
_BINOMIAL = re.compile(r"\\binom\{(\d+)")
_SUM = re.compile(r"\\(?:sum|prod)(?![A-Za-z])")


def is_plausible(text: str) -> bool:
    """Whether a text looks like mathematics: no words, no quotes, and no commands that answers do not need."""
    for token in _TOKEN.findall(_ENVIRONMENT.sub("", text)):
        if token.startswith("\\"):
            if token not in _ESCAPED and token[1:] not in _COMMANDS:
                return False
        elif token[0].isalpha():
            if len(token) > _MAX_WORD or not token.isascii():
                return False
        elif not (token.isascii() and token.isdigit()) and token not in _PLAIN:
            return False
    return True


def is_small(text: str) -> bool:
    """Whether a canonical formula (see `latex.normalised`) is within the limits of this module."""
    if len(text) > MAX_SYMBOLIC_CHARS or nesting(text) > MAX_NESTING or _LONG_NUMBER.search(text):
        return False
    if any(_number(digits) > MAX_EXPONENT for digits in _EXPONENT.findall(text)):
        return False
    for base, exponent in _POWER_IN_EXPONENT.findall(text):
        if _number(exponent) * math.log10(max(_number(base), 2)) > math.log10(MAX_EXPONENT):
            return False
    if any(_number(digits) > MAX_FACTORIAL for digits in _FACTORIAL.findall(text)):
        return False
    if any(_number(digits) > MAX_BINOMIAL for digits in _BINOMIAL.findall(text)):
        return False
    if any(form.search(text) for form in (_TOWER, _FACTORIAL_TWICE, _FACTORIAL_OF_POWER, _FACTORIAL_IN_EXPONENT)):
        return False
    return len(_SUM.findall(text)) <= MAX_SUMS


def nesting(text: str) -> int:
    """The largest number of brackets that are open at once."""
    depth = deepest = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth = max(0, depth - 1)
    return deepest


def _number(digits: str) -> int:
    # Both values are beyond every limit, and the limits exist to avoid int() of a long run of digits.
    return int(digits) if len(digits) <= 9 else 10**9
