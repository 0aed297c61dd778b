"""The simulated engine's seconds, by a clock that the test holds."""

import math

import pytest

from actors.simulated.timed_engine import Speed, TimedEngine

SPEED = Speed(weights_bytes=1e9, cache_bytes_token=0.0, flops_token=1e9, bytes_s=1e12, flops_s=1e14)
"""1 ms a step of up to 100 rows, then 10 µs a row; a prompt token takes 10 µs."""


def test_a_step_takes_as_long_as_reading_or_computing_whichever_is_longer():
    assert SPEED.decode_s(1, 0) == SPEED.decode_s(100, 0) == pytest.approx(1e-3)
    assert SPEED.decode_s(200, 0) == pytest.approx(2e-3)
    assert SPEED._replace(cache_bytes_token=1e5).decode_s(1, 10_000) == pytest.approx(2e-3)
    assert SPEED.prefill_s(100) == pytest.approx(1e-3)


def test_rows_decode_together_and_end_by_their_length():
    engine = TimedEngine(SPEED, 8)
    for row, tokens in (("long", 30), ("short", 10)):
        engine.add(5.0, row, 0, (tokens,), 0)
    assert engine.next_s() == pytest.approx(5.010)
    assert engine.advance(5.009) == []
    assert engine.advance(5.011) == ["short"]
    assert engine.next_s() == pytest.approx(5.030)
    assert engine.advance(6.0) == ["long"]
    assert not len(engine) and engine.next_s() == math.inf


def test_a_late_row_joins_the_batch():
    engine = TimedEngine(SPEED, 8)
    engine.add(0.0, "first", 0, (10,), 0)
    assert engine.advance(0.004) == []
    engine.add(0.004, "second", 0, (3,), 0)
    assert engine.advance(0.0071) == ["second"]
    assert engine.next_s() == pytest.approx(0.010)


def test_a_prefill_holds_everybody_up():
    engine = TimedEngine(SPEED, 8)
    engine.add(0.0, "first", 0, (10,), 0)
    engine.advance(0.005)
    engine.add(0.005, "second", 200, (1,), 200)
    assert engine.next_s() == pytest.approx(0.005 + 0.002 + 0.001)
    assert engine.advance(0.0081) == ["second"]
    assert engine.next_s() == pytest.approx(0.012)


def test_rows_beyond_the_slots_wait_their_turn():
    engine = TimedEngine(SPEED, 2)
    for row, tokens in (("a", 10), ("b", 20), ("c", 5)):
        engine.add(0.0, row, 0, (tokens,), 0)
    assert engine.advance(0.0101) == ["a"]
    assert engine.advance(0.0151) == ["c"]
    assert engine.advance(1.0) == ["b"]


def test_a_large_batch_slows_everybody_down():
    engine = TimedEngine(SPEED, 400)
    for row in range(200):
        engine.add(0.0, row, 0, (10,), 0)
    assert engine.next_s() == pytest.approx(0.020)
    assert engine.advance(0.0201) == list(range(200))


def test_idle_time_is_not_worked_off():
    engine = TimedEngine(SPEED, 8)
    assert engine.advance(100.0) == []
    engine.add(200.0, "late", 0, (10,), 0)
    assert engine.next_s() == pytest.approx(200.010)


def test_a_row_of_several_parts_is_reported_at_each_and_keeps_its_slot():
    engine = TimedEngine(SPEED, 1)
    engine.add(0.0, "parts", 0, (10, 5, 1), 0)
    engine.add(0.0, "waits", 0, (2,), 0)
    assert engine.advance(0.0101) == ["parts"]
    assert engine.advance(0.0151) == ["parts"]
    assert engine.advance(0.0161) == ["parts"]
    assert engine.advance(0.0181) == ["waits"]


def test_a_cut_row_leaves_its_slot_and_says_what_it_had_written_of_its_part():
    engine = TimedEngine(SPEED, 1)
    gone, stays = "gone", "stays"
    engine.add(0.0, gone, 0, (3, 1000), 0)
    engine.add(0.0, stays, 0, (10,), 0)
    assert engine.advance(0.0075) == [gone]
    assert engine.cut(gone) == 5, "four tokens and the one that is being computed"
    assert engine.advance(0.0176) == [stays]
    assert not len(engine) and engine.cut(stays) == 0
