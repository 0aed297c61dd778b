"""What a router's counts become on the metrics page: the numbers that no simulated run has."""

from actors.router.metrics import names
from actors.router.metrics.export import samples
from actors.router.stats import RouterStats
from steer.config.run import PoolConfig, TokenPrices
from steer.traces import Role


def exported(stats, prices=None, **pool):
    found = samples(stats, {Role.SMALL: PoolConfig(**pool)}, prices or {})
    return {(sample.metric, *sorted(sample.labels.items())): sample.value for sample in found}


def test_gpu_seconds_and_dollars_follow_from_the_time_on_a_node():
    stats = RouterStats(replica_s={Role.SMALL: 1800.0})
    found = exported(stats, gpus=2, usd_per_gpu_hour=4.0)
    assert found[names.REPLICA_S, ("role", "small")] == 1800
    assert found[names.GPU_S, ("role", "small")] == 3600
    assert found[names.USD, ("by", "gpu_hours"), ("role", "small")] == 4.0


def test_tokens_cost_their_own_price_beside_the_gpus():
    stats = RouterStats(tokens_small=2_000_000, computed={Role.SMALL: 3_000_000}, parameters={Role.SMALL: 3e9})
    found = exported(stats, {Role.SMALL: TokenPrices(input=0.1, output=0.5)})
    assert found[names.USD, ("by", "tokens"), ("role", "small")] == 3 * 0.1 + 2 * 0.5
    assert found[names.FLOPS, ("role", "small")] == 2 * 3e9 * 2_000_000


def test_without_prices_nothing_is_said_of_money():
    assert not [key for key in exported(RouterStats(), gpus=1) if key[0] is names.USD]


def test_errors_deaths_and_states_have_their_numbers():
    states = {"waiting": 1, "live": 2}
    found = exported(RouterStats(done=9, errors=4, replaced=3, states={Role.SMALL: states}))
    assert (found[names.DONE,], found[names.FAILED,], found[names.REPLACED,]) == (9, 4, 3)
    assert found[names.REPLICAS, ("role", "small"), ("state", "live")] == 2
    assert found[names.REPLICAS, ("role", "small"), ("state", "waiting")] == 1
