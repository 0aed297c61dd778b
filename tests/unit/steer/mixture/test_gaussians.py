"""One mixture: the posterior of Eq. 9, and what a fit does with degenerate groups."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import camps
from sklearn.mixture import GaussianMixture

from steer.mixture.gaussians import (
    FIT_SAMPLE,
    MAX_ITERATIONS,
    TOLERANCE,
    VARIANCE_FLOOR,
    Mixture,
    _best_split,
    fit_mixture,
)

# method.md: c = N(24, 1), u = N(20, 3). Its two figures, .92 and .05, are those of the weights .6 and .4.
WORKED = Mixture(24.0, 20.0, 1.0, 3.0, 0.6, 0.4, n=100)
WIDE_CONFIDENT = Mixture(24.0, 20.0, 3.0, 1.0, 0.6, 0.4, n=100)
FINITE = st.floats(-1e3, 1e3)
MIXTURES = st.builds(
    lambda low, gap, sd_c, sd_u, w: Mixture(low + gap, low, sd_c, sd_u, w, 1 - w, n=10),
    st.floats(-100, 100),
    st.floats(0, 50),
    st.floats(1e-3, 20),
    st.floats(1e-3, 20),
    st.floats(0, 1),
)


# --- posterior ------------------------------------------------------------------------------------------------------


def test_literal_posterior_of_the_worked_example():
    at_24, at_28 = WORKED.posterior(np.array([24.0, 28.0]), monotone=False)
    assert at_24 == pytest.approx(0.92, abs=0.005)
    assert at_28 == pytest.approx(0.05, abs=0.005)
    # Eq. 9 written out
    density_c = 0.6 * np.exp(-0.5 * 4.0**2) / 1.0
    density_u = 0.4 * np.exp(-0.5 * (8.0 / 3.0) ** 2) / 3.0
    assert at_28 == pytest.approx(density_c / (density_c + density_u), rel=1e-12)


def test_monotone_posterior_holds_the_worked_example_at_its_peak():
    # log odds turn at (24 * 9 - 20 * 1) / (9 - 1) = 24.5
    peak = WORKED.posterior(np.array([24.5]), monotone=False)[0]
    below, at_28, far = WORKED.posterior(np.array([24.0, 28.0, 1e6]), monotone=True)
    assert below == WORKED.posterior(np.array([24.0]), monotone=False)[0]
    assert at_28 == far == pytest.approx(peak, abs=1e-12)
    assert peak > 0.92


def test_a_wider_confident_component_is_held_from_below():
    # log odds turn at (20 * 9 - 24 * 1) / (9 - 1) = 19.5
    trough = WIDE_CONFIDENT.posterior(np.array([19.5]), monotone=False)[0]
    literal = WIDE_CONFIDENT.posterior(np.array([0.0]), monotone=False)[0]
    held = WIDE_CONFIDENT.posterior(np.array([0.0, 19.5, 24.0]), monotone=True)
    assert literal > 0.99
    assert held[:2] == pytest.approx([trough, trough], abs=1e-12) and trough < 0.4 < held[2]


@given(MIXTURES, st.lists(FINITE, min_size=2, max_size=30))
def test_monotone_posterior_never_falls(mixture, scores):
    posterior = mixture.posterior(np.sort(scores), monotone=True)
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (np.diff(posterior) >= -1e-9).all()


@given(MIXTURES, st.lists(FINITE, min_size=1, max_size=10), st.booleans())
def test_a_posterior_does_not_depend_on_the_rest_of_the_batch(mixture, scores, monotone):
    together = mixture.posterior(np.array(scores), monotone)
    alone = [mixture.posterior(np.array([score]), monotone)[0] for score in scores]
    assert together.tolist() == alone


def test_a_component_of_weight_0_decides_everything_without_warnings():
    with np.errstate(all="raise", under="ignore"):
        scores = np.array([-1e5, 20.0, 24.0, 1e5])
        for monotone in (True, False):
            never = replace(WORKED, weight_confident=0.0, weight_unsure=1.0).posterior(scores, monotone)
            always = replace(WORKED, weight_confident=1.0, weight_unsure=0.0).posterior(scores, monotone)
            assert never.tolist() == [0.0] * 4
            assert always.tolist() == [1.0] * 4


def test_scores_that_are_not_finite_have_no_posterior():
    for monotone in (True, False):
        posterior = WORKED.posterior(np.array([np.nan, np.inf, -np.inf, 24.0]), monotone)
        assert np.isnan(posterior[:3]).all() and posterior[3] > 0.9


def test_inversions_are_falls_of_the_literal_posterior():
    scores = np.array([28.0, 20.0, 26.0, np.nan, 24.0, 27.0])  # rises 20 -> 24, falls 24 -> 26 -> 27 -> 28
    assert WORKED.inversions(scores) == 3
    assert replace(WORKED, sd_confident=3.0).inversions(scores) == 0
    assert WORKED.inversions(np.array([np.nan])) == 0


# --- fit ------------------------------------------------------------------------------------------------------------


def test_fit_finds_two_camps_and_names_the_higher_confident():
    mixture = fit_mixture(camps(2000))
    assert mixture.mean_confident == pytest.approx(10, abs=0.1)
    assert mixture.mean_unsure == pytest.approx(2, abs=0.2)
    assert mixture.sd_confident == pytest.approx(0.5, abs=0.1)
    assert mixture.sd_unsure == pytest.approx(1, abs=0.15)
    assert mixture.weight_confident + mixture.weight_unsure == pytest.approx(1)
    assert mixture.n == 2000


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("shift", [-30.0, 0.0, 1000.0])
def test_fit_is_equivariant_to_shift_and_scale(scale, shift):
    scores = camps(60, confident=4.0)
    before, after = fit_mixture(scores), fit_mixture((scores + shift) * scale)
    for name in ("mean_confident", "mean_unsure"):
        assert getattr(after, name) == pytest.approx(
            (getattr(before, name) + shift) * scale, rel=1e-6, abs=1e-6 * scale
        )
    for name in ("sd_confident", "sd_unsure"):
        assert getattr(after, name) == pytest.approx(getattr(before, name) * scale, rel=1e-5)
    assert after.weight_confident == pytest.approx(before.weight_confident, rel=1e-5)
    np.testing.assert_allclose(
        after.posterior((scores + shift) * scale, True), before.posterior(scores, True), atol=1e-5
    )


@pytest.mark.parametrize("n", [2, 9, 64, 512])
def test_a_fit_is_that_of_scikit_learn(n):
    rng = np.random.default_rng(n)
    for _ in range(10):
        scores = np.where(np.arange(n) % 3 == 0, rng.normal(-4, 1, n), rng.normal(rng.uniform(0, 4), 2, n))
        mixture = fit_mixture(scores)
        z = (scores - scores.mean()) / scores.std()
        low, high = _best_split(z)
        theirs = GaussianMixture(
            2,
            covariance_type="diag",
            tol=TOLERANCE,
            reg_covar=VARIANCE_FLOOR,
            max_iter=MAX_ITERATIONS,
            weights_init=np.array([len(low), len(high)]) / n,
            means_init=np.array([[low.mean()], [high.mean()]]),
            precisions_init=1 / (np.array([[low.var()], [high.var()]]) + VARIANCE_FLOOR),
        )
        with warnings.catch_warnings(action="ignore"):  # It may stop at MAX_ITERATIONS, as ours.
            theirs.fit(z[:, None])
        unsure, confident = np.argsort(theirs.means_[:, 0])
        means = scores.mean() + scores.std() * theirs.means_[:, 0]
        sds = scores.std() * np.sqrt(theirs.covariances_[:, 0])
        assert mixture == replace(
            mixture,
            mean_confident=pytest.approx(means[confident], rel=1e-9),
            mean_unsure=pytest.approx(means[unsure], rel=1e-9),
            sd_confident=pytest.approx(sds[confident], rel=1e-9),
            sd_unsure=pytest.approx(sds[unsure], rel=1e-9),
            weight_confident=pytest.approx(theirs.weights_[confident], rel=1e-9),
        )


def test_the_order_of_the_scores_does_not_matter():
    scores = camps(300)
    shuffled = np.random.default_rng(3).permutation(scores)
    assert fit_mixture(shuffled).mean_unsure == pytest.approx(fit_mixture(scores).mean_unsure, rel=1e-9)


@pytest.mark.parametrize(
    "scores",
    [
        [],
        [3.0],
        [np.nan, np.inf, -np.inf],
        [3.0, np.nan],
        [0.97] * 50,
        [24.0 + 1e-9 * i for i in range(50)],
        [0.0, 0.0],
    ],
    ids=["none", "one", "not finite", "one finite", "equal", "equal to float32", "zeros"],
)
def test_no_mixture_without_two_different_scores(scores):
    assert fit_mixture(np.array(scores)) is None


def test_two_traces_are_one_confident_and_one_unsure():
    mixture = fit_mixture(np.array([1.0, 2.0]))
    assert (mixture.mean_unsure, mixture.mean_confident) == pytest.approx((1.0, 2.0))
    assert mixture.posterior(np.array([1.0, 2.0]), True) == pytest.approx([0.0, 1.0])


def test_scores_that_are_not_finite_are_dropped():
    scores = camps(40)
    spoilt = np.concatenate([scores, [np.nan, np.inf, -np.inf]])
    assert fit_mixture(spoilt) == fit_mixture(scores)


def test_one_high_outlier_does_not_make_the_others_unsure():
    scores = camps(64)
    clean, spoilt = fit_mixture(scores), fit_mixture(np.append(scores, 500.0))
    assert spoilt == clean
    assert spoilt.posterior(np.array([10.0, 500.0]), monotone=True).min() > 0.9


def test_one_low_outlier_is_the_only_unsure_trace():
    scores = np.append(np.random.default_rng(0).normal(10, 0.2, 63), -50.0)
    posterior = fit_mixture(scores).posterior(scores, monotone=True)
    assert posterior[-1] < 1e-6 and posterior[:-1].min() > 0.9


def test_equal_scores_and_one_high_one_have_no_mixture():
    assert fit_mixture(np.array([0.5] * 20 + [0.9])) is None
    low = fit_mixture(np.array([0.9] * 20 + [0.5]))
    assert low.posterior(np.array([0.9, 0.5]), True) == pytest.approx([1, 0])


def test_100_000_traces_are_fitted_on_a_seeded_subsample():
    scores = camps(100_000)
    mixture = fit_mixture(scores, seed=1)
    assert mixture == fit_mixture(scores, seed=1)
    assert mixture != fit_mixture(scores, seed=2)
    assert mixture.n == 100_000
    # Half of FIT_SAMPLE scores a component: five standard errors of its mean.
    tolerance = 5 / np.sqrt(FIT_SAMPLE / 2)
    assert abs(mixture.mean_confident - 10) < 0.5 * tolerance and abs(mixture.mean_unsure - 2) < tolerance
    posterior = mixture.posterior(scores, monotone=True)
    assert ((posterior > 0.5) == (np.arange(100_000) < 50_000)).mean() > 0.999


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=40))
def test_a_fit_is_finite_and_ordered_or_none(scores):
    mixture = fit_mixture(np.array(scores))
    if mixture is not None:
        values = [v for name, v in vars(mixture).items() if name != "n"]
        assert np.isfinite(values).all()
        assert mixture.mean_confident >= mixture.mean_unsure
        assert min(mixture.sd_confident, mixture.sd_unsure) > 0
        assert 0 <= mixture.weight_confident <= 1
