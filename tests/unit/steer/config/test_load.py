"""Configuration files, overrides, and what is said of wrong ones."""

import pytest
import yaml
from paths import ROOT

from pipelines.serve.config import ServeConfig
from steer.config.load import SettingsError, load, load_config, to_yaml
from steer.config.run import RunConfig
from steer.config.sweep import SweepConfig, Variant
from steer.config.thresholds import THRESHOLDS

CONFIGS = sorted((ROOT / "pipelines" / "configs").glob("*.yaml"))


def model_of(path):
    keys = yaml.safe_load(path.read_text())
    return SweepConfig if "benchmarks" in keys else ServeConfig if "endpoint" in keys else RunConfig


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_shipped_file_loads_and_survives_a_round_trip(path, tmp_path):
    config = load(model_of(path), path)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config))
    assert load(model_of(path), again) == config


def test_configs_are_found():
    found = {path.name for path in CONFIGS}
    assert {"demo.yaml", "sweep.yaml", "run-embedded.yaml", "paper.yaml", "own-data.yaml", "gpu.yaml"} <= found
    assert {"serve.yaml", "serve-gpu.yaml"} <= found


def test_no_file_is_the_defaults():
    assert load_config(None) == RunConfig()


def test_overrides_are_yaml_and_reach_any_depth(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("policy: {name: steer, gamma: 0.2}\n")
    config = load_config(
        path, ["policy.gamma=.7", "pools.small.replicas=3", "benchmark.limit=null", "pools.measures=[max_prob]"]
    )
    assert (config.policy.gamma, config.pools.small.replicas, config.benchmark.limit) == (0.7, 3, None)
    assert config.pools.measures == ("max_prob",)


def test_a_policy_may_be_given_by_its_name():
    assert load_config(None, ["policy=large"]).policy.name == "large"
    assert load_config(None, ["policy=random_query", "policy.p=0.25"]).policy.p == 0.25
    assert load_config(None, ["policy.gamma=0.3"]).policy.name == "steer"


def test_an_item_of_a_list_is_reached_by_its_number(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("benchmarks: [{name: chain_math}, {name: hops}]\n")
    assert load(SweepConfig, path, ["benchmarks.1.groups=3"]).benchmarks[1].groups == 3
    with pytest.raises(SettingsError, match="benchmarks.2.groups=3: 2 is not one of the 2 items"):
        load(SweepConfig, path, ["benchmarks.2.groups=3"])


WRONG = [
    ("polcy: steer", "polcy = 'steer': unknown key; did you mean policy?"),
    ("policy: {name: steer, gama: 0.3}", "policy.gama = 0.3: unknown key; did you mean gamma?"),
    ("policy: {name: steer, gamma: 3}", "policy.gamma = 3: Input should be less than or equal to 1"),
    ("policy: lrage", "policy.name = 'lrage': not a known policy; did you mean large?"),
    ("routing: {barrier: rollin}", "routing.barrier = 'rollin': not allowed; did you mean rolling? Allowed: strict"),
    ("pair: {small: {path: a}, large: {pth: b}}", "pair.large.pth = 'b': unknown key; did you mean path?"),
    ("pools: {small: {replicas: 0}}", "pools.small.replicas = 0: Input should be greater than or equal to 1"),
    (
        "pools: {small: {min_replicas: 0, max_replicas: 2}}",
        "every trace begins at the small model; set it to 1 or more",
    ),
    ("pools: {large: {min_replicas: 1}}", "give max_replicas too, or leave min_replicas out"),
    ("pools: {large: {replicas: 3, max_replicas: 2}}", "set min_replicas to at most that"),
    ("pools: {measures: [max_logt]}", "pools.measures.0 = 'max_logt': not allowed; did you mean max_logit?"),
    ("policy: {name: steer, preset: paper, measure: entropy}", "preset: paper fixes measure"),
    ("policy: {name: steer, fit_from: frozen}", "fit_from: frozen needs frozen_path"),
    ("pools: {measures: [max_logit]}", "add max_prob there or choose another measure"),
    (
        "pair: {small: {path: a}, large: {path: b, engine: {tensor_parallel_size: 2}}}",
        "set pools.large.gpus to 2",
    ),
    ("- a\n- b", "not `key: value` lines"),
    ("policy: {name: steer", "not valid YAML"),
]


@pytest.mark.parametrize("text,says", WRONG, ids=[says[:40] for _, says in WRONG])
def test_what_is_wrong_is_refused_with_file_key_value_and_remedy(text, says, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as refusal:
        load_config(path)
    assert str(refusal.value).startswith(str(path)) and says in str(refusal.value)


def test_a_pair_spelled_out_wrongly_is_not_called_a_wrong_name(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("pair: {small: {path: a}, large: {pth: b}}")
    with pytest.raises(SettingsError) as refusal:
        load_config(path)
    assert "string" not in str(refusal.value)


def test_everything_wrong_is_said_at_once(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("seed: x\nrouting: {max_steps: 0}\n")
    with pytest.raises(SettingsError) as refusal:
        load_config(path, ["benchmark.groups=0"])
    lines = str(refusal.value).splitlines()
    assert len(lines) == 3
    assert [line.startswith("--set: benchmark.groups") for line in lines].count(True) == 1


@pytest.mark.parametrize("item", ["gamma", "=3", "a..b=1", "policy.gamma=[1"])
def test_an_override_that_cannot_be_read_is_named(item):
    with pytest.raises(SettingsError, match="--set"):
        load_config(None, [item])


def test_an_override_below_a_plain_value_is_refused(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("seed: 3\n")
    with pytest.raises(SettingsError, match="seed is 3 here, it has no keys"):
        load_config(path, ["seed.first=4"])


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "demo.yaml").write_text("")
    with pytest.raises(SettingsError, match="did you mean .*demo.yaml"):
        load_config(tmp_path / "dmo.yaml")


# --- grids ----------------------------------------------------------------------------------------------------------


def test_the_standard_sweep_covers_what_is_compared():
    labels = [v.label for v in SweepConfig().variants]
    assert labels[:3] == ["small", "large", "random_query"]
    assert {"random_step", "percentile", "first_token_entropy", "steer", "steer paper"} <= set(labels)
    measures = {
        v.policy.measure for v in SweepConfig().variants if v.policy.name == "steer" and v.label != "steer paper"
    }
    assert measures == {"max_logit", "entropy", "max_prob"}


def test_a_grid_changes_the_threshold_and_nothing_else():
    variant = Variant(label="x", policy={"name": "steer", "measure": "entropy"}, grid=(0.2, 0.4))
    (first, one), (second, two) = variant.settings()
    assert (first, second) == ("gamma=0.2", "gamma=0.4")
    assert one == variant.policy.model_copy(update={"gamma": 0.2})
    assert two == variant.policy.model_copy(update={"gamma": 0.4})


def test_the_paper_preset_keeps_its_fixed_keys_over_the_grid():
    settings = Variant(label="paper", policy={"name": "steer", "preset": "paper"}).settings()
    assert [p.gamma for _, p in settings] == list(THRESHOLDS["steer"][1])
    assert {(p.measure, p.scored_by, p.monotone) for _, p in settings} == {("max_logit", "producer", False)}


@pytest.mark.parametrize(
    "text,says",
    [
        ("variants: [{label: a, policy: {name: large}, grid: [1]}]", "policy large has no threshold"),
        ("variants: [{label: a, policy: {name: steer}, grid: [1.5]}]", "less than or equal to 1"),
        ("variants: [{label: a, policy: {name: small}}, {label: a, policy: {name: large}}]", "share the label a"),
        ("benchmarks: [{name: hops}, {name: hops}]", "a benchmark is named twice"),
        ("objective: budget", "set both or neither"),
    ],
)
def test_an_impossible_sweep_is_refused(text, says, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says):
        load(SweepConfig, path)


def test_an_item_of_a_list_that_is_empty_gets_keys(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("benchmarks: [null]")
    assert load(SweepConfig, path, ["benchmarks.0.name=hops"]).benchmarks[0].name == "hops"
