"""What a pool does with the rows of a dead replica, without Ray."""

from actors.router.pool import Pool, WaitingRows
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import Op, Sampling
from steer.routing.rows import ALONE, Row
from steer.traces import Role


def taken_back(rows, stream):
    """(rows handed to the group, rows that the pool tries again by itself)."""
    replies = []
    pool = Pool(
        Role.SMALL,
        ModelConfig(path="none"),
        PoolConfig(),
        (),
        object,
        lambda group, reply: replies.append(reply),
        lambda error: None,
    )
    pool._outstanding = len(rows)
    pool._take_back(WaitingRows(None, rows, Sampling(stream=stream), None), rows, "it died")
    return [row for reply in replies for row in reply.rows], [row for kept in pool._suspects for row in kept.rows]


def rows_of(op, count):
    return [Row(trace, Role.SMALL, int(op), seed=trace, max_tokens=100) for trace in range(count)]


def test_passes_that_are_answered_in_parts_go_to_their_group_in_two_halves():
    lost, kept = taken_back(rows_of(Op.WHOLE, 4), stream=True)
    assert not kept and [row.trace for row in lost] == [0, 1, 2, 3]
    first, second = lost[0].suspect, lost[2].suspect
    assert [row.suspect for row in lost] == [first, first, second, second] and 0 < first != second > 0


def test_a_pass_that_was_alone_is_a_suspect_alone():
    lost, kept = taken_back(rows_of(Op.WHOLE, 1), stream=True)
    assert not kept and [row.suspect for row in lost] == [ALONE]


def test_what_has_answered_nothing_is_tried_again_as_it_was():
    for op, stream in ((Op.WHOLE, False), (Op.STEP, True), (Op.AHEAD, True)):
        rows = rows_of(op, 4)
        assert taken_back(rows, stream) == ([], rows)
