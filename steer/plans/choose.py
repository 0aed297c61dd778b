"""Choose the setting for a knob: a routed one where it is above the bar, else a setting of the bar.

How the choice is kept honest:

- The family and its level are chosen by the mean over neighbouring levels, not by one level's accuracy. A family counts
  by how far it is above the bar over a range of costs.
- The same choice is made once for each fold, without its questions, and these held-out answers are what a plan expects.
- A routed setting is planned only if the 95 % interval of its held-out answers' difference to the bar lies above 0.
- `accuracy_within` asks for half a standard error more than the limit, of a routed setting and of the coin.
- `risk` chooses the family on one half of the questions and certifies it on the other (`steer.plans.risk`).
"""

from collections.abc import Callable
from math import ceil, floor, sqrt
from typing import Any, NamedTuple

import numpy as np

from steer.plans.bar import Standing, bar_accuracy, coin, standing
from steer.plans.candidates import Candidates, Family, Stacked
from steer.plans.handover import Answers
from steer.plans.knobs import Knob
from steer.plans.risk import CONFIDENCE, fewest_questions, fixed_sequence, lost_questions, upper_bound
from steer.plans.table import Bools

CAUTION = 0.5
"""Standard errors of the accuracy's difference to the large model that `accuracy_within` adds to the limit. With 320
questions and answers that differ in a fifth of them it is 1.2 points. None would overstep the limit about every second
time; the usual 1.64 would plan the large model wherever a few hundred questions cannot tell a point."""
AROUND = 0.25
"""Half-width, in shares of the large model's cost, of the range around a budget over which a family is judged."""
TIGHTENINGS = 4
"""Times that a budget or a limit is tightened at most, because the held-out answers do not keep it."""
P_STEPS = 1000
"""A coin's p is planned in steps of 1/1000, rounded to the side that keeps the knob."""


class Choice(NamedTuple):
    policy: dict[str, Any]
    """Its configuration."""
    family: str
    """Name of its family; `small`, `large` or `random_query` of the bar."""
    routed: bool
    expected: Standing
    """From held-out answers, of a routed setting; of the bar, from all answers of both models."""
    sentence: str
    """What was planned and why, for a person."""
    certified: float | None = None
    """Of `risk`: the upper bound on the share of questions lost, at 95 % confidence."""
    questions: int = 0
    """Questions that `expected` is from."""


class Procedure(NamedTuple):
    """A choice that was repeated without each fold."""

    picked: tuple[int, int] | None
    """Family and level, chosen on all questions. None: no routed setting meets the knob."""
    held: Answers
    """Held-out answers [Q] of the settings chosen without each fold."""


def choose(
    candidates: Candidates, knob: Knob, halves: tuple[Candidates, "Certifying"] | None = None, seed: int = 0
) -> Choice:
    """The setting for a knob. `halves`: for `risk`, candidates of one half of the questions, and the other half.

    Raises ValueError for a budget below the cost of the cheaper model, which nothing can meet.
    """
    if knob.name == "risk":
        if halves is None:
            raise ValueError("risk needs two halves of the questions: one to choose a family on, one to certify it")
        return _choose_risk(*halves, knob, seed)
    small, large = candidates.small, candidates.large
    p = coin_share(small, large, knob)
    bar = standing(coin(small, large, p), small, large, seed)
    expected = None
    if candidates.families:
        procedure = routed(candidates, knob)
        if procedure.picked is not None:
            expected = standing(procedure.held, small, large, seed)
            if expected.is_above_bar and _meets(expected, bar, knob):
                family = candidates.families[procedure.picked[0]]
                sentence = (
                    f"Routing pays: {expected.accuracy:.1%} at {expected.cost:.0%} of the large model's FLOPs, against "
                    f"the coin of small and large at that cost {_points(expected.above_bar)} {_interval(expected)}."
                )
                policy = family.policies[procedure.picked[1]]
                return Choice(policy, family.name, True, expected, sentence, questions=len(candidates.questions))
    return _of_bar(p, bar, _no_routing(expected, knob), questions=len(candidates.questions))


