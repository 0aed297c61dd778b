"""Rows that write on while their steps are decided on: what is kept, what is cut, what is charged, what survives."""

import random
from collections import Counter

import numpy as np
import pytest
from scripted import NOT_MEASURED, Script, new_group, one_score, questions, two_camps, writers

from actors.router.journal import Journal
from actors.router.journaled_group import JournaledGroup
from actors.router.pool import Reply
from steer.config.policy import (
    FirstTokenEntropyPolicy,
    LargePolicy,
    PercentilePolicy,
    RandomStepPolicy,
    RsdPolicy,
    SteerPolicy,
)
from steer.config.run import RoutingOptions
from steer.messages import Op, StepResults
from steer.mixture.bank import ScoreBank
from steer.routing.group import Group
from steer.routing.replay import GroupSnapshot
from steer.traces import SCORES, Finish, Role, Status

ROLLING = {"barrier": "rolling", "write_on": True}
BANK = SteerPolicy(preset="stepwise", fit_from="bank")
POLICIES = [
    RandomStepPolicy(p=0.4),
    PercentilePolicy(percent=40, refine="never"),
    BANK,
    SteerPolicy(preset="stepwise", fit_from="bank", refine="every"),
    SteerPolicy(),
]


class WritingEngine:
    """Two engines in one. Rows that write on write up to three steps a turn, whatever is decided meanwhile.

    `generated`: tokens by trace and model, whatever became of them.
    """

    def __init__(self, script, rng):
        self.script, self.rng = script, rng
        self.going, self.cut, self.others = {}, {}, []
        self.generated = Counter()

    def send(self, group, rows, cuts):
        for row in rows:
            if row.op == Op.WRITE_ON:
                self.going[row] = int(group.step_L[row.trace])
            else:
                self.others.append(row)
        for row in cuts:
            self.cut[row] = self.going.pop(row, None)

    def turn(self, group):
        """Replies in the order in which they come."""
        for row in self.rng.sample(list(self.going), min(len(self.going), 1 + len(self.going) // 2)):
            yield self._steps(row, self.rng.randint(1, 3))
        for row, step in list(self.cut.items()):
            if self.rng.random() < 0.5:
                del self.cut[row]
                if step is not None:
                    yield self._last(row)
        answered = self.rng.sample(self.others, (len(self.others) + 1) // 2)
        self.others = [row for row in self.others if row not in answered]
        if answered:
            results = self.script.answer(group, answered)
            for row, tokens in zip(answered, results.tokens_R, strict=True):
                self.generated[row.trace, row.role] += tokens
            yield Reply(answered, results)

    def _steps(self, row, count):
        steps = range(self.going[row], min(self.going[row] + count, self.script.steps(row.trace)))
        ends = steps[-1] == self.script.steps(row.trace) - 1
        self.generated[row.trace, row.role] += 3 * len(steps)
        self.going[row] = steps[-1] + 1
        if ends:
            del self.going[row]
        finish = [Finish.STEP.value] * len(steps)
        finish[-1] = Finish.END.value if ends else Finish.STEP.value
        scores = [one_score(self.script.score(row.trace, step, row.role)) for step in steps]
        texts = [f"s{step}m{row.role}\n\n" for step in steps]
        return self._reply(row, finish, texts, [3] * len(steps), scores, range(len(steps) - ends))

    def _last(self, row):
        self.generated[row.trace, row.role] += 2
        return self._reply(row, [Finish.CUT.value], [""], [2], [NOT_MEASURED], ())

    def _reply(self, row, finish, texts, tokens, scores, still_open):
        n = len(finish)
        results = StepResults(
            row_R=[0] * n,
            finish_R=finish,
            text_R=texts,
            ids_R=[tuple(range(count)) if text else () for count, text in zip(tokens, texts, strict=True)],
            tokens_R=tokens,
            prompt_tokens_R=[0] * n,
            cached_tokens_R=[0] * n,
            scores_RS=np.array(scores).reshape(n, SCORES),
            seconds_R=[0.25] * n,
            open_R=frozenset(still_open),
            replica="writing",
        )
        return Reply([row] * n, results)


def steps_of(trace):
    return 2 + trace % 5


def play(running, engine, rng, rounds=10_000, lose=0.0):
    """Run a journaled group, at most so many rounds. Returns the traces that ended by question id."""
    ended = {}
    for _ in range(rounds):
        rows = running.decide()
        engine.send(running.group, rows, running.group.take_cuts())
        running.retire()
        ended |= {trace.question.id: trace for trace in running.hand_over()[0]}
        if not running.group.live:
            return ended
        assert running.group.out, "live traces, and none of them out"
        for row in [row for row in (*engine.going, *engine.cut) if rng.random() < lose]:
            engine.going.pop(row, None)
            engine.cut.pop(row, None)
            running.take(Reply([row._replace(suspect=1 + rng.randrange(2))], None, "died"))
        for reply in engine.turn(running.group):
            running.take(reply)
    return ended


def group_of(policy, n=40, **routing):
    return JournaledGroup(GroupSnapshot(new_group(policy, n=n, bank=ScoreBank(), **{**ROLLING, **routing})))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("lose", [0.0, 0.1])
def test_every_trace_comes_back_once_and_every_token_is_charged(policy, lose):
    for seed in range(5):
        rng = random.Random(seed)
        engine = WritingEngine(Script(steps=steps_of, score=two_camps, tokens=3), rng)
        traces = play(group_of(policy), engine, rng, lose=lose)
        assert len(traces) == 40
        for i in range(40):
            trace = traces[f"q{i}"]
            assert trace.status == Status.ANSWERED
            kept = [step for step in trace.steps if step.accepted]
            assert [step.step for step in kept] == list(range(len(kept)))
            assert len(kept) == steps_of(i) or policy == SteerPolicy(), "by default the large model ends in one pass"
            assert trace.text == "".join(f"s{step.step}m{step.model}\n\n" for step in kept)
            spent = trace.tokens_small + trace.tokens_large
            assert spent == sum(step.tokens for step in kept) + trace.tokens_discarded
            if not lose:  # what a dead replica had written and not answered is nobody's
                assert trace.tokens_small == engine.generated[i, Role.SMALL]
                assert trace.tokens_large == engine.generated[i, Role.LARGE]


def test_decisions_are_those_that_a_step_by_step_run_takes():
    """The coin depends on trace and step alone, so both ways write with the same models."""
    rng = random.Random(3)
    engine = WritingEngine(Script(steps=steps_of, tokens=3), rng)
    on = play(group_of(RandomStepPolicy(p=0.5)), engine, rng)
    by_step = group_of(RandomStepPolicy(p=0.5), write_on=False)
    apart = play(by_step, WritingEngine(Script(steps=steps_of, tokens=3), rng), rng)
    for i in range(40):
        assert writers(on[f"q{i}"]) == writers(apart[f"q{i}"])
        assert apart[f"q{i}"].tokens_discarded == 0


def test_a_model_that_stays_is_asked_once():
    rng = random.Random(1)
    group = new_group(RandomStepPolicy(p=0.0), n=10, **ROLLING)
    engine = WritingEngine(Script(steps=lambda trace: 6, tokens=3), rng)
    asked = []
    while group.live:
        rows = group.decide()
        asked += rows
        engine.send(group, rows, group.take_cuts())
        for reply in engine.turn(group):
            group.apply(reply.rows, reply.results)
        group.take_finished()
    assert len(asked) == 10 and {row.op for row in asked} == {Op.WRITE_ON}


def test_the_small_model_scores_large_steps_while_the_large_one_writes_on():
    group = new_group(
        SteerPolicy(preset="stepwise", fit_from="bank", refine="never", gamma=1.0), 1, bank=ScoreBank(), **ROLLING
    )
    (row,) = group.decide()
    engine = WritingEngine(Script(steps=lambda trace: 5, tokens=3), random.Random(0))
    engine.going[row] = 0
    reply = engine._steps(row, 1)
    group.apply(reply.rows, reply.results)
    group.policy.decide = lambda view, ready_N: (np.full(len(ready_N), 2, np.int8), np.full(len(ready_N), 0.1))
    (large,) = group.decide()
    assert large.role == Role.LARGE and large.op == Op.WRITE_ON and group.take_cuts() == [row]
    engine.going[large] = 1
    reply = engine._steps(large, 1)
    group.apply(reply.rows, reply.results)
    (scoring,) = group.decide()
    assert (scoring.op, scoring.role) == (Op.SCORE, Role.SMALL) and group.take_cuts() == []
    reply = engine._steps(large, 2)
    group.apply(reply.rows, reply.results)
    assert group.decide() == [], "the steps behind it wait for its score"
    group.apply([scoring], engine.script.answer(group, [scoring]))
    (scoring,) = group.decide()
    assert scoring.op == Op.SCORE, "the next step is there already"


def test_a_trace_waits_for_what_its_cut_row_had_written():
    group = new_group(RandomStepPolicy(p=0.0), n=1, max_steps=2, **ROLLING)
    engine = WritingEngine(Script(steps=lambda trace: 9, tokens=3), random.Random(0))
    (row,) = group.decide()
    engine.going[row] = 0
    reply = engine._steps(row, 3)
    group.apply(reply.rows, reply.results)
    assert group.decide() == [] and group.take_cuts() == [row]
    assert group.live == 1 and group.take_finished() == []
    reply = engine._last(row)
    group.apply(reply.rows, reply.results)
    ((_, trace),) = group.take_finished()
    assert not group.live and trace.status == Status.LENGTH
    assert (trace.tokens_small, trace.tokens_discarded) == (11, 5), "the third step and two tokens more"


def test_a_replica_that_leaves_has_the_trace_go_on_elsewhere_with_noise_of_its_own():
    group = new_group(RandomStepPolicy(p=0.0), n=1, **ROLLING)
    engine = WritingEngine(Script(steps=lambda trace: 9, tokens=3), random.Random(0))
    (row,) = group.decide()
    engine.going[row] = 0
    for reply in (engine._steps(row, 2), engine._last(row)):
        group.apply(reply.rows, reply.results)
    (again,) = group.decide()
    assert again.op == Op.WRITE_ON and again.trace == 0 and again.seed != row.seed
    assert len(group.prefix_L[0]) == 3, "the prompt and both steps are kept"
    assert group.take_cuts() == []


def test_after_a_death_the_next_step_is_tried_alone_with_the_suspects_of_its_half():
    group = new_group(RandomStepPolicy(p=0.0), n=4, **ROLLING)
    rows = group.decide()
    group.lost([row._replace(suspect=1 + row.trace % 2) for row in rows], "died")
    again = group.decide()
    assert {(row.trace, row.op, row.suspect) for row in again} == {(i, Op.STEP, 1 + i % 2) for i in range(4)}
    assert {row.seed for row in again} == {row.seed for row in rows}, "nothing was written: the same text comes again"
    group.apply(again, Script(steps=lambda trace: 9).answer(group, again))
    assert {(row.op, row.suspect) for row in group.decide()} == {(Op.WRITE_ON, 0)}


@pytest.mark.parametrize("policy", [RsdPolicy(), FirstTokenEntropyPolicy(), LargePolicy()], ids=lambda p: p.name)
def test_policies_that_look_before_each_step_or_never_do_not_write_on(policy):
    group = new_group(policy, n=4, **ROLLING)
    assert Op.WRITE_ON not in {row.op for row in group.decide()}
    assert Op.WRITE_ON not in group._ops


def test_a_policy_that_peeks_without_saying_so_cuts_what_is_written_on():
    group = new_group(FirstTokenEntropyPolicy(tau=0.2), n=6, **ROLLING)
    group.policy.peeks = False
    group = Group(1, group.questions, group.policy, group.options, 0)
    rng = random.Random(2)
    engine = WritingEngine(Script(steps=steps_of, tokens=3), rng)
    traces = play(JournaledGroup(GroupSnapshot(group)), engine, rng)
    assert len(traces) == 6
    for i in range(6):
        kept = [step.step for step in traces[f"q{i}"].steps if step.accepted]
        assert kept == list(range(steps_of(i)))


def test_writing_on_needs_decisions_without_a_barrier():
    with pytest.raises(ValueError, match="set routing.barrier to rolling"):
        RoutingOptions(write_on=True)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_router_that_dies_at_any_round_loses_no_answered_step_and_no_trace(policy, tmp_path):
    for seed in range(4):
        rng = random.Random(seed)
        folder, qs, ended, steps_before = tmp_path / str(seed), questions(24), {}, {}
        for _ in range(500):
            cell = Journal(str(folder)).open("cell")
            running = JournaledGroup.recover(cell, "g", qs, frozenset(f"{i}#0" for i in ended), 7, ("", ""))
            if running is None:
                group = new_group(policy, qs=qs, bank=cell.bank, **ROLLING)
                group.name, group.cell = "g", "cell"
                running = JournaledGroup.begin(cell, GroupSnapshot(group))
            group = running.group
            for i in range(24):
                assert len(group.prefix_L[i]) >= steps_before.get(i, 0) or not group.live_L[i]
            engine = WritingEngine(Script(steps=steps_of, score=two_camps, tokens=3), rng)
            found = play(running, engine, rng, rounds=rng.randint(1, 5))
            assert not ended.keys() & found.keys(), "a trace came back twice"
            ended |= found
            if len(ended) == 24:
                break
            running.decide()  # what was answered in the last round is in the journal by now
            steps_before = {i: len(group.prefix_L[i]) for i in range(24) if group.live_L[i]}
        assert len(ended) == 24
        assert all(trace.status == Status.ANSWERED for trace in ended.values())
        for i in range(24):
            kept = [step.step for step in ended[f"q{i}"].steps if step.accepted]
            assert kept == list(range(len(kept))) and (len(kept) == steps_of(i) or policy == SteerPolicy())
