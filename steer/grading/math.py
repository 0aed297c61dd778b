"""Grader `math`: the stated number or formula against the gold answer.

The two are compared as strings, then as canonical strings, then as exact numbers, and last as mathematics by the
symbolic worker (see `symbolic`). The verdict names the comparison that decided. Only bounded and plausible formulas
reach the worker.

Invariants: this process evaluates nothing and does not import sympy; numbers are never rounded; a list of different
answers does not equal one of them; the gold answer is subject to the same limits as the answer.
"""

import re
from functools import lru_cache

from steer.grading.answers import Stated, answer_is, boxed, boxes, response_end, visible
from steer.grading.forms import has_variable, same, shape
from steer.grading.latex import is_words, normalised, text_form
from steer.grading.limits import MAX_NESTING, is_plausible, is_small, nesting
from steer.grading.numbers import as_number, is_long_integer
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict
from steer.grading.worker import symbolic

_RIGHT = frozenset(("exact", "normalised", "number", "symbolic"))
_IN_TEXT = re.compile(
    r"-?\\[dt]?frac\{[^{}]{1,50}\}\{[^{}]{1,50}\}"
    # A minus sign after an operand is a subtraction.
    # The pattern takes a run of digits as a whole, however long: the model did not state a part of it.
    r"|(?<![\w.)])[+-]?\d{1,3}(?:,\d{3}){1,60}(?:\.\d++)?(?!\d)|(?:(?<![\w.)])[+-])?\d++(?:\.\d++|/\d++)?"
)
_FORMULA = r"(?:\$\$?[^$]{1,500}\$\$?|\\\((?:(?!\\\)).){1,500}\\\)|\\\[(?:(?!\\\]).){1,500}\\\])"
_FORMULAS = re.compile(rf"{_FORMULA}(?:\s{{0,4}}(?:,|;|,?\s?and|,?\s?or)\s{{0,4}}{_FORMULA}){{0,20}}")
_ONE_FORMULA = re.compile(_FORMULA)
_EDGES = re.compile(r"^(?:\$\$?|\\[(\[])|(?:\$\$?|\\[)\]])$")
_DELIMITERS = (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,8}\{([^\n$]{0,2000})")
_WORDS_BEFORE = re.compile(r"[A-Za-z ,:$'\u2019]{0,80}")
_NEGATION = re.compile(r"\b(?:not|no|never|neither)\b", re.IGNORECASE)
_MORE_OF_IT = re.compile(r"\s{0,4}\$?\s{0,4}(?:[-+*/^=<>\\_(){}\[\]\w]|[,;]?\s?(?:or|and)\b|[,;]\s?\$?[-+]?\d)")
_WORD_AFTER = re.compile(r"\s{1,4}(?!or\b|and\b)[A-Za-z]{2,}")
# A space between two digits stays: it may be all that separates two numbers.
_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_SUM = re.compile(r"\\(?:sum|prod)")
_EITHER = re.compile(r"\s+OR\s+")
_CONGRUENCE = re.compile(r"\\equiv\s*(-?\d{1,50})\s*\\pmod")
_PROSE = re.compile(r"\b[A-Za-z]{2,}\s+[A-Za-z]{2,}\b")
_BASED = re.compile(r"-?[0-9A-F]+_\{-?\d+\}")


def grade_math(text: str, gold: str) -> Verdict:
    """Grade one response.

    The verdict's rule is `boxed:`, `answer_is:`, `last_number:`, `last_formula:` or `open_box:`, followed by `exact`,
    `normalised`, `number`, `symbolic`, `different`, `timeout` or `refused`; or `none` if the response has no answer.

    Raises OSError if no worker process can be created, and WorkerError if the worker does not start.
    """
    end = response_end(text)
    found = boxed(end) or _said(end) or _last(end)
    if found is None:
        return NO_ANSWER
    how = _compared(found.text, gold)
    if how not in _RIGHT and found.where == "answer_is":
        within = _first_number(found.text) or _first_formula(found.text)
        if within and (retry := _compared(within, gold)) in _RIGHT:
            found, how = found._replace(text=within), retry
    return Verdict(found.text, how in _RIGHT, f"{found.where}:{how}")


def readings(gold: str) -> tuple[str, ...]:
    """The possible readings of a gold answer: the answer itself, the box in it, each side of an OR, the residue of a
    congruence, and the last formula of a sentence."""
    found = [gold.strip(), visible(gold).strip()]
    if inner := boxes(gold):
        found.append(inner[-1].text)
    if len(sides := _EITHER.split(gold)) > 1:
        found.extend(sides)
    found.extend(match[1] for match in _CONGRUENCE.finditer(gold))
    formula = _last_formula(gold)
    if formula and _PROSE.search(gold):
        found.append(formula.text)
    return tuple(dict.fromkeys(found))


def _said(text: str) -> Stated | None:
    """The text after "answer is": the formula or list of formulas that it begins with, else the whole line."""
    found = answer_is(text)
    if found is None:
        return None
    formulas = _FORMULAS.match(found.text)
    return found._replace(text=_undelimited(formulas.group()) if formulas else found.text.rstrip("."))


def _first_number(line: str) -> str | None:
    """The number at the beginning of a sentence ("5 apples"), unless it is part of a formula, a list or a negation."""
    number = _IN_TEXT.search(line)
    if number is None:
        return None
    if not _leads_in(line[: number.start()]):
        return None
    after = line[number.end() :]
    return None if _MORE_OF_IT.match(after) and not _WORD_AFTER.match(after) else number.group()


def _first_formula(line: str) -> str | None:
    """The first formulas of a line ("therefore $x$"), if only words come before them, none of them a negation."""
    formulas = _FORMULAS.search(line)
    if formulas is None:
        return None
    return _undelimited(formulas.group()) if _leads_in(line[: formulas.start()]) else None


def _leads_in(before: str) -> bool:
    """Whether the text holds only words, none of them a negation."""
    return _WORDS_BEFORE.fullmatch(before) is not None and not _NEGATION.search(before)


def _undelimited(formulas: str) -> str:
    """Remove the dollar signs of a single formula. Several formulas keep theirs, because each needs its own."""
    return _EDGES.sub("", formulas).strip() if _ONE_FORMULA.fullmatch(formulas) else formulas


def _last(text: str) -> Stated | None:
    """Of all numbers, formulas and unclosed boxes, the one that ends last in the text."""
    text = text.replace("{,}", ",")
    candidates = []
    for match in _OPEN_BOX.finditer(text):
        candidates = [(match.end() + 1, Stated(match[1].rstrip(". "), "open_box", match.start(), match.end()))]
    if formula := _last_formula(text):
        candidates.append((formula.end, formula))
    last = None
    for match in _IN_TEXT.finditer(text):
        last = match
    if last:
        candidates.append((last.end(), Stated(last.group(), "last_number", last.start(), last.end())))
    return max(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def _last_formula(text: str) -> Stated | None:
    bare = text.replace(r"\$", "  ")
    found = None
    for opening, closing in _DELIMITERS:
        end = bare.rfind(closing)
        if closing == "$" and end > 0 and bare[end - 1] == "$":
            end -= 1
        start = bare.rfind(opening, 0, max(end, 0))
        inside = text[start + len(opening) : end] if start >= 0 else ""
        if inside.strip() and len(inside) <= MAX_ANSWER_CHARS and (found is None or end > found.end):
            found = Stated(inside.strip(), "last_formula", start, end + len(closing))
    return found


def _compared(answer: str, gold: str) -> str:
    if len(gold) > MAX_ANSWER_CHARS:
        return "different"
    golds = readings(gold)
    if answer.strip() in golds:
        return "exact"
    bare = _SPACE.sub("", answer)
    spelled = normalised(answer)
    spelled_golds = [normalised(reading) for reading in golds]
    if any(bare == _SPACE.sub("", reading) for reading in golds) or (spelled and spelled in spelled_golds):
        return "normalised"
    if is_words(gold):
        return "normalised" if text_form(answer) == text_form(gold) else "different"
    if nesting(spelled) > MAX_NESTING:
        return "refused"
    undecided = []
    for reading in spelled_golds:
        if nesting(reading) > MAX_NESTING:
            continue
        leaf = QuickLeaf()
        verdict = same(shape(reading), shape(spelled), leaf)
        if verdict:
            return "number" if leaf.used_numbers else "normalised"
        if verdict is None and is_plausible(reading) and is_small(reading):
            undecided.append(reading)
    if not undecided:
        return "different"
    if not (is_plausible(spelled) and is_small(spelled)):
        return "refused"
    outcomes = [_symbolic(reading, spelled) for reading in undecided]
    return "symbolic" if "same" in outcomes else outcomes[0]


# The same wrong answer to a question comes up again and again, for example in 16 samples or in two runs of one model.
@lru_cache(maxsize=16_384)
def _symbolic(gold: str, answer: str) -> str:
    return symbolic(gold, answer)


class QuickLeaf:
    """The leaf of `forms.same` that compares strings and exact numbers only."""

    used_numbers = False

    def equal(self, gold: str, answer: str) -> bool | None:
        if gold == answer:
            return True
        mine, other = as_number(gold), as_number(answer)
        if mine is not None and other is not None:
            self.used_numbers = self.used_numbers or mine == other
            return mine == other
        if is_long_integer(gold) and is_long_integer(answer):
            return gold.lstrip("+0") == answer.lstrip("+0")
        if _BASED.fullmatch(gold) or _BASED.fullmatch(answer) or r"\infty" in gold + answer:
            return False
        if not gold or not answer:
            return False
        # A number never equals a formula with a variable. The index of a sum does not count as a variable.
        return None if has_variable(gold) == has_variable(answer) or _SUM.search(gold + answer) else False

    def proportional(self, gold: str, answer: str, signed: bool) -> bool | None:
        return True if gold == answer else None