def _of_bar(p: float, expected: Standing, why: str, certified: float | None = None, questions: int = 0) -> Choice:
    policy: dict[str, Any] = {"name": "random_query", "p": p}
    named = f"the coin that sends {p:.0%} of the questions to the large model"
    if p in (0.0, 1.0):
        policy = {"name": "large" if p else "small"}
        named = f"the {policy['name']} model alone"
    sentence = f"{why} Planned: {named}, {expected.accuracy:.1%} at {expected.cost:.0%} of the large model's FLOPs."
    return Choice(policy, policy["name"], False, expected, sentence, certified, questions)


def _no_routing(expected: Standing | None, knob: Knob) -> str:
    head = "Routing does not pay on this pair and benchmark"
    if expected is None:
        return f"{head}: no routed setting meets {knob}."
    if expected.is_above_bar:
        return (
            f"No routed setting is planned for {knob}: the best is above the coin ({_points(expected.above_bar)} "
            f"{_interval(expected)}), but its held-out answers, {expected.accuracy:.1%} at {expected.cost:.0%} of the "
            "large model's FLOPs, do not meet this cheaper than the coin does."
        )
    return (
        f"{head}: for {knob} no routed setting is above the coin between small and large at its cost with 95 % "
        f"confidence (the best: {_points(expected.above_bar)} {_interval(expected)})."
    )


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f} points"  # + 0.0: no minus zero


def _interval(expected: Standing) -> str:
    low, high = (round(100 * end, 1) + 0.0 for end in expected.above_bar_interval)
    return f"[{low:+.1f}, {high:+.1f}]"


# --- the bar ----------------------------------------------------------------------------------------------------------


def coin_share(small: Answers, large: Answers, knob: Knob) -> float:
    """The p of the bar's best setting for `budget` or `accuracy_within`. ValueError: nothing meets the budget."""
    s, b = float(small.flops_full.mean()), float(large.flops_full.mean())
    behind = float((large.correct - small.correct).mean())
    if knob.name == "budget":
        limit = knob.value * b
        if limit < min(s, b):
            raise ValueError(
                f"budget {knob.value:.1%}: the small model alone costs {s / b:.1%} of the large model's FLOPs; give a "
                "budget of that or more"
            )
        if s >= b:
            return 1.0 if behind >= 0 or limit < s else 0.0
        return 0.0 if behind <= 0 else min(1.0, floor(P_STEPS * (limit - s) / (b - s)) / P_STEPS)
    gap = behind + CAUTION * float((large.correct - small.correct).std()) / sqrt(len(small.correct))
    if gap <= knob.value:
        return 0.0 if s < b else 1.0
    return 1.0 if s >= b else min(1.0, ceil(P_STEPS * (1.0 - knob.value / gap)) / P_STEPS)


def _meets(expected: Standing, bar: Standing, knob: Knob) -> bool:
    if knob.name == "budget":
        return expected.cost <= knob.value and expected.accuracy > bar.accuracy
    return expected.behind_large >= -knob.value and expected.cost < bar.cost


# --- routed settings --------------------------------------------------------------------------------------------------


def routed(candidates: Candidates, knob: Knob) -> Procedure:
    """Choose a routed setting, once without each fold and once on all questions.

    In a fold without a setting that meets the knob, the bar's setting counts. If the held-out answers cost more than a
    budget, or are further behind the large model than the limit, the choice is made again for a tighter one.
    """
    stacked = candidates.stacked()
    target = knob.value
    for _ in range(TIGHTENINGS):
        aimed = knob.model_copy(update={"value": target})
        procedure = _procedure(candidates, stacked, aimed)
        over = procedure.held.flops_full.mean() / candidates.large.flops_full.mean() / knob.value
        behind = float((procedure.held.correct - candidates.large.correct).mean())
        if procedure.picked is None:
            break
        if knob.name == "accuracy_within" and behind < -knob.value:
            target /= 2
            continue
        if knob.name != "budget" or over <= 1.0:
            break
        target /= over
        if target * candidates.large.flops_full.mean() < candidates.small.flops_full.mean():
            break
    return procedure


