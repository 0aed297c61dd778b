"""Summary rows with their bar, and the printed tables."""

import json
import math

import pyarrow as pa
import pytest

from pipelines.report.printed import best_on_test, dollars, tables, unit_for
from pipelines.report.summary import Entry, Summary, cells_with_seconds, read_json, summarise, write_json
from pipelines.report.totals import money_lines
from steer.storage.run_folder import RunFolder


def row(policy, accuracy=0.5, flops=1e-5, setting="", split="test", benchmark="b", bar=math.nan):
    return Summary(
        benchmark,
        split,
        policy,
        setting,
        3,
        100,
        accuracy,
        accuracy - 0.1,
        accuracy + 0.1,
        flops,
        2 * flops + 1e-6,
        0.25,
        bar,
        1.0,
    )


ROWS = [
    row("small", 0.6, 2e-6, bar=0.6),
    row("large", 0.9, 10e-6, bar=0.9),
    row("steer", 0.88, 4e-6, "gamma=0.5", bar=0.675),
]


def test_the_table_says_accuracy_compute_and_points_above_the_bar():
    lines = tables(ROWS, {("b", "steer", "gamma=0.5")}).splitlines()
    assert lines[0] == "b, test split, 100 questions, 3 sampling seeds"
    assert "MFLOP/question" in lines[1]
    assert lines[5].split() == ["steer", "gamma=0.5", "*", "88.0", "78.0–98.0", "4", "40", "43", "25", "+20.5"]
    assert lines[-1] == "*: threshold chosen on the validation split"


def test_oracle_pareto_set_and_recovered_gap_are_said_where_they_are_known():
    best = {"oracle_accuracy": 0.95, "oracle_flops_full": 10.5e-6}
    rows = [r._replace(pareto=r.policy != "large", **best) for r in ROWS]
    rows[2] = rows[2]._replace(apgr=0.7561, cpt_50=0.15, cpt_80=0.247, clusters=25)
    said = tables(rows).splitlines()
    assert said[0] == "b, test split, 100 questions in 25 clusters that share a rule or a passage, 3 sampling seeds"
    assert said[1].endswith("Pareto") and [line.endswith("✓") for line in said[3:6]] == [True, False, True]
    assert said[6] == "oracle (each question to the model that is right on it): 95.0 % at 50 % of large in full"
    assert said[8].split() == ["policy", "APGR", "CPT(50)", "%", "CPT(80)", "%"]
    assert said[10].split() == ["steer", "0.76", "15", "25"]
    assert any(line.startswith("Pareto: ") for line in said) and any(line.startswith("APGR: ") for line in said)


def test_a_summary_of_an_earlier_version_is_read_without_what_it_lacks(tmp_path):
    run = RunFolder.create(tmp_path / "run", "sweep", {}, [0])
    write_json(run, [row("small")])
    kept = [
        {k: v for k, v in r.items() if k in Summary._fields[:14]} for r in json.loads(run.read_file("summary.json"))
    ]
    run.write_file("summary.json", json.dumps(kept).encode())
    (got,) = read_json(run)
    assert (got.clusters, got.pareto) == (0, False) and math.isnan(got.apgr) and math.isnan(got.oracle_accuracy)


def test_columns_without_figures_are_left_out():
    (head,) = [line for line in tables([row("steer")]).splitlines() if line.startswith("policy")]
    assert (
        "% of large" not in head and "in full" not in head and "vs random_query" not in head and "setting" not in head
    )


@pytest.mark.parametrize("flops,unit", [(2.0, "TFLOP"), (0.5, "GFLOP"), (2e-6, "MFLOP"), (1e-10, "kFLOP")])
def test_the_unit_fits_the_dearest_row(flops, unit):
    assert unit_for([row("small", flops=flops / 100), row("large", flops=flops)])[1] == unit


