"""Grader `math`: the stated number or formula against the gold answer.

The two are compared as strings, then as canonical strings, then as exact numbers, and last as mathematics by the
symbolic worker (see `symbolic`). The verdict names the comparison that decided. Only bounded and plausible formulas
reach the worker.

Invariants: this process evaluates nothing and does not import sympy; numbers are never rounded; a list of different
answers does not equal one of them; the gold answer is subject to the same limits as the answer.
"""

import re
from functools import lru_cache

from steer.grading.answers import Stated, answer_is, boxes, closing_boxes, is_placeholder, listed, response_end, visible
from steer.grading.formulas.expressions import first_expression, has_prose, last_expression, whole
from steer.grading.formulas.forms import has_variable, may_cancel, same, shape
from steer.grading.formulas.latex import is_words, normalised, same_words, spelled_symbols, text_form, without_units
from steer.grading.formulas.limits import MAX_NESTING, is_plausible, is_small, nesting
from steer.grading.formulas.numbers import as_number, is_long_integer
from steer.grading.formulas.qualifiers import statement, unqualified, with_definition
from steer.grading.formulas.spellings import SCALE_WORDS
from steer.grading.formulas.worker import symbolic
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

_RIGHT = frozenset(("exact", "normalised", "number", "symbolic"))
_FORMULA = r"(?:\$\$?[^$]{1,500}\$\$?|\\\((?:(?!\\\)).){1,500}\\\)|\\\[(?:(?!\\\]).){1,500}\\\])"
_FORMULAS = re.compile(rf"{_FORMULA}(?:\s{{0,4}}(?:,|;|,?\s?and|,?\s?or)\s{{0,4}}{_FORMULA}){{0,20}}")
_ONE_FORMULA = re.compile(_FORMULA)
_EDGES = re.compile(r"^(?:\$\$?|\\[(\[])|(?:\$\$?|\\[)\]])$")
_DELIMITERS = (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,8}\{([^\n$]{0,2000})")
_WORDS_BEFORE = re.compile(r"[A-Za-z ,:$'\u2019]{0,80}")
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|minus|negative|least|most|less|fewer|greater|more|above|below|under|over|except|excluding"
    r"|between)\b",
    re.IGNORECASE,
)
_MORE_OF_IT = re.compile(r"\s{0,4}\$?\s{0,4}(?:[-+*/^=<>\\_(){}\[\]\w\u221a]|[,;]?\s?(?:or|and)\b|[,;]\s?\$?[-+]?\d)")
# A word or a calculation in brackets behind a number explains it: `12 (twelve)`, `15 (7 + 8)`.
_ASIDE = re.compile(r"\A\s{1,4}\((?:[^()]{0,100}[A-Za-z]{3}[^()]{0,100}|[\d\s+*/=.,-]{1,100})\)")
# Words behind a number that make it another one, or a part of something else.
_CHANGED_AFTER = (
    f"or|and|in|out|of|to|plus|minus|times|squared|cubed|over|more|less|fewer|greater|sqrt|pi|{SCALE_WORDS}"
)
_WORD_AFTER = re.compile(r"\s{1,4}[A-Za-z]{2,}")
_CHANGING = re.compile(rf"\s{{1,4}}(?:(?:{_CHANGED_AFTER})\b|[A-Za-z]{{1,12}}\s\d)")
# A space between two digits stays: it may be all that separates two numbers.
_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_SUM = re.compile(r"\\(?:sum|prod)")
_EITHER = re.compile(r"\s+OR\s+")
_CONGRUENCE = re.compile(r"\\equiv\s*(-?\d{1,50})\s*\\pmod")
_RESIDUE = re.compile(
    r"(?:[^=]{1,40}\\equiv\s*)?(.{1,200}?)\s*(?:\\pmod\s?(?:\{[^{}]{1,30}\}|\w)|\(?\\?b?mod\s?\{?\w{1,30}\}?\)?"
    r"|\\text\s?\{\s*\(?mod(?:ulo)?\s?\w{1,30}\)?\s*\})",
    re.DOTALL,
)
_BASED = re.compile(r"-?[0-9A-F]+_\{-?\d+\}")


