"""The shape of an answer (list, tuple or interval, matrix, relation, ratio, or one formula), and equality of shapes.

The shape is parsed from the canonical text (see `latex.normalised`) and decides what may be compared with what. Only
the formulas at the leaves are left to a `Leaf`. The caller's process has a leaf that compares strings and exact
numbers, and the worker has one for the rest. Both run the same comparison, and the worker is asked only where its
answer can matter.

Rules:
- Order matters in tuples, but not in lists and sets: `3,5`, `\\{5,3\\}` and `x=3 \\text{ or } x=5` are the same list.
  An answer may repeat an item. A gold answer that repeats one outside `\\{\\}` means it: `2,2,3` is not `2,3`.
  A formula with `\\pm` is the list of its two values.
- Brackets matter: `(1,2)`, `[1,2)` and `\\{1,2\\}` all differ. `(1,2)` is a point or an open interval; the comparison
  does not need to know which.
- `x=5` equals `5`, and any `m+n=34` equals a gold answer `34`. Of a gold answer, `|AB|=1`, `m+n=34` and `S_1:S=7:32`
  equal their right sides, but `2x=4`, `x^2+y^2=25` and `|x|=5` do not.
- `1<x` equals `(1,\\infty)`, `-x>-1` equals `x<1`, two inequalities that both hold are their intersection, and
  `x \\in A` equals `A`.

Invariant: the functions are total on texts whose brackets nest at most `limits.MAX_NESTING` deep; they evaluate
nothing.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

from steer.grading.formulas.numbers import as_number

MAX_ITEMS = 60
"""Longest list that is compared item by item; longer ones are compared as text."""


class Leaf(Protocol):
    """Decides whether two formulas are the same: yes, no, or None if it cannot tell."""

    def equal(self, gold: str, answer: str) -> bool | None: ...

    def proportional(self, gold: str, answer: str, signed: bool) -> bool | None:
        """Whether one formula is a constant multiple of the other; with `signed`, a positive constant."""


class Shape(NamedTuple):
    kind: str
    """`formula`, `list`, `tuple`, `matrix`, `determinant`, `row`, `ratio`, `relation`, or `text`, which only equals
    itself."""
    mark: str
    """The brackets of a tuple, the operator of a relation, the text of a formula or a `text`; else empty."""
    items: tuple["Shape", ...] = ()
    name: str = ""
    """The variable, if the shape is an interval that was written as an inequality."""


_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPENING = frozenset(("(", "[", "{", r"\{", r"\langle", r"\begin", r"\lfloor", r"\lceil"))
_CLOSING = frozenset((")", "]", "}", r"\}", r"\rangle", r"\end", r"\rfloor", r"\rceil"))
_PAIRS = {pair: pair for pair in ("()", "(]", "[)", "[]", "{}", r"\{\}")} | {r"\langle\rangle": "()"}
_RELATIONS = frozenset(("=", "<", ">", r"\le", r"\ge", r"\ne"))
_TEXT_RELATIONS = frozenset((r"\equiv", r"\approx", r"\to", r"\mid", r"\implies", r"\iff", r"\Rightarrow", r"\subset"))
_FLIPPED = {">": "<", r"\ge": r"\le"}
_MATRIX = re.compile(r"\\begin\{([pbvBV]?)matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_NAME = re.compile(r"(?:\\[A-Za-z]+|[A-Za-z])(?:_\{[A-Za-z0-9]{1,5}\})?'?")
_LEFT_SIDE = re.compile(
    r"(?:\\[A-Za-z]+ ?|[A-Za-z]{1,20})(?:_\{[A-Za-z0-9, ]{1,9}\})?'{0,2}(?:\([A-Za-z0-9,]{1,9}\))?"
    r"|\([A-Za-z](?:,[A-Za-z]){1,5}\)|\\angle ?[A-Z]{1,3}|m\\angle ?[A-Z]{1,3}"
)
_OF_VARIABLE = re.compile(r"[A-Za-z](?:\([a-z]\))?")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
_ZERO = re.compile(r"(?<![\d.])0(?![\d.])")
_SIZE_OF_UNKNOWN = re.compile(r"(?<![\\|])\|[a-z]\|(?!\|)")
_SUM_OF_NAMES = re.compile(r"[-+]")
_GREEK = re.compile(r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|varphi|rho|sigma|omega|angle)(?![A-Za-z])")
_MEMBER = re.compile(r"(?:\\[A-Za-z]+|[A-Za-z])(?:_\{[A-Za-z0-9]{1,5}\})?(?:\\in ?\\mathbb\{R\})?")
_FUNCTION_OF = re.compile(r"[A-Za-z](?:_\{\w\})?\([a-z](?:,[a-z]){0,3}\)")
_INDEX = re.compile(r"\(\d+\)|_\{\d+\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")


_REALS = Shape("tuple", "()", (Shape("formula", r"-\infty"), Shape("formula", r"\infty")))


def shape(text: str) -> Shape:
    """The shape of a canonical text."""
    text = _bare(text)
    if text == r"\mathbb{R}":
        return _REALS
    parts = _split(text, frozenset((r"\cup", ",", ";")))
    if len(parts) > 1:
        if len(parts) > MAX_ITEMS or not all(parts):
            return Shape("text", text)
        return _listed([shape(part) for part in parts])
    sides = _split(text, frozenset((r"\lor",)))
    if len(sides) > 1:
        return Shape("list", "", tuple(shape(side) for side in sides))
    sides = _split(text, frozenset((r"\land",)))
    if len(sides) > 1:
        both = [shape(side) for side in sides]
        return (_intersection(*both) if len(both) == 2 else None) or Shape("text", text)
    relation = _relation(text)
    if relation is not None:
        return relation
    if (match := _MATRIX.fullmatch(text)) and sum(t.text == r"\begin" and t.depth == 0 for t in _tokens(text)) == 1:
        rows = [row for row in _split(match[2], frozenset((r"\\",))) if row]
        kind = "determinant" if match[1] in ("v", "V") else "matrix"
        return Shape(kind, "", tuple(Shape("row", "", tuple(map(shape, _split(row, frozenset("&"))))) for row in rows))
    brackets, inside = _bracketed(text)
    if brackets == r"\{\}":
        parts = _split(inside, frozenset((r"\mid", ":", "|")))
        if len(parts) > 1:
            # `\{x : x>3\}` is the set that its condition describes.
            return shape(parts[1]) if len(parts) == 2 and _MEMBER.fullmatch(parts[0]) else Shape("text", text)
        inner = shape(inside)
        items = inner.items if inner.kind == "list" else (inner,)
        return inner if inner.kind == "formula" else Shape("list", "", tuple(dict.fromkeys(items)))
    if brackets:
        items = tuple(shape(part) for part in _split(inside, frozenset(",;")))
        grouped = len(items) == 1 and (brackets == "()" or (brackets == "[]" and items[0].kind == "matrix"))
        return items[0] if grouped else Shape("tuple", brackets, items)
    ratio = _split(text, frozenset(":"))
    if len(ratio) > 1:
        return Shape("ratio", "", tuple(map(shape, ratio)))
    if r"\pm" in text or r"\mp" in text:
        return _both_signs(text)
    return Shape("formula", text)


def same(gold: Shape, answer: Shape, leaf: Leaf) -> bool | None:
    """Whether an answer equals the gold answer; None if that depends on a formula that `leaf` could not decide."""
    if gold == answer:
        return True
    if gold.kind != answer.kind or gold.kind == "text":
        return _across_kinds(gold, answer, leaf)
    if gold.kind == "formula":
        return leaf.equal(gold.mark, answer.mark)
    if gold.kind == "relation":
        return _same_relation(gold, answer, leaf)
    if gold.kind == "list":
        return _same_unordered(gold.items, answer.items, leaf)
    if gold.mark != answer.mark or len(gold.items) != len(answer.items):
        return False
    if gold.name and answer.name and gold.name != answer.name:
        return False
    return _all(same(mine, other, leaf) for mine, other in zip(gold.items, answer.items, strict=True))


def has_variable(text: str) -> bool:
    """Whether a formula has a letter that is not the name of a number."""
    return bool(set(_LETTER.findall(_COMMAND.sub(" ", text))) - {"i", "e", "I"})


def may_cancel(text: str) -> bool:
    """Whether the variables of a formula may cancel (`x-x+5`): each occurs twice, or there is a factor 0."""
    letters = Counter(_LETTER.findall(_COMMAND.sub(" ", text)))
    return min(letters.values(), default=0) > 1 or _ZERO.search(text) is not None


def _same_unordered(gold: tuple[Shape, ...], answer: tuple[Shape, ...], leaf: Leaf) -> bool | None:
    """Whether two lists have the same items. Each item of the gold answer needs one of the answer for itself; what the
    answer has beyond these must repeat an item of the gold answer."""
    left = list(answer)
    unknown = False
    for item in gold:
        verdicts = [same(item, other, leaf) for other in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            unknown = True
        else:
            return False
    if unknown:
        # What is left over cannot be told from what matches an undecided item.
        return None
    for extra in left:
        verdicts = [same(item, extra, leaf) for item in gold]
        if True not in verdicts:
            if None not in verdicts:
                return False
            unknown = True
    return None if unknown else True


def _same_relation(gold: Shape, answer: Shape, leaf: Leaf) -> bool | None:
    (left, right), (other_left, other_right) = gold.items, answer.items
    if gold.mark != answer.mark:
        return False
    if gold.mark == "=" and _is_name(left) and _is_name(other_left):
        functions = _OF_VARIABLE.fullmatch(left.mark) and _OF_VARIABLE.fullmatch(other_left.mark)
        same_side = left == other_left or (functions and "(" in left.mark + other_left.mark)
        if same_side and (verdict := same(right, other_right, leaf)) is not False:
            return verdict
    if {item.kind for item in (left, right, other_left, other_right)} != {"formula"}:
        return _all((same(left, other_left, leaf), same(right, other_right, leaf)))
    difference, other = (f"({a.mark})-({b.mark})" for a, b in ((left, right), (other_left, other_right)))
    return leaf.proportional(difference, other, gold.mark in ("<", r"\le"))


def _across_kinds(gold: Shape, answer: Shape, leaf: Leaf) -> bool | None:
    """Compare shapes of two kinds: `x=5` with `5`, and a list of one item with the item."""
    names, others = _by_name(gold), _by_name(answer)
    if names and names.keys() == others.keys():
        return _all(same(value, others[name], leaf) for name, value in names.items())
    if gold.kind == "relation" and answer.kind != "relation" and (value := _value(gold, _is_known_quantity)):
        return same(value, answer, leaf)
    if answer.kind == "relation" and gold.kind != "relation" and (value := _value(answer, _is_quantity)):
        return same(gold, value, leaf)
    if answer.kind == "list" and len(set(answer.items)) == 1:
        return same(gold, answer.items[0], leaf)
    if gold.kind == "list" and len(gold.items) == 1:
        return same(gold.items[0], answer, leaf)
    for one, other in ((gold, answer), (answer, gold)):
        if one.kind == "list" and other.kind == "tuple" and other.mark == "()" and (named := _by_name(one)):
            values = Shape("tuple", "()", tuple(named.values()))
            return same(*((values, other) if one is gold else (other, values)), leaf)
    if r"\begin" in gold.mark + answer.mark and {gold.kind, answer.kind} == {"matrix", "formula"}:
        return leaf.equal(_latex(gold), _latex(answer))
    for one, other in ((gold, answer), (answer, gold)):
        if one.kind == "relation" and one.mark in ("<", r"\le") and (half_line := _half_line(other)):
            return _same_relation(*((one, half_line) if one is gold else (half_line, one)), leaf)
    return False


def _by_name(form: Shape) -> dict[Shape, Shape]:
    """The values of `x=3, y=4` or `(x,y)=(3,4)` by their names; empty for another shape or a name with two values."""
    pairs: list[tuple[Shape, Shape]] = []
    if form.kind == "list" and len(form.items) > 1:
        pairs = [(item.items[0], item.items[1]) for item in form.items if item.kind == "relation" and item.mark == "="]
        if len(pairs) < len(form.items):
            return {}
    elif form.kind == "relation" and form.mark == "=":
        left, right = form.items
        if left.kind == right.kind == "tuple" and len(left.items) == len(right.items):
            pairs = list(zip(left.items, right.items, strict=True))
    named = dict(pairs)
    return named if len(named) == len(pairs) and all(_NAME.fullmatch(name.mark) for name in named) else {}


def _value(relation: Shape, is_quantity: Callable[[Shape], bool]) -> Shape | None:
    """The value that an equation gives to a quantity: 5 of `x=5`, of `5=x` and of `2+3=5`; None for other equations,
    also for `x-y=0`, which gives no value to anything."""
    left, right = relation.items
    if relation.mark != "=":
        return None
    if left.kind == "formula" and not _has_letter(left.mark):
        return left if _is_name(right) else (None if right.kind == "formula" and _has_letter(right.mark) else right)
    if not is_quantity(left) or (right.mark == "0" and not _is_name(left) and _SUM_OF_NAMES.search(left.mark)):
        return None
    return right


def _has_letter(text: str) -> bool:
    return has_variable(text) or _GREEK.search(text) is not None


def _latex(form: Shape) -> str:
    """A matrix of formulas, or a formula, as canonical text."""
    if form.kind != "matrix":
        return form.mark
    rows = (r"&".join(item.mark for item in row.items) for row in form.items)
    return r"\begin{pmatrix}" + r"\\".join(rows) + r"\end{pmatrix}"


def _half_line(interval: Shape) -> Shape | None:
    """The inequality from which an interval without one of its ends was made; None for other shapes."""
    if interval.kind != "tuple" or not interval.name:
        return None
    low, high = interval.items
    name = Shape("formula", interval.name)
    if low.mark == r"-\infty":
        return Shape("relation", "<" if interval.mark[1] == ")" else r"\le", (name, high))
    if high.mark == r"\infty":
        return Shape("relation", "<" if interval.mark[0] == "(" else r"\le", (low, name))
    return None


def _intersection(one: Shape, other: Shape) -> Shape | None:
    """`x>0` and `x<12`: the interval between; None unless the two are half-lines of one name in opposite directions."""
    if one.kind != "tuple" or other.kind != "tuple" or not one.name or one.name != other.name:
        return None
    up, down = (one, other) if one.items[1].mark == r"\infty" else (other, one)
    if up.items[1].mark != r"\infty" or down.items[0].mark != r"-\infty":
        return None
    return Shape("tuple", up.mark[0] + down.mark[1], (up.items[0], down.items[1]), one.name)


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """`all` in three-valued logic: False if one is False, else None if one is unknown."""
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown = unknown or verdict is None
    return None if unknown else True


def _is_name(side: Shape) -> bool:
    return side.kind in ("formula", "tuple") and (
        _LEFT_SIDE.fullmatch(side.mark) is not None if side.kind == "formula" else _names_only(side)
    )


def _is_quantity(side: Shape) -> bool:
    """Whether an answer may be the value of this side: a name, `m+n`, `f(1)+f(2)`, `\\cos C`, the area `[ABC]`, or a
    calculation. The left side of an equation such as `2x-4=0` is not such a quantity; its coefficient shows that."""
    if side.kind == "tuple" and side.mark == "[]" and len(side.items) == 1:
        side = side.items[0]
    if side.kind == "ratio":
        return all(map(_is_quantity, side.items))
    if _is_name(side) or side.kind != "formula":
        return _is_name(side)
    return not has_variable(side.mark) or not re.search(r"\d", _INDEX.sub("", side.mark))


def _is_known_quantity(side: Shape) -> bool:
    """Whether a gold answer's right side is the value of this left side: a name, a length `|AB|`, a ratio, a function's
    value, or a sum or product without numbers such as `m+n`. `|x|=5` is not 5: the unknown has two values."""
    if side.kind == "ratio":
        return all(_is_known_quantity(item) for item in side.items)
    return _is_name(side) or (_is_quantity(side) and _SIZE_OF_UNKNOWN.search(side.mark) is None)


def _names_only(side: Shape) -> bool:
    return all(item.kind == "formula" and _NAME.fullmatch(item.mark) for item in side.items)


def _listed(items: list[Shape]) -> Shape:
    """Flatten nested lists into one list, and turn `x=3, x=5` or `x=3,5` into the list of the values."""
    flat: list[Shape] = []
    for item in items:
        flat.extend(item.items if item.kind == "list" else (item,))
    first = flat[0]
    if first.kind == "relation" and first.mark == "=" and _is_name(first.items[0]):
        name = first.items[0]
        if all(item.kind != "relation" or (item.mark == "=" and item.items[0] == name) for item in flat):
            flat = [item.items[1] if item.kind == "relation" else item for item in flat]
    if len(flat) == 2 and (between := _intersection(flat[0], flat[1])) is not None:
        low, high = (as_number(end.mark) for end in between.items)
        if low is not None and high is not None and low < high:
            # Nobody writes `x>0, x<12` for all numbers.
            return between
    return Shape("list", "", tuple(flat))


def _relation(text: str) -> Shape | None:
    outside = [token.text for token in _tokens(text) if token.depth == 0]
    if any(token in _TEXT_RELATIONS for token in outside):
        return Shape("text", text)
    member = _split(text, frozenset((r"\in",)))
    if len(member) > 1:
        named = len(member) == 2 and _LEFT_SIDE.fullmatch(member[0])
        return shape(member[1]) if named else Shape("text", text)
    marks = [token for token in outside if token in _RELATIONS]
    if not marks:
        return None
    sides = _split(text, _RELATIONS)
    if not all(sides) or len(marks) > MAX_ITEMS:
        return Shape("text", text)
    if set(marks) == {"="}:
        return Shape("relation", "=", (shape(sides[0]), shape(sides[-1])))
    if len({_FLIPPED.get(mark, mark) for mark in marks} - {"<", r"\le"}) == 0 and len(marks) <= 2:
        return _inequality(sides, marks)
    if marks == [r"\ne"]:
        return Shape("relation", r"\ne", (shape(sides[0]), shape(sides[1])))
    return Shape("text", text)


def _inequality(sides: list[str], marks: list[str]) -> Shape:
    """Turn an inequality in one variable into an interval."""
    if marks[0] in _FLIPPED:
        sides, marks = sides[::-1], marks[::-1]
    if any(mark in _FLIPPED for mark in marks) and not all(mark in _FLIPPED for mark in marks):
        return Shape("text", " ".join((*sides, *marks)))
    marks = [_FLIPPED.get(mark, mark) for mark in marks]
    opening = "(" if marks[0] == "<" else "["
    closing = ")" if marks[-1] == "<" else "]"
    if len(sides) == 3:
        if _LEFT_SIDE.fullmatch(sides[1]) or (sides[1] and _is_quantity(shape(sides[1])) and _has_letter(sides[1])):
            return Shape("tuple", opening + closing, (shape(sides[0]), shape(sides[2])), sides[1])
        return Shape("text", marks[0].join((sides[0], sides[1])) + marks[1] + sides[2])
    low, high = sides
    named_low, named_high = (_NAME.fullmatch(side) or _FUNCTION_OF.fullmatch(side) for side in (low, high))
    if named_low and not named_high:
        return Shape("tuple", "(" + closing, (Shape("formula", r"-\infty"), shape(high)), low)
    if named_high and not named_low:
        return Shape("tuple", opening + ")", (shape(low), Shape("formula", r"\infty")), high)
    return Shape("relation", marks[0], (shape(low), shape(high)))


def _both_signs(text: str) -> Shape:
    """List the values of a formula with `\\pm` or `\\mp`.

    `a \\pm b \\mp c` has two values. Two `\\pm` give four values, because their signs are independent.
    """
    if r"\mp" in text or text.count(r"\pm") > 3:
        pairs = (("+", "-"), ("-", "+"))
        values = [text.replace(r"\pm", plus).replace(r"\mp", minus) for plus, minus in pairs]
    else:
        values = [text]
        while r"\pm" in values[0]:
            values = [value.replace(r"\pm", sign, 1) for value in values for sign in "+-"]
    return Shape("list", "", tuple(Shape("formula", value.strip().removeprefix("+").strip()) for value in values))


def _bare(text: str) -> str:
    text = text.strip().removeprefix("+")
    brackets, inside = _bracketed(text)
    return _bare(inside) if brackets == "{}" else text


def _bracketed(text: str) -> tuple[str, str]:
    """The pair of brackets around the whole text, such as `(]`, and the text inside; both empty if there is none."""
    tokens = _tokens(text)
    if len(tokens) < 2 or any(token.depth == 0 for token in tokens[1:-1]):
        return "", ""
    first, last = tokens[0], tokens[-1]
    brackets = _PAIRS.get(first.text + last.text, "")
    return brackets, text[first.end : last.start].strip() if brackets else ""


def _split(text: str, separators: frozenset[str]) -> list[str]:
    """Split a text at every separator that is outside all brackets."""
    parts, start = [], 0
    for token in _tokens(text):
        if token.depth == 0 and token.text in separators:
            parts.append(text[start : token.start].strip())
            start = token.end
    return [*parts, text[start:].strip()]


class _Token(NamedTuple):
    text: str
    start: int
    end: int
    depth: int
    """How many pairs of brackets are around the token. A bracket counts as outside its own pair."""


# One text is split at several kinds of separators, one after the other.
@lru_cache(maxsize=16)
def _tokens(text: str) -> tuple[_Token, ...]:
    depth, tokens = 0, []
    for match in _TOKEN.finditer(text):
        if match.group() in _CLOSING:
            depth = max(0, depth - 1)
        tokens.append(_Token(match.group(), match.start(), match.end(), depth))
        if match.group() in _OPENING:
            depth += 1
    return tuple(tokens)
