"""The grader `math`: a table of our own, hostile text, and the real rows of two benchmarks where they are present."""

import json
import subprocess
import sys

import pytest
from cheap import cheap
from hypothesis import given, settings
from hypothesis import strategies as st
from math_cases import RESPONSES, RIGHT, WRONG
from paths import ROOT, SHARED

from steer.grading.formulas.latex import normalised
from steer.grading.formulas.limits import MAX_NESTING, is_plausible, is_small, nesting
from steer.grading.formulas.numbers import as_number
from steer.grading.math import _symbolic, grade_math, readings

DATA = SHARED / "data"
needs_rows = pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")


def boxed(answer):
    return "Step by step.\n\nSo it is $\\boxed{" + answer + "}$."


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), RESPONSES)
def test_response(text, gold, correct, rule):
    verdict = grade_math(text, gold)
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_right_answer(answer, gold):
    assert grade_math(boxed(answer), gold).correct


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_wrong_answer(answer, gold):
    assert not grade_math(boxed(answer), gold).correct


def test_equality_does_not_ask_which_of_the_two_is_the_gold_answer():
    # But for the other readings of a gold answer, and for `m+n=34`, of which only an answer can mean its right side.
    pairs = [(answer, gold) for answer, gold in RIGHT if "=" not in answer and len(readings(gold)) == 1]
    assert len(pairs) > 100
    assert [pair for pair in pairs if not grade_math(boxed(pair[1]), pair[0]).correct] == []


def test_gold_readings_begin_with_the_answer_itself():
    assert readings(" 5 ") == ("5",)
    assert readings(r"\boxed{5}") == (r"\boxed{5}", "5")
    assert readings("$a$ OR $b$")[1:] == ("$a$", "$b$")


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9}}",
        "9^9^9",
        "10^{1000000}",
        "2^{2^{100}}",
        "1000000!",
        "3!!!",
        "(10^{9})!",
        "2^{30!}",
        r"\binom{1000000}{500000}",
        r"\sum_{a=1}^{9}\sum_{b=1}^{9}\sum_{c=1}^{9} a^b",
        "(" * 30 + "2" + ")" * 30 + r"\pi",
        r"\sqrt{2}+" * 100 + "1",
        "1" * 300 + r"\pi",
    ],
)
def test_what_is_too_large_is_refused_before_the_worker(answer):
    with cheap():
        verdict = grade_math(boxed(answer), r"5+\pi")
        assert (verdict.correct, verdict.rule) == (False, "boxed:refused")


@pytest.mark.parametrize(
    "answer",
    [
        "__import__('os').system('true')",
        r"\pi; import os",
        "lambda x: x",
        r"\input{file}",
        r"\int_0^1 \pi dx",
    ],
)
def test_what_is_no_mathematics_is_refused_before_the_worker(answer):
    _symbolic.cache_clear()
    # A list or a ratio differs from a formula by its shape already.
    assert grade_math(boxed(answer), r"x+\pi").rule in ("boxed:refused", "boxed:different")
    assert _symbolic.cache_info().currsize == 0


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 20_000,
        "{" * 200_000,
        r"\boxed{" + "{" * 60_000 + "}" * 60_000 + "}",
        r"\boxed{" + "{" * 900 + "}" * 900 + "}",
        r"\boxed{" + "(" * 1_900 + "}",
        "answer is " * 30_000,
        "1" * 200_000,
        "1," * 100_000,
        r"\boxed{" + "1," * 900 + "}",
        "1,111" * 40_000,
        "9/" * 100_000,
        "$" * 200_000,
        r"\(" * 100_000,
        r"\[ x \(" * 20_000,
        " " * 100_000,
        r"\boxed{" + r"\text{a" * 250 + "}" * 251,
        r"\boxed{" + r"\text{ cm}" * 200 + "}",
        r"\boxed{" + "x=" * 900 + "}",
        r"\boxed{" + "^" * 1_900 + "}",
        r"\boxed{" + r"\frac" * 300 + "}",
        r"\boxed{" + r"\sqrt[" * 300 + "}",
        r"\boxed{" + r"\pm" * 400 + "1}",
        r"\boxed{" + " or " * 400 + "}",
        r"\boxed{" + "<" * 1_900 + "}",
        "\x00\ud800\u2028" * 1000,
    ],
    ids=range(25),
)
def test_hostile_text_is_wrong_and_cheap(text):
    with cheap():
        assert not grade_math(text, r"\frac{5}{2}").correct
        assert not grade_math(text, r"x+\sqrt{5}").correct


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="\\{}()[]$^_,;.=<>|!&-+*/ 019axnN", max_size=60))
def test_any_text_has_a_canonical_form_and_keeps_it(text):
    once = normalised(text)
    assert isinstance(once, str)
    assert nesting(once) <= max(nesting(text) + 60, MAX_NESTING)
    is_plausible(once), is_small(once), as_number(once)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**30), 10**30), st.integers(1, 10**30))
