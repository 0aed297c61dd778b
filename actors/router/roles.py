"""Which model and which kind of engine sits at each role of the router, and which roles the policies of a run need."""

from collections.abc import Iterable

from steer.config.pairs import SIMULATED
from steer.config.policy import PolicyConfig
from steer.config.run import ModelConfig, PairConfig
from steer.embedded import weights_path
from steer.policies import SIGNALS, make_policy
from steer.policies.probe import EMBEDDED_PROBE, PROBE_KEY
from steer.traces import Role

PAIR = (Role.SMALL, Role.LARGE)


def role_model(pair: PairConfig, role: Role) -> ModelConfig:
    """The model of a role that `needed_roles` has named."""
    if role == Role.QUERY:
        probe = str(weights_path("probe")) if pair.probe == EMBEDDED_PROBE else pair.probe
        return pair.small.model_copy(update={"engine": {**pair.small.engine, PROBE_KEY: probe}})
    return getattr(pair, role.label)


def role_class(role: Role, model: ModelConfig) -> type:
    """The replica that a role's pool starts for its model."""
    if model.path.startswith(SIMULATED):
        from actors.simulated.instant import SimulatedReplica

        return SimulatedReplica
    if role in (Role.PRM, Role.QUERY):
        from actors.engine.pooling import PoolingReplica

        return PoolingReplica
    from actors.engine.replica import EngineReplica

    return EngineReplica


def needed_roles(policies: Iterable[PolicyConfig], pair: PairConfig) -> tuple[Role, ...]:
    """The pair's roles and those of the signals. Raises ValueError, with the remedy, where the pair lacks a signal and
    where a `custom` policy cannot be made."""
    wanted = {}
    for policy in policies:
        signal = make_policy(policy).signal if policy.name == "custom" else SIGNALS.get(policy.name)
        if signal is not None:
            wanted[signal.role] = policy.object if policy.name == "custom" else policy.name
    if Role.PRM in wanted and pair.prm is None:
        remedy = "give the pair prm: {path: ...} (docs/signals.md)"
        raise ValueError(f"policy {wanted[Role.PRM]} needs a process reward model: {remedy}")
    if Role.QUERY in wanted and pair.probe is None:
        remedy = "run `steer train-router` and give the pair probe: FOLDER"
        raise ValueError(f"policy {wanted[Role.QUERY]} needs a probe: {remedy}")
    if pair.judge is None:
        wanted.pop(Role.JUDGE, None)  # the large model judges
    return (*PAIR, *sorted(set(wanted) - set(PAIR)))
