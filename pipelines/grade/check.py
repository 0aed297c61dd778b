"""`steer data --check-grading`: whether a benchmark's grader knows its own gold answers, before a run depends on it.

Each gold is graded as a response that gives it in the form the prompt asks for, and as a response to the next rows
whose gold is another text. Of the first all should be right, of the second none but answers that are truly equal, which
are listed.
"""

import json
from collections.abc import Sequence

from steer.benchmarks import load_benchmark
from steer.config.load import refusals_as_settings_errors
from steer.config.run import BenchmarkConfig
from steer.grading import grade
from steer.traces import Question

SWAPS = 5
"""Other rows' golds that each row is given."""
SHOWN = 20


def check_grading(config: BenchmarkConfig) -> str:
    """What to print. Raises SettingsError for a benchmark that cannot be read."""
    with refusals_as_settings_errors():
        benchmark = load_benchmark(config.model_copy(update={"split": "all"}))
    questions = [row.question for row in benchmark.rows if not row.error]
    wrong = [q for q in questions if not _right(q, q.gold)]
    swaps = [(q, other) for i, q in enumerate(questions) for other in _others(questions, i)]
    equal = [(q.gold, other) for q, other in swaps if _right(q, other)]
    lines = [
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


def _others(questions: Sequence[Question], i: int) -> list[str]:
    """Golds of the rows that follow (from the start again at the end), none of them this row's or an alias of it."""
    known = {questions[i].gold, *json.loads(questions[i].labels).get("aliases", ())}
    found: dict[str, None] = {}
    for j in range(1, len(questions)):
        gold = questions[(i + j) % len(questions)].gold
        if gold not in known:
            found[gold] = None
        if len(found) == SWAPS:
            break
    return list(found)
