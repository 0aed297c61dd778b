"""Made-up prefix tables with a known truth, in memory and as the run folder that they are read from."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steer.plans.table import PrefixTable
from steer.storage.run_folder import RunFolder

MEASURES = ("max_prob", "margin")


def made_table(questions, seed=0, separation=2.0, spoils=0.9, large_right=0.9, slips=0.12):
    """A table of questions of 1 to 8 steps.

    The small model slips at each step with a chance that depends on the question; a step's `margin` is lower by
    `separation` standard deviations where it slipped, and `max_prob` knows nothing. A slip before the boundary spoils
    the completion with probability `spoils`. `large_right`: how often the large model is right alone.
    """
    rng = np.random.default_rng(seed)
    K = 8
    steps_Q = 1 + rng.binomial(K - 1, 0.45, questions)
    inside_QK = np.arange(K) < steps_Q[:, None]
    hard_Q = rng.beta(0.8, 1.2, questions) * 2 * slips
    slip_QK = (rng.random((questions, K)) < hard_Q[:, None]) & inside_QK
    spoiled_QK = np.concatenate([np.zeros((questions, 1), bool), slip_QK.cumsum(axis=1)[:, :-1] > 0], axis=1)
    right_QK = rng.random((questions, K)) < large_right
    right_QK &= ~(spoiled_QK & (rng.random((questions, K)) < spoils))
    tokens_QK = np.where(inside_QK, rng.integers(5, 40, (questions, K)), 0).astype(float)
    prompt_Q = rng.integers(20, 60, questions).astype(float)
    before_QK = tokens_QK.cumsum(axis=1) - tokens_QK
    left_QK = tokens_QK.sum(axis=1, keepdims=True) - before_QK
    noise = {m: rng.normal(size=(questions, K)) for m in MEASURES}
    scores = {}
    for measure in MEASURES:
        mean_QK = noise[measure] - separation * slip_QK * (measure == "margin")
        for aggregate, shift in (("mean", 1.0), ("min", 0.0)):
            score_QK = mean_QK + shift - (0.3 * np.log(np.maximum(tokens_QK, 1)) if aggregate == "min" else 0.0)
            scores[measure, aggregate] = np.where(inside_QK, score_QK, np.nan)
    large_tokens_QK = np.where(inside_QK, np.maximum(1, np.round(left_QK * rng.uniform(0.8, 1.2, (questions, K)))), 0.0)
    return PrefixTable(
        questions=tuple(f"q{i:06d}" for i in range(questions)),
        steps_Q=steps_Q,
        tokens_QK=tokens_QK,
        scored_QK=np.where(inside_QK, tokens_QK, np.nan),
        scores=scores,
        small_correct_Q=~slip_QK.any(axis=1),
        small_prompt_Q=prompt_Q,
        large_correct_QK=right_QK & inside_QK,
        large_tokens_QK=large_tokens_QK,
        large_prompt_QK=np.where(inside_QK, prompt_Q[:, None] + before_QK, 0.0),
        n_small=1e9,
        n_large=7e9,
        benchmark="made_up",
    )


def write_run(root, table, under="", seed=0, kind="prefixes", drop=(), fail=(), parts=2, without=()):
    """Write the table as the run folder of `steer prefixes`, in several parts.

    `under`: what stands before the cells' names. `drop` and `fail`: (question, step) of completions that are not there
    or ended with an error. `without`: columns of steps/ to leave out.
    """
    pair = {"small": {"path": "made/small", "dtype": "auto"}, "large": {"path": "made/large", "dtype": "auto"}}
    run = RunFolder.create(root, kind, {"pair": pair, "benchmark": {"name": "made_up", "split": "validation"}}, [seed])
    engines = {"small": {"parameters": table.n_small}, "large": {"parameters": table.n_large}}
    run.update(engines=engines)
    names = {k: f"{under}{'small' if k < 0 else f'large@{k}'}" for k in range(-1, table.tokens_QK.shape[1])}
    traces, steps = [], []
    for q, question in enumerate(table.questions):
        row = {"question_id": question, "sample": 0, "seed": seed, "benchmark": table.benchmark, "error": ""}
        small_tokens = int(table.tokens_QK[q].sum())
        traces.append(
            {**row, "cell": names[-1], "trace_id": f"{question}#0", "status": "answered"}
            | {"correct": bool(table.small_correct_Q[q]), "prompt_tokens": int(table.small_prompt_Q[q])}
            | {"tokens_small": small_tokens, "tokens_large": 0}
        )
        for k in range(table.steps_Q[q]):
            steps.append(
                {"cell": names[-1], "question_id": question, "step": k, "tokens": int(table.tokens_QK[q, k])}
                | {"scored_tokens_small": int(table.scored_QK[q, k])}
                | {_column(key): float(score_QK[q, k]) for key, score_QK in table.scores.items()}
            )
            if (question, k) in drop:
                continue
            traces.append(
                {**row, "cell": names[k], "trace_id": f"{question}#0"}
                | {"status": "error" if (question, k) in fail else "answered", "tokens_small": 0}
                | {"correct": bool(table.large_correct_QK[q, k]), "tokens_large": int(table.large_tokens_QK[q, k])}
                | {"prompt_tokens": int(table.large_prompt_QK[q, k])}
            )
    rng = np.random.default_rng(0)
    steps = [{name: value for name, value in row.items() if name not in without} for row in steps]
    for name, rows in (("traces", traces), ("steps", steps)):
        rng.shuffle(rows)
        for part in range(parts):
            pq.write_table(pa.Table.from_pylist(rows[part::parts]), f"{root}/{name}/part-{part}.parquet")
    return root


def _column(key):
    measure, aggregate = key
    return f"{measure}_small" if aggregate == "mean" else f"{measure}_{aggregate}_small"
