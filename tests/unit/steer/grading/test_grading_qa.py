"""Grader `qa`: exact match and token F1 after SQuAD's normalisation, and the real MuSiQue rows."""

import json

import pytest
from cheap import cheap
from paths import SHARED

from steer.grading import grade
from steer.grading.qa import normalised, token_f1

DATA = SHARED / "data" / "musique"

CASES = [
    ("The answer is Ada Moss.", "Ada Moss", True, "answer_is:answer"),
    ("The answer is the  MOSS!", "Moss", True, "answer_is:answer"),
    ("the final answer is: Ada Moss", "Ada Moss", True, "answer_is:answer"),
    ("**Answer**: Ada Moss", "Ada Moss", True, "answer_is:answer"),
    ("**Answer:** **Ada Moss**", "Ada Moss", True, "answer_is:answer"),
    ("Answer is:\n\nAda Moss\nas said", "Ada Moss", True, "answer_is:answer"),
    ("ANSWER: ADA MOSS", "Ada Moss", True, "answer_is:answer"),
    ("The answer is Rome. No: the answer is Ada Moss.", "Ada Moss", True, "answer_is:answer"),
    ("The answer is Ada Moss.\nThat is all.", "Ada Moss", True, "answer_is:answer"),
    ('The answer is "Ada Moss".', "Ada Moss", True, "answer_is:answer"),
    ("The answer is “Ada Moss”.", "Ada Moss", True, "answer_is:answer"),
    ("The answer is `Ada Moss`", "Ada Moss", True, "answer_is:answer"),
    ("The answer is An apple a day", "apple day", True, "answer_is:answer"),
    ("The answer is Theatre", "atre", False, "answer_is:different"),
    ("The answer is Ada Moss or Ada Vale", "Ada Moss", False, "answer_is:different"),
    ("The answer is not Ada Moss", "Ada Moss", False, "answer_is:different"),
    ("The answer is Ada", "Ada Moss", False, "answer_is:different"),
    ("The answer is ...", "", False, "answer_is:different"),
    ("The answer is the", "The", True, "answer_is:answer"),
    ("The answer is NYC", "New York", True, "answer_is:alias"),
    ("The answer is the Big Apple", "New York", True, "answer_is:alias"),
    ("The answer is N.Y.C.", "New York", True, "answer_is:alias"),
    ("The answer is New York", "New York", True, "answer_is:answer"),
    (r"\boxed{Ada Moss}", "Ada Moss", True, "boxed:answer"),
    (r"\boxed{\text{Ada Moss}}", "Ada Moss", True, "boxed:answer"),
    (r"\boxed{\textbf{Ada} \text{ Moss}}", "Ada Moss", True, "boxed:answer"),
    (r"\boxed{\text{Ada}\ \text{Moss}}", "Ada Moss", True, "boxed:answer"),
    (r"\boxed{\mathrm{Ada\,Moss}}", "Ada Moss", True, "boxed:answer"),
    (r"$\boxed{\$72,641}$", "$72,641", True, "boxed:answer"),
    (r"\boxed{48\%}", "48%", True, "boxed:answer"),
    (r"\boxed{\text{NYC}}", "New York", True, "boxed:alias"),
    (r"Answer: \boxed{\text{New York}}", "new york", True, "boxed:answer"),
    (r"The answer is \boxed{Rome}, not Paris", "Rome", True, "boxed:answer"),
    (r"\boxed{Paris} but the answer is Rome", "Rome", True, "answer_is:answer"),
    (r"The answer is Paris; after a check: \boxed{Rome}", "Rome", True, "boxed:answer"),
    (r"\boxed{Paris} \boxed{Rome}", "Rome", True, "boxed:answer"),
    (r"\boxed{The answer is Rome}", "Rome", True, "answer_is:answer"),
    (r"\boxed{\boxed{Rome}}", "Rome", True, "boxed:answer"),
    (r"\boxed{Rome} and \boxed{Par", "Rome", True, "boxed:answer"),
    (r"\boxed{}", "Rome", False, "boxed:different"),
    (r"\boxed{,}", "!", False, "boxed:different"),
    ("Ada Moss", "Ada Moss", True, "whole:answer"),
    ("  ada moss.\n", "Ada Moss", True, "whole:answer"),
    ("NYC", "New York", True, "whole:alias"),
    ("I do not know", "Ada Moss", False, "whole:different"),
    ("The answer isn't known", "Ada Moss", False, "whole:different"),
    ("x" * 2_001, "Ada Moss", False, "none"),
    ("The answer is", "Ada Moss", False, "whole:different"),
    ("", "Ada Moss", False, "none"),
    (" \n", "", False, "none"),
    ("The answer is 1950-1953", "1950–1953)", True, "answer_is:answer"),
    ("The answer is Hewlett-Packard", "Hewlett Packard", False, "answer_is:different"),
    ("The answer is O’Hara", "O'Hara", True, "answer_is:answer"),
    ("The answer is Cafe\u0301 Noir", "Café Noir", True, "answer_is:answer"),
    ("The answer is Cafe Noir", "Café Noir", False, "answer_is:different"),
    ("The answer is Ada\u200b Moss\u2060\u202c", "Ada Moss", True, "answer_is:answer"),
    ("The answer is Ada\x00 Moss", "Ada Moss", True, "answer_is:answer"),
    ("The answer is Ada\u00a0Moss", "Ada Moss", True, "answer_is:answer"),
    ("The answer is Ada\tMoss", "Ada Moss", True, "answer_is:answer"),
]

