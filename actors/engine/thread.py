"""The base of every replica: one engine in one process, behind one private thread.

The thread loads the engine and runs its loop (`inbox -> admit -> advance -> answers`). The methods are async and never
touch the engine. Any exception in the thread after loading ends the process, so that nobody waits for a dead engine:
the router's calls fail, and its replica set starts a successor. No replica is restarted in place. If the model cannot
be loaded, `describe` raises instead and the process stays, because a new process could not load the model either.
"""

import asyncio
import contextlib
import os
import queue
import socket
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import Future

from actors.engine.arguments import set_environment
from actors.engine.checkpoint import count_parameters, model_folder
from actors.engine.in_flight import InFlightBatch, in_columns
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import EngineInfo, StepBatch, StepResults


class EngineThread(ABC):
    """A subclass says how the engine is loaded (`_load`)."""

    def __init__(self, name: str, model: ModelConfig, pool: PoolConfig, measures: tuple[str, ...]):
        """`measures`: of `steer.traces.MEASURES`."""
        self._name = name
        self._model = model
        self._pool = pool
        self._measures = tuple(measures)
        self._inbox: queue.SimpleQueue[tuple[str, InFlightBatch]] = queue.SimpleQueue()
        self._loaded: Future[EngineInfo] = Future()
        self._busy_s = 0.0
        self._busy_since_s: float | None = None
        threading.Thread(target=self._main, name=f"engine-{name}", daemon=True).start()

    async def describe(self) -> EngineInfo:
        """Wait until the model is loaded. RuntimeError with the reason if it cannot be."""
        return await asyncio.shield(asyncio.wrap_future(self._loaded))

    async def run(self, batch: StepBatch) -> AsyncIterator[StepResults]:
        """Answer every row once.

        Without `batch.flush_s`, all answers come in one message. With it, a message with the new answers comes about
        every `flush_s` seconds, if there are any. Closing the generator early withdraws the rows that are still open.
        """
        await self.describe()
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def on_done() -> None:
            with contextlib.suppress(RuntimeError):  # the reader's event loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        in_flight = InFlightBatch(batch, on_done)
        if not batch.key_B:
            done.set()
        self._inbox.put(("admit", in_flight))
        try:
            while not done.is_set():
                try:
                    await asyncio.wait_for(done.wait(), batch.flush_s)
                except TimeoutError:
                    answers = in_flight.take()
                    if answers:
                        yield in_columns(answers, self._name, self._busy_now_s())
            answers = in_flight.take()
            if answers or not batch.key_B:
                yield in_columns(answers, self._name, self._busy_now_s())
        finally:
            if not done.is_set():
                self._inbox.put(("withdraw", in_flight))

    def _busy_now_s(self) -> float:
        """Seconds since loading in which the engine had work."""
        since_s = self._busy_since_s
        return self._busy_s + (time.monotonic() - since_s if since_s is not None else 0.0)

    # --- the engine's thread ----------------------------------------------------------------------------------------

    @abstractmethod
    def _load(self):
        """Load the engine. Returns its loop (`EngineLoop`, or a class with the same methods) and its `EngineInfo`.
        Called once, in the thread."""

    def _main(self) -> None:
        try:
            loop, info = self._load()
        except Exception as error:
            traceback.print_exc()
            reason = f"replica {self._name} cannot load {self._model.path}: {type(error).__name__}: {error}"
            self._loaded.set_exception(RuntimeError(reason))
            return
        self._loaded.set_result(info)
        try:
            while True:
                self._read_inbox(loop)
                if loop.unfinished:
                    loop.advance()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _read_inbox(self, loop) -> None:
        """Carry out the tasks in the inbox. If the engine has no work, wait for a task."""
        while True:
            idle = not loop.unfinished
            if idle and self._busy_since_s is not None:
                self._busy_s, self._busy_since_s = self._busy_now_s(), None
            try:
                task, in_flight = self._inbox.get(block=idle)
            except queue.Empty:
                return
            if self._busy_since_s is None:
                self._busy_since_s = time.monotonic()
            if task == "admit":
                loop.admit(in_flight)
            else:
                loop.withdraw(in_flight)

    def _info(self, fingerprint: str, max_model_len: int, measures: tuple[str, ...]) -> EngineInfo:
        import torch
        import transformers
        import vllm

        return EngineInfo(
            replica=self._name,
            model=model_folder(self._model.path),
            parameters=self._model.parameters or count_parameters(self._model.path),
            tokenizer=fingerprint,
            max_model_len=max_model_len,
            measures=measures,
            pid=os.getpid(),
            node=socket.gethostname(),
            versions={module.__name__: module.__version__ for module in (vllm, torch, transformers)},
        )


def prepare_process(pool: PoolConfig) -> None:
    """Set the environment up, before anything of vLLM is imported.

    RuntimeError if the pool asks for GPUs and this process sees none.
    """
    set_environment(pool.gpus)
    import torch

    if pool.gpus > 0 and not torch.cuda.is_available():
        raise RuntimeError("the pool asks for GPUs and this process sees none: set `gpus: 0`, or install CUDA's vllm")
