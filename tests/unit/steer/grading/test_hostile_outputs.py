"""Hostile outputs, one of each kind through every grader. (`make campaigns` takes 5,000.)"""

import subprocess
from collections import Counter
from random import Random

import pytest
from campaigns.hostile_code import CODE
from campaigns.hostile_grading import check, grade_hostile_outputs
from campaigns.hostile_outputs import KINDS, hostile_outputs
from sympy.parsing.sympy_parser import parse_expr

from steer.grading.formulas import worker
from steer.grading.formulas.worker import Worker

MOST_TIMED_OUT = 6


@pytest.fixture
def impatient_worker(monkeypatch):
    """A symbolic worker that gives up earlier than the shipped one: what takes half a second would take two as well."""
    impatient = Worker(cpu_limit_s=0.5)
    monkeypatch.setattr(worker, "_WORKER", impatient)
    yield impatient
    impatient.close()


def test_there_are_many_kinds_and_each_comes_equally_often(tmp_path):
    kinds = Counter(kind for kind, _ in hostile_outputs(len(KINDS) * 9, 0, tmp_path / "canary"))
    assert len(kinds) == len(set(KINDS)) == len(KINDS) >= 64
    assert max(kinds.values()) - min(kinds.values()) <= 1


def test_the_seed_decides_the_outputs(tmp_path):
    first, again, other = (list(hostile_outputs(500, seed, tmp_path / "canary")) for seed in (1, 1, 2))
    assert first == again
    assert [kind for kind, _ in first] == [kind for kind, _ in other]
    assert sum(a != b for a, b in zip(first, other, strict=True)) > 400


def test_an_attack_names_the_file_that_it_would_create(tmp_path):
    outputs = hostile_outputs(2 * len(KINDS), 3, tmp_path / "canary")
    assert all(str(tmp_path / "canary") in text for kind, text in outputs if kind in CODE)


@pytest.mark.parametrize("kind", ["python_open", "python_system", "sympy_globals", "shell_backticks"])
def test_the_canary_is_created_by_what_runs_an_attack(kind, tmp_path):
    """That the canary stays away shows something only if the attacks are real."""
    canary = tmp_path / "canary"
    attack = CODE[kind](Random(0), str(canary))
    if kind.startswith("shell"):
        subprocess.run(attack, shell=True, check=True)
    elif kind.startswith("sympy"):
        parse_expr(attack)
    else:
        exec(attack)
    assert canary.exists()


def test_one_output_of_each_kind_raises_runs_credits_and_hangs_nothing(tmp_path, impatient_worker):
    campaign = grade_hostile_outputs(len(KINDS), tmp_path)
    check(campaign)
    timed_out = Counter(graded.kind for graded in campaign.graded if graded.verdict.rule.endswith("timeout"))
    assert timed_out.total() <= MOST_TIMED_OUT, timed_out