EMPTIED = [
    (r"\boxed{A}", "A", True),
    ("The answer is a.", "A", True),
    ("The answer is The The.", "The The", True),
    (r"\boxed{\text{the  the}}", "The The", True),
    ("!!!", "!!!", True),
    ("The answer is !!!.", "!!!", True),
    ('The answer is "!!!".', "!!!", True),
    ("**Answer**: **?**", "?", True),
    (r"\boxed{+}", "+", True),
    ("The", "A", False),
    ("The", "The The", False),
    ("!", "!!!", False),
    ("?", "!", False),
    ("the !!!", "!!!", False),
    ("+", "-", False),
    (r"\boxed{}", "", False),
    (r"\boxed{ }", "?", False),
]
SYMBOLS = [
    ("C++", "C", False),
    ("C#", "C", False),
    ("C++", "C#", False),
    ("Q+", "Q", False),
    ("LGBTQ+", "LGBTQ", False),
    ("€60", "60", False),
    ("-60", "60", False),
    ("3.5", "35", False),
    ("3.5 million", "35 million", False),
    ("c++", "C++", True),
    (r"\text{C}++", "C++", True),
    (r"\text{C\#}", "C#", True),
    ("C♯", "C#", True),
    ("A+", "the A+", True),
    ("60 %", "60%", True),
    (r"60\%", "60%", True),
    (r"\$60", "$60", True),
    ("$1,060$", "$1,060", True),
    ("$1,060$", "1060", True),
    (r"$\$1{,}060$", "$1060", True),
    ("−60 °C", "-60 °C", True),
    ("3.5.", "3.5", True),
]
AS_OFFICIALLY = [
    ("60%", "60"),
    ("$60", "60"),
    ("U.S.", "US"),
    ("AC/DC", "ACDC"),
    ("Jay-Z", "JayZ"),
    ("O'Hara", "OHara"),
    ("M*A*S*H", "MASH"),
    ("R&B", "RB"),
    ("#1", "1"),
    ("Yahoo!", "Yahoo"),
    ("Ada + Moss", "Ada Moss"),
    ("1,500", "1500"),
    ("1.500", "1500"),
    ("10:30", "1030"),
    ("12.5.1990", "1251990"),
    ("1950-1953", "1950–1953"),
    ("B-52", "B52"),
    ("- 60", "60"),
]
LAST_STATEMENT = [
    (r"Put it into \boxed{}. The answer is Rome.", "Rome", True, "answer_is:answer"),
    (r"The answer is Rome. \boxed{}", "Rome", True, "answer_is:answer"),
    (r"\boxed{your answer} The answer is Rome.", "Rome", True, "answer_is:answer"),
    (r"\boxed{\text{final answer here}} Answer: Rome", "Rome", True, "answer_is:answer"),
    (r"\boxed{Rome} I hope that the answer is correct.", "Rome", True, "boxed:answer"),
    (r"\boxed{Paris}? No. The answer is Rome.", "Paris", False, "answer_is:different"),
]

