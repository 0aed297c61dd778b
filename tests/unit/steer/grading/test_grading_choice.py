"""Grader `choice`: letters as models write them, texts of options, the harness's own rule, and real ACPBench rows."""

import json

import pytest
from cheap import cheap
from paths import SHARED

from steer.grading import grade
from steer.grading.choice import extract

DATA = SHARED / "data" / "acpbench"

LETTERS = [
    (r"\boxed{B}", "B", True, "boxed"),
    (r"\boxed{b}", "B", True, "boxed"),
    (r"\boxed {B}", "B", True, "boxed"),
    (r"\fbox{B}", "B", True, "boxed"),
    (r"\\boxed{B}", "B", True, "boxed"),
    (r"$\boxed{\text{B}}$", "B", True, "boxed"),
    (r"\boxed{\mathbf{B}}", "B", True, "boxed"),
    (r"\boxed{\textbf{(B)}}", "B", True, "boxed"),
    (r"\boxed{(B)}", "B", True, "boxed"),
    (r"\boxed{**B**}", "B", True, "boxed"),
    (r"\boxed{B.}", "B", True, "boxed"),
    (r"\boxed{\text{B) }}", "B", True, "boxed"),
    (r"\boxed{\text{(C)}}", "C", True, "boxed"),
    (r"\boxed{D. the last one}", "D", True, "boxed"),
    (r"\boxed{Option B}", "B", True, "boxed"),
    (r"\boxed{\boxed{B}}", "B", True, "boxed"),
    (r"\boxed{A} no, \boxed{B}", "B", True, "boxed"),
    (r"\boxed{B} and then \boxed{never closed", "B", True, "boxed"),
    (r"\boxed{B} The answer is clear.", "B", True, "boxed"),
    (r"\boxed{A} but the answer is B", "B", True, "answer_is"),
    (r"the answer is A, that is \boxed{B}", "B", True, "boxed"),
    (r"\boxed{B} and \boxed{42}", "B", True, "boxed"),
    (r"\boxed{A, B}", "A", False, "boxed:several"),
    (r"\boxed{A and B}", "B", False, "boxed:several"),
    (r"\boxed{\text{A}, \text{B}} so C", "C", False, "boxed:several"),
    (r"\boxed{B, B}", "B", True, "boxed"),
    (r"\boxed{All}", "A", False, "none"),
    (r"\boxed{}", "A", False, "none"),
    (r"\boxed{E}", "E", False, "none"),
    (r"\boxed{A car is at l1}", "A", False, "none"),
    ("The answer is B.", "B", True, "answer_is"),
    ("The answer is B because A and C fail.", "B", True, "answer_is"),
    ("The answer is A because C fails.", "A", True, "answer_is"),
    ("Answer: (b)", "B", True, "answer_is"),
    ("Answer: b) travel by sea", "B", True, "answer_is"),
    ("**Answer**: **B**", "B", True, "answer_is"),
    ("**Final Answer:** B", "B", True, "answer_is"),
    ("ANSWER IS: B", "B", True, "answer_is"),
    ("The final answer is:\n\nB", "B", True, "answer_is"),
    ("The answer is [[B]]", "B", True, "answer_is"),
    ("the answer is: **option C**", "C", True, "answer_is"),
    ("The correct answer is the option (c).", "C", True, "answer_is"),
    ("The answer is A. No: the answer is B.", "B", True, "answer_is"),
    ("The answer is B. I hope that this answer is helpful, or else A or C.", "B", True, "answer_is"),
    ("The answer is A or B.", "A", False, "answer_is:several"),
    ("the answer is a lack of B", "B", True, "last_letter"),
    ("the answer isn't A but B", "B", True, "last_letter"),
    ("Answer: A car is at l1", "A", False, "none"),
    ("Either A or C, so C", "C", True, "last_letter"),
    ("So I choose **B**", "B", True, "last_letter"),
    ("B", "B", True, "last_letter"),
    ("(B)", "B", True, "last_letter"),
    ("B)", "B", True, "last_letter"),
    ("Hence option B", "B", True, "last_letter"),
    ("Therefore A is right.", "A", True, "last_letter"),
    ("A is right.", "A", True, "last_letter"),
    ("Take B.\nA car is then at l1.", "B", True, "last_letter"),
    ("Take B. A ferry moves.", "B", True, "last_letter"),
    ("I take A for that reason", "A", True, "last_letter"),
    ("B\u200b", "B", True, "last_letter"),
    ("\u202eB\u202c", "B", True, "last_letter"),
    ("All of it, Because", "A", False, "none"),
    ("A1 and B_2, D-day, C's", "A", False, "none"),
    ("Washington D.C. and É", "D", False, "none"),
    ("a", "A", False, "none"),
    ("Α В С", "A", False, "none"),
    ("I do not know", "A", False, "none"),
    ("", "A", False, "none"),
]