def test_fractions_are_equal_only_if_they_are_the_same_number(over, under):
    gold = f"\\frac{{{over}}}{{{under}}}"
    assert grade_math(boxed(f"\\dfrac{{{3 * over}}}{{{3 * under}}}"), gold).correct
    assert not grade_math(boxed(f"\\frac{{{over + 1}}}{{{under}}}"), gold).correct


def test_numbers_of_any_length_are_read_or_refused_never_computed():
    assert as_number("1" * 200) is not None
    assert as_number("1" * 201) is None
    assert as_number("9^{9^{9}}") is None
    assert as_number("1e999999999") is None
    assert as_number(r"1\cdot10^{9999}") is None


def test_importing_the_graders_imports_no_algebra():
    code = "import sys, steer.grading; print([m for m in ('sympy', 'math_verify') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def rows(benchmark):
    return [json.loads(line) for line in (DATA / benchmark / "test.jsonl").read_text("utf-8").splitlines()]


@needs_rows
@pytest.mark.parametrize("benchmark", ["math500", "omni_math"])
def test_every_gold_answer_in_a_box_is_right(benchmark):
    golds = [row["answer"] for row in rows(benchmark)]
    assert [gold for gold in golds if not grade_math(boxed(gold), gold).correct] == []


@needs_rows
@pytest.mark.parametrize("benchmark", ["math500", "omni_math"])
def test_gold_answers_respelled_are_right(benchmark):
    def respelled(gold):
        yield gold.replace(r"\dfrac", r"\frac").replace(r"\frac", r"\tfrac")
        yield gold.replace("(", r"\left(").replace(")", r"\right)").replace(r"\left\left", r"\left")
        yield gold.replace("+", " + ").replace("-", " - ").replace("=", " = ")
        yield gold.replace(r"\leq", r"\le").replace(r"\cdot", r"\times")
        yield f"$ {gold} $"
        yield r"\displaystyle " + gold + "."

    # Some answers lack a brace, or have brackets that are sized already.
    golds = [row["answer"] for row in rows(benchmark) if row["answer"].count("{") == row["answer"].count("}")]
    plain = [gold for gold in golds if "\\(" not in gold and "\\left" not in gold]
    wrong = [(gold, form) for gold in plain for form in respelled(gold) if not grade_math(boxed(form), gold).correct]
    assert wrong == []


@needs_rows
@pytest.mark.parametrize("benchmark", ["math500", "omni_math"])
def test_the_gold_answer_of_another_row_is_wrong(benchmark):
    golds = [row["answer"] for row in rows(benchmark)]
    right = [
        (other, gold)
        for other, gold in zip(golds[11:] + golds[:11], golds, strict=True)
        if normalised(other) != normalised(gold) and grade_math(boxed(other), gold).correct
    ]
    assert right == []


@needs_rows
def test_worked_solutions_of_math500_are_right():
    results = [grade_math(row["solution"], row["answer"]).correct for row in rows("math500")]
    assert sum(results) >= 0.99 * len(results)
