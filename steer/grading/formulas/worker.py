"""The parent's handle on the symbolic worker: one process, started at the first question and killed at a limit.

Invariants: a question takes at most its time limit, and its outcome does not depend on earlier questions. A worker that
was killed, crashed or ran out of memory is replaced at the next question. After a fork, the child starts a worker of
its own. A worker ends with its parent, which it notices by its closed standard input.

The limit applies to the worker's CPU time, not to the clock, so that a busy machine does not turn right answers into
time-outs. A longer limit on the clock is the backstop.
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
from typing import IO, Literal, NamedTuple

CPU_LIMIT_S = 2.0
"""CPU time of one question. Ordinary questions take milliseconds, the slowest right answers of Omni-MATH under 1 s."""

WALL_LIMIT_S = 60.0
"""Clock time of one question, including the start of the process. It is thirty times the CPU limit."""

MEMORY_LIMIT_BYTES = 1 << 30
"""Address space of the worker. sympy with its caches takes about 100 MiB."""

Outcome = Literal["same", "different", "refused", "timeout"]

_HEADER = struct.Struct(">I")
_ROOT = Path(__file__).resolve().parents[3]


class WorkerError(RuntimeError):
    """The worker does not start. This is an error and not a verdict, because every formula would be graded wrong."""


class _Running(NamedTuple):
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    replies: IO[bytes]

    def close_pipes(self) -> None:
        self.requests.close()
        self.replies.close()


class Worker:
    """A symbolic worker. Threads may share it: their questions wait for each other."""

    def __init__(
        self,
        cpu_limit_s: float = CPU_LIMIT_S,
        wall_limit_s: float = WALL_LIMIT_S,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        self._limits = (cpu_limit_s, wall_limit_s, memory_limit_bytes)
        self._lock = threading.Lock()
        self._running: _Running | None = None

    @property
    def pid(self) -> int | None:
        """The process that answers now; None before the first question and after a kill."""
        return self._running.process.pid if self._running else None

    def ask(self, gold: str, answer: str) -> Outcome:
        """Whether two canonical texts are equal as mathematics.

        `timeout`: a time limit was reached. `refused`: a text could not be parsed, or the comparison took too much
        memory or crashed the worker. Raises WorkerError if the worker does not start, and OSError if no process can be
        created.
        """
        request = json.dumps({"gold": gold, "answer": answer}).encode()
        with self._lock:
            # A worker that died since the last question was killed from outside, not by this question: ask again.
            outcome = self._outcome(request) if self._is_alive() else None
            return outcome or self._outcome(request) or "refused"

    def close(self) -> None:
        """End the process, if there is one. The next question starts another."""
        # At exit, a daemon thread may still wait for a reply that nobody needs.
        locked = self._lock.acquire(timeout=1.0)
        self._end()
        if locked:
            self._lock.release()

    def forget(self) -> None:
        """Let go of the parent's worker in the child of a fork. The worker continues to serve the parent."""
        running, self._running, self._lock = self._running, None, threading.Lock()
        if running is not None:
            running.close_pipes()
            running.process.returncode = 0

    def _is_alive(self) -> bool:
        if self._running is not None and self._running.process.poll() is not None:
            self._end()
        return self._running is not None

    def _outcome(self, request: bytes) -> Outcome | None:
        """Ask once. None if the worker ended before its reply, except at its own time limit."""
        deadline = time.monotonic() + self._limits[1]
        try:
            running = self._running or self._started(deadline)
            running.requests.write(_HEADER.pack(len(request)) + request)
            reply = _read(running.replies, _HEADER.size, deadline)
            if reply:
                reply = _read(running.replies, _HEADER.unpack(reply)[0], deadline)
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
            verdict: Outcome = json.loads(reply)["verdict"]
            return verdict
        return "timeout" if self._end(patience_s=5.0) == -signal.SIGPROF else None

    def _started(self, deadline: float) -> _Running:
        cpu_limit_s, _, memory_limit_bytes = self._limits
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            # -P: never import from the caller's current folder.
            [sys.executable, "-P", "-m", "steer.grading.formulas.symbolic", str(cpu_limit_s), str(memory_limit_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # The fixed hash seed gives sympy's sets of strings the same order every time.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        running = self._running = _Running(process, process.stdin, process.stdout)
        if not _read(running.replies, _HEADER.size, deadline):
            status = self._end(patience_s=5.0)
            raise WorkerError(
                f"the symbolic worker ended with status {status} before it was ready;"
                f" `{sys.executable} -m steer.grading.formulas.symbolic {cpu_limit_s} {memory_limit_bytes}` shows why"
            )
        return running

    def _end(self, patience_s: float = 0.0) -> int | None:
        """End the process and return its exit status; None if there is no process.

        A process that closed its pipe may still end by itself within the patience. The status is then its own.
        """
        running, self._running = self._running, None
        if running is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(patience_s)
        running.process.kill()
        running.close_pipes()
        return running.process.wait()


def _read(replies: IO[bytes], size: int, deadline: float) -> bytes:
    """Read so many bytes; none if the pipe closed. Raises TimeoutError at the deadline."""
    data = b""
    poll = select.poll()
    poll.register(replies, select.POLLIN)
    while len(data) < size:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        part = os.read(replies.fileno(), size - len(data))
        if not part:
            return b""
        data += part
    return data


_WORKER = Worker()


def symbolic(gold: str, answer: str) -> Outcome:
    """Ask this process's worker; see `Worker.ask`."""
    return _WORKER.ask(gold, answer)


os.register_at_fork(after_in_child=_WORKER.forget)
atexit.register(_WORKER.close)
