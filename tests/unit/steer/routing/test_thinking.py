"""Groups of models that think: budgets, thoughts that are closed for a model, what the tables say of them."""

import random

import numpy as np
import pytest
from scripted import Script, drive, new_group, one_score, questions, two_camps
from test_group import POLICIES

from actors.router.journal import Journal
from actors.router.journaled_group import JournaledGroup
from actors.router.pool import Reply
from steer.config.policy import LargePolicy, RandomQueryPolicy, RandomStepPolicy, SmallPolicy, SteerPolicy
from steer.grading import grade
from steer.messages import Ahead, Op, StepResults
from steer.mixture.bank import ScoreBank
from steer.routing.accounting import Pending
from steer.routing.replay import GroupSnapshot
from steer.routing.rows import KeptPiece
from steer.routing.thinking import Thinking
from steer.storage.tables import routed_table
from steer.traces import SCORES, Finish, Model, Status

TAG = "</think>"
BOTH = (TAG, TAG)
ANSWER = "The answer is \\boxed{7}."
TOKENS = 10
"""Of every whole step."""
BUDGET = 35
N = 24


def thought_of(trace):
    """Steps of a trace's thought: 20 to 70 tokens."""
    return 2 + trace % 6


class ThinkingEngine:
    """Writes `thought(trace)` steps of thought, the closing tag behind the last, two steps, and an answer.

    It goes by the text that is kept alone, and writes no more tokens than a row may. `room`: tokens that its context
    holds. A pass comes back after every step.
    """

    def __init__(self, thought=thought_of, room=10_000, closes=True):
        self.thought, self.room, self.closes = thought, room, closes
        self.most = {}
        """By trace: the most tokens that a row of it was given."""

    def answer(self, group, rows):
        columns = [[] for _ in range(6)]
        message, more, still_open = [], {}, set()
        for r, row in enumerate(rows):
            steps = self._steps(group, row)
            if row.op == Op.AHEAD:
                scores = one_score(two_camps(row.trace, 0, row.role))
                more[len(message)] = tuple(Ahead(f, text, tuple(range(n)), scores) for f, text, n in steps[1:])
                steps = steps[:1]
            if row.op in (Op.STEP, Op.WHOLE):
                steps = steps[:1]
            for finish, text, n in steps:
                message.append(r)
                ids = tuple(range(n)) if text else ()
                score = one_score(two_camps(row.trace, len(text), row.role))
                for column, value in zip(columns, (finish, text, ids, n, score, 0.5), strict=True):
                    column.append(value)
            if row.op == Op.WRITE_ON:
                still_open |= set(range(len(message) - len(steps), len(message) - 1))
        finish, text, ids, tokens, scores, signals = columns
        results = StepResults(
            row_R=list(range(len(message))),
            finish_R=finish,
            text_R=text,
            ids_R=ids,
            tokens_R=tokens,
            prompt_tokens_R=[0] * len(message),
            cached_tokens_R=[0] * len(message),
            scores_RS=np.array(scores).reshape(-1, SCORES),
            seconds_R=[0.1] * len(message),
            signal_R=signals,
            more_R=more,
            open_R=frozenset(still_open),
            replica="thinking",
        )
        return [rows[r] for r in message], results

    def _steps(self, group, row):
        """(finish, text, tokens) of all that the row writes."""
        if row.op in (Op.PEEK, Op.JUDGE, Op.SCORE, Op.REWARD, Op.SOLVE):
            return [(Finish.STEP.value, "", int(row.op in (Op.PEEK, Op.JUDGE)))]
        self.most[row.trace] = max(self.most.get(row.trace, 0), row.max_tokens)
        text = "".join(piece.text for piece in group.prefix_L[row.trace])
        left, steps = min(row.max_tokens, self.room - group._used_L[row.trace]), []
        while True:
            finish, step = self._next(row.trace, text)
            if left < TOKENS:
                return [*steps, (Finish.LENGTH.value, step[:1], left)]
            steps.append((finish, step, TOKENS))
            text, left = text + step, left - TOKENS
            if finish == Finish.END:
                return steps

    def _next(self, trace, text):
        thought, closed, answer = text.partition(TAG)
        if not closed:
            last = thought.count("t\n\n") + 1 >= self.thought(trace)
            if last and not self.closes:
                return Finish.END.value, ANSWER
            return Finish.STEP.value, f"t\n{TAG}\n\n" if last else "t\n\n"
        return (Finish.STEP.value, "a\n\n") if answer.count("a\n\n") < 2 else (Finish.END.value, ANSWER)


