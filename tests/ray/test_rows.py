"""Questions in blocks of the object store, taken from there without ever being put together."""

import numpy as np
import pytest
from held_rows import held

from pipelines.run import rows
from steer.benchmarks import BenchmarkRow
from steer.traces import Question

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def in_blocks(count, rows_a_block):
    questions = [
        Question(f"q{i:03d}", i % 2, "made_up", f"prompt {i}" * (1 + i % 7), "1", "math") for i in range(count)
    ]
    return held([BenchmarkRow(question) for question in questions], rows_a_block)


def test_traces_come_in_the_order_asked_for_from_whichever_blocks_hold_them():
    traces = in_blocks(50, 8)
    for wanted in ([3, 2, 49, 0, 48, 3], [], list(range(50)), [17]):
        taken = traces.take(wanted)
        assert taken["id"].to_pylist() == [f"q{i:03d}" for i in wanted]
        assert taken["sample"].to_pylist() == [i % 2 for i in wanted]
        assert [text.split("prompt ")[1] for text in taken["prompt"].to_pylist()] == [str(i) for i in wanted]


@pytest.mark.parametrize("bundle_bytes", [1, 150, 10**9])
def test_parts_are_the_same_however_few_questions_are_held_at_a_time(monkeypatch, bundle_bytes):
    monkeypatch.setattr(rows, "BUNDLE_BYTES", bundle_bytes)
    traces = in_blocks(50, 8)
    order = np.random.default_rng(0).permutation(50)
    parts = [np.sort(order[number:45:6]) for number in range(6)]
    assert list(traces.take_parts(parts)) == [traces.take(part) for part in parts]


def test_a_block_that_no_wanted_trace_is_in_is_not_fetched():
    traces = in_blocks(20, 5)
    without = rows.Rows(**{**vars(traces), "blocks": (traces.blocks[0], None, traces.blocks[2], None)})
    assert without.take([0, 12])["id"].to_pylist() == ["q000", "q012"]
