"""The progress line and the thread behind it."""

import io
import threading
from types import SimpleNamespace

from pipelines.run.progress import Progress, ProgressSnapshot, StartProgress, duration, eta_s, progress_text
from steer.traces import Role


def counts(**changes):
    values = dict(
        total=100, live=20, queued=30, done=50, tokens_small=900, tokens_large=100, steps_small=75, steps_large=25
    )
    values["waiting"] = {}
    return SimpleNamespace(**{**values, **changes})


def test_line_names_every_count():
    now = ProgressSnapshot.of(counts(), at_s=20.0)
    before = ProgressSnapshot(10.0, tokens=500)
    assert progress_text(now, before) == (
        "done 50/100 · live 20 · queued 30 · 50 tokens/s · 25 % large steps · ETA 0:20"
    )


def test_line_says_what_a_pool_waits_for():
    now = ProgressSnapshot.of(
        counts(waiting={Role.LARGE: "1 of 2 replicas wait for a node with 4 CPUs, 2 GPUs"}), at_s=20.0
    )
    assert progress_text(now, ProgressSnapshot(0.0)).endswith(
        "0:20 · large: 1 of 2 replicas wait for a node with 4 CPUs, 2 GPUs"
    )


def test_a_run_that_has_not_begun_divides_by_nothing():
    text = progress_text(ProgressSnapshot(0.0), ProgressSnapshot(0.0))
    assert "no step yet" in text and "ETA –" in text


def test_eta_follows_the_mean_pace_and_ends_at_zero():
    assert eta_s(ProgressSnapshot(30.0, total=40, done=10)) == 90
    assert eta_s(ProgressSnapshot(30.0, total=40, done=40)) == 0
    assert eta_s(ProgressSnapshot(30.0, total=40, done=50)) == 0
    assert eta_s(ProgressSnapshot(30.0, total=40, done=0)) is None
    assert eta_s(ProgressSnapshot(30.0, total=0, done=3)) is None


def test_durations():
    assert [duration(s) for s in (None, 5, 65, 3725)] == ["–", "0:05", "1:05", "1:02:05"]


class Log(io.StringIO):
    """A log that says when it holds two lines."""

    def __init__(self):
        super().__init__()
        self.two_lines = threading.Event()

    def write(self, text):
        written = super().write(text)
        if self.getvalue().count("\n") >= 2:
            self.two_lines.set()
        return written


def test_lines_come_even_when_nothing_finishes():
    log = Log()
    with Progress(lambda: counts(done=0, live=3), stream=log, line_s=0.01):
        assert log.two_lines.wait(10)
    assert all("live 3" in line for line in log.getvalue().splitlines())


def test_a_router_that_does_not_answer_is_shown_as_it_was_last():
    log, answers = Log(), [counts(done=9), counts(done=2)]
    with Progress(lambda: answers.pop(), stream=log, line_s=0.01):
        assert log.two_lines.wait(10)
    assert [line.split("done ")[1][0] for line in log.getvalue().splitlines()[:2]] == ["7", "7"]


def test_a_second_pipeline_counts_from_its_own_start():
    base = ProgressSnapshot.of(counts(live=0, queued=0, done=100), at_s=0.0)
    now = ProgressSnapshot.of(
        counts(total=300, live=20, queued=160, done=120, steps_small=75, steps_large=75), at_s=10.0
    )
    text = progress_text(now.since(base), ProgressSnapshot(0.0))
    assert "done 20/200 " in text and "100 % large" in text and "ETA 1:30" in text


def test_a_start_says_what_each_pool_waits_for_again_and_again():
    texts = ["1 of 2 replicas loads its model (15 s)", "1 of 2 replicas loads its model (25 s)"]
    reads = iter(texts)
    stream, enough = io.StringIO(), threading.Event()

    def read():
        try:
            return counts(
                states={Role.SMALL: {}, Role.LARGE: {}}, replicas={Role.SMALL: 1}, waiting={Role.LARGE: next(reads)}
            )
        except StopIteration:
            enough.set()
            raise ConnectionError("the router does not answer") from None

    with StartProgress(read, stream, line_s=0.01):
        assert enough.wait(10)
    lines = stream.getvalue().splitlines()
    assert [line.partition("] ")[2] for line in lines[:2]] == [
        f"the models start; loaded: 1 of small, 0 of large · large: {text}" for text in texts
    ]
