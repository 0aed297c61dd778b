"""Which of two processes that work on one run goes on."""

import json
import os
import platform
import signal
import threading

import pytest

from pipelines.run import run_lock
from pipelines.run.run_lock import LOCK_FILE, SUPERSEDED, WATCHER, Superseded, run_lock_held, take_over_lock
from pipelines.run.session import sigterm_as_interrupt
from steer.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "CHECK_S", 0.01)
    return RunFolder.create(tmp_path / "run", "run", {}, [0])


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited for an earlier driver."""
    seconds = []
    monkeypatch.setattr(run_lock.time, "sleep", seconds.append)
    return seconds


def write(run, **entries):
    earlier = {"id": "another", "host": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00+00:00", **entries}
    run.write_file(LOCK_FILE, json.dumps(earlier).encode())


def driver(run):
    return json.loads(run.read_file(LOCK_FILE))


def test_an_earlier_driver_is_given_time_to_stop_and_then_it_is_not_the_driver(run, waits, capsys):
    write(run, host="gone.example", pid=77)
    take_over_lock(run)
    assert waits == [run_lock.GRACE_S]
    assert "process 77 on gone.example" in capsys.readouterr().err
    assert (driver(run)["host"], driver(run)["pid"]) == (platform.node(), os.getpid())


def test_nobody_is_waited_for_who_is_dead_or_was_never_there(run, waits):
    take_over_lock(run)
    take_over_lock(run)  # its own run_lock
    write(run, host=platform.node(), pid=2**22 + 1)  # Linux has no process of such a number
    take_over_lock(run)
    assert waits == []


def test_a_driver_whose_run_is_taken_over_stops_and_leaves_the_claim_to_the_other(run):
    with pytest.raises(Superseded, match="process 1 on elsewhere .* has gone on with"):
        with sigterm_as_interrupt(), run_lock_held(run):
            write(run)
            threading.Event().wait(30)
    assert driver(run)["id"] == "another"


def test_a_run_that_another_process_has_ended_is_taken_over_too(run):
    with pytest.raises(Superseded, match="another process has gone on with"):
        with sigterm_as_interrupt(), run_lock_held(run):
            run.remove_file(LOCK_FILE)
            threading.Event().wait(30)


def test_an_end_of_any_kind_gives_the_run_back(run, monkeypatch):
    with run_lock_held(run):
        assert driver(run)["pid"] == os.getpid()
    assert run.read_file(LOCK_FILE) is None
    with pytest.raises(KeyboardInterrupt), run_lock_held(run):
        raise KeyboardInterrupt
    assert run.read_file(LOCK_FILE) is None
    monkeypatch.setattr(run_lock, "CHECK_S", 60.0)
    with pytest.raises(OSError, match="full"), run_lock_held(run):
        run.remove()
        raise OSError("full")


class SlowFileSystem:
    """A run folder whose lock is read slowly: the answer comes when the test says so."""

    def __init__(self, run):
        self._run, self.asked, self.answers = run, threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._run, name)

    def read_file(self, name):
        self.asked.set()
        self.answers.wait(30)
        return None


def test_a_run_that_has_ended_is_not_interrupted_by_a_look_at_its_lock_that_comes_late(run):
    slow = SlowFileSystem(run)
    with run_lock_held(slow):
        slow.asked.wait(30)
    slow.answers.set()
    for watcher in [thread for thread in threading.enumerate() if thread.name == WATCHER]:
        watcher.join(30)
    os.getpid()  # a signal that had been sent would have been handled by now


def test_a_signal_that_comes_when_the_run_has_ended_changes_nothing(run):
    with run_lock_held(run):
        pass
    signal.pthread_kill(threading.main_thread().ident, SUPERSEDED)
    assert signal.getsignal(SUPERSEDED) is signal.SIG_DFL