def _procedure(candidates: Candidates, stacked: Stacked, knob: Knob) -> Procedure:
    held = Answers(*(np.empty(len(candidates.questions)) for _ in Answers._fields))
    picked = None
    for row, row_Q in enumerate(candidates.rows()):
        small, large = candidates.small.of(row_Q), candidates.large.of(row_Q)
        picked = pick(stacked, row, small, large, knob)
        if row == candidates.folds:
            break
        in_fold_Q = candidates.fold_Q == row
        if picked is None:
            answers = coin(candidates.small, candidates.large, _share_or_cheaper(small, large, knob))
        else:
            answers = _level(candidates.families[picked[0]].held, picked[1])
        for into, values in zip(held, answers, strict=True):
            into[in_fold_Q] = values[in_fold_Q]
    return Procedure(picked, held)


def _level(answers: Answers, level: int) -> Answers:
    return Answers(*(values[level] for values in answers))


def _share_or_cheaper(small: Answers, large: Answers, knob: Knob) -> float:
    """The bar's p, on questions of which the cheaper model may happen to exceed the budget: then it is that model."""
    try:
        return coin_share(small, large, knob)
    except ValueError:
        return float(small.flops_full.mean() > large.flops_full.mean())


def pick(stacked: Stacked, row: int, small: Answers, large: Answers, knob: Knob) -> tuple[int, int] | None:
    """The family and level that a row's figures prefer. None: no setting meets the knob.

    First the family that is furthest above the bar, on the mean over its levels: those around the budget, or, for
    `accuracy_within` and `risk`, all that are no dearer than the large model. Then its level: the most accurate within
    the budget, or the cheapest within the limit (`risk` certifies a level later). `small` and `large`: their answers to
    the row's questions.
    """
    accuracy_VP, cost_VP, error_VP = (values[row] for values in stacked)
    s, b = float(small.flops_full.mean()), float(large.flops_full.mean())
    above_VP = accuracy_VP - bar_accuracy(cost_VP, s, small.correct.mean(), b, large.correct.mean())
    if knob.name == "budget":
        weight_VP = np.maximum(1.0 - np.abs(cost_VP / b - knob.value) / AROUND, 0.0)
        meets_VP = cost_VP <= knob.value * b
    else:
        weight_VP = (cost_VP <= b).astype(float)
        lost_VP = large.correct.mean() - accuracy_VP + CAUTION * error_VP
        meets_VP = ((lost_VP <= knob.value) | (knob.name == "risk")) & (cost_VP <= b)
    weight_VP = np.where(np.isfinite(cost_VP), weight_VP, 0.0)
    total_V = weight_VP.sum(axis=1)
    gain_V = np.divide(
        np.where(weight_VP > 0, weight_VP * above_VP, 0.0).sum(axis=1),
        total_V,
        out=np.full(len(total_V), -np.inf),
        where=total_V > 0,
    )
    gain_V = np.where(meets_VP.any(axis=1), gain_V, -np.inf)
    best = int(gain_V.argmax())
    if not np.isfinite(gain_V[best]):
        return None
    merit_P = accuracy_VP[best] if knob.name == "budget" else -cost_VP[best]
    return best, int(np.where(meets_VP[best], merit_P, -np.inf).argmax())


# --- risk -------------------------------------------------------------------------------------------------------------


class Certifying(NamedTuple):
    """The half of the questions that a family is certified on."""

    small: Answers
    large: Answers
    answers: Callable[[Family], Answers]
    """The answers [P, Q] of a family's policies, which were fitted on the other half; one answer to a question."""


