"""Numbers that a run's tables or vLLM could not take are refused by the configuration, by the name of their key."""

import pyarrow as pa
import pytest
import torch

from pipelines import cli
from pipelines.sweep.paper import PaperConfig, paper_sweep
from pipelines.train.router import TrainRouterConfig
from steer.config.load import SettingsError, load
from steer.config.run import RunConfig
from steer.config.strict import COUNTS, SEEDS
from steer.config.sweep import SweepConfig
from steer.storage.schemas import TRACES_SCHEMA

CONFIGS = [RunConfig, SweepConfig, PaperConfig, TrainRouterConfig]


@pytest.mark.parametrize("model", CONFIGS)
@pytest.mark.parametrize(
    ("seed", "says"),
    [
        (2**63, "seed = 9223372036854775808: Input should be less than 2^63"),
        (2**64, "less than 2^63"),
        (10**400, "less than 2^63"),
        (-1, "seed = -1: Input should be greater than or equal to 0"),
        (-(2**63) - 1, "greater than or equal to 0"),
        (1.5, "integer"),
        (".inf", "finite"),
        ("yes", "truth value"),
    ],
)
def test_a_seed_that_does_not_fit_is_refused(model, seed, says, tmp_path):
    with pytest.raises(SettingsError) as refusal:
        load(model, None, [f"seed={seed}"])
    assert str(refusal.value).startswith("--set: seed = ") and says in str(refusal.value)
    path = tmp_path / "config.yaml"
    path.write_text(f"seed: {seed}\n")
    with pytest.raises(SettingsError) as refusal:
        load(model, path)
    assert str(refusal.value).startswith(f"{path}: seed = ") and says in str(refusal.value)


@pytest.mark.parametrize(
    "key",
    ["benchmark.limit", "routing.max_steps", "pools.small.min_replicas", "policy.min_fit"],
)
def test_a_truth_value_is_no_number(key):
    with pytest.raises(SettingsError, match=rf"^--set: {key} = True: this is a truth value, and a number is needed"):
        load(RunConfig, None, [f"{key}=true"])


def test_the_last_seed_of_a_sweep_fits_too():
    for model, count in (
        (SweepConfig, "validation_seeds=4"),
        (SweepConfig, "test_seeds=4"),
        (PaperConfig, "test_seeds=4"),
    ):
        config = load(model, None, [f"seed={SEEDS - 4}", count])
        sweep = paper_sweep(config, {}) if isinstance(config, PaperConfig) else config
        assert max(sweep.seeds("validation") + sweep.seeds("test")) == SEEDS - 1
        with pytest.raises(SettingsError, match=r"seed = \d+: the 4 seeds .* less than 2\^63"):
            load(model, None, [f"seed={SEEDS - 3}", count])


def test_the_greatest_numbers_fit_where_they_end():
    assert load(RunConfig, None, [f"seed={SEEDS - 1}"]).seed == SEEDS - 1
    assert pa.array([SEEDS - 1], TRACES_SCHEMA.field("seed").type).to_pylist() == [SEEDS - 1]
    assert torch.Generator().manual_seed(SEEDS - 1).initial_seed() == SEEDS - 1
    counts = [field for field in TRACES_SCHEMA if pa.types.is_integer(field.type) and field.name != "seed"]
    assert {"sample", "steps", "tokens_small"} <= {field.name for field in counts}
    for field in counts:
        assert pa.array([COUNTS - 1], field.type).to_pylist() == [COUNTS - 1]


COUNTED = [
    "benchmark.samples",
    "benchmark.limit",
    "benchmark.groups",
    "routing.max_steps",
    "routing.max_new_tokens",
    "routing.pass_tokens",
    "routing.tries",
    "routing.groups_in_flight",
    "routing.max_live",
    "pools.small.replicas",
    "pools.large.max_num_seqs",
    "pools.large.max_rows",
]


@pytest.mark.parametrize("key", COUNTED)
def test_a_count_fits_a_column_of_32_bits(key):
    load(RunConfig, None, [f"{key}={COUNTS - 1}"])
    with pytest.raises(SettingsError, match=rf"^--set: {key} = 2147483648: Input should be less than 2\^31$"):
        load(RunConfig, None, [f"{key}={COUNTS}"])
    with pytest.raises(SettingsError, match=rf"^--set: {key} = 0: "):
        load(RunConfig, None, [f"{key}=0"])


@pytest.mark.parametrize(
    "key", ["routing.temperature", "routing.top_p", "pools.small.cpus", "pools.small.step_timeout_s", "policy.gamma"]
)
@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_numbers_are_finite(key, value):
    with pytest.raises(SettingsError, match=f"^--set: {key} = "):
        load(RunConfig, None, [f"{key}={value}"])


def test_a_run_is_refused_before_anything_starts(capsys, tmp_path):
    arguments = ["run", "--set", "seed=18446744073709551616", "--out", str(tmp_path / "run")]
    assert cli.main(arguments) == cli.USAGE
    assert capsys.readouterr().err == "steer: --set: seed = 18446744073709551616: Input should be less than 2^63\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", ["9223372036854775808", "9" * 30, "-1", "1.5", "one", ""])
@pytest.mark.parametrize("command", [["train-pair", "--seeds", "0"], ["train-signals", "--seed"]])
def test_training_seeds_are_bounded_alike(command, seed, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        cli.main([*command, seed, "--out", str(tmp_path / "out")])
    assert end.value.code == cli.USAGE and not (tmp_path / "out").exists()
    assert "usage" in capsys.readouterr().err
