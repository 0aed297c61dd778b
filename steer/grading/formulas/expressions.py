"""Numbers, expressions and lists as people write them in running text, without a box or the delimiters of a formula.

`.75`, `4 4/9`, `1 000`, `7.5e7`, `3:4`, `2^{10}`, `5!` and `3 and 5` are each one answer: no part of them is. Digits
inside a word (`CO2`, `x2`) are no answer at all. An expression ends at an equality sign: of `3 + 4 = 7`, the 7 is
found.

Invariants: the functions evaluate nothing, and every pattern either takes characters for good (possessive) or has a
bounded length, so that the time is linear in the text.
"""

import re

from steer.grading.answers import Stated
from steer.grading.verdict import MAX_ANSWER_CHARS

FUNCTION_WORDS = frozenset(
    "sqrt pi exp abs ln log lg sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan asin acos atan max min gcd "
    "lcm mod infinity inf and or AND OR pm".split()
)
"""Words that belong to formulas in plain text."""

_SPACE = "[ \t\u00a0\u2009\u202f]"
_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3})++(?!\d)(?:\.\d++)?"
    rf"|(?<!\d[ \t\u00a0])\d{{1,3}}(?:{_SPACE}\d{{3}})++(?!\d|{_SPACE}?/)(?:\.\d++)?"
    r"|\d++(?:\.\d++)?|\.\d++)(?:[eE][+-]?\d{1,3}(?![\w.]))?"
)
_NUMBER = rf"(?<![A-Za-z_\d])(?:\d++{_SPACE}\d{{1,9}}/\d{{1,9}}(?![\d/])|{_DIGITS})"
_BRACES = r"\{(?:[^{}\n]|\{[^{}\n]{0,80}\}){0,120}\}"
_LETTER = r"(?<![A-Za-z])[A-Za-z](?![A-Za-z0-9])"
_INSIDE = rf"(?:\\[A-Za-z]++|{_LETTER}|[^A-Za-z()\n\\])"
_BRACKETS = rf"\({_INSIDE}{{1,80}}\)"
_COMMAND = (
    rf"\\(?:[dtc]?frac\s?{_BRACES}\s?{_BRACES}|sqrt(?:\[[^\]\n]{{1,9}}\])?\s?(?:{_BRACES}|\d)|binom{_BRACES}{_BRACES}"
    r"|(?:pi|theta|alpha|beta|varphi|phi|infty|sin|cos|tan|ln|log)(?![A-Za-z]))"
)
_FUNCTION = rf"(?<![A-Za-z])(?:sqrt|exp|abs|ln|log|sin|cos|tan|atan|arctan){_BRACKETS}"
_POSTFIX = rf"(?:\^(?:{_BRACES}|{_BRACKETS}|[-+]?\w++)|_(?:{_BRACES}|\w)|!(?![\w=])|'|\\?%|°|\^\\circ)*+"
_ATOM = rf"(?:{_NUMBER}|{_COMMAND}|{_FUNCTION}|{_BRACKETS}|pi(?![A-Za-z])|{_LETTER}){_POSTFIX}"
# Inside a product, a number may follow a letter: the lookbehind of a number holds at its beginning only.
_TERM = rf"(?:(?<![\w.)\]}}])[-+\u2212])?{_ATOM}(?:{_ATOM}){{0,20}}"
_SIGN = r"(?:[-+*/:\u2212\u00d7\u00b7\u00f7]|\\(?:cdot|times|div)(?![A-Za-z]))"
_EXPRESSION = rf"{_TERM}(?:(?:{_SIGN}|{_SPACE}{_SIGN}{_SPACE})\s?{_TERM}){{0,40}}"
_SEPARATOR = rf"(?:{_SPACE}?,{_SPACE}?(?:(?:and|or){_SPACE})?|{_SPACE}(?:and|or){_SPACE})"
_IN_TEXT = re.compile(rf"(?P<first>{_EXPRESSION})(?:{_SEPARATOR}{_EXPRESSION}){{0,40}}")
_ITEM = re.compile(_EXPRESSION)
_PLAIN_NUMBER = re.compile(rf"[-+]?(?:{_DIGITS}|\d++{_SPACE}\d+/\d+|\d+/\d+|\\[dtc]?frac\{{\d+\}}\{{\d+\}})")
_SUBSTANCE = re.compile(r"\d|\\(?:pi|infty|sqrt)")
_ENDS = re.compile(r"[)}\]*_\\]{0,6}\s*(?:[.!?;]*\s*(?:\n|\Z)|[.!?;]\s)")
_UNIT = re.compile(rf"\d{_SPACE}$")
_UNIT_LETTER = re.compile(r"(\d)[mgshL]$")
MAX_FACTORIAL_IN_TEXT = 20
"""`5!` at the end of a sentence is a factorial, `42!` an exclamation."""

