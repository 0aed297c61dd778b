"""Two Gaussians over the scores of one step: the fit by EM, and the posterior of the confident one.

Invariants: a score's posterior depends on that score and the mixture, never on which other scores are asked about with
it; the fit does not depend on the scale or the offset of the scores.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

FIT_SAMPLE = 1024
"""Scores that a fit looks at. An EM iteration takes .1 ms at 64 scores, .27 at 1,024 and .8 at 4,096: with
`MAX_ITERATIONS` this is the largest power of two that keeps a fit under 20 ms (`steer bench mixture` prints it). It
places the mean of one Gaussian to .03 sd."""
MAX_ITERATIONS = 50
"""EM iterations of a fit in all; 10 to 30 are usual at `TOLERANCE`."""
TOLERANCE = 1e-4
"""Gain in mean log-likelihood below which EM stops. At sklearn's 1e-3 it stopped up to .05 short of k-means starts run
to 1e-6, over 64 to 4,096 skewed, uniform and one- or two-humped scores; at this up to .004."""
VARIANCE_FLOOR = 1e-6
"""Added to a component's variance, as a share of the variance of all the scores."""
RESOLUTION = 1e-7
"""Spread below which scores count as equal, relative to the largest: float32 logits resolve no less."""
FEW = 8
"""Below this many scores one of them is too large a share to be told from a component."""
INVERSION = 1e-12
"""Fall of the posterior that counts as an inversion and not as rounding."""


@cache
def mixture_class() -> type:
    """`sklearn.mixture.GaussianMixture`, imported by the first call: that takes two seconds, and of all the processes
    of a run the router alone fits."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    # EM that stops at MAX_ITERATIONS is meant to. `catch_warnings` around the fit would not be safe: fits run in
    # threads.
    warnings.filterwarnings("ignore", category=ConvergenceWarning, module=r"sklearn\.mixture")
    return GaussianMixture


@dataclass(frozen=True)
class Mixture:
    """Eq. 3: weighted Gaussians of the confident (the larger mean) and the unsure traces, in the scores' own unit."""

    mean_confident: float
    mean_unsure: float
    sd_confident: float
    sd_unsure: float
    weight_confident: float
    weight_unsure: float
    n: int
    """Scores it was fitted on, those that a subsample left out included."""

    def posterior(self, scores_L: np.ndarray, monotone: bool) -> np.ndarray:
        """Pr(confident | score) of Eq. 9 as float64 [L], computed in log space; NaN where a score is not finite.

        With unequal variances the log odds are a parabola in the score. `monotone` holds them at the vertex on the side
        where they would fall as the score rises: above it if the confident component is the narrower one, below it if
        it is the wider one.
        """
        x_L = np.asarray(scores_L, np.float64)
        x_L = np.where(np.isfinite(x_L), x_L, np.nan)
        if monotone and self.sd_confident != self.sd_unsure:
            clamp = np.minimum if self.sd_confident < self.sd_unsure else np.maximum
            x_L = clamp(x_L, self._vertex())
        confident_L = (x_L - self.mean_confident) / self.sd_confident
        unsure_L = (x_L - self.mean_unsure) / self.sd_unsure
        with np.errstate(divide="ignore", over="ignore"):  # a weight of 0 gives log odds of +-inf, the right answer
            prior = np.log(self.weight_confident) - np.log(self.weight_unsure)
            # A product, since the difference of two large squares would lose what matters.
            log_odds_L = 0.5 * (unsure_L - confident_L) * (unsure_L + confident_L)
            log_odds_L += prior + np.log(self.sd_unsure) - np.log(self.sd_confident)
            return 1.0 / (1.0 + np.exp(-log_odds_L))

    def inversions(self, scores_L: np.ndarray) -> int:
        """Pairs of neighbours in score order whose literal posterior (Eq. 9) falls as the score rises."""
        x_L = np.asarray(scores_L, np.float64)
        ascending = self.posterior(np.sort(x_L[np.isfinite(x_L)]), monotone=False)
        return int((np.diff(ascending) < -INVERSION).sum())

    def _vertex(self) -> float:
        """The score at which the log odds of two Gaussians of unequal variance turn."""
        # Relative to the confident mean: with raw means the numerator loses its digits when sds nearly agree.
        ratio = (self.sd_confident / self.sd_unsure) ** 2
        return self.mean_confident + (self.mean_confident - self.mean_unsure) * ratio / (1.0 - ratio)


