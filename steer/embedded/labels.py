"""Which steps of a response are right: the question's text alone decides, worked out again from the facts.

Invariant: a step is right exactly if it equals the true step at its place. After a wrong, a missing or an extra step a
later one is right only where it happens to be the true one again.
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
    """(operations or relations, start as written, level) of a question; ValueError if it is none of the benchmark."""
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
    """The whole right response, step by step; the last step is the answer. ValueError as of `parse`."""
    names, start, level = parse(benchmark, question)
    return (solve_chain_math(names, int(start), level) if benchmark == "chain_math" else solve_hops(names, start))[1]


def split_steps(response: str) -> tuple[str, ...]:
    """A response cut after each blank line; together the steps are the response."""
    *steps, last = response.split(STEP_DELIMITER)
    return (*(step + STEP_DELIMITER for step in steps), *([last] if last else []))


def step_labels(benchmark: str, question: str, steps: Sequence[str]) -> list[bool]:
    """For each step (with its blank line, the answer without one) whether it is right. ValueError as of `parse`."""
    truth = true_steps(benchmark, question)
    return [i < len(truth) and step == truth[i] for i, step in enumerate(steps)]
