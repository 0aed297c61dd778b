"""Numbers, expressions and lists as people write them in running text, without a box or the delimiters of a formula.

`.75`, `4 4/9`, `1 000`, `7.5e7`, `3:4`, `2^{10}`, `5!` and `3 and 5` are each one answer: no part of them is. Digits
inside a word (`CO2`, `x2`) are no answer at all. An expression ends at an equality sign: of `3 + 4 = 7`, the 7 is
found.

Invariants: the functions evaluate nothing, and every pattern either takes characters for good (possessive) or has a
bounded length, so that the time is linear in the text.
"""

import re

from steer.grading.answers import Stated
from steer.grading.formulas.spellings import SCALE_WORDS
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
# Not within a word, a version (`2.0.1`), a power (`cm^2`) or behind a hyphen (`COVID-19`).
_NUMBER = (
    rf"(?<![A-Za-z_\d^])(?<!\d\.)(?<!\^\{{)(?<![A-Za-z]{{2}}-)"
    rf"(?:\d++{_SPACE}\d{{1,9}}/\d{{1,9}}(?![\d/])|{_DIGITS})(?!\.\d)"
)
_BRACES = r"\{(?:[^{}\n]|\{[^{}\n]{0,80}\}){0,120}\}"
_LETTER = r"(?<![A-Za-z])[A-Za-z](?![A-Za-z0-9])"
_INSIDE = rf"(?:\\[A-Za-z]++|{_LETTER}|[^A-Za-z()\[\]\n\\])"
_BRACKETS = rf"[(\[]{_INSIDE}{{1,80}}[)\]]"
_COMMAND = (
    rf"\\(?:[dtc]?frac\s?(?:{_BRACES}|\d)\s?(?:{_BRACES}|\d)|sqrt(?:\[[^\]\n]{{1,9}}\])?\s?(?:{_BRACES}|\d)|binom{_BRACES}{_BRACES}"
    r"|(?:pi|theta|alpha|beta|varphi|phi|infty|sin|cos|tan|ln|log)(?![A-Za-z]))"
)
_FUNCTION = rf"(?<![A-Za-z])(?:sqrt|exp|abs|ln|log|sin|cos|tan|atan|arctan){_BRACKETS}"
_POSTFIX = rf"(?:\^(?:{_BRACES}|{_BRACKETS}|[-+]?\w++)|_(?:{_BRACES}|\w)|!(?![\w=])|'|\\?%|°|\^\\circ)*+"
_ATOM = rf"(?:{_NUMBER}|{_COMMAND}|{_FUNCTION}|{_BRACKETS}|pi(?![A-Za-z])|{_LETTER}){_POSTFIX}"
# Inside a product, a number may follow a letter: the lookbehind of a number holds at its beginning only.
_NEXT = rf"(?:{_SPACE}(?=\\?(?:pi|sqrt)(?![A-Za-z])))?"
_TERM = rf"(?:(?<![\w.)\]}}])[-+\u2212])?{_ATOM}(?:{_NEXT}{_ATOM}){{0,20}}"
_SIGN = r"(?:[-+*/:\u2212\u00d7\u00b7\u00f7]|\\(?:cdot|times|div|pm)(?![A-Za-z])|[xX](?=\s10\s?\^))"
_EXPRESSION = rf"{_TERM}(?:(?:{_SIGN}|{_SPACE}{_SIGN}{_SPACE})\s?{_TERM}){{0,40}}"
_SEPARATOR = rf"(?:{_SPACE}?,{_SPACE}?(?:(?:and|or){_SPACE})?|{_SPACE}(?:and|or){_SPACE})"
_IN_TEXT = re.compile(rf"(?P<first>{_EXPRESSION})(?:{_SEPARATOR}{_EXPRESSION}){{0,40}}")
_ITEM = re.compile(_EXPRESSION)
_PLAIN_NUMBER = re.compile(rf"[-+]?(?:{_DIGITS}|\d++{_SPACE}\d+/\d+|\d+/\d+|\\[dtc]?frac\{{\d+\}}\{{\d+\}})")
_SUBSTANCE = re.compile(r"\d|\\(?:pi|infty|sqrt)")
_SCALE = re.compile(rf"{_SPACE}(?:{SCALE_WORDS})(?![A-Za-z])")
_ORDER = r"(?:[<>]=?|!=|[\u2264\u2265\u2260]|\\(?:le|ge|leq|geq|ne|neq|lt|gt)(?![A-Za-z]))"
_COMPARED = re.compile(rf"(?P<left>{_EXPRESSION}){_SPACE}?(?P<sign>=|{_ORDER}){_SPACE}?\Z")
_APPROXIMATED = re.compile(rf"{_SPACE}{{0,2}}(?:\u2248|\\approx){_SPACE}{{0,3}}")
_NEGATED = re.compile(r"(?<![A-Za-z])(?:not|isn't|never)(?: equal(?: to)?)?\s\Z", re.IGNORECASE)
_BEFORE_CHARS = 80
"""How far back the left side of a relation is looked for."""
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
    """What stands last in a text: `last_number`, `last_expression`, `last_list`, or `last_relation` (`x > 5`).

    None if there is nothing, or if a "not" stands before it. A list counts as one answer only where it ends its
    sentence; elsewhere ("in 2020, 5 people") its last item counts.
    """
    last = before = None
    for match in _IN_TEXT.finditer(text):
        if _SUBSTANCE.search(match.group()) and not (
            match.group()[0].isalpha() and _UNIT.search(text[max(0, match.start() - 2) : match.start()])
        ):
            before, last = last, match
    if before and last and _APPROXIMATED.fullmatch(text, before.end(), last.start()):
        last = before  # `1/6 \u2248 0.1667` states 1/6
    if last is None or _NEGATED.search(text, max(0, last.start() - 20), last.start()):
        return None
    window = text[max(0, last.start() - _BEFORE_CHARS) : last.start()]
    if (compared := _COMPARED.search(window)) and (compared["sign"] != "=" or _is_equation(compared["left"])):
        start = last.start() - len(window) + compared.start()
        return Stated(text[start : last.end()], "last_relation", start, last.end())
    items = list(_ITEM.finditer(text, last.start(), last.end()))
    if len(items) > 1 and not _ENDS.match(text, last.end()):
        return _found(items[-1], "last_expression", text)
    return _found(last, "last_list" if len(items) > 1 else "last_expression", text)


