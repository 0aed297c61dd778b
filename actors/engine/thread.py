"""What every replica is: one vLLM engine in one process, behind one private thread.

The thread loads the engine and drives it (`queue -> admit -> advance -> answers`); the methods are async over it and
never touch vLLM. Any exception of that thread after loading ends the process, so that Ray starts another and nobody
waits for a dead engine; a model that does not load raises in `describe` instead, since a new process would not load it
either.
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
    """A subclass says how the engine is loaded (`_load`). `measures`: of `steer.traces.MEASURES`."""

    def __init__(self, name: str, model: ModelConfig, pool: PoolConfig, measures: tuple[str, ...]):
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
        """Waits until the model is loaded; RuntimeError with the reason if it cannot be."""
        return await asyncio.shield(asyncio.wrap_future(self._loaded))

    async def run(self, batch: StepBatch) -> AsyncIterator[StepResults]:
        """Answer every row once: in one message, or with `flush_s` in one about every so many seconds that has rows.

        Closing the generator early withdraws the rows that are still open.
        """
        await self.describe()
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def on_done() -> None:
            with contextlib.suppress(RuntimeError):  # the reader's loop is closed: nobody waits any more
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

    async def busy(self) -> float:
        """Seconds in which this engine had work since it was loaded."""
        return self._busy_now_s()

    def _busy_now_s(self) -> float:
        since_s = self._busy_since_s
        return self._busy_s + (time.monotonic() - since_s if since_s is not None else 0.0)

    # --- the engine's thread ----------------------------------------------------------------------------------------

    @abstractmethod
    def _load(self):
        """Start vLLM: the `EngineLoop` of its engine, and the `EngineInfo`. Called once, in the thread."""

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
                self._take_in(loop)
                if loop.unfinished:
                    loop.advance()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _take_in(self, loop) -> None:
        """Carry out what waits in the inbox; without work, wait for some."""
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

    def _info(self, tokenizer: str, max_model_len: int, measures: tuple[str, ...]) -> EngineInfo:
        import torch
        import transformers
        import vllm

        return EngineInfo(
            replica=self._name,
            model=model_folder(self._model.path),
            parameters=self._model.parameters or count_parameters(self._model.path),
            tokenizer=tokenizer,
            max_model_len=max_model_len,
            measures=measures,
            pid=os.getpid(),
            node=socket.gethostname(),
            versions={module.__name__: module.__version__ for module in (vllm, torch, transformers)},
        )


def prepare_process(pool: PoolConfig) -> None:
    """Before anything of vLLM is imported. RuntimeError if the GPUs that the pool asks for are not to be seen."""
    set_environment(pool.gpus)
    import torch

    if pool.gpus > 0 and not torch.cuda.is_available():
        raise RuntimeError("the pool asks for GPUs and this process sees none: set `gpus: 0`, or install CUDA's vllm")
