"""`steer bench serve`: the endpoint under load, against plain `vllm serve` of the large model and against a batch run.

Closed-loop clients ask over HTTP, each as soon as its last answer has ended: the endpoint that routes, its large model
alone, and plain vLLM with a replica's settings. All three get the same requests, streamed, with the same seeds. Turns
alternate: A B C A B C ... While one server is measured, all processes of the other are stopped (SIGSTOP), since even
without a request the endpoint keeps a fifth of a core busy (`idle_cores`). Its Ray goes on after that: a stop of 75 s
replaced no replica.

The batch run is `steer run` with the same policy on questions of the same split, before the servers start, and once
more after them if there are several turns. Each figure is printed as it comes.

Invariant: a request that fails is counted, and the bench fails after it has kept its figures.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from pipelines.bench.http_servers import PLAIN_MODEL, Server, endpoint, plain_server
from pipelines.run.session import sigterm_as_interrupt
from pipelines.serve.config import ServeConfig
from steer.benchmarks import load_benchmark
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.run import BenchmarkConfig, PairConfig, PoolConfig

CLIENTS = (1, 4, 16, 64)
FEWEST_REQUESTS, REQUESTS_A_CLIENT = 40, 6
"""Requests of a measurement unless `--questions` says otherwise: so many a client, and no fewer than so many. The last
ones end without a full number of others beside them: a sixth of the measurement at most."""
BATCH_QUESTIONS = 400
BENCHMARK, SPLIT = "chain_math", "test"
TEMPERATURE, MAX_TOKENS = 0.7, 256
WARM_UP_REQUESTS = 32
"""Requests to each model before anything is measured, so that what is compiled at first use is compiled, and the
policy's bank has scores to fit."""
WARM_UP_CLIENTS = 16
REQUEST_S = 600.0
"""Seconds in which a server must send the next part of an answer."""
IDLE_S = 5.0
"""Seconds over which the CPU use of the servers is measured while they have no request."""
SHARES = {"p50_s": 0.5, "p95_s": 0.95}
"""Columns of latency, by the share of the requests that took no longer."""
ROUTED, LARGE, PLAIN = "endpoint, routed", "endpoint, /large", "vllm serve, large model"
ERROR_CHARS = 2000
"""How much of a failed batch run's stderr is shown."""

ABOUT = f"""requests_s: requests by the seconds from the first one's start to the last one's end
first_text_s: median time to the first text
tokens, tokens_large: means of a request's generated tokens, discarded ones included, and of the large model's
  among them: whether endpoint and batch run did the same work
vs_plain: requests_s by that of `{PLAIN}` in the same turn
client_cores: what this process, the clients, kept busy of the machine's cores meanwhile
questions_s: of a batch run, by the seconds in which a trace was live; questions_wall_s: by all but the loading
of_batch: requests_s by questions_s
service_s: clients / requests_s, by Little's law the mean latency of a closed loop that is full all the time;
  p50_by_service: median latency by it. It tells how skewed the latencies are, not how short."""


@dataclass(frozen=True)
class Options:
    """What `steer bench serve` is asked to measure."""

    pair: str = "embedded"
    clients: str = ",".join(map(str, CLIENTS))
    questions: int | None = None
    """Requests of each measurement, and questions of the batch run."""
    turns: int = 2

    def counts(self) -> list[int]:
        """Numbers of clients. SettingsError for what is none."""
        for text in self.clients.split(","):
            if not (text.isdecimal() and 0 < int(text) < 10**4):
                raise SettingsError(f"--clients {self.clients}: {text!r} is no number of clients: give for example 1,4")
        return [int(text) for text in self.clients.split(",")]

    def requests(self, clients: int) -> int:
        return self.questions or max(FEWEST_REQUESTS, REQUESTS_A_CLIENT * clients)


@dataclass(frozen=True)
class Answer:
    """One request."""

    seconds: float
    first_text_s: float | None
    """Until the first text. None: the answer has none."""
    tokens: int
    """All that were generated, those that were thrown away included."""
    tokens_large: int | None = None
    """Those of the large model among them. None: the server does not say."""
    error: str = ""


