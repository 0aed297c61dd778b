"""The router's counts: for the progress line, for `run.json` and for the report of where a run's time went."""

from dataclasses import dataclass, field

from steer.traces import Role


@dataclass
class RouterStats:
    """Counts since the router started."""

    total: int = 0
    """Traces announced by `expect`."""
    live: int = 0
    done: int = 0
    tokens_small: int = 0
    tokens_large: int = 0
    steps_small: int = 0
    steps_large: int = 0
    replaced: int = 0
    """Replicas that died and were replaced."""
    replicas: dict[Role, int] = field(default_factory=dict)
    """Replicas that take rows now."""
    starting: dict[Role, int] = field(default_factory=dict)
    states: dict[Role, dict[str, int]] = field(default_factory=dict)
    """Replicas by `actors.router.replica.ReplicaState`: waiting, downloading, loading, live, leaving. Every state has a
    number."""
    replica_s: dict[Role, float] = field(default_factory=dict)
    """Seconds that replicas held a place on a node, from being placed (loading included) until killed, or until now."""
    waiting: dict[Role, str] = field(default_factory=dict)
    """What the replicas that start wait for: a node, packages, weights or their model. Only roles that have such
    replicas."""
    outstanding_s: dict[Role, float] = field(default_factory=dict)
    """Seconds in which a pool had rows waiting or running."""
    busy_s: dict[Role, float] = field(default_factory=dict)
    """Engine seconds with work, summed over a pool's replicas."""
    fit_s: float = 0.0
    """Seconds in policies, fits included."""
    journal_s: float = 0.0
    """Seconds of writing the journal."""
    loop_s: float = 0.0
    """CPU seconds of the router's event loop: messages, dispatch and collecting. `fit_s` and `journal_s` are apart."""
    live_s: float = 0.0
    """Seconds in which any trace was live."""
    trace_s: dict[str, float] = field(default_factory=dict)
    """Trace-seconds by `actors.router.trace_time.TimePart`."""
    row_s: dict[tuple[Role, bool], float] = field(default_factory=dict)
    """Seconds that rows were at a role's engines, summed over rows. The key says whether the rows wrote text; the
    others were scored, rated or read by the probe."""

    computed: dict[Role, int] = field(default_factory=dict)
    """Prompt tokens that a role's engines computed: those that their prefix caches did not hold."""
    parameters: dict[Role, float] = field(default_factory=dict)
    """Parameters of each role's model; 0 if it was never loaded and its configuration does not say."""
    errors: int = 0
    """Traces that ended as error rows, of those that are done."""
    oldest_round_s: float = 0.0
    """Seconds since the group that has waited longest last had an answer. 0: no group has a live trace."""

    @property
    def queued(self) -> int:
        return max(self.total - self.live - self.done, 0)