def fit_mixture(scores: np.ndarray, seed: int = 0) -> Mixture | None:
    """Fit two Gaussians to `scores` [n] (Eq. 4) in at most 20 ms whatever n; None if fewer than two are finite or they
    are all equal.

    - Scores that are not finite are dropped. Of more than `FIT_SAMPLE` a subsample drawn with `seed` is fitted.
    - `sklearn.mixture.GaussianMixture`, float64, on standardised scores, scaled back afterwards: its floor on the
      variance is absolute, and a measure may live in the fourth decimal.
    - EM starts at the split of the sorted scores with the least variance within its two parts: what k-means
      approximates, but exact in one dimension, deterministic, and without k-means' milliseconds.
    - A confident component that rests on one score would send every other trace to the large model because of that one:
      of `FEW` scores or more it is set aside, once, and the others are fitted. An unsure component of one score stays:
      it costs that one trace.
    """
    x = np.asarray(scores, np.float64).ravel()
    x = x[np.isfinite(x)]
    n = len(x)
    if n > FIT_SAMPLE:
        x = np.random.default_rng(seed).choice(x, FIT_SAMPLE, replace=False)
    if not _spread(x):
        return None
    fitted = _run_em(x, MAX_ITERATIONS, seed)
    confident = int(np.argmax(fitted.means))
    if len(x) >= FEW and fitted.weights[confident] * len(x) < 1.5:
        # The component's own score is the largest: it is what pulled the mean up.
        x = np.delete(x, np.argmax(x))
        if not _spread(x):
            return None
        n -= 1
        fitted = _run_em(x, max(MAX_ITERATIONS - fitted.iterations, 1), seed)
        confident = int(np.argmax(fitted.means))
    unsure = 1 - confident
    return Mixture(
        mean_confident=float(fitted.means[confident]),
        mean_unsure=float(fitted.means[unsure]),
        sd_confident=float(fitted.sds[confident]),
        sd_unsure=float(fitted.sds[unsure]),
        weight_confident=float(fitted.weights[confident]),
        weight_unsure=float(fitted.weights[unsure]),
        n=n,
    )


class _Fitted(NamedTuple):
    """Two components in the scores' own unit, in either order; arrays [2]."""

    means: np.ndarray
    sds: np.ndarray
    weights: np.ndarray
    iterations: int


def _spread(x: np.ndarray) -> bool:
    return len(x) >= 2 and bool(np.ptp(x) > RESOLUTION * np.abs(x).max())


def _run_em(x: np.ndarray, iterations: int, seed: int) -> _Fitted:
    center, scale = x.mean(), x.std()
    z = (x - center) / scale
    low, high = _best_split(z)
    variances = np.array([low.var(), high.var()]) + VARIANCE_FLOOR
    em = mixture_class()(
        n_components=2,
        covariance_type="diag",  # in one dimension all four are the same; this one needs no Cholesky
        tol=TOLERANCE,
        reg_covar=VARIANCE_FLOOR,
        max_iter=iterations,
        weights_init=np.array([len(low), len(high)]) / len(z),
        means_init=np.array([[low.mean()], [high.mean()]]),
        precisions_init=1.0 / variances[:, None],
        random_state=seed,
    ).fit(z[:, None])
    sds = scale * np.sqrt(em.covariances_[:, 0])
    return _Fitted(center + scale * em.means_[:, 0], sds, em.weights_, em.n_iter_)


def _best_split(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two runs of sorted `z` with the least variance within them (equally, the most between their means)."""
    ordered = np.sort(z)
    n = len(ordered)
    k = np.arange(1, n)
    below = np.cumsum(ordered)[:-1]
    between = (ordered.sum() * k / n - below) ** 2 / (k * (n - k))
    cut = int(np.argmax(between)) + 1
    return ordered[:cut], ordered[cut:]


PARAMETERS = ("mean_confident", "mean_unsure", "sd_confident", "sd_unsure", "weight_confident", "weight_unsure")