@dataclass(frozen=True)
class Load:
    """One turn of one target under one number of clients."""

    answers: Sequence[Answer]
    seconds: float
    client_cores: float

    def figures(self) -> dict[str, float]:
        """Rates, seconds and tokens of the requests that were answered."""
        good = [answer for answer in self.answers if not answer.error]
        if not good:
            return {}
        latencies = [answer.seconds for answer in good]
        firsts = [answer.first_text_s for answer in good if answer.first_text_s is not None]
        large = [answer.tokens_large for answer in good if answer.tokens_large is not None]
        return {
            "requests_s": len(good) / self.seconds,
            **{name: float(np.quantile(latencies, share)) for name, share in SHARES.items()},
            **({"first_text_s": statistics.median(firsts)} if firsts else {}),
            "mean_s": statistics.fmean(latencies),
            "tokens": statistics.fmean(answer.tokens for answer in good),
            **({"tokens_large": statistics.fmean(large)} if large else {}),
            "client_cores": self.client_cores,
        }

    @property
    def errors(self) -> list[str]:
        return [answer.error for answer in self.answers if answer.error]


@dataclass(frozen=True)
class Batch:
    """One batch run."""

    questions: int
    routing_s: float
    """Seconds in which a trace was live. Loading, reading the questions and committing the last rows are left out."""
    wall_s: float
    """Seconds of the pipeline once the models were loaded."""
    tokens: float
    tokens_large: float
    """Means as `Load.figures` has them."""

    @classmethod
    def of(cls, run: dict, traces: pa.Table) -> "Batch":
        """From `run.json` and the rows of a run with one replica of each model, as it has by default."""
        small, large = (pc.mean(traces[f"tokens_{role}"]).as_py() for role in ("small", "large"))
        time_, wall_s = run["time"], run["time"]["wall"]["wall"]
        without_s = min(time_[role]["no_trace"] for role in ("small", "large"))
        return cls(traces.num_rows, wall_s - without_s, wall_s, small + large, large)


class Results:
    """What was measured so far. Each figure is printed as it comes, and all are kept."""

    def __init__(self, keep: Callable[[list[dict]], None]):
        self._keep = keep
        self._loads: dict[tuple[str, int], list[Load]] = {}
        self._batch: list[Batch] = []
        self._idle: dict[str, float] = {}

    def add(self, what: str, clients: int, load: Load) -> None:
        loads = self._loads.setdefault((what, clients), [])
        loads.append(load)
        said = ", ".join(f"{name} {_short(value)}" for name, value in load.figures().items())
        print(f"turn {len(loads)}  {what}, {clients} clients: {said or 'no answer'}", flush=True)
        if load.errors:
            print(f"  {len(load.errors)} requests failed; the first: {load.errors[0]}", flush=True)
        self._keep(self.rows())

    def add_batch(self, batch: Batch) -> None:
        self._batch.append(batch)
        rate = f"{batch.questions / batch.routing_s:.2f} a second"
        took = f"{batch.routing_s:.2f} s of routing, {batch.wall_s:.2f} s in all"
        print(f"batch run: {batch.questions} questions in {took}, {rate}", flush=True)
        self._keep(self.rows())

    def add_idle(self, what: str, cores: float) -> None:
        self._idle[what] = cores
        print(f"{what}: {cores:.2f} cores while it has no request", flush=True)

    @property
    def errors(self) -> int:
        return sum(len(load.errors) for loads in self._loads.values() for load in loads)

    def rows(self) -> list[dict]:
        """A row for each target and number of clients, with medians over its turns; one for the batch runs; and one for
        each number of clients that holds the routed endpoint against the batch runs."""
        rows: list[dict] = [{"what": what, "idle_cores": round(cores, 2)} for what, cores in self._idle.items()]
        rows += [self._row(what, clients) for what, clients in self._loads]
        if self._batch:
            rates = [batch.questions / batch.routing_s for batch in self._batch]
            walls = [batch.questions / batch.wall_s for batch in self._batch]
            rows.append(
                {
                    "what": "batch run, routed",
                    "questions": self._batch[0].questions,
                    "questions_s": _short(statistics.median(rates)),
                    "questions_s_turns": list(map(_short, rates)),
                    "questions_wall_s": _short(statistics.median(walls)),
                    "tokens": _short(statistics.median(batch.tokens for batch in self._batch)),
                    "tokens_large": _short(statistics.median(batch.tokens_large for batch in self._batch)),
                }
            )
            rows += [
                self._against_batch(clients, statistics.median(rates))
                for what, clients in self._loads
                if what == ROUTED
            ]
        return rows

    def _row(self, what: str, clients: int) -> dict:
        loads = self._loads[what, clients]
        row = {
            "what": what,
            "clients": clients,
            "requests": len(loads[0].answers),
            **{name: _short(value) for name, value in self._medians(what, clients).items()},
        }
        ratios = [
            mine.figures()["requests_s"] / plain.figures()["requests_s"]
            for mine, plain in zip(loads, self._loads.get((PLAIN, clients), ()), strict=False)
            if mine.figures() and plain.figures()
        ]
        if ratios and what != PLAIN:
            row |= {"vs_plain": _short(statistics.median(ratios)), "vs_plain_turns": list(map(_short, ratios))}
        turns = [_short(load.figures().get("requests_s", 0.0)) for load in loads]
        return row | {"errors": sum(len(load.errors) for load in loads), "requests_s_turns": turns}

    def _medians(self, what: str, clients: int) -> dict[str, float]:
        """By column: the median over the turns that have it."""
        each = [load.figures() for load in self._loads[what, clients]]
        columns = dict.fromkeys(name for figures in each for name in figures)
        return {name: statistics.median(figures[name] for figures in each if name in figures) for name in columns}

    def _against_batch(self, clients: int, questions_s: float) -> dict:
        figures = self._medians(ROUTED, clients)
        row: dict[str, Any] = {"what": f"{ROUTED}, against the batch run", "clients": clients}
        if not figures:
            return row
        service_s = clients / figures["requests_s"]
        return row | {
            "of_batch": _short(figures["requests_s"] / questions_s),
            "service_s": _short(service_s),
            "p50_by_service": _short(figures["p50_s"] / service_s),
        }