def grade_math(text: str, gold: str) -> Verdict:
    """Grade one response.

    The verdict's rule says where the answer was found, and which comparison decided. Where: `boxed`, `boxes` (several
    in one statement), `answer_is`, `whole` (the response is the answer), `last_line`, `last_number`,
    `last_expression`, `last_list`, `last_relation`, `last_formula` or `open_box`. How: `exact`, `normalised`,
    `number`, `symbolic`, `different`, `timeout` or `refused`. It is `none` if the response has no answer.

    Raises OSError if no worker process can be created, and WorkerError if the worker does not start.
    """
    end = response_end(text)
    shown = [box for box in boxes(end) if is_placeholder(box.text)]
    end = _without(end, shown)
    found = _stated(end, gold) or _whole(end, gold) or _last(end) or (shown[-1] if shown else None)
    if found is None:
        return NO_ANSWER
    how = _compared(found.text, gold)
    if how not in _RIGHT and (within := _first_answer(found)) and (retry := _compared(within, gold)) in _RIGHT:
        found, how = found._replace(text=within), retry
    return Verdict(found.text, how in _RIGHT, f"{found.where}:{how}")


def _without(text: str, shown: list[Stated]) -> str:
    """A text without its boxes of no answer, which are written as spaces."""
    pieces, at = [], 0
    for box in shown:
        pieces += [text[at : box.start], " " * (box.end - box.start)]
        at = box.end
    return "".join([*pieces, text[at:]])


# Asked for several times a verdict, and for each sample of a question.
@lru_cache(maxsize=1024)
def readings(gold: str) -> tuple[str, ...]:
    """The possible readings of a gold answer: the answer itself, the list of the boxes in its last statement, each side
    of an OR, the residue of a congruence, what a sentence states without its conditions (see `qualifiers`), and the
    same with a defined name replaced by its value."""
    found = [gold.strip(), visible(gold).strip()]
    if inner := closing_boxes(gold):
        found.append(listed(inner).text)
    if len(sides := _EITHER.split(gold)) > 1:
        found.extend(sides)
    found.extend(match[1] for match in _CONGRUENCE.finditer(gold))
    if not inner:
        found.append(_undelimited(statement(gold)))
        found.extend(filter(None, [with_definition(gold)]))
    return tuple(dict.fromkeys(found))


def _stated(text: str, gold: str) -> Stated | None:
    """What stands last of the boxes and the text after "answer is". Such a text without an answer in it ("the answer is
    in the box above") does not take a box's place."""
    closing, said = closing_boxes(text), _said(text)
    if not closing:
        return said
    if closing[1:]:
        closing = [box._replace(text=unqualified(without_units(box.text))) for box in closing]
    box = _said_within(listed(closing))
    return said if said and said.start >= box.end and _is_answer(said.text, gold) else box


def _said_within(box: Stated) -> Stated:
    """What `\\boxed{\\text{The answer is } 5}` says."""
    said = answer_is(box.text)
    return box._replace(text=said.text.lstrip("} ")) if said and said.text.lstrip("} ") else box


def _is_answer(said: str, gold: str) -> bool:
    if _first_number(said) or _first_formula(said):
        return True
    if is_words(gold):
        return text_form(said) == text_form(gold) or len(text_form(said).split()) == 1
    return not has_prose(said) and is_plausible(normalised(said))


def _first_answer(found: Stated) -> str | None:
    """The number or formula at the beginning of what "answer is" says."""
    return (_first_number(found.text) or _first_formula(found.text)) if found.where == "answer_is" else None


def _whole(text: str, gold: str) -> Stated | None:
    """The whole response, if it is an answer without prose around it, or the gold answer word for word."""
    bare = text.strip()
    if len(bare) <= MAX_ANSWER_CHARS and "\n\n" not in bare:
        if _SPACE.sub("", bare) in {_SPACE.sub("", reading) for reading in readings(gold)} or (
            is_words(gold) and text_form(bare) == text_form(gold)
        ):
            return Stated(bare, "whole", 0, len(text))
    found = None if _OPEN_BOX.search(text) else whole(text)
    return found and found._replace(text=_undelimited(found.text))