def _choose_risk(choosing: Candidates, certifying: Certifying, knob: Knob, seed: int) -> Choice:
    """Choose between one routed family and the coin on the first half, and certify that one alone on the second.

    The routed family is certified if its held-out answers to the first half promise a level that is cheaper than the
    coin would be, and above the bar with its interval.
    """
    questions = len(certifying.large.correct)
    p, _ = _safe_coin(choosing.small, choosing.large, knob.value, questions)
    found = None
    if choosing.families:
        picked = pick(choosing.stacked(), choosing.folds, choosing.small, choosing.large, knob)
        if picked is not None:
            family = choosing.families[picked[0]]
            order, lost = _from_safe(family, choosing.large)
            promised = fixed_sequence([ceil(share * questions) for share in lost], questions, knob.value)
            at_level = _level(family.held, order[max(promised - 1, 0)])
            found = standing(at_level, choosing.small, choosing.large, seed)
            cheaper = at_level.flops_full.mean() < coin(choosing.small, choosing.large, p).flops_full.mean()
            if promised and cheaper and found.is_above_bar:
                return _certified(family, order, certifying, knob, seed)
    small, large = certifying.small, certifying.large
    p, bound = _safe_coin(small, large, knob.value, questions)
    expected = standing(coin(small, large, p), small, large, seed)
    why = f"No routed setting promises {knob} at less than the coin's cost."
    if found is None or not found.is_above_bar:
        why = _no_routing(found, knob)
    return _of_bar(p, expected, why, bound, questions)


def _safe_coin(small: Answers, large: Answers, alpha: float, questions: int) -> tuple[float, float]:
    """The least p of a coin that is certified to lose at most `alpha` of the questions, and its bound.

    The coin loses (1 - p) of what the small model loses, so one bound certifies every p. `questions`: how many the
    bound is for, if the answers are to others than these.
    """
    lost = ceil(lost_questions(small.correct, large.correct).mean() * questions - 1e-9)
    bound = upper_bound(lost, questions)
    p = 0.0 if bound <= alpha else min(1.0, ceil(P_STEPS * (1.0 - alpha / bound)) / P_STEPS)
    if small.flops_full.mean() >= large.flops_full.mean():
        p = 1.0
    return p, (1.0 - p) * bound


def _from_safe(family: Family, large: Answers) -> tuple[list[int], list[float]]:
    """The levels in the order in which they are certified, and the share of questions that each lost.

    Both are from the held-out answers to the first half: from few losses to many, and of equal ones the dearest first.
    A level that is no cheaper than one before it is left out, since nobody would want it.
    """
    lost_P = lost_questions(family.held.correct, large.correct).mean(axis=1)
    cost_P = family.held.flops_full.mean(axis=1)
    order: list[int] = []
    for level in np.lexsort((-cost_P, lost_P)).tolist():
        if not order or cost_P[level] < cost_P[order[-1]]:
            order.append(level)
    return order, lost_P[order].tolist()


def _certified(family: Family, order: list[int], certifying: Certifying, knob: Knob, seed: int) -> Choice:
    answers, small, large = certifying.answers(family), certifying.small, certifying.large
    questions = len(large.correct)
    lost_P = lost_questions(answers.correct, large.correct).sum(axis=1)
    certified = fixed_sequence(lost_P[order].tolist(), questions, knob.value)
    level = order[max(certified - 1, 0)]
    at_level = _level(answers, level)
    if not certified or at_level.flops_full.mean() >= large.flops_full.mean():
        what = "cheaper than the large model" if certified else "at all"
        why = (
            f"No setting of {family.name} is certified {what} for {knob} on {questions} questions (it takes "
            f"{fewest_questions(knob.value)} without a loss)."
        )
        return _of_bar(1.0, standing(large, small, large, seed), why, 0.0, questions)
    expected = standing(at_level, small, large, seed)
    bound = upper_bound(int(lost_P[level]), questions)
    sentence = (
        f"Routing pays: {expected.accuracy:.1%} at {expected.cost:.0%} of the large model's FLOPs. With "
        f"{CONFIDENCE:.0%} confidence at most {bound:.1%} of the questions are lost against the large model."
    )
    return Choice(family.policies[level], family.name, True, expected, sentence, bound, questions)


def halve(questions: int, seed: int) -> tuple[Bools, Bools]:
    """Two disjoint halves of the questions, as masks."""
    first: Bools = np.random.default_rng([seed, 1]).permutation(questions) < questions // 2
    return first, ~first
