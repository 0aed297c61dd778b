"""What an endpoint serves: a configuration, with the plan laid over it, or why not."""

import pytest
from handmade_runs import make
from paths import ROOT

from pipelines.serve.config import ServeConfig, load_served
from pipelines.tune.models import identity
from steer.config.load import SettingsError, load
from steer.config.pairs import load_pair
from steer.plans.knobs import Knob
from steer.plans.plan import Asked, Estimate, Expected, ModelIdentity, Origin, Plan

ESTIMATE = Estimate(value=0.5, low=0.4, high=0.6)
THRESHOLD = {"name": "steer", "decide": "threshold", "thresholds": [0.75, 0.5]}
SHIPPED = ("serve.yaml", "serve-gpu.yaml")


def models_of(pair):
    models = load_pair(pair)
    return {role: identity(getattr(models, role).path) for role in ("small", "large")}


@pytest.fixture
def planned(tmp_path):
    """Writes a plan for the embedded pair, with changes, and returns its folder."""

    def write(benchmark="chain_math", **changes):
        values = {
            "knob": Knob(name="budget", value=0.5),
            "policy": THRESHOLD,
            "routing": {"barrier": "rolling", "write_on": True},
            "models": models_of("embedded"),
            "asked": Asked(benchmark=benchmark, split="validation", questions=320),
            "expected": Expected(accuracy=ESTIMATE, cost=ESTIMATE, bar=0.45, above_bar=ESTIMATE, behind_large=ESTIMATE),
            "routed": True,
            "sentence": "Routing pays.",
            "origin": Origin(folder="runs/prefixes", kind="prefixes"),
        }
        (tmp_path / "plan.yaml").write_text(Plan(**values | changes).to_yaml())
        return str(tmp_path)

    return write


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_endpoint_can_be_served(name):
    path = ROOT / "pipelines" / "configs" / name
    what = load_served(str(path), None)
    assert what.config == load(ServeConfig, path)
    assert (what.policy, what.routing, what.tokens) == (what.config.policy, what.config.routing, "math")


def test_a_runs_configuration_serves_as_it_is():
    what = load_served(str(ROOT / "pipelines" / "configs" / "run-embedded.yaml"), None)
    assert (what.name, what.tokens, what.policy.name) == ("embedded", "math", "steer")


# --- a plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_gives_the_policy_and_the_routing_and_leaves_the_rest(planned):
    sets = ["routing.temperature=0.3", "endpoint.max_live=5", "policy=large"]
    what = load_served(None, planned(), sets)
    assert (what.policy.decide, what.policy.thresholds) == ("threshold", (0.75, 0.5))
    assert (what.routing.write_on, what.routing.temperature) == (True, 0.3)
    assert what.config.endpoint.max_live == 5
    assert what.config.policy == what.policy  # what is served is what the configuration says


def test_the_plans_benchmark_says_which_tokens_are_scored(planned):
    assert load_served(None, None).tokens == "math"
    assert load_served(None, planned("hops")).tokens == "all"
    assert load_served(None, planned("hops"), ["benchmark.tokens=math"]).tokens == "math"


def test_a_plan_on_questions_of_ones_own_needs_the_token_rule(planned):
    with pytest.raises(SettingsError, match="benchmark.name: mine .* set benchmark.tokens to math or all"):
        load_served(None, planned("mine"))
    assert load_served(None, planned("mine"), ["benchmark.tokens=all"]).tokens == "all"
    assert load_served(None, planned("mine"), ["benchmark.grader=math"]).tokens == "math"


def test_a_plan_for_other_models_is_refused(planned):
    others = {role: ModelIdentity(path=f"org/{role}", weights="aa") for role in ("small", "large")}
    with pytest.raises(SettingsError, match="steer tune"):
        load_served(None, planned(models=others))


def test_no_plan_is_usage(tmp_path):
    with pytest.raises(SettingsError, match="no such plan"):
        load_served(None, str(tmp_path))


def test_a_plan_of_the_large_model_alone_is_served(planned):
    assert load_served(None, planned(policy={"name": "large"}, routing={}, routed=False)).policy.name == "large"


# --- what cannot be served ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "remedy"),
    [
        (["policy=percentile"], "decide: budget"),
        (["policy.preset=stepwise"], "set it to frozen .*, all_steps or bank"),
        (["policy.preset=paper"], "set it to frozen"),
        (["policy.fit_from=live"], "set it to frozen"),
        (['policy={name: custom, object: "turns:Turns"}'], "policy custom"),
    ],
)
def test_a_policy_that_needs_a_group_or_foreign_code_is_refused(sets, remedy):
    with pytest.raises(SettingsError, match=remedy):
        load_served(None, None, sets)


@pytest.mark.parametrize(
    "sets",
    [
        ["policy.gamma=0.2"],
        ["policy.fit_from=bank"],
        ["policy.preset=mixture"],
        ["policy=random_query"],
        ["policy=first_token_entropy"],
    ],
)
def test_a_policy_that_decides_on_a_trace_alone_or_by_the_bank_is_served(sets):
    assert load_served(None, None, sets).policy.name in sets[0] or sets[0].startswith("policy.")


def test_frozen_mixtures_are_read_before_anything_starts(tmp_path):
    sets = [f"policy={{name: steer, fit_from: frozen, frozen_path: {tmp_path / 'none'}}}"]
    with pytest.raises(SettingsError, match=str(tmp_path / "none")):
        load_served(None, None, sets)
    make(tmp_path / "run", n=6)
    with pytest.raises(SettingsError, match="no fresh fit by max_logit among its 0 rows"):
        load_served(
            None, None, [sets[0].replace("none", "run/mixtures").replace("steer,", "steer, measure: max_logit,")]
        )


def test_a_benchmark_that_nobody_knows_needs_the_token_rule():
    with pytest.raises(SettingsError, match="benchmark.name: mine .* set benchmark.tokens"):
        load_served(None, None, ["benchmark.name=mine"])
    assert load_served(None, None, ["benchmark.name=mine", "benchmark.tokens=all"]).tokens == "all"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("endpoint.max_life=3", "did you mean max_live?"),
        ("endpoint.timeout_s=0", "endpoint.timeout_s"),
        ("endpoint.max_queued=0", "endpoint.max_queued"),
        ("pair=qwen9", "known pairs are"),
    ],
)
def test_a_wrong_key_or_value_is_named(wrong, message):
    with pytest.raises(SettingsError, match=message):
        load_served(None, None, [wrong])


# --- names ----------------------------------------------------------------------------------------------------------


def test_the_name_is_the_pairs_unless_one_is_given(tmp_path):
    assert load_served(None, None).name == "embedded"
    assert load_served(None, None, ["endpoint.name=ours"]).name == "ours"
    written = tmp_path / "night-shift.yaml"
    written.write_text("small: {path: embedded:small}\nlarge: {path: embedded:large}\n")
    assert load_served(None, None, [f"pair={written}"]).name == "night-shift"
    inline = "pair={small: {path: 'embedded:small'}, large: {path: 'embedded:large'}}"
    assert load_served(None, None, [inline]).name == "pair"
