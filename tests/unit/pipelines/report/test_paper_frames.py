"""The numbers of the paper's tables and figures, on frames and runs made by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from handmade_runs import blank

from pipelines.report.frames import load, read
from pipelines.report.paper import frames as paper_frames
from pipelines.report.paper.rows import METHODS, OBSERVED, group_label, percentile_label
from pipelines.sweep.paper import PaperConfig, paper_sweep
from steer.embedded.tasks import questions
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import GRADED_SCHEMA, STEP_STRUCT


def point(policy, setting="", accuracy=0.9, flops=2.0, chosen=False, split="test", **other):
    known = {"benchmark": "hops", "split": split, "policy": policy, "setting": setting, "chosen": chosen}
    ends = {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1}
    return {**known, **ends, "flops_paper": flops, "flops_full": 2 * flops, "questions": 40, **other}


CURVE = pd.DataFrame(
    [
        point("large", accuracy=1.0, flops=10.0),
        point("small", accuracy=0.5, flops=1.0),
        *(point("random_query", f"p={p}", flops=1 + 9 * p) for p in (0.25, 0.5, 0.75)),
        point("steer", "gamma=0.1", accuracy=0.95, flops=5.0),
        point("steer", "gamma=0.5", accuracy=0.9, flops=4.0, chosen=True),
        point("steer", "gamma=0.5", accuracy=0.2, flops=4.0, chosen=True, split="validation"),
        point("steer K=5", "gamma=0.3", accuracy=0.8, flops=6.0, chosen=True),
        point(percentile_label("entropy", "small"), "percent=30", accuracy=0.7, split="validation"),
        point(f"{OBSERVED} confidence", "gamma=0"),
    ]
)


def test_tables_1_and_2_hold_the_chosen_thresholds_in_the_papers_order_with_a_f():
    found = paper_frames.methods(CURVE)
    assert list(zip(found["policy"], found["setting"], strict=True)) == [
        *[("small", ""), ("large", ""), ("random_query", "p=0.5")],
        ("steer", "gamma=0.5"),
    ]
    assert list(found["a_f"]) == pytest.approx([50.0, 10.0, 90 / 5.5, 22.5])


def test_best_on_test_takes_each_methods_most_accurate_threshold():
    found = paper_frames.best_on_test(CURVE).set_index("policy")
    assert found.loc["steer", "setting"] == "gamma=0.1"
    assert "random_query" not in found.index


def test_table_3_counts_groups_and_their_questions():
    found = paper_frames.groups(CURVE)
    assert list(zip(found["policy"], found["groups"], found["group_size"], strict=True)) == [
        ("steer", 1, 40),
        ("steer", 5, 8),
    ]


def test_figure_3_reads_measure_scorer_and_percentile_from_validation():
    (row,) = paper_frames.percentiles(CURVE).itertuples()
    assert (row.measure, row.scorer, row.percent, row.accuracy) == ("entropy", "small", 30.0, 0.7)


def test_the_experiment_leaves_out_methods_without_their_signal_and_labels_fit_the_frames():
    whole = {v.label: v for v in paper_sweep(PaperConfig(), {}).variants}
    assert set(METHODS) <= set(whole)
    assert {group_label("steer", k) for k in (2, 5, 10)} <= set(whole) and whole["steer K=5"].groups == 5
    assert whole[percentile_label("max_prob", "producer")].on_test == "never"
    assert whole["steer"].on_test == "grid"
    rest = {v.label for v in paper_sweep(PaperConfig(), {"rsd": "no reward model"}).variants}
    assert set(whole) - rest == {"rsd", f"{OBSERVED} rsd"}


@pytest.fixture
def watched(tmp_path):
    """Small writes all steps of 30 questions; odd ones are wrong from step 1 on, and its confidence says so."""
    run = RunFolder.create(tmp_path / "run", "paper", {}, [0])
    cell = f"chain_math/test/{OBSERVED} confidence/gamma=0/seed0"
    run.update(cells=[{"name": cell, "policy": {"name": "steer", "gamma": 0.0}, "traces": 30}])
    run.update(benchmarks=[{"benchmark": "chain_math", "split": "test"}])
    rows = []
    for i, task in enumerate(questions("chain_math", "test", 30)):
        texts = [text if not (i % 2 and s) else f"bek = {s:02d}\n\n" for s, text in enumerate(task.steps)]
        steps = []
        for s, text in enumerate(texts):
            score = 0.9 + 0.001 * i if text == task.steps[s] else 0.4
            known = {"accepted": True, "model": "small", "finish": "step", "decision": "small", "max_prob_small": score}
            times = {"routing_seconds": 0.002 * (s < len(texts) - 1), "seconds": 0.1}
            steps.append(blank(STEP_STRUCT, step=s, text=text, **known, **times))
        ids = {"trace_id": f"{task.id}#0", "question_id": task.id, "cell": cell, "benchmark": "chain_math"}
        verdict = {"correct": i % 2 == 0, "prompt": task.question, "status": "answered", "steps": len(steps)}
        rows.append(blank(GRADED_SCHEMA, **ids, **verdict, step_rows=steps, mixture_rows=[]))
    run.commit(pa.Table.from_pylist(rows, schema=GRADED_SCHEMA))
    return run


def test_a_signal_is_held_against_steps_before_which_all_is_right(watched):
    traces = load(watched, watched.describe())
    steps = paper_frames.labelled(watched, traces, "chain_math")
    odd = steps[steps["question_id"] == questions("chain_math", "test", 2)[1].id]
    assert list(odd["same"]) == [True, False] and odd["next"].iloc[0] == False and odd["next"].iloc[1] is None  # noqa: E712
    even = steps[steps["question_id"] == questions("chain_math", "test", 1)[0].id]
    assert even["same"].all() and even["next"].iloc[-1] is None and even["next"].iloc[:-1].all()

    found = paper_frames.step_auroc(watched, traces).set_index(["signal", "of"])
    same = found.loc[("max_prob, mean", "same")]
    assert same["auroc"] == 1.0 and same["n"] - same["right"] == 15
    assert found.loc[("max_prob, mean", "next"), "auroc"] < 0.9  # a right step says little of the next one
    assert not found.index.get_level_values("signal").str.startswith("entropy").any()  # it was not measured


def test_latency_counts_decisions_alone_and_leaves_out_one_model_policies(watched):
    traces = load(watched, watched.describe()).assign(policy="steer")
    (row,) = paper_frames.latency(watched, traces).itertuples()
    steps = read(watched, "steps", ("routing_seconds",))["routing_seconds"].to_numpy()
    assert row.decisions == (steps > 0).sum() < len(steps)
    assert (row.mean, row.median, row.generation) == pytest.approx((0.002, 0.002, 0.1))
    assert not len(paper_frames.latency(watched, traces.assign(policy="large")))
    assert np.isfinite(row.p90)