def test_best_on_test_takes_the_most_accurate_setting_of_each_policy():
    grid = [
        row("steer", 0.7, 1, "gamma=0.1"),
        row("steer", 0.8, 2, "gamma=0.5"),
        row("steer", 0.9, 3, "g", "validation"),
    ]
    assert [r.setting for r in best_on_test(grid)] == ["gamma=0.5"]


def traces(run, cell, verdicts, **columns):
    """Commits one trace a verdict of `cell`, questions q0, q1, ..."""
    from steer.storage.schemas import GRADED_SCHEMA

    rows = []
    for i, correct in enumerate(verdicts):
        values = {f.name: 0 if pa.types.is_primitive(f.type) else "" for f in GRADED_SCHEMA} | {"thought_cut": False}
        values |= {"step_rows": [], "mixture_rows": [], "cell": cell, "question_id": f"q{i}", "trace_id": f"q{i}#0"}
        rows.append({**values, "correct": correct, **columns})
    run.commit(pa.Table.from_pylist(rows, schema=GRADED_SCHEMA))


def test_a_row_is_the_mean_over_questions_and_seeds(tmp_path):
    run = RunFolder.create(tmp_path / "run", "sweep", {}, [0, 1])
    traces(run, "c/seed0", [True, True, False, None], steps=4, steps_large=1, flops_paper=2.0, flops_full=3.0)
    traces(run, "c/seed1", [True, False, False, False], steps=4, steps_large=3, flops_paper=4.0, flops_full=5.0)
    run.update(cells=[{"name": name} for name in ("c/seed0", "c/seed1")])
    run.update(cells=cells_with_seconds(run, ["c/seed0", "c/seed1"], 8.0))
    (got,) = summarise(run, [Entry("b", "test", "steer", "gamma=0.5", ("c/seed0", "c/seed1"), False)])
    assert (got.seeds, got.n, got.accuracy, got.share_large) == (2, 4, 3 / 8, 0.5)
    assert (got.flops_paper, got.flops_full, got.seconds) == (3.0, 4.0, 8.0)
    assert got.accuracy_low <= got.accuracy <= got.accuracy_high


def test_a_question_that_is_missing_under_one_seed_is_not_averaged_away(tmp_path):
    run = RunFolder.create(tmp_path / "run", "sweep", {}, [0, 1])
    traces(run, "c/seed0", [True, True, False])
    traces(run, "c/seed1", [True, True])
    with pytest.raises(ValueError, match="different numbers of answers"):
        summarise(run, [Entry("b", "test", "steer", "", ("c/seed0", "c/seed1"), False)])


def barred(run, label):
    """Rows of small, large (called `label`) and steer on test, and of steer alone on validation."""
    entries = []
    for split, policy, verdicts, flops in (
        ("test", "small", [True, False], 2.0),
        ("test", label, [True, True], 10.0),
        ("test", "steer", [True, True], 4.0),
        ("validation", "steer", [True, True], 4.0),
    ):
        traces(run, f"{split}/{policy}", verdicts, flops_paper=flops, flops_full=flops)
        entries.append(Entry("b", split, policy, "", (f"{split}/{policy}",), policy in ("small", label)))
    run.update(cells=[{"name": entry.cells[0]} for entry in entries])
    return summarise(run, entries)


@pytest.mark.parametrize("label", ["large", "the big one"])
def test_the_bar_is_read_at_the_rows_own_compute_whatever_its_rows_are_called(tmp_path, label):
    run = RunFolder.create(tmp_path / "run", "sweep", {}, [0])
    rows = barred(run, label)
    assert [r.random_query_accuracy for r in rows[:3]] == pytest.approx([0.5, 1.0, 0.625])
    assert math.isnan(rows[3].random_query_accuracy), "no bar was run on that split"
    assert [r.pareto for r in rows] == [True, False, True, False], "steer is as good as large, and cheaper"
    assert {r.oracle_accuracy for r in rows[:3]} == (
        {1.0} if label == "large" else {r.oracle_accuracy for r in rows[:3]}
    )
    write_json(run, rows)
    assert [r[:12] for r in read_json(run)] == [r[:12] for r in rows]


