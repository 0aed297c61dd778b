"""`steer tune` on recorded sweeps and on a prefix table."""

import handmade_runs
import numpy as np
import pandas as pd
import pytest
import yaml
from paths import SHARED
from prefix_tables import made_table, write_run

from pipelines.cli import main, parser
from pipelines.tune.models import identity
from pipelines.tune.recorded import on_split, read_recorded
from pipelines.tune.tune import Measured
from steer.config.policy import RandomQueryPolicy
from steer.plans.plan import read_plan, refuse_other

H200 = SHARED / "data" / "h200"


def plain_sweep(folder, questions=300, gain=0.4, seeds=(0,), split="validation", labels=("small", "large", "mine")):
    """A plain folder with a sweep's traces. Setting 0.5 of `mine` is right where small or large is, and costs 40 % of
    large's FLOPs; setting 0.9 is as good as small. `gain`: by how much large is right more often than small."""
    rng = np.random.default_rng(0)
    small_Q = rng.random(questions) < 0.5
    large_Q = np.where(rng.random(questions) < gain, True, small_Q)
    settings = {
        "small": (small_Q, 1.0),
        "large": (large_Q, 10.0),
        "mine/gamma=0.5": (small_Q | large_Q, 4.0),
        "mine/gamma=0.9": (small_Q, 5.0),
    }
    rows = [
        {"cell": f"made/{split}/{name}/seed{seed}", "question_id": f"q{q}", "sample": 0, "seed": seed}
        | {"correct": bool(right_Q[q]), "flops_full": cost + 0.1 * (q % 3), "flops_paper": cost}
        for name, (right_Q, cost) in settings.items()
        if name.partition("/")[0] in labels
        for seed in seeds
        for q in range(questions)
    ]
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / "traces.parquet")
    variants = [{"label": name, "policy": {"name": name}} for name in ("small", "large")]
    variants.append({"label": "mine", "policy": {"name": "steer", "measure": "entropy"}})
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"variants": variants}))
    return folder


def tune(folder, out, *knob, source="--sweep"):
    assert main(["tune", source, str(folder), *knob, "--out", str(out)]) == 0
    return read_plan(out)


def test_a_setting_above_the_bar_is_planned(tmp_path, capsys):
    plan = tune(plain_sweep(tmp_path / "sweep"), tmp_path / "out", "--budget", "50%")
    assert plan.policy == {"name": "steer", "measure": "entropy", "gamma": 0.5} and plan.routed
    assert plan.policy_config().gamma == 0.5
    assert plan.expected.cost.value == pytest.approx(0.4, abs=0.01)
    assert plan.expected.above_bar.low > 0 and plan.asked.questions == 300
    assert plan.sentence in capsys.readouterr().out


def test_a_setting_below_the_bar_is_not(tmp_path):
    folder = plain_sweep(tmp_path / "sweep")
    traces = pd.read_parquet(folder / "traces.parquet")
    traces.loc[traces["cell"].str.contains("gamma=0.5"), "correct"] = False
    traces.to_parquet(folder / "traces.parquet")
    plan = tune(folder, tmp_path / "out", "--budget", "0.5")
    assert not plan.routed and "Routing does not pay" in plan.sentence
    assert isinstance(plan.policy_config(), RandomQueryPolicy) and plan.expected.cost.value <= 0.5
    assert tune(folder, tmp_path / "more", "--budget", "100%").policy == {"name": "large"}


def test_an_unfinished_setting_is_left_out_and_named(tmp_path, capsys):
    folder = plain_sweep(tmp_path / "sweep")
    traces = pd.read_parquet(folder / "traces.parquet")
    cut = traces["cell"].str.contains("gamma=0.5") & (traces["question_id"] == "q7")
    traces[~cut].to_parquet(folder / "traces.parquet")
    assert not tune(folder, tmp_path / "out", "--budget", "50%").routed
    assert "left out, not finished: mine gamma=0.5" in capsys.readouterr().out


def test_answers_of_several_seeds_are_means_but_one_counts_for_the_risk(tmp_path):
    folder = plain_sweep(tmp_path / "sweep", questions=10, seeds=(0, 1))
    traces = pd.read_parquet(folder / "traces.parquet")
    traces.loc[(traces["seed"] == 1) & traces["cell"].str.contains("/large/"), "correct"] = False
    traces.to_parquet(folder / "traces.parquet")
    split = on_split(read_recorded(str(folder)), str(folder))
    mean_Q, first_Q = (found["large", ""].correct for found in (split.answers, split.first))
    np.testing.assert_allclose(mean_Q, first_Q / 2)
    assert first_Q.max() == 1.0


