"""Ordinary model outputs, made up from a seed: some reasoning, then an answer that is right or wrong by construction.

Invariant: every case knows whether it is right, so a measurement of speed also shows wrong verdicts.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from random import Random
from typing import Any, NamedTuple


class Case(NamedTuple):
    text: str
    gold: str
    labels: Mapping[str, Any]
    correct: bool


_SENTENCES = (
    "First we write down what is given and name the unknown $x$.",
    "Since $a + b = 12$ and $ab = 35$, the two numbers are $5$ and $7$.",
    "The crate is at the dock, so the truck has to drive there before anything can be loaded.",
    "Substituting gives \\[ x^2 - 4x + 3 = 0, \\] which factors as $(x-1)(x-3)$.",
    "All of the options but one can be ruled out by the second paragraph.",
    "However, this counts each pair twice; we divide by 2.",
    "Let me check this once more with a small example: for n = 3 we get 6, as expected.",
    "Therefore the ratio is $\\frac{3}{4}$ of the original, that is 75\\%.",
)
_SQUARE_FREE = (2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19, 21, 22, 23, 26, 29, 30, 31, 33, 34, 35, 37, 38, 39, 41)


def ordinary_outputs(grader: str, count: int, seed: int) -> list[Case]:
    """`count` cases for one grader. About two thirds of them are right."""
    rng = Random(f"{grader} {seed}")
    return [_CASES[grader](rng) for _ in range(count)]


def _reasoned(rng: Random, answer: str) -> str:
    steps = rng.choices(_SENTENCES, k=rng.randint(3, 30))
    return "\n\n".join(steps) + "\n\n" + answer


def _math(rng: Random) -> Case:
    """Half of the gold answers are numbers, three in ten are fractions, roots and sums, the others words, tuples and
    sets."""
    draw = rng.random()
    gold, right, wrong = (_number if draw < 0.5 else _formula if draw < 0.8 else _other)(rng)
    correct = rng.random() < 0.67
    answer = right if correct else wrong
    statement = rng.choice(
        ("So the answer is $\\boxed{%s}$.", "\\boxed{%s}", "The answer is $%s$.", "\\[ \\boxed{%s} \\]")
    )
    return Case(_reasoned(rng, statement.replace("%s", answer)), gold, {}, correct)


def _number(rng: Random) -> tuple[str, str, str]:
    """(gold, the same in another form, something else)."""
    value = rng.choice((rng.randint(0, 99), rng.randint(100, 999_999), -rng.randint(1, 99)))
    right = rng.choice(
        (str(value), f"{value:,}", f"x={value}", f"{value}\\text{{ cm}}", f"{value}.0", f"{value}^\\circ")
    )
    return str(value), right, str(value + rng.choice((-1, 1, 10, 100)))


def _formula(rng: Random) -> tuple[str, str, str]:
    a, b, c = rng.randint(2, 199), rng.randint(2, 199), rng.choice(_SQUARE_FREE)
    return rng.choice(
        (
            (rf"\frac{{{a}}}{{{b}}}", rf"\frac{{{a * c}}}{{{b * c}}}", rf"\frac{{{a + 1}}}{{{b}}}"),
            (rf"{a}\sqrt{{{c}}}", rf"\sqrt{{{a * a * c}}}", rf"\sqrt{{{a * a * c + 1}}}"),
            (rf"\frac{{\sqrt{{{c}}}}}{{{c}}}", rf"\frac{{1}}{{\sqrt{{{c}}}}}", rf"\frac{{2}}{{\sqrt{{{c}}}}}"),
            (f"(x+{a})(x+{b})", f"x^2+{a + b}x+{a * b}", f"x^2+{a + b}x+{a * b + 1}"),
            (rf"\frac{{{a}\pi}}{{{b}}}", rf"\frac{{{a}}}{{{b}}}\pi", rf"\frac{{{a + 1}\pi}}{{{b}}}"),
            (f"{a}x+{b}y", f"{b}y+{a}x", f"{a}y+{b + a}x"),
            (f"2^{{{a % 60}}}", str(2 ** (a % 60)), str(2 ** (a % 60) + 1)),
            (rf"{a}+{b}\sqrt{{{c}}}", rf"{b}\sqrt{{{c}}}+{a}", rf"{a}-{b}\sqrt{{{c}}}"),
        )
    )


def _other(rng: Random) -> tuple[str, str, str]:
    a, b = rng.randint(1, 199), rng.randint(200, 399)
    half = Fraction(2 * a + 1, 2)
    name = rng.choice(("Evelyn", "Tuesday", "blue", "even", "ellipse"))
    return rng.choice(
        (
            (rf"\text{{{name}}}", name, "Ramona"),
            (rf"\left( {a}, {b} \right)", f"({a},{b})", f"({b},{a})"),
            (rf"[{a},{b})", rf"\left[{a}, {b}\right)", rf"({a}, {b}]"),
            (rf"\{{{a}, {b}\}}", rf"\{{{b},{a}\}}", rf"\{{{a}, {b + 1}\}}"),
            (f"({half.numerator}/2, {b})", rf"\left(\frac{{{half.numerator}}}{{2}}, {b}\right)", f"({a}, {b})"),
            (
                rf"\begin{{pmatrix}} {a} \\ {b} \end{{pmatrix}}",
                rf"\begin{{pmatrix}}{a}\\{b}\end{{pmatrix}}",
                rf"\begin{{pmatrix}}{b}\\{a}\end{{pmatrix}}",
            ),
            (rf"x \in (-\infty, {a}]", rf"(-\infty,{a}]", rf"(-\infty,{a})"),
        )
    )


def _aime(rng: Random) -> Case:
    gold, correct = rng.randint(0, 999), rng.random() < 0.67
    answer = gold if correct else (gold + rng.randint(1, 998)) % 1000
    statement = rng.choice((f"\\boxed{{{answer:03d}}}", f"\\boxed{{{answer}}}", f"The answer is {answer}."))
    return Case(_reasoned(rng, statement), str(gold), {}, correct)


def _choice(rng: Random) -> Case:
    gold, correct = rng.choice("ABCD"), rng.random() < 0.67
    letter = gold if correct else rng.choice([other for other in "ABCD" if other != gold])
    statement = rng.choice((rf"\boxed{{{letter}}}", f"The answer is {letter}.", rf"\boxed{{\text{{({letter})}}}}"))
    return Case(_reasoned(rng, statement), gold, {"letters": "ABCD"}, correct)


def _qa(rng: Random) -> Case:
    first, last = rng.choice(("Ada", "Ivo", "Mira")), f"{rng.choice(('Moss', 'Vale', 'Thorn'))}{rng.randint(1, 999)}"
    right = rng.choice((f"{first} {last}", f"the {first.upper()} {last}.", f"{last}, {first}"))
    correct = rng.random() < 0.67
    statement = rng.choice(("The answer is %s.", r"\boxed{%s}")).replace("%s", right if correct else f"{first} Lund")
    return Case(_reasoned(rng, statement), f"{first} {last}", {"aliases": [f"{last} {first}"]}, correct)


def _kor(rng: Random) -> Case:
    parts, correct = [f"{name}={rng.randint(0, 99)}" for name in rng.sample("pqrstu", 3)], rng.random() < 0.67
    answer = "; ".join(parts) if correct else "; ".join(parts[:2])
    return Case(
        f"[[{answer}]]\n\n" + _reasoned(rng, ""), f"[[{';'.join(parts)}]]", {"subset": "logic", "rule_id": "1"}, correct
    )


def _exact(rng: Random) -> Case:
    gold, correct = f"route-{rng.randint(0, 9_999)}", rng.random() < 0.67
    return Case(_reasoned(rng, rf"\boxed{{{gold if correct else 'route-x'}}}"), gold, {}, correct)


_CASES: dict[str, Callable[[Random], Case]] = {
    "math": _math,
    "aime": _aime,
    "choice": _choice,
    "qa": _qa,
    "kor": _kor,
    "exact": _exact,
}