def first_expression(text: str) -> Stated | None:
    """The first number or expression of a text that holds a digit; of a list, its first item."""
    for match in _IN_TEXT.finditer(text):
        if _SUBSTANCE.search(match["first"]):
            item = _ITEM.match(text, match.start())
            return _found(item, "first_expression", text) if item else None
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
    inside = line.lstrip("#= ").strip("*_` ").rstrip(".")
    return Stated(inside, where, start, start + len(line)) if _CONTENT.search(inside) else None


def _is_equation(left: str) -> bool:
    """Whether the left side of an equality sign is more than the name of a value: `2x`, `x^2+y^2`."""
    return re.search(r"[A-Za-z]", left) is not None and re.search(r"(?<![_A-Za-z\d(])\d", left) is not None


def _found(match: re.Match[str], where: str, text: str) -> Stated:
    answer, end = match.group(), match.end()
    if scale := _SCALE.match(text, end):
        return Stated(answer + scale.group(), where, match.start(), scale.end())
    if answer.endswith("!") and answer[:-1].isdigit() and (len(answer) > 3 or int(answer[:-1]) > MAX_FACTORIAL_IN_TEXT):
        answer = answer[:-1]
    answer = _UNIT_LETTER.sub(r"\1", answer)
    if where == "last_expression" and _PLAIN_NUMBER.fullmatch(answer):
        where = "last_number"
    return Stated(answer, where, match.start(), end)
