"""The journal's files: what can be read of them after a crash or damage, and how large they may become."""

import os
import pickle
import random
import sys
import textwrap

import pytest
from fsspec.implementations.local import LocalFileSystem
from hooked_filesystem import HookedFileSystem, Killed, killed_at
from pyarrow import fs
from scripted import Script, new_group, questions, two_camps

import actors.router.journal
from actors.router.journal import CellJournal, Journal, LogRecord, decode, encode
from actors.router.journaled_group import JournaledGroup
from actors.router.pool import Reply
from steer.config.policy import CustomPolicy, SteerPolicy
from steer.policies import journal_classes
from steer.routing.accounting import Accounting
from steer.routing.replay import STATE_CLASSES, GroupSnapshot, LoggedRound, dump

POLICY = SteerPolicy(preset="stepwise", fit_from="bank")
STORES = {
    "appends": lambda folder: (fs.LocalFileSystem(), str(folder / "cell")),
    "files": lambda folder: (fs.PyFileSystem(fs.FSSpecHandler(LocalFileSystem())), str(folder / "cell")),
}


@pytest.fixture(params=STORES)
def opened(request, tmp_path, monkeypatch):
    """Opens the cell's journal, as a new process does. No round is held."""
    monkeypatch.setattr(actors.router.journal, "HOLD_S", 0.0)
    return lambda: CellJournal(*STORES[request.param](tmp_path), str(tmp_path))


def play(cell, rounds, steps=30, n=20):
    """A new group's first rounds; returns the journaled group."""
    engine = Script(steps=lambda trace: steps, score=two_camps)
    group = new_group(POLICY, n=n, bank=cell.bank)
    running = JournaledGroup.begin(cell, GroupSnapshot(group))
    for _ in range(rounds):
        rows = running.decide()
        running.retire()
        if rows:
            running.take(Reply(rows, engine.answer(running.group, rows)))
    running.decide()
    return running


def steps_written(running):
    return running.group.step_L.tolist()


def again(cell, n=20):
    return JournaledGroup.recover(cell, "0", questions(n), frozenset(), 1, ("", ""))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name.isdecimal())


def test_records_come_back_as_they_were_written():
    records = [LogRecord(b"C", number, random.Random(number).randbytes(100 * number)) for number in range(5)]
    assert list(decode(b"".join(map(encode, records)))) == records


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_record_is_as_if_it_had_not_been_begun(cut):
    records = [encode(LogRecord(b"C", number, b"x" * 50)) for number in range(3)]
    torn = b"".join(records)[:-cut]
    assert [record.number for record in decode(torn)] == [0, 1]


def test_no_flipped_bit_goes_unnoticed():
    data = bytearray(encode(LogRecord(b"C", 7, b"what was decided")))
    for place in range(len(data)):
        data[place] ^= 1
        assert list(decode(bytes(data))) == []
        data[place] ^= 1


def test_a_group_goes_on_from_its_last_round(opened):
    before = play(opened(), rounds=6)
    after = again(opened())
    assert steps_written(after) == steps_written(before)
    assert after.decide() == list(before.group._out.values())


def test_a_group_goes_on_from_the_round_before_a_damaged_one(opened, tmp_path):
    states = {}
    for rounds in (3, 6):
        states[rounds] = steps_written(play(opened(), rounds))
        if rounds == 3:
            short = sum(path.stat().st_size for path in files(tmp_path))
    whole = files(tmp_path)
    if len(whole) == 1:
        data = bytearray(whole[0].read_bytes())
        data[short + 30] ^= 1
        whole[0].write_bytes(data)
    else:
        whole[5].write_bytes(b"damaged")  # moment, then a file a round
    assert steps_written(again(opened())) == states[3]


def test_what_is_torn_does_not_stand_in_the_way_of_what_is_written_after(opened, tmp_path):
    play(opened(), rounds=3)
    last = files(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-10])
    second = again(opened())
    state = steps_written(second)
    second.decide()
    assert steps_written(again(opened())) == state


def test_a_log_is_bounded_by_the_state_it_leads_to(opened, tmp_path, monkeypatch):
    def size():
        return sum(path.stat().st_size for path in files(tmp_path))

    monkeypatch.setattr(actors.router.journal, "CUT_FILES", 10**6)
    play(opened(), rounds=60, steps=1000)
    uncut = size()
    monkeypatch.setattr(actors.router.journal, "CUT_BYTES", 20_000)
    monkeypatch.setattr(actors.router.journal, "CUT_FILES", 10)
    running = play(opened(), rounds=60, steps=1000)
    assert uncut > 3 * size()
    assert len(files(tmp_path)) <= 12
    assert steps_written(again(opened())) == steps_written(running)


