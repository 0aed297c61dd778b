"""What the default's gamma does on the recorded steps of a real pair: it moves the cost, and never above the large
model's own by much."""

import numpy as np
import pandas as pd
import pytest
from paths import ROOT

from steer.config.run import AHEAD_TOKENS
from steer.config.thresholds import SHARES
from steer.policies.by_score import share_at

RECORDED = ROOT.parent / "shared" / "data" / "h200"
SMALL, LARGE = 5e8, 1.5e9
"""Parameter counts of the recorded pair."""

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded tables are not here")


@pytest.fixture(scope="module")
def recorded():
    """Of each question: (prompt, tokens and scores of the steps that the small model wrote before the large one did, a
    discarded first draft among them, tokens of the large model's answer)."""
    traces, steps = (pd.read_parquet(RECORDED / f"{table}.parquet") for table in ("traces", "steps"))
    cell = "math500/validation/stepwise/gamma=0.1/seed0"
    large = traces[traces["cell"] == "math500/validation/large/seed0"].set_index("question_id")["tokens_large"]
    prompts = traces[traces["cell"] == cell].set_index("question_id")["prompt_tokens"]
    found = []
    first_texts = steps[(steps["cell"] == cell) & (steps["attempt"] == 0)]
    for question, mine in first_texts.sort_values("step").groupby("question_id"):
        own = mine[(mine["model"] == "small").cummin()]
        found.append((prompts[question], own["tokens"].to_numpy(), own["max_prob_small"].to_numpy(), large[question]))
    return found


def spent(recorded, gamma):
    """(share of steps that the large model writes, FLOPs as a share of the large model alone) of the default."""
    width = max(len(tokens) for _, tokens, _, _ in recorded)
    scores = np.full((len(recorded), width), np.nan)
    for i, (_, _, own, _) in enumerate(recorded):
        scores[i, : len(own)] = own
    thresholds = [
        np.nanquantile(scores[:, k], share_at(gamma, k)) if np.isfinite(scores[:, k]).sum() >= 8 else -np.inf
        for k in range(width)
    ]
    by_large, flops, alone = [], 0.0, 0.0
    for prompt, tokens, own, answer in recorded:
        unsure = np.flatnonzero(own < np.array(thresholds[: len(own)]))
        alone += 2 * LARGE * (prompt + answer)
        if not len(unsure):
            flops += 2 * SMALL * (prompt + tokens.sum())
            by_large.append(0.0)
            continue
        kept = tokens[: unsure[0]].sum()
        written = min(kept + tokens[unsure[0]] + AHEAD_TOKENS, max(tokens.sum(), kept + tokens[unsure[0]]))
        flops += 2 * SMALL * (prompt + written) + 2 * LARGE * (prompt + kept + max(answer - kept, 0))
        by_large.append(1 - unsure[0] / len(own))
    return np.mean(by_large), flops / alone


def test_gamma_moves_the_share_of_large_steps_and_the_cost_stays_below_that_of_large(recorded):
    shares, costs = zip(*(spent(recorded, gamma) for gamma in SHARES), strict=True)
    assert min(shares) < 0.2 and max(shares) > 0.8
    assert all(np.diff(costs) > 0) and max(costs) < 1.05
