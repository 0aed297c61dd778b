"""The confidences of a group's traces by step index: what the policy routes by and nothing else."""

from math import log, nan

from steer.policies import Policy
from steer.policies.base import StepScores
from steer.routing.accounting import Pending
from steer.traces import MEASURES, SCORES, Finish, Measured, Model, score_index

_NOT_MEASURED = (nan,) * SCORES


class Scores(dict[int, StepScores]):
    """Step index -> scores. A step that no trace has answered yet is absent."""

    def __init__(self, traces: int, policy: Policy):
        super().__init__()
        self._traces, self._by_small = traces, policy.scored_by_small
        aggregate = getattr(policy, "aggregate", "mean")
        self._column = None if policy.measure is None else score_index(MEASURES[policy.measure], aggregate)
        self._also = None if policy.also is None else score_index(MEASURES[policy.also], aggregate)
        self._so_far = getattr(policy, "so_far", None)
        self._by_length = getattr(policy, "by_length", None)

    def put(self, trace: int, step: int, pending: Pending) -> None:
        """Keep the scores of a written step that the policy reads."""
        if self._column is None:
            return
        scores = self.get(step)
        if scores is None:
            # Not by `setdefault`, which would make the arrays of a whole group for every row.
            scores = self[step] = StepScores.empty(self._traces)
        by_small = self._by_small or pending.model == Model.SMALL
        by = (pending.by_small if by_small else pending.by_large) or _NOT_MEASURED
        scores.conf_L[trace] = self._routed_by(trace, step, by, self._column)
        if self._also is not None:
            scores.also_L[trace] = by[self._also]
        scores.model_L[trace] = pending.model
        scores.ongoing_L[trace] = pending.finish == Finish.STEP

    def _routed_by(self, trace: int, step: int, by: Measured, column: int) -> float:
        """The score of a step, less what its length explains, over the steps up to it."""
        score = by[column]
        if self._by_length is not None:
            a, b = self._by_length
            score -= a + b * log(max(by[-1], 1.0))
        if self._so_far is None:
            return score
        before = self.confidence(trace, step - 1)
        if before != before:  # the first step that has a score
            return score
        return min(before, score) if self._so_far == "min" else (before * step + score) / (step + 1)

    def take_out(self, trace: int, step: int) -> None:
        """Remove the score of a step whose text is thrown away."""
        if step in self:
            self[step].conf_L[trace] = self[step].also_L[trace] = nan

    def confidence(self, trace: int, step: int) -> float:
        """The score that the policy routes by; NaN if there is none."""
        return float(self[step].conf_L[trace]) if step in self else nan

    def forget(self, trace: int) -> None:
        """Drop the scores of a trace whose place another one takes."""
        for scores in self.values():
            scores.conf_L[trace] = scores.also_L[trace] = nan
            scores.ongoing_L[trace] = True

    def forget_before(self, step: int) -> None:
        """Drop the steps before `step`, which every live trace has passed."""
        for passed in [s for s in self if s < step]:
            del self[passed]
