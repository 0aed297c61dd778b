"""The models of a run, started when they are first needed and again when the router or its node is lost.

A run has as many lives as it needs, so long as each commits something: the journal hands what was live on to the next.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

import ray

from pipelines.run.cells import Cell
from pipelines.run.session import Session, StartFailed
from pipelines.run.stages import RouterLost
from steer.storage.run_folder import RunFolder

FRUITLESS_RESTARTS = 3
"""A run whose router was lost so often without one more row is given up."""


_LOSSES = (RouterLost, ray.exceptions.RayActorError)


class Supervisor:
    """`start` opens a session with the run's models; `evaluate` works with it and may be called again."""

    def __init__(self, run: RunFolder, start: Callable, new: bool):
        """`new`: models that do not start at first leave no folder behind."""
        self._run, self._start, self._new = run, start, new
        self._stack = ExitStack()
        self._session: Session | None = None

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *failure) -> bool | None:
        return self._stack.__exit__(*failure)

    def session(self) -> Session:
        if self._session is None:
            self._stack.enter_context(unused_if_not_started(self._run) if self._new else nullcontext())
            self._session = self._stack.enter_context(self._start())
            self._new = False
        return self._session

    def evaluate(self, cells: Sequence[Cell], work: Callable[[Sequence[Cell], Session, RunFolder], None]) -> None:
        """`work`, in as many lives as it takes. Raises what stops it for another reason than a loss."""
        fruitless, rows = 0, self._rows()
        while True:
            try:
                return work(cells, self.session(), self._run)
            except Exception as failure:
                if not lost(failure):
                    raise
                now = self._rows()
                fruitless, rows = (fruitless + 1 if now == rows else 1), now
                if fruitless == FRUITLESS_RESTARTS:
                    raise
                print("steer: the router was lost; going on from its journal", file=sys.stderr, flush=True)
                self._stack.close()
                self._session = None
                self._run.clean()

    def _rows(self) -> int:
        return self._run.read("traces", columns=["cell"]).num_rows


def lost(failure: BaseException | None) -> bool:
    """Whether an actor's death stopped the pipeline: of the router, or of the stage that feeds it."""
    return any(isinstance(error, _LOSSES) for error in _chain(failure))


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))
        yield failure
        failure = getattr(failure, "cause", None) or failure.__cause__


@contextmanager
def unused_if_not_started(run: RunFolder) -> Iterator[None]:
    """Models that did not start leave no folder behind, so that the mended command may name the same one."""
    try:
        yield
    except StartFailed:
        run.remove()
        raise
