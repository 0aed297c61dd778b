"""`steer serve` over HTTP, with simulated engines: real clients against Ray Serve."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import openai
import psutil
import pytest
import yaml
from patience import PATIENCE_S
from ports import free_ports
from test_metrics import scrape, total

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
KEY = "a key"
HI = [{"role": "user", "content": "question"}]
MAX_LIVE, MAX_QUEUED = 4, 2
ANSWER = "The answer is \\boxed{7}."


class Server:
    def __init__(self, folder: Path, pools=None, address=None, **endpoint):
        """`address`: of the Ray cluster to run on; None: one of its own."""
        self.mark = folder / "end"
        """Traces of the small model end while this file is there."""
        self.mark.touch()
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        small = {"steps": 3, "exact": True, "end_mark": str(self.mark), "step_s": 0.005, "max_len": 2000}
        models = {
            "small": {"path": "simulated:small", "parameters": 1e6, "engine": small},
            "large": {"path": "simulated:large", "parameters": 1e7, "engine": {"steps": 3, "exact": True}},
        }
        config = {
            "pair": models,
            "policy": {"name": "random_step", "p": 0.0},
            "routing": {"pass_tokens": 10, "max_steps": 10**6, "max_new_tokens": 10**6},
            "pools": pools or {},
            "endpoint": {"name": "made-up", "max_live": MAX_LIVE, "max_queued": MAX_QUEUED, **endpoint},
        }
        path = folder / "serve.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "pipelines.cli", "serve", str(path), "--port", str(self.port)]
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"STEER_API_KEY": KEY}
        environment |= {"RAY_ADDRESS": address} if address else {}
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        watch = threading.Timer(PATIENCE_S, self.process.kill)
        watch.start()
        said = self.process.stdout.readline()
        watch.cancel()
        assert "answers" in said, (folder / "log").read_text()

    def client(self, **options) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S, **options)

    def post(self, **body) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}"}
        body = {"model": "steer/made-up", "messages": HI, **body}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE_S)

    def health(self) -> dict:
        return httpx.get(f"{self.url}/health", timeout=PATIENCE_S).json()

    def wait_until(self, holds) -> dict:
        until_s = time.monotonic() + PATIENCE_S
        while not holds(found := self.health()):
            assert time.monotonic() < until_s, found
        return found

    @contextmanager
    def endless(self):
        """Answers of the small model do not end while the block runs."""
        self.mark.unlink()
        try:
            yield
        finally:
            self.mark.touch()

    def close(self) -> int:
        tree = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        _, left = psutil.wait_procs(tree, PATIENCE_S)
        assert not left
        self.process.stdout.close()
        self.log.close()
        return code


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("served"))
    yield started
    assert started.close() == 0


@pytest.fixture
def start(tmp_path):
    """Starts a server with options of its own; it is gone after the test, however that ends."""
    started = []

    def start_one(**options) -> Server:
        started.append(Server(tmp_path, **options))
        return started[-1]

    yield start_one
    for server in started:
        if server.process.poll() is None:
            server.close()


def tokens(health: dict) -> int:
    return health["tokens"]["small"] + health["tokens"]["large"]


class TestOpenAIsClient:
    def test_it_lists_the_models(self, server):
        names = [model.id for model in server.client().models.list()]
        assert names == ["steer/made-up", "steer/made-up/small", "steer/made-up/large"]

    @pytest.mark.parametrize("model", ["steer/made-up", "steer/made-up/small", "steer/made-up/large"])
    def test_a_chat(self, server, model):
        before = server.health()
        raw = server.client().chat.completions.with_raw_response.create(model=model, messages=HI, seed=1)
        answered = raw.parse()
        choice, usage = answered.choices[0], answered.usage
        assert choice.message.content.endswith(ANSWER) and choice.finish_reason == "stop" and answered.model == model
        assert usage.completion_tokens == usage.steer["small"]["generated"] + usage.steer["large"]["generated"] > 0
        assert raw.headers["x-steer-tokens-large"] == str(usage.steer["large"]["generated"])
        assert tokens(server.health()) - tokens(before) == usage.completion_tokens

    def test_a_stream_has_the_same_text_and_its_usage(self, server):
        asked = {"model": "steer/made-up", "messages": HI, "seed": 2}
        client = server.client()
        plain = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(texts) == plain.choices[0].message.content and sum(map(bool, texts)) == 3
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == plain.usage.completion_tokens

    def test_the_threshold_and_the_policy_of_a_request(self, server):
        def large(**xargs):
            answered = server.client().chat.completions.create(
                model="steer/made-up", messages=HI, seed=3, extra_body={"vllm_xargs": xargs}
            )
            return answered.usage.steer["steps_large"], answered.usage.steer["steps"]

        assert large() == (0, 3) and large(steer_threshold=1.0)[0] > 0
        assert large(steer_policy="large") == (3, 3)

    def test_max_tokens_and_stop(self, server):
        client = server.client()
        short = client.chat.completions.create(model="steer/made-up/small", messages=HI, max_tokens=20, seed=4)
        assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 20
        full = client.chat.completions.create(model="steer/made-up/small", messages=HI, seed=4)
        stopped = client.chat.completions.create(model="steer/made-up/small", messages=HI, seed=4, stop="\n\n")
        assert stopped.choices[0].finish_reason == "stop"
        assert stopped.choices[0].message.content == full.choices[0].message.content.partition("\n\n")[0]

    def test_errors(self, server):
        client = server.client()
        with pytest.raises(openai.BadRequestError, match="tools"):
            client.chat.completions.create(model="steer/made-up", messages=HI, tools=[{"type": "function"}])
        with pytest.raises(openai.NotFoundError, match="steer/made-up/large"):
            client.chat.completions.create(model="gpt", messages=HI)
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="another").models.list()
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="steer/made-up", messages=[{"role": "user", "content": "x" * 3000}])
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError, match="steer_threshold"):
            client.chat.completions.create(
                model="steer/made-up", messages=HI, extra_body={"vllm_xargs": {"steer_threshold": 7}}
            )


def test_curl(server):
    body = json.dumps({"model": "steer/made-up", "messages": HI, "stream": True, "seed": 1})
    command = ["curl", "-sN", f"{server.url}/v1/chat/completions", "-H", f"Authorization: Bearer {KEY}", "-d", body]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S).stdout
    events = [line.removeprefix("data: ") for line in said.split("\n\n") if line]
    assert events[-1] == "[DONE]" and all(json.loads(event)["object"].endswith("chunk") for event in events[:-1])
    text = "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events[:-1])
    assert text.endswith(ANSWER)


def test_langchain(server):
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="steer/made-up", base_url=f"{server.url}/v1", api_key=KEY, seed=1, max_retries=0)
    answered = model.invoke([("system", "be brief"), ("user", "a"), ("assistant", "b"), ("user", "question")])
    assert answered.content.endswith(ANSWER) and answered.usage_metadata["output_tokens"] > 0
    assert "".join(piece.content for piece in model.stream("question")).endswith(ANSWER)


def test_nothing_else_is_mounted(server):
    for path in ("/docs", "/openapi.json", "/v1/completions", "/v1/embeddings", "/metrics"):
        found = httpx.get(server.url + path)
        assert found.status_code == 404 and found.json()["error"]["message"]
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    assert httpx.post(f"{server.url}/v1/chat/completions", content=b"{").status_code == 401


@pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff", b'{"model": NaN}', b"[" * 50_000])
def test_hostile_json_is_a_400(server, raw):
    headers = {"Authorization": f"Bearer {KEY}"}
    found = httpx.post(f"{server.url}/v1/chat/completions", content=raw, headers=headers)
    assert found.status_code == 400 and found.json()["error"]["type"] == "invalid_request_error"


def test_a_long_body_is_refused_before_it_is_read_to_its_end(server):
    headers = {"Authorization": f"Bearer {KEY}"}
    found = httpx.post(f"{server.url}/v1/chat/completions", content=b" " * (2**20 + 1), headers=headers)
    assert found.status_code == 413


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_its_request(server, stream):
    async def ask_and_go():
        async with httpx.AsyncClient(timeout=PATIENCE_S, headers={"Authorization": f"Bearer {KEY}"}) as client:
            body = {"model": "steer/made-up", "messages": HI, "stream": stream}
            asking = asyncio.create_task(client.post(f"{server.url}/v1/chat/completions", json=body))
            await asyncio.to_thread(server.wait_until, lambda health: health["live"] == 1)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    before = server.health()["requests"].get("cancelled", 0)
    with server.endless():
        asyncio.run(ask_and_go())
        found = server.wait_until(lambda health: health["live"] == 0)
    assert found["requests"]["cancelled"] == before + 1


def test_requests_beyond_the_queue_are_refused_and_the_others_are_answered(server):
    before = tokens(server.health())
    with server.endless(), ThreadPoolExecutor(MAX_LIVE + MAX_QUEUED) as clients:
        taken = [clients.submit(server.post, seed=i) for i in range(MAX_LIVE + MAX_QUEUED)]
        server.wait_until(lambda health: (health["live"], health["queued"]) == (MAX_LIVE, MAX_QUEUED))
        refused = server.post()
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        server.mark.touch()
        answered = [one.result() for one in taken]
    assert [one.status_code for one in answered] == [200] * len(answered)
    assert tokens(server.health()) - before == sum(one.json()["usage"]["completion_tokens"] for one in answered)


def test_the_log_holds_no_text(server):
    server.post(messages=[{"role": "user", "content": "a secret question"}])
    server.log.flush()
    assert "secret" not in Path(server.log.name).read_text()


def test_what_takes_too_long_is_given_up_and_a_stop_lets_live_requests_end(start):
    server = start(timeout_s=1.0)
    with server.endless():
        late = server.post()
        assert late.status_code == 504 and "1 s" in late.json()["error"]["message"]
        streamed = server.post(stream=True)
        assert streamed.status_code == 200 and '"code":null' in streamed.text and "[DONE]" not in streamed.text
    assert server.wait_until(lambda health: health["live"] == 0)["requests"]["cancelled"] == 2
    assert server.close() == 0


def test_live_requests_end_before_the_endpoint_does(start):
    server = start()
    server.mark.unlink()
    with ThreadPoolExecutor(1) as clients:
        live = clients.submit(server.post)
        server.wait_until(lambda health: health["live"] == 1)
        server.process.send_signal(signal.SIGTERM)
        server.wait_until(lambda health: health["status"] == "draining")
        late = server.post()
        assert late.status_code == 503 and "retry-after" in late.headers
        server.mark.touch()
        assert live.result().status_code == 200
    assert server.process.wait(PATIENCE_S) == 0


def test_several_routers_have_a_share_of_the_pools_each(start):
    two = {"replicas": 2, "cpus": 0.5}
    server = start(pools={"routers": 2, "small": two, "large": two})
    with ThreadPoolExecutor(MAX_LIVE) as clients:
        answered = list(clients.map(lambda seed: server.post(seed=seed), range(40)))
    assert [one.status_code for one in answered] == [200] * 40
    found = [server.health() for _ in range(20)]
    assert all(health["replicas"] == {"small": 1, "large": 1} for health in found)
    assert all(0 < health["requests"]["answered"] < 40 for health in found), "both routers had requests"
    assert server.close() == 0


def test_the_metrics_page_of_its_node_counts_what_health_counts(start, local_ray):
    server = start(address=local_ray)
    assert server.post().status_code == 200
    wanted, until_s, page = tokens(server.health()), time.monotonic() + PATIENCE_S, {}
    while total(page.get("steer_tokens_total", {})) < wanted and time.monotonic() < until_s:
        page = scrape("steer/made-up")
    assert total(page["steer_tokens_total"]) == wanted > 0
    assert total(page["steer_traces_done_total"]) == 1
    assert total(page["steer_traces_live"]) == 0
    assert server.close() == 0