def run(group, engine):
    finished = []
    for _ in range(10_000):
        rows = group.decide()
        finished += group.take_finished()
        if not group.live:
            return {trace.question.id: trace for _, trace in finished}
        group.apply(*engine.answer(group, rows))
    raise AssertionError("the group did not end")


def table(traces):
    return {row["question_id"]: row for row in routed_table(list(traces.values()), [], [1.0] * 5).to_pylist()}


@pytest.mark.parametrize("way", ["strict", "rolling", "write_on"])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_thought_takes_its_budget_and_not_a_token_more(policy, way):
    routing = {"barrier": "rolling", "write_on": True} if way == "write_on" else {"barrier": way}
    engine = ThinkingEngine()
    group = new_group(policy, n=N, bank=ScoreBank(), closing_tags=BOTH, thought_tokens=BUDGET, **routing)
    rows = table(run(group, engine))
    assert len(rows) == N
    for i in range(N):
        row = rows[f"q{i}"]
        kept = [step for step in row["step_rows"] if step["accepted"]]
        assert (row["status"], row["text"].count(TAG), row["closing_tag"]) == (Status.ANSWERED, 1, TAG)
        assert row["text"] == "".join(step["text"] for step in kept)
        assert row["thought_cut"] == (TOKENS * thought_of(i) > BUDGET)
        assert row["tokens_thought"] == min(BUDGET, TOKENS * thought_of(i))
        assert row["steps_thought"] == sum(step["thought"] for step in kept)
        # A row that writes several steps is bounded from the start, so it may come back within a step of the answer.
        assert row["steps"] - row["steps_thought"] in ((3, 4) if Op.AHEAD in group._ops or way == "write_on" else (3,))
        assert [step["thought"] for step in kept] == sorted((step["thought"] for step in kept), reverse=True)
        spent = row["tokens_small"] + row["tokens_large"]
        peeks = policy.name == "first_token_entropy"
        assert peeks or spent == sum(step["tokens"] for step in kept) + row["tokens_discarded"]
        assert grade(row["text"], "7", "math", {}, TAG).correct
        assert engine.most[i] > BUDGET, "the answer has the rest"


def test_a_thought_that_is_closed_shows_the_tag_behind_its_last_step_and_costs_no_token():
    traces = run(new_group(LargePolicy(), n=6, closing_tags=BOTH, thought_tokens=BUDGET), ThinkingEngine())
    cut = traces["q5"]
    assert [(step.text, step.tokens) for step in cut.steps] == [
        *[("t\n\n", 10)] * 3,
        (f"t\n{TAG}\n\n", 5),
        *[("a\n\n", 10)] * 2,
        (ANSWER, 10),
    ]
    assert [step.decision for step in cut.steps] == ["large"] * 6 + ["end"]
    assert {step.finish for step in cut.steps[:-1]} == {"step"}
    assert (cut.tokens_large, cut.tokens_discarded) == (65, 0)
    at_a_boundary = run(new_group(SmallPolicy(), n=6, closing_tags=BOTH, thought_tokens=30), ThinkingEngine())["q5"]
    assert at_a_boundary.text.startswith(f"t\n\nt\n\nt\n\n{TAG}\n\na")


def test_replicas_are_sent_the_tag_as_a_piece_of_text_between_the_steps():
    group = new_group(LargePolicy(), n=1, closing_tags=BOTH, thought_tokens=15)
    engine = ThinkingEngine(lambda trace: 9)
    for _ in range(2):
        group.apply(*engine.answer(group, group.decide()))
    (row,) = group.decide()
    texts = [piece.text for piece in group.prefix_L[0]]
    assert texts == ["", "t\n\n", "t", f"\n{TAG}\n\n"]
    assert group.prefix_L[0][-1].ids == texts[-1], "no model's ids: each encodes it"
    assert row.max_tokens == group.options.max_new_tokens - 15


def test_without_a_budget_the_trace_alone_bounds_the_thought():
    engine = ThinkingEngine(lambda trace: 50)
    traces = run(new_group(SmallPolicy(), n=2, closing_tags=BOTH, max_new_tokens=75), engine)
    for row in table(traces).values():
        assert (row["status"], row["thought_cut"], row["tokens_thought"]) == (Status.LENGTH, False, 75)
        assert grade(row["text"], "7", "math", {}, TAG).rule == "unclosed_thought"


def test_a_context_that_is_full_ends_the_trace_within_its_thought_too():
    engine = ThinkingEngine(lambda trace: 50, room=23)
    for policy in (SmallPolicy(), RandomStepPolicy(p=0.5), SteerPolicy(preset="stepwise", ahead=True)):
        traces = run(new_group(policy, n=4, closing_tags=BOTH, thought_tokens=BUDGET), engine)
        assert {(t.status, t.thought_cut) for t in traces.values()} == {(Status.LENGTH, False)}