def test_traces_that_are_committed_leave_the_journal(opened):
    running = play(opened(), rounds=8, steps=4)
    running.retire()
    assert running.waiting == 20
    running.end()
    assert not running.committed([f"q{i}#0" for i in range(10)])
    left = JournaledGroup.recover(opened(), "0", questions(20), frozenset(f"q{i}#0" for i in range(10)), 1, ("", ""))
    assert sorted(trace.question.id for trace in left.hand_over()[0]) == sorted(f"q{i}" for i in range(10, 20))
    assert running.committed([f"q{i}#0" for i in range(10, 20)])


def test_live_traces_that_are_committed_are_not_routed_again(opened):
    play(opened(), rounds=3)
    left = JournaledGroup.recover(opened(), "0", questions(20), frozenset({"q0#0", "q5#0"}), 1, ("", ""))
    assert left.group.live == 18
    assert not {0, 5} & {row.trace for row in left.decide()}
    assert left.hand_over()[0] == []


def test_a_journal_of_another_version_says_what_to_do(tmp_path, monkeypatch):
    play(Journal(str(tmp_path)).open("cell"), rounds=2)
    monkeypatch.setattr(
        "steer.routing.replay.STATE_CLASSES", tuple(cls for cls in STATE_CLASSES if cls is not Accounting)
    )
    with pytest.raises(ValueError, match="remove the journal/ folder"):
        again(Journal(str(tmp_path)).open("cell"))


def test_a_journal_whose_groups_have_other_fields_says_so_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("steer.routing.replay.FORMAT", 2)
    play(Journal(str(tmp_path)).open("cell"), rounds=2)
    monkeypatch.setattr("steer.routing.replay.FORMAT", 4)
    with pytest.raises(ValueError, match="remove the journal/ folder"):
        again(Journal(str(tmp_path)).open("cell"))


def hooked(folder, before=lambda what, path: None):
    """A journal on files that cannot be appended to."""
    return CellJournal(fs.PyFileSystem(HookedFileSystem(before)), str(folder / "cell"), str(folder))


def test_where_nothing_can_be_appended_rounds_are_held_and_written_together(tmp_path):
    running = play(hooked(tmp_path), rounds=6)
    assert len(files(tmp_path)) == 1 and 0 < running.due_s <= actors.router.journal.HOLD_S
    running.flush()
    assert len(files(tmp_path)) == 2 and running.due_s is None
    assert steps_written(again(hooked(tmp_path))) == steps_written(running)


def test_rows_of_rounds_that_were_held_are_asked_again_with_their_seeds(tmp_path):
    first = JournaledGroup.begin(cell := hooked(tmp_path), GroupSnapshot(new_group(POLICY, n=20, bank=cell.bank)))
    rows = first.decide()
    assert again(hooked(tmp_path)).decide() == rows


