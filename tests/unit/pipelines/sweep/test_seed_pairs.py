"""The comparison of variants over all seed pairs."""

import pytest

from pipelines.report.summary import Summary
from pipelines.sweep.seed_pairs import comparison, hull, mean_gain, sweep_pairs
from steer.config.load import SettingsError
from steer.config.sweep import SweepConfig


def row(policy, accuracy, cost, full=None, benchmark="hops"):
    known = dict.fromkeys(Summary._fields, 0)
    known |= {"benchmark": benchmark, "policy": policy, "accuracy": accuracy, "flops_paper": cost}
    return Summary(**known | {"flops_full": cost if full is None else full})


BAR = [row("small", 0.5, 1.0), row("random_query", 0.75, 5.5), row("large", 1.0, 10.0)]


def test_the_hull_leaves_out_what_a_coin_between_two_others_beats():
    assert hull([(1, 0.5), (3, 0.6), (5, 0.9), (10, 1.0), (12, 1.0), (5, 0.8)]) == [(1, 0.5), (5, 0.9), (10, 1.0)]


def test_a_variant_on_the_bar_gains_nothing_and_one_that_loses_nothing_either():
    assert mean_gain([row("steer", 0.75, 5.5)], BAR, "flops_paper") == pytest.approx(0)
    assert mean_gain([row("steer", 0.4, 9.0)], BAR, "flops_paper") == pytest.approx(0)  # a coin without it is as good


def test_the_gain_is_the_mean_over_budgets_between_the_hull_and_the_bar():
    found = mean_gain([row("steer", 1.0, 5.0)], BAR, "flops_paper")
    # 12.5 points a unit up to half of large's cost, 0 beyond; the bar rises 5.55 a unit from 1 to 10.
    expected = [100 * (min(0.5 + 0.125 * (b - 1), 1.0) - (0.5 + 0.5 * (b - 1) / 9)) for b in range(1, 10)]
    assert found == pytest.approx(sum(expected) / 9)


def test_variants_are_ordered_by_their_mean_over_pairs_and_benchmarks_and_show_the_worst():
    cheap, dear = row("cheap", 1.0, 5.0, full=6.0), row("dear", 1.0, 4.0, full=15.0)
    bad = row("cheap", 0.5, 5.0, full=6.0)
    text = comparison([[*BAR, cheap, dear], [*BAR, bad, dear]])
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["cheap", "dear"]
    assert "(   +0.0)" in lines[1] and lines[2].split()[1] == "+0.0"


def test_a_folder_without_models_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(SettingsError, match="train-pair"):
        sweep_pairs(tmp_path, SweepConfig(test=False), tmp_path / "out")


def test_test_questions_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="test: false"):
        sweep_pairs(tmp_path, SweepConfig(), tmp_path / "out")
