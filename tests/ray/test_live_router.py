"""The router of an endpoint over real Ray actors, with simulated replicas."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from actors.router.live import LiveRequest, LiveRouter, TooManySettings, events_of
from actors.simulated.instant import SimulatedReplica
from steer.config.policy import LargePolicy, RandomStepPolicy, SmallPolicy, SteerPolicy
from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.messages import Prompt
from steer.routing.live_group import CANCELLED, Admission
from steer.traces import Question, Status

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

THRESHOLD = SteerPolicy(decide="threshold", thresholds=(0.8,))


def asked(number, seed=0, most=4096, prompt="question", **sampling):
    question = Question(f"q{number}", 0, "", "", "", "")
    return LiveRequest(Admission(question, Prompt(f"{prompt} {number}"), seed, most), **sampling)


@asynccontextmanager
async def started(small=None, large=None, places=8, replicas=1, routing=None):
    pair = PairConfig(
        small=ModelConfig(path="simulated-small", parameters=1e6, engine=small or {}),
        large=ModelConfig(path="simulated-large", parameters=1e7, engine=large or {}),
    )
    pool = PoolConfig(replicas=replicas, cpus=0.1)
    pools = PoolsConfig(small=pool, large=pool)
    router = LiveRouter(pair, pools, routing or RoutingOptions(), "all", places, SimulatedReplica)
    await router.start()
    try:
        yield router
    finally:
        await router.close()


async def answered(router, request, policy=THRESHOLD):
    """The kept texts of a request and its trace."""
    router.admit(request, policy)
    *texts, trace = [event async for event in events_of(request)]
    return texts, trace


def test_requests_are_answered_in_pieces_that_make_up_the_text():
    async def go():
        async with started() as router:
            coin = RandomStepPolicy(p=0.5)
            found = await asyncio.gather(*(answered(router, asked(i), coin) for i in range(8)))
            assert router.totals.requests == 8
            return found

    for texts, trace in asyncio.run(go()):
        assert trace.status == Status.ANSWERED and len(texts) == len(trace.steps) and "".join(texts) == trace.text


def test_the_same_request_has_the_same_text_alone_and_among_others():
    async def go():
        async with started() as router:
            _, alone = await answered(router, asked(3, seed=11))
            found = await asyncio.gather(*(answered(router, asked(i, seed=11)) for i in range(8)))
            return alone.text, found[3][1].text

    alone, among = asyncio.run(go())
    assert alone == among


def test_requests_of_different_settings_run_beside_each_other():
    async def go():
        async with started() as router:
            policies = [SmallPolicy(), LargePolicy(), RandomStepPolicy(p=1.0), THRESHOLD]
            found = await asyncio.gather(*(answered(router, asked(i), policy) for i, policy in enumerate(policies)))
            return [trace for _, trace in found]

    small, large, coin, _ = asyncio.run(go())
    assert small.tokens_large == 0 and large.tokens_small == 0 and coin.tokens_large > 0


# Passes that come back after each step, and traces that end only at the engine's word.
ENDLESS = RoutingOptions(pass_tokens=10, max_new_tokens=10**6, max_steps=10**6)


def test_a_request_is_given_up_and_others_go_on(tmp_path):
    mark = tmp_path / "end"

    async def go():
        async with started(small={"end_mark": str(mark), "step_s": 0.01}, routing=ENDLESS) as router:
            given_up, other = asked(0), asked(1)
            for request in (given_up, other):
                router.admit(request, SmallPolicy())
            first = await given_up.events.get()
            router.end(given_up)
            *_, ended = [event async for event in events_of(given_up)]
            mark.touch()
            *_, trace = [event async for event in events_of(other)]
            return first, ended, trace, router.totals, (await router.stats()).live

    first, ended, trace, totals, live = asyncio.run(go())
    assert isinstance(first, str) and ended.error == CANCELLED and trace.status == Status.ANSWERED
    assert totals.by_status == {CANCELLED: 1, "answered": 1} and live == 0
    assert totals.tokens_small == ended.tokens_small + trace.tokens_small


def test_a_request_that_no_replica_has_begun_is_given_up_at_once(tmp_path):
    mark = tmp_path / "end"

    async def go():
        pool_full = {"end_mark": str(mark), "step_s": 0.01}
        async with started(small=pool_full, routing=ENDLESS, places=600) as router:
            many = [asked(i) for i in range(600)]  # more than the 512 rows of a replica
            for request in many:
                router.admit(request, SmallPolicy())
            for request in many:
                router.end(request)
            traces = [[event async for event in events_of(request)][-1] for request in many]
            return {trace.error for trace in traces}, (await router.stats()).live

    assert asyncio.run(go()) == ({CANCELLED}, 0)


def test_a_replica_that_dies_changes_no_answer(tmp_path):
    def run(**engine):
        async def go():
            async with started(small=engine, replicas=2) as router:
                found = await asyncio.gather(*(answered(router, asked(i, seed=3)) for i in range(8)))
                return found, (await router.stats()).replaced

        return asyncio.run(go())

    calm, _ = run()
    found, replaced = run(die_mark=str(tmp_path / "died"), die_after=5)
    assert replaced >= 1  # both may have got so many rows before one of them made the mark
    assert [trace.text for _, trace in found] == [trace.text for _, trace in calm]
    assert all("".join(texts) == trace.text for texts, trace in found)


def test_every_request_hears_that_the_pools_are_gone(tmp_path):
    async def go():
        async with started(small={"fault": "question 1"}, replicas=1) as router:
            router.admit(request := asked(0), SmallPolicy())
            router._break(RuntimeError("no replica can be started"))
            with pytest.raises(RuntimeError, match="no replica can be started"):
                async for _ in events_of(request):
                    pass
            with pytest.raises(RuntimeError, match="no replica can be started"):
                router.admit(asked(2), SmallPolicy())

    asyncio.run(go())


def test_idle_settings_give_way_and_live_ones_do_not(tmp_path):
    mark = tmp_path / "end"

    async def go():
        async with started(small={"end_mark": str(mark), "step_s": 0.01}, routing=ENDLESS) as router:
            live = [asked(i) for i in range(32)]
            for i, request in enumerate(live):
                router.admit(request, RandomStepPolicy(p=i / 100))
            with pytest.raises(TooManySettings):
                router.admit(asked(99), RandomStepPolicy(p=0.99))
            mark.touch()
            for request in live:
                *_, _ = [event async for event in events_of(request)]
            _, trace = await answered(router, asked(99), RandomStepPolicy(p=0.99))
            assert trace.status == Status.ANSWERED

    asyncio.run(go())