def test_a_label_of_the_bar_does_not_make_another_policy_one(tmp_path):
    run = RunFolder.create(tmp_path / "run", "sweep", {}, [0])
    traces(run, "a", [True, False], flops_paper=1.0)
    traces(run, "b", [True, True], flops_paper=2.0)
    run.update(cells=[{"name": "a"}, {"name": "b"}])
    rows = summarise(
        run, [Entry("b", "test", label, "", (cell,), False) for label, cell in (("small", "a"), ("p", "b"))]
    )
    assert all(math.isnan(r.random_query_accuracy) for r in rows)


def test_a_row_without_traces_is_refused(tmp_path):
    run = RunFolder.create(tmp_path / "run", "sweep", {}, [0])
    traces(run, "a", [True])
    run.update(cells=[{"name": "a"}, {"name": "c"}])
    entries = [Entry("b", "test", policy, "", (cell,), False) for policy, cell in (("small", "a"), ("steer", "c"))]
    with pytest.raises(ValueError, match="no traces of steer"):
        summarise(run, entries)


def test_answers_without_a_kept_step_have_no_large_step(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    traces(run, "c", [None, None], steps=0, steps_large=0)
    run.update(cells=[{"name": "c"}])
    (got,) = summarise(run, [Entry("b", "test", "small", "", ("c",), True)])
    assert (got.accuracy, got.share_large) == (0.0, 0.0) and math.isnan(got.random_query_accuracy)


def priced_run(tmp_path, prices):
    models = {name: {"path": name, "usd_per_million_tokens": price} for name, price in prices.items()}
    run = RunFolder.create(tmp_path / "run", "run", {"pair": models}, [0])
    # Two questions, one of them right: 200 small tokens written and 1,000 read; 100 large tokens and 2,000.
    tokens = {"tokens_small": 100, "tokens_large": 50, "prefill_small": 500, "prefill_large": 1000, "tokens_signal": 0}
    traces(run, "c", [True, False], **tokens)
    return run


def test_dollars_are_those_of_the_prices_in_run_json(tmp_path):
    prices = {"small": {"input": 1.0, "output": 2.0}, "large": {"input": 10.0, "output": 40.0}}
    run = priced_run(tmp_path, prices)
    (found,) = summarise(run, [Entry("b", "test", "large", "", ("c",), False)])
    a_question = (500 * 1 + 100 * 2 + 1000 * 10 + 50 * 40) / 1e6
    assert (found.usd_tokens, found.usd_tokens_correct) == pytest.approx((a_question, 2 * a_question))
    said = tables([found])
    assert "0.0127" in said and "0.0254" in said and "$/question" in said and "prices of tokens" in said
    write_json(run, [found])
    assert read_json(run)[0].usd_tokens == found.usd_tokens


def test_without_prices_nothing_speaks_of_dollars(tmp_path):
    run = priced_run(tmp_path, {"small": None, "large": None})
    (found,) = summarise(run, [Entry("b", "test", "large", "", ("c",), False)])
    assert math.isnan(found.usd_tokens) and "$" not in tables([found])
    assert money_lines(run) == []


def test_gpu_hours_are_one_sum_of_the_run(tmp_path):
    run = priced_run(tmp_path, {"small": None, "large": None})
    pools = {"small": {"gpus": 1, "usd_per_gpu_hour": 2.0}, "large": {"gpus": 2, "usd_per_gpu_hour": 3.0}}
    run.update(config={**run.describe()["config"], "pools": pools}, engines={"gpu_s": {"small": 1800, "large": 7200}})
    (line,) = money_lines(run)
    assert "$7.00 for 2.5 GPU-hours" in line and "$3.50 a question" in line and "$7.00 a right answer" in line


@pytest.mark.parametrize(
    ("usd", "said"), [(0.0, "0"), (0.0000123, "0.0000123"), (0.5, "0.500"), (12.3, "12.30"), (1234.5, "1,234.50")]
)
def test_dollars_have_cents_or_three_digits(usd, said):
    assert dollars(usd) == said