def _said(text: str) -> Stated | None:
    """The text after "answer is": the formula or list of formulas that it begins with, else the whole line."""
    found = answer_is(text)
    if found is None:
        return None
    formulas = _FORMULAS.match(found.text)
    if formulas and _CHANGING.match(found.text, formulas.end()):
        formulas = None
    return found._replace(text=_undelimited(formulas.group()) if formulas else found.text.rstrip("."))


def _first_number(line: str) -> str | None:
    """The number at the beginning of a sentence ("5 apples"), unless it is part of a formula, a list or a negation."""
    number = first_expression(line)
    if number is None or not _leads_in(line[: number.start]):
        return None
    after = _ASIDE.sub("", line[number.end :])
    if _CHANGING.match(after):
        return None
    return None if _MORE_OF_IT.match(after) and not _WORD_AFTER.match(after) else number.text


def _first_formula(line: str) -> str | None:
    """The first formulas of a line ("therefore $x$"), if only words come before them, none of them a negation."""
    formulas = _FORMULAS.search(line)
    if formulas is None or _CHANGING.match(line, formulas.end()):
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
    text = spelled_symbols(text.replace("{,}", ","))
    candidates = []
    for match in _OPEN_BOX.finditer(text):
        candidates = [(match.end() + 1, Stated(match[1].rstrip(". "), "open_box", match.start(), match.end()))]
    if formula := _last_formulas(text):
        candidates.append((formula.end, formula))
    if last := last_expression(text):
        candidates.append((last.end, last))
    return max(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def _last_formulas(text: str) -> Stated | None:
    """The last formula; with those before it, if they are one list (`$3$ and $5$`)."""
    formula = _last_formula(text)
    if formula is None:
        return None
    start = max(0, formula.end - MAX_ANSWER_CHARS)
    for match in _FORMULAS.finditer(text, start, formula.end):
        if match.end() == formula.end and match.start() < formula.start:
            return Stated(match.group(), "last_formula", match.start(), match.end())
    return formula


def _last_formula(text: str) -> Stated | None:
    bare = text.replace(r"\$", "  ")
    found = None
    for opening, closing in _DELIMITERS:
        end = bare.rfind(closing)
        if closing == "$" and end > 0 and bare[end - 1] == "$":
            end -= 1
        start = bare.rfind(opening, 0, max(end, 0))
        inside = text[start + len(opening) : end] if start >= 0 else ""
        if (
            inside.strip(" {}")
            and not inside.lstrip(" {}").startswith("^")
            and len(inside) <= MAX_ANSWER_CHARS
            and (found is None or end > found.end)
        ):
            found = Stated(inside.strip(), "last_formula", start, end + len(closing))
    return found


def _compared(answer: str, gold: str) -> str:
    """How an answer compares; if it is different with its qualification, how without: see `qualifiers.unqualified`."""
    if len(gold) > MAX_ANSWER_CHARS:
        return "different"
    golds = readings(gold)
    how = _compared_with(golds, answer)
    if how in _RIGHT or is_words(gold):
        return how
    stated = unqualified(answer)
    if stated != answer.strip() and (without := _compared_with(golds, stated)) in _RIGHT:
        return without
    if (residue := _RESIDUE.fullmatch(answer.strip())) and "mod" not in gold:
        return retry if (retry := _compared_with(golds, residue[1])) in _RIGHT else how
    return how


def _compared_with(golds: tuple[str, ...], answer: str) -> str:
    if answer.strip() in golds:
        return "exact"
    bare = _SPACE.sub("", answer)
    spelled = normalised(answer)
    spelled_golds = [normalised(reading) for reading in golds]
    if any(bare == _SPACE.sub("", reading) for reading in golds) or (spelled and spelled in spelled_golds):
        return "normalised"
    if same_words(answer, golds[0]):
        return "normalised"
    if is_words(golds[0]):
        return "normalised" if text_form(answer) == text_form(golds[0]) else "different"
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
        if r"\begin" in gold + answer:
            return None
        # A number equals a formula with a variable only if the variable cancels. A sum's index is no variable.
        if has_variable(gold) == has_variable(answer) or _SUM.search(gold + answer):
            return None
        return None if may_cancel(gold) or may_cancel(answer) else False

    def proportional(self, gold: str, answer: str, signed: bool) -> bool | None:
        return True if gold == answer else None
