"""Which other rows' gold answers `steer data --check-grading` grades for a row."""

import random
import time

import pytest

from pipelines.grade.check import SWAPS, others
from steer.traces import Question


def questions(golds, labels="{}"):
    return [Question(str(i), 0, "mine", "?", gold, "qa", labels=labels) for i, gold in enumerate(golds)]


@pytest.mark.parametrize(
    ("golds", "expected"),
    [
        ("ABCD", ["BCD", "CDA", "DAB", "ABC"]),
        ("AABB", ["B", "B", "A", "A"]),
        ("AAAA", ["", "", "", ""]),
        ("ABCDEFGH", ["BCDEF", "CDEFG", "DEFGH", "EFGHA", "FGHAB", "GHABC", "HABCD", "ABCDE"]),
        ("A", [""]),
        ("", []),
    ],
)
def test_the_next_distinct_golds_are_graded_for_each_row(golds, expected):
    assert ["".join(found) for found in others(questions(golds))] == expected


def test_no_accepted_answer_of_a_row_is_graded_as_another_rows(golds="ABCABC"):
    assert others(questions(golds, '{"aliases": ["B"]}'))[0] == ["C"]


def test_few_distinct_golds_take_no_longer_than_many():
    draw = random.Random(1)
    many = questions([str(draw.randrange(10**6)) for _ in range(20_000)])
    few = questions(["A"] * 10_000 + ["B"] * 10_000)
    took = []
    for rows in (many, few):
        begun = time.process_time()
        assert len(others(rows)) == 20_000 and len(others(rows)[0]) <= SWAPS
        took.append(time.process_time() - begun)
    assert took[1] < 20 * took[0] + 1
