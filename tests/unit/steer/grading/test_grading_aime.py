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
    (r"\boxed{33}? No: the answer is 34", "34", True, "answer_is:integer"),
    (r"\boxed{33} The answer is clear.", "33", True, "boxed:integer"),
    (r"\boxed{33} The answer is found by adding 12 and 21.", "33", True, "boxed:integer"),
    (r"\boxed{33} but the answer is 1/2", "33", False, "answer_is:not_an_integer"),
    (r"\boxed{12}. Final answer: $m + n = 33$, as 12 + 21 = 33.", "33", True, "answer_is:integer"),
    (r"Write it in \boxed{}. The answer is 33.", "33", True, "answer_is:integer"),
    (r"The answer is 33. \boxed{}", "33", True, "answer_is:integer"),
    (r"\boxed{\text{your answer}}: the answer is 33", "33", True, "answer_is:integer"),
    (r"Write it in \boxed{}. We get 33", "33", True, "last_integer:integer"),
    (r"\boxed{\text{The answer is } 33}", "33", True, "answer_is:integer"),
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

SAME_AS_33 = [
    *(r"33 \pmod{1000}", r"33\pmod {1000}", r"33 \bmod 1000", r"33 \mod{1000}", "33 (mod 1000)", "33 mod 1000"),
    *(r"33 \text{ (mod 1000)}", r"33 \text{ mod } 1000", r"33\ (\mathrm{mod}\ 1000)", "33 modulo 1,000"),
    *(r"33 \pmod{10^3}", r"33 \left(\bmod\ 1{,}000\right)", r"33 \operatorname{mod} 997", r"33 \pmod{34}"),
    *(r"N \equiv 33 \pmod{1000}", r"\equiv 33", "N ≡ 33 (mod 1000)", r"3^{4} \equiv 1033 \equiv 33 \pmod{1000}"),
    *("33_{10}", "33_10", r"33_{\text{ten}}", "(33)_{10}", r"\mathrm{33}_{10}", r"33 \text{ (base 10)}"),
    *("33.0", "33.", "33.00", "033.0", r"33.0^\circ", r"33^\circ", r"\underline{33}", r"33\text{ cm}^2", "x = 33.0"),
]
NOT_33 = [
    *("33.5", "33!", "33e0", "3.3e1", "33_{8}", "100001_2", "33_{100}", r"33_{\text{eight}}", r"33 \text{ base eight}"),
    *(r"33 \pmod{30}", r"33 \pmod{33}", r"1033 \pmod{1000}", r"-33 \pmod{1000}", r"33 \pmod n", r"33 \pmod{1000.5}"),
    *(
        "33/1",
        r"\sqrt{1089}",
        "33^1",
        r"33!\text{ ways}",
        "33, 34",
        "33 or 34",
        r"33 \text{ or } 34",
        r"33 \text{ thousand}",
    ),
    *("33.0.0", "33x", "33 - 0", r"\pmod{33}", "mod 33", r"33^{10}", ".33"),
]


@pytest.mark.parametrize("written", SAME_AS_33)
def test_an_integer_with_a_modulus_a_base_of_ten_or_zero_decimals(written):
    assert grade(rf"\boxed{{{written}}}", "33", "aime", {}).rule == "boxed:integer"
    assert grade(rf"\boxed{{{written}}}", "34", "aime", {}).rule == "boxed:different"
    assert grade(f"The answer is ${written}$.", "033", "aime", {}).correct
    assert grade(r"\boxed{33}", written, "aime", {}).correct


@pytest.mark.parametrize("written", NOT_33)
def test_what_is_not_an_integer_as_it_stands(written):
    assert grade(rf"\boxed{{{written}}}", "33", "aime", {}).rule == "boxed:not_an_integer"


@pytest.mark.parametrize(
    "text", ["so N ≡ 33 (mod 1000)", "that is 33 mod 1000", r"$33 \pmod{1000}$", "it is 33.0", "$33_{10}$"]
)
def test_the_last_integer_is_not_the_modulus_or_the_base(text):
    assert grade(text, "33", "aime", {}).rule == "last_integer:integer"


@pytest.mark.parametrize("gold", ["27.0", "027", "27.", " 27 ", r"27 \pmod{1000}"])
def test_golds_that_are_integers_in_another_form(gold):
    assert grade(r"\boxed{27}", gold, "aime", {}).correct
    assert not grade(r"\boxed{270}", gold, "aime", {}).correct


@pytest.mark.parametrize("gold", ["", "nan", "inf", "27.5", "2.7e1"])
def test_no_response_equals_a_gold_that_is_no_integer(gold):
    assert not any(grade(rf"\boxed{{{answer}}}", gold, "aime", {}).correct for answer in ("27", "", gold))


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
    + [r"\boxed{" + "1 " * 900 + "}", r"\boxed{" + "x=" * 900 + "}", "\\mathbf{3" * 20_000, "answer is 1." * 20_000]
    + ["70 (mod " * 20_000, "70_" * 50_000, "\\quad" * 30_000, "answer is 1 or " * 10_000],
    ids=range(15),
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


@pytest.mark.parametrize(
    "answer",
    [
        r"70_{\text{base }10}",
        "70 cm",
        "70 units",
        r"70\%",
        "70 (since 7+63=70)",
        r"70, \text{ since } 7+63=70",
        r"70 \approx 70.0",
    ],
)
def test_a_unit_a_reason_and_the_base_ten_are_left_out(answer):
    assert grade(f"\\boxed{{{answer}}}", "70", "aime", {}).correct


def test_a_denied_integer_is_no_answer():
    assert not grade("The answer is not 70.", "70", "aime", {}).correct
