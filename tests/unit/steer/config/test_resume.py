"""Which configuration a run may be resumed with."""

import pytest

from steer.config.resume import PLACING_KEYS, changed, refused_changes, with_prices
from steer.config.run import PairConfig, PoolsConfig, RunConfig

PAIR = PairConfig.model_validate({"small": {"path": "a"}, "large": {"path": "b", "engine": {"quantization": "awq"}}})


def resolved(engine=None, prices=None, **pools):
    pair = PAIR.model_dump(mode="json")
    pair["large"]["engine"] |= engine or {}
    pair["small"]["usd_per_million_tokens"] = prices
    return RunConfig(pools=PoolsConfig.model_validate(pools)).model_dump(mode="json") | {"pair": pair}


@pytest.mark.parametrize("key", ["gpu_memory_utilization", "tensor_parallel_size", "max_num_seqs", "enforce_eager"])
def test_memory_and_parallelism_may_differ(key):
    assert key in PLACING_KEYS
    assert not list(refused_changes(resolved(), resolved({key: 2})))


@pytest.mark.parametrize("key", ["quantization", "kv_cache_dtype", "revision", "max_model_len", "seed", "hf_overrides"])
def test_what_changes_the_text_is_refused_by_its_key(key):
    refused = list(refused_changes(resolved(), resolved({key: "other"})))
    assert [name for name, *_ in refused] == [f"pair.large.engine.{key}"]


def test_a_key_that_only_begins_as_an_allowed_one_is_refused():
    assert list(refused_changes(resolved(), resolved({"block_size_of_mine": 1})))


def test_prices_may_differ_and_the_last_ones_count():
    prices, hourly = {"input": 1.0, "output": 2.0}, {"usd_per_gpu_hour": 3.0}
    was, now = resolved(), resolved(prices=prices, small={**hourly, "replicas": 4})
    assert not list(refused_changes(was, now))
    merged = with_prices(was, now)
    assert merged["pair"]["small"]["usd_per_million_tokens"] == prices
    assert merged["pools"]["small"] == was["pools"]["small"] | hourly
    assert with_prices(merged, was) == was


def test_a_run_of_an_earlier_version_lacks_the_prices():
    was = resolved()
    del was["pair"]["small"]["usd_per_million_tokens"], was["pools"]["small"]["usd_per_gpu_hour"]
    assert not list(refused_changes(was, resolved()))
    assert with_prices(was, resolved()) == was


def test_every_difference_is_named():
    was, now = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 1, "c": [2]}, "e": 3}
    assert list(changed(was, now)) == [("a.c", [1], [2]), ("d", 2, None), ("e", None, 3)]
    was, now = {"f": [{"g": 1}, {"g": 2}], "h": [{"i": 1}]}, {"f": [{"g": 1, "new": None}, {"g": 3}], "h": []}
    assert list(changed(was, now)) == [("f.1.g", 2, 3), ("h", [{"i": 1}], [])]
