"""The mixture: Eq. 3, 4, 9 of the paper, what a fit does with degenerate groups, and where fits come from."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer.bank import OWN, WINDOW
from steer.config import MixtureOptions
from steer.gaussians import FIT_SAMPLE
from steer.mixture import FitRule, FrozenMixtures, Mixture, Mixtures, ScoreBank, fit_mixture
from steer.traces import MIXTURE_STRUCT

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


def camps(n=200, confident=10.0, unsure=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(confident, 0.5, n // 2), rng.normal(unsure, 1.0, n - n // 2)])


def fit_all(mixtures, scores, step=0, model=None, ongoing=None, fresh=None):
    n = len(scores)
    model = np.zeros(n, np.int8) if model is None else model
    ongoing = np.ones(n, bool) if ongoing is None else ongoing
    return mixtures.fit(step, np.asarray(scores, float), model, ongoing, fresh)


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


# --- one group over its steps ---------------------------------------------------------------------------------------


def test_ended_traces_are_left_out_of_the_fit():
    scores = np.concatenate([camps(40), np.full(10, 99.0)])
    ongoing = np.arange(50) < 40
    fit = fit_all(Mixtures(MixtureOptions()), scores, ongoing=ongoing)
    assert fit.rules == {"pooled": FitRule.FRESH}
    assert fit.mixtures["pooled"] == fit_mixture(scores[:40])


@pytest.mark.parametrize(("ongoing", "fitted"), [(8, 8), (7, 30)])
def test_fewer_ongoing_than_min_fit_brings_in_all_that_answered(ongoing, fitted):
    scores = np.append(camps(30), np.nan)
    fit = fit_all(Mixtures(MixtureOptions(min_fit=8)), scores, ongoing=np.arange(31) < ongoing)
    assert fit.mixtures["pooled"].n == fitted


def test_a_step_that_cannot_be_fitted_takes_the_last_good_fit():
    mixtures = Mixtures(MixtureOptions())
    good = fit_all(mixtures, camps(40)).mixtures["pooled"]
    for scores in ([7.0], [5.0] * 40, [np.nan] * 3, []):
        fit = fit_all(mixtures, scores, step=1)
        assert fit.rules["pooled"] == FitRule.REUSED and fit.mixtures["pooled"] == good


def test_before_the_first_good_fit_every_trace_is_confident():
    fit = fit_all(Mixtures(MixtureOptions()), [7.0])
    assert fit.rules["pooled"] == FitRule.DEGENERATE
    assert fit.posterior(np.array([7.0, -1e9, np.nan]), np.zeros(3), True).tolist() == [1.0, 1.0, 1.0]
    (row,) = fit.rows(0, draft=False)
    assert row["rule"] == "degenerate" and row["n"] == 0 and row["mean_confident"] is None


def test_per_model_keeps_an_offset_between_the_models_apart():
    scores = np.concatenate([camps(40), camps(40, seed=1) + 100])
    model = np.repeat([0, 1], 40)
    fit = fit_all(Mixtures(MixtureOptions(scope="per_model")), scores, model=model)
    posterior = fit.posterior(scores, model, monotone=True)
    sure = np.tile(np.repeat([True, False], 20), 2)
    assert ((posterior > 0.5) == sure).all()
    pooled = fit_all(Mixtures(MixtureOptions()), scores, model=model).posterior(scores, model, monotone=True)
    assert ((pooled > 0.5) == (model == 1)).all()


def test_per_model_falls_back_for_one_model_alone():
    mixtures = Mixtures(MixtureOptions(scope="per_model"))
    first = fit_all(mixtures, camps(40))
    assert first.rules == {"small": FitRule.FRESH, "large": FitRule.DEGENERATE}
    second = fit_all(mixtures, camps(40), step=1, model=np.ones(40))
    assert second.rules == {"small": FitRule.REUSED, "large": FitRule.FRESH}
    assert second.mixtures["small"] == first.mixtures["small"]
    assert [row["scope"] for row in second.rows(1, False)] == ["small", "large"]


def test_rows_fit_the_mixtures_table():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(24, 1, 300), rng.normal(20, 3, 200)])
    fit = fit_all(Mixtures(MixtureOptions()), scores)
    (row,) = fit.rows(3, draft=True)
    assert {"group", *row} == {field.name for field in MIXTURE_STRUCT}
    pa.array([{"group": "g", **row}], MIXTURE_STRUCT)
    assert (row["step"], row["draft"], row["scope"], row["n"], row["rule"]) == (3, True, "pooled", 500, "fresh")
    assert row["inversions"] == fit.mixtures["pooled"].inversions(scores) > 0
    assert row["fit_ms"] > 0


# --- bank -----------------------------------------------------------------------------------------------------------


def test_bank_keeps_the_last_scores_of_each_index():
    bank = ScoreBank()
    bank.add(0, np.arange(WINDOW + 100.0))
    bank.add(1, np.append(np.arange(OWN), np.nan))
    assert bank.scores(0).tolist() == list(range(100, WINDOW + 100))
    assert bank.scores(1).tolist() == list(range(OWN))


def test_bank_answers_with_all_indices_before_an_index_has_its_own():
    bank = ScoreBank()
    bank.add(0, np.arange(30.0))
    bank.add(1, np.arange(100.0, 100 + OWN - 1))
    assert bank.scores(1).tolist() == [*range(30), *range(100, 100 + OWN - 1)]
    bank.add(1, np.array([7.0]))
    assert len(bank.scores(1)) == OWN
    assert len(bank.scores(9)) == 30 + OWN
    assert len(bank.scores(0, "large")) == 0


def test_bank_serves_a_group_of_one_trace():
    bank = ScoreBank()
    options = MixtureOptions(fit_from="bank")
    fit_all(Mixtures(options, bank), camps(60))
    fit = fit_all(Mixtures(options, bank), [10.0])
    assert fit.rules["pooled"] == FitRule.FRESH and fit.mixtures["pooled"].n == 61
    assert fit.posterior(np.array([10.0, 1.0]), np.zeros(2), True) == pytest.approx([1, 0], abs=1e-3)


def test_bank_takes_each_score_once_and_none_of_ended_traces():
    bank = ScoreBank()
    mixtures = Mixtures(MixtureOptions(fit_from="bank"), bank)
    scores = camps(40)
    first = np.arange(40) < 30
    fit_all(mixtures, scores, fresh=first)
    fit_all(mixtures, scores, fresh=~first, ongoing=np.arange(40) < 35)
    assert sorted(bank.scores(0)) == sorted(scores[:35])


def test_bank_keeps_the_models_apart_under_per_model():
    bank = ScoreBank()
    scores = np.concatenate([camps(60), camps(60) + 100])
    mixtures = Mixtures(MixtureOptions(fit_from="bank", scope="per_model"), bank)
    fit_all(mixtures, scores, model=np.repeat([0, 1], 60))
    assert bank.scores(0, "small").max() < 50 < bank.scores(0, "large").min()


# --- frozen ---------------------------------------------------------------------------------------------------------


def mixture_row(step, mean, n=100, draft=False, scope="pooled", rule="fresh", **other):
    parameters = dict(mean_confident=mean, mean_unsure=mean - 4, sd_confident=1.0, sd_unsure=1.0)
    row = dict(group="0", step=step, draft=draft, scope=scope, n=n, rule=rule, fit_ms=1.0, inversions=0)
    return {**row, **parameters, "weight_confident": 0.5, "weight_unsure": 0.5, **other}


def write_mixtures(path, rows):
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(MIXTURE_STRUCT))), path)
    return path


def test_frozen_reads_back_what_a_fit_saved(tmp_path):
    fit = fit_all(Mixtures(MixtureOptions(scope="per_model")), camps(80), model=np.arange(80) % 2)
    write_mixtures(tmp_path / "part-0.parquet", [{"group": "0", **row} for row in fit.rows(0, draft=False)])
    frozen = FrozenMixtures.load(tmp_path)
    options = MixtureOptions(fit_from="frozen", frozen_path=tmp_path, scope="per_model")
    served = fit_all(Mixtures(options, frozen=frozen), [3.0])
    assert served.mixtures == fit.mixtures
    assert served.rules == {"small": FitRule.REUSED, "large": FitRule.REUSED}
    assert set(served.fit_ms.values()) == {0.0}


def test_frozen_answers_by_step_draft_and_nearest_earlier_step(tmp_path):
    rows = [
        mixture_row(0, 5.0, draft=True),
        mixture_row(0, 10.0),
        mixture_row(3, 12.0, n=8),
        mixture_row(3, 13.0, n=90),
        mixture_row(3, 14.0, n=90),
        mixture_row(3, 15.0, n=20),
        mixture_row(4, 99.0, rule="reused"),
    ]
    frozen = FrozenMixtures.load(write_mixtures(tmp_path / "one.parquet", rows))
    found = {step: frozen.at(step).mean_confident for step in (-1, 0, 1, 3, 4, 50)}
    assert found == {-1: 5.0, 0: 10.0, 1: 10.0, 3: 14.0, 4: 14.0, 50: 14.0}
    no_drafts = FrozenMixtures.load(write_mixtures(tmp_path / "two.parquet", rows[2:]))
    assert no_drafts.at(-1).mean_confident == 14.0


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no fresh fit"),
        ([mixture_row(0, 1.0, rule="reused")], "no fresh fit"),
        ([mixture_row(2, 1.0, sd_unsure=0.0)], "unusable parameters at step 2"),
        ([mixture_row(2, float("nan"))], "unusable parameters at step 2"),
        ([mixture_row(2, 1.0, weight_unsure=None)], "unusable parameters at step 2"),
    ],
)
def test_an_unusable_frozen_file_is_named(tmp_path, rows, reason):
    path = write_mixtures(tmp_path / "mixtures.parquet", rows)
    with pytest.raises(ValueError, match=f"mixtures.parquet: {reason}"):
        FrozenMixtures.load(path)


def test_frozen_refuses_what_is_not_a_mixtures_table(tmp_path):
    with pytest.raises(ValueError, match="absent: not readable as Parquet"):
        FrozenMixtures.load(tmp_path / "absent")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(ValueError, match="text.parquet: not readable as Parquet"):
        FrozenMixtures.load(tmp_path / "text.parquet")
    pq.write_table(pa.table({"step": [1]}), tmp_path / "steps.parquet")
    with pytest.raises(ValueError, match="steps.parquet: no column draft, scope"):
        FrozenMixtures.load(tmp_path / "steps.parquet")


def test_frozen_refuses_the_table_of_a_sweep(tmp_path):
    table = pa.Table.from_pylist([mixture_row(0, 1.0, cell=cell) for cell in ("gamma=.1", "gamma=.2")])
    pq.write_table(table, tmp_path / "mixtures.parquet")
    with pytest.raises(ValueError, match="2 policy settings"):
        FrozenMixtures.load(tmp_path)


def test_frozen_refuses_another_scope(tmp_path):
    frozen = FrozenMixtures.load(write_mixtures(tmp_path / "pooled.parquet", [mixture_row(0, 1.0)]))
    options = MixtureOptions(fit_from="frozen", frozen_path=tmp_path, scope="per_model")
    with pytest.raises(ValueError, match="fitted for scope pooled, not small, large"):
        Mixtures(options, frozen=frozen)


def test_bank_and_frozen_must_be_given():
    with pytest.raises(ValueError, match="ScoreBank"):
        Mixtures(MixtureOptions(fit_from="bank"))
    with pytest.raises(ValueError, match="frozen_path"):
        Mixtures(MixtureOptions(fit_from="frozen", frozen_path="somewhere"))