def test_risk_certifies_the_coin_or_a_setting(tmp_path):
    folder = plain_sweep(tmp_path / "sweep", questions=400)
    plan = tune(folder, tmp_path / "out", "--risk", "5%")
    assert plan.policy["gamma"] == 0.5 and 0 < plan.certified <= 0.05 and plan.asked.questions == 200
    bar = tune(plain_sweep(tmp_path / "bar", labels=("small", "large")), tmp_path / "coin", "--risk", "0.05")
    assert bar.policy["name"] == "random_query" and bar.certified <= 0.05


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        (("small", "mine"), "validation", "has no validation answers by policy large: run the sweep with it"),
        (("small", "large"), "test", "has no answers to validation questions"),
    ],
)
def test_a_sweep_without_the_bar_or_validation_is_refused(tmp_path, capsys, labels, split, message):
    folder = plain_sweep(tmp_path / "sweep", labels=labels, split=split)
    assert main(["tune", "--sweep", str(folder), "--budget", "50%", "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_and_one_without_a_sweep_are_refused(tmp_path, capsys):
    folder = plain_sweep(tmp_path / "sweep")
    assert main(["tune", "--sweep", str(folder), "--budget", "50%", "--out", str(folder)]) == 2
    assert "is not empty: choose another --out" in capsys.readouterr().err
    assert main(["tune", "--sweep", str(tmp_path / "none"), "--budget", "50%", "--out", str(tmp_path / "out")]) == 2
    assert "neither run.json nor traces.parquet" in capsys.readouterr().err


def test_a_run_folder_brings_its_policies_and_models(tmp_path):
    handmade_runs.make(tmp_path / "run")
    recorded = read_recorded(str(tmp_path / "run"))
    assert recorded.policies["steer", "gamma=0.5"] == {"name": "steer", "gamma": 0.5}
    with pytest.raises(ValueError, match="no answers to validation questions"):
        on_split(recorded, "run")
    split = on_split(recorded, "run", split="test")
    assert split.benchmark == "chain" and len(split.questions) == 40
    assert split.answers["small", ""].correct.mean() < split.answers["large", ""].correct.mean()


def test_a_plan_from_a_prefix_table(tmp_path):
    folder = write_run(tmp_path / "run", made_table(150, seed=8))
    plan = tune(folder, tmp_path / "out", "--budget", "60%", "--folds", "3", source="--prefixes")
    assert plan.routed and plan.policy["measure"] == "margin"
    assert plan.routing == {}, "the table's run did not write on"
    assert plan.origin.kind == "prefixes" and plan.asked.split == "validation"
    refuse_other(plan, plan.models, "made_up")
    with pytest.raises(ValueError, match="its small model is made/small"):
        refuse_other(plan, {**plan.models, "small": identity("embedded:small")})


def test_an_embedded_model_is_told_by_its_weights(tmp_path):
    small, large = identity("embedded:small"), identity("embedded:large")
    assert small.weights and large.weights and small.weights != large.weights
    assert identity(str(tmp_path)).weights is None


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        (["--budget", "50%"], "budget", 0.5),
        (["--budget", "0.5"], "budget", 0.5),
        (["--accuracy-within", "1"], "accuracy_within", 0.01),
        (["--accuracy-within", "1.5%"], "accuracy_within", 0.015),
        (["--risk", "2%"], "risk", 0.02),
        (["--risk", ".02"], "risk", 0.02),
    ],
)
def test_knobs_are_read_with_and_without_percent(given, name, value):
    args = parser().parse_args(["tune", "--sweep", "run", *given, "--out", "out"])
    knob = getattr(args, name)
    assert knob.name == name and knob.value == pytest.approx(value)


@pytest.mark.parametrize("given", [["--budget", "50"], ["--risk", "200%"], ["--budget", "half"], ["--risk", "0"], []])
def test_a_knob_that_cannot_be_is_refused(given, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["tune", "--sweep", "run", *given, "--out", "out"])
    assert "required" in (said := capsys.readouterr().err) or "is no share that can be asked for" in said


@pytest.mark.skipif(not H200.exists(), reason="the recorded tables of a GPU run are not beside this checkout")
@pytest.mark.parametrize(
    "knob", [("--budget", "50%"), ("--budget", "100%"), ("--accuracy-within", "1"), ("--risk", "5%")]
)
def test_routing_did_not_pay_for_a_pair_far_apart(tmp_path, knob):
    """Recorded on a GPU: 0.5B and 1.5B coder models on MATH500, where every routed setting is below the coin."""
    plan = tune(H200, tmp_path / "out", *knob)
    assert not plan.routed and plan.sentence.startswith("Routing does not pay on this pair and benchmark")
    assert plan.policy["name"] == ("large" if knob[1] == "100%" else "random_query")
    assert plan.expected.cost.value <= {"50%": 0.5}.get(knob[1], 1.0)


@pytest.mark.parametrize(("knob", "certified"), [(("--budget", "45%"), False), (("--risk", "12%"), True)])
def test_settings_of_a_sweep_stand_beside_those_of_a_table(tmp_path, knob, certified):
    """The sweep's one setting is always right and cheap, so it is planned; its questions are half of the table's."""
    table = made_table(240, seed=9)
    folder = write_run(tmp_path / "run", table)
    asked = table.questions[:200]
    costs = {"small": 0.3, "large": 2.0, "oracle/threshold=0.5": 0.4}
    rows = [
        {"cell": f"made_up/validation/{name}/seed0", "question_id": question, "sample": 0, "seed": 0}
        | {"correct": name.startswith("oracle"), "flops_full": cost, "flops_paper": cost}
        for name, cost in costs.items()
        for question in asked
    ]
    (tmp_path / "sweep").mkdir()
    pd.DataFrame(rows).to_parquet(tmp_path / "sweep" / "traces.parquet")
    oracle = {"label": "oracle", "policy": {"name": "query_router"}}
    (tmp_path / "sweep" / "sweep.yaml").write_text(yaml.safe_dump({"variants": [oracle]}))
    both = (*knob, "--sweep", str(tmp_path / "sweep"), "--folds", "3")
    plan = tune(folder, tmp_path / "out", *both, source="--prefixes")
    assert plan.policy == {"name": "query_router", "threshold": 0.5} and plan.expected.accuracy.value == 1.0
    assert plan.asked.questions == (100 if certified else 200) and (plan.certified is not None) == certified


def test_nothing_to_tune_from_is_refused():
    with pytest.raises(ValueError, match="give --sweep or --prefixes"):
        Measured.read(None, None)
