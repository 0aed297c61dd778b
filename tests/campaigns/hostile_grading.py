"""Hostile outputs through every grader, with what they cost and what they touched."""

import time
import unicodedata
from pathlib import Path
from typing import NamedTuple

from campaigns.hostile_outputs import GOLDS, LABELS, hostile_outputs
from campaigns.watch import Watch, peak_mib

from steer.grading import GRADERS, Verdict, grade
from steer.grading.formulas import worker

SHORT_GOLD_CHARS = 3
"""A letter or three digits may stand in any text. A longer gold stands in none of the outputs."""


class Graded(NamedTuple):
    kind: str
    text: str
    """Its first characters, to name it by."""
    grader: str
    gold: str
    may_be_correct: bool
    verdict: Verdict
    seconds: float


class Campaign(NamedTuple):
    graded: list[Graded]
    raised: list[str]
    seconds: float
    grown_mib: float
    worker_mib: float
    canary_touched: bool

    def row(self) -> dict:
        """The figures, as a benchmark prints them."""
        slowest = max(self.graded, key=lambda graded: graded.seconds)
        return {
            "outputs": len(self.graded) // len(GRADERS),
            "kinds": len({graded.kind for graded in self.graded}),
            "raised": len(self.raised),
            "timed_out": sum(graded.verdict.rule.endswith("timeout") for graded in self.graded),
            "credited": sum(graded.verdict.correct and not graded.may_be_correct for graded in self.graded),
            "slowest_s": round(slowest.seconds, 2),
            "slowest_kind": slowest.kind,
            "seconds": round(self.seconds, 1),
            "grown_mib": round(self.grown_mib),
            "peak_worker_mib": round(self.worker_mib),
            "canary_touched": self.canary_touched,
        }


def grade_hostile_outputs(count: int, folder: Path) -> Campaign:
    """Each output by every grader. Every tenth output is its own gold. `folder`: where an attack that runs leaves its
    canary."""
    canary = folder / "canary"
    assert grade(r"\boxed{\sqrt{28}}", r"2\sqrt{7}", "math", {}).rule == "boxed:symbolic"
    held_mib, started = peak_mib(), time.monotonic()
    graded, raised = [], []
    with Watch(lambda: filter(None, [worker._WORKER.pid])) as watch:
        for index, (kind, text) in enumerate(hostile_outputs(count, 0, canary)):
            for grader in GRADERS:
                gold = text if index % 10 == 0 else GOLDS[grader][index % len(GOLDS[grader])]
                began = time.monotonic()
                try:
                    verdict = grade(text, gold, grader, LABELS)
                except Exception as failure:
                    raised.append(f"{grader} raised {failure!r} on output {index}, {kind}: {text[:200]!r}")
                    continue
                fair = gold == text or _by_chance(text, gold)
                took_s = time.monotonic() - began
                graded.append(Graded(kind, text[:80], grader, gold[:80], fair, verdict, took_s))
    seconds = time.monotonic() - started
    # The worker took part to the end: one that could not be started again would refuse everything, and fast.
    assert grade(r"\boxed{\sqrt{44}}", r"2\sqrt{11}", "math", {}).rule == "boxed:symbolic"
    return Campaign(graded, raised, seconds, peak_mib() - held_mib, watch.peak_mib, canary.exists())


def check(campaign: Campaign) -> None:
    """What must hold of any number of outputs."""
    assert campaign.raised == []
    assert not campaign.canary_touched, "an attack was run"
    for graded in campaign.graded:
        graded.verdict.extracted.encode()
        assert graded.verdict.rule, graded
        assert graded.verdict.f1 is None or 0 <= graded.verdict.f1 <= 1, graded
        assert graded.may_be_correct or not graded.verdict.correct, f"credited: {graded}"
    assert campaign.grown_mib < 256
    assert 0 < campaign.worker_mib <= worker.MEMORY_LIMIT_BYTES / 2**20


def _by_chance(text: str, gold: str) -> bool:
    return len(gold) <= SHORT_GOLD_CHARS and gold in unicodedata.normalize("NFKC", text).upper()
