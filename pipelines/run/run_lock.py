"""The run lock: one driver a run. If there are two, the later one goes on and the earlier one stops.

A driver writes its id to RUN/driver.json and reads the file every second. A driver that resumes the run overwrites the
file and waits. The earlier driver notices and stops, before the later one reads what is committed. So a scheduler may
start a job again even if it cannot tell whether the first one is dead. A driver that is stopped itself (SIGSTOP, a
suspended machine) cannot notice that it was replaced.

Invariant: no signal is sent after the block of `run_lock_held` has ended.
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

from steer.config.secrets import hidden
from steer.storage.run_folder import RunFolder

LOCK_FILE = "driver.json"
CHECK_S = 1.0
"""Seconds between two reads of the file."""
GRACE_S = 5.0
"""Seconds that a later driver waits. In this time the earlier one reads the file, is interrupted, and its tasks end."""
STORE_TIMES = 4
"""Both are so many times as long on an object store, where a read is two requests."""
SUPERSEDED = signal.SIGURG
"""Signal that interrupts the main thread when another driver has the lock. Its default action is to do nothing, so a
late one ends no process."""

WATCHER = "run-lock"
"""Name of the thread that reads the file."""

_ID = uuid.uuid4().hex
"""Id of this process in the file."""


class Superseded(Exception):
    """Another driver has taken over the run lock."""


def take_over_lock(run: RunFolder) -> None:
    """Lock a run that another driver may have locked. Returns when no other process writes to the run any more."""
    earlier = _read(run)
    _write(run)
    if earlier is not None and earlier["id"] != _ID and not _is_dead(earlier):
        who = f"process {earlier['pid']} on {earlier['host']}"
        grace_s = GRACE_S * _times(run)
        print(
            f"steer: {who} may still work on {hidden(run.root)}: giving it {grace_s:g} s to stop",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(grace_s)


def has_lock(run: RunFolder) -> bool:
    """Whether this process has the lock. False too where the folder cannot be read."""
    with suppress(OSError, ValueError):
        held = _read(run)
        return held is not None and held["id"] == _ID
    return False


@contextmanager
def run_lock_held(run: RunFolder) -> Iterator[None]:
    """Lock a run for as long as the block runs. Raises Superseded if another driver takes over the lock.

    Only the main thread can be interrupted. In another thread the lock is written but not watched.
    """
    _write(run)
    watched = threading.current_thread() is threading.main_thread()
    watch = _Watch(run)
    before = signal.signal(SUPERSEDED, watch.interrupt) if watched else None
    if watched:
        threading.Thread(target=watch.look, name=WATCHER, daemon=True).start()
    try:
        try:
            yield
        finally:
            watch.end()
    except KeyboardInterrupt:
        if watch.taken_by is not None:
            raise Superseded(watch.message()) from None
        raise
    finally:
        watch.end()
        if watched:
            signal.signal(SUPERSEDED, before or signal.SIG_DFL)
        if watch.taken_by is None:
            with suppress(OSError):  # A failure of the clean-up must not hide one of the block.
                run.remove_file(LOCK_FILE)


class _Watch:
    """Reads the lock in a thread of its own, and interrupts the main thread when another driver has it."""

    def __init__(self, run: RunFolder):
        self._run = run
        self._guard = threading.Lock()
        self._over = threading.Event()
        self.taken_by: dict | None = None
        """The driver that has taken over the lock; empty if the file is gone. None: this driver has the lock."""

    def look(self) -> None:
        while not self._over.wait(CHECK_S * _times(self._run)):
            try:
                now = _read(self._run)
            except (OSError, ValueError):
                continue  # The file system fails for a moment. If a write fails meanwhile, that is reported.
            if now is None or now["id"] != _ID:
                self._send(now or {})
                return

    def _send(self, taken_by: dict) -> None:
        # The guard puts `end` either before this, and then nothing is sent, or after the sending.
        with self._guard:
            if not self._over.is_set():
                self.taken_by = taken_by
                signal.pthread_kill(threading.main_thread().ident, SUPERSEDED)

    def end(self) -> None:
        """Note that the block has ended: no signal is sent from now on, and one on its way interrupts nothing."""
        with self._guard:
            self._over.set()

    def interrupt(self, *_: object) -> None:
        """Signal handler. Raises KeyboardInterrupt, as Ctrl-C does."""
        if not self._over.is_set():
            raise KeyboardInterrupt

    def message(self) -> str:
        by = self.taken_by
        who = f"process {by['pid']} on {by['host']} (since {by['since']})" if by else "another process"
        return f"{who} has gone on with {hidden(self._run.root)}: this one has stopped, and nothing is lost"


def _times(run: RunFolder) -> int:
    return STORE_TIMES if run.on_object_store else 1


def _read(run: RunFolder) -> dict | None:
    data = run.read_file(LOCK_FILE)
    return None if data is None else json.loads(data)


def _write(run: RunFolder) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    lock = {"id": _ID, "host": platform.node(), "pid": getpid(), "since": since}
    run.write_file(LOCK_FILE, (json.dumps(lock) + "\n").encode())


def _is_dead(earlier: dict) -> bool:
    return earlier["host"] == platform.node() and not psutil.pid_exists(earlier["pid"])
