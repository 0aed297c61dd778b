"""A group that goes on in another process, from its journal, ends as if nothing had happened."""

import random
from dataclasses import asdict

import pytest
from scripted import Script, drive, new_group, questions, two_camps
from test_group import POLICIES

from actors.router.journal import Journal
from actors.router.journaled_group import JournaledGroup
from actors.router.pool import Reply
from steer.config.policy import SteerPolicy
from steer.mixture.bank import ScoreBank
from steer.policies import make_policy
from steer.routing.group import Group
from steer.routing.replay import GroupSnapshot

N = 24


def steps_of(trace):
    return 2 + trace % 4


def script():
    def signal(trace, step):
        return (trace * 7 + step) % 10 / 10

    return Script(steps=steps_of, score=two_camps, signal=signal, cut=2)


def plain(traces):
    """What must not depend on when a process died: all but how long a decision took."""
    rows = {}
    for key, trace in traces.items():
        row = {**asdict(trace), "cell": "", "group": ""}
        row["steps"] = [step._replace(routing_seconds=0.0) for step in trace.steps]
        rows[key] = repr(row)
    return rows


def journaled(folder, policy, name="g", qs=None, committed=(), **routing):
    """As the router admits a group: from the journal, or anew."""
    cell = Journal(str(folder)).open("cell")
    qs = qs or questions(N)
    known = JournaledGroup.recover(cell, name, qs, frozenset(committed), 7, ("", ""))
    if known is not None:
        return known
    group = new_group(policy, qs=qs, bank=cell.bank, **routing)
    group.name, group.cell = name, "cell"
    return JournaledGroup.begin(cell, GroupSnapshot(group))


def rounds(running: JournaledGroup, engine: Script, count, rng):
    """So many rounds, each with answers to some of the rows that are out; returns the traces that ended."""
    ended, out = {}, []
    for _ in range(count):
        out += running.decide()
        running.retire()
        ended |= {trace.question.id: trace for trace in running.hand_over()[0]}
        if not out:
            break
        answered = rng.sample(out, rng.randint(1, len(out))) if not running.group.strict else out
        out = [row for row in out if row not in answered]
        lost = [row for row in answered if rng.random() < 0.05]
        kept = [row for row in answered if row not in lost]
        if lost:
            running.take(Reply(lost, None, "died"))
        if kept:
            running.take(Reply(kept, engine.answer(running.group, kept)))
    return ended


@pytest.mark.parametrize("barrier", ["strict", "rolling"])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_group_that_is_killed_at_any_round_ends_as_one_that_is_not(policy, barrier, tmp_path):
    engine = script()
    if policy.name in ("rsd", "spec_reason"):
        engine.steps = lambda trace: 3
    undisturbed = drive(new_group(policy, qs=questions(N), bank=ScoreBank(), barrier=barrier), engine)
    rng = random.Random(f"{policy} {barrier}")
    ended, lives = {}, 0
    while len(ended) < N:
        lives += 1
        running = journaled(tmp_path, policy, committed=[f"{name}#0" for name in ended], barrier=barrier, tries=99)
        more = rounds(running, engine, rng.randint(1, 3) if lives < 8 else 1000, rng)
        assert not set(more) & set(ended), "a row that was committed came again"
        # The last process died before all that it handed on was committed.
        ended |= dict(rng.sample(sorted(more.items()), len(more) if lives >= 8 else len(more) // 2))
    assert set(ended) == set(undisturbed)
    if barrier == "strict":
        assert plain(ended) == plain(undisturbed)


def test_mixtures_are_handed_on_once_in_a_life_and_all_of_them_again_in_the_next(tmp_path):
    policy, rng = SteerPolicy(preset="stepwise"), random.Random(0)
    first = journaled(tmp_path, policy)
    rounds(first, script(), 3, rng)
    before = [{key: row[key] for key in ("step", "draft", "n")} for row in first._snapshot.mixtures]
    second = journaled(tmp_path, policy)
    second.decide()
    again = second.hand_over()[1]
    assert before and [{key: row[key] for key in ("step", "draft", "n")} for row in again][: len(before)] == before
    assert second.hand_over()[1] == []


def test_groups_of_a_cell_find_the_bank_as_the_others_left_it(tmp_path):
    policy, rng, engine = SteerPolicy(), random.Random(1), script()
    cell = Journal(str(tmp_path)).open("cell")
    groups = []
    for name in ("a", "b"):
        group = Group(
            1,
            questions(N, name),
            make_policy(policy, 0, cell.bank),
            new_group(policy, bank=cell.bank).options,
            0,
            name=name,
        )
        groups.append(JournaledGroup.begin(cell, GroupSnapshot(group)))
    rounds(groups[0], engine, 1000, rng)
    rounds(groups[1], engine, 2, rng)
    groups[0].end()
    assert groups[0].committed([f"a{i}#0" for i in range(N)])
    groups[0].remove_journal()
    scopes = list(cell.bank._all)
    reopened = Journal(str(tmp_path)).open("cell")
    assert scopes
    for scope in scopes:
        assert reopened.bank.all_scores(scope).tolist() == cell.bank.all_scores(scope).tolist()
    assert JournaledGroup.recover(reopened, "a", questions(N, "a"), frozenset(), 1, ("", "")) is None, "its log is gone"
    assert JournaledGroup.recover(reopened, "b", questions(N, "b"), frozenset(), 2, ("", "")) is not None
