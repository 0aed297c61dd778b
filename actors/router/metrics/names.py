"""The metrics that a router exports: names, labels and what they mean.

Ray puts `ray_` before each name, and labels of its own beside these (`NodeAddress`, `SessionName`, `WorkerId`). A
counter counts since its router started. A run that starts its routers again, or is resumed, has another `WorkerId`, so
`sum` over it gives the run's total.
"""

from typing import NamedTuple

RUN, ROUTER, ROLE, STATE, BY = "run", "router", "role", "state", "by"
"""Labels: name of the run's folder, number of the router, role of a model (`small`, `large`), state of a replica
(`actors.router.replica.ReplicaState`), way of counting money."""
TOKEN_PRICES, GPU_PRICES = "tokens", "gpu_hours"
"""Values of BY. The two are never added."""


class Metric(NamedTuple):
    name: str
    help: str
    labels: tuple[str, ...] = ()
    """Labels beside RUN and ROUTER, which all have."""

    @property
    def counts(self) -> bool:
        """Whether it is a counter. If not, it is a gauge."""
        return self.name.endswith("_total")


LIVE = Metric("steer_traces_live", "Traces that are being routed now.")
QUEUED = Metric("steer_traces_queued", "Traces that were announced and have not begun.")
DONE = Metric("steer_traces_done_total", "Traces that ended, whatever way.")
FAILED = Metric("steer_traces_failed_total", "Traces that ended as error rows.")
TOKENS = Metric("steer_tokens_total", "Tokens that a model generated, discarded ones included.", (ROLE,))
PROMPT_TOKENS = Metric(
    "steer_prompt_tokens_total",
    "Prompt tokens that a model computed: those that its prefix cache did not hold.",
    (ROLE,),
)
STEPS = Metric("steer_steps_total", "Steps that a model wrote, discarded ones included.", (ROLE,))
LARGE_SHARE = Metric(
    "steer_large_steps_ratio", "Share of the large model in all steps since the router started, 0 to 1."
)
REPLICAS = Metric("steer_replicas", "Replicas of a pool by state.", (ROLE, STATE))
REPLACED = Metric("steer_replicas_replaced_total", "Replicas that died while they took rows, and were replaced.")
LOOP_S = Metric("steer_router_loop_seconds_total", "CPU seconds of the router's event loop. A rate of 1 is its limit.")
OLDEST_ROUND_S = Metric(
    "steer_oldest_round_age_seconds", "Seconds since the group that has waited longest last had an answer."
)
FIT_S = Metric("steer_fit_seconds_total", "Seconds in policies, fits of the mixture included.")
JOURNAL_S = Metric("steer_journal_seconds_total", "Seconds of writing the journal.")
FLOPS = Metric("steer_flops_total", "FLOPs of generated tokens: 2N each, N the model's parameters.", (ROLE,))
REPLICA_S = Metric("steer_replica_seconds_total", "Seconds that replicas held a place on a node.", (ROLE,))
GPU_S = Metric("steer_gpu_seconds_total", "The same seconds times the GPUs of a replica.", (ROLE,))
BUSY_S = Metric("steer_engine_busy_seconds_total", "Seconds in which engines had work.", (ROLE,))
USD = Metric("steer_cost_usd_total", "US dollars by the configuration's prices. No series without a price.", (ROLE, BY))

METRICS = (
    LIVE,
    QUEUED,
    DONE,
    FAILED,
    TOKENS,
    PROMPT_TOKENS,
    STEPS,
    LARGE_SHARE,
    REPLICAS,
    REPLACED,
    LOOP_S,
    OLDEST_ROUND_S,
    FIT_S,
    JOURNAL_S,
    FLOPS,
    REPLICA_S,
    GPU_S,
    BUSY_S,
    USD,
)
