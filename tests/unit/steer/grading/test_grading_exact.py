"""Grader `exact`: the stated answer, character by character."""

import pytest

from steer.grading import grade
from steer.grading.answers import answer_is, boxed, boxes, response_end, sayings, visible
from steer.grading.verdict import MAX_ANSWER_CHARS, MAX_TEXT_CHARS

CASES = [
    (r"\boxed{a b}", "a b", True, "boxed"),
    (r"\boxed{ a b }", " a b\n", True, "boxed"),
    (r"\boxed{a  b}", "a b", False, "boxed"),
    (r"\boxed{A b}", "a b", False, "boxed"),
    (r"\boxed{a} \boxed{b}", "b", True, "boxed"),
    (r"\boxed{\text{b}}", "b", False, "boxed"),
    (r"\boxed{f(\{x\}) = {y}}", r"f(\{x\}) = {y}", True, "boxed"),
    (r"\boxed{yes.}", "yes", False, "boxed"),
    (r"\boxed{yes} The answer is no", "no", True, "answer_is"),
    (r"\boxed{yes} I hope that the answer is right.", "yes", True, "boxed"),
    (r"Put it into \boxed{}. The answer is yes.", "yes", True, "answer_is"),
    (r"The answer is yes. \boxed{}", "yes", True, "answer_is"),
    (r"\boxed{your answer} The answer is yes.", "yes", True, "answer_is"),
    (r"The answer is \boxed{yes}.", "yes", True, "boxed"),
    (r"\boxed{27}", "27", True, "boxed"),
    (r"\boxed{27.0}", "27.0", True, "boxed"),
    (r"\boxed{27}", "27.0", False, "boxed"),
    (r"\boxed{}", "", False, "boxed"),
    ("The answer is yes.", "yes", True, "answer_is"),
    ("The answer is yes.", "yes.", True, "answer_is"),
    ("The answer is yes..", "yes", False, "answer_is"),
    ("**Answer:** yes", "yes", True, "answer_is"),
    ("**Answer**: **yes**.", "yes", True, "answer_is"),
    ("Answer:\n\n yes \nor so", "yes", True, "answer_is"),
    ("The answer is 2**3", "2**3", True, "answer_is"),
    ("  yes \n", "yes", True, "whole"),
    ("yes.", "yes", False, "whole"),
    ("Yes", "yes", False, "whole"),
    ("y\u200bes\u202c\x00\r\n", "yes", True, "whole"),
    ("yes", "y\ufeffes", True, "whole"),
    ("a\nb", "a\nb", True, "whole"),
    ("x" * 3_000, "x" * 3_000, True, "whole"),
    ("x" * 3_000, "x", False, "none"),
    (" ", "yes", False, "none"),
    ("", "", False, "none"),
]


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), CASES, ids=range(len(CASES)))
def test_verdict(text, gold, correct, rule):
    verdict = grade(text, gold, "exact", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


def test_extracted_answer_is_what_was_compared():
    assert grade("The answer is yes.", "no", "exact", {}).extracted == "yes"
    assert grade("The answer is yes.", "yes.", "exact", {}).extracted == "yes."


BOXES = [
    (r"\boxed{1}", ["1"]),
    (r"\boxed {1} \fbox{2}", ["1", "2"]),
    (r"\\boxed{1}", ["1"]),
    (r"a \\ \boxed{1 \\}", [r"1 \\"]),
    (r"\boxed{\boxed{1}}", ["1"]),
    (r"\boxed{a \boxed{1} b}", ["1"]),
    (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]),
    (r"\boxed{\{1, 2\}}", [r"\{1, 2\}"]),
    (r"\boxed{\left\{1\right.}", [r"\left\{1\right."]),
    (r"\boxed{1", []),
    (r"\boxed{\boxed{1}", ["1"]),
    (r"}\boxed{1}}", ["1"]),
    (r"\boxed 1", []),
    (r"\unboxed{1}", []),
    (r"\boxed{}", [""]),
    (r"\boxed{1\ }", ["1"]),
    ("\\boxed{\n1\n}", ["1"]),
]


@pytest.mark.parametrize(("text", "contents"), BOXES, ids=range(len(BOXES)))
def test_boxes(text, contents):
    found = boxes(text)
    assert [box.text for box in found] == contents
    assert all(text[box.start] == "\\" and text[box.end - 1] == "}" for box in found)


SAYINGS = [
    ("the answer is 5", ["5"]),
    ("Answer: 5\nthen the final ANSWER IS: 6.", ["5", "6."]),
    ("**Answer**: 5", ["5"]),
    ("**Answer:** **5** apples", ["5 apples"]),
    ("__Answer__: *5*", ["5"]),
    ("Answer:\n* 5*3", ["5*3"]),
    ("the answer\nis\n\n5\n6", ["5"]),
    ("the answer is not 5", ["not 5"]),
    ("the answer isn't 5, answers: 6, an answer, in", []),
    ("the answer is", [""]),
]


@pytest.mark.parametrize(("text", "lines"), SAYINGS, ids=range(len(SAYINGS)))
def test_sayings(text, lines):
    assert [said.text for said in sayings(text)] == lines


def test_an_answer_that_is_too_long_is_none():
    for length, found in ((MAX_ANSWER_CHARS, True), (MAX_ANSWER_CHARS + 1, False)):
        assert (boxed(r"\boxed{" + "x" * length + "}") is not None) == found
        assert (answer_is("answer is " + "x" * length) is not None) == found


def test_only_the_end_of_a_response_is_read_and_only_what_can_be_seen():
    assert len(response_end("x" * (2 * MAX_TEXT_CHARS))) == MAX_TEXT_CHARS
    hidden = "".join(map(chr, [*range(9), *range(11, 32), 127, *range(0x200B, 0x2010), *range(0x202A, 0x202F)]))
    assert visible(f"a{hidden}\u2060\ufeff\u2066\u2067\u2068\u2069b\t\n") == "ab\t\n"
    assert visible("é \u0301 ہ 👍 \u2028") == "é \u0301 ہ 👍 \u2028"
