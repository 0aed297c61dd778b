"""What an answer states, without what qualifies it: a condition, a reason, an approximation, a definition.

`f(x)=2x \\text{ for all } x` states `f(x)=2x`, `\\frac13 \\approx 0.333` states `\\frac13`, and
`73 (since 437+468=905)` states 73. The condition, the reason and the approximation are no answers themselves.

Invariants: the functions are total on text and evaluate nothing; time is linear in the text.
"""

import re
from itertools import islice

from steer.grading.formulas.expressions import has_prose
from steer.grading.verdict import MAX_ANSWER_CHARS

_APPROXIMATELY = re.compile(r"\\(?:approx|thickapprox|simeq|doteq)(?![A-Za-z])|\u2248|\u2243")
_ABOUT = re.compile(
    r"(?<![A-Za-z\\])(?:or|which is|i\.e\.,?)?\s{0,3}(?:approximately|approx\.?|about|roughly)(?![A-Za-z])"
)
# "For part (a)" and "for case 1" say which of several answers this is.
_QUALIFIER = re.compile(r"(?<![A-Za-z\\])(?:for(?!\s(?:part|case)\b)|where|with|since|because|provided)(?![A-Za-z])")
_CASE = re.compile(r"(?<![A-Za-z\\])(?:for|if|when)(?![A-Za-z])")
_OPENED = re.compile(r"(?:\\(?:text|mathrm|mbox|textrm|textit)\s?\{|\\left\s?\(|[\s,;~(]|\\[,;: ]|\\q?quad|\\left)\Z")
_DOLLARS = re.compile(r"(?<!\\)\$")
_ASIDE = re.compile(
    r"\((?:\\text\s?\{)?\s?(?!mod\b)(?:[A-Za-z]{3,}|as|or|if|by|in|to|is|i\.e\.,?)\s[^()]{0,300}\)\}?\s*[.$]?\s*\Z"
)
_WORD_ASIDE = re.compile(r"\s\((?:\\text\s?\{)?[A-Za-z]{3,}\}?\)\s*[.$]?\s*\Z")
_VERB = re.compile(
    r"(?<![A-Za-z])(?:is|are|be|equals?|iff|if|as|namely|of|by|to|gives|get|obtain|answers?|exactly)[\s:]*\Z"
)
_VERB_WITHIN = re.compile(r"(?<![A-Za-z])(?:is|are|equals?)(?![A-Za-z])")
_FORMULA = re.compile(r"\$\$?[^$]{1,1000}\$\$?|\\\((?:(?!\\\)).){1,1000}\\\)|\\\[(?:(?!\\\]).){1,1000}\\\]", re.DOTALL)
_DEFINITION = re.compile(
    r"where\s*\$?\s*(?P<name>\\[A-Za-z]{1,12}|[A-Za-z])\s*=\s*(?P<value>[^$=,;]{1,200}?)\s*\$?\s*\.?\s*\Z"
)
_NAMES = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
_CONTENT = re.compile(r"[^\W_]")
_MOST_CUTS = 8
"""Qualifying words that are tried, from the first on."""


def unqualified(answer: str) -> str:
    """What an answer states: the part before its approximation, condition or reason. An answer without one is returned
    unchanged; of `\\approx 2.83`, the number."""
    text = answer.strip()
    if len(text) > MAX_ANSWER_CHARS:
        return answer
    for _ in range(3):
        shorter = _once(text)
        if shorter == text:
            break
        text = shorter
    return text


def statement(gold: str) -> str:
    """What a gold answer in a sentence states, if it states it in a formula; else the sentence as it is.

    A sentence that begins with a formula states that formula, and what follows ("for some integer $a$") qualifies it.
    Another sentence states its only formula, or its last one if nothing follows, where a verb leads to it: "Cathy wins
    if and only if $n<4$" and "there are $2$ of them", but not "all odd $n$".
    """
    text = unqualified(gold)
    formulas = list(_FORMULA.finditer(text))
    if not formulas or not has_prose(_FORMULA.sub(" ", text)):
        return text
    last = formulas[-1]
    if (len(formulas) == 1 or not text[last.end() :].strip(" .\n")) and _VERB.search(text[: last.start()][-40:]):
        return last.group()
    return text


def with_definition(gold: str) -> str | None:
    """`\\lfloor\\varphi n\\rfloor, where \\varphi = \\frac{1+\\sqrt5}{2}` with the value in place of the name; None for
    a gold without a definition."""
    definition = _DEFINITION.search(gold)
    stated = unqualified(gold[: definition.start()].rstrip(" ,;")) if definition else ""
    if not definition or not _states(stated) or has_prose(_FORMULA.sub(" ", stated)):
        return None
    name, value = definition["name"], definition["value"]
    return _NAMES.sub(lambda match: f"({value})" if match.group() == name else match.group(), stated)


def _once(text: str) -> str:
    if (sign := _at_depth_0(_APPROXIMATELY, text)) is not None:
        before = _closed(text[: sign.start()])
        return before if _states(before) else text[sign.end() :].strip()
    if (aside := _ASIDE.search(text) or _WORD_ASIDE.search(text)) and _states(before := _closed(text[: aside.start()])):
        return before
    for pattern in (_ABOUT, _QUALIFIER):
        if pattern is _QUALIFIER and len(_CASE.findall(text)) > 1:
            return text  # "5 for n=1, 7 for n=2" states several values
        for match in islice(pattern.finditer(text), _MOST_CUTS):
            before = _closed(text[: match.start()])
            if not _states(before) or _divides(before, text[match.end() :]):
                continue
            return before
    return text


def _states(text: str) -> bool:
    """Whether a text has content and does not end in the middle of a formula."""
    return _CONTENT.search(text) is not None and text.rstrip(" $")[-1:] not in tuple("-=<>+*/^(,")


def _divides(before: str, after: str) -> bool:
    """Whether a word divides a subject from its predicate ("the value of $x$ for which it holds is 5"), and not a
    statement from what qualifies it."""
    words = _FORMULA.sub(" ", before)
    if not has_prose(words):
        return False
    return not _VERB_WITHIN.search(words) or _VERB_WITHIN.search(_FORMULA.sub(" ", after)) is not None


def _at_depth_0(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    for match in islice(pattern.finditer(text), _MOST_CUTS):
        before = text[: match.start()]
        if before.count("{") - before.count("\\{") <= before.count("}") - before.count("\\}"):
            return match
    return None


def _closed(text: str) -> str:
    """A text that was cut, without what was opened just before the cut and without a dollar sign of no pair."""
    while (shorter := _OPENED.sub("", text)) != text:
        text = shorter
    if len(_DOLLARS.findall(text)) % 2:
        # The cut lies within a formula, which ends here, or before one, of which the dollar sign is left.
        text = text[:-1] if text.endswith("$") else f"{text}$"
    while (shorter := _OPENED.sub("", text)) != text:
        text = shorter
    return text
