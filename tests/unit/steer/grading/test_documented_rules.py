"""The rules of grading in docs/benchmarks.md: each example gets the verdict and the stored rule beside it."""

import re

import pytest
from paths import ROOT

from steer.grading import GRADERS, grade

OPTIONS = ("wait", "walk on", "lift the crate", "call for help")
LABELS = {"choice": {"options": OPTIONS}, "qa": {"aliases": ["NYC"]}}
"""The labels that the page names."""


def examples():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for section in re.split(
        r"^### ", page.partition("## Rules of grading")[2].partition("\n## ")[0], flags=re.MULTILINE
    ):
        graders = [name for name in GRADERS if name in section.partition("\n")[0]]
        for line in section.splitlines():
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if len(cells) == 5 and cells[3] in ("right", "wrong"):
                yield graders, cells[0], cells[1][1:-1].replace(" ⏎ ", "\n"), cells[2][1:-1], cells[3], cells[4][1:-1]


EXAMPLES = list(examples())


def test_every_grader_with_rules_of_its_own_has_examples():
    assert {name for graders, *_ in EXAMPLES for name in graders} == {"math", "choice", "qa", "aime", "exact"}
    assert len(EXAMPLES) > 80


@pytest.mark.parametrize(("graders", "rule", "text", "gold", "verdict", "stored"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_graded_as_the_page_says(graders, rule, text, gold, verdict, stored):
    verdicts = [grade(text, gold, grader, LABELS.get(grader, {})) for grader in graders]
    assert ("right" if verdict == "right" else "wrong", stored) in [
        ("right" if v.correct else "wrong", v.rule) for v in verdicts
    ], rule
