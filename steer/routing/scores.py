"""The confidences of a group's traces by step index: what the policy routes by and nothing else."""

from steer.policies import Policy
from steer.policies.base import StepScores
from steer.routing.accounting import Pending
from steer.traces import Finish, Model

_NAN3 = (float("nan"),) * 3


class Scores(dict[int, StepScores]):
    """Step index -> scores. A step that no trace has answered yet is absent."""

    def __init__(self, traces: int, policy: Policy):
        super().__init__()
        self._traces, self._policy = traces, policy

    def put(self, trace: int, step: int, pending: Pending) -> None:
        """Keep the measures of a written step that the policy reads."""
        policy = self._policy
        if policy.measure is None:
            return
        scores = self.get(step)
        if scores is None:
            # Not by `setdefault`, which would make the arrays of a whole group for every row.
            scores = self[step] = StepScores.empty(self._traces)
        by = pending.by_small if policy.scored_by_small or pending.model == Model.SMALL else pending.by_large
        by = by or _NAN3
        scores.conf_L[trace] = by[policy.measure]
        if policy.also is not None:
            scores.also_L[trace] = by[policy.also]
        scores.model_L[trace] = pending.model
        scores.ongoing_L[trace] = pending.finish == Finish.STEP

    def take_out(self, trace: int, step: int) -> None:
        """Remove the score of a step whose text is thrown away."""
        if step in self:
            self[step].conf_L[trace] = self[step].also_L[trace] = float("nan")

    def confidence(self, trace: int, step: int) -> float:
        """The score that the policy routes by; NaN if there is none."""
        return float(self[step].conf_L[trace]) if step in self else float("nan")

    def forget_before(self, step: int) -> None:
        """Drop the steps before `step`, which every live trace has passed."""
        for passed in [s for s in self if s < step]:
            del self[passed]
