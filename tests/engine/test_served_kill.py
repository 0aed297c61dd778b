"""What an endpoint's router promises, on real vLLM: a killed replica loses and repeats no character, and a request has
the text that a run gives it."""

import asyncio
import os
import signal

import pytest
from held_rows import held

from actors.router.live import LiveRequest, LiveRouter, events_of
from pipelines.run.cells import Cell
from pipelines.run.evaluate import evaluate
from pipelines.run.session import cluster, session
from steer.benchmarks import load_benchmark
from steer.config.pairs import load_pair
from steer.config.policy import LargePolicy, SmallPolicy, SteerPolicy
from steer.config.run import BenchmarkConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.messages import Prompt
from steer.routing.live_group import Admission
from steer.storage.run_folder import RunFolder
from steer.traces import Role, Status

pytestmark = [pytest.mark.ray, pytest.mark.engine]

SEED, REQUESTS, COMPARED = 5, 24, 6
MOST, FEW = 4096, 40
"""Tokens of an answer: more than one takes, and fewer than most take."""
ROUTED = SteerPolicy(decide="threshold", thresholds=(0.8,))
POLICIES = {"small": SmallPolicy(), "large": LargePolicy(), "routed": ROUTED}
POOLS = PoolsConfig(small=PoolConfig(replicas=2, cpus=0.5), large=PoolConfig(cpus=0.5))


def test_a_killed_replica_loses_no_request_and_both_ways_give_the_same_text(tmp_path):
    benchmark = load_benchmark(BenchmarkConfig(name="chain_math", limit=REQUESTS))
    questions = [row.question for row in benchmark.rows]

    async def go():
        router = LiveRouter(load_pair("embedded"), POOLS, RoutingOptions(), benchmark.tokens, REQUESTS)
        infos = await router.start()
        try:
            same = {
                name: await asyncio.gather(*(_answered(router, q, policy) for q in questions[:COMPARED]))
                for name, policy in POLICIES.items()
            }
            calm, _ = await _all(router, questions)
            killed, at_kill = await _all(router, questions, infos[Role.SMALL].pid)
            return same, calm, killed, at_kill, await router.stats(), router.totals
        finally:
            await router.close()

    with cluster():
        batch = _in_a_run(benchmark.tokens, benchmark.rows[:COMPARED], tmp_path / "run")
        same, calm, killed, at_kill, stats, totals = asyncio.run(go())

    for name, found in same.items():
        assert [trace.text for _, trace in found] == batch[name], name

    assert stats.replaced == 1 and stats.live == 0
    assert totals.requests == COMPARED * len(POLICIES) + 2 * REQUESTS
    equal = 0
    for i, ((texts, trace), (_, before), kept) in enumerate(zip(killed, calm, at_kill, strict=True)):
        assert "".join(texts) == trace.text and trace.text.startswith(kept)
        assert trace.status in (Status.ANSWERED, Status.LENGTH), trace.error
        assert trace.status == Status.ANSWERED or i in _short()
        assert sum(step.tokens for step in trace.steps if step.accepted) <= _limit(i)
        equal += trace.text == before.text
        if trace.text != before.text:  # only what follows kept parts of a pass has other noise
            assert _policy(i) is POLICIES["small"], "a step that is lost is asked for again with its seed"
            first_step = before.text.partition("\n\n")[0] + "\n\n"
            assert trace.text.startswith(first_step) and before.text.startswith(kept)
    assert equal >= REQUESTS / 2


def _short():
    """Requests that are cut by their limit of tokens: those to the small model, every second one."""
    return range(0, REQUESTS, 4)


def _limit(i):
    return FEW if i in _short() else MOST


def _policy(i):
    return POLICIES["routed" if i % 2 else "small"]


async def _answered(router, question, policy, most=MOST, heard=lambda text: None):
    """The kept texts of a request and its trace."""
    admission = Admission(question, Prompt(question.prompt, question.system), SEED, most)
    router.admit(request := LiveRequest(admission), policy)
    texts = []
    async for event in events_of(request):
        if not isinstance(event, str):
            return texts, event
        texts.append(event)
        heard(event)


async def _all(router, questions, pid=None):
    """All requests at the same time, and what had come of each when the process was killed, at the first kept text."""
    so_far, at_kill = ["" for _ in questions], []

    def heard(i, text):
        so_far[i] += text
        if pid is not None and not at_kill:
            os.kill(pid, signal.SIGKILL)
            at_kill.extend(so_far)

    asked = (
        _answered(router, question, _policy(i), _limit(i), lambda text, i=i: heard(i, text))
        for i, question in enumerate(questions)
    )
    return await asyncio.gather(*asked), at_kill


def _in_a_run(tokens, rows, folder):
    """The texts of the same questions in a run, by policy."""
    with session(load_pair("embedded"), PoolsConfig()) as opened:
        run = RunFolder.create(folder, "run", {}, [SEED])
        cells = [
            Cell(name, policy, RoutingOptions(), held(rows), tokens, seed=SEED) for name, policy in POLICIES.items()
        ]
        evaluate(cells, opened.routers, run)
    found = {name: {} for name in POLICIES}
    for trace in run.read("traces").to_pylist():
        found[trace["cell"]][trace["question_id"]] = trace["text"]
    return {name: [texts[row.question.id] for row in rows] for name, texts in found.items()}
