"""Which of two processes that work on one run goes on."""

import json
import os
import platform
import threading

import pytest

from pipelines.run import run_lock as claim
from pipelines.run.run_lock import LOCK_FILE, Superseded, run_lock_held, take_over_lock
from pipelines.run.session import sigterm_as_interrupt
from steer.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "CHECK_S", 0.01)
    return RunFolder.create(tmp_path / "run", "run", {}, [0])


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited for an earlier driver."""
    seconds = []
    monkeypatch.setattr(claim.time, "sleep", seconds.append)
    return seconds


def write(run, **entries):
    earlier = {"id": "another", "host": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00+00:00", **entries}
    run.write_file(LOCK_FILE, json.dumps(earlier).encode())


def driver(run):
    return json.loads(run.read_file(LOCK_FILE))


def test_an_earlier_driver_is_given_time_to_stop_and_then_it_is_not_the_driver(run, waits, capsys):
    write(run, host="gone.example", pid=77)
    take_over_lock(run)
    assert waits == [claim.GRACE_S]
    assert "process 77 on gone.example" in capsys.readouterr().err
    assert (driver(run)["host"], driver(run)["pid"]) == (platform.node(), os.getpid())


def test_nobody_is_waited_for_who_is_dead_or_was_never_there(run, waits):
    take_over_lock(run)
    take_over_lock(run)  # its own claim
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


def test_an_end_of_any_kind_gives_the_run_back(run):
    with run_lock_held(run):
        assert driver(run)["pid"] == os.getpid()
    assert run.read_file(LOCK_FILE) is None
    with pytest.raises(KeyboardInterrupt), run_lock_held(run):
        raise KeyboardInterrupt
    assert run.read_file(LOCK_FILE) is None
    with pytest.raises(OSError, match="full"), run_lock_held(run):
        run.remove()
        raise OSError("full")
