"""Candidates: families of routed settings, each question answered by thresholds that were fitted without it.

A family is one policy at the levels of its knob. Of each level it holds two figures: the means over the questions that
a choice may look at (a row for each fold that is left out, and a last row for all questions), and the held-out answers,
by which a choice is judged. Invariant: a choice made on row f reads no answer to a question of fold f.

Axes: `_F` folds and all, `_P` levels, `_Q` questions, `_V` families.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from steer.plans.handover import Answers, Refine, first_unsure, large_alone, price, small_alone
from steer.plans.rules import LABELLED, LEVELS, OF_STEPS, RULES, Rule, thresholds
from steer.plans.signals import Signal, fit_length, scores, signals_of
from steer.plans.table import Bools, Floats, Ints, PrefixTable

SMOOTHED = 0.05
"""Half-width, in shares of the large model's cost, over which neighbouring levels of a family are averaged before a
choice among them: their accuracies differ by a few questions, which is noise."""


@dataclass(frozen=True)
class Family:
    """One policy at several levels."""

    name: str
    levels: tuple[float, ...]
    policies: tuple[dict[str, Any], ...]
    """The configuration at each level, fitted on all questions."""
    held: Answers
    """Held-out answers [P, Q]."""
    accuracy_FP: Floats
    """Mean over the questions of each row, smoothed over levels of nearly the same cost."""
    cost_FP: Floats
    """1e12 FLOPs a question, by the full count."""
    error_FP: Floats
    """Standard error of the difference in accuracy to the large model, over the same questions."""


class Stacked(NamedTuple):
    """The figures of all families, padded with NaN to the most levels [F, V, P]."""

    accuracy_FVP: Floats
    cost_FVP: Floats
    error_FVP: Floats


@dataclass(frozen=True)
class Candidates:
    questions: tuple[str, ...]
    families: tuple[Family, ...]
    small: Answers
    """[Q]"""
    large: Answers
    fold_Q: Ints

    @property
    def folds(self) -> int:
        return int(self.fold_Q.max()) + 1

    def rows(self) -> Iterator[Bools]:
        """The questions of each row: all but those of a fold, then all."""
        yield from (self.fold_Q != fold for fold in range(self.folds))
        yield np.ones(len(self.fold_Q), bool)

    def stacked(self) -> Stacked:
        """ValueError if there is no family."""
        if not self.families:
            raise ValueError("no routed setting to choose from")
        width = max(len(family.levels) for family in self.families)

        def stack(name: str) -> Floats:
            values = [getattr(family, name) for family in self.families]
            padded = [np.pad(v, ((0, 0), (0, width - v.shape[1])), constant_values=np.nan) for v in values]
            return np.stack(padded, axis=1)

        return Stacked(stack("accuracy_FP"), stack("cost_FP"), stack("error_FP"))


def folds_of(questions: int, folds: int, seed: int) -> Ints:
    """A fold for each question, equally many in each. ValueError if a fold would be empty."""
    if not 2 <= folds <= questions:
        raise ValueError(f"{folds} folds of {questions} questions: give 2 folds at least and a question for each")
    dealt: Ints = np.random.default_rng(seed).permutation(np.arange(questions) % folds)
    return dealt


def search(
    table: PrefixTable,
    folds: int = 5,
    seed: int = 0,
    *,
    signals: Sequence[Signal] | None = None,
    rules: Sequence[Rule] = RULES,
    refines: Sequence[Refine] = ("every", "never"),
    tokens_past: float = 0.0,
) -> Candidates:
    """Evaluate the hand-over-once policies on a prefix table by cross-validation over questions.

    `signals`: None means all that the table's scores allow. `tokens_past`: see `steer.plans.handover.price`. Raises
    ValueError for a number of folds that the questions do not allow.
    """
    fold_Q = folds_of(len(table), folds, seed)
    found = Candidates(table.questions, (), small_alone(table), large_alone(table), fold_Q)
    priced = {refine: price(table, refine, tokens_past) for refine in refines}
    families: list[Family] = []
    for signal in signals_of(table) if signals is None else signals:
        of_signal = _OfSignal(table, signal, fold_Q)
        for rule in rules:
            if rule in OF_STEPS and signal.so_far != "none":
                continue
            fitted, first_FPQ, held_PQ = of_signal.by_rule(rule)
            for refine in refines:
                policies = tuple(_policy(signal, of_signal.length_fit, row, refine) for row in fitted)
                name = f"{signal}, {rule}, refine {refine}"
                held = priced[refine].answers(held_PQ)
                rows = (priced[refine].answers(first_PQ) for first_PQ in first_FPQ)
                families.append(family(name, LEVELS[rule].tolist(), policies, rows, held, found))
    return Candidates(table.questions, tuple(families), found.small, found.large, fold_Q)


class _OfSignal:
    """Where policies by one signal hand over, fitted without one or two folds."""

    def __init__(self, table: PrefixTable, signal: Signal, fold_Q: Ints):
        self._table, self._signal, self._fold_Q = table, signal, fold_Q
        self._inside_QK = table.inside_QK
        self._folds = int(fold_Q.max()) + 1
        self._scores: dict[frozenset[int], Floats] = {}
        self.length_fit = fit_length(table, signal, np.ones(len(fold_Q), bool))
        """On all questions."""

    def by_rule(self, rule: Rule) -> tuple[Floats, list[Ints], Ints]:
        """Thresholds [P, I] fitted on all questions; first unsure steps [P, Q] for each row; and the held-out ones.

        A rule that sees no answers is fitted once for a row, on the row's own questions. One that does would look
        better on these than on others: there a row's questions are held out too, fold by fold.
        """
        folds = range(self._folds)
        without = {frozenset((f,)): self._first(rule, frozenset((f,))) for f in folds}
        if rule in LABELLED:
            pairs = (frozenset((f, g)) for f in folds for g in folds if f < g)
            without |= {pair: self._first(rule, pair) for pair in pairs}
            rows = [self._joined({g: without[frozenset((f, g))] for g in folds}) for f in folds]
        else:
            rows = [without[frozenset((f,))] for f in folds]
        held_PQ = self._joined({g: without[frozenset((g,))] for g in folds})
        return self._thresholds(rule, frozenset()), [*rows, held_PQ], held_PQ

    def _joined(self, by_fold: dict[int, Ints]) -> Ints:
        """Each fold's questions from its own array."""
        joined_PQ = np.empty_like(by_fold[0])
        for fold, first_PQ in by_fold.items():
            in_fold_Q = self._fold_Q == fold
            joined_PQ[:, in_fold_Q] = first_PQ[:, in_fold_Q]
        return joined_PQ

    def _first(self, rule: Rule, excluded: frozenset[int]) -> Ints:
        return first_unsure(self._score(excluded), self._inside_QK, self._thresholds(rule, excluded))

    def _thresholds(self, rule: Rule, excluded: frozenset[int]) -> Floats:
        row_Q = self._row(excluded)
        score_QK, right_Q = self._score(excluded)[row_Q], self._table.small_correct_Q[row_Q]
        return thresholds(rule, score_QK, self._inside_QK[row_Q], right_Q)

    def _score(self, excluded: frozenset[int]) -> Floats:
        key = excluded if self._signal.by_length else frozenset()
        if key not in self._scores:
            fit = fit_length(self._table, self._signal, self._row(key))
            self._scores[key] = scores(self._table, self._signal, fit)
        return self._scores[key]

    def _row(self, excluded: frozenset[int]) -> Bools:
        row_Q: Bools = ~np.isin(self._fold_Q, list(excluded))
        return row_Q