def test_a_model_that_ends_within_its_thought_has_given_no_answer():
    for trace in run(new_group(SmallPolicy(), n=3, closing_tags=BOTH), ThinkingEngine(closes=False)).values():
        assert trace.status == Status.ANSWERED and "boxed{7}" in trace.text
        verdict = grade(trace.text, "7", "math", {}, trace.closing_tag)
        assert (verdict.correct, verdict.extracted, verdict.rule) == (False, "", "unclosed_thought")


def test_of_two_models_one_may_think_where_whole_questions_are_given():
    policy = RandomQueryPolicy(p=0.5)
    traces = run(new_group(policy, n=N, closing_tags=(TAG, ""), thought_tokens=BUDGET), ThinkingEngine())
    by_model = {model: [t for t in traces.values() if t.steps[0].model == model] for model in Model}
    assert all(by_model.values())
    assert {t.closing_tag for t in by_model[Model.SMALL]} == {TAG}
    assert {(t.closing_tag, t.thought_cut) for t in by_model[Model.LARGE]} == {("", False)}
    assert {row["steps_thought"] for row in table({str(i): t for i, t in enumerate(by_model[Model.LARGE])}).values()}


def test_the_budget_is_the_kept_steps_so_a_discarded_draft_takes_nothing_of_it():
    def piece(text):
        return KeptPiece("", (), text)

    def pending(finish, tokens):
        return Pending(0, 0, finish, "", tokens, 0, 0, None, None, "", 0.0)

    thinking, pieces = Thinking(BOTH, 30), [piece("")]
    assert thinking.most(0, 0, used=0, left=100) == 30
    pieces.append(piece(f"draft\n{TAG}\n\n"))
    thinking.kept(0, 0, pieces)
    assert thinking.most(0, 1, used=20, left=80) == 80, "the draft ended the thought"
    pieces.pop()
    thinking.dropped(0, 1)
    assert thinking.tag(0) == "" and thinking.most(0, 1, used=0, left=100) == 30
    assert thinking.as_it_counts(0, pending("length", 30), used=0).finish == "step"
    assert thinking.as_it_counts(0, pending("length", 29), used=0).finish == "length", "the context was full"
    assert thinking.as_it_counts(0, pending("end", 30), used=0).finish == "end"
    pieces.append(piece("I quote `</think>` here.\n\n"))
    thinking.kept(0, 1, pieces)
    assert thinking.end_spent(0, 29, pieces) == ""
    assert thinking.end_spent(0, 30, pieces) == f"{TAG}\n\n" and pieces[-1].text == f"{TAG}\n\n"
    assert thinking.was_cut(0) and thinking.end_spent(0, 90, pieces) == ""


def test_a_group_that_thinks_goes_on_from_its_journal_as_if_nothing_had_happened(tmp_path):
    policy = SteerPolicy(preset="stepwise", refine="every")
    routing = {"closing_tags": BOTH, "thought_tokens": BUDGET}
    plain = run(new_group(policy, n=N, bank=ScoreBank(), **routing), ThinkingEngine())
    rng, ended, qs = random.Random(1), {}, questions(N)
    for _ in range(1000):
        cell = Journal(str(tmp_path)).open("cell")
        committed = frozenset(f"{name}#0" for name in ended)
        running = JournaledGroup.recover(cell, "g", qs, committed, 7, ("", ""))
        if running is None:
            group = new_group(policy, qs=qs, bank=cell.bank, **routing)
            group.name, group.cell = "g", "cell"
            running = JournaledGroup.begin(cell, GroupSnapshot(group))
        engine = ThinkingEngine()
        for _ in range(rng.randint(1, 3)):
            rows = running.decide()
            running.retire()
            ended |= {trace.question.id: trace for trace in running.hand_over()[0]}
            if rows:
                running.take(Reply(*engine.answer(running.group, rows)))
        if len(ended) == N:
            break
    assert {k: (t.text, t.thought_cut, t.tokens_small, t.tokens_large) for k, t in ended.items()} == {
        k: (t.text, t.thought_cut, t.tokens_small, t.tokens_large) for k, t in plain.items()
    }
    assert {t.thought_cut for t in ended.values()} == {True, False}


def test_models_that_do_not_think_are_as_before():
    traces = drive(new_group(SteerPolicy(preset="stepwise")), Script(score=two_camps))
    for row in table(traces).values():
        assert (row["closing_tag"], row["thought_cut"], row["steps_thought"], row["tokens_thought"]) == (
            "",
            False,
            0,
            0,
        )
        assert not any(step["thought"] for step in row["step_rows"])
