"""`steer bench overhead`: what routing costs against plain vLLM, in one pass and step by step.

Every setting answers the same questions with the same temperature and the same number of new tokens at most. Plain vLLM
runs as it is by default and with a replica's settings, each with and without a seed for every request. Turns alternate:
A B C A B C ... On a CPU a model's plain engines stay beside the router's, so that the turns of both alternate, too. On
GPUs the plain engines run first and alone, each with the part of a card that a replica gets later.

Each result is printed and kept at once, so that a run that is cut off leaves what it has measured.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from actors.router.router import Job
from pipelines.bench.plain_engine import WAYS, plain_engines
from pipelines.run.session import Session, cluster, session
from steer.benchmarks import load_benchmark
from steer.benchmarks.files import data_files
from steer.benchmarks.records import read_records
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.policy import LargePolicy, PolicyConfig, RandomStepPolicy, SmallPolicy, SteerPolicy
from steer.config.run import BenchmarkConfig, PairConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.messages import Prompt
from steer.storage.questions import question_table
from steer.traces import PAIR, Question, Role, Status

Engines = dict[str, ActorHandle]
"""Plain engines by way."""
COUNTS = ("tokens_small", "tokens_large", "tokens_discarded")
"""Columns of a routed table that are summed."""
FIELDS = ("question", "problem", "prompt")
"""Fields of a file that hold what is asked; the first that its first row has."""
WARM_UP_QUESTIONS = 32
WARM_UP_TOKENS = 64
"""Questions and new tokens of each that are asked of every engine and setting before anything is measured, so that what
is compiled at first use is compiled."""


@dataclass(frozen=True)
class Options:
    """What `steer bench overhead` is asked to measure."""

    pair: str = "embedded"
    data: str | None = None
    """Files of questions. None: the validation questions of `chain_math`."""
    benchmark: str | None = None
    """The benchmark whose files `data` are, by whose prompt the questions are asked. None: `field` alone is asked."""
    field: str | None = None
    gpus: int = 0
    """Cards that both models share. 0: the CPU."""
    questions: int = 200
    max_new_tokens: int = 256
    turns: int = 4
    settings: Sequence[str] = ()
    """Parts of the names of the settings to measure. Empty: all. Plain vLLM is measured for the models they need."""

    def chosen(self) -> list["Setting"]:
        """The settings to measure. ValueError, with the names that there are, if a part is in none of them."""
        unknown = [part for part in self.settings if not any(part in setting.name for setting in SETTINGS)]
        if unknown:
            names = "; ".join(setting.name for setting in SETTINGS)
            raise ValueError(f"--settings: no setting is named like {unknown[0]!r}: there are {names}")
        parts = self.settings or ("",)
        return [setting for setting in SETTINGS if any(part in setting.name for part in parts)]


@dataclass(frozen=True)
class Setting:
    """One way through the router."""

    name: str
    policy: PolicyConfig
    against: Role
    """The model whose plain pass the setting is compared with."""
    routing: dict[str, Any] = field(default_factory=dict)


STRICT: dict[str, Any] = {"barrier": "strict"}
WRITE_ON: dict[str, Any] = {"barrier": "rolling", "write_on": True}
SETTINGS = (
    Setting("small, one pass", SmallPolicy(), Role.SMALL),
    Setting("small, step by step, strict", RandomStepPolicy(p=0.0), Role.SMALL, STRICT),
    Setting("small, step by step, write-on", RandomStepPolicy(p=0.0), Role.SMALL, WRITE_ON),
    Setting("large, one pass", LargePolicy(), Role.LARGE),
    Setting("large, step by step, strict", RandomStepPolicy(p=1.0), Role.LARGE, STRICT),
    Setting("large, step by step, write-on", RandomStepPolicy(p=1.0), Role.LARGE, WRITE_ON),
    Setting("random_step p .3, strict", RandomStepPolicy(p=0.3), Role.LARGE, STRICT),
    Setting("random_step p .3, write-on", RandomStepPolicy(p=0.3), Role.LARGE, WRITE_ON),
    Setting("steer stepwise, strict", SteerPolicy(preset="stepwise"), Role.LARGE, STRICT),
    Setting("steer stepwise, write-on", SteerPolicy(preset="stepwise", fit_from="bank"), Role.LARGE, WRITE_ON),
    Setting("steer default, strict", SteerPolicy(), Role.LARGE, STRICT),
    Setting("steer default, write-on", SteerPolicy(), Role.LARGE, WRITE_ON),
)
PLAIN = tuple((way, seeded) for way in WAYS for seeded in (False, True))
"""Plain vLLM's ways to start, each without and with a seed for every request."""


