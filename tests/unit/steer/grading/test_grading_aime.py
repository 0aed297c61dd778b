"""Grader `aime`: integers from 0 to 999 however they are dressed, and the real AIME rows."""

import json

import pytest
from cheap import cheap
from paths import SHARED

from steer.grading import grade
from steer.grading.aime import integer

DATA = SHARED / "data" / "aime"

CASES = [
    (r"\boxed{33}", "33", True, "boxed:integer"),
    (r"\boxed{33}", "033", True, "boxed:integer"),
    (r"\boxed{033}", "33", True, "boxed:integer"),
    (r"\boxed{0}", "000", True, "boxed:integer"),
    (r"\boxed{999}", "999", True, "boxed:integer"),
    (r"\boxed{" + "0" * 300 + "33}", "33", True, "boxed:integer"),
    (r"\boxed {33}", "33", True, "boxed:integer"),
    (r"\fbox{33}", "33", True, "boxed:integer"),
    (r"\boxed{ 33. }", "33", True, "boxed:integer"),
    (r"\boxed{$33$}", "33", True, "boxed:integer"),
    (r"\boxed{\(33\)}", "33", True, "boxed:integer"),
    (r"\boxed{\text{33}}", "33", True, "boxed:integer"),
    (r"\boxed{\mathbf{033}}", "33", True, "boxed:integer"),
    (r"\boxed{33 \text{ cm}}", "33", True, "boxed:integer"),
    (r"\boxed{33\text{ square units}}", "33", True, "boxed:integer"),
    (r"\boxed{\textbf{(A)} 12}", "12", True, "boxed:integer"),
    (r"\boxed{\textbf{(B)}\ 012}", "12", True, "boxed:integer"),
    (r"\boxed{\textbf{(033) }}", "33", True, "boxed:integer"),
    (r"\boxed{204^\circ}", "204", True, "boxed:integer"),
    (r"\boxed{204^{\circ}}", "204", True, "boxed:integer"),
    (r"\boxed{204°}", "204", True, "boxed:integer"),
    (r"\boxed{x=5}", "5", True, "boxed:integer"),
    (r"\boxed{m + n = 33}", "33", True, "boxed:integer"),
    (r"\boxed{+33}", "33", True, "boxed:integer"),
    (r"\boxed{-0}", "0", True, "boxed:integer"),
    (r"\boxed{**33**}", "33", True, "boxed:integer"),
    (r"\boxed{\boxed{33}}", "33", True, "boxed:integer"),
    (r"\boxed{33} or rather \boxed{34}", "33", False, "boxed:different"),
    (r"\boxed{33} \boxed{", "33", True, "boxed:integer"),
    ("\\boxed{3\u200b3}", "33", True, "boxed:integer"),
    (r"\boxed{33} is not the answer is 34", "33", True, "boxed:integer"),
    (r"\boxed{34}", "33", False, "boxed:different"),
    (r"\boxed{33}", "1033", False, "boxed:different"),
    (r"\boxed{33}", "x", False, "boxed:different"),
    (r"\boxed{33}", "", False, "boxed:different"),
    (r"\boxed{1,033}", "33", False, "boxed:out_of_range"),
    (r"\boxed{1{,}033}", "33", False, "boxed:out_of_range"),
    (r"\boxed{1000}", "1000", False, "boxed:out_of_range"),
    (r"\boxed{-33}", "33", False, "boxed:out_of_range"),
    (r"\boxed{−33}", "33", False, "boxed:out_of_range"),
    (r"\boxed{" + "9" * 1_990 + "}", "999", False, "boxed:out_of_range"),
    (r"\boxed{33.0}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{.5}", "5", False, "boxed:not_an_integer"),
    (r"\boxed{66/2}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{\frac{66}{2}}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{3 3}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{3*3}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{3^3}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{3_3}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{3, 33}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{a=1, b=33}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{3e1}", "30", False, "boxed:not_an_integer"),
    (r"\boxed{0x21}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{٣٣}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{³³}", "33", False, "boxed:not_an_integer"),
    (r"\boxed{}", "0", False, "boxed:not_an_integer"),
    (r"\boxed{__import__('os').system('true')}", "0", False, "boxed:not_an_integer"),
    ("The answer is 033.", "33", True, "answer_is:integer"),
    ("**Answer:** 33", "33", True, "answer_is:integer"),
    ("**Answer**: **33**.", "33", True, "answer_is:integer"),
    ("The final answer is:\n$33$", "33", True, "answer_is:integer"),
    ("The answer is $12 + 21 = 33$.", "33", True, "answer_is:integer"),
    ("The answer is 33, since 3 * 11 = 33.", "33", True, "answer_is:integer"),
    ("The answer is 33 apples, not 34.", "33", True, "answer_is:integer"),
    ("The answer is 34. No: the answer is 33.", "33", True, "answer_is:integer"),
    ("33. The answer is 34", "33", False, "answer_is:different"),
    ("The answer is 1/2", "1", False, "answer_is:not_an_integer"),
    (r"The answer is $\frac{1}{2}$", "1", False, "answer_is:not_an_integer"),
    ("The answer is 2.5 or so", "2", False, "answer_is:not_an_integer"),
    ("The answer is unknown", "0", False, "answer_is:not_an_integer"),
    ("The answer is 2,500 in all", "500", False, "answer_is:out_of_range"),
    ("first 3, then 36 - 3, so it is 33", "33", True, "last_integer:integer"),
    ("it is 33.", "33", True, "last_integer:integer"),
    (r"$m+n = \mathbf{33}$.", "33", True, "last_integer:integer"),
    ("33, which is 66/2 or 3.3 times 10^{1}", "33", True, "last_integer:integer"),
    ("it is 33 for a_1 and x2", "33", True, "last_integer:integer"),
    ("n-33", "33", True, "last_integer:integer"),
    ("it falls to -33", "33", False, "last_integer:out_of_range"),
    ("in all 1,033", "33", False, "last_integer:out_of_range"),
    ("33 and then 34", "33", False, "last_integer:different"),
    ("9" * 40_000, "9", False, "last_integer:out_of_range"),
    ("half, 0.5", "5", False, "none"),
    ("I do not know", "0", False, "none"),
    ("", "0", False, "none"),
]


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), CASES, ids=range(len(CASES)))
def test_verdict(text, gold, correct, rule):
    verdict = grade(text, gold, "aime", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


def test_extracted_integer_has_no_leading_zeros():
    assert grade(r"\boxed{073}", "73", "aime", {}).extracted == "73"
    assert grade(r"\boxed{000}", "0", "aime", {}).extracted == "0"
    assert grade(r"\boxed{ \frac{1}{2} }", "0", "aime", {}).extracted == r"\frac{1}{2}"


def test_every_integer_of_the_range_and_no_other():
    assert all(integer(f"{value:03d}") == (str(value), "integer") for value in range(1000))
    assert integer("1000").kind == integer("-1").kind == integer("9" * 100_000).kind == "out_of_range"


@pytest.mark.parametrize(
    "text",
    [
        "1" * 200_000,
        "1," * 100_000,
        "1,111" * 40_000,
        "9/" * 100_000,
        "9 / " * 50_000,
        "\\text{" * 40_000,
        "=" * 200_000,
    ]
    + [r"\boxed{" + "1 " * 900 + "}", r"\boxed{" + "x=" * 900 + "}", "\\mathbf{3" * 20_000, "answer is 1." * 20_000],
    ids=range(11),
)
def test_hostile_text_is_wrong_and_cheap(text):
    with cheap():
        assert not grade(text, "5", "aime", {}).correct


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")
def test_real_golds_are_right_and_other_golds_are_wrong():
    rows = [json.loads(line) for path in sorted(DATA.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    golds = [row["answer"] if "answer" in row else row["expected_answer"] for row in rows]
    for gold in golds:
        for form in (r"So \boxed{%s}.", "The answer is %s.", "Hence $m+n=%s$.", r"\boxed{%s^\circ}"):
            for other in golds:
                verdict = grade(form % other, gold, "aime", {})
                assert verdict.correct == (int(other) == int(gold)), (form, other, gold)
    assert len(golds) >= 90


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")
def test_worked_solutions_of_the_real_rows_hold_their_gold():
    rows = [json.loads(line) for line in (DATA / "aime_2022_2024.jsonl").read_text("utf-8").splitlines()]
    boxed = [row for row in rows if "\\boxed" in row["solution"]]
    right = sum(grade(row["solution"], row["answer"], "aime", {}).correct for row in boxed)
    assert right >= 0.95 * len(boxed) > 0
