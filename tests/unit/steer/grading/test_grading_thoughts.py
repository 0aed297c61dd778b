"""Of a model that thinks the answer alone is graded."""

import pyarrow as pa
import pytest
from graded_rows import graded

from pipelines.run.stages import with_verdicts
from steer.grading import GRADERS, grade
from steer.storage.schemas import GRADED_SCHEMA, TRACES_SCHEMA

TAG = "</think>"


@pytest.mark.parametrize(
    ("text", "correct", "extracted", "rule"),
    [
        ("Is it \\boxed{5}?\n\n</think>\n\nIt is \\boxed{4}.", True, "4", "boxed:exact"),
        ("It is \\boxed{4}.\n\n</think>\n\nIt is \\boxed{5}.", False, "5", "boxed:different"),
        ("It is \\boxed{4}.\n\n</think>\n\nI do not know.", False, "", "none"),
        ("It is \\boxed{4}.", False, "", "unclosed_thought"),
        ("It is \\boxed{4}, and then I write `</think>`.", False, "", "unclosed_thought"),
        ("", False, "", "unclosed_thought"),
        ("\\boxed{5}\n</think>\n\\boxed{5}\n</think>\n\\boxed{4}", True, "4", "boxed:exact"),
        ("```\n</think> \\boxed{5}\n```\n</think>\n\nThe answer is 4", True, "4", "answer_is:exact"),
    ],
)
def test_what_follows_the_closing_tag_is_graded(text, correct, extracted, rule):
    verdict = grade(text, "4", "math", {}, TAG)
    assert (verdict.correct, verdict.extracted, verdict.rule) == (correct, extracted, rule)


def test_of_a_model_that_does_not_think_a_tag_is_text():
    assert grade("It is \\boxed{4}.\n</think>\n", "4", "math", {}).correct
    assert grade("It is \\boxed{4}.", "4", "math", {}, "").correct


@pytest.mark.parametrize("grader", GRADERS)
def test_no_grader_finds_an_answer_in_a_thought_that_does_not_end(grader):
    text = "The answer is [[A]], \\boxed{A}.\n\nA"
    verdict = grade(text, "A", grader, {"options": ["a", "b"], "subset": "cipher", "rule_id": "1"}, TAG)
    assert (verdict.correct, verdict.extracted, verdict.rule) == (False, "", "unclosed_thought")
    assert (verdict.f1 == 0.0) == (grader == "qa")
    assert not grade(text, "", grader, {}, TAG).correct, "no answer equals no gold answer"


def rows(**columns):
    row = graded("q").to_pylist()[0] | {"status": "answered", "gold": "4", "grader": "math", "labels": "{}", **columns}
    return pa.Table.from_pylist([row], GRADED_SCHEMA)


def test_the_tag_of_a_trace_is_in_its_row_so_that_a_regrade_has_it():
    text = "It is \\boxed{5}.\n</think>\n\\boxed{4}"
    assert with_verdicts(rows(text=text, closing_tag=TAG))["correct"].to_pylist() == [True]
    assert with_verdicts(rows(text="\\boxed{4}", closing_tag=TAG))["rule"].to_pylist() == ["unclosed_thought"]


def test_rows_of_an_earlier_version_have_no_tag_and_are_graded_as_a_whole():
    assert TRACES_SCHEMA.field("closing_tag").nullable
    assert with_verdicts(rows(text="\\boxed{4}", closing_tag=None))["correct"].to_pylist() == [True]
