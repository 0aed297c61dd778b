"""A router without engines: answers every question in one step, as it is told to by the question's text.

`wait`: the trace comes back only after `release`, the others of its group before. `lose`: it never comes back.
"""

import asyncio
from math import nan

import pyarrow as pa
import ray

from steer.storage.tables import routed_table
from steer.traces import Model, Question, Status, Step, Trace

WRONG = "wrong"
WAIT = "wait"
LOSE = "lose"
PARAMETERS = [1e6, 1e7, 0.0, 0.0, 0.0]


@ray.remote(num_cpus=0)
class FakeRouter:
    def __init__(self):
        self.expected = 0
        self.committed_rows = 0
        self.jobs = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._release = asyncio.Event()

    async def route(self, questions: pa.Table, job, committed=()):
        self.jobs.append(job)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        traces = [_trace(Question(**row), job) for row in questions.to_pylist()]
        traces = [trace for trace in traces if trace.question.trace_id not in committed]
        for number, trace in enumerate(t for t in traces if WAIT not in t.question.prompt):
            # One table a trace, and control given back in between, so that groups interleave.
            await asyncio.sleep(0)
            if LOSE not in trace.question.prompt:
                yield routed_table([trace], [_mixture(job)] if number == 0 else [], PARAMETERS)
        waiting = [t for t in traces if WAIT in t.question.prompt]
        if waiting:
            await self._release.wait()
            yield routed_table(waiting, [], PARAMETERS)
        self.in_flight -= 1

    async def committed(self, group: str, trace_ids: list[str]) -> None:
        self.committed_rows += len(trace_ids)

    async def expect(self, traces: int) -> None:
        self.expected += traces

    async def release(self) -> None:
        self._release.set()

    async def seen(self) -> dict:
        return {"expected": self.expected, "jobs": self.jobs, "in_flight": self.in_flight, "most": self.most_in_flight}


@ray.remote
class CpuHolder:
    """Stands for engines that hold the CPUs it was given."""

    def ready(self) -> None:
        pass


def _trace(question: Question, job) -> Trace:
    answer = "no idea" if WRONG in question.prompt else f"The answer is \\boxed{{{question.gold}}}."
    scores = (*(20.0, -0.1, 0.9, 9.0) * 4, 5.0)
    step = Step(
        0, 0, Model.SMALL, True, "end", answer, 5, 7, 0, scores, None, 0.9, 0.8, nan, 0.0, 0.0, "end", "small-0", 0.1
    )
    return Trace(
        question=question, status=Status.ANSWERED, text=answer, steps=[step], tokens_small=5, tokens_large=0,
        tokens_discarded=0, prompt_tokens=7, prefill_small=7, prefill_large=0, cached_tokens=0, tokens_signal=(0,) * 5,
        cell=job.cell, group=job.group, seed=job.seed,
    )  # fmt: skip


def _mixture(job) -> dict:
    named = {"group_id": job.group, "step": 0, "draft": True, "scope": "pooled", "measure": "max_prob"}
    named |= {"n": 9, "rule": "fresh", "fit_ms": 1.0}
    fitted = dict.fromkeys(("mean_confident", "mean_unsure", "sd_confident", "sd_unsure"), 0.5)
    return {**named, **fitted, "weight_confident": 0.5, "weight_unsure": 0.5, "inversions": 0}
