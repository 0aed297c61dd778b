"""AIME 2022 to 2025: 120 problems whose answer is an integer from 0 to 999 (problems (c) MAA).

Three layouts can be read: AI-MO's (2022 to 2024, with the contest in field `url`), and those of `math-ai/aime25` and of
NeMo-Skills' file of 2025, which both number the thirty problems of I and II from 0. All give ids of one form:
`2024-II-3`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steer.benchmarks.fields import RowError, text
from steer.benchmarks.files import data_files
from steer.benchmarks.public.definition import Asked, Definition, Source
from steer.benchmarks.public.sources import FileSource, HubSource

_URL = re.compile(r"(20\d\d)_AIME_(I{1,2})_Problems/Problem_(\d{1,2})")
_NUMBERED_2025 = re.compile(r"(?:aime25-)?(\d{1,2})")
_PROBLEMS = 15
"""Problems in one contest."""


def _hub() -> list[HubSource]:
    return [HubSource("AI-MO/aimo-validation-aime", "train"), HubSource("math-ai/aime25", "test")]


def _files(sources: Sequence[str]) -> list[FileSource]:
    return [FileSource(file) for file in data_files(sources)]


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
    year, contest, number = _contest(values)
    return Asked(
        id=f"{year}-{contest}-{number}",
        filling={"problem": text(values, "problem")},
        gold=lambda: _gold(values),
        subset=year,
        difficulty="",
    )


def _gold(values: Mapping[str, Any]) -> str:
    gold = text(values, "answer", "expected_answer")
    if not re.fullmatch(r"\d{1,3}", gold, re.ASCII):
        raise RowError(f"answer {gold!r} is no integer from 0 to 999: mend or remove the row")
    return gold


def _contest(values: Mapping[str, Any]) -> tuple[str, str, int]:
    """The year, the contest (I or II) and the number of the problem."""
    if values.get("url"):
        match = _URL.search(text(values, "url"))
        if match is None:
            raise RowError("field 'url' names no AIME problem (.../2024_AIME_I_Problems/Problem_1)")
        return match[1], match[2], int(match[3])
    match = _NUMBERED_2025.fullmatch(text(values, "id"))
    if match is None or int(match[1]) >= 2 * _PROBLEMS:
        raise RowError("there is no field 'url', and field 'id' is none of 0 to 29 (AIME 2025 I and II)")
    contest, number = divmod(int(match[1]), _PROBLEMS)
    return "2025", ("I", "II")[contest], number + 1


AIME = Definition("aime", "AIME 2022 to 2025, 120 problems", "aime", "math", _hub, _files, _asked)