def bench_serve(options: Options, keep: Callable[[list[dict]], None]) -> list[dict]:
    """Measure all. Returns `Results.rows`; `keep` gets them after each figure.

    Raises SettingsError for options that cannot be used, StartFailed for a server that does not start, and RuntimeError
    if a request or the batch run failed.
    """
    options.counts()
    with refusals_as_settings_errors():
        pair = load_pair(options.pair)
        prompts = _prompts()
    results = Results(keep)
    with sigterm_as_interrupt():
        results.add_batch(batch_run(options))
        _measure_servers(options, pair, prompts, results)
        if options.turns > 1:
            results.add_batch(batch_run(options))
    if results.errors:
        raise RuntimeError(f"{results.errors} requests failed: the figures above count the others alone")
    return results.rows()


def _measure_servers(options: Options, pair: PairConfig, prompts: Sequence[list[dict]], results: Results) -> None:
    counted = count()
    with endpoint(_sets(options)) as routed, plain_server(pair.large, PoolConfig()) as plain:
        name = f"steer/{ServeConfig(pair=options.pair).served_name}"
        targets: tuple[tuple[str, str, Server], ...] = (
            (ROUTED, name, routed),
            (LARGE, f"{name}/large", routed),
            (PLAIN, PLAIN_MODEL, plain),
        )
        results.add_idle("endpoint", routed.busy_cores(IDLE_S))
        results.add_idle(PLAIN, plain.busy_cores(IDLE_S))
        for what, model, server in targets:
            with (plain if server is routed else routed).paused():
                warm_up = ask_all(server.url, model, _numbered(prompts, range(WARM_UP_REQUESTS)), WARM_UP_CLIENTS)
            if warm_up.errors:
                raise RuntimeError(f"{what}: {len(warm_up.errors)} requests failed; the first: {warm_up.errors[0]}")
        for _ in range(options.turns):
            for clients in options.counts():
                numbers = [next(counted) for _ in range(options.requests(clients))]
                for what, model, server in targets:
                    with (plain if server is routed else routed).paused():
                        load = ask_all(server.url, model, _numbered(prompts, numbers), clients)
                    results.add(what, clients, load)