def measured(
    settings: Mapping[str, Sequence[tuple[float, dict[str, Any], Answers]]],
    small: Answers,
    large: Answers,
    questions: tuple[str, ...],
    folds: int = 5,
    seed: int = 0,
) -> Candidates:
    """Candidates that a run has measured: settings that were fixed before the run. `settings`: by the family's name,
    its settings as (level, policy, answers [Q])."""
    found = Candidates(questions, (), small, large, folds_of(len(questions), folds, seed))
    families = []
    for name, rows in settings.items():
        answers = Answers(*(np.stack(values) for values in zip(*(answer for _, _, answer in rows), strict=True)))
        policies = tuple(policy for _, policy, _ in rows)
        each = [answers] * (found.folds + 1)
        families.append(family(name, [level for level, _, _ in rows], policies, each, answers, found))
    return Candidates(questions, tuple(families), small, large, found.fold_Q)


def joined(one: Candidates, other: Candidates) -> Candidates:
    """The families of both, held against the first's models. ValueError if their questions or folds differ."""
    if one.questions != other.questions or not np.array_equal(one.fold_Q, other.fold_Q):
        raise ValueError("candidates of other questions or folds cannot be compared")
    return replace(one, families=one.families + other.families)


def family(
    name: str,
    levels: Sequence[float],
    policies: tuple[dict[str, Any], ...],
    answers_F: Iterable[Answers],
    held: Answers,
    of: Candidates,
) -> Family:
    """A family from its answers [P, Q] by each row's fit, and the held-out ones."""
    large_Q = of.large.correct
    accuracy, cost, error = [], [], []
    for answers, row_Q in zip(answers_F, of.rows(), strict=True):
        mean_Q = row_Q / row_Q.sum()
        cost_P, right_P = answers.flops_full @ mean_Q, answers.correct @ mean_Q
        behind_P = right_P - large_Q @ mean_Q
        square_P = answers.correct**2 @ mean_Q - 2 * (answers.correct @ (large_Q * mean_Q)) + large_Q**2 @ mean_Q
        accuracy.append(_near(cost_P / (of.large.flops_full @ mean_Q)) @ right_P)
        cost.append(cost_P)
        error.append(np.sqrt(np.maximum(square_P - behind_P**2, 0.0) / row_Q.sum()))
    # Hundreds of families keep a number for each level and question: in 32 bits they take half of the memory.
    kept = Answers(*(values.astype(np.float32) for values in held))  # type: ignore[arg-type]
    return Family(name, tuple(levels), policies, kept, np.stack(accuracy), np.stack(cost), np.stack(error))


