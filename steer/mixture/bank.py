"""Where a mixture comes from when not from the live traces alone: the run's recent scores, or an earlier run's fits."""

import threading
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

WINDOW = 512
"""Last scores that are kept (method.md, `bank`)."""
ALL_WINDOW = 8192
"""Last scores of all step indices together that are kept for `all_steps`: where unsure traces leave a group for good,
later steps hold sure ones alone, and the first step's scores must still be there."""
OWN = 24
"""Scores of its own that a step index needs before it is fitted on them."""


DRAFT_INDEX = -1
"""Step index of the drafts of step 0, which have a mixture of their own."""


class Addition(NamedTuple):
    """Scores that were added to a bank at once; `number` counts the additions since the bank was new."""

    number: int
    step: int
    scores: np.ndarray
    scope: str


class ScoreBank:
    """Recent scores by step index, shared by the groups of a run; `scope` keeps apart what is fitted apart.

    Groups decide in threads, so every access takes the lock.
    """

    def __init__(self, noted: bool = False):
        """`noted`: keep what is added for `take_additions`."""
        self._lock = threading.Lock()
        self._noted = noted
        self._additions: list[Addition] = []
        self._added = 0
        self._by_step: dict[tuple[str, int], np.ndarray] = {}
        self._all: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict:
        with self._lock:
            return {**self.__dict__, "_lock": None, "_additions": []}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def take_additions(self) -> list[Addition]:
        """What was added since the last call."""
        with self._lock:
            taken, self._additions = self._additions, []
            return taken

    def repeat(self, additions: Iterable[Addition]) -> None:
        """Add what a bank that is gone was given, in its order; what this one holds already is left out."""
        for addition in sorted(additions, key=lambda a: a.number):
            if addition.number >= self._added:
                self._added = addition.number
                self.add(addition.step, addition.scores, addition.scope)
        self.take_additions()

    def add(self, step: int, scores: np.ndarray, scope: str = "pooled") -> None:
        """Add scores of one step index; those that are not finite are dropped. The caller adds each once."""
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

    def scores(self, step: int, scope: str = "pooled") -> np.ndarray:
        """The last `WINDOW` scores of this step index; while it has fewer than `OWN`, those of all indices together."""
        with self._lock:
            own = self._by_step.get((scope, step), np.empty(0))
            return own if len(own) >= OWN else self._all.get(scope, own)[-WINDOW:]

    def all_scores(self, scope: str = "pooled") -> np.ndarray:
        """The last `ALL_WINDOW` scores of all step indices."""
        with self._lock:
            return self._all.get(scope, np.empty(0))
