"""The parent's handle on the symbolic worker: one process, started at the first question, killed at a limit.

Invariants: a question takes at most its time limit, and its outcome does not depend on earlier ones; a worker that was
killed, crashed or ran out of memory is replaced at the next question; after a fork the child starts its own; a worker
ends with its parent, which it notices by its closed standard input.

The limit is on the worker's CPU time, not on the clock, so that a busy machine does not turn right answers into
time-outs; the clock is the backstop.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal

CPU_LIMIT_S = 2.0
"""CPU time of one question. Ordinary ones take milliseconds, the slowest right ones of Omni-MATH under a second."""

WALL_LIMIT_S = 60.0
"""Backstop, start of the process included: thirty times the CPU limit."""

MEMORY_LIMIT_BYTES = 1 << 30
"""Address space of the worker: sympy with its caches takes some 100 MiB."""

Outcome = Literal["same", "different", "refused", "timeout"]

_HEADER = struct.Struct(">I")
_ROOT = Path(__file__).resolve().parents[2]


class WorkerError(RuntimeError):
    """The worker does not start. No verdict: every formula would be graded wrong."""


class Worker:
    """A symbolic worker. Safe to share between threads: questions wait for each other."""

    def __init__(
        self,
        cpu_limit_s: float = CPU_LIMIT_S,
        wall_limit_s: float = WALL_LIMIT_S,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        self._limits = (cpu_limit_s, wall_limit_s, memory_limit_bytes)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that answers now; None before the first question and after a kill."""
        return self._process.pid if self._process else None

    def ask(self, gold: str, answer: str) -> Outcome:
        """Whether two canonical texts are equal as mathematics.

        `timeout`: a limit of time was reached; `refused`: it could not be read, or took too much memory, or crashed the
        worker. Raises WorkerError if the worker does not start, and OSError if there can be no process.
        """
        request = json.dumps({"gold": gold, "answer": answer}).encode()
        with self._lock:
            # A worker that died since the last question (killed from outside) is no fault of this question: once more.
            outcome = self._outcome(request) if self._is_alive() else None
            return outcome or self._outcome(request) or "refused"

    def close(self) -> None:
        """End the process, if there is one. The next question starts another."""
        # At exit a question may still be waiting in a daemon thread; its reply matters to nobody.
        locked = self._lock.acquire(timeout=1.0)
        self._end()
        if locked:
            self._lock.release()

    def forget(self) -> None:
        """In the child of a fork: let go of the parent's worker, which goes on serving the parent."""
        process, self._process, self._lock = self._process, None, threading.Lock()
        if process is not None:
            process.stdin.close()
            process.stdout.close()
            process.returncode = 0

    def _is_alive(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        return self._process is not None

    def _outcome(self, request: bytes) -> Outcome | None:
        """None if the worker ended before it answered, other than at its own limits."""
        deadline = time.monotonic() + self._limits[1]
        try:
            process = self._process or self._started(deadline)
            process.stdin.write(_HEADER.pack(len(request)) + request)
            reply = self._read(_HEADER.size, deadline)
            if reply:
                reply = self._read(_HEADER.unpack(reply)[0], deadline)
        except TimeoutError:
            self._end()
            return "timeout"
        except BrokenPipeError:
            reply = b""
        except BaseException:
            # An interrupt between question and reply would leave the reply to the next question.
            self._end()
            raise
        if reply:
            return json.loads(reply)["verdict"]
        return "timeout" if self._end(patience_s=5.0) == -signal.SIGPROF else None

    def _started(self, deadline: float) -> subprocess.Popen[bytes]:
        cpu_limit_s, _, memory_limit_bytes = self._limits
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            # -P: the folder that the caller stands in is no place to import from.
            [sys.executable, "-P", "-m", "steer.grading.symbolic", str(cpu_limit_s), str(memory_limit_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # Sets of strings in sympy come in the same order every time.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        if not self._read(_HEADER.size, deadline):
            status = self._end(patience_s=5.0)
            raise WorkerError(
                f"the symbolic worker ended with status {status} before it was ready;"
                f" `{sys.executable} -m steer.grading.symbolic {cpu_limit_s} {memory_limit_bytes}` shows why"
            )
        return self._process

    def _read(self, size: int, deadline: float) -> bytes:
        """Empty if the pipe closed. Raises TimeoutError at the deadline."""
        data = b""
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        while len(data) < size:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(self._process.stdout.fileno(), size - len(data))
            if not part:
                return b""
            data += part
        return data

    def _end(self, patience_s: float = 0.0) -> int | None:
        """The exit status; its own if the process ends by itself within the patience, after it closed its pipe."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
        process.kill()
        process.stdin.close()
        process.stdout.close()
        return process.wait()


_WORKER = Worker()


def symbolic(gold: str, answer: str) -> Outcome:
    """`Worker.ask` of this process's one worker."""
    return _WORKER.ask(gold, answer)


os.register_at_fork(after_in_child=_WORKER.forget)
atexit.register(_WORKER.close)
