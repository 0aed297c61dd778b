"""Hostile model outputs, made up from a seed: what the graders must survive without running, hanging or crediting it.

Invariants: the same seed and canary give the same outputs; `count` outputs hold every kind equally often (within one).
The kinds are those of `hostile_formulas` (costly to work out), `hostile_code` (would create the canary file if run) and
`hostile_text` (hard to read).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from campaigns.hostile_code import CODE
from campaigns.hostile_formulas import FORMULAS
from campaigns.hostile_text import TEXTS

KINDS = (*FORMULAS, *CODE, *TEXTS)

GOLDS: dict[str, tuple[str, ...]] = {
    "math": (
        "7919.25",
        r"\frac{613}{1009}",
        "q^7-13q+11",
        r"-3\sqrt{1009}",
        "(17, -29)",
        r"\text{heliotrope}",
        "[[N]]",
    ),
    "aime": ("613", "829"),
    "choice": ("A", "D"),
    "qa": ("Ada Lovelace", "The Heliotrope of 1871"),
    "kor": ("[[heliotrope]]", "[[q=17;w=29]]"),
    "exact": ("heliotrope", r"\frac{613}{1009}"),
}
"""By grader: answers that no hostile output gives, but for a letter or three digits that happen to stand in it."""

LABELS: dict[str, Any] = {
    "aliases": ["Augusta Ada King"],
    "options": ["load the crate", "drive north", "wait", "lift the block"],
    "subset": "logic",
    "rule_id": "5",
}

_STATEMENTS: tuple[Callable[[str], str], ...] = (
    lambda attack: rf"\boxed{{{attack}}}",
    lambda attack: rf"So $\boxed{{{attack}}}$.",
    lambda attack: rf"Therefore \[ \boxed{{\text{{{attack}}}}} \]",
    lambda attack: f"The answer is {attack}",
    lambda attack: f"The final answer is: ${attack}$.",
    lambda attack: f"**Answer:** {attack}",
    lambda attack: f"[[{attack}]]",
    lambda attack: f"Step 1.\n\n[[ {attack} ]]\n\n" + rf"\boxed{{{attack}}} and the answer is {attack}.",
)
"""Where a grader looks for an answer: from inside one of these an attack reaches the comparison."""


def hostile_outputs(count: int, seed: int, canary: Path) -> Iterator[tuple[str, str]]:
    """`count` pairs of a kind's name and an output of that kind."""
    rng = Random(seed)
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        if kind in CODE:
            attack = CODE[kind](rng, str(canary))
        else:
            attack = (FORMULAS.get(kind) or TEXTS[kind])(rng)
        # A text is an output in itself: every other one stays as it is.
        bare = rng.random() < (0.5 if kind in TEXTS else 0.1)
        yield kind, attack if bare else rng.choice(_STATEMENTS)(attack)