def _prompts() -> list[list[dict]]:
    """The messages of each question, as a run asks it."""
    read = load_benchmark(BenchmarkConfig(name=BENCHMARK, split=SPLIT))
    asked = [row.question for row in read.rows if not row.error]
    return [
        [{"role": role, "content": text} for role, text in (("system", q.system), ("user", q.prompt)) if text]
        for q in asked
    ]


def _numbered(prompts: Sequence[list[dict]], numbers: Sequence[int]) -> list[dict]:
    """The body of each request but for its model. Its number is its seed, and picks its question."""
    return [
        {
            "messages": prompts[number % len(prompts)],
            "temperature": TEMPERATURE,
            "seed": number,
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for number in numbers
    ]


def ask_all(url: str, model: str, bodies: Sequence[dict], clients: int) -> Load:
    """Ask everything, by so many clients at a time."""
    return asyncio.run(_ask_all(url, model, bodies, clients))


async def _ask_all(url: str, model: str, bodies: Sequence[dict], clients: int) -> Load:
    left = iter(bodies)
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=REQUEST_S, trust_env=False) as http:

        async def client() -> list[Answer]:
            return [await ask(http, {"model": model, **body}) for body in left]

        before, started = os.times(), time.monotonic()
        each = await asyncio.gather(*(client() for _ in range(clients)))
        seconds, after = time.monotonic() - started, os.times()
    used = after.user + after.system - before.user - before.system
    return Load([answer for mine in each for answer in mine], seconds, used / seconds)


async def ask(http: httpx.AsyncClient, body: dict) -> Answer:
    """One streamed request. A failure of any kind is the answer's `error`."""
    started, first, done = time.monotonic(), None, False
    tokens: int | None = None
    large: int | None = None
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                text = (await response.aread()).decode(errors="replace")
                return Answer(time.monotonic() - started, None, 0, error=f"{response.status_code} {text[:ERROR_CHARS]}")
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or not data:
                    continue
                if data == "[DONE]":
                    done = True
                    break
                event = json.loads(data)
                if "error" in event:
                    return Answer(time.monotonic() - started, first, 0, error=f"in the stream: {data[:ERROR_CHARS]}")
                if first is None and has_text(event):
                    first = time.monotonic() - started
                if event.get("usage"):
                    tokens = event["usage"]["completion_tokens"]
                    large = event["usage"].get("steer", {}).get("large", {}).get("generated")
    except (httpx.HTTPError, ValueError) as failure:
        return Answer(time.monotonic() - started, first, 0, error=f"{type(failure).__name__}: {failure}")
    error = "" if done and tokens is not None else "the stream ended without [DONE] or without usage"
    return Answer(time.monotonic() - started, first, tokens or 0, large, error)


def has_text(event: dict) -> bool:
    """Whether a chunk of a stream carries text of the answer or of its thought."""
    deltas = [choice.get("delta") or {} for choice in event.get("choices") or ()]
    return any(delta.get(key) for delta in deltas for key in ("content", "reasoning_content", "reasoning"))


def batch_run(options: Options) -> Batch:
    """`steer run` on the first questions of the split, as the endpoint routes them. RuntimeError if it fails."""
    sets = [*_sets(options), f"benchmark.split={SPLIT}", f"benchmark.limit={options.questions or BATCH_QUESTIONS}"]
    with tempfile.TemporaryDirectory(prefix="steer-bench-serve-") as folder:
        out = Path(folder, "run")
        command = [sys.executable, "-m", "pipelines.cli", "run", "--out", str(out)]
        for item in sets:
            command += ["--set", item]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"steer run exits with {ended.returncode}:\n{ended.stderr[-ERROR_CHARS:]}")
        traces = pads.dataset(out / "traces", format="parquet").to_table(columns=["tokens_small", "tokens_large"])
        return Batch.of(json.loads((out / "run.json").read_text()), traces)


def _sets(options: Options) -> list[str]:
    """What the configurations of the endpoint and of the batch run have in common, beside the defaults."""
    return [
        f"pair={options.pair}",
        f"benchmark.name={BENCHMARK}",
        f"routing.temperature={TEMPERATURE}",
        f"routing.max_new_tokens={MAX_TOKENS}",
    ]


def _short(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")
