"""What every trace of a group has written and what it cost: recorded steps, tokens, prefill, seconds.

Invariants: a token is charged once, when the replica that generated it answered. Discarded tokens stay charged.
"""

from collections.abc import Sequence
from typing import NamedTuple

from steer.messages import Ahead, StepResults, TokenScores
from steer.traces import Measured, Model, Question, Role, Status, Step, Trace


class Pending(NamedTuple):
    """A written step that the policy has not yet decided on."""

    model: int
    attempt: int
    finish: str
    text: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    by_small: Measured | None
    by_large: Measured | None
    replica: str
    seconds: float
    tokens_by_small: TokenScores = None
    tokens_by_large: TokenScores = None

    @classmethod
    def answered(cls, model: int, attempt: int, results: StepResults, i: int, measured: Measured) -> "Pending":
        """Answer `i` of a message, to a row that `model` wrote."""
        token_scores = results.token_scores_R.get(i)
        return cls(
            model,
            attempt,
            results.finish_R[i],
            results.text_R[i],
            results.tokens_R[i],
            results.prompt_tokens_R[i],
            results.cached_tokens_R[i],
            measured if model == Model.SMALL else None,
            measured if model == Model.LARGE else None,
            results.replica,
            results.seconds_R[i],
            token_scores if model == Model.SMALL else None,
            token_scores if model == Model.LARGE else None,
        )

    @classmethod
    def ahead(cls, step: Ahead, replica: str) -> "Pending":
        """A step that the small model wrote in one pass with those before it, so it read no prompt for this one."""
        tokens, small = len(step.ids), int(Model.SMALL)
        return cls(
            small, 0, step.finish, step.text, tokens, 0, 0, step.scores, None, replica, 0.0, step.token_scores, None
        )


class Accounting:
    """The columns are lists, not arrays, because each is touched one trace at a time."""

    def __init__(self, questions: Sequence[Question]):
        n = len(questions)
        self._questions = questions
        self._steps_L: list[list[Step]] = [[] for _ in range(n)]
        self._prompt_L = [0] * n
        self._cached_L = [0] * n
        self._tokens_ML = [[0] * n, [0] * n]
        self._prefill_ML = [[0] * n, [0] * n]
        self._discarded_L = [0] * n
        self._signal_OL = [[0] * n for _ in Role]
        self._signal_s_L = [0.0] * n
        self._routing_s_L = [0.0] * n

    def begin(self, trace: int) -> None:
        """Begin anew for another question that has taken the trace's place."""
        self._steps_L[trace] = []
        columns: list[list[int]] = [self._prompt_L, self._cached_L, self._discarded_L]
        for column_L in (*columns, *self._tokens_ML, *self._prefill_ML, *self._signal_OL):
            column_L[trace] = 0
        self._signal_s_L[trace] = self._routing_s_L[trace] = 0.0

    def last_step(self, trace: int) -> Step:
        """The step that was recorded last. IndexError: there is none yet."""
        return self._steps_L[trace][-1]

    def charge(self, trace: int, model: int, results: StepResults, i: int) -> None:
        """Charge answer `i` of a message: the generated tokens and the prompt tokens that were computed for them."""
        prompt, cached = results.prompt_tokens_R[i], results.cached_tokens_R[i]
        self._tokens_ML[model][trace] += results.tokens_R[i]
        self._prefill_ML[model][trace] += prompt - cached
        self._cached_L[trace] += cached
        if not self._prompt_L[trace]:
            self._prompt_L[trace] = prompt

    def charge_ahead(self, trace: int, model: int, tokens: int) -> None:
        """Charge the tokens of a pass after its first step."""
        self._tokens_ML[model][trace] += tokens

    def charge_signal(self, trace: int, role: int, results: StepResults, i: int) -> None:
        """Charge answer `i` of a message to the signal: the tokens that its model computed, read or generated."""
        computed = results.prompt_tokens_R[i] - results.cached_tokens_R[i] + results.tokens_R[i]
        self._signal_OL[role][trace] += computed
        self._signal_s_L[trace] += results.seconds_R[i]

    def charge_seconds(self, traces: Sequence[int], seconds: float) -> None:
        """Count time that the decision after the last step of each trace takes."""
        for trace in traces:
            self._routing_s_L[trace] += seconds

    def discard(self, trace: int, tokens: int) -> None:
        """Count generated tokens that no kept step will contain."""
        self._discarded_L[trace] += tokens

    def record(
        self,
        trace: int,
        step: int,
        pending: Pending,
        confidence: float,
        posterior: float,
        signal: float,
        decision: str,
    ) -> None:
        """Record a step and the decision after it. `rewrite` means that the step was discarded."""
        signal_s, self._signal_s_L[trace] = self._signal_s_L[trace], 0.0
        routing_s, self._routing_s_L[trace] = self._routing_s_L[trace], 0.0
        self._steps_L[trace].append(
            Step(
                step,
                pending.attempt,
                pending.model,
                decision != "rewrite",
                pending.finish,
                pending.text,
                pending.tokens,
                pending.prompt_tokens,
                pending.cached_tokens,
                pending.by_small,
                pending.by_large,
                confidence,
                posterior,
                signal,
                signal_s,
                routing_s,
                decision,
                pending.replica,
                pending.seconds,
                pending.tokens_by_small,
                pending.tokens_by_large,
            )
        )

    def add_text(self, trace: int, text: str) -> None:
        """Add text that no model wrote behind the last recorded step, which is kept. It costs nothing."""
        last = self._steps_L[trace][-1]
        self._steps_L[trace][-1] = last._replace(text=last.text + text)

    def close(
        self,
        trace: int,
        status: Status,
        error: str,
        cell: str,
        group: str,
        seed: int,
        closing_tag: str = "",
        thought_cut: bool = False,
    ) -> Trace:
        """The finished trace. Its recorded steps move into it."""
        steps, self._steps_L[trace] = self._steps_L[trace], []
        question = self._questions[trace]
        return Trace(
            question=question,
            status=status,
            text="".join(text for text, _ in question.begun_steps) + "".join(s.text for s in steps if s.accepted),
            steps=steps,
            tokens_small=self._tokens_ML[Model.SMALL][trace],
            tokens_large=self._tokens_ML[Model.LARGE][trace],
            tokens_discarded=self._discarded_L[trace],
            prompt_tokens=self._prompt_L[trace],
            prefill_small=self._prefill_ML[Model.SMALL][trace],
            prefill_large=self._prefill_ML[Model.LARGE][trace],
            cached_tokens=self._cached_L[trace],
            tokens_signal=tuple(tokens_L[trace] for tokens_L in self._signal_OL),
            error=error,
            cell=cell,
            group=group,
            seed=seed,
            closing_tag=closing_tag,
            thought_cut=thought_cut,
        )
