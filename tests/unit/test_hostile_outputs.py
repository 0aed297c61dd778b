"""Two thousand hostile outputs through the graders: nothing is raised, run, credited or left hanging. (`steer bench
grading` takes 5,000.)"""

import subprocess
import time
import unicodedata
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from campaigns.hostile_code import CODE
from campaigns.hostile_outputs import GOLDS, KINDS, LABELS, hostile_outputs
from sympy.parsing.sympy_parser import parse_expr

from pipelines.bench.grading import Watch, peak_mib
from steer.grading import GRADERS, Verdict, grade, worker
from steer.grading.worker import MEMORY_LIMIT_BYTES, Worker

COUNT = 2_000
SHORT_GOLD_CHARS = 3
"""A letter or three digits may stand in any text; a longer gold stands in none."""

MAX_TIMED_OUT = COUNT // 50
"""Some 16 take the impatient worker's half second; limits that no longer keep a kind from it show in the count."""


class Graded(NamedTuple):
    kind: str
    text: str
    """Its first characters, to name it by."""
    grader: str
    gold: str
    may_be_correct: bool
    verdict: Verdict


class Pass(NamedTuple):
    graded: list[Graded]
    canary: Path
    seconds: float
    grown_mib: float
    worker_mib: float


def by_chance(text: str, gold: str) -> bool:
    return len(gold) <= SHORT_GOLD_CHARS and gold in unicodedata.normalize("NFKC", text).upper()


@pytest.fixture(scope="module")
def impatient_worker():
    """A symbolic worker that gives up earlier than the shipped one: what takes half a second would take two as well."""
    impatient = Worker(cpu_limit_s=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "_WORKER", impatient)
        yield impatient
    impatient.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, impatient_worker):
    """Each output by every grader; every tenth has itself for a gold."""
    canary = tmp_path_factory.mktemp("hostile") / "canary"
    assert grade(r"\boxed{\sqrt{28}}", r"2\sqrt{7}", "math", {}).rule == "boxed:symbolic"
    held_mib, started = peak_mib(), time.monotonic()
    graded = []
    with Watch(lambda: filter(None, [impatient_worker.pid])) as watch:
        for index, (kind, text) in enumerate(hostile_outputs(COUNT, 0, canary)):
            for grader in GRADERS:
                gold = text if index % 10 == 0 else GOLDS[grader][index % len(GOLDS[grader])]
                try:
                    verdict = grade(text, gold, grader, LABELS)
                except Exception as failure:
                    pytest.fail(f"{grader} raised {failure!r} on output {index}, {kind}: {text[:200]!r}")
                graded.append(
                    Graded(kind, text[:80], grader, gold[:80], gold == text or by_chance(text, gold), verdict)
                )
    seconds = time.monotonic() - started
    # The worker took part to the end: one that could not be started again would refuse everything, and fast.
    assert grade(r"\boxed{\sqrt{44}}", r"2\sqrt{11}", "math", {}).rule == "boxed:symbolic"
    return Pass(graded, canary, seconds, peak_mib() - held_mib, watch.peak_mib)


def test_there_are_many_kinds_and_each_comes_equally_often(tmp_path):
    kinds = Counter(kind for kind, _ in hostile_outputs(COUNT, 0, tmp_path / "canary"))
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


def test_every_verdict_can_be_stored_and_says_what_decided(hostile):
    assert len(hostile.graded) == len(GRADERS) * COUNT
    for graded in hostile.graded:
        graded.verdict.extracted.encode()
        assert graded.verdict.rule, graded
        assert graded.verdict.f1 is None or 0 <= graded.verdict.f1 <= 1, graded


def test_nothing_hostile_is_credited(hostile):
    assert not [graded for graded in hostile.graded if graded.verdict.correct and not graded.may_be_correct]


def test_no_attack_was_run(hostile):
    assert not hostile.canary.exists()


def test_time_and_memory_stay_bounded(hostile):
    timed_out = Counter(graded.kind for graded in hostile.graded if graded.verdict.rule.endswith("timeout"))
    assert timed_out.total() <= MAX_TIMED_OUT, timed_out
    # Ten times what it takes: only a grader that hangs is caught.
    assert hostile.seconds < 900
    assert hostile.grown_mib < 256
    assert 0 < hostile.worker_mib <= MEMORY_LIMIT_BYTES / 2**20
