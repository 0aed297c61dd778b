"""Graders on what models write: right, wrong and hostile."""

import time

import pytest

from steer.grading import GRADERS, grade
from steer.grading.math import as_number, normalised

MATH = [
    (r"so \boxed{42}.", "42", True, "boxed:exact"),
    (r"The answer is \boxed{0042}.", "42", True, "boxed:number"),
    (r"\boxed{7} no, \boxed{8}", "7", False, "boxed:different"),
    (r"\boxed{\boxed{5}}", "5", True, "boxed:exact"),
    (r"\boxed{\frac{1}{2}} and then \boxed{never closed", "0.5", True, "boxed:number"),
    (r"\boxed{\dfrac12}", r"\frac{1}{2}", True, "boxed:normalised"),
    (r"\boxed{1\frac{1}{2}}", "3/2", True, "boxed:number"),
    (r"\boxed{-\frac{3}{4}}", "-0.75", True, "boxed:number"),
    (r"\boxed{\frac{1}{0}}", "0", False, "boxed:different"),
    (r"\boxed{2,020,050}", "2020050", True, "boxed:number"),
    (r"\boxed{2{,}020{,}050}", "2020050", True, "boxed:number"),
    (r"\boxed{x=5}", "5", True, "boxed:normalised"),
    (r"\boxed{5 \text{ cm}}", "5", True, "boxed:normalised"),
    (r"\boxed{\text{Tuesday}}", "Tuesday", True, "boxed:normalised"),
    (r"\boxed{30^\circ}", "30", True, "boxed:normalised"),
    (r"\boxed{50\%}", "50", True, "boxed:normalised"),
    (r"\boxed{50}", "0.5", False, "boxed:different"),
    (r"\boxed{1}", "100", False, "boxed:different"),
    (r"\boxed{\left( 1, 2 \right)}", "(1,2)", True, "boxed:normalised"),
    (r"\boxed{}", "0", False, "boxed:different"),
    ("The answer is $\\frac{1}{2}$, I think", "0.5", True, "answer_is:number"),
    ("The answer is 5 apples.", "5", True, "answer_is:exact"),
    ("answer is 3. No: the answer is 4.", "4", True, "answer_is:exact"),
    ("**Answer:** 12", "12", True, "answer_is:exact"),
    ("first 3, then 5-3", "3", True, "last_number:exact"),
    ("it falls to -7", "-7", True, "last_number:exact"),
    ("in all 1,234", "1234", True, "last_number:number"),
    ("9" * 201 + "5", "5", False, "last_number:different"),
    ("I do not know", "5", False, "none"),
    ("", "5", False, "none"),
]

CHOICE = [
    (r"\boxed{B}", "B", True, "boxed"),
    (r"\boxed{\text{(C)}}", "C", True, "boxed"),
    (r"\boxed{D. the last one}", "D", True, "boxed"),
    ("The answer is B.", "B", True, "answer_is"),
    ("Answer: (b)", "B", True, "answer_is"),
    ("the answer is: **option C**", "C", True, "answer_is"),
    ("the answer is a lack of B", "B", True, "last_letter"),
    ("Either A or C, so C", "C", True, "last_letter"),
    ("All of it, Because", "A", False, "none"),
    ("A1 and B_2", "A", False, "none"),
]

QA = [
    ("The answer is Ada Moss.", "Ada Moss", True, "answer_is:answer"),
    ("The answer is the  MOSS!", "Moss", True, "answer_is:answer"),
    (r"Answer: \boxed{\text{New York}}", "new york", True, "boxed:answer"),
    (r"\boxed{Paris} but the answer is Rome", "Rome", True, "answer_is:answer"),
    ("The answer is NYC", "New York", True, "answer_is:alias"),
    ("The answer is Ada Moss or Ada Vale", "Ada Moss", False, "answer_is:different"),
    ("Ada Moss", "Ada Moss", True, "whole:answer"),
    ("The answer is ...", "", False, "answer_is:different"),
    ("", "Ada Moss", False, "none"),
]

EXACT = [
    (r"\boxed{a b}", "a b", True, "boxed"),
    ("The answer is yes.", "yes", True, "answer_is"),
    ("The answer is yes.", "yes.", True, "answer_is"),
    ("  yes \n", "yes", True, "whole"),
    ("Yes", "yes", False, "whole"),
    (" ", "yes", False, "none"),
]


@pytest.mark.parametrize(
    ("grader", "text", "gold", "correct", "rule"),
    [
        (grader, *case)
        for grader, cases in (("math", MATH), ("choice", CHOICE), ("qa", QA), ("exact", EXACT))
        for case in cases
    ],
)
def test_verdict(grader, text, gold, correct, rule):
    verdict = grade(text, gold, grader, {"aliases": ["NYC"]})
    assert (verdict.correct, verdict.rule) == (correct, rule)


def test_extracted_answer_is_what_was_compared():
    assert grade("The answer is 5 apples.", "5", "math", {}).extracted == "5"
    assert grade("Answer: (b)", "B", "choice", {}).extracted == "B"
    assert grade("no", "B", "choice", {}).extracted == ""


def test_choice_reads_only_letters_that_the_question_has():
    assert grade("so E", "E", "choice", {"letters": "ABCDE"}).correct
    assert grade("A, not E", "A", "choice", {}).correct


def test_unknown_grader_is_named():
    with pytest.raises(ValueError, match="math, choice, qa, exact"):
        grade("1", "1", "maths", {})


def test_numbers_of_any_length_are_read_or_refused_never_computed():
    assert as_number("1" * 200) is not None
    assert as_number("1" * 201) is None
    assert as_number("9^{9^{9}}") is None
    assert as_number("1e999999999") is None
    assert normalised("10 ** 10") == "10**10"


HOSTILE = [
    r"\boxed{" * 20_000,
    "{" * 200_000,
    r"\boxed{" + "{" * 60_000 + "}" * 60_000 + "}",
    "answer is " * 30_000,
    "1" * 200_000,
    "1," * 100_000,
    "1,111" * 40_000,
    "9/" * 100_000,
    "$" * 200_000,
    r"\boxed{" + r"\text{a" * 250 + "}" * 251,
    r"\boxed{" + "x=" * 900 + "}",
    r"\boxed{__import__('os').system('true')}",
    r"\boxed{10**10**10}",
    "\x00\ud800\u2028" * 1000,
]


@pytest.mark.parametrize("grader", GRADERS)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_wrong_and_cheap(grader, text):
    started = time.process_time()
    assert not grade(text, "5", grader, {}).correct
    # A hundred times what it takes: only a pattern that backtracks over the whole text is caught.
    assert time.process_time() - started < 3.0
