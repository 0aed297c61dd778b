"""Omni-MATH: olympiad mathematics, difficulty 1 to 10 (Gao et al. 2024). As files: the authors' rule-gradable subset.

Rows have no id, so a hash of the problem is the id. A few problems occur twice. Repeats are numbered and stay in the
same split.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steer.benchmarks.fields import items, text
from steer.benchmarks.public import Asked, Definition, Source
from steer.benchmarks.sources import FileSource, HubSource, data_files


def _hub() -> list[HubSource]:
    return [HubSource("KbsdJames/Omni-MATH", "test")]


def _files(root: Path) -> list[FileSource]:
    return [FileSource(path) for path in data_files(root, "test")]


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
    problem = text(values, "problem")
    # In "Mathematics -> Algebra -> Inequalities", the subset is the name after the root.
    domain = str(items(values, "domain")[0]).split(" -> ")
    return Asked(
        id=hashlib.blake2b(problem.encode(), digest_size=8).hexdigest(),
        filling={"problem": problem},
        gold=text(values, "answer"),
        subset=domain[min(1, len(domain) - 1)],
        difficulty=text(values, "difficulty"),
    )


OMNI_MATH = Definition(
    "omni_math", "olympiad problems, difficulty 1 to 10", "math", "math", _hub, _files, _asked, repeats=True
)
