"""SIGKILLs of an endpoint's replicas under load, and what they cost its clients.

`steer serve` runs with the embedded pair, two replicas of the small model and one of the large. Clients in closed loops
ask it through the routed model and through each model alone, with and without streaming, and close the connection of
every tenth request behind the first text. Before the first kill each request was asked once. Its answer must have the
same text ever after, but for one case: if parts of a pass had been kept when its replica died, the rest has other
noise. Then the first step is the same, and a replica had died while the request was live.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from campaigns.watch import kill_left, marked, titled
from paths import ROOT
from ports import free_ports

from steer.embedded.tasks import STEP_DELIMITER, questions

MINUTES = float(os.environ.get("STEER_CAMPAIGN_MINUTES", 10))
KILL_S = float(os.environ.get("STEER_CAMPAIGN_KILL_S", 60))
"""Seconds between two kills."""
CLIENTS, QUESTIONS, CANCELLED_EACH = 16, 20, 10
WHOLE = {"small": 2, "large": 1}
"""Replicas that are live when none is missing."""
MODELS = ("steer/embedded", "steer/embedded/small", "steer/embedded/large")
SETTINGS = {
    "pair": "embedded",
    "benchmark.name": "chain_math",
    "policy.name": "steer",
    "policy.decide": "threshold",
    "policy.thresholds": [0.8],
    **{f"pools.{name}.replicas": count for name, count in WHOLE.items()},
}
WARM_SHARE = 0.2
"""Share of the time after which memory counts as warmed up: two minutes of ten."""
SAMPLE_S = 10.0
MOST_GROWTH, MORE_MIB = 0.2, 30.0
"""Growth of the router's process that is no leak: this share of what it had, and so many MiB."""
START_S, ANSWER_S, STOP_S = 400.0, 300.0, 90.0
MARK = "STEER_SERVE_KILLS"
ROUTER, ENGINE = "ray::ServeReplica", "ray::EngineReplica"
"""How the processes are titled."""


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: str
    tokens: int
    began_s: float
    ended_s: float


@dataclass
class Tally:
    minutes: float
    requests: int = 0
    answered: int = 0
    cancelled: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """By role; `unseen`: the pool was whole again before anybody looked."""
    lost: list[str] = field(default_factory=list)
    """What went wrong with requests that were not cancelled: errors, and answers without an end."""
    doubled: int = 0
    """Streams with more than one end, or with anything behind it."""
    differing: int = 0
    """Texts with other noise behind the parts that were kept when a replica died."""
    changed: list[str] = field(default_factory=list)
    """Texts that differ without that reason."""
    tokens: int = 0
    """Of the answers, as their usage says."""
    health: dict[str, Any] = field(default_factory=dict)
    router_mib: list[tuple[float, float]] = field(default_factory=list)
    """(seconds since the load began, MiB)."""
    engine_mib: list[tuple[float, float]] = field(default_factory=list)
    """The same of the largest engine."""
    exit_code: int | None = None
    exit_s: float = 0.0
    orphans: int = 0

    @property
    def warm_mib(self) -> float:
        """Memory of the router's process after the warm-up."""
        return next((mib for at_s, mib in self.router_mib if at_s >= WARM_SHARE * 60 * self.minutes), 0.0)

    @property
    def end_mib(self) -> float:
        return self.router_mib[-1][1] if self.router_mib else 0.0

    def faults(self) -> list[str]:
        """What was promised and not held."""
        by_status, tokens = self.health["requests"], self.health["tokens"]
        ended = sum(by_status.get(name, 0) for name in ("answered", "length"))
        written = tokens["small"] + tokens["large"]
        checks = {
            f"lost: {self.lost[:3]}": not self.lost,
            f"{self.doubled} answered twice": not self.doubled,
            f"changed: {self.changed[:3]}": not self.changed,
            f"{by_status} are not the {self.requests} requests": sum(by_status.values()) == self.requests,
            f"{by_status} has requests that failed": set(by_status) <= {"answered", "length", "cancelled"},
            f"{by_status}: fewer than {self.answered} were answered": ended >= self.answered,
            f"{written} tokens were written, {self.tokens} charged": written >= self.tokens,
            f"{self.health['live']} requests are live": self.health["live"] == 0,
            f"{self.health['replaced_replicas']} of {self.kills} replaced": (
                self.health["replaced_replicas"] == self.kills.total()
            ),
            f"memory grew from {self.warm_mib:.0f} to {self.end_mib:.0f} MiB": (
                0 < self.end_mib <= (1 + MOST_GROWTH) * self.warm_mib + MORE_MIB
            ),
            f"it ended with {self.exit_code} after {self.exit_s:.0f} s": (
                self.exit_code == 0 and self.exit_s <= STOP_S
            ),
            f"{self.orphans} processes are left": not self.orphans,
        }
        return [fault for fault, held in checks.items() if not held]

    def row(self) -> dict[str, Any]:
        tokens = self.health["tokens"]
        return {
            "minutes": self.minutes,
            "requests": self.requests,
            "cancelled": self.cancelled,
            "kills": self.kills.total(),
            **{f"kills_{name}": count for name, count in sorted(self.kills.items())},
            "replaced": self.health["replaced_replicas"],
            "lost": len(self.lost),
            "doubled": self.doubled,
            "differing": self.differing,
            "changed": len(self.changed),
            "tokens": tokens["small"] + tokens["large"],
            "tokens_of_cancelled": tokens["small"] + tokens["large"] - self.tokens,
            "router_mib_start": round(self.router_mib[0][1]),
            "router_mib_warm": round(self.warm_mib),
            "router_mib_end": round(self.end_mib),
            "engine_mib_start": round(self.engine_mib[0][1]),
            "engine_mib_end": round(self.engine_mib[-1][1]),
            "exit_s": round(self.exit_s, 1),
            "processes_left": self.orphans,
        }


