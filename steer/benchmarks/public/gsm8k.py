"""GSM8K: school mathematics in words, 2 to 8 steps each (Cobbe et al. 2021, arXiv 2110.14168, MIT).

Two layouts can be read: the authors', whose field `answer` is a worked solution with the number behind `####`; and one
whose `answer` is the number alone, with the worked solution, if it is there, in `solution`. Neither needs an id: a hash
of the question is the id, so that a question has one id in every copy. The training split is not asked, because models
have been trained on it: validation is a sample of the test split.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from steer.benchmarks.fields import RowError, text
from steer.benchmarks.files import data_files
from steer.benchmarks.public.definition import Asked, Definition, Source
from steer.benchmarks.public.sources import FileSource, HubSource

_MARK = "####"
"""Stands between a worked solution and its number."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)


def _hub() -> list[HubSource]:
    return [HubSource("openai/gsm8k", "test", "main")]


def _files(sources: Sequence[str]) -> list[FileSource]:
    return [FileSource(file) for file in data_files(sources, "test")]


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
    question = text(values, "question")
    return Asked(
        id=hashlib.blake2b(question.encode(), digest_size=8).hexdigest(),
        filling={"question": question},
        gold=lambda: _gold(values),
        subset="",
        difficulty=_lines(values),
    )


def _gold(values: Mapping[str, Any]) -> str:
    """The number behind `####`, or the whole field; without separators of thousands and a dollar sign."""
    answer = text(values, "answer")
    gold = answer.rpartition(_MARK)[2].strip().removeprefix("$").replace(",", "")
    if not _NUMBER.fullmatch(gold):
        raise RowError(f"field 'answer' ends in {gold[-40:]!r}, and no number: write the number behind '{_MARK}'")
    return gold


def _lines(values: Mapping[str, Any]) -> str:
    """The lines of the worked solution: a step each. Empty if there is no solution."""
    solution = values.get("solution")
    if not isinstance(solution, str):
        answer = values.get("answer")
        solution = answer.rpartition(_MARK)[0] if isinstance(answer, str) else ""
    lines = [line for line in solution.partition(_MARK)[0].splitlines() if line.strip()]
    return str(len(lines)) if lines else ""


GSM8K = Definition(
    "gsm8k", "school mathematics in words, 2 to 8 steps", "math", "math", _hub, _files, _asked, repeats=True
)
