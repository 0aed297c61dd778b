"""The program of the symbolic worker: it decides whether two canonical answers are equal as mathematics.

`worker.Worker` runs it as `python -m steer.grading.formulas.symbolic CPU_SECONDS MEMORY_BYTES`. It reads requests from
standard input and writes replies to standard output. Each is a length (four bytes, big-endian) and a JSON object. This
is the only module that imports math_verify and sympy.

How two formulas are compared: math-verify's parser reads both. Constants are equal if their difference has no
significant digit in `MAX_DIGITS` digits. Formulas with variables are equal if that holds at every point of a fixed
sample where both are real. Formulas that numbers cannot decide go to math-verify's `verify`, with the gold first and
without time-outs. They do not go there first, because its tolerance (six decimals for floats, fifteen digits absolute)
makes `1/2^{2012}` equal to 0.

Invariants: the timer of the CPU limit starts before a request is processed, and it kills the process whatever the
request is doing; a reply depends on its request alone; no text is evaluated or passed to `sympify`.
"""

import json
import os
import random
import re
import resource
import select
import signal
import struct
import sys
from collections.abc import Iterator
from functools import lru_cache

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from math_verify import verify
from sympy.core.function import AppliedUndef

from steer.grading.formulas.forms import same, shape
from steer.grading.formulas.latex import explicit

MAX_DIGITS = 3_000
"""Digits to which a difference of constants is computed. Without its last term, 4^2017 - 2*3^2017 + 2^2017 differs only
in the 607th digit."""

POINT_DIGITS = 1_000
"""Digits at a sample point. They are fewer because there are many points."""

POINTS = (*("fraction",) * 3, *("fraction mixed",) * 3, *("integer",) * 4, *("integer mixed",) * 2)
"""The kinds of the sample's points, in order. The first point already separates most formulas."""

ENOUGH_POINTS = 3
"""Number of points at which two formulas must agree to count as equal."""

_FEW_BITS = 10
"""A difference with more significant bits than this is not zero."""

IDLE_S = 5.0
"""How often an idle worker checks that its parent is alive. A closed pipe is not enough: a forked sibling may hold it
open."""

_HEADER = struct.Struct(">I")
_PLAIN_LOG = re.compile(r"\\log(?!_)")
_DISCRETE = (sympy.floor, sympy.ceiling, sympy.factorial, sympy.binomial, sympy.Sum, sympy.Product)
_UNWANTED = (sympy.Derivative, sympy.Integral, sympy.Limit)
_CONTINUOUS_NAMES = frozenset("xyz")


class SymbolicLeaf:
    """The leaf of `forms.same` that decides every pair of formulas."""

    unread = False
    """Whether some formula could not be parsed."""

    def equal(self, gold: str, answer: str) -> bool:
        # Without a base, log means the natural logarithm to some authors and the decimal one to others.
        readings = (True, False) if _PLAIN_LOG.search(gold + answer) else (True,)
        return any(self._equal(parsed(gold, natural), parsed(answer, natural)) for natural in readings)

    def proportional(self, gold: str, answer: str, signed: bool) -> bool:
        one, other = parsed(gold, True), parsed(answer, True)
        if one is None or other is None:
            self.unread = True
            return False
        return proportional(one, other, signed)

    def _equal(self, gold: sympy.Basic | None, answer: sympy.Basic | None) -> bool:
        if gold is None or answer is None:
            self.unread = True
            return False
        return equal(gold, answer)


def decide(gold: str, answer: str) -> str:
    """`same`, `different`, or `refused` if a formula could not be parsed."""
    leaf = SymbolicLeaf()
    if same(shape(gold), shape(answer), leaf):
        return "same"
    return "refused" if leaf.unread else "different"


