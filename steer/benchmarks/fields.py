"""Typed access to the fields of a row. A wrong field raises `RowError`, which fails one row and not the run.

Invariants: a number becomes its plain decimal text, without an exponent and without rounding (27.0 is 27, 1e-05 is
0.00001). NaN is a missing value. A text stays as it is, but for spaces at its ends.
"""

import ast
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from steer.grading.answers import boxes
from steer.grading.golds import SHOWN_CHARS, Scalar, plain, unreadable_gold

MAX_NAMES_SHOWN = 6
"""How many keys of an object a message names."""
_ACCEPT_SEVERAL = ("math", "choice", "qa", "exact")
"""The graders with which any of several answers may be right."""
_MARKED_LETTER = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\]]?[.:]?")
_NUMERAL = re.compile(r"[+-]?(?:\d{1,400}\.?\d{0,400}|\.\d{1,400})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_INFINITE = re.compile(r"([+-]?)inf(?:inity)?", re.IGNORECASE)
_LIST_OF_TEXTS = re.compile(r"\[\s*[\"'].*[\"']\s*,?\s*\]", re.DOTALL)


_KINDS: dict[type, str] = {str: "text", int: "number", float: "number", dict: "object", list: "list"}


class RowError(Exception):
    """The row cannot become a question. The message names the field and the remedy."""


class Gold(NamedTuple):
    text: str
    aliases: tuple[str, ...] = ()
    """Other answers that are right, too."""


def text(values: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that the row has, as stripped text. Numbers become text."""
    first = values.get(names[0])
    if isinstance(first, str) and (bare := first.strip()):
        return checked(bare, repr(names[0]))
    name = next((name for name in names if not is_missing(values.get(name))), names[0])
    value: Any = values.get(name)
    if is_missing(value):
        raise lacks(name)
    if not is_scalar(value):
        raise RowError(f"field {name!r} is {described(value)}, not text{_remedy(value)}")
    return checked(plain(value), repr(name))


def identity(values: Mapping[str, Any], name: str) -> str:
    """The id in a field."""
    value = values.get(name)
    if isinstance(value, float) and math.isinf(value):
        raise RowError(f"field {name!r} is infinite, and no id: write the id as text")
    return text(values, name)


def gold(values: Mapping[str, Any], name: str, grader: str, answers: str | None = None) -> Gold:
    """The gold answer in a field, as a text that the grader can read, and the other answers that it accepts.

    A list of one item is that item. Of a list of several, `answers` says what it is: `any` (each of them is right) or
    `all` (together they are the answer); None: `all` for grader math, else `any`. Whether the grader can read the gold
    is `require_readable`'s question, because it may depend on labels of the row.
    """
    value = listed(values.get(name))
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, list | tuple):
        return Gold(_gold_text(value, name, grader))
    if not value:
        raise lacks(name)
    items = tuple(_gold_text(item, name, grader) for item in value)
    meant = answers or ("all" if grader == "math" else "any")
    if meant == "all" and grader in ("math", "exact"):
        return Gold(", ".join(items))
    if meant == "all" or grader not in _ACCEPT_SEVERAL:
        remedy = "keep one" if meant == "any" else "set benchmark.answers: any if each of them is right"
        raise RowError(f"field {name!r} is {described(value)}, and grader {grader} takes one answer: {remedy}")
    return Gold(items[0], items[1:])


def require_readable(read: Gold, name: str, grader: str, labels: Mapping[str, Any]) -> None:
    """Raise RowError for a gold answer with which no response could be right."""
    first = unreadable_gold(grader, read.text, labels)
    if first and all(unreadable_gold(grader, alias, labels) for alias in read.aliases):
        raise RowError(f"field {name!r} {first}")


def items(values: Mapping[str, Any], name: str) -> list[Any]:
    """A list that is not empty. A CSV file may hold it as JSON text."""
    value = values.get(name)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError(f"field {name!r} is text that is no JSON list") from None
    if is_missing(value):
        raise lacks(name)
    if not isinstance(value, list | tuple):
        raise RowError(f"field {name!r} is {described(value)}, not a list")
    if not value:
        raise lacks(name)
    return list(value)


def is_missing(value: Any) -> bool:
    """None, a blank text, or NaN, as which pandas and NumPy write a number that is not there."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float | Decimal) and value != value)


def is_scalar(value: Any) -> bool:
    """Whether a value is a text or a number. A truth value is neither."""
    return isinstance(value, Scalar) and not isinstance(value, bool)


def described(value: Any) -> str:
    """What a value is, in words: `a list of 2 objects (role, content)`, `a str`, `bytes`."""
    if value is None:
        return "missing"
    if isinstance(value, bytes | bytearray):
        return "bytes"
    if isinstance(value, Mapping):
        return f"an object ({_names(value)})"
    if isinstance(value, list | tuple):
        held = next((item for item in value if item is not None), None)
        kinds = list(dict.fromkeys(_KINDS.get(type(item), type(item).__name__) for item in value if item is not None))
        if len(kinds) > 1:
            return f"a list of {len(value)} items of several kinds ({', '.join(kinds[:MAX_NAMES_SHOWN])})"
        what = (kinds[0] if kinds else "item") + "s" * (len(value) != 1)
        return f"a list of {len(value)} {what}" + (f" ({_names(held)})" if isinstance(held, Mapping) else "")
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def lacks(name: str) -> RowError:
    return RowError(f"field {name!r} is missing or empty: fill it in or remove the row")


def checked(value: str, what: str) -> str:
    """Refuse lone surrogates: JSON can spell half of a surrogate pair (`\\ud800`), but UTF-8 cannot encode it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(f"field {what} holds a lone surrogate: remove that character") from None
    return value


def _gold_text(value: Any, name: str, grader: str) -> str:
    if grader == "choice" and is_scalar(value) and not is_missing(value):
        return _letter(value, name)
    bare = text({name: value}, name)
    if grader in ("aime", "exact"):
        bare = _unboxed(bare)
    if grader in ("math", "aime"):
        # A CSV cell has no type: a number that pandas wrote there is text. These graders read numbers alone.
        if infinite := _INFINITE.fullmatch(bare):
            return infinite[1].replace("+", "") + r"\infty"
        if _NUMERAL.fullmatch(bare) and ("e" in bare.lower() or grader == "aime"):
            # Leading zeros stay: they are part of an answer as AIME writes it.
            return bare if bare.isdecimal() else plain(Decimal(bare))
    return bare


def _letter(value: Scalar, name: str) -> str:
    """The capital letter in `b`, `(B)`, `B.` or `\\boxed{B}`, also full-width; any other text as it is."""
    bare = plain(value)
    read = unicodedata.normalize("NFKC", _unboxed(bare)).strip("$* ")
    if not isinstance(value, str) or (read.isdecimal() and read.isascii()):
        raise RowError(
            f"field {name!r} is a number: whether options are counted from 0 or from 1 is not said, so write the "
            f"letter of the right option: it holds {bare if len(bare) <= SHOWN_CHARS else bare[:SHOWN_CHARS] + '...'}"
        )
    marked = _MARKED_LETTER.fullmatch(read)
    return checked(marked[1].upper() if marked else bare, repr(name))


def _unboxed(answer: str) -> str:
    """The content of a box around the whole answer. A response that gives it back is read without its box."""
    if "box" not in answer:
        return answer
    bare = answer.strip("$ ")
    match boxes(bare):
        case [box] if (box.start, box.end) == (0, len(bare)) and box.text:
            return box.text
    return answer


def listed(value: Any) -> Any:
    """The list in a text such as `["Rome", "Roma"]`, as which a CSV cell holds a list; any other value as it is."""
    if not (isinstance(value, str) and _LIST_OF_TEXTS.fullmatch(value.strip())):
        return value
    for parsed in (json.loads, ast.literal_eval):
        try:
            found = parsed(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else value
    return value


def _names(held: Mapping[str, Any]) -> str:
    names: Sequence[str] = [str(name) for name in held]
    more = len(names) - MAX_NAMES_SHOWN
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _remedy(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        return ": write the text that is meant to a field of its own"
    return ": write it as text"
