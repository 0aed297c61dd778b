"""A scripted engine for driving a group without actors: what each row gets is a function of trace, step and model."""

import numpy as np

from steer.config.run import RoutingOptions
from steer.messages import Ahead, Op, StepResults
from steer.policies import make_policy
from steer.routing.group import Group
from steer.traces import AGGREGATES, SCORES, Finish, Model, Question

NOT_MEASURED = (np.nan,) * SCORES


def questions(n, prefix="q"):
    return [Question(f"{prefix}{i}", 0, "made_up", f"question {i}", "7", "math") for i in range(n)]


def new_group(policy, n=20, seed=0, bank=None, qs=None, **routing):
    return Group(1, qs or questions(n), make_policy(policy, seed, bank), RoutingOptions(**routing), seed)


def camps(n=200, confident=10.0, unsure=2.0, seed=0):
    """Scores of two camps, the confident half first."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(confident, 0.5, n // 2), rng.normal(unsure, 1.0, n - n // 2)])


def one_score(value):
    """The scores of a step from one value, or from one for each measure; the aggregates do not differ."""
    if value is NOT_MEASURED:
        return value
    measures = (*value, value[-1])[:4] if isinstance(value, tuple) else (value,) * 4
    return (*measures * len(AGGREGATES), 10.0)


class Script:
    """`steps(trace)`: how many steps a trace takes; `score(trace, step, model)`: the score of a step, or one a measure;
    `signal(trace, step)`: what a signal says of it; `cut`: a pass comes back after so many steps, if not at its end."""

    def __init__(
        self,
        steps=lambda trace: 4,
        score=lambda trace, step, model: 0.5,
        tokens=10,
        signal=lambda trace, step: 0.5,
        cut=None,
    ):
        self.steps, self.score, self.tokens, self.signal, self.cut = steps, score, tokens, signal, cut
        self.asked = []

    def answer(self, group, rows):
        n = len(rows)
        finish, text, ids, tokens, scores, signals, more = [], [], [], [], [], [], {}
        for row in rows:
            step = int(group.step_L[row.trace])
            self.asked.append((row.trace, step + (row.op == Op.PEEK), row.role, row.op))
            writes = row.op in (Op.STEP, Op.WHOLE, Op.AHEAD)
            whole = row.op == Op.WHOLE and self.cut is None  # else of one step's tokens: a piece of the pass
            ends = whole or (writes and step + 1 >= self.steps(row.trace))
            finish.append((Finish.END if ends else Finish.STEP).value)
            text.append(f"s{step}m{row.role}\n\n" if writes else "")
            ids.append(tuple([1, 2, 3]) if writes else ())  # an object of its own, as every answer of an engine has
            tokens.append(self.tokens if writes else int(row.op in (Op.PEEK, Op.JUDGE)))
            signals.append(self.signal(row.trace, step))
            scores.append(one_score(self.score(row.trace, step, row.role)))
            if row.op == Op.AHEAD:
                last = self.steps(row.trace) - 1
                more[len(finish) - 1] = tuple(
                    Ahead(
                        (Finish.END if s == last else Finish.STEP).value,
                        f"s{s}m{row.role}\n\n",
                        tuple(range(self.tokens)),
                        one_score(self.score(row.trace, s, row.role)),
                    )
                    for s in range(step + 1, min(last + 1, step + (self.cut or last + 1)))
                )
        return StepResults(
            row_R=list(range(n)),
            finish_R=finish,
            text_R=text,
            ids_R=ids,
            tokens_R=tokens,
            prompt_tokens_R=[100] * n,
            cached_tokens_R=[60] * n,
            scores_RS=np.array(scores).reshape(n, SCORES),
            seconds_R=[0.25] * n,
            signal_R=signals,
            more_R=more,
            replica="scripted",
        )


def drive(group, script, rounds=10_000):
    """Run the group to its end; returns its traces by question id."""
    finished = []
    for _ in range(rounds):
        rows = group.decide()
        finished += group.take_finished()
        if not group.live:
            return {trace.question.id: trace for _, trace in finished}
        assert rows, "live traces, but nothing to ask"
        group.apply(rows, script.answer(group, rows))
    raise AssertionError("the group did not end")


def two_camps(trace, step, model):
    """Even traces are sure (about 10), odd ones are not (about 2)."""
    return (10.0 if trace % 2 == 0 else 2.0) + 0.01 * ((trace * 7 + step) % 13)


def writers(trace):
    return [(s.step, s.attempt, Model(s.model).label, s.accepted) for s in trace.steps]
