"""The probe's training: what it learns, what it refuses, and the one that ships with the embedded pair."""

import numpy as np
import pytest

from actors.engine.checkpoint import model_fingerprint
from pipelines import cli
from pipelines.train.probe_fit import fit_probe
from steer.embedded import weights_path
from steer.policies.probe import check_fits, load_probe


def made_up(n=400, seed=0):
    """States whose first number says how often the question is solved, with scales that differ by 1,000."""
    rng = np.random.default_rng(seed)
    states_QH = rng.normal(size=(n, 6)).astype(np.float32)
    solved_Q = 1 / (1 + np.exp(-4 * states_QH[:, 0]))
    return states_QH * [1e-2, 10, 1, 1, 1, 1] + 3, np.round(4 * solved_Q) / 4


def test_the_probe_learns_what_the_states_say_and_reads_them_as_they_are():
    states_QH, solved_Q = made_up()
    probe, measured = fit_probe(states_QH, solved_Q, "a model", seed=0)
    assert measured["held_out_auroc"] > 0.95 and measured["held_out_questions"] == 80
    fresh, truth = made_up(seed=1)
    assert np.abs(probe.solves(fresh) - truth).mean() < 0.12
    again, _ = fit_probe(states_QH, solved_Q, "a model", seed=0)
    assert all(np.array_equal(again.weights[name], probe.weights[name]) for name in probe.weights)
    assert (probe.card.model, probe.card.seeds) == ("a model", (0,))


def test_states_that_could_not_be_had_are_left_out():
    states_QH, solved_Q = made_up()
    states_QH[:40] = np.nan
    assert fit_probe(states_QH, solved_Q, "a model", seed=0)[1]["questions"] == 360


def test_answers_that_teach_nothing_are_refused():
    states_QH, _ = made_up(n=50)
    with pytest.raises(ValueError, match="more questions"):
        fit_probe(states_QH, np.ones(50), "a model", seed=0)


def test_a_router_is_not_trained_on_test_questions(capsys, tmp_path):
    sets = ["--set", "benchmarks=[{name: hops, split: test}]"]
    assert cli.main(["train-router", *sets, "--out", str(tmp_path / "probe")]) == cli.USAGE
    assert "not trained on test questions" in capsys.readouterr().err
    assert not (tmp_path / "probe").exists()


def test_the_shipped_probe_reads_the_shipped_small_model():
    probe = load_probe(weights_path("probe"))
    check_fits(probe, weights_path("probe"), 32, model_fingerprint("embedded:small"))
