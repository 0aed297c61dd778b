"""The rows of `steer experiment paper`: what the paper compares, as variants of one sweep, and their labels."""

from collections.abc import Iterator
from typing import Any

from steer.traces import MEASURES

KIND = "paper"
"""The `kind` of the run in `run.json`. The report of such a run has the paper's sections."""
METHODS = (
    "small",
    "large",
    "random_query",
    "random_step",
    "spec_reason",
    "query_router",
    "rsd",
    "steer paper",
    "steer stepwise",
    "steer",
)
"""Rows of Tables 1 and 2 and of the curves: what the paper compares, its STEER to the letter, and this project's."""
GROUP_COUNTS = (2, 5, 10)
"""K of Table 3 other than 1. K = 1 is the method's own row."""
GROUPED = ("steer paper", "steer")
GRIDS = {
    "random_step": (0.3, 0.6, 0.9),
    "spec_reason": (1, 3, 5, 7, 8.5),
    "query_router": (0.1, 0.3, 0.5, 0.7, 0.9),
    "rsd": (0.1, 0.3, 0.5, 0.7, 0.9),
    "steer": (0.01, 0.1, 0.3, 0.5, 0.9),
}
"""Thresholds by the policy's name: about every second one of its own grid, so that the experiment takes minutes."""
GROUP_GRID = (0.1, 0.5, 0.9)
PERCENTILES = (10, 30, 50, 70, 90)
PERCENTILE = "percentile"
CONFIDENCE = "confidence"
OBSERVED = "observed"
"""Begins the label of rows in which small writes every step and a signal only looks on. Its AUROC is measured there."""


def group_label(method: str, groups: int) -> str:
    """The row of Table 3 for a method and K groups."""
    return method if groups == 1 else f"{method} K={groups}"


def percentile_label(measure: str, scorer: str) -> str:
    """The row of Figure 3 for a measure and a scorer."""
    return f"{PERCENTILE} {measure} by {scorer}"


def rows() -> Iterator[dict[str, Any]]:
    """The variants, as they stand in the configuration of a sweep."""
    paper, stepwise = ({"name": "steer", "preset": preset} for preset in ("paper", "stepwise"))
    policies = {name: {"name": name} for name in METHODS} | {"steer paper": paper, "steer stepwise": stepwise}
    for method in METHODS:
        grid = {"grid": GRIDS[policies[method]["name"]]} if policies[method]["name"] in GRIDS else {}
        on_test = "chosen" if method == "random_step" else "grid"
        yield {"label": method, "policy": policies[method], "on_test": on_test, **grid}
    for method in GROUPED:
        for groups in GROUP_COUNTS:
            label = group_label(method, groups)
            yield {"label": label, "policy": policies[method], "grid": GROUP_GRID, "groups": groups}
    for measure in MEASURES:
        for scorer in ("small", "producer"):
            policy = {"name": "percentile", "measure": measure, "scored_by": scorer}
            label = percentile_label(measure, scorer)
            yield {"label": label, "policy": policy, "grid": PERCENTILES, "on_test": "never"}
    policy = {"name": "steer", "preset": "stepwise", "refine": "never", "ahead": True}
    yield {"label": f"{OBSERVED} {CONFIDENCE}", "policy": policy, "grid": [0.0], "on_validation": False}
    for method in ("rsd", "spec_reason"):
        yield {"label": f"{OBSERVED} {method}", "policy": policies[method], "grid": [0.0], "on_validation": False}