FERRY = ("travel by sea from l2 to l1", "the ferry is at l1", "the ferry is at l1 and c2 is at l0", "A car is at l1")
QUOTED = [
    (r"\boxed{travel by sea from l2 to l1}", "A", True, "boxed:option"),
    (r"\boxed{\text{Travel  by sea from l2 to l1.}}", "A", True, "boxed:option"),
    (r"\boxed{travel by sea from l2 to l1} and not B", "A", True, "boxed:option"),
    (r"\boxed{the ferry is at l1}", "B", True, "boxed:option"),
    (r"\boxed{the ferry is at l1 and c2 is at l0}", "C", True, "boxed:option"),
    (r"\boxed{A car is at l1}", "D", True, "boxed:option"),
    (r"\boxed{A. travel by sea from l2 to l1}", "A", True, "boxed"),
    (r"\boxed{A travel by sea from l2 to l1}", "A", True, "boxed:option"),
    (r"\boxed{B: travel by sea from l2 to l1}", "B", True, "boxed"),
    ("The answer is: travel by sea\nfrom l2. B", "B", True, "last_letter"),
    ("The answer is: travel by sea from l2 to l1.", "A", True, "answer_is:option"),
    ("The answer is that the ferry is at l1 and c2 is at l0.", "C", True, "answer_is:option"),
    ("Answer: A car is at l1", "D", True, "answer_is:option"),
    ("It would be to Travel by\nsea from l2 to L1.", "A", True, "quoted_option"),
    ("the ferry is at l1, no: the ferry is at l1 and c2 is at l0", "C", True, "quoted_option"),
    ("the ferry is at l1 and c2 is at l0, no: the ferry is at l1", "B", True, "quoted_option"),
    ("travel by sea from l2 to l1, or the ferry is at l1", "B", True, "quoted_option"),
    ("of these I take A car is at l1", "D", True, "quoted_option"),
    ("B, so the ferry is at l1 and c2 is at l0", "B", True, "last_letter"),
    ("travel by sea from l2 to l12", "A", False, "none"),
    ("`travel by sea from l2 to l1`", "A", True, "quoted_option"),
]

OFFICIAL = [
    ("The answer is B. A car is at l1", "A", True, "official"),
    ("B, Because", "B", True, "official"),
    (r"\boxed{B} Because All", "A", True, "official"),
    (r"\boxed{b}", "B", False, "none"),
    ("no Capital", "C", True, "official"),
    ("E", "E", False, "none"),
    ("", "A", False, "none"),
]


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), LETTERS, ids=range(len(LETTERS)))
def test_letters(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), QUOTED, ids=range(len(QUOTED)))
def test_texts_of_options(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {"options": FERRY})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), OFFICIAL, ids=range(len(OFFICIAL)))
def test_the_harness_takes_the_last_capital_anywhere(text, gold, correct, rule):
    verdict = grade(text, gold, "choice", {"official": True})
    assert (verdict.correct, verdict.rule) == (correct, rule)


def test_extracted_answer_is_a_letter_or_the_several_that_were_named():
    assert grade("Answer: (b)", "B", "choice", {}).extracted == "B"
    assert grade(r"\boxed{A, B}", "B", "choice", {}).extracted == "A, B"
    assert grade("no", "B", "choice", {}).extracted == ""


def test_only_letters_that_the_question_has_are_read():
    assert grade("so E", "E", "choice", {"letters": "ABCDE"}).correct
    assert grade("A, not E", "A", "choice", {}).correct
    assert grade("B. I think so", "B", "choice", {"letters": "ABCDEFGHI"}).correct
    assert grade("so I is right", "I", "choice", {"letters": "ABCDEFGHI"}).correct
    assert grade("B", " b ", "choice", {}).correct


def test_options_that_are_letters_themselves_do_not_take_the_place_of_letters():
    assert extract(r"\boxed{A}", "ABCD", ["B", "A", "D", "C"]).text == "A"
    assert extract("so B", "ABCD", ["B", "A", "D", "C"]).text == "B"
    assert extract(r"\boxed{7}", "ABCD", ["5", "7"]).text == "B"
    assert extract(r"\boxed{B is on top of C}", "ABC", ["C is clear", "A is clear", "B is on top of C"]).text == "C"


def test_a_text_that_two_options_share_names_neither():
    assert extract(r"\boxed{go}", "ABC", ["go", "stay", "go"]) is None
    assert extract(r"\boxed{stay}", "ABC", ["go", "stay", "go"]).text == "B"
    assert extract(r"\boxed{go or stay}", "ABC", ["go or stay", "stay", "go or stay"]) is None


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{B" * 30_000,
        "answer is " * 30_000,
        "answer: (" * 30_000,
        "A " * 100_000,
        "travel by sea from " * 10_000,
        r"\text{" * 40_000,
        r"\boxed{" + "(A)," * 400 + "x}",
        "[" * 200_000,
    ],
    ids=range(8),
)
@pytest.mark.parametrize("official", [False, True])
def test_hostile_text_is_wrong_and_cheap(text, official):
    with cheap():
        assert not grade(text, "D", "choice", {"options": FERRY, "official": official}).correct


def real_rows():
    return [row for path in sorted(DATA.glob("*/*.mcq.json")) for row in json.loads(path.read_text("utf-8"))]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")
def test_real_golds_are_right_and_other_letters_are_wrong():
    rows = real_rows()
    for row in rows:
        assert row["choices"]["label"] == list("ABCD")
        labels = {"letters": "ABCD", "options": row["choices"]["text"]}
        for letter in "ABCD":
            right = letter == row["answer"]
            for form in (r"So all of it: \boxed{%s}", "The answer is %s.", "Because of that, %s"):
                assert grade(form % letter, row["answer"], "choice", labels).correct == right, (form, row["id"])
    assert len(rows) >= 900


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")
def test_real_options_quoted_by_their_text():
    quoted = 0
    for row in real_rows():
        options = row["choices"]["text"]
        for letter, option in zip("ABCD", options, strict=True):
            for form in (r"\boxed{%s}", r"\boxed{\text{%s}}", "The answer is: %s.", "I believe that %s would do"):
                verdict = grade(form % option, row["answer"], "choice", {"options": options})
                named = letter if options.count(option) == 1 else ""
                assert verdict.extracted == named, (form, option)
                assert verdict.correct == (named == row["answer"])
                quoted += 1
    assert quoted >= 14_000
