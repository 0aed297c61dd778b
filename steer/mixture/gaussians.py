"""Two Gaussians over the scores of one step: the fit by EM, and the posterior of the confident one.

Invariants: the posterior of a score depends on that score and the mixture, never on the other scores of the call. The
fit does not depend on the scale or the offset of the scores.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FIT_SAMPLE = 1024
"""Scores that a fit uses at most. An EM iteration takes .06 ms at 64 scores, .15 ms at 1,024 and .24 ms at 4,096. 1,024
scores place the mean of one Gaussian to .03 sd."""
MAX_ITERATIONS = 50
"""EM iterations of a fit at most. At `TOLERANCE` 10 to 30 are usual."""
TOLERANCE = 1e-4
"""Gain in mean log-likelihood below which EM stops. Measured against k-means starts run to 1e-6, over 64 to 4,096
skewed, uniform and one- or two-humped scores: at scikit-learn's 1e-3 EM stopped up to .05 short of them, at 1e-4 up to
.004."""
VARIANCE_FLOOR = 1e-6
"""What is added to a component's variance, as a share of the variance of all scores."""
RESOLUTION = 1e-7
"""Spread below which scores count as equal, relative to the largest. Float32 logits resolve no less."""
FEW = 8
"""With fewer scores than this, a single score cannot be told from a component."""
INVERSION = 1e-12
"""A smaller fall of the posterior is rounding, not an inversion."""
PARAMETERS = ("mean_confident", "mean_unsure", "sd_confident", "sd_unsure", "weight_confident", "weight_unsure")
"""The numbers of a `Mixture` that `mixtures/` holds."""


@dataclass(frozen=True)
class Mixture:
    """Eq. 3: weighted Gaussians of the confident traces (the larger mean) and the unsure ones, in the scores' unit."""

    mean_confident: float
    mean_unsure: float
    sd_confident: float
    sd_unsure: float
    weight_confident: float
    weight_unsure: float
    n: int
    """Scores that it stands for, those that a subsample left out included."""

    def posterior(self, scores_L: npt.ArrayLike, monotone: bool) -> npt.NDArray[np.float64]:
        """Pr(confident | score) of Eq. 9 as float64 [L], computed in log space; NaN where a score is not finite.

        With unequal variances the log odds are a parabola in the score. `monotone` holds them at the vertex on the side
        where they would fall as the score rises. That side is above the vertex if the confident component is the
        narrower one, and below it if it is the wider one.
        """
        x_L = np.asarray(scores_L, np.float64)
        x_L = np.where(np.isfinite(x_L), x_L, np.nan)
        if monotone and self.sd_confident != self.sd_unsure:
            clamp = np.minimum if self.sd_confident < self.sd_unsure else np.maximum
            x_L = clamp(x_L, self._vertex())
        confident_L = (x_L - self.mean_confident) / self.sd_confident
        unsure_L = (x_L - self.mean_unsure) / self.sd_unsure
        with np.errstate(divide="ignore", over="ignore"):  # a weight of 0 rightly gives log odds of +-inf
            prior = np.log(self.weight_confident) - np.log(self.weight_unsure)
            # A product: the difference of two large squares would lose the digits that matter.
            log_odds_L = 0.5 * (unsure_L - confident_L) * (unsure_L + confident_L)
            log_odds_L += prior + np.log(self.sd_unsure) - np.log(self.sd_confident)
            posterior_L: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-log_odds_L))
        return posterior_L

    def inversions(self, scores_L: npt.ArrayLike) -> int:
        """Pairs of neighbours in score order whose literal posterior (Eq. 9) falls as the score rises."""
        x_L = np.asarray(scores_L, np.float64)
        ascending = self.posterior(np.sort(x_L[np.isfinite(x_L)]), monotone=False)
        return int((np.diff(ascending) < -INVERSION).sum())

    def _vertex(self) -> float:
        """The score at which the log odds of two Gaussians of unequal variance turn around."""
        # Relative to the confident mean: with raw means the numerator loses its digits when sds nearly agree.
        ratio = (self.sd_confident / self.sd_unsure) ** 2
        return self.mean_confident + (self.mean_confident - self.mean_unsure) * ratio / (1.0 - ratio)


