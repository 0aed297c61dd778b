"""`steer bench mixture`: milliseconds of one mixture fit, by group size."""

import time

import numpy as np

from steer.mixture.gaussians import fit_mixture

SIZES = (8, 64, 512, 4_096, 100_000)
DRAWS = 40
"""Sets of scores for each size. How far apart the two camps are decides how long EM takes."""


def bench_mixture() -> list[dict]:
    """A row for each group size: median, 95th percentile and maximum over the draws.

    The time of a draw is that of the faster of two fits, because a shared machine interrupts one now and then. The
    camps lie 0.5 to 6 standard deviations apart.
    """
    rng = np.random.default_rng(0)
    fit_mixture(rng.normal(size=64))
    took_ms: dict[int, list[float]] = {n: [] for n in SIZES}
    for _ in range(DRAWS):
        for n in SIZES:
            apart = rng.uniform(0.5, 6.0)
            scores = rng.normal(size=n) + apart * (rng.random(n) < rng.uniform(0.1, 0.9))
            took_ms[n].append(min(_fit_ms(scores) for _ in range(2)))
    return [
        {
            "scores": n,
            "median_ms": round(float(np.median(took_ms[n])), 1),
            "p95_ms": round(float(np.quantile(took_ms[n], 0.95)), 1),
            "max_ms": round(max(took_ms[n]), 1),
            "draws": DRAWS,
        }
        for n in SIZES
    ]


def _fit_ms(scores: np.ndarray) -> float:
    started = time.perf_counter()
    fit_mixture(scores)
    return 1e3 * (time.perf_counter() - started)
