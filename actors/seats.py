"""Which model and which kind of engine sits at each seat of the router, and which seats the policies of a run need."""

from collections.abc import Iterable

from steer.config import ModelConfig, PairConfig
from steer.embedded import weights_path
from steer.pairs import SIMULATED
from steer.policies import SIGNALS, make_policy
from steer.policy_config import PolicyConfig
from steer.traces import Seat

EMBEDDED_PROBE = "embedded:probe"
PROBE_KEY = "probe"
"""Engine entry of a QUERY model: folder of the probe; the replica takes it out before vLLM sees it."""

PAIR = (Seat.SMALL, Seat.LARGE)


def seat_model(pair: PairConfig, seat: Seat) -> ModelConfig:
    """The model of a seat that `needed_seats` has named."""
    if seat == Seat.QUERY:
        probe = str(weights_path("probe")) if pair.probe == EMBEDDED_PROBE else pair.probe
        return pair.small.model_copy(update={"engine": {**pair.small.engine, PROBE_KEY: probe}})
    return getattr(pair, seat.label)


def seat_class(seat: Seat, model: ModelConfig) -> type:
    """The replica that a seat's pool starts for its model."""
    if model.path.startswith(SIMULATED):
        from actors.simulated import SimulatedReplica

        return SimulatedReplica
    if seat in (Seat.PRM, Seat.QUERY):
        from actors.pooling import PoolingReplica

        return PoolingReplica
    from actors.engine import EngineReplica

    return EngineReplica


def needed_seats(policies: Iterable[PolicyConfig], pair: PairConfig) -> tuple[Seat, ...]:
    """The pair's seats and those of the signals. Raises ValueError, with the remedy, where the pair lacks a signal and
    where a `custom` policy cannot be made."""
    wanted = {}
    for policy in policies:
        signal = make_policy(policy).signal if policy.name == "custom" else SIGNALS.get(policy.name)
        if signal is not None:
            wanted[signal.seat] = policy.object if policy.name == "custom" else policy.name
    if Seat.PRM in wanted and pair.prm is None:
        remedy = "give the pair prm: {path: ...} (docs/signals.md)"
        raise ValueError(f"policy {wanted[Seat.PRM]} needs a process reward model: {remedy}")
    if Seat.QUERY in wanted and pair.probe is None:
        remedy = "run `steer train-router` and give the pair probe: FOLDER"
        raise ValueError(f"policy {wanted[Seat.QUERY]} needs a probe: {remedy}")
    if pair.judge is None:
        wanted.pop(Seat.JUDGE, None)  # the large model judges
    return (*PAIR, *sorted(set(wanted) - set(PAIR)))
