"""Omni-MATH: olympiad mathematics, difficulty 1 to 10 (Gao et al. 2024). As files: the authors' rule-gradable subset.

Rows have no id, so a hash of the problem is the id. A few problems occur twice. Repeats are numbered and stay in the
same split.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from steer.benchmarks.fields import items, text
from steer.benchmarks.files import data_files
from steer.benchmarks.public.definition import Asked, Definition, Source
from steer.benchmarks.public.sources import FileSource, HubSource


def _hub() -> list[HubSource]:
    return [HubSource("KbsdJames/Omni-MATH", "test")]


def _files(sources: Sequence[str]) -> list[FileSource]:
    return [FileSource(file) for file in data_files(sources, "test")]


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
    problem = text(values, "problem")
    # In "Mathematics -> Algebra -> Inequalities", the subset is the name after the root.
    domain = str(items(values, "domain")[0]).split(" -> ")
    return Asked(
        id=hashlib.blake2b(problem.encode(), digest_size=8).hexdigest(),
        filling={"problem": problem},
        gold=lambda: _closed(text(values, "answer")),
        subset=domain[min(1, len(domain) - 1)],
        difficulty=_level(values),
    )


def _closed(answer: str) -> str:
    """The answer with the closing braces that it lacks at its end: two published answers lack one."""
    braces = re.findall(r"\\.|[{}]", answer, re.DOTALL)
    return answer + "}" * (braces.count("{") - braces.count("}"))


def _level(values: Mapping[str, Any]) -> str:
    """The difficulty as the file writes it: 5.0 stays 5.0, beside 4.5."""
    level = text(values, "difficulty")
    return str(values["difficulty"]) if isinstance(values["difficulty"], float) else level


OMNI_MATH = Definition(
    "omni_math", "olympiad problems, difficulty 1 to 10", "math", "math", _hub, _files, _asked, repeats=True
)
