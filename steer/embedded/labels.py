"""Which steps of a response are right. The true steps are computed again from the question's text and the facts.

Invariant: a step is right exactly if it equals the true step at its place. After a wrong, missing or extra step, a
later step is right only if it happens to equal the true step again.
"""

import re
from collections.abc import Sequence

from steer.embedded.tasks import (
    CHAIN_LENGTHS,
    ENTITIES,
    LEVEL_OPERATIONS,
    LEVELS,
    OPERATIONS,
    RELATIONS,
    STEP_DELIMITER,
    solve_chain_math,
    solve_hops,
)

_QUESTIONS = {
    "chain_math": re.compile(r"Operations: ([a-z, ]+)\. Start: ([0-9]+)"),
    "hops": re.compile(r"Relations: ([a-z, ]+)\. Start: ([A-Za-z ]+)"),
}


def parse(benchmark: str, question: str) -> tuple[tuple[str, ...], str, int]:
    """The operations or relations of a question, its start as written, and its level.

    Raises ValueError if the text is not a question of the benchmark.
    """
    if benchmark not in _QUESTIONS:
        raise ValueError(f"no embedded benchmark {benchmark!r}; there are {', '.join(_QUESTIONS)}")
    if match := _QUESTIONS[benchmark].fullmatch(question):
        names, start = tuple(match[1].split(", ")), match[2]
        for level in LEVELS:
            known, starts_here = RELATIONS, start in ENTITIES[level]
            if benchmark == "chain_math":
                known, starts_here = OPERATIONS[LEVEL_OPERATIONS[level]], len(start) == level
            shortest, longest = CHAIN_LENGTHS[benchmark][level]
            if starts_here and shortest <= len(set(names)) == len(names) <= longest and set(names) <= set(known):
                return names, start, level
    raise ValueError(f"no question of {benchmark}: {question!r}")


def true_steps(benchmark: str, question: str) -> tuple[str, ...]:
    """The steps of the right response; the last step is the answer. Raises ValueError like `parse`."""
    names, start, level = parse(benchmark, question)
    return (solve_chain_math(names, int(start), level) if benchmark == "chain_math" else solve_hops(names, start))[1]


def split_steps(response: str) -> tuple[str, ...]:
    """Split a response after each blank line. The steps, joined, are the response."""
    *steps, last = response.split(STEP_DELIMITER)
    return (*(step + STEP_DELIMITER for step in steps), *([last] if last else []))


def step_labels(benchmark: str, question: str, steps: Sequence[str]) -> list[bool]:
    """Whether each step is right. A step includes its blank line; the last has none. Raises ValueError like `parse`."""
    truth = true_steps(benchmark, question)
    return [i < len(truth) and step == truth[i] for i, step in enumerate(steps)]
