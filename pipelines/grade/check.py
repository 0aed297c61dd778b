"""`steer data --check-grading`: check that a benchmark's grader knows its gold answers, before a run depends on it.

Each row's gold answer is graded as the response to it, in the form that the prompt asks for: that should be right. The
gold answers of other rows, if their texts differ, are graded as responses to it, too: those should be wrong, unless
they are truly equal. Those that are graded right are listed.
"""

import json
from collections.abc import Sequence
from itertools import islice

from pipelines.report.printed import first_of
from steer.benchmarks import load_benchmark
from steer.config.load import refusals_as_settings_errors
from steer.config.run import BenchmarkConfig
from steer.grading import grade
from steer.traces import Question

SWAPS = 5
"""How many other rows' gold answers are graded for each row."""
SHOWN = 20
"""Listed lines of each kind."""


def check_grading(config: BenchmarkConfig) -> str:
    """The text to print. Raises SettingsError for a benchmark that cannot be read."""
    with refusals_as_settings_errors():
        benchmark = load_benchmark(config.model_copy(update={"split": "all"}))
    questions = [row.question for row in benchmark.rows if not row.error]
    wrong = [q for q in questions if not _right(q, q.gold)]
    swaps = [(q, other) for q, swapped in zip(questions, others(questions), strict=True) for other in swapped]
    equal = [(q.gold, other) for q, other in swaps if _right(q, other)]
    refusals = [row.error for row in benchmark.rows if row.error]
    refused = [f"refused, and not graded here: {len(refusals)} rows", *first_of(refusals, SHOWN)] if refusals else []
    lines = [
        *refused,
        f"gold in the form that the prompt asks for: {len(questions) - len(wrong)} of {len(questions)} right",
        *(f"  not right: {q.id}: {q.gold}" for q in wrong[:SHOWN]),
        f"another row's gold of another text: {len(equal)} of {len(swaps)} right",
        *(f"  taken as equal: {gold}   {other}" for gold, other in dict.fromkeys(equal[:SHOWN])),
    ]
    return "\n".join(lines)


def asked_form(gold: str, grader: str) -> str:
    """A short response that states an answer as the benchmarks' prompts ask for it."""
    if grader == "kor":
        return f"So it is this.\n\n{gold if gold.startswith('[[') else f'[[{gold}]]'}"
    return f"So it is this.\n\nThe answer is \\boxed{{{gold}}}."


def _right(question: Question, answer: str) -> bool:
    response = asked_form(answer, question.grader)
    return grade(response, question.gold, question.grader, json.loads(question.labels)).correct


def others(questions: Sequence[Question]) -> list[list[str]]:
    """For each row, gold answers of the rows that follow, cyclically: `SWAPS` of them at most, without those that are
    its own gold or an alias of it. Takes time linear in the rows, however few distinct golds there are."""
    found: list[list[str]] = []
    # The distinct golds of the rows that follow, the next one last.
    following: dict[str, None] = {}
    for place, question in enumerate(reversed([*questions, *questions])):
        if place >= len(questions):
            known = {question.gold, *json.loads(question.labels).get("aliases", ())}
            found.append(list(islice((gold for gold in reversed(following) if gold not in known), SWAPS)))
        following.pop(question.gold, None)
        following[question.gold] = None
    return found[::-1]
