"""Gold answers that are taken for readable without asking their grader: the grader agrees, and is not asked."""

import random
import string

import pytest

from steer.grading import golds, grade
from steer.grading.golds import unreadable_gold

LETTERS = {"letters": string.ascii_uppercase}
PIECES = [
    *(
        "a",
        "The ",
        "answer",
        "is",
        "12",
        "07",
        ".",
        "-",
        "'",
        ",",
        " ",
        "?",
        "x^2",
        "\\frac{1}{2}",
        "\\",
        "{",
        "}",
        "$",
    ),
    *("...", "_", "your answer", "letter here", "(", ")", "null", "[", "]", "\\text{", "\\}", "</s>", "e", "٣", "é"),
    *("\n", "%", "\\%", "=", "or", "\\boxed{1}", "<|end|>", "\u200b"),
]


def stating(gold):
    return (f"\\boxed{{{gold}}}", f"The answer is {gold}", gold)


@pytest.mark.parametrize("grader", ["math", "qa", "exact", "aime", "choice"])
def test_a_gold_that_is_not_refused_is_right_when_it_is_given_back(grader):
    draw = random.Random(7)
    tried = ["".join(draw.choices(PIECES, k=draw.randint(1, 4))) for _ in range(400)]
    tried += [*string.ascii_uppercase, *(str(draw.randrange(1000)) for _ in range(40))]
    readable = [gold for gold in tried if unreadable_gold(grader, gold, LETTERS) is None]
    assert len(readable) > 20
    assert not [g for g in readable if not any(grade(said, g, grader, LETTERS).correct for said in stating(g))]


@pytest.mark.parametrize(
    ("grader", "gold"),
    [
        ("math", "12"),
        ("math", "-0.5"),
        ("math", r"\frac{3}{7}"),
        ("math", r"x^2+3x-\sqrt{3}"),
        ("math", r"\left( 3, \frac{\pi}{2} \right)"),
        ("aime", "070"),
        ("choice", "C"),
        ("qa", "New York"),
        ("exact", "O'Hara 2.5"),
    ],
)
def test_reading_ordinary_golds_asks_no_grader(monkeypatch, grader, gold):
    def asked(*_):
        raise AssertionError("a row would take ten times as long to read")

    monkeypatch.setattr(golds, "verdict", asked)
    assert unreadable_gold(grader, gold, {}) is None
