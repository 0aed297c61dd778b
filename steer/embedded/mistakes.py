"""Plausible wrong steps for the training of the reward model and the judge."""

import random

from steer.embedded.labels import parse
from steer.embedded.tasks import ENTITIES, STEP_DELIMITER, Task, result


def wrong_step(rng: random.Random, task: Task, index: int) -> str:
    """A wrong step for place `index`: a false value, another name, or a true step from another place."""
    names, start, _ = parse(task.benchmark, task.question)
    values = [start, *(step.removesuffix(STEP_DELIMITER).split(" = ")[1] for step in task.steps[:-1])]
    while True:
        at = min(index, len(names) - 1)
        value, kind = _false_value(rng, task, names, values, at), rng.random()
        if kind < 0.2:
            wrong = task.steps[rng.choice([max(index - 1, 0), min(index + 1, len(names)), len(names)])]
        elif index == len(names):
            wrong = task.steps[-1].replace(values[-1], rng.choice([value, rng.choice(values)]))
        elif kind < 0.35:
            other = rng.choice(names)
            wrong = f"{other} = {rng.choice([values[at + 1], _follow(task, other, values[at])])}{STEP_DELIMITER}"
        else:
            wrong = f"{names[at]} = {value}{STEP_DELIMITER}"
        if wrong != task.steps[index]:
            return wrong


def _follow(task: Task, name: str, value: str) -> str:
    return result(task.benchmark, name, value, task.level)


def _false_value(rng: random.Random, task: Task, names: tuple[str, ...], values: list[str], at: int) -> str:
    """A value for step `at`, usually false: from a wrong fact, operation or predecessor, or with one wrong digit."""
    true, kind = values[at + 1], rng.randrange(4)
    if kind == 0:
        return _follow(task, rng.choice(names), values[at])
    if kind == 1:
        return _follow(task, names[at], rng.choice(values))
    if task.benchmark == "hops":
        anyone = rng.choice(ENTITIES[task.level])
        return anyone if kind == 2 else _follow(task, names[at], anyone)
    if kind == 2 and len(true) > 2:
        # Small models write another result from the operation's table, with the right last two digits.
        return _follow(task, names[at], f"{rng.randrange(10 ** len(true)):0{len(true)}d}")[:-2] + true[-2:]
    place = rng.randrange(len(true))
    return f"{true[:place]}{rng.randrange(10)}{true[place + 1 :]}"
