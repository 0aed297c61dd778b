"""The table of plans over seed pairs."""

from pipelines.tune.seed_pairs import Kept, as_text
from steer.plans.bar import Standing


def kept(pair, accuracy, above, keeps):
    above_interval = (above - 0.02, above + 0.02)
    at = Standing(accuracy, (0.0, 1.0), 0.5, (0.4, 0.6), 0.7, above, above_interval, accuracy - 1.0, (-1.0, 0.0))
    return Kept(pair, "chain_math", "a budget of 50 %", "steer", at, keeps)


def test_it_counts_promises_and_shows_the_worst_and_the_best_pair():
    text = as_text([kept("a", 0.9, 0.1, True), kept("b", 0.98, 0.25, True), kept("c", 0.95, -0.05, False)])
    assert "2 of 3 promises kept" in text and "1 plans below the bar's interval" in text
    assert "3 pairs: accuracy 90.0 to 98.0 %, cost 50.0 to 50.0 %, points vs coin -5.0 to 25.0" in text
    assert "BROKEN" in text
