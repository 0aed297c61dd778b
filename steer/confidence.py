"""From token logits to step scores: which tokens of a step count, and what is made of them (docs/method.md).

Invariant: whether a character is math depends on the text alone, never on where tokens are cut.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from steer.traces import SCORES, Measured

_PLAIN = r"\d²³¹⁰-₎\-+*/=<>^%|~±×÷·¬√∞←-⇿∀-⋿⟀-⟯⦀-⫿"
"""Digits, superscripts, operators and relations: those of ASCII, and Unicode's blocks of arrows and mathematical
operators. Each character is judged by itself: the hyphen of `step-by-step` counts."""
_PLAIN_SIGN = re.compile(f"[{_PLAIN}]")
_SIGN = re.compile(
    rf"""
      \\boxed\s*\{{           # opens a span
    | \\[A-Za-z]+             # a command
    | \\.                     # a control symbol: \( \) \[ \] open and close spans, \$ \{{ \}} escape
    | \\                      # a text can end before the command's name
    | \$\$? | [{{}}]
    | [{_PLAIN}]+
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSER = {"\\(": "\\)", "\\[": "\\]", "$": "$", "$$": "$$"}


@dataclass(frozen=True, slots=True)
class SpanState:
    """The LaTeX span that is open at the end of a step. The next step of the trace begins inside it."""

    opener: str = ""
    r"""`\(`, `\[`, `$`, `$$` or `\boxed{`; empty if no span is open."""
    depth: int = 0
    r"""Open braces inside `\boxed{`, its own included."""


CLOSED = SpanState()


def math_mask(token_texts: Sequence[str], state: SpanState = CLOSED) -> tuple[npt.NDArray[np.bool_], SpanState]:
    r"""Which tokens hold a math character (bool [T]), and the span that is open after them. Raises on no text.

    A math character is a digit, an operator or relation, part of a LaTeX command, or any character inside `\(..\)`,
    `\[..\]`, `$..$`, `$$..$$` or `\boxed{..}`, delimiters included. Spans do not nest: inside a span only its own
    closer is looked for. `\boxed{}` closes after as many `}` as `{`. A span that is never closed stays open, as after
    the lone `$` of a price.
    """
    if not state.opener:
        joined = "".join(token_texts)
        if "\\" not in joined and "$" not in joined:
            # No span and no command: looking at single characters is enough and takes a third of the time.
            return np.array([_PLAIN_SIGN.search(text) is not None for text in token_texts], bool), state
    else:
        joined = "".join(token_texts)
    mark, state = _math_characters(joined, state)
    keep, start = [], 0
    for text in token_texts:
        end = start + len(text)
        keep.append(mark.find(1, start, end) >= 0)
        start = end
    return np.array(keep, bool), state


def _math_characters(text: str, state: SpanState) -> tuple[bytearray, SpanState]:
    """A byte for each character of `text`, 1 if it is math, and the span that is open at the end."""
    mark = bytearray(len(text))
    opener, depth, opened = state.opener, state.depth, 0
    for match in _SIGN.finditer(text):
        sign, start, end = match[0], match.start(), match.end()
        if not opener:
            if sign in _CLOSER:
                opener, opened = sign, start
            elif sign.startswith("\\boxed") and sign.endswith("{"):
                opener, depth, opened = "\\boxed{", 1, start
            elif sign not in "{}":
                mark[start:end] = b"\1" * (end - start)
            continue
        if opener == "\\boxed{":
            depth += sign.endswith("{") and not sign.endswith("\\{")
            depth -= sign == "}"
            over = depth == 0
        elif opener == "$" and sign == "$$":
            over = False  # one span ends and the next one begins: $a$$b$
        else:
            over = sign == _CLOSER.get(opener)
        if over:
            mark[opened:end] = b"\1" * (end - opened)
            opener = ""
    if opener:
        mark[opened:] = b"\1" * (len(text) - opened)
    return mark, SpanState(opener, depth) if opener else CLOSED


def chosen_tokens(
    rule: str, token_texts: Sequence[str], is_eos_T: Sequence[bool], state: SpanState = CLOSED
) -> tuple[npt.NDArray[np.bool_], SpanState]:
    """Which tokens of a step its score averages over (bool [T]), and the span that is open after the step.

    rule: `math` or `all`. A step without a math token falls back to all its tokens. An end-of-sequence token never
    counts, so a step of nothing else keeps no token. Under `all` no span is followed and the state is returned as it
    was. Raises ValueError on any other rule.
    """
    counts_T = ~np.asarray(is_eos_T, bool)
    if rule == "all":
        return counts_T, state
    if rule != "math":
        raise ValueError(f"tokens: {rule!r} is neither math nor all")
    math_T, state = math_mask(token_texts, state)
    math_T &= counts_T
    return (math_T if math_T.any() else counts_T), state


WINDOW_TOKENS = 16
"""Length of the windows whose lowest mean is the aggregate `window`. Shorter than the shortest sentence of a real step
it is as nervous as a single token; as long as a step (57 tokens on one real pair) it is the mean."""
TENTH = 10
"""One in so many tokens, the least sure ones, is in the mean that is the aggregate `tenth`."""


def token_measures(
    z_max_T: npt.ArrayLike, lse_T: npt.ArrayLike, entropy_T: npt.ArrayLike, margin_T: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """The measures of T tokens in the order of `MEASURES`, a larger value being surer: [T, 4].

    z_max_T: largest raw logit. lse_T: log-sum-exp of the raw logits. entropy_T: nats. margin_T: the largest less the
    second largest raw logit.
    """
    z_max = np.asarray(z_max_T, np.float64)
    max_prob = np.exp(z_max - np.asarray(lse_T, np.float64))
    return np.stack([z_max, -np.asarray(entropy_T, np.float64), max_prob, np.asarray(margin_T, np.float64)], axis=-1)


def step_scores(measures_T4: npt.NDArray[np.float64], keep_T: npt.NDArray[np.bool_]) -> Measured:
    """The scores [S] of a step over its kept tokens, in the order of `steer.traces.score_columns`.

    measures_T4: what `token_measures` returns; tokens that are not kept may be NaN. For each measure: the `mean` (Eq.
    6, 7), the `min`, the lowest mean of `WINDOW_TOKENS` kept tokens in a row (`window`; of all, if there are fewer),
    and the mean of the lowest tenth, at least one token (`tenth`). The scores are NaN if no token is kept.
    """
    kept = measures_T4[keep_T]
    n = len(kept)
    if not n:
        return (*(nan,) * (SCORES - 1), 0.0)
    mean = kept.sum(axis=0) / n
    least = kept.min(axis=0)
    window = mean
    if n > WINDOW_TOKENS:
        sums = np.cumsum(kept, axis=0)
        sums[WINDOW_TOKENS:] -= sums[:-WINDOW_TOKENS].copy()
        window = sums[WINDOW_TOKENS - 1 :].min(axis=0) / WINDOW_TOKENS
    lowest = -(-n // TENTH)
    tenth = least if lowest == 1 else np.partition(kept, lowest - 1, axis=0)[:lowest].mean(axis=0)
    return (*mean.tolist(), *least.tolist(), *window.tolist(), *tenth.tolist(), float(n))