_COMMANDS_AND_TEXT = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\*?\s?\{[^{}]{0,80}\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_WORDS_OF_2 = frozenset("am an as at be by do go he if in is it me my no of on so to up us we".split())
_BULLET = re.compile(r"(?:[-*#>\u2022|]|\d{1,3}[.)])\s")
_CONTENT = re.compile(r"[^\W_]")


def last_expression(text: str) -> Stated | None:
    """The number, expression or list that stands last in a text: `last_number`, `last_expression` or `last_list`.

    A list counts as one answer only where it ends its sentence; elsewhere ("in 2020, 5 people") its last item counts.
    """
    last = None
    for match in _IN_TEXT.finditer(text):
        if _SUBSTANCE.search(match.group()) and not (
            match.group()[0].isalpha() and _UNIT.search(text[max(0, match.start() - 2) : match.start()])
        ):
            last = match
    if last is None:
        return None
    items = list(_ITEM.finditer(text, last.start(), last.end()))
    if len(items) > 1 and not _ENDS.match(text, last.end()):
        return _found(items[-1], "last_expression")
    return _found(last, "last_list" if len(items) > 1 else "last_expression")


def first_expression(text: str) -> Stated | None:
    """The first number or expression of a text that holds a digit; of a list, its first item."""
    for match in _IN_TEXT.finditer(text):
        if _SUBSTANCE.search(match["first"]):
            item = _ITEM.match(text, match.start())
            return _found(item, "first_expression") if item else None
    return None


def whole(text: str) -> Stated | None:
    """The whole response if it is one line without prose: a formula, list, ratio, number or single letter.

    Another system may have extracted it already. Of several lines, the last one counts (`last_line`) if it is bare
    like that and no item of an enumeration.
    """
    bare = text.strip()
    if "\n" not in bare:
        return _bare(text, bare, "whole")
    line = bare[bare.rfind("\n") + 1 :].strip()
    return None if _BULLET.match(line) or "&" in line else _bare(text, line, "last_line")


def has_prose(text: str) -> bool:
    """Whether a text has a word that belongs to no formula. Two letters that are no English word are a product, and
    capitals name points."""
    words = _WORD.findall(_COMMANDS_AND_TEXT.sub(" ", text))
    return any(
        word not in FUNCTION_WORDS
        and (len(word) > 2 or word.lower() in _WORDS_OF_2)
        and not (word.isupper() and word.isascii() and len(word) < 5)
        for word in words
    )


def _bare(text: str, line: str, where: str) -> Stated | None:
    if len(line) > MAX_ANSWER_CHARS or not _CONTENT.search(line) or has_prose(line):
        return None
    start = text.rfind(line)
    inside = line.strip("*_` ").rstrip(".")
    return Stated(inside, where, start, start + len(line)) if _CONTENT.search(inside) else None


def _found(match: re.Match[str], where: str) -> Stated:
    answer = match.group()
    if answer.endswith("!") and answer[:-1].isdigit() and (len(answer) > 3 or int(answer[:-1]) > MAX_FACTORIAL_IN_TEXT):
        answer = answer[:-1]
    answer = _UNIT_LETTER.sub(r"\1", answer)
    if where == "last_expression" and _PLAIN_NUMBER.fullmatch(answer):
        where = "last_number"
    return Stated(answer, where, match.start(), match.end())
