"""The choice of the default measure from all seed pairs."""

import pytest

from pipelines.settings import SettingsError
from pipelines.sweep_pairs import preference, sweep_pairs


def row(pair, policy, accuracy, bar):
    return {
        "pair": pair,
        "benchmark": "chain_math",
        "policy": policy,
        "accuracy": accuracy,
        "random_query_accuracy": bar,
    }


def test_the_measure_with_the_highest_mean_gain_over_all_pairs_is_preferred():
    rows = [
        row("a", "large", 0.9, 0.9),
        row("b", "large", 0.9, 0.9),
        # best on one pair, poor on the other
        row("a", "steer max_logit", 0.9, 0.6),
        row("b", "steer max_logit", 0.5, 0.6),
        row("a", "steer entropy", 0.85, 0.7),
        row("b", "steer entropy", 0.85, 0.7),
        # the paper's preset is reported, but is no measure
        row("a", "steer paper", 0.9, 0.1),
        row("b", "steer paper", 0.9, 0.1),
    ]
    text = preference(rows)
    assert text.splitlines()[-1] == "preferred measure: entropy"
    assert "worst -10.0" in text and "below large +20.0 (worst +40.0)" in text


def test_a_folder_without_models_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(SettingsError, match="train-pair"):
        sweep_pairs(tmp_path, tmp_path / "out")
