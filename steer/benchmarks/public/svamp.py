"""SVAMP: arithmetic word problems of one or two operations (Patel et al. 2021, arXiv 2103.07191, MIT).

Two layouts can be read: the authors' (`ID`, `Body`, `Question`, `Answer`, `Type`), which the hub's copy has, too; and
one with body and question joined in `question`. The hub's copy divides the 1,000 problems into train and test. Only its
test split is asked; a file is asked as a whole. Validation is a sample of either.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steer.benchmarks.fields import gold, is_missing, text
from steer.benchmarks.files import data_files
from steer.benchmarks.public.definition import Asked, Definition, Source
from steer.benchmarks.public.sources import FileSource, HubSource

_MISSPELT = {"Common-Divison": "Common-Division"}
"""A few rows of the published file spell their type so."""


def _hub() -> list[HubSource]:
    return [HubSource("ChilleD/SVAMP", "test")]


def _files(sources: Sequence[str]) -> list[FileSource]:
    return [FileSource(file) for file in data_files(sources, "test")]


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
    kind = text(values, "Type", "type")
    return Asked(
        id=text(values, "ID", "id"),
        filling={"question": _question(values)},
        gold=lambda: _gold(values),
        subset=_MISSPELT.get(kind, kind),
        difficulty="",
    )


def _question(values: Mapping[str, Any]) -> str:
    """Body and question in one text. Bodies often lack the full stop at their end."""
    if is_missing(values.get("Body")):
        return text(values, "question", "Question")
    body = text(values, "Body")
    return f"{body}{'' if body.endswith(('.', '!', '?', ',')) else '.'} {text(values, 'Question')}"


def _gold(values: Mapping[str, Any]) -> str:
    """The number: files write whole ones as 8.0, in text or not."""
    name = "answer" if is_missing(values.get("Answer")) else "Answer"
    whole, point, rest = gold(values, name, "math").text.partition(".")
    return whole if not rest.strip("0") else f"{whole}{point}{rest}"


SVAMP = Definition("svamp", "arithmetic word problems of one or two operations", "math", "math", _hub, _files, _asked)