@lru_cache(maxsize=4096)
def parsed(text: str, natural: bool) -> sympy.Basic | None:
    """The unevaluated expression of one formula; None if it could not be parsed."""
    try:
        read = latex2sympy(
            explicit(_PLAIN_LOG.sub(r"\\ln", text) if natural else text),
            is_real=True,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
        if isinstance(read, sympy.MatrixBase):
            read = sympy.ImmutableMatrix(read)
        if not isinstance(read, sympy.Basic) or (isinstance(read, sympy.Expr) and read.has(*_UNWANTED)):
            return None
        return read.subs({symbol: sympy.I for symbol in read.free_symbols if symbol.name == "i"})
    except MemoryError:
        raise
    except Exception:
        # Whatever the parser raises on text that is not LaTeX means the same: the text cannot be parsed.
        return None


def equal(gold: sympy.Basic, answer: sympy.Basic) -> bool:
    """Whether two expressions have the same value; with variables, at every point of the sample."""
    if gold == answer:
        return True
    matrices = [_is_matrix(read) for read in (gold, answer)]
    if any(matrices):
        return all(matrices) and _equal_matrices(_worked_out(gold), _worked_out(answer))
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        verdict = _equal_values(gold, answer)
        if verdict is not None:
            return verdict
    return bool(verify(gold, answer, timeout_seconds=None))


def _is_matrix(value: sympy.Basic) -> bool:
    # sympy does not take a power of a matrix with numbers for a matrix before it is worked out.
    return bool(value.is_Matrix or (isinstance(value, sympy.Pow) and value.base.is_Matrix))


def _worked_out(value: sympy.Basic) -> sympy.MatrixBase:
    """The matrix that a sum, product or power of matrices is. Raises what sympy raises where the shapes do not fit."""
    value = value.doit()
    return value if isinstance(value, sympy.MatrixBase) else value.as_explicit()


def _equal_matrices(gold: sympy.MatrixBase, answer: sympy.MatrixBase) -> bool:
    return gold.shape == answer.shape and all(equal(one, other) for one, other in zip(gold, answer, strict=True))


def proportional(gold: sympy.Basic, answer: sympy.Basic, signed: bool) -> bool:
    """Whether the quotient of two expressions is a constant; with `signed`, a positive constant."""
    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr):
        return False
    first = None
    agreed = 0
    for values in _sample(gold, answer):
        zeros = [same_number(value, sympy.S.Zero, POINT_DIGITS) for value in values]
        if zeros == [True, True]:
            continue
        first = first or values
        if True in zeros or not same_number(first[0] * values[1], first[1] * values[0], POINT_DIGITS):
            return False
        if signed and not (values[0] / values[1]).evalf().is_positive:
            return False
        agreed += 1
    return agreed >= ENOUGH_POINTS


def _equal_values(gold: sympy.Expr, answer: sympy.Expr) -> bool | None:
    """Whether two expressions have equal values; None if they hold a function without values, such as `\\tau(n)`."""
    if not gold.free_symbols | answer.free_symbols:
        gold, answer = _evaluated(gold), _evaluated(answer)
        verdict = same_number(gold, answer, MAX_DIGITS)
        # If the numbers have more digits than are computed, only exact arithmetic decides.
        return bool(verdict and (_is_moderate(gold, answer) or sympy.simplify(gold - answer) == 0))
    if gold.has(AppliedUndef) or answer.has(AppliedUndef):
        return None
    agreed = 0
    for one, other in _sample(gold, answer):
        verdict = same_number(one, other, POINT_DIGITS)
        if verdict is False:
            return False
        agreed += verdict is True
    return agreed >= ENOUGH_POINTS