def serve_campaign(minutes: float = MINUTES, kill_s: float = KILL_S, seed: int = 0) -> Tally:
    """Serve, load, kill and stop. Raises RuntimeError if the endpoint does not start."""
    with tempfile.TemporaryDirectory(prefix="serve-kills-") as folder:
        served = _Served(Path(folder) / "stderr")
        tally = Tally(minutes)
        try:
            asyncio.run(_Load(served, tally, kill_s, random.Random(seed)).run())
            tally.exit_code, tally.exit_s = served.stop()
        finally:
            tally.orphans = served.await_none_left()
        return tally


class _Served:
    """The endpoint's processes, told by a variable of their environment."""

    def __init__(self, said: Path):
        self._mark, self._said = uuid.uuid4().hex, said
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "STEER_API_KEY")}
        sets = [f"--set={key}={json.dumps(value)}" for key, value in SETTINGS.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(port), *sets],
            env=environment | {MARK: self._mark, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=open(said, "w"),
        )

    def refuse_ended(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"the endpoint ended with {self._process.returncode}: {self._said.read_text()[-2000:]}")

    def titled(self, title: str) -> list[psutil.Process]:
        return titled(marked(MARK, self._mark), lambda command: command.startswith(title))

    def mib(self, title: str) -> float:
        """Memory of the largest process of this title. 0: there is none."""
        most = 0
        for process in self.titled(title):
            with suppress(psutil.Error):
                most = max(most, process.memory_info().rss)
        return most / 2**20

    def stop(self) -> tuple[int | None, float]:
        """Exit code after SIGTERM, and seconds until then. None: it did not end."""
        began_s = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = None
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(2 * STOP_S)
        return code, time.monotonic() - began_s

    def await_none_left(self) -> int:
        """Processes that are still there half a minute after the end. They are killed."""
        left = kill_left(lambda: marked(MARK, self._mark), 30 if self._process.poll() is not None else 0)
        self._process.wait()
        return left


