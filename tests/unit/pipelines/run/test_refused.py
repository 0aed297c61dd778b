"""Refused rows as a run tells of them: how many, the commonest reason, an example."""

import pytest

from pipelines.report.printed import refused
from pipelines.run.refused import Refusal, commonest, none_left


def row(number, reason):
    return Refusal(f"d.jsonl row {number}", f"d.jsonl row {number}: {reason}")


LOST = [
    row(2, "field 'a' is missing or empty: fill it in or remove the row"),
    row(4, "field 'a' is no integer from 0 to 999, which grader aime needs: it holds '27.5'"),
    row(9, "field 'a' is no integer from 0 to 999, which grader aime needs: it holds '31.5'"),
    Refusal("d.jsonl row 11", "d.jsonl row 11 is not valid JSON: mend or remove the row"),
]


def test_reasons_that_differ_in_what_the_row_holds_are_one():
    said = commonest(LOST)
    assert said.startswith("field 'a' is no integer from 0 to 999, which grader aime needs (2 rows, as d.jsonl row 4")
    assert "which holds '27.5'" in said


@pytest.mark.parametrize(
    "kind",
    [
        "field 'a' is a list of {} texts, and grader aime takes one answer: keep one",
        "is not valid JSON (Expecting ',' delimiter: line 1 column {} (char {})): mend or remove the row",
        "has {} cells, and the header has 2 names: mend or remove the row",
        "id 'x{}' does not begin with the number of hops, as 2hop__",
        "field 'a' is an object (key_{}, other): write the text that is meant to a field of its own",
    ],
)
def test_reasons_that_differ_in_a_number_or_a_quoted_part_are_one(kind):
    many = [row(i, kind.format(i, i)) for i in range(5, 9)]
    said = commonest([*LOST[:1], *many, LOST[0]._replace(place="d.jsonl row 30")])
    assert said == f"{kind.format(5, 5)} (4 rows, as d.jsonl row 5)"


def test_the_same_problem_of_two_fields_is_two_reasons():
    missing = [row(i, f"field {name!r} is missing or empty") for i, name in enumerate("aab")]
    assert commonest(missing).startswith("field 'a' is missing or empty (2 rows")


def test_the_only_reason_is_the_commonest():
    assert commonest(LOST[3:]) == "is not valid JSON: mend or remove the row (1 row, as d.jsonl row 11)"
    assert commonest([]) == ""


def test_the_message_for_no_rows_left_begins_with_what_is_lost():
    said = none_left("none of the 4 rows", commonest(LOST))
    assert said.startswith("none of the 4 rows can be used, so nothing is started") and "27.5" in said


def test_a_run_prints_a_line_for_each_split_with_refused_rows():
    read = {"benchmark": "mine", "split": "test", "traces": 1200, "refused": 0}
    assert refused([read]) == ""
    bad = {**read, "refused": 3, "refusal": "field 'a' is missing (3 rows, as d.jsonl row 4)"}
    assert refused([read, bad]) == (
        "mine, test split: 3 of 1,200 traces could not be asked and count as wrong: field 'a' is missing (3 rows, as "
        "d.jsonl row 4)"
    )
    assert "3 of 1,200" in refused([{**read, "refused": 3}])  # A run of an earlier version wrote no reason.
