"""Omni-MATH: olympiad mathematics, difficulty 1 to 10 (Gao et al. 2024); locally the authors' rule-gradable subset.

Rows have no id: a hash of the problem names them. A few problems are there twice; repeats are numbered and stay in one
split.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steer.benchmarks.fields import items, text
from steer.benchmarks.public import Asked, Definition
from steer.benchmarks.sources import FileSource, HubSource, data_files


def _hub() -> list[HubSource]:
    return [HubSource("KbsdJames/Omni-MATH", "test")]


def _files(root: Path) -> list[FileSource]:
    return [FileSource(path) for path in data_files(root, "test")]


def _asked(values: Mapping[str, Any], source: FileSource | HubSource) -> Asked:
    problem = text(values, "problem")
    # "Mathematics -> Algebra -> Inequalities": what follows the root is the subset.
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
