"""Typed access to the fields of a row. A wrong field raises `RowError`, which fails one row and not the run."""

import json
from collections.abc import Mapping
from typing import Any


class RowError(Exception):
    """The row cannot become a question. The message names the field and the remedy."""


def text(values: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that the row has, as stripped text. Numbers become text."""
    name = next((name for name in names if values.get(name) is not None), names[0])
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        if value is None:
            raise lacks(name)
        raise RowError(f"field {name!r} is a {type(value).__name__}, not text")
    if not str(value).strip():
        raise lacks(name)
    return checked(str(value).strip(), repr(name))


def items(values: Mapping[str, Any], name: str) -> list[Any]:
    """A list that is not empty. A CSV file may hold it as JSON text."""
    value = values.get(name)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError(f"field {name!r} is text that is no JSON list") from None
    if value is None:
        raise lacks(name)
    if not isinstance(value, list | tuple):
        raise RowError(f"field {name!r} is a {type(value).__name__}, not a list")
    if not value:
        raise lacks(name)
    return list(value)


def lacks(name: str) -> RowError:
    return RowError(f"field {name!r} is missing or empty: fill it in or remove the row")


def checked(value: str, what: str) -> str:
    """Refuse lone surrogates: JSON can spell half of a surrogate pair (`\\ud800`), but UTF-8 cannot encode it."""
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise RowError(f"field {what} holds a lone surrogate: remove that character")
    return value