@dataclass(frozen=True)
class Result:
    """One turn of one setting."""

    tokens: int
    """All that were written."""
    seconds: float
    discarded: int = 0
    large: int = 0
    """Tokens that the large model wrote."""
    errors: int = 0
    """Questions without an answer: their prompts fill the context, or something failed."""
    idle: dict[str, float] = field(default_factory=dict)

    @property
    def us_per_token(self) -> float:
        """Microseconds a token that is in an answer."""
        return 1e6 * self.seconds / max(self.tokens - self.discarded, 1)


def plain_name(role: Role, way: str, seeded: bool) -> str:
    settings = "as by default" if way == "default" else "with a replica's settings"
    return f"plain {role.label}, {settings}, {'a seed a request' if seeded else 'no seeds'}"


class Results:
    """The results so far, by setting and turn. Each is printed as it comes, and all are kept."""

    def __init__(self, questions: int, keep: Callable[[list[dict]], None]):
        self._questions = questions
        self._keep = keep
        self._taken: dict[str, dict[int, Result]] = {}
        self._against: dict[str, Role] = {}
        self._failed: dict[str, str] = {}

    def add(self, name: str, against: Role, turn: int, result: Result) -> None:
        self._taken.setdefault(name, {})[turn] = result
        self._against[name] = against
        took = f"{result.seconds:.2f} s, {result.tokens} tokens, {result.us_per_token:.1f} us a token"
        ratios = ", ".join(f"{key} {values[turn]:.2f}" for key, values in self._ratios(name).items() if turn in values)
        print(f"turn {turn + 1}  {name}: {took}" + (f", {ratios}" if ratios else ""), flush=True)
        self._keep(self.rows())

    def fail(self, name: str, failure: Exception) -> None:
        self._failed[name] = f"{type(failure).__name__}: {failure}"
        print(f"{name} failed: {self._failed[name]}", flush=True)
        self._keep(self.rows())

    def rows(self) -> list[dict]:
        """A row a setting: medians over its turns, and the single turns' seconds and ratios."""
        rows = []
        for name, turns in self._taken.items():
            taken = list(turns.values())
            row: dict[str, Any] = {
                "what": name,
                "questions": self._questions,
                "us_per_token": _median([one.us_per_token for one in taken], 1),
                "seconds": _median([one.seconds for one in taken], 2),
                "tokens": round(statistics.median(one.tokens for one in taken)),
            }
            for key, ratios in self._ratios(name).items():
                row |= {key: _median(list(ratios.values()), 2), f"{key}_turns": _rounded(ratios.values())}
            if not name.startswith("plain"):
                row["discarded"] = _median([one.discarded / max(one.tokens, 1) for one in taken], 3)
                row["large_tokens"] = _median([one.large / max(one.tokens, 1) for one in taken], 2)
                row |= {key: _median([one.idle[key] for one in taken], 3) for key in taken[0].idle}
            row["errors"] = sum(one.errors for one in taken)
            rows.append(row | {"seconds_turns": _rounded(one.seconds for one in taken)})
        return rows + [{"what": name, "failed": reason} for name, reason in self._failed.items()]

    def _ratios(self, name: str) -> dict[str, dict[int, float]]:
        """Microseconds a token by those of plain vLLM in the same turn: as it is by default, and with a replica's
        settings and seeds."""
        role = self._against[name]
        measures = {"vs_default": plain_name(role, "default", False), "vs_replica": plain_name(role, "replica", True)}
        found = {}
        for key, plain in measures.items():
            there = self._taken.get(plain, {})
            turns = {n: one for n, one in self._taken[name].items() if n in there}
            if turns:
                found[key] = {n: one.us_per_token / there[n].us_per_token for n, one in turns.items()}
        return found


