"""The mixtures of a group over its steps: whom they are fitted on, and where they come from when not from the group."""

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted import camps

from steer.config.policy import MixtureOptions
from steer.mixture.bank import OWN, WINDOW, ScoreBank
from steer.mixture.fit import FitRule, Mixtures
from steer.mixture.frozen import FrozenMixtures
from steer.mixture.gaussians import fit_mixture
from steer.storage.schemas import MIXTURE_STRUCT


def fit_all(mixtures, scores, step=0, model=None, ongoing=None, fresh=None):
    n = len(scores)
    model = np.zeros(n, np.int8) if model is None else model
    ongoing = np.ones(n, bool) if ongoing is None else ongoing
    return mixtures.fit(step, np.asarray(scores, float), model, ongoing, fresh)


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
    assert {"group_id", *row} == {field.name for field in MIXTURE_STRUCT}
    pa.array([{"group_id": "g", **row}], MIXTURE_STRUCT)
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
    fit_all(Mixtures(options, bank=bank), camps(60))
    fit = fit_all(Mixtures(options, bank=bank), [10.0])
    assert fit.rules["pooled"] == FitRule.FRESH and fit.mixtures["pooled"].n == 61
    assert fit.posterior(np.array([10.0, 1.0]), np.zeros(2), True) == pytest.approx([1, 0], abs=1e-3)


def test_bank_takes_each_score_once_and_none_of_ended_traces():
    bank = ScoreBank()
    mixtures = Mixtures(MixtureOptions(fit_from="bank"), bank=bank)
    scores = camps(40)
    first = np.arange(40) < 30
    fit_all(mixtures, scores, fresh=first)
    fit_all(mixtures, scores, fresh=~first, ongoing=np.arange(40) < 35)
    assert sorted(bank.scores(0, "max_prob pooled")) == sorted(scores[:35])


def test_bank_keeps_the_models_apart_under_per_model():
    bank = ScoreBank()
    scores = np.concatenate([camps(60), camps(60) + 100])
    mixtures = Mixtures(MixtureOptions(fit_from="bank", scope="per_model"), bank=bank)
    fit_all(mixtures, scores, model=np.repeat([0, 1], 60))
    assert bank.scores(0, "max_prob small").max() < 50 < bank.scores(0, "max_prob large").min()


# --- frozen ---------------------------------------------------------------------------------------------------------


def mixture_row(step, mean, n=100, draft=False, scope="pooled", rule="fresh", **other):
    parameters = dict(mean_confident=mean, mean_unsure=mean - 4, sd_confident=1.0, sd_unsure=1.0)
    row = dict(
        group="0", step=step, draft=draft, scope=scope, measure="max_prob", n=n, rule=rule, fit_ms=1.0, inversions=0
    )
    return {**row, **parameters, "weight_confident": 0.5, "weight_unsure": 0.5, **other}


def write_mixtures(path, rows):
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(MIXTURE_STRUCT))), path)
    return path


def test_frozen_reads_back_what_a_fit_saved(tmp_path):
    fit = fit_all(Mixtures(MixtureOptions(scope="per_model")), camps(80), model=np.arange(80) % 2)
    write_mixtures(tmp_path / "part-0.parquet", [{"group": "0", **row} for row in fit.rows(0, draft=False)])
    frozen = FrozenMixtures.load(tmp_path, "max_prob")
    options = MixtureOptions(fit_from="frozen", frozen_path=tmp_path, scope="per_model")
    served = fit_all(Mixtures(options, frozen=frozen), [3.0])
    assert served.mixtures == fit.mixtures
    assert served.rules == {"small": FitRule.REUSED, "large": FitRule.REUSED}
    assert set(served.fit_ms.values()) == {0.0}


def test_frozen_reads_a_url_and_keeps_it_as_it_is(tmp_path):
    store = fsspec.filesystem("memory")
    path = write_mixtures(tmp_path / "part-0.parquet", [mixture_row(0, 10.0)])
    store.pipe("/frozen/mixtures/part-0.parquet", path.read_bytes())
    for url in ("memory://frozen/mixtures", "memory://frozen/mixtures/part-0.parquet", f"file://{path}"):
        options = MixtureOptions(fit_from="frozen", frozen_path=url)
        assert options.frozen_path == url
        assert FrozenMixtures.load(options.frozen_path, "max_prob").at(0).mean_confident == 10.0
    for url in ("memory://frozen/nothing", "unknown-scheme://x"):
        with pytest.raises(ValueError, match=f"frozen_path {url}"):
            FrozenMixtures.load(url, "max_prob")
    store.rm("/frozen", recursive=True)


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
    frozen = FrozenMixtures.load(write_mixtures(tmp_path / "one.parquet", rows), "max_prob")
    found = {step: frozen.at(step).mean_confident for step in (-1, 0, 1, 3, 4, 50)}
    assert found == {-1: 5.0, 0: 10.0, 1: 10.0, 3: 14.0, 4: 14.0, 50: 14.0}
    no_drafts = FrozenMixtures.load(write_mixtures(tmp_path / "two.parquet", rows[2:]), "max_prob")
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
        FrozenMixtures.load(path, "max_prob")


def test_frozen_refuses_what_is_not_a_mixtures_table(tmp_path):
    with pytest.raises(ValueError, match="absent: not readable as Parquet"):
        FrozenMixtures.load(tmp_path / "absent", "max_prob")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(ValueError, match="text.parquet: not readable as Parquet"):
        FrozenMixtures.load(tmp_path / "text.parquet", "max_prob")
    pq.write_table(pa.table({"step": [1]}), tmp_path / "steps.parquet")
    with pytest.raises(ValueError, match="steps.parquet: no column draft, scope"):
        FrozenMixtures.load(tmp_path / "steps.parquet", "max_prob")


def test_frozen_refuses_the_table_of_a_sweep(tmp_path):
    table = pa.Table.from_pylist([mixture_row(0, 1.0, cell=cell) for cell in ("gamma=.1", "gamma=.2")])
    pq.write_table(table, tmp_path / "mixtures.parquet")
    with pytest.raises(ValueError, match="2 policy settings"):
        FrozenMixtures.load(tmp_path, "max_prob")


def test_frozen_refuses_another_scope(tmp_path):
    frozen = FrozenMixtures.load(write_mixtures(tmp_path / "pooled.parquet", [mixture_row(0, 1.0)]), "max_prob")
    options = MixtureOptions(fit_from="frozen", frozen_path=tmp_path, scope="per_model")
    with pytest.raises(ValueError, match="fitted for scope pooled, not small, large"):
        Mixtures(options, frozen=frozen)


def test_bank_and_frozen_must_be_given():
    with pytest.raises(ValueError, match="ScoreBank"):
        Mixtures(MixtureOptions(fit_from="bank"))
    with pytest.raises(ValueError, match="frozen_path"):
        Mixtures(MixtureOptions(fit_from="frozen", frozen_path="somewhere"))
