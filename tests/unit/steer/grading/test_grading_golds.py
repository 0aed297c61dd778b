"""Which gold answers a grader can read: one that no response could match is refused with the reason."""

import pytest

from steer.grading import GRADERS, grade
from steer.grading.golds import unreadable_gold

READABLE = [
    ("math", "27"),
    ("math", "0.00001"),
    ("math", "10000000000000000000"),
    ("math", r"\infty"),
    ("math", r"\frac{2}{5}"),
    ("math", "[0, 1)"),
    ("math", "]0, 1["),
    ("math", "[0, 1["),
    ("math", r"\{1, 2\}"),
    ("math", r"\emptyset"),
    ("math", r"\text{None}"),
    ("math", "None"),
    ("math", ">"),
    ("math", r"1) grows, 2) falls in the end"),
    ("math", r"\left\{ x \mid x > 2 \right."),
    ("math", r"so the least value is $\boxed{12}$"),
    ("aime", "012"),
    ("aime", "0"),
    ("choice", "B"),
    ("choice", "d"),
    ("qa", "nan"),
    ("qa", "None"),
    ("qa", "a } brace"),
    ("qa", "Twenty-\nseven"),
    ("exact", "nan"),
    ("exact", "x" * 5000),
    ("kor", "[[ab;c]]"),
    ("kor", "ab"),
]

UNREADABLE = [
    ("math", "nan", "missing number"),
    ("math", "NaN", "missing number"),
    ("math", "-nan", "missing number"),
    ("math", "null", "missing number"),
    ("math", "<NA>", "missing number"),
    ("math", r"\frac{1}{2", "brackets"),
    ("math", r"\frac{1}{2}}", "brackets"),
    ("math", "(0, 1", "brackets"),
    ("math", "}x{", "brackets"),
    ("math", "$$", "no number"),
    ("math", r"\text{ }", "no number"),
    ("math", r"\boxed{}", "no number"),
    ("math", "?", "no number"),
    ("math", "7" * 2001, "longer than 2,000"),
    ("math", "(" * 30 + "x" + ")" * 30, "more than 20 brackets"),
    ("aime", "27.5", "no integer from 0 to 999"),
    ("aime", "1000", "no integer from 0 to 999"),
    ("aime", "-3", "no integer from 0 to 999"),
    ("aime", "nan", "no integer from 0 to 999"),
    ("aime", r"\infty", "no integer from 0 to 999"),
    ("choice", "2", "no letter of ABCD"),
    ("choice", "E", "no letter of ABCD"),
    ("choice", "Paris", "no letter of ABCD"),
    ("qa", "x" * 2001, "longer than 2,000"),
    ("exact", r"\boxed{5}", "grader exact"),
]


@pytest.mark.parametrize(("grader", "gold"), READABLE)
def test_a_gold_that_a_response_can_match_is_readable(grader, gold):
    assert unreadable_gold(grader, gold, {}) is None


@pytest.mark.parametrize(("grader", "gold", "reason"), UNREADABLE)
def test_a_gold_that_no_response_can_match_is_refused_by_its_reason(grader, gold, reason):
    assert reason in unreadable_gold(grader, gold, {})


@pytest.mark.parametrize("grader", GRADERS)
@pytest.mark.parametrize("blank", ["", "  ", "\n", "\u200b", "\t\ufeff"])
def test_a_gold_that_shows_nothing_is_empty_for_every_grader(grader, blank):
    assert unreadable_gold(grader, blank, {}) == "is empty"


def test_the_letters_are_those_of_the_question():
    assert unreadable_gold("choice", "F", {"letters": "ABCDEF"}) is None
    assert "no letter of AB" in unreadable_gold("choice", "C", {"letters": "AB"})


def test_a_reason_shows_the_gold_and_no_more_than_its_beginning():
    assert unreadable_gold("aime", "27.5", {}).endswith("it holds '27.5'")
    assert len(unreadable_gold("math", "word " * 1000, {})) < 200


@pytest.mark.parametrize("grader", GRADERS)
@pytest.mark.parametrize(
    "gold", ["\ud800", "\\" * 999, "{" * 999, "$" * 1001, "\x00\x01", "9" * 5000, "__import__('os')"]
)
def test_any_text_gets_an_answer(grader, gold):
    assert unreadable_gold(grader, gold, {}) is None or len(unreadable_gold(grader, gold, {})) < 250


@pytest.mark.parametrize("grader", GRADERS)
@pytest.mark.parametrize("gold", ["", " ", "\u200b"])
@pytest.mark.parametrize("response", ["\\boxed{}", "\\boxed{ }", "", "[[]]", "The answer is"])
def test_no_response_equals_a_gold_that_shows_nothing(grader, gold, response):
    assert not grade(response, gold, grader, {}).correct


@pytest.mark.parametrize("gold", ["nan", "NaN", "null", "$nan$"])
def test_no_response_of_mathematics_equals_a_missing_number(gold):
    verdict = grade(f"\\boxed{{{gold}}}", gold, "math", {})
    assert (verdict.correct, verdict.rule) == (False, "boxed:no_gold")
    assert grade("\\boxed{nan}", "nan", "qa", {}).correct and grade("\\boxed{nan}", "nan", "exact", {}).correct


@pytest.mark.parametrize(("grader", "golds"), [("math", "23"), ("choice", "BC"), ("qa", "xy"), ("exact", "xy")])
def test_each_accepted_answer_is_right(grader, golds):
    first, second = golds
    for response, right in ((first, True), (second, True), ("D", False)):
        assert grade(f"\\boxed{{{response}}}", first, grader, {"aliases": [second]}).correct is right