def bench_overhead(options: Options, keep: Callable[[list[dict]], None]) -> list[dict]:
    """Measure plain vLLM and every setting. Returns `Results.rows`; `keep` gets them after each result.

    Raises SettingsError for a pair or data that cannot be read.
    """
    with refusals_as_settings_errors():
        options.chosen()
        pair = load_pair(options.pair)
        questions = questions_of(options)
    bench = Overhead(options, pair, questions, keep)
    with cluster(engines=len(PAIR) if options.gpus else len(PAIR) + len(WAYS)):
        if options.gpus:
            _require_gpus(options.gpus)
            bench.one_after_another()
        else:
            bench.side_by_side()
    return bench.results.rows()


class Overhead:
    """One call of the benchmark."""

    def __init__(
        self, options: Options, pair: PairConfig, questions: Sequence[Question], keep: Callable[[list[dict]], None]
    ) -> None:
        self.results = Results(len(questions), keep)
        self._options = options
        self._settings = options.chosen()
        self._roles = [role for role in PAIR if any(setting.against == role for setting in self._settings)]
        self._pair = pair
        self._prompts = [Prompt(question.prompt, question.system) for question in questions]
        self._table = question_table(questions)
        self._pool = PoolConfig(gpus=share(options.gpus))
        self._pools = PoolsConfig(small=self._pool, large=self._pool)

    def one_after_another(self) -> None:
        """First each model's plain engines alone, then the router's: on GPUs each has its part of the memory."""
        for role in self._roles:
            with self._plain(role) as engines:
                for turn in range(self._options.turns):
                    self._measure_plain(engines, role, turn)
        with self._routed() as opened:
            for turn in range(self._options.turns):
                for setting in self._settings:
                    self._measure(opened, setting, turn)

    def side_by_side(self) -> None:
        """Each turn of a model's plain engines, then of all that is compared with them."""
        with self._routed() as opened:
            for role in self._roles:
                with self._plain(role) as engines:
                    for turn in range(self._options.turns):
                        self._measure_plain(engines, role, turn)
                        for setting in self._settings:
                            if setting.against == role:
                                self._measure(opened, setting, turn)

    @contextmanager
    def _plain(self, role: Role) -> Iterator[Engines]:
        """A model's plain engines, warmed up."""
        with plain_engines(getattr(self._pair, role.label), self._pool) as engines:
            for way, engine in list(engines.items()):
                try:
                    few = self._prompts[:WARM_UP_QUESTIONS]
                    ray.get(engine.generate.remote(few, self._routing({}, WARM_UP_TOKENS), True))
                except ray.exceptions.RayError as failure:
                    self.results.fail(f"plain {role.label}, way {way}", failure)
                    del engines[way]
            yield engines

    @contextmanager
    def _routed(self) -> Iterator[Session]:
        """The router and its engines, warmed up."""
        with session(self._pair, self._pools) as opened:
            for setting in self._settings:
                with self._failing(setting.name):
                    self._route(opened, setting, "warm-up", 0, self._table[:WARM_UP_QUESTIONS], WARM_UP_TOKENS)
            yield opened

    def _measure_plain(self, engines: Engines, role: Role, turn: int) -> None:
        for way, seeded in PLAIN:
            name = plain_name(role, way, seeded)
            if way in engines:
                with self._failing(name):
                    answered = engines[way].generate.remote(self._prompts, self._routing({}), seeded)
                    tokens, seconds, left_out = ray.get(answered)
                    self.results.add(name, role, turn, Result(tokens, seconds, errors=left_out))

    def _measure(self, opened: Session, setting: Setting, turn: int) -> None:
        with self._failing(setting.name):
            result = self._route(opened, setting, str(turn), turn, self._table)
            self.results.add(setting.name, setting.against, turn, result)

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """Note that a setting failed, and go on with the next one."""
        try:
            yield
        except ray.exceptions.RayError as failure:
            self.results.fail(name, failure)

    def _route(
        self, opened: Session, setting: Setting, name: str, seed: int, table: pa.Table, most_tokens: int | None = None
    ) -> Result:
        """Route one group and measure it."""
        group = f"{setting.name}, {name}"
        job = Job(group, group, setting.policy, self._routing(setting.routing, most_tokens), "math", seed)
        before, started = opened.stats(), time.monotonic()
        stream = opened.router.route.options(num_returns="streaming").remote(table, job)
        ended = pa.concat_tables([ray.get(ref).select([*COUNTS, "status"]) for ref in stream])
        seconds = time.monotonic() - started
        after = opened.stats()
        idle = {}
        for role in PAIR:
            waiting_s = after.outstanding_s[role] - before.outstanding_s[role]
            busy_s = after.busy_s[role] - before.busy_s[role]
            idle[f"{role.label}_idle_with_work"] = max(waiting_s - busy_s, 0.0) / seconds
            idle[f"{role.label}_without_work"] = max(1 - waiting_s / seconds, 0.0)
        small, large, discarded = (sum(ended[column].to_pylist()) for column in COUNTS)
        errors = ended["status"].to_pylist().count(Status.ERROR)
        return Result(small + large, seconds, discarded, large, errors, idle)

    def _routing(self, keys: dict[str, Any], most_tokens: int | None = None) -> RoutingOptions:
        asked = self._options.max_new_tokens
        return RoutingOptions(max_new_tokens=min(asked, most_tokens or asked), **keys)


