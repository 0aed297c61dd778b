"""MATH-500: competition mathematics, levels 1 to 5 (Hendrycks et al. 2021; the subset of Lightman et al. 2023)."""

from collections.abc import Mapping, Sequence
from typing import Any

from steer.benchmarks.fields import text
from steer.benchmarks.files import data_files
from steer.benchmarks.public.definition import Asked, Definition, Source
from steer.benchmarks.public.sources import FileSource, HubSource


def _hub() -> list[HubSource]:
    return [HubSource("HuggingFaceH4/MATH-500", "test")]


def _files(sources: Sequence[str]) -> list[FileSource]:
    return [FileSource(file) for file in data_files(sources, "test")]


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
    return Asked(
        id=text(values, "unique_id"),
        filling={"problem": text(values, "problem")},
        gold=lambda: text(values, "answer"),
        subset=text(values, "subject"),
        difficulty=text(values, "level"),
    )


MATH500 = Definition("math500", "500 competition problems of MATH, levels 1 to 5", "math", "math", _hub, _files, _asked)
