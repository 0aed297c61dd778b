"""The stream of a replica's answers: nothing is lost or doubled, whatever thread puts it in and whenever it is read."""

import asyncio
import threading

from actors.engine.in_flight import Answer, Outbox, in_columns
from steer.messages import Sampling, StepBatch


def batch(rows, flush_s=None):
    return StepBatch(Sampling(), [f"k{i}" for i in range(rows)], [0] * rows, [0] * rows, [1] * rows, [0] * rows,
                     [()] * rows, flush_s=flush_s)  # fmt: skip


def columns(answers):
    return in_columns(answers, "r", 0.0)


async def read_all(outbox, calls, stream_s):
    """(call, row, whether it stays open) of every answer, over as many streams as it takes; and rows by message."""
    seen, messages, ended = [], [], 0
    while ended < calls:
        async for message in outbox.messages(columns, stream_s):
            for call, results in message:
                seen += [(call, row, r in results.open_R) for r, row in enumerate(results.row_R)]
            messages.append([len(results.row_R) for _, results in message])
            ended = sum(not still for _, _, still in seen)
            if ended >= calls:
                break
    return seen, messages


def test_every_answer_comes_once_over_any_number_of_streams():
    outbox = Outbox()
    in_flights = [outbox.open(call, batch(20, flush_s=0.0 if call % 2 else None)) for call in range(30)]

    def engine():
        for row in range(20):
            for in_flight in in_flights:
                if in_flight.flushes:
                    in_flight.put(Answer(row, "step", open=True))
                in_flight.put(Answer(row, "end"))

    thread = threading.Thread(target=engine)
    thread.start()

    async def read():
        async with asyncio.timeout(60):
            return await read_all(outbox, 600, stream_s=0.002)

    seen, _ = asyncio.run(read())
    thread.join()
    assert sorted((call, row) for call, row, still in seen if not still) == [
        (c, r) for c in range(30) for r in range(20)
    ]
    assert sum(still for *_, still in seen) == 15 * 20
    assert all(outbox.find(call) is None for call in range(30)), "a call whose rows have ended is forgotten"


def test_a_batch_without_flush_comes_whole_and_at_once_and_others_share_a_message():
    outbox = Outbox()
    loose = [outbox.open(call, batch(1, flush_s=3600.0)) for call in range(5)]
    whole = outbox.open(9, batch(3))

    async def play():
        messages = outbox.messages(columns)
        loose[0].put(Answer(0, "end"))
        first = await anext(messages)
        for in_flight in loose[1:]:
            in_flight.put(Answer(0, "end"))
        for row in range(3):
            whole.put(Answer(row, "end"))
        async with asyncio.timeout(60):
            return first, await anext(messages)

    first, second = asyncio.run(play())
    assert [call for call, _ in first] == [0], "nothing was sent lately, so the first answer does not wait"
    assert {call: len(results.row_R) for call, results in second} == {1: 1, 2: 1, 3: 1, 4: 1, 9: 3}


def test_an_empty_batch_is_answered_by_an_empty_message():
    outbox = Outbox()
    outbox.open(0, batch(0))
    ((call, results),) = asyncio.run(anext(outbox.messages(columns)))
    assert call == 0 and results.row_R == [] and outbox.find(0) is None