def _require_gpus(gpus: int) -> None:
    there = ray.cluster_resources().get("GPU", 0)
    if there < gpus:
        raise SettingsError(f"--gpus {gpus}: Ray sees {there:g} GPUs here; leave --gpus out to measure on the CPU")


def share(gpus: int) -> float:
    """The part of a card, or the whole cards, that each of two engines gets of `gpus` cards."""
    return gpus / 2 if gpus < 2 else gpus // 2


def questions_of(options: Options) -> list[Question]:
    """The questions as the models are asked them. ValueError, with the remedy, if there are none."""
    if options.data is not None and options.benchmark is None:
        texts = _field_of_files(options.data, options.field, options.questions)
        return [Question(str(i), 0, "bench", text, "", "exact") for i, text in enumerate(texts)]
    if options.benchmark is not None:
        config = BenchmarkConfig(name=options.benchmark, source=options.data, split="all", limit=options.questions)
    else:
        config = BenchmarkConfig(name="chain_math", split="validation", limit=options.questions)
    read = load_benchmark(config)
    found = [row.question for row in read.rows if not row.error]
    if not found:
        raise ValueError(f"benchmark {read.name}: no row can be asked; the first: {read.rows[0].error}")
    return found


def _field_of_files(data: str, name: str | None, count: int) -> list[str]:
    """The texts of one field of the first `count` rows that have it."""
    found: list[str] = []
    for file in data_files((data,)):
        for record in read_records(file):
            if name is None:
                name = next((one for one in FIELDS if one in record.values), None)
                if name is None:
                    there = ", ".join(sorted(record.values)) or record.error
                    lacks = f"{file} row {record.number} has no field {' or '.join(FIELDS)}"
                    raise ValueError(f"{lacks} (there are {there}): name it with --field")
            text = record.values.get(name)
            if isinstance(text, str) and text.strip():
                found.append(text)
            if len(found) == count:
                return found
    if not found:
        raise ValueError(f"--data {data} has no text in field {name!r}: name another one with --field")
    return found


def _median(values: Sequence[float], digits: int) -> float:
    return round(statistics.median(values), digits)


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 2) for value in values]