def evaluate(table: PrefixTable, policies: Sequence[Mapping[str, Any]], tokens_past: float = 0.0) -> Answers:
    """The answers [P, Q] of fitted hand-over-once policies to a table's questions, for instance others than those that
    they were fitted on. KeyError names a score that the table lacks."""
    each = []
    for policy in policies:
        signal = Signal(
            policy["measure"], policy["aggregate"], policy["so_far"] or "none", policy["by_length"] is not None
        )
        fitted = None if policy["by_length"] is None else tuple(policy["by_length"])
        score_QK = scores(table, signal, fitted)
        first_PQ = first_unsure(score_QK, table.inside_QK, np.array([policy["thresholds"]], float))
        each.append(price(table, policy["refine"], tokens_past).answers(first_PQ))
    return Answers(*(np.concatenate(values) for values in zip(*each, strict=True)))


def _policy(signal: Signal, fitted: tuple[float, float] | None, thresholds_I: Floats, refine: Refine) -> dict[str, Any]:
    """The policy as configuration. Equal thresholds at its end are one: the last holds for all later steps."""
    numbers = thresholds_I.tolist()
    while len(numbers) > 1 and numbers[-1] == numbers[-2]:
        numbers.pop()
    return {
        "name": "steer",
        "decide": "threshold",
        "measure": signal.measure,
        "aggregate": signal.aggregate,
        "so_far": None if signal.so_far == "none" else signal.so_far,
        "by_length": None if fitted is None else list(fitted),
        "thresholds": numbers,
        "refine": refine,
    }


def _near(share_P: npt.ArrayLike) -> Floats:
    """Weights [P, P] of the mean over neighbours: they fall to 0 at a distance of `SMOOTHED`."""
    share_P = np.asarray(share_P, float)
    weights_PP = np.maximum(1.0 - np.abs(share_P[:, None] - share_P[None, :]) / SMOOTHED, 0.0)
    normed: Floats = weights_PP / weights_PP.sum(axis=1, keepdims=True)
    return normed