class _Load:
    def __init__(self, served: _Served, tally: Tally, kill_s: float, rng: random.Random):
        self._served, self._tally, self._kill_s, self._rng = served, tally, kill_s, rng
        self._tasks = questions("chain_math", "test", QUESTIONS)
        self._texts: dict[tuple[str, int], str] = {}
        """By model and question: the answer before any kill."""
        self._killed_s: list[float] = []
        self._roles: dict[int, str] = {}
        """Of processes that took the place of a killed one, by id. The title of a process does not say its role."""

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._served.url, timeout=ANSWER_S, limits=limits) as self._client:
            await self._until_whole(START_S)
            await self._ask_first()
            began_s = time.monotonic()
            self._until_s = began_s + 60 * self._tally.minutes
            numbers = itertools.count()
            clients = [self._keep_asking(numbers) for _ in range(CLIENTS)]
            await asyncio.gather(*clients, self._keep_killing(began_s), self._keep_sampling(began_s))
            await self._until_whole(START_S)
            self._tally.health = await self._until_idle()

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _ask_first(self) -> None:
        """The answers that hold ever after."""
        names = list(itertools.product(MODELS, range(QUESTIONS)))
        gate = asyncio.Semaphore(CLIENTS)

        async def one(model: str, at: int) -> Answer | None:
            async with gate:
                return await self._request(model, at, stream=at % 2 == 0)

        for name, answer in zip(names, await asyncio.gather(*(one(*name) for name in names)), strict=True):
            if answer is None:
                raise RuntimeError(f"before any kill: {self._tally.lost}")
            self._texts[name] = answer.text

    async def _keep_asking(self, numbers: Iterator[int]) -> None:
        while time.monotonic() < self._until_s:
            self._served.refuse_ended()
            number = next(numbers)
            model, at = MODELS[number % len(MODELS)], self._rng.randrange(QUESTIONS)
            if number % CANCELLED_EACH == CANCELLED_EACH - 1:
                await self._cancelled(model, at)
                continue
            answer = await self._request(model, at, stream=number // len(MODELS) % 2 == 0)
            if answer is not None:
                self._compare(model, at, answer)

    def _compare(self, model: str, at: int, answer: Answer) -> None:
        wanted = self._texts[model, at]
        if answer.text == wanted:
            return
        first_step = wanted.partition(STEP_DELIMITER)[0] + STEP_DELIMITER
        if any(answer.began_s < s < answer.ended_s for s in self._killed_s) and answer.text.startswith(first_step):
            self._tally.differing += 1
        else:
            self._tally.changed.append(f"{model}, question {at}: {answer.text!r} instead of {wanted!r}")

    def _body(self, model: str, at: int, stream: bool) -> dict[str, Any]:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": self._tasks[at].question}],
            "seed": at,
            "stream": stream,
        }
        return body | {"stream_options": {"include_usage": True}} if stream else body

    async def _request(self, model: str, at: int, stream: bool) -> Answer | None:
        """The answer; None if there is none, which is noted."""
        self._tally.requests += 1
        body, began_s = self._body(model, at, stream), time.monotonic()
        try:
            answer = await (self._streamed if stream else self._whole)(body)
        except (httpx.HTTPError, KeyError, IndexError, TypeError, ValueError) as failure:
            self._tally.lost.append(f"{model}, stream {stream}: {failure!r}")
            return None
        text, finish_reason, tokens = answer
        if finish_reason not in ("stop", "length"):
            self._tally.lost.append(f"{model}, stream {stream}: it ended with {finish_reason}")
            return None
        self._tally.answered += 1
        self._tally.tokens += tokens
        return Answer(text, finish_reason, tokens, began_s, time.monotonic())

    async def _whole(self, body: dict[str, Any]) -> tuple[str, str, int]:
        response = await self._client.post("/v1/chat/completions", json=body)
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}: {response.text[:300]}")
        found = response.json()
        (choice,) = found["choices"]
        return choice["message"]["content"], choice["finish_reason"], found["usage"]["completion_tokens"]

    async def _streamed(self, body: dict[str, Any]) -> tuple[str, str, int]:
        events = []
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                raise ValueError(f"status {response.status_code}: {(await response.aread())[:300]!r}")
            async for line in response.aiter_lines():
                if line:
                    events.append(line.removeprefix("data: "))
        if "[DONE]" not in events:
            raise ValueError(f"the stream has no end: {events[-1:]}")
        *pieces, last = events
        self._tally.doubled += last != "[DONE]" or "[DONE]" in pieces
        text, reasons, usages = [], [], []
        for piece in (json.loads(piece) for piece in pieces if piece != "[DONE]"):
            if "error" in piece:
                raise ValueError(f"an error event: {piece['error']}")
            usages += [piece["usage"]] if piece["usage"] is not None else []
            for choice in piece["choices"]:
                text.append(choice["delta"].get("content", ""))
                reasons += [choice["finish_reason"]] if choice["finish_reason"] is not None else []
        self._tally.doubled += len(reasons) > 1 or len(usages) > 1
        return "".join(text), reasons[0], usages[0]["completion_tokens"]

    async def _cancelled(self, model: str, at: int) -> None:
        """A request whose connection is closed behind its first text."""
        self._tally.requests += 1
        self._tally.cancelled += 1
        body = self._body(model, at, True)
        try:
            async with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                async for _ in response.aiter_raw():
                    return
        except httpx.HTTPError as failure:
            self._tally.lost.append(f"{model}, to be cancelled: {failure!r}")

    # --- kills and memory ---------------------------------------------------------------------------------------------

    async def _keep_killing(self, began_s: float) -> None:
        """In the middle of each period, one replica; later if one is still missing."""
        before: set[int] = set()
        role = ""
        for period in itertools.count():
            at_s = began_s + (period + 0.5) * self._kill_s
            if at_s >= self._until_s:
                return
            await asyncio.sleep(max(0.0, at_s - time.monotonic()))
            await self._until_whole(self._until_s - time.monotonic(), give_up=True)
            engines = self._served.titled(ENGINE)
            if time.monotonic() >= self._until_s or len(engines) != sum(WHOLE.values()):
                continue
            here = {process.pid for process in engines}
            self._roles |= dict.fromkeys(here - before, role) if before else {}
            victim, before = self._victim(engines), here
            self._killed_s.append(time.monotonic())
            victim.send_signal(signal.SIGKILL)
            role = await self._missing()
            self._tally.kills[role] += 1

    def _victim(self, engines: list[psutil.Process]) -> psutil.Process:
        """The small and the large model take turns, as far as it is known which process is which."""
        turn = list(WHOLE)[len(self._killed_s) % len(WHOLE)]
        known = [process for process in engines if self._roles.get(process.pid) == turn]
        return self._rng.choice(known or [p for p in engines if p.pid not in self._roles] or engines)

    async def _missing(self) -> str:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            live = (await self._health())["replicas"]
            for name, count in WHOLE.items():
                if live.get(name, 0) < count:
                    return name
            await asyncio.sleep(0.2)
        return "unseen"

    async def _keep_sampling(self, began_s: float) -> None:
        while True:
            # Other clients go on while the processes are looked through.
            router = await asyncio.to_thread(self._served.mib, ROUTER)
            engine = await asyncio.to_thread(self._served.mib, ENGINE)
            now_s = time.monotonic() - began_s
            self._tally.router_mib.append((now_s, router))
            self._tally.engine_mib.append((now_s, engine))
            if time.monotonic() >= self._until_s:
                return
            await asyncio.sleep(min(SAMPLE_S, max(0.0, self._until_s - time.monotonic())))

    async def _health(self) -> dict[str, Any]:
        return (await self._client.get("/health")).json()

    async def _until_whole(self, within_s: float, give_up: bool = False) -> None:
        """Until /health answers 200 and no replica is missing."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self._served.refuse_ended()
            with suppress(httpx.TransportError):
                response = await self._client.get("/health")
                if response.status_code == 200 and response.json()["replicas"] == WHOLE:
                    return
            await asyncio.sleep(0.5)
        if not give_up:
            raise RuntimeError(f"replicas are missing after {within_s:g} s")

    async def _until_idle(self) -> dict[str, Any]:
        """What /health says once the rows of the last request have left the engines."""
        deadline = time.monotonic() + 30
        while True:
            health = await self._health()
            if not health["live"] or time.monotonic() > deadline:
                return health
            await asyncio.sleep(0.2)
