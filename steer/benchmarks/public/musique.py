"""MuSiQue: multi-hop questions over twenty paragraphs, answerable questions only (Trivedi et al. 2022, CC BY 4.0).

Only MuSiQue's validation split has answers, so STEER samples its own validation and test splits from it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steer.benchmarks.fields import RowError, checked, items, text
from steer.benchmarks.files import DataFile, data_files
from steer.benchmarks.public.definition import Asked, Definition, Source
from steer.benchmarks.public.sources import FileSource, HubSource

_HOPS = re.compile(r"(\d)hop")
_RELEASED = re.compile(r"musique_(ans|full)_.*dev", re.IGNORECASE)
"""The authors' own files. Those of the single-hop questions behind them (`dev_test_singlehop_questions`) are others."""


def _hub() -> list[HubSource]:
    return [HubSource("dgslibisey/MuSiQue", "validation")]


def _files(sources: Sequence[str]) -> list[FileSource]:
    return [FileSource(file) for file in data_files(sources, "dev", "validation", choose=_validation)]


def _validation(found: list[DataFile]) -> list[DataFile]:
    """Of a folder as the authors publish it, the validation file of the answerable questions; else all files but those
    of single-hop questions. Files that are named, or match a pattern, are all read."""
    kinds = {file: match[1].lower() for file in found if (match := _RELEASED.search(file.name))}
    answerable = [file for file, kind in kinds.items() if kind == "ans"]
    several = [file for file in found if "singlehop" not in file.name.lower()]
    return answerable or list(kinds) or several or found


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
    question_id = text(values, "id")
    hops = _HOPS.match(question_id)
    if hops is None:
        raise RowError(f"id {question_id!r} does not begin with the number of hops, as 2hop__")
    if values.get("answerable") is False:
        raise RowError("the question is not answerable from its paragraphs: use the answerable part (musique_ans)")
    aliases = values.get("answer_aliases") or []
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise RowError("field 'answer_aliases' is no list of texts")
    return Asked(
        id=question_id,
        filling={
            "paragraphs": "\n\n".join(_paragraph(p) for p in items(values, "paragraphs")),
            "question": text(values, "question"),
        },
        gold=lambda: text(values, "answer"),
        subset=question_id.split("__")[0],
        difficulty=hops[1],
        labels={"aliases": [checked(alias, "'answer_aliases'") for alias in aliases]},
    )


def _paragraph(paragraph: Any) -> str:
    if not isinstance(paragraph, Mapping):
        raise RowError(f"field 'paragraphs' holds a {type(paragraph).__name__}, not an object with title and text")
    return f"Title: {text(paragraph, 'title')}\n{text(paragraph, 'paragraph_text')}"


MUSIQUE = Definition("musique", "2 to 4 hop questions with 20 paragraphs each", "qa", "all", _hub, _files, _asked)
