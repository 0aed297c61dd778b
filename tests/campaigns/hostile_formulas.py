"""Hostile formulas: short LaTeX whose value, expansion or parse is out of all proportion to its length.

Invariant: each is a function of the random state alone. Most draws are short enough to reach the comparison; a few are
too long for it, so that the length limit is met as well. None equals a gold of `hostile_outputs.GOLDS`.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from math import exp, log
from random import Random


def size(rng: Random, most: int, least: int = 1) -> int:
    """Between `least` and `most`, uniform in the logarithm: short texts are as frequent as long ones."""
    return min(most, round(exp(rng.uniform(log(least), log(most + 1)))))


def digits(rng: Random, most: int, least: int = 1) -> str:
    return str(rng.randint(1, 9)) + "".join(rng.choices("0123456789", k=size(rng, most, least)))


def nested(start: str, middle: str, end: str, depth: int) -> str:
    return start * depth + middle + end * depth


def joined(mark: str, parts: Iterator[object]) -> str:
    return mark.join(str(part) for part in parts)


def _letters(rng: Random, count: int) -> list[str]:
    return rng.choices("abcdfghjkmnpqrstuvwxyz", k=count)


def _matrix(rng: Random, rows: int, columns: int) -> str:
    body = joined(r" \\ ", (joined(" & ", (rng.randint(-9, 9) for _ in range(columns))) for _ in range(rows)))
    return rf"\begin{{pmatrix}} {body} \end{{pmatrix}}"


def _radical(rng: Random) -> str:
    return rf"\sqrt[{rng.randint(2, 9)}]{{{rng.randint(2, 99)}+{rng.randint(2, 9)}\sqrt{{{rng.randint(2, 99)}}}}}"


def _power(rng: Random) -> str:
    """An expansion with many terms: more letters than a polynomial in one, and a high power."""
    return f"({joined('+', rng.sample('abcdxyz', rng.randint(2, 5)))})^{{{size(rng, 200, 9)}}}"


def _continued(rng: Random, depth: int) -> str:
    return "".join(rf"{rng.randint(1, 9)}+\frac{{1}}{{" for _ in range(depth)) + "x" + "}" * depth


def _signs(rng: Random, count: int) -> str:
    return "".join(rng.choice((r"\pm", r"\mp")) + rng.choice((str(k), rf"\sqrt{{{k}}}")) for k in range(2, count + 2))


def _intervals(rng: Random, count: int) -> str:
    return joined(r"\cup", (f"({3 * k},{3 * k + rng.randint(1, 2)}]" for k in range(count)))


def _system(rng: Random) -> str:
    powers = (rng.randint(3, 11) for _ in range(9))
    return joined(", ", (f"x^{{{p}}}+{rng.randint(2, 9)}y^{{{p + 1}}}z-{rng.randint(2, 99)}=0" for p in powers))


def _wave(rng: Random) -> str:
    return rf"\{rng.choice(('sin', 'cos', 'tan'))}^{{{size(rng, 60, 2)}}}({rng.randint(2, 99)}x+{rng.randint(1, 9)}y)"


def _almost(rng: Random) -> str:
    """A value of the lists of golds but for a term that no floating-point number shows."""
    value = rng.choice((r"7919.25", r"\frac{613}{1009}", r"-3\sqrt{1009}", "q^7-13q+11"))
    return (
        value + rng.choice("+-") + rng.choice((f"10^{{-{digits(rng, 3, 2)}}}", rf"\frac{{1}}{{{digits(rng, 99, 20)}}}"))
    )


FORMULAS: dict[str, Callable[[Random], str]] = {
    # Values too large to write down.
    "power_tower": lambda rng: nested(f"{rng.randint(2, 9)}^{{", "9", "}", size(rng, 300, 2)),
    "power_of_powers_of_ten": lambda rng: nested("10^{", str(rng.randint(2, 99)), "}", rng.randint(2, 6)),
    "power_stars": lambda rng: "**".join(str(rng.randint(2, 99)) for _ in range(size(rng, 200, 3))),
    "power_long_exponent": lambda rng: f"{rng.randint(2, 99)}^{{{digits(rng, 40, 6)}}}",
    "power_negative": lambda rng: f"{rng.choice(('2', '0.5', '10', 'e'))}^{{-{digits(rng, 30, 6)}}}",
    "power_fractional": lambda rng: (
        rf"({digits(rng, 60, 9)}^{{{digits(rng, 9, 5)}}})^{{\frac{{1}}{{{digits(rng, 3)}}}}}"
    ),
    "power_complex": lambda rng: f"({rng.randint(1, 9)}+{rng.randint(1, 9)}i)^{{{digits(rng, 15, 4)}}}",
    "power_difference": lambda rng: f"({digits(rng, 9)}^{{{digits(rng, 9, 6)}}})-(2^{{{digits(rng, 9, 6)}}})",
    "power_of_powers": lambda rng: nested(
        "(", f"{rng.randint(2, 99)}+{rng.randint(2, 99)}", ")^{9999}", rng.randint(1, 5)
    ),
    "power_of_a_power_in_brackets": lambda rng: nested("x^(", "2", ")", size(rng, 300, 2)),
    "power_rational": lambda rng: rf"{rng.randint(2, 99)}^{{\frac{{{digits(rng, 4)}}}{{{digits(rng, 4)}}}}}+\sqrt{{2}}",
    "power_of_variables": lambda rng: (
        rng.choice(("q^{q^{%s}}", "x^{y^{%s}}", "(q^{%s})^{q}", "%s^{q^{q}}")) % digits(rng, 4)
    ),
    "power_modulo": lambda rng: nested("7^{", "7", "}", rng.randint(2, 9)) + rf" \bmod {digits(rng, 90)}",
    "factorial": lambda rng: rng.choice(("(10^{%s})!", "%s!", "(%s^2)!")) % digits(rng, 12, 4),
    "factorial_nested": lambda rng: nested("(", f"{rng.randint(4, 99)}!", ")!", size(rng, 40, 1)),
    "factorial_row": lambda rng: str(rng.randint(5, 99)) + "!" * size(rng, 500, 2),
    "factorial_power": lambda rng: f"({digits(rng, 3)}!)^{{{digits(rng, 4)}}}",
    "factorial_of_variables": lambda rng: (
        rng.choice(("(q^{%s})!", "(%sq)!", "q!^{%s}", r"\binom{q^{9}}{%s}")) % digits(rng, 3)
    ),
    "factorial_quotient": lambda rng: rf"\frac{{({digits(rng, 9, 4)})!}}{{({digits(rng, 9, 4)})!}}",
    "binomial": lambda rng: rf"\binom{{10^{{{rng.randint(5, 30)}}}}}{{5\cdot 10^{{{rng.randint(4, 29)}}}}}",
    "binomial_nested": lambda rng: nested(r"\binom{", "99", "}{40}", rng.randint(2, 20)),
    "scientific": lambda rng: f"{rng.randint(1, 9)}.{rng.randint(0, 99)}{rng.choice('eE')}{digits(rng, 12, 5)}",
    "scientific_times": lambda rng: rf"{rng.randint(1, 9)}.7\times 10^{{{rng.choice(('', '-'))}{digits(rng, 20, 6)}}}",
    "logarithm_tower": lambda rng: nested(r"\log(", f"10^{{{digits(rng, 12, 3)}}}", ")", size(rng, 60)),
    "exponential_tower": lambda rng: nested("e^{", rng.choice(("x", r"i\pi", "99")), "}", size(rng, 60, 2)),
    "exponential_calls": lambda rng: nested(rng.choice((r"\exp(", r"\cosh(", r"\sinh(")), "9", ")", size(rng, 60, 2)),
    "floor_of_a_power": lambda rng: rf"\lfloor \pi \cdot {rng.randint(2, 10)}^{{{digits(rng, 5)}}} \rfloor",
    "special_functions": lambda rng: rf"\Gamma({digits(rng, 15, 5)})+\zeta({digits(rng, 9)})",
    "divisors": lambda rng: rf"\gcd({digits(rng, 900, 99)}, {digits(rng, 900, 99)}) + \lcm(2^{{99999999}}, 3)",
    # Numbers that are long to read, to reduce or to take apart.
    "almost_the_gold": _almost,
    "decimal_long": lambda rng: digits(rng, 9_000) + "." + digits(rng, 9_000),
    "decimal_tiny": lambda rng: "0." + "0" * size(rng, 9_000, 9) + digits(rng, 20),
    "decimal_repeating": lambda rng: rf"0.{digits(rng, 9)}\overline{{{digits(rng, 900, 9)}}}",
    "fraction_long": lambda rng: rf"\frac{{{digits(rng, 900, 99)}}}{{{digits(rng, 900, 99)}}}",
    "fraction_chain": lambda rng: joined("/", (rng.randint(2, 99) for _ in range(size(rng, 700, 3)))),
    "fraction_short_forms": lambda rng: r"\frac12" * size(rng, 900, 2),
    "fraction_by_zero": lambda rng: (
        nested(r"\frac{", rng.choice("10x"), "}{0}", size(rng, 60)) + r"-\infty+\tan(\pi/2)"
    ),
    "root_of_a_semiprime": lambda rng: rf"\sqrt[{rng.randint(2, 7)}]{{{digits(rng, 400, 60)}}}",
    "commas": lambda rng: "1" + ",111" * size(rng, 9_000, 60),
    "commas_single": lambda rng: "1," * size(rng, 9_000, 60),
    "base_subscript": lambda rng: "".join(rng.choices("01", k=size(rng, 1_500, 99))) + "_{2}",
    "percent_chain": lambda rng: (
        str(rng.randint(2, 99)) + rng.choice((r"\%", "%", r"^\circ", r"\$")) * size(rng, 400, 2)
    ),
    "units": lambda rng: "5" + joined("", (rf"\text{{ {unit}}}" for unit in _letters(rng, size(rng, 200, 2)))),
    # Nesting, for parsers that recurse.
    "deep_braces": lambda rng: nested("{", "5", "}", size(rng, 20_000, 9)),
    "deep_parentheses": lambda rng: nested("(", "x", ")", size(rng, 20_000, 9)),
    "deep_brackets": lambda rng: nested("[", "5", "]", size(rng, 20_000, 9)),
    "deep_left_right": lambda rng: nested(r"\left(", "x+2", r"\right)", size(rng, 3_000, 9)),
    "deep_fractions": lambda rng: nested(r"\frac{1}{1+", "x", "}", size(rng, 4_000, 9)),
    "deep_roots": lambda rng: nested(r"\sqrt{2+", "3", "}", size(rng, 4_000, 9)),
    "deep_boxes": lambda rng: nested(r"\boxed{", "5", "}", size(rng, 4_000, 9)),
    "deep_text": lambda rng: nested(r"\text{", "five", "}", size(rng, 4_000, 9)),
    "deep_subscripts": lambda rng: nested("x_{", "x", "}", size(rng, 4_000, 9)),
    "deep_tuples": lambda rng: nested("(1,", "2", ")", size(rng, 4_000, 9)),
    "deep_absolute": lambda rng: nested(r"\left|x-", "1", r"\right|", size(rng, 400, 3)),
    "deep_floors": lambda rng: nested(r"\lfloor 1+", r"\pi^{99}", r"\rfloor", size(rng, 400, 3)),
    "deep_sines": lambda rng: nested(rng.choice((r"\sin(", r"\arctan(", r"\sec(")), "x", ")", size(rng, 400, 3)),
    "deep_commands_without_braces": lambda rng: (
        rng.choice((r"\sqrt", r"\frac", r"\binom", "√", "^", "_")) * size(rng, 900, 9)
    ),
    "deep_minus": lambda rng: nested("-(", "x", ")", size(rng, 600, 3)) + "-" * size(rng, 600) + "5",
    "deep_calls": lambda rng: nested("f(", "x", ")", size(rng, 900, 3)),
    "continued_fraction": lambda rng: _continued(rng, size(rng, 200, 3)),
    # Sums, products, integrals and limits that somebody might try to work out.
    "sum_infinite": lambda rng: (
        rf"\sum_{{n=1}}^{{\infty}} \frac{{\sin(n^{{{rng.randint(2, 9)}}})}}{{n^{{{rng.randint(2, 9)}}}}}"
    ),
    "sum_long": lambda rng: rf"\sum_{{k=1}}^{{10^{{{rng.randint(5, 30)}}}}} k^{{{digits(rng, 4)}}}",
    "sum_of_powers": lambda rng: rf"\sum_{{k=1}}^{{{digits(rng, 4)}}} \sum_{{j=1}}^{{{digits(rng, 4)}}} j^{{k}}",
    "sum_nested": lambda rng: nested(r"\sum_{k=1}^{10^{6}} (", "k^{k}", ")", rng.randint(2, 20)),
    "product_long": lambda rng: rf"\prod_{{k=1}}^{{10^{{{rng.randint(5, 30)}}}}} (k+{rng.randint(1, 9)})",
    "product_of_factorials": lambda rng: rf"\prod_{{k=1}}^{{{digits(rng, 5)}}} k!",
    "product_nested": lambda rng: nested(r"\prod_{n=1}^{999999} (", "n!", ")", rng.randint(2, 20)),
    "integral": lambda rng: (
        rf"\int_{{0}}^{{\infty}} e^{{-x^{{{rng.randint(3, 99)}}}}} \sin(x^{{{rng.randint(3, 99)}}}) dx"
    ),
    "integral_nested": lambda rng: nested(r"\int_{0}^{1} ", r"\sqrt{1+x^{7}}", " dx", rng.randint(2, 40)),
    "limit": lambda rng: rf"\lim_{{n \to \infty}} (1+\frac{{{rng.randint(2, 9)}}}{{n}})^{{n^{{{digits(rng, 6)}}}}}",
    "derivative": lambda rng: nested(r"\frac{d}{dx} (", "x^{x^{x}}", ")", size(rng, 60, 2)),
    # Algebra whose normal form is large.
    "polynomial_degree": lambda rng: f"(x+{rng.randint(1, 9)})^{{{digits(rng, 7, 4)}}}",
    "polynomial_roots": lambda rng: joined("", (f"(x-{k})" for k in range(1, size(rng, 300, 9)))),
    "polynomial_quotient": lambda rng: rf"\frac{{x^{{{digits(rng, 5, 3)}}}-1}}{{x^{{{digits(rng, 3)}}}-1}}",
    "expansion": lambda rng: "".join(_power(rng) for _ in range(rng.randint(1, 5))),
    "expansion_nested": lambda rng: nested("(", "x+y+z", "+a)^{9}", size(rng, 20, 2)),
    "rational_sum": lambda rng: joined(
        "+", (rf"\frac{{{v}}}{{{v}x+{k}}}" for k, v in enumerate(_letters(rng, size(rng, 60, 3))))
    ),
    "trigonometry": lambda rng: joined(rng.choice(("+", "")), (_wave(rng) for _ in range(size(rng, 40, 2)))),
    "trigonometry_huge_angle": lambda rng: rf"\sin(10^{{{digits(rng, 6, 2)}}})+\cos({digits(rng, 400, 9)})",
    "radicals_to_denest": lambda rng: joined("+", (_radical(rng) for _ in range(size(rng, 30, 2)))),
    "radicals_sum": lambda rng: joined(
        "+", (rf"\sqrt[{rng.randint(2, 7)}]{{{k}}}" for k in range(2, size(rng, 90, 5)))
    ),
    "variables": lambda rng: joined("+", (f"a_{{{k}}}" for k in range(size(rng, 300, 9)))),
    "implicit_product": lambda rng: "".join(_letters(rng, size(rng, 1_900, 9))),
    "cases": lambda rng: (
        r"\begin{cases} " + joined(r" \\ ", (f"x^{{{k}}} & x>{k}" for k in range(size(rng, 99, 3)))) + r" \end{cases}"
    ),
    # Many values, relations or signs at once.
    "matrix": lambda rng: _matrix(rng, size(rng, 60, 2), size(rng, 60, 2)),
    "matrix_power": lambda rng: _matrix(rng, n := rng.randint(2, 9), n) + f"^{{{digits(rng, 9, 4)}}}",
    "matrix_determinant": lambda rng: rf"\det {_matrix(rng, n := rng.randint(5, 20), n)}",
    "set": lambda rng: r"\{" + joined(",", (rng.randint(0, 9_999) for _ in range(size(rng, 4_000, 50)))) + r"\}",
    "set_of_formulas": lambda rng: r"\{" + joined(",", (_radical(rng) for _ in range(size(rng, 60, 5)))) + r"\}",
    "list_of_expressions": lambda rng: joined(
        ", ", (f"{_power(rng)}+{_radical(rng)}" for _ in range(size(rng, 20, 2)))
    ),
    "tuple": lambda rng: "(" + joined(", ", chain(range(size(rng, 4_000, 50)), "x")) + ")",
    "intervals": lambda rng: _intervals(rng, size(rng, 2_000, 5)),
    "equals_chain": lambda rng: joined("=", (f"{v}^{{{k}}}" for k, v in enumerate(_letters(rng, size(rng, 400, 3))))),
    "sign_chain": lambda rng: "x" + _signs(rng, size(rng, 120, 5)),
    "inequality_chain": lambda rng: joined(rng.choice(("<", r"\le ", r"\neq ")), _letters(rng, size(rng, 700, 3))),
    "system": lambda rng: _system(rng),
    "or_chain": lambda rng: joined(r"\text{ or }", (f"x={k}\\pm\\sqrt{{{k}}}" for k in range(2, size(rng, 200, 4)))),
}