def same_number(one: sympy.Expr, other: sympy.Expr, digits: int) -> bool | None:
    """Whether two constants are equal to so many digits; None if one of them has no numerical value."""
    difference = one - other
    if difference.is_Rational:
        return bool(difference.is_zero)
    parts = difference.evalf(10, maxn=digits).as_real_imag()
    if not all(part.is_Float or part.is_Rational for part in parts):
        return None
    if any(part != 0 and (part.is_Rational or part._prec > _FEW_BITS) for part in parts):
        return False
    # A difference without a significant digit leaves floats of about one bit. It must also be small.
    sizes = [abs(value.evalf(10, maxn=digits)) for value in (one, other)]
    known = [size for size in sizes if size.is_Rational or (size.is_Float and size._prec > _FEW_BITS)]
    small = max([size * sympy.Float("1e-30") for size in known] + [sympy.Float(10) ** (-digits // 2)])
    return True if all(abs(part) <= small for part in parts) else None


def _is_moderate(*values: sympy.Expr) -> bool:
    """Whether every power, factorial and integer in the values has fewer than `MAX_DIGITS` digits."""
    for value in values:
        for part in value.atoms(sympy.Pow, sympy.factorial, sympy.Integer):
            size = sympy.log(abs(part), 10).evalf(5) if part != 0 else 0
            if not (size < MAX_DIGITS and size > -MAX_DIGITS):
                return False
    return True


def _sample(gold: sympy.Expr, answer: sympy.Expr) -> Iterator[tuple[sympy.Expr, sympy.Expr]]:
    """The values of both expressions at the points of the sample.

    A point counts only if all parts of both expressions are real there, or if one of them holds the imaginary unit. The
    points are fractions (first positive, then of mixed signs), then integers (likewise). If an expression counts or
    rounds (`n!`, `\\lfloor n/2\\rfloor`), all variables other than x, y and z are positive integers.
    """
    names = sorted(gold.free_symbols | answer.free_symbols, key=str)
    discrete = gold.has(*_DISCRETE) or answer.has(*_DISCRETE)
    is_complex = gold.has(sympy.I) or answer.has(sympy.I)
    draw = random.Random(0)
    for kind in POINTS:
        point = {}
        for name in names:
            size, under, sign = draw.randint(3, 40), draw.choice((7, 11, 13)), draw.choice((-1, 1))
            counts = discrete and name.name not in _CONTINUOUS_NAMES
            value = sympy.Rational(size, under) if kind.startswith("fraction") and not counts else sympy.Integer(size)
            point[name] = sign * value if kind.endswith("mixed") and not counts else value
        if is_complex or (_is_real(gold, point) and _is_real(answer, point)):
            values = _evaluated(gold.subs(point)), _evaluated(answer.subs(point))
            if not any(value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo) for value in values):
                yield values


def _is_real(value: sympy.Expr, point: dict[sympy.Symbol, sympy.Expr]) -> bool:
    """Whether every even root and every logarithm in the value has a nonnegative argument at this point."""
    for part in value.atoms(sympy.Pow, sympy.log):
        inside = part.args[0].subs(point)
        if isinstance(part, sympy.Pow) and (part.args[1].subs(point).is_integer or _is_odd_root(part)):
            continue
        if inside.is_number and inside.evalf(10).is_negative:
            return False
    return True


def _evaluated(value: sympy.Expr) -> sympy.Expr:
    """Evaluate the sums, products and roundings of a constant exactly, because digits alone prove nothing about them.

    Odd roots of negative numbers become real, as authors mean `\\sqrt[3]{-8}`.
    """
    if value.has(sympy.Sum, sympy.Product, sympy.floor, sympy.ceiling):
        value = value.doit()
    return (
        value if value.has(sympy.I) or not any(map(_is_odd_root, value.atoms(sympy.Pow))) else _with_real_roots(value)
    )


def _is_odd_root(part: sympy.Basic) -> bool:
    return isinstance(part, sympy.Pow) and part.exp.is_Rational and part.exp.q > 1 and part.exp.q % 2 == 1


def _with_real_roots(value: sympy.Expr) -> sympy.Expr:
    return value.replace(
        lambda part: _is_odd_root(part) and part.base.evalf(10).is_negative,
        lambda part: (-1) ** part.exp.p * sympy.Pow(-part.base, part.exp),
    )


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    cpu_s, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Standard output is the pipe for replies, so whatever a library prints must go to /dev/null.
    replies = os.dup(1)
    os.dup2(2, 1)
    parent = os.getppid()
    # An empty reply says that the worker is ready. If it ends before that, the parent raises WorkerError.
    os.write(replies, _HEADER.pack(0))
    while (request := _request(parent)) is not None:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        out_of_memory = False
        try:
            verdict = decide(request["gold"], request["answer"])
        except MemoryError:
            verdict, out_of_memory = "refused", True
        except Exception:
            # Whatever sympy raises on a formula that it cannot handle only means that the answer is not right.
            verdict = "refused"
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        reply = json.dumps({"verdict": verdict}).encode()
        os.write(replies, _HEADER.pack(len(reply)) + reply)
        if out_of_memory:
            return


def _request(parent: int) -> dict[str, str] | None:
    """The next request; None once the parent is gone."""
    while not select.select([0], [], [], IDLE_S)[0]:
        if os.getppid() != parent:
            return None
    header = _read(_HEADER.size)
    body = _read(_HEADER.unpack(header)[0]) if header else None
    return json.loads(body) if body else None


def _read(size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            return None
        data += part
    return data


if __name__ == "__main__":
    main()
