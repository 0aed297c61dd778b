"""Which steps of a response are right. The true steps are computed again from the question's text and the facts.

Invariant: a step is right exactly if it equals the true step at its place. After a wrong, missing or extra step, a
later step is right only if it happens to equal the true step again.
"""

import re
from collections.abc import Sequence

from steer.embedded.tasks import (
    CHAIN_LENGTHS,
    EASY_OPERATIONS,
    ENTITIES,
    HARD_OPERATIONS,
    LEVEL_OPERATIONS,
    LEVELS,
    MIXED_DIGITS,
    OPERATIONS,
    RELATIONS,
    STEP_DELIMITER,
    Task,
    solve,
)

_OPERATIONS = re.compile(r"Operations: ([a-z, ]+)\. Start: ([0-9]+)")
_QUESTIONS = {
    "chain_math": _OPERATIONS,
    "mixed_chain": _OPERATIONS,
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
            known, of_level = RELATIONS, start in ENTITIES[level]
            if benchmark == "chain_math":
                known, of_level = OPERATIONS[LEVEL_OPERATIONS[level]], len(start) == level
            elif benchmark == "mixed_chain":
                known = EASY_OPERATIONS + HARD_OPERATIONS
                of_level = len(start) == MIXED_DIGITS and sum(name in HARD_OPERATIONS for name in names) == level - 1
            shortest, longest = CHAIN_LENGTHS[benchmark][level]
            if of_level and shortest <= len(set(names)) == len(names) <= longest and set(names) <= set(known):
                return names, start, level
    raise ValueError(f"no question of {benchmark}: {question!r}")


def true_steps(benchmark: str, question: str) -> tuple[str, ...]:
    """The steps of the right response; the last step is the answer. Raises ValueError like `parse`."""
    names, start, level = parse(benchmark, question)
    return solve(benchmark, names, start, level)[1]


def hard_steps(task: Task) -> list[bool]:
    """Whether each step of a task of `mixed_chain`, the answer apart, needs a fact from a table."""
    return [name in HARD_OPERATIONS for name in parse(task.benchmark, task.question)[0]]


def split_steps(response: str) -> tuple[str, ...]:
    """Split a response after each blank line. The steps, joined, are the response."""
    *steps, last = response.split(STEP_DELIMITER)
    return (*(step + STEP_DELIMITER for step in steps), *([last] if last else []))


def step_labels(benchmark: str, question: str, steps: Sequence[str]) -> list[bool]:
    """Whether each step is right. A step includes its blank line; the last has none. Raises ValueError like `parse`."""
    truth = true_steps(benchmark, question)
    return [i < len(truth) and step == truth[i] for i, step in enumerate(steps)]
