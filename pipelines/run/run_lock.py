"""One process at a time works on a run: the one that came last.

A driver writes itself into RUN/driver.json and looks every second whether it still stands there. One that goes on with
the run writes itself over it and waits; the earlier one sees that and stops, before the later reads what is committed.
So a scheduler may start a job again although it cannot tell whether the first is dead. What a driver cannot do is to
notice while it is stopped itself (SIGSTOP, a suspended machine).
"""

import json
import platform
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from os import getpid

import psutil

from steer.storage.run_folder import RunFolder

LOCK_FILE = "driver.json"
CHECK_S = 1.0
GRACE_S = 5.0
"""A later driver waits so long: an earlier one looks, is interrupted, and its tasks end."""

_ID = uuid.uuid4().hex
"""Of this process."""


class Superseded(Exception):
    """Another process has gone on with the run."""


def take_over_lock(run: RunFolder) -> None:
    """Claim a run that was begun before; returns when no other process writes to it any more."""
    earlier = _read(run)
    _write(run)
    if earlier is not None and earlier["id"] != _ID and not _is_dead(earlier):
        who = f"process {earlier['pid']} on {earlier['host']}"
        print(
            f"steer: {who} may still work on {run.root}: giving it {GRACE_S:g} s to stop", file=sys.stderr, flush=True
        )
        time.sleep(GRACE_S)


@contextmanager
def run_lock_held(run: RunFolder) -> Iterator[None]:
    """Claim a run for as long as the block runs. Inside `pipelines.run.session.cluster`, whose SIGTERM ends the block; in
    another thread than the main one the claim is not watched. Raises Superseded when another process has taken over."""
    _write(run)
    over = threading.Event()
    taken: list[dict | None] = []

    def watch() -> None:
        while not over.wait(CHECK_S):
            try:
                now = _read(run)
            except OSError:
                continue  # a file system that is not there for a moment: what is written meanwhile says so
            if now is None or now["id"] != _ID:
                taken.append(now)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watched = threading.current_thread() is threading.main_thread()
    if watched:
        watcher.start()
    try:
        yield
    except KeyboardInterrupt:
        if taken:
            raise Superseded(_gone(run, taken[0])) from None
        raise
    finally:
        over.set()
        if watched:
            watcher.join(CHECK_S)
        if not taken:
            with suppress(OSError):  # it must not stand in the way of what the block failed of
                run.remove_file(LOCK_FILE)


def _gone(run: RunFolder, by: dict | None) -> str:
    who = f"process {by['pid']} on {by['host']} (since {by['since']})" if by else "another process"
    return f"{who} has gone on with {run.root}: this one has stopped, and nothing is lost"


def _read(run: RunFolder) -> dict | None:
    data = run.read_file(LOCK_FILE)
    return None if data is None else json.loads(data)


def _write(run: RunFolder) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    claim = {"id": _ID, "host": platform.node(), "pid": getpid(), "since": since}
    run.write_file(LOCK_FILE, (json.dumps(claim) + "\n").encode())


def _is_dead(earlier: dict) -> bool:
    return earlier["host"] == platform.node() and not psutil.pid_exists(earlier["pid"])
