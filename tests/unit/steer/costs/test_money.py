"""Dollars by tokens and by GPU-hours."""

import numpy as np
import pytest

from steer.config.check import usable_pair
from steer.config.load import SettingsError, load_config
from steer.config.policy import SteerPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RunConfig, TokenPrices
from steer.costs.money import gpu_hours_usd, gpu_seconds, pair_usd, prices_of, recorded_prices, traces_usd
from steer.traces import Role

CHEAP = TokenPrices(input=0.5, output=2.0)
DEAR = TokenPrices(input=3.0, output=12.0)
PRICES = {Role.SMALL: CHEAP, Role.LARGE: DEAR}


def pair(small=CHEAP, large=DEAR, **others) -> PairConfig:
    models = {"small": small, "large": large, **others}
    return PairConfig(**{k: ModelConfig(path=f"simulated:{k}", usd_per_million_tokens=v) for k, v in models.items()})


def test_each_token_costs_the_price_of_its_model_and_way():
    usd = pair_usd(np.array([1_000_000, 0]), np.array([0, 500_000]), 2_000_000, np.array([0, 100_000]), PRICES)
    assert usd == pytest.approx([2.0 + 1.0, 1.0 + 6.0 + 0.3])


def test_a_pair_without_prices_has_none():
    assert prices_of(pair(None, None)) == {}


def test_the_probe_reads_at_the_small_models_price():
    assert prices_of(pair(prm=None)) == {**PRICES, Role.QUERY: CHEAP}


def test_gpu_hours_are_gpus_times_hours_on_a_node():
    pools = PoolsConfig(small=PoolConfig(gpus=0.5, usd_per_gpu_hour=2), large=PoolConfig(gpus=4, usd_per_gpu_hour=3))
    gpu_s = gpu_seconds({Role.SMALL: 3600.0, Role.LARGE: 1800.0}, pools)
    assert gpu_s == {"small": 1800.0, "large": 7200.0}
    assert gpu_hours_usd(gpu_s, pools) == pytest.approx(1.0 + 6.0)


def test_gpu_hours_without_a_price_have_no_dollars():
    half = PoolsConfig(small=PoolConfig(gpus=1, usd_per_gpu_hour=2), large=PoolConfig(gpus=1))
    assert gpu_hours_usd({"small": 60.0, "large": 60.0}, half) is None
    assert gpu_hours_usd({"small": 60.0}, PoolsConfig()) is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RunConfig(pair=pair(CHEAP, None)), r"pair\.large has no usd_per_million_tokens"),
        (RunConfig(pair=pair(prm=None), policy={"name": "rsd"}), r"pair\.prm has no usd_per_million_tokens"),
        (
            RunConfig(pair=pair(), pools={"small": {"gpus": 1}, "large": {"gpus": 1, "usd_per_gpu_hour": 2}}),
            r"pools\.small has GPUs and no usd_per_gpu_hour",
        ),
    ],
)
def test_a_price_that_is_missing_beside_others_is_refused(config, said):
    with pytest.raises(ValueError, match=said):
        usable_pair(config, [config.policy])


def test_a_price_can_be_set_on_a_pair_that_is_given_by_name():
    prices = [f"pair.{model}.usd_per_million_tokens={{input: 1, output: 4}}" for model in ("small", "large")]
    config = load_config(None, ["pair=simulated", *prices])
    assert config.pair.small.path == "simulated:small"
    assert prices_of(usable_pair(config, [SteerPolicy()]))[Role.LARGE] == TokenPrices(input=1, output=4)


def test_a_key_below_an_unknown_pair_is_refused_with_the_names():
    with pytest.raises(SettingsError, match="known pairs are embedded"):
        load_config(None, ["pair=embeded", "pair.small.parameters=1"])


def test_signals_cost_the_input_price_of_the_model_that_gave_them():
    nothing, signals = np.zeros(3, int), np.array([1_000_000, 1_000_000, 0])
    prices = {**PRICES, Role.PRM: TokenPrices(input=7.0, output=1.0)}
    usd = traces_usd(nothing, nothing, nothing, nothing, signals, ["prm", "judge", None], prices)
    assert usd[0] == 7.0 and np.isnan(usd[1]) and usd[2] == 0.0
    assert np.isnan(traces_usd(nothing, nothing, nothing, nothing, signals, [None] * 3, {})).all()


def test_the_prices_of_a_run_are_read_from_its_configuration():
    config = {"pair": pair(prm=None).model_dump(mode="json")}
    assert recorded_prices(config) == prices_of(pair(prm=None))
    assert recorded_prices({"pair": "embedded"}) == recorded_prices({"pair": {"small": {"path": "old"}}}) == {}
