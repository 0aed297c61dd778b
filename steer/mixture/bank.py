"""The recent scores of a run, for mixtures that are fitted on more than the live traces of one group.

Invariant: additions are numbered in their order, so that a bank that is rebuilt from a journal equals the one that was
lost.
"""

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

WINDOW = 512
"""Scores that are kept for a step index: the last ones (docs/method.md, `bank`)."""
ALL_WINDOW = 8192
"""Scores that are kept of all step indices together, for `all_steps`. Where unsure traces leave a group for good, later
steps hold sure traces alone: the scores of the first step must then still be there."""
OWN = 24
"""A step index with fewer scores than this is fitted on the scores of all indices."""
DRAFT_INDEX = -1
"""Step index of the drafts of step 0, which have a mixture of their own."""


class Addition(NamedTuple):
    """Scores that were added to a bank in one call. `number` counts the additions since the bank was new."""

    number: int
    step: int
    scores: npt.NDArray[np.float64]
    scope: str


class ScoreBank:
    """Recent scores by step index, shared by the groups of a run.

    `scope` names a set of scores with mixtures of its own. Groups decide in threads, so every access takes the lock.
    """

    def __init__(self, noted: bool = False):
        """`noted`: remember every addition until `take_additions`."""
        self._lock = threading.Lock()
        self._noted = noted
        self._additions: list[Addition] = []
        self._added = 0
        self._by_step: dict[tuple[str, int], npt.NDArray[np.float64]] = {}
        self._all: dict[str, npt.NDArray[np.float64]] = {}

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {**self.__dict__, "_lock": None, "_additions": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def take_additions(self) -> list[Addition]:
        """The additions since the last call."""
        with self._lock:
            taken, self._additions = self._additions, []
            return taken

    def repeat(self, additions: Iterable[Addition]) -> None:
        """Repeat the additions to a bank that is lost, in their order; skip those that this bank holds."""
        for addition in sorted(additions, key=lambda a: a.number):
            if addition.number >= self._added:
                self._added = addition.number
                self.add(addition.step, addition.scores, addition.scope)
        self.take_additions()

    def add(self, step: int, scores: npt.ArrayLike, scope: str = "pooled") -> None:
        """Add scores of one step index, each once. Scores that are not finite are dropped."""
        new = np.asarray(scores, np.float64)
        new = new[np.isfinite(new)]
        if not len(new):
            return
        empty = np.empty(0)
        with self._lock:
            if self._noted:
                self._additions.append(Addition(self._added, step, new, scope))
            self._added += 1
            key = (scope, step)
            self._by_step[key] = np.concatenate([self._by_step.get(key, empty), new])[-WINDOW:]
            self._all[scope] = np.concatenate([self._all.get(scope, empty), new])[-ALL_WINDOW:]

    def scores(self, step: int, scope: str = "pooled") -> npt.NDArray[np.float64]:
        """The last `WINDOW` scores of this step index, or of all indices while this one has fewer than `OWN`."""
        with self._lock:
            own = self._by_step.get((scope, step), np.empty(0))
            return own if len(own) >= OWN else self._all.get(scope, own)[-WINDOW:]

    def all_scores(self, scope: str = "pooled") -> npt.NDArray[np.float64]:
        """The last `ALL_WINDOW` scores of all step indices."""
        with self._lock:
            return self._all.get(scope, np.empty(0))
