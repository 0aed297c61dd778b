"""Which questions share material, so that their answers are not independent: the unit of resampling.

Questions by one rule or about one passage are right and wrong together. An interval that treats them as independent is
too narrow; whole clusters must be drawn instead (Miller 2024, arXiv 2411.00640, section 2.2). What each benchmark's
questions share:

| benchmark | shared by a cluster | seen in |
|---|---|---|
| KOR-Bench | the rule (25 a subset, 10 questions each) | labels `subset`, `rule_id` |
| MuSiQue | the single-hop question that the hops end in, and with it a passage and an answer | the id's last number |
| ACPBench | the description of the planning problem | label `context` |

The questions of other benchmarks share nothing: each is its own cluster.
"""

import json

import pandas as pd


def cluster_of(benchmark: str, question_id: str, labels: str) -> str:
    """The cluster of a question; its own id if it shares nothing. `labels`: as in `traces/`, a JSON object or empty."""
    if '"rule_id"' in labels or '"context"' in labels:
        held = json.loads(labels)
        if "rule_id" in held:
            return f"rule {held.get('subset', '')}/{held['rule_id']}"
        return f"context {held['context']}"
    if benchmark == "musique" and "hop" in question_id and "_" in question_id:
        return f"hop {question_id.rpartition('_')[2]}"
    return question_id


def clusters(traces: pd.DataFrame) -> pd.Series:
    """The cluster of each trace (columns benchmark, question_id, labels; labels may be null)."""
    keys = ["benchmark", "question_id"]
    named = traces[[*keys, "labels"]].astype(object).drop_duplicates(keys)
    known = {
        (benchmark, question): cluster_of(str(benchmark), str(question), labels if isinstance(labels, str) else "")
        for benchmark, question, labels in named.itertuples(index=False)
    }
    pairs = zip(traces["benchmark"], traces["question_id"], strict=True)
    return pd.Series([known[pair] for pair in pairs], index=traces.index, dtype=object)
