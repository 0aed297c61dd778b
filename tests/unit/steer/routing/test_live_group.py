"""A group that admits while it runs."""

import numpy as np
import pytest
from scripted import NOT_MEASURED, Script, one_score, questions

from steer.config.policy import LargePolicy, RsdPolicy, SmallPolicy, SteerPolicy
from steer.config.run import RoutingOptions
from steer.messages import WRITING, Op, Prompt, StepResults
from steer.mixture.bank import ScoreBank
from steer.policies import make_policy
from steer.routing.live_group import CANCELLED, Admission, LiveGroup
from steer.traces import Finish, Role, Status

THRESHOLD = SteerPolicy(decide="threshold", thresholds=(0.5,))


def live_group(policy=THRESHOLD, places=4, **routing):
    return LiveGroup(1, places, make_policy(policy, 0, ScoreBank()), RoutingOptions(**routing))


def admission(number, seed=0, most=1000):
    return Admission(questions(number + 1)[number], Prompt(f"question {number}"), seed, most)


def to_the_end(group, script):
    """Run the group until no trace is live. Returns the finished traces and the kept texts by place."""
    finished, kept = [], {}
    while True:
        rows = group.decide()
        finished += group.take_finished()
        for trace, text in group.take_kept():
            kept.setdefault(trace, []).append(text)
        if not rows:
            assert not group.live
            return finished, kept
        for role in {row.role for row in rows}:
            share = [row for row in rows if row.role == role]
            group.apply(share, script.answer(group, share))


def results(rows, finish, tokens, text="", still_open=(), ids=None):
    """An answer to rows, alike for all of them."""
    n = len(rows)
    return StepResults(
        row_R=list(range(n)),
        finish_R=[finish.value] * n,
        text_R=[text] * n,
        ids_R=[tuple(range(tokens)) if ids is None else ids for _ in rows],
        tokens_R=[tokens] * n,
        prompt_tokens_R=[0] * n,
        cached_tokens_R=[0] * n,
        scores_RS=np.array([one_score(NOT_MEASURED) if finish == Finish.CUT else one_score(0.9)] * n, np.float64),
        seconds_R=[0.0] * n,
        open_R=frozenset(still_open),
    )


def test_requests_join_while_others_run():
    group, script = live_group(), Script(steps=lambda trace: 3, score=lambda trace, step, model: 0.9)
    first = group.admit(admission(0))
    rows = group.decide()
    second = group.admit(admission(1))
    group.apply(rows, script.answer(group, rows))
    finished, kept = to_the_end(group, script)
    assert {trace.question.id for _, trace in finished} == {"q0", "q1"}
    assert all(trace.status == Status.ANSWERED for _, trace in finished)
    assert len(kept[first]) == 3 and len(kept[second]) == 3
    for place, trace in finished:
        assert "".join(kept[place]) == trace.text


def test_a_place_is_used_again_and_its_last_trace_leaves_nothing_behind():
    # The first request's step is sure, the second one's is not. Both have the same place.
    script = Script(steps=lambda trace: 2, score=lambda trace, step, model: script.sure)
    group = live_group(places=1)
    written = []
    for number, sure in enumerate((0.9, 0.1, 0.9)):
        script.sure = sure
        assert group.admit(admission(number)) == 0
        ((_, trace),), _ = to_the_end(group, script)
        written.append((trace.question.id, trace.tokens_small, trace.tokens_large > 0, len(trace.steps)))
        with pytest.raises(IndexError):
            group.admit(admission(9)), group.admit(admission(9))
        to_the_end(group, script)
    assert written[0][1:] == written[2][1:]
    assert [large for _, _, large, _ in written] == [False, True, False]


def test_the_text_of_a_request_does_not_depend_on_who_else_is_there():
    def seeds(others):
        group = live_group()
        for number in range(others):
            group.admit(admission(number + 1, seed=5))
        place = group.admit(admission(0, seed=7))
        return [row.seed for row in group.decide() if row.trace == place]

    assert seeds(0) == seeds(2) != []


def test_budget_banks_the_scores_of_every_request_in_a_place():
    bank = ScoreBank()
    group = LiveGroup(1, 2, make_policy(SteerPolicy(gamma=0.5), 0, bank), RoutingOptions())
    script = Script(steps=lambda trace: 2, score=lambda trace, step, model: script.sure)
    for number in range(20):
        script.sure = number / 20
        group.admit(admission(number))
        to_the_end(group, script)
    assert len(bank.scores(0, "max_prob budget")) == 20


def test_max_tokens_of_a_request():
    group, script = live_group(SmallPolicy(), pass_tokens=10), Script(steps=lambda trace: 50, cut=1)
    place = group.admit(admission(0, most=30))
    ((_, trace),), kept = to_the_end(group, script)
    assert trace.status == Status.LENGTH and trace.tokens_small == 30 and len(kept[place]) == 3


def test_a_cancelled_request_takes_its_rows_back_and_is_charged_for_them():
    group = live_group(LargePolicy())
    place = group.admit(admission(0))
    (row,) = group.decide()
    group.leave(place)
    assert group.take_cuts() == [row] and row.op in WRITING
    assert not group.take_finished() and group.free == 3  # its row is still at an engine
    assert group.decide() == []
    group.apply([row], results([row], Finish.CUT, 17, ids=()))
    ((_, trace),) = group.take_finished()
    assert (trace.status, trace.error) == (Status.ERROR, CANCELLED)
    assert (trace.tokens_large, trace.tokens_discarded, group.free) == (17, 17, 4)