F1 = [
    ("The answer is Ada Moss", "Ada Moss", [], 1.0),
    ("The answer is Ada", "Ada Moss", [], 2 / 3),
    ("The answer is Ada Ada", "Ada Moss", [], 1 / 2),
    ("The answer is the Ada Moss of York", "Ada Moss", [], 2 / 3),
    ("The answer is Moss, Ada", "Ada Moss", [], 1.0),
    ("The answer is Vale", "Ada Moss", [], 0.0),
    ("The answer is Vale", "Ada Moss", ["Ada Vale"], 2 / 3),
    ("The answer is Ada Vale", "Ada Moss", ["Ada Vale", "Vale"], 1.0),
    ("The answer is ...", "...", [], 1.0),
    ("", "Ada Moss", [], 0.0),
]


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), CASES, ids=range(len(CASES)))
def test_exact_match(text, gold, correct, rule):
    verdict = grade(text, gold, "qa", {"aliases": ["NYC", "The Big Apple"]})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "correct"), EMPTIED, ids=range(len(EMPTIED)))
def test_an_answer_of_which_normalisation_leaves_nothing_equals_itself_alone(text, gold, correct):
    verdict = grade(text, gold, "qa", {})
    assert (verdict.correct, verdict.f1 == 1.0) == (correct, correct)


@pytest.mark.parametrize(("answer", "gold", "correct"), SYMBOLS, ids=range(len(SYMBOLS)))
def test_a_symbol_of_a_name_or_a_number_counts(answer, gold, correct):
    for form in (r"\boxed{ANSWER}", "The answer is ANSWER", "ANSWER"):
        verdict = grade(form.replace("ANSWER", answer), gold, "qa", {})
        assert (verdict.correct, verdict.f1 == 1.0) == (correct, correct)


@pytest.mark.parametrize(("answer", "gold"), AS_OFFICIALLY, ids=range(len(AS_OFFICIALLY)))
def test_other_punctuation_is_removed_as_the_squad_script_does(answer, gold):
    assert grade(rf"\boxed{{{answer}}}", gold, "qa", {}).correct
    assert grade(rf"\boxed{{{gold}}}", answer, "qa", {}).correct


@pytest.mark.parametrize(("text", "gold", "correct", "rule"), LAST_STATEMENT, ids=range(len(LAST_STATEMENT)))
def test_the_last_statement_counts_and_an_empty_box_is_none(text, gold, correct, rule):
    verdict = grade(text, gold, "qa", {})
    assert (verdict.correct, verdict.rule) == (correct, rule)


@pytest.mark.parametrize(("text", "gold", "aliases", "f1"), F1, ids=range(len(F1)))
def test_f1_is_the_best_over_gold_and_aliases(text, gold, aliases, f1):
    assert grade(text, gold, "qa", {"aliases": aliases}).f1 == pytest.approx(f1)


def test_extracted_answer_is_as_written():
    assert grade(r"\boxed{\text{Ada Moss}}", "Ada Moss", "qa", {}).extracted == r"\text{Ada Moss}"
    assert grade("The answer is the Moss.", "Moss", "qa", {}).extracted == "the Moss."


def test_normalisation_is_that_of_squad():
    assert normalised("The U.S. Marshal, a  man") == "us marshal man"
    assert normalised("“Café” — l’été") == "café lété"
    assert token_f1("", "") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "answer is " * 30_000,
        r"\boxed{" * 30_000,
        r"\boxed{" + r"\text{" * 250 + "a" + "}" * 251,
        "The answer is " + "a " * 900,
        "." * 200_000,
        "\u202e" * 200_000,
    ],
    ids=range(6),
)
def test_hostile_text_is_wrong_and_cheap(text):
    with cheap():
        assert not grade(text, "Ada Moss", "qa", {"aliases": ["the"] * 50}).correct


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark rows are not here")
def test_real_golds_and_aliases_are_right_and_other_golds_are_wrong():
    path = next(DATA.glob("*.jsonl"))
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for row in rows:
        gold, labels = row["answer"], {"aliases": row["answer_aliases"]}
        for right in (gold, *row["answer_aliases"]):
            for form in ("First.\n\nSo the answer is %s.", r"First.\n\n\boxed{%s}", r"\boxed{\text{%s}}", "%s"):
                verdict = grade(form.replace("%s", right), gold, "qa", labels)
                assert verdict.correct and verdict.f1 == 1.0, (form, right)
        accepted = {normalised(right) for right in (gold, *row["answer_aliases"])}
        for other in {row["answer"] for row in rows}:
            if normalised(other) not in accepted:
                verdict = grade(rf"\boxed{{{other}}}", gold, "qa", labels)
                assert not verdict.correct and verdict.f1 < 1.0, (gold, other)
    assert len(rows) >= 150
