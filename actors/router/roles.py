"""Which model and which class of replica serve each role."""

from steer.config.pairs import SIMULATED
from steer.config.run import ModelConfig, PairConfig
from steer.embedded import weights_path
from steer.policies.probe import EMBEDDED_PROBE, PROBE_KEY
from steer.traces import Role


def role_model(pair: PairConfig, role: Role) -> ModelConfig:
    """The model of a role. The pair must have one: see `steer.config.check.needed_roles`."""
    if role == Role.QUERY:
        probe = str(weights_path("probe")) if pair.probe == EMBEDDED_PROBE else pair.probe
        return pair.small.model_copy(update={"engine": {**pair.small.engine, PROBE_KEY: probe}})
    return getattr(pair, role.label)


def role_class(role: Role, model: ModelConfig) -> type:
    """The replica class that the pool of a role starts for its model. vLLM is imported only if it is needed."""
    if model.path.startswith(SIMULATED):
        from actors.simulated.instant import SimulatedReplica

        return SimulatedReplica
    if role in (Role.PRM, Role.QUERY):
        from actors.engine.pooling import PoolingReplica

        return PoolingReplica
    from actors.engine.replica import EngineReplica

    return EngineReplica