def test_a_row_that_died_with_its_replica_frees_the_place_of_a_cancelled_request():
    group = live_group()
    place = group.admit(admission(0))
    rows = group.decide()
    group.leave(place)
    group.lost(rows, "the replica died")
    ((_, trace),) = group.take_finished()
    assert trace.error == CANCELLED and group.free == 4 and not group.decide()


def test_steps_written_ahead_of_a_cancelled_request_are_charged_when_they_come():
    group, script = live_group(), Script(steps=lambda trace: 4, score=lambda trace, step, model: 0.9)
    place = group.admit(admission(0))
    rows = group.decide()
    assert rows[0].op == Op.AHEAD
    group.leave(place)
    group.apply(rows, script.answer(group, rows))
    ((_, trace),) = group.take_finished()
    assert trace.tokens_small == trace.tokens_discarded == 40


def test_a_request_that_ends_early_keeps_what_was_decided_and_discards_the_rest():
    group, script = live_group(), Script(steps=lambda trace: 4, score=lambda trace, step, model: 0.9)
    place = group.admit(admission(0))
    rows = group.decide()
    group.apply(rows, script.answer(group, rows))
    group.leave(place, Status.ANSWERED, "")
    ((_, trace),) = group.take_finished()
    assert trace.status == Status.ANSWERED and trace.error == ""
    assert trace.tokens_small == trace.tokens_discarded == 40 and trace.text == ""


class TestParts:
    """A pass whose steps are answered one by one."""

    def begin(self):
        group = live_group(LargePolicy(), pass_tokens=100)
        place = group.admit(admission(0))
        return group, place, *group.decide()

    def test_parts_are_kept_as_they_come_and_the_pass_is_asked_for_once(self):
        group, place, row = self.begin()
        group.apply([row], results([row], Finish.STEP, 10, "one\n\n", still_open=(0,)))
        assert group.decide() == [] and group.take_kept() == [(place, "one\n\n")]
        group.apply([row], results([row], Finish.END, 5, "two"))
        ((_, trace),) = group.take_finished()
        assert trace.text == "one\n\ntwo" and trace.tokens_large == 15 and trace.tokens_discarded == 0

    def test_the_next_pass_has_the_seed_that_it_has_without_parts(self):
        group, _, row = self.begin()
        group.apply([row], results([row], Finish.STEP, 10, "one\n\n", still_open=(0,)))
        group.apply([row], results([row], Finish.STEP, 10, "two\n\n"))
        (in_parts,) = group.decide()
        group, _, row = self.begin()
        group.apply([row], results([row], Finish.STEP, 20, "one\n\ntwo\n\n"))
        (whole,) = group.decide()
        assert in_parts == whole

    def test_a_lost_pass_goes_on_behind_its_parts_with_another_seed(self):
        group, place, row = self.begin()
        group.apply([row], results([row], Finish.STEP, 10, "one\n\n", still_open=(0,)))
        group.lost([row], "the replica died")
        (again,) = group.decide()
        assert again.seed != row.seed and again.max_tokens == row.max_tokens - 10
        group.apply([again], results([again], Finish.END, 5, "two"))
        ((_, trace),) = group.take_finished()
        assert trace.text == "one\n\ntwo" and trace.tokens_large == 15

    def test_the_rest_of_a_pass_that_was_not_alone_is_a_suspect_of_its_half_and_no_try(self):
        group, _, row = self.begin()
        group.apply([row], results([row], Finish.STEP, 10, "one\n\n", still_open=(0,)))
        most = row.max_tokens - 10
        for half in range(1, 9):  # more often than `tries`
            group.lost([row._replace(suspect=half)], "the replica died")
            (row,) = group.decide()
            assert row.suspect == half and row.max_tokens == most

    def test_a_pass_that_is_lost_before_its_first_part_has_its_seed_again(self):
        group, _, row = self.begin()
        group.lost([row], "the replica died")
        (again,) = group.decide()
        assert (again.seed, again.max_tokens) == (row.seed, row.max_tokens)


def test_a_signal_on_its_way_is_charged_to_the_signal():
    group, script = live_group(RsdPolicy()), Script(steps=lambda trace: 4)
    place = group.admit(admission(0))
    rows = group.decide()
    group.apply(rows, script.answer(group, rows))
    (row,) = group.decide()
    assert row.role == Role.PRM
    group.leave(place)
    assert group.take_cuts() == []  # a model that rates is not interrupted
    answered = script.answer(group, [row])
    answered.prompt_tokens_R[0], answered.cached_tokens_R[0] = 12, 0
    group.apply([row], answered)
    ((_, trace),) = group.take_finished()
    assert trace.tokens_signal[Role.PRM] == 12 and trace.tokens_discarded == trace.tokens_small == 10


def test_a_mixture_is_fitted_again_as_requests_come_and_go():
    group = LiveGroup(1, 2, make_policy(SteerPolicy(preset="mixture"), 0, ScoreBank()), RoutingOptions())
    script = Script(steps=lambda trace: 2, score=lambda trace, step, model: script.sure)
    rng = np.random.default_rng(0)
    for number in range(60):
        script.sure = rng.normal(10 if number % 2 else 2, 0.5)
        group.admit(admission(number))
        to_the_end(group, script)
    fitted = [row["n"] for row in group.policy.mixtures() if row["rule"] == "fresh"]
    assert len(fitted) > 2 and max(fitted) > 40