def fit_mixture(scores: npt.ArrayLike, seed: int = 0) -> Mixture | None:
    """Fit two Gaussians to `scores` [n] (Eq. 4). The time has a bound, whatever n.

    None if fewer than two scores are finite or all are equal.

    - Scores that are not finite are dropped. Of more than `FIT_SAMPLE` scores a subsample drawn with `seed` is fitted.
    - EM runs in float64 on standardised scores, and the result is scaled back. The floor on the variance is absolute,
      and a measure may vary in the fourth decimal only.
    - EM starts at the split of the sorted scores with the least variance within the two parts. K-means approximates
      this split; in one dimension it is exact, deterministic and takes none of k-means' milliseconds.
    - A confident component of a single score would send every other trace to the large model. If there are `FEW` scores
      or more, that score is set aside, once, and the others are fitted. An unsure component of a single score stays: it
      costs that one trace.
    """
    x = np.asarray(scores, np.float64).ravel()
    x = x[np.isfinite(x)]
    n = len(x)
    if n > FIT_SAMPLE:
        x = np.random.default_rng(seed).choice(x, FIT_SAMPLE, replace=False)
    if not _spread(x):
        return None
    fitted = _run_em(x, MAX_ITERATIONS)
    confident = int(np.argmax(fitted.means))
    if len(x) >= FEW and fitted.weights[confident] * len(x) < 1.5:
        # The component's only score is the largest one, since it made the component's mean the larger.
        x = np.delete(x, np.argmax(x))
        if not _spread(x):
            return None
        n -= 1
        fitted = _run_em(x, max(MAX_ITERATIONS - fitted.iterations, 1))
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
    """Two components in the scores' unit, in either order; arrays [2]."""

    means: npt.NDArray[np.float64]
    sds: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    iterations: int


def _spread(x: npt.NDArray[np.float64]) -> bool:
    """Whether there are two scores that differ by more than rounding."""
    return len(x) >= 2 and bool(np.ptp(x) > RESOLUTION * np.abs(x).max())


def _run_em(x: npt.NDArray[np.float64], iterations: int) -> _Fitted:
    """EM as in scikit-learn's `GaussianMixture` of two components, which takes ten times as long on so few scores."""
    center, scale = x.mean(), x.std()
    z = (x - center) / scale
    low, high = _best_split(z)
    means = np.array([low.mean(), high.mean()])
    variances = np.array([low.var(), high.var()]) + VARIANCE_FLOOR
    weights = np.array([len(low), len(high)]) / len(z)
    powers = np.stack([np.ones_like(z), z, z * z])
    taken, reached, gain = 0, -np.inf, np.inf
    while taken < iterations and abs(gain) >= TOLERANCE:
        taken += 1
        # The log of a weighted Gaussian is a parabola in z. (log 2 pi / 2 is left out: it is the same for both.)
        constant = np.log(weights) - 0.5 * (np.log(variances) + means * means / variances)
        logs = np.stack([constant, means / variances, -0.5 / variances], axis=1) @ powers
        log_likelihood = np.logaddexp(logs[0], logs[1])
        mass, first, second = powers @ np.exp(logs - log_likelihood).T
        mass += 10 * np.finfo(np.float64).eps
        means = first / mass
        variances = second / mass - means * means + VARIANCE_FLOOR
        weights = mass / mass.sum()
        gain, reached = log_likelihood.mean() - reached, log_likelihood.mean()
    return _Fitted(center + scale * means, scale * np.sqrt(variances), weights, taken)


def _best_split(z: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The two parts of sorted `z` with the least variance within them, which have the most between their means."""
    ordered = np.sort(z)
    n = len(ordered)
    k = np.arange(1, n)
    below = np.cumsum(ordered)[:-1]
    between = (ordered.sum() * k / n - below) ** 2 / (k * (n - k))
    cut = int(np.argmax(between)) + 1
    return ordered[:cut], ordered[cut:]
