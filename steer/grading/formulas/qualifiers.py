"""What an answer states, without what qualifies it: a condition, a reason, an approximation, a definition.

`f(x)=2x \\text{ for all } x` states `f(x)=2x`, `\\frac13 \\approx 0.333` states `\\frac13`, and
`73 (since 437+468=905)` states 73. The condition, the reason and the approximation are no answers themselves.

Invariants: the functions are total on text and evaluate nothing; time is linear in the text.
"""

import re
from itertools import islice

from steer.grading.formulas.expressions import has_prose
from steer.grading.verdict import MAX_ANSWER_CHARS

_APPROXIMATELY = re.compile(r"\\(?:approx|thickapprox|sim|simeq|doteq)(?![A-Za-z])|\u2248|\u2243")
_ABOUT = re.compile(
    r"(?<![A-Za-z\\])(?:or|which is|i\.e\.,?)?\s{0,3}(?:approximately|approx\.?|about|roughly)(?![A-Za-z])"
)
# "For part (a)" and "for case 1" say which of several answers this is.
_QUALIFIER = re.compile(
    r"(?<![A-Za-z\\])(?:for(?!\s(?:part|case)\b)|where|with|since|because|provided|if|when)(?![A-Za-z])|\\forall(?![A-Za-z])"
)
_CASE = re.compile(r"(?<![A-Za-z\\])(?:for|if|when|otherwise|else|unless)(?![A-Za-z])")
# `a_n = 2^n, n \\ge 1` and `x^2+1 \\quad (x>0)`: where the statement holds.
_DOMAIN = re.compile(
    r"(?:,|;|\\q?quad|\\[,;: ]|\s\(|~)(?:\s|\\q?quad|\\[,;: (]|\(|\$|\\text\s?\{\s?\}){0,4}"
    r"(?P<name>[A-Za-z])(?:,\s?[A-Za-z]){0,3}"
    r"\s?(?:[<>]=?|!=|\\(?:geq?|leq?|neq?|in)(?![A-Za-z])|[\u2264\u2265\u2260\u2208])[^=<>]{1,40}\Z"
)
_ORDER = re.compile(r"[<>\u2264\u2265\u2208]|\\(?:geq?|leq?|in)(?![A-Za-z])")
_EXACTLY = re.compile(r"(?:\\text\w{0,2}\s?\{\s?)?(?<![A-Za-z])(?:only|exactly|precisely)(?![A-Za-z])\s?\}?")
_OPENED = re.compile(r"(?:\\(?:text|mathrm|mbox|textrm|textit)\s?\{|\\left\s?\(|[\s,;~(]|\\[,;: ]|\\q?quad|\\left)\Z")
_DOLLARS = re.compile(r"(?<!\\)\$")
_ASIDE = re.compile(
    r"\((?:\\text\s?\{)?\s?(?!mod\b)(?:[A-Za-z]{3,}|as|or|if|by|in|to|is|i\.e\.,?)\s[^()]{0,300}\)\}?\s*[.$]?\s*\Z"
)
_WORD_ASIDE = re.compile(r"\s\((?:\\text\s?\{)?[A-Za-z]{3,}\}?\)\s*[.$]?\s*\Z")
_VERB = re.compile(
    r"(?<![A-Za-z])(?:is|are|be|equals?|iff|if|as|namely|of|by|to|gives|get|obtain|answers?|exactly|form)[\s:]*\Z"
)
_ALL_SUCH = re.compile(r"(?:all|any|every|each)(?:\s[A-Za-z-]{2,20}){0,4}\s(?:\$|\\\()", re.IGNORECASE)
_IS_THE = re.compile(r"(?:\$[^$]{1,200}\$|\\\(.{1,200}?\\\))\sis\sthe\s")
_RELATION = re.compile(r"[=<>\u2264\u2265]|\\(?:geq?|leq?|neq?|in|equiv)(?![A-Za-z])")
_VERB_WITHIN = re.compile(r"(?<![A-Za-z])(?:is|are|equals?|form)(?![A-Za-z])")
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
    if len(answer) > MAX_ANSWER_CHARS:
        return answer
    text = _EXACTLY.sub("", answer, count=1).strip()
    text = text if _states(text) else answer.strip()
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
    if len(formulas) == 1 and (_ALL_SUCH.match(text) or _IS_THE.match(text)) and _RELATION.search(last.group()):
        return last.group()
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
    if domain := _DOMAIN.search(text):
        before = _closed(text[: domain.start()])
        if _states(before) and domain["name"] in before and not _ORDER.search(before):
            return before
    if (about := _ABOUT.search(text)) and not _CONTENT.search(_closed(text[: about.start()])):
        return text[about.end() :].lstrip("} ")
    for pattern in (_ABOUT, _QUALIFIER):
        if pattern is _QUALIFIER and len(_CASE.findall(text)) > 1:
            return text  # "5 for n=1, 7 for n=2" states several values
        for match in islice(pattern.finditer(text), _MOST_CUTS):
            before = _closed(text[: match.start()])
            if not _states(before) or _divides(before, match.group(), text[match.end() :]):
                continue
            return before
    return text


def _states(text: str) -> bool:
    """Whether a text has content and does not end in the middle of a formula."""
    return _CONTENT.search(text) is not None and text.rstrip(" $")[-1:] not in tuple("-=<>+*/^(,")


def _divides(before: str, word: str, after: str) -> bool:
    """Whether a word divides a subject from its predicate ("the value of $x$ for which it holds is 5"), and not a
    statement from what qualifies it."""
    words = _FORMULA.sub(" ", before)
    if not has_prose(words):
        return False
    if not _VERB_WITHIN.search(words):
        return True
    # "Where" and "with" describe what was stated, and may do so with a verb.
    return word in ("for", "if", "when") and _VERB_WITHIN.search(_FORMULA.sub(" ", after)) is not None


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