def test_held_rounds_are_written_once_they_are_due(tmp_path, monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr("actors.router.journal.time.monotonic", lambda: now_s[0])
    running = play(hooked(tmp_path), rounds=2)
    now_s[0] = actors.router.journal.HOLD_S
    assert running.due_s == 0
    running.decide()
    assert len(files(tmp_path)) == 2


def to_its_end(running, handed):
    """What the router does with a group: nothing is handed on before the journal has it."""
    engine = Script(steps=lambda trace: 3 + trace % 5, score=two_camps)
    while True:
        rows = running.decide()
        running.retire()
        if running.waiting >= 3 or (running.waiting and not running.group.live):
            running.flush()
            handed += running.hand_over()[0]
        if not running.group.live:
            return
        if rows:
            running.take(Reply(rows, engine.answer(running.group, rows)))


def texts(traces):
    return {trace.question.trace_id: [(s.step, s.text, s.decision) for s in trace.steps] for trace in traces}


def test_a_kill_at_any_write_loses_and_changes_no_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(actors.router.journal, "CUT_FILES", 3)
    whole = []
    cell = hooked(tmp_path / "whole")
    to_its_end(JournaledGroup.begin(cell, GroupSnapshot(new_group(POLICY, n=20, bank=cell.bank))), whole)
    kills = 0
    while True:
        folder, handed = tmp_path / str(kills), []
        before, _ = killed_at(kills)
        cell = hooked(folder, before)
        try:
            to_its_end(JournaledGroup.begin(cell, GroupSnapshot(new_group(POLICY, n=20, bank=cell.bank))), handed)
            break
        except Killed:
            kills += 1
        # Half of what was handed on is committed, as if the kill had met the commit.
        kept = handed[: len(handed) // 2]
        committed = frozenset(trace.question.trace_id for trace in kept)
        left = JournaledGroup.recover(hooked(folder), "0", questions(20), committed, 1, ("", ""))
        if left is None:
            assert not handed
            continue
        known = texts(left._snapshot.finished.values())
        assert {key: known[key] for key in texts(handed[len(kept) :])} == texts(handed[len(kept) :])
        to_its_end(left, kept)
        assert len(kept) == 20
        assert texts(kept) == texts(whole)
    assert kills > 10


class Touch:
    """Is pickled as a command of the shell."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("where", ["snapshot", "round", "policy", "bank"])
def test_code_in_a_journal_does_not_run(where, tmp_path):
    running = play(Journal(str(tmp_path)).open("cell"), rounds=2)
    touched, (log,) = tmp_path / "touched", files(tmp_path)
    evil = pickle.dumps({"held": [Touch(touched)]})
    snapshot, *rounds = decode(log.read_bytes())
    if where == "bank":
        (log.parents[1] / "bank").write_bytes(encode(LogRecord(b"B", 0, evil)))
    elif where == "snapshot":
        log.write_bytes(encode(snapshot._replace(payload=evil)))
    elif where == "round":
        log.write_bytes(encode(snapshot) + encode(rounds[0]._replace(payload=evil)))
    else:
        logged = LoggedRound([], [], [], [], evil)
        log.write_bytes(encode(snapshot) + encode(rounds[0]._replace(payload=dump(logged))))
    with pytest.raises(
        ValueError, match=f"{log.parents[1].name}/(bank|{log.parent.name}): .*remove the journal/ folder"
    ):
        again(Journal(str(tmp_path)).open("cell"))
    assert not touched.exists()
    assert running.group.live


def test_no_class_of_a_state_can_be_called_as_a_function():
    """An attribute of a state can be replaced by any object of these classes, and it may be called later."""
    assert [cls for cls in STATE_CLASSES if "__call__" in dir(cls)] == []


@pytest.fixture
def own_policy(tmp_path, monkeypatch):
    (tmp_path / "own_policy_in_a_journal.py").write_text(
        textwrap.dedent("""
        import random
        from steer.config.policy import Scored
        from steer.policies import ByConfidence

        class Note:
            pass

        class Plain(ByConfidence):
            held = None

            def __init__(self):
                super().__init__(Scored(measure="max_prob"))
                if self.held is not None:
                    self.note = self.held()

            def decision(self, view, step, rows_N, draft):
                conf_N = view.scores[step].conf_L[rows_N]
                return conf_N >= 0.9, conf_N

        class Unlisted(Plain):
            held = Note

        class Listed(Unlisted):
            journal_classes = (Note,)

        class Draws(Plain):
            held = random.Random
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: CustomPolicy(object=f"own_policy_in_a_journal:{name}")
    sys.modules.pop("own_policy_in_a_journal", None)


def begun(cell, config):
    group = new_group(config, n=20, bank=cell.bank)
    return JournaledGroup.begin(cell, GroupSnapshot(group), journal_classes(config))


@pytest.mark.parametrize("name", ["Plain", "Listed"])
def test_a_users_own_policy_goes_on_if_the_configuration_names_it(name, own_policy, tmp_path):
    config = own_policy(name)
    before = begun(Journal(str(tmp_path / "journal")).open("cell"), config).decide()
    opened = Journal(str(tmp_path / "journal")).open("cell")
    recovered = JournaledGroup.recover(opened, "0", questions(20), frozenset(), 1, ("", ""), journal_classes(config))
    assert recovered.decide() == before
    with pytest.raises(ValueError, match=f"names own_policy_in_a_journal.{name}"):
        again(Journal(str(tmp_path / "journal")).open("cell"))


@pytest.mark.parametrize("name", ["Unlisted", "Draws"])
def test_a_policy_that_could_not_be_read_back_is_refused_at_the_start(name, own_policy, tmp_path):
    with pytest.raises(ValueError, match="journal_classes"):
        begun(Journal(str(tmp_path / "journal")).open("cell"), own_policy(name))
