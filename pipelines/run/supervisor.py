"""Start a run's models when they are first needed, and again after a router or its node was lost.

If one of several routers is lost, all are started again: what the others lose is one call a live trace, and there is
one way of going on to get right. The new routers find the live traces in the journal.

Invariant: the run is given up after `FRUITLESS_RESTARTS` losses in a row between which no row was committed.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

import ray

from pipelines.run.cells import Cell
from pipelines.run.failures import causes
from pipelines.run.session import Session
from pipelines.run.stages import RouterLost
from steer.events import What, event_of
from steer.storage.run_folder import RunFolder

FRUITLESS_RESTARTS = 3
"""Losses of a router, without a row committed between them, after which a run is given up."""

_LOSSES = (RouterLost, ray.exceptions.RayActorError)
"""Exceptions that mean a loss."""


class Supervisor:
    """Holds the session with the run's models. `evaluate` may be called several times."""

    def __init__(self, run: RunFolder, start: Callable[[], AbstractContextManager[Session]]):
        """`start` opens a session."""
        self._run, self._start = run, start
        self._stack = ExitStack()
        self._session: Session | None = None
        self.started = False
        """Whether the models have been loaded at least once."""

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *failure) -> bool | None:
        return self._stack.__exit__(*failure)

    def session(self) -> Session:
        """The session. It is opened if there is none."""
        if self._session is None:
            self._session = self._stack.enter_context(self._start())
            self.started = True
        return self._session

    def evaluate(self, cells: Sequence[Cell], work: Callable[[Sequence[Cell], Session, RunFolder], None]) -> None:
        """Call `work`, and call it again after each loss. Raises any other failure, and the last loss of a run that is
        given up."""
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
                print("steer: a router was lost; going on from the journal", file=sys.stderr, flush=True)
                self._stack.close()
                self._session = None
                self._run.clean()
                self._run.write_events([event_of(What.ROUTER_LOST, reason=str(failure))])

    def _rows(self) -> int:
        return self._run.read_unsorted("traces", columns=["cell"]).num_rows


def lost(failure: BaseException) -> bool:
    """Whether the death of an actor stopped the pipeline: of a router, or of the stage that calls it."""
    return any(isinstance(cause, _LOSSES) for cause in causes(failure))
