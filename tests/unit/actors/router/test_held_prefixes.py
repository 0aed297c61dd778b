"""What a pool believes its replicas hold: it may believe too little, never too much."""

from actors.router.held_prefixes import NO_HOME, HeldPrefixes
from steer.messages import Prompt
from steer.routing.rows import KeptPiece


def piece(*ids):
    return KeptPiece("one", tuple(ids), "text")


PROMPT = KeptPiece("", Prompt("question"), "")


def test_what_was_sent_and_what_was_written_is_held():
    held, step = HeldPrefixes(), piece(1, 2)
    assert held.send("a", 0, [PROMPT]) == 0
    held.written("a", [step.ids])
    assert held.send("a", 0, [PROMPT, step]) == 2
    assert held.home("a") == 0


def test_a_discarded_draft_is_not_held_and_what_came_before_it_is():
    held, draft, rewrite = HeldPrefixes(), piece(1, 2), piece(3, 4)
    held.send("a", 0, [PROMPT])
    held.written("a", [draft.ids])
    assert held.send("a", 0, [PROMPT, rewrite]) == 1
    assert held.send("a", 0, [PROMPT, rewrite]) == 2


def test_steps_written_ahead_count_as_far_as_they_were_kept():
    held, steps, rewrite = HeldPrefixes(), [piece(n, n + 1) for n in range(4)], piece(9)
    held.send("a", 0, [PROMPT])
    held.written("a", [step.ids for step in steps])
    assert held.send("a", 0, [PROMPT, *steps[:2], rewrite]) == 3


def test_another_replica_and_one_that_lost_the_prefix_hold_nothing():
    held, step = HeldPrefixes(), piece(1)
    held.send("a", 0, [PROMPT, step])
    assert held.send("a", 1, [PROMPT, step]) == 0
    held.missing("a")
    assert (held.home("a"), held.send("a", 1, [PROMPT, step])) == (NO_HOME, 0)


def test_an_ended_trace_leaves_nothing_behind():
    held = HeldPrefixes()
    held.send("a", 3, [PROMPT])
    assert held.forget("a") == 3
    held.written("a", [(1,)])  # an answer that was still on its way
    assert (held.home("a"), held.forget("a")) == (NO_HOME, NO_HOME)
