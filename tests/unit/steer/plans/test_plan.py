"""plan.yaml: written, read, and refused for other models."""

import pytest
import yaml

from steer.plans.knobs import Knob
from steer.plans.plan import Asked, Estimate, Expected, ModelIdentity, Origin, Plan, read_plan, refuse_other

MODELS = {
    "small": ModelIdentity(path="org/small", weights="aa", parameters=1e9),
    "large": ModelIdentity(path="org/large", parameters=7e9),
}
ESTIMATE = Estimate(value=0.5, low=0.4, high=0.6)


def plan(**changes):
    steer = {"name": "steer", "decide": "threshold", "measure": "margin", "aggregate": "window", "so_far": "min"}
    values = {
        "knob": Knob(name="budget", value=0.5),
        "policy": steer | {"by_length": [-0.5, 0.25], "thresholds": [1.5, -1e300], "refine": "every"},
        "routing": {"barrier": "rolling", "write_on": True},
        "models": MODELS,
        "asked": Asked(benchmark="math500", split="validation", questions=320),
        "expected": Expected(accuracy=ESTIMATE, cost=ESTIMATE, bar=0.45, above_bar=ESTIMATE, behind_large=ESTIMATE),
        "routed": True,
        "sentence": "Routing pays: quoted 'so', and with a colon.",
        "origin": Origin(folder="runs/prefixes", kind="prefixes", seeds=(0,), versions={"python": "3.11"}),
    }
    return Plan(**values | changes)


def test_a_plan_reads_back_as_it_was_written(tmp_path):
    (tmp_path / "plan.yaml").write_text(plan().to_yaml())
    assert read_plan(tmp_path) == read_plan(tmp_path / "plan.yaml") == plan()


@pytest.mark.parametrize("policy", [{"name": "large"}, {"name": "random_query", "p": 0.25}])
def test_a_setting_of_the_bar_is_a_policy_of_this_version(policy):
    config = plan(policy=policy, routed=False).policy_config()
    assert config.model_dump(exclude_unset=True) == policy


def test_a_policy_that_cannot_be_run_is_refused():
    with pytest.raises(ValueError, match=r"none that can be run: .*p.* run `steer tune` again"):
        plan(policy={"name": "random_query", "p": 3}).policy_config()
    with pytest.raises(ValueError, match="needs its name"):
        plan(policy={"p": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format = 2, and this version reads 1"),
        ({"knob": {"name": "speed", "value": 1}}, "knob.name: .*run `steer tune` again"),
        ({"extra": 1}, "extra: .*run `steer tune` again"),
    ],
)
def test_a_plan_that_was_changed_by_hand_is_refused(tmp_path, changes, message):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(yaml.safe_load(plan().to_yaml()) | changes))
    with pytest.raises(ValueError, match=message):
        read_plan(tmp_path)


@pytest.mark.parametrize("text", ["policy: {name: steer}", "- 1", ""])
def test_another_file_is_no_plan(tmp_path, text):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ValueError, match="no plan: give the plan.yaml that `steer tune` wrote"):
        read_plan(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such plan"):
        read_plan(tmp_path / "other.yaml")


def test_the_same_models_are_not_refused():
    copied = {**MODELS, "small": ModelIdentity(path="/a/copy/of/it", weights="aa")}
    refuse_other(plan(), copied, "math500")
    refuse_other(plan(), copied)


@pytest.mark.parametrize(
    ("models", "benchmark", "message"),
    [
        (
            {**MODELS, "small": ModelIdentity(path="org/small", weights="bb")},
            None,
            "small .* weights aa, not org/small",
        ),
        (
            {**MODELS, "large": ModelIdentity(path="org/huge", weights="cc")},
            None,
            "large model is org/large, not org/huge",
        ),
        ({"small": MODELS["small"]}, None, "large model is org/large, and there is none here"),
        (MODELS, "gsm8k", "its benchmark is math500, not gsm8k"),
    ],
)
def test_others_are_refused_with_what_differs(models, benchmark, message):
    with pytest.raises(ValueError, match=f"{message}.*Run `steer tune` again"):
        refuse_other(plan(), models, benchmark)


def test_a_plan_that_names_no_models_is_for_none():
    with pytest.raises(ValueError, match="run `steer tune` on a run folder"):
        refuse_other(plan(models={}), MODELS)


@pytest.mark.parametrize(
    ("name", "value"), [("risk", 1.0), ("accuracy_within", 2.0), ("budget", 0.0), ("budget", 50.0)]
)
def test_a_knob_is_a_share(name, value):
    with pytest.raises(ValueError, match="value|share"):
        Knob(name=name, value=value)


def test_a_plan_names_no_code():
    with pytest.raises(ValueError, match="which no plan names"):
        plan(policy={"name": "custom", "object": "evil:Policy"}).policy_config()
