"""A request at the endpoint, with a router that answers nothing by itself."""

import asyncio
import json

import pytest

from pipelines.serve.config import load_served
from pipelines.serve.endpoint import Endpoint
from pipelines.serve.request import Limits, parse
from steer.traces import PAIR

LIMITS = Limits(max_body_bytes=2**20, max_messages=8, max_text_chars=1000, max_tokens=100)


class SilentRouter:
    """Takes requests in, and notes which are ended."""

    broken = None

    def __init__(self):
        self.admitted, self.ended = [], []

    async def start(self):
        pass

    def admit(self, request, policy):
        self.admitted.append(request)

    def end(self, request, *how):
        self.ended.append(request)


async def until(holds):
    while not holds():
        await asyncio.sleep(0)


def test_a_request_that_is_cancelled_as_a_text_comes_is_ended():
    what, router = load_served(None, None), SilentRouter()
    body = {"model": f"steer/{what.name}", "messages": [{"role": "user", "content": "question"}]}
    asked = parse(json.dumps(body).encode(), LIMITS)

    async def go():
        endpoint = Endpoint(what, router, PAIR)
        endpoint.start()
        await endpoint.loaded()

        async def read():
            return [event async for event in endpoint.answer(asked)]

        reading = asyncio.create_task(read())
        await until(lambda: router.admitted)
        (request,) = router.admitted
        await asyncio.sleep(0)
        request.events.put_nowait("a text")
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(60):
                await asyncio.shield(reading)
        await until(lambda: router.ended)

    asyncio.run(go())
    assert router.ended == router.admitted
