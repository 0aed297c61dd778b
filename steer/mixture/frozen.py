"""Mixtures that an earlier run saved: routing without fitting (`fit_from: frozen`).

Invariant: `load` accepts only what can be used at every step; each refusal names the file and the remedy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from steer.mixture.bank import DRAFT_INDEX
from steer.mixture.gaussians import PARAMETERS, Mixture
from steer.storage.filesystem import open_filesystem


class FrozenMixtures:
    """Saved mixtures, by scope and step index."""

    def __init__(self, source: str, by_scope: dict[str, dict[int, Mixture]]):
        self._source = source
        self._by_scope = by_scope

    @classmethod
    def load(cls, path: Path | str, measure: str) -> "FrozenMixtures":
        """Read the fresh fits of `measure` from a run's `mixtures/` folder or from one Parquet file of it, by path or
        URL.

        If a step was fitted more than once, keep the fit with the most scores; on a tie, the latest. (The parts of a
        run come in no order, and under a rolling barrier early fits see few scores.) Raises ValueError with the path
        and the remedy if nothing there can be used.
        """
        try:
            files, inside, _ = open_filesystem(path)
            table = pq.read_table(inside, filesystem=files)
        except Exception as error:  # Each store's client has exceptions of its own.
            raise ValueError(f"frozen_path {path}: not readable as Parquet ({error}){_REMEDY}") from error
        missing = [
            c for c in ("step", "draft", "scope", "measure", "rule", "n", *PARAMETERS) if c not in table.column_names
        ]
        if missing:
            raise ValueError(f"frozen_path {path}: no column {', '.join(missing)}{_REMEDY}")
        fresh = [row for row in table.to_pylist() if row["rule"] == "fresh" and row["measure"] == measure]
        cells = {row.get("cell") for row in fresh}
        if len(cells) > 1:
            raise ValueError(f"frozen_path {path}: mixtures of {len(cells)} policy settings in one table{_REMEDY}")
        by_scope: dict[str, dict[int, Mixture]] = {}
        for row in fresh:
            values: dict[str, Any] = {name: row[name] for name in PARAMETERS}
            numbers = list(values.values())
            if None in numbers or not np.isfinite(numbers).all() or min(row["sd_confident"], row["sd_unsure"]) <= 0:
                raise ValueError(f"frozen_path {path}: unusable parameters at step {row['step']}{_REMEDY}")
            steps = by_scope.setdefault(row["scope"], {})
            index = DRAFT_INDEX if row["draft"] else row["step"]
            if index not in steps or row["n"] >= steps[index].n:
                steps[index] = Mixture(**values, n=row["n"])
        if not by_scope:
            raise ValueError(f"frozen_path {path}: no fresh fit by {measure} among its {table.num_rows} rows{_REMEDY}")
        return cls(str(path), by_scope)

    def require(self, scopes: tuple[str, ...]) -> None:
        """Raise ValueError if none of these scopes was saved.

        One of `small` and `large` may be missing: that model wrote no step.
        """
        if not set(scopes) & set(self._by_scope):
            saved = ", ".join(sorted(self._by_scope))
            raise ValueError(f"frozen_path {self._source}: fitted for scope {saved}, not {', '.join(scopes)}{_REMEDY}")

    def at(self, step: int, scope: str = "pooled") -> Mixture | None:
        """The mixture of this step index, else of the nearest earlier one, else of the first. None: scope not saved."""
        steps = self._by_scope.get(scope)
        if not steps:
            return None
        earlier = [index for index in steps if index <= step]
        return steps[max(earlier) if earlier else min(steps)]


_REMEDY = ": give the mixtures/ folder of a `steer run` with fit_from live or bank, the same measure and scope"
