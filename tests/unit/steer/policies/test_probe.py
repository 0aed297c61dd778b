"""The probe of `query_router`: what it computes, what it refuses, and that a folder gives it back."""

import json

import numpy as np
import pytest

from steer.policies.probe import Probe, ProbeCard, check_fits, load_probe

MODEL = "0123456789abcdef"


def logistic(hidden=3):
    draw = np.random.default_rng(1)
    card = ProbeCard(hidden, (), MODEL, (0, 1))
    return Probe(card, {"w": draw.normal(size=hidden).astype(np.float32), "b": np.float32(0.25).reshape(())})


def perceptron(activation="tanh", hidden=3, width=2):
    draw = np.random.default_rng(2)
    shapes = {"w1": (hidden, width), "b1": (width,), "w2": (width,), "b2": ()}
    weights = {name: np.asarray(draw.normal(size=shape), np.float32) for name, shape in shapes.items()}
    return Probe(ProbeCard(hidden, (width,), MODEL, (7,), activation), weights)


STATES_QH = np.random.default_rng(3).normal(size=(5, 3)).astype(np.float32)


def test_a_logistic_regression():
    w = logistic().weights
    expected = 1 / (1 + np.exp(-(STATES_QH @ w["w"] + w["b"])))
    np.testing.assert_allclose(logistic().solves(STATES_QH), expected, rtol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_one_hidden_layer(activation):
    w = perceptron(activation).weights
    z = STATES_QH @ w["w1"] + w["b1"]
    hidden = np.tanh(z) if activation == "tanh" else np.maximum(z, 0)
    expected = 1 / (1 + np.exp(-(hidden @ w["w2"] + w["b2"])))
    np.testing.assert_allclose(perceptron(activation).solves(STATES_QH), expected, rtol=1e-6)


def test_far_states_neither_overflow_nor_leave_the_unit_interval():
    with np.errstate(all="raise"):
        p = logistic().solves(np.array([[1e30, 1e30, 1e30], [-1e30, -1e30, -1e30]], np.float32))
    assert sorted(p.tolist()) == [0.0, 1.0]
    assert np.isnan(logistic().solves(np.full((1, 3), np.nan, np.float32))).all()


@pytest.mark.parametrize("probe", [logistic(), perceptron(), perceptron("relu")], ids=["logistic", "tanh", "relu"])
def test_a_folder_gives_the_probe_back(probe, tmp_path):
    probe.save(tmp_path / "new" / "probe")
    loaded = load_probe(tmp_path / "new" / "probe")
    assert loaded.card == probe.card
    np.testing.assert_array_equal(loaded.solves(STATES_QH), probe.solves(STATES_QH))


@pytest.mark.parametrize("missing", ["probe.json", "probe.safetensors"])
def test_a_missing_file_is_named_with_the_remedy(missing, tmp_path):
    logistic().save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=f"no .*{missing}: train it with `steer train-router`"):
        load_probe(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"layers": [4]}, {"layers": [2, 2]}, {"hidden_size": 4}, {"hidden_size": "wide"}, {"activation": "sine"},
     {"width": 3}],
)  # fmt: skip
def test_a_card_that_is_not_the_arrays_is_refused(change, tmp_path):
    perceptron().save(tmp_path)
    card = json.loads((tmp_path / "probe.json").read_text())
    (tmp_path / "probe.json").write_text(json.dumps(card | change))
    with pytest.raises(ValueError, match="(?s)holds no probe that can be read: .*train-router` again"):
        load_probe(tmp_path)


@pytest.mark.parametrize("file", ["probe.json", "probe.safetensors"])
def test_a_broken_file_is_refused(file, tmp_path):
    logistic().save(tmp_path)
    (tmp_path / file).write_bytes(b"{")
    with pytest.raises(ValueError, match="holds no probe that can be read"):
        load_probe(tmp_path)


def test_a_probe_fits_the_model_it_was_trained_on_and_no_other(tmp_path):
    check_fits(logistic(), tmp_path, 3, MODEL)
    with pytest.raises(ValueError, match="states of 3 numbers and the small model's have 4"):
        check_fits(logistic(), tmp_path, 4, MODEL)
    with pytest.raises(ValueError, match=f"fingerprint {MODEL} and the small model's is other"):
        check_fits(logistic(), tmp_path, 3, "other")


def test_states_of_another_width_are_refused():
    with pytest.raises(ValueError, match="reads states of 3 numbers"):
        logistic().solves(np.zeros((2, 4), np.float32))
