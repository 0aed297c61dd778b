"""The typed configuration of a run.

Invariant: the resolved configuration is written beside the output (`run.json`), so a run can be read and repeated from
its folder.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from steer.config.policy import Measure, PolicyConfig, SteerPolicy
from steer.config.strict import COUNTS, NO_TRUTH_VALUE, Count, Seed, Strict, Text

AHEAD_TOKENS = 64
"""Tokens of a pass ahead, unless `routing.ahead_tokens` says otherwise. On one real pair whole answers were written
ahead and 433 of 441 tokens thrown away, a quarter of what the large model alone costs."""
MAX_LIVE = 100_000
"""Most live traces of a run that sets no `routing.max_live`. It is far above what engines need to be busy, and a group
of a fourth of it has far more scores at every step than its mixture needs."""


_GIVEN_TO_TEMPLATES = ("messages", "add_generation_prompt")

Tag = Annotated[str, Field(pattern=r"^\S+$")]
"""A tag is one word, so that it stands in one line."""


class RoutingOptions(Strict):
    """How traces are routed, whatever the policy."""

    barrier: Literal["strict", "rolling"] = "strict"
    """`strict`: a step ends when every live trace of the group has ended it (Alg. 1). `rolling`: each trace goes on by
    itself."""
    max_steps: Count = 100
    max_new_tokens: Count = 4096
    """Kept tokens of a trace at most. A trace that reaches them ends as `length`."""
    thought_tokens: Count | None = None
    """Kept tokens of a thought at most, of the `max_new_tokens` of its trace. At the end of its budget a thought is
    closed by the closing tag, as text that no model wrote, and the answer follows. None: only `max_new_tokens` bounds
    it. For models that think (`thinks:`)."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.7
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    tries: Count = 3
    """Times that one step is asked for before its trace ends as `error`. (A replica died or failed on it each time.)"""
    pass_tokens: Count | None = 512
    """Tokens after which a pass over several steps comes back, at the end of its step, and is asked to go on. Such a
    pass is that of a model alone or the large model's last one. No more than this is lost with a
    replica or a run, and a drained node is left this soon. None: a pass comes back at its end only."""
    ahead_tokens: Count | None = None
    """The same of steps written ahead (`policy.ahead`): most of them are thrown away where a step is unsure. None:
    64, or `pass_tokens` if that is less."""
    write_on: bool | None = None
    """The model that writes a trace goes on while its finished steps are decided on, and stops only where the other
    model takes over. What it has written past that step is thrown away and charged. Needs `barrier: rolling`. Replaces
    what `policy.ahead` does. Policies that ask for a signal or a peek before each step write step by step all the same.
    None: false."""
    token_scores: bool | None = None
    """Keep the measures of every token in `steps/`, for research: some 17 bytes a token. None: false."""
    groups_in_flight: Count = 4
    """Groups routed at the same time: while one waits at its barrier, the rows of another fill the pools."""
    max_live: Count | None = None
    """Traces of the run that are live at the same time, at most. It bounds the router's memory. A cell's traces are cut
    into as many groups as it takes that `groups_in_flight` of them do not exceed it, at least `benchmark.groups`. None:
    100,000, so that a cell of up to 25,000 traces is cut into `benchmark.groups` as it stands."""

    @property
    def most_ahead(self) -> int:
        """`ahead_tokens`, or what holds without it."""
        return self.ahead_tokens or min(AHEAD_TOKENS, self.pass_tokens or AHEAD_TOKENS)

    @property
    def most_live(self) -> int:
        """`max_live`, or what holds without it."""
        return self.max_live or MAX_LIVE

    @property
    def most_in_group(self) -> int:
        """Most traces of one group."""
        return max(1, self.most_live // self.groups_in_flight)

    @model_validator(mode="after")
    def _room_for_an_answer(self) -> Self:
        if self.thought_tokens is not None and self.thought_tokens >= self.max_new_tokens:
            raise ValueError(
                f"thought_tokens = {self.thought_tokens} leaves no token for the answer: set it below max_new_tokens = "
                f"{self.max_new_tokens}, or raise that"
            )
        return self

    @model_validator(mode="after")
    def _no_barrier_while_writing_on(self) -> Self:
        if self.write_on and self.barrier == "strict":
            raise ValueError("write_on: true needs decisions without a barrier: set routing.barrier to rolling")
        return self


class BenchmarkConfig(Strict):
    """Which questions are asked, and how they are graded."""

    name: Text = "chain_math"
    """`chain_math`, `hops` or `mixed_chain` of the embedded pairs; or `math500`, `omni_math`, `aime`, `acpbench`,
    `musique`, `kor_bench`, `gsm8k` or `svamp`; or any name, together with `source: PATH` and the field names below (own
    data)."""
    source: str | tuple[str, ...] | None = None
    """`embedded`, `hub`, or the path or URL of a json, jsonl, csv or parquet file, of a folder of them, or a pattern
    such as `data/*.jsonl`; or a list of these. None: `hub` for a public benchmark, `embedded` for the others."""
    split: Literal["validation", "test", "all", "train"] = "test"
    """`train` is for `steer train-router`. Only embedded benchmarks have it, and `all` leaves it out."""
    question: Text | None = None
    """Field that holds the question text (own data)."""
    answer: Text | None = None
    """Field that holds the gold answer (own data)."""
    answers: Literal["any", "all"] | None = None
    """What a list of several answers in that field is. `any`: each of them is right. `all`: together they are the
    answer (graders math and exact). None: `all` for grader math, else `any`."""
    id: Text | None = None
    """Field that holds the question id (own data). None: the id is the row's number."""
    grader: Literal["math", "aime", "choice", "qa", "kor", "exact"] | None = None
    """How answers are graded. None: by the benchmark's own grader. Own data must name one."""
    choice_official: bool = False
    """Grade choices as published figures do: by the rule of the ACPBench harness (the last capital A to D anywhere)."""
    prompt: Text = "{question}"
    """Template of the user turn (own data), with `{question}` or any other field of the row, at least one."""
    tokens: Literal["math", "all"] | None = None
    """Which tokens a step's score averages over. None: the benchmark's own choice."""
    difficulties: tuple[Text, ...] | None = None
    """Ask only questions with one of these labels of the benchmark's own difficulty, e.g. `[1, 2, 3]` of math500. They
    are chosen from the split, which stays as it is, and before `limit` is. None: all questions."""
    limit: Count | None = None
    """Number of questions. Embedded benchmarks and own data give their first ones. A public benchmark gives a draw by a
    hash of the ids, since its first ones would all be of one subset."""
    samples: Count = 1
    """Traces sampled for each question."""
    groups: Count = 1
    """K of Table 3: the number of groups into which the traces are cut. Groups are routed independently."""

    @field_validator("difficulties", mode="before")
    @classmethod
    def _labels(cls, value: object) -> object:
        """YAML reads levels as numbers, and a single one needs no list."""
        if value is None:
            return None
        labels = list(value) if isinstance(value, list | tuple) else [value]
        if not labels:
            raise ValueError("the list is empty: name at least one difficulty, or leave the key out")
        return tuple(str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for v in labels)

    @field_validator("source", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        if value is None or (isinstance(value, str) and value):
            return value
        if isinstance(value, list | tuple) and value and all(isinstance(one, str) and one for one in value):
            if {"hub", "embedded"} & set(value):
                raise ValueError("hub and embedded stand alone: list paths and URLs only")
            return tuple(value)
        for one in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(one, str):
                raise PydanticCustomError("not_text", "it must be text", {"held": one})
        raise ValueError("it must be a path, a URL, hub or embedded, or a list of paths and URLs")


class ThoughtTags(Strict):
    """What a model that thinks writes around its thought."""

    open: Tag = "<think>"
    """The prompt ends with this tag. It is added where the chat template does not write it."""
    close: Tag = "</think>"
    """Ends the thought. What follows is the answer, and the answer alone is graded."""


class TokenPrices(Strict):
    """What a model's tokens cost, in US dollars a million (docs/report.md, Money)."""

    input: Annotated[float, Field(ge=0)]
    """A million prompt tokens that the model computes. Those that its prefix cache holds cost nothing."""
    output: Annotated[float, Field(ge=0)]
    """A million generated tokens, discarded ones included."""


class ModelConfig(Strict):
    """One model of a pair."""

    path: str
    """Hub id, local folder, or `embedded:` and `small`, `large`, `prm`, `judge`, `mixed/small` or `mixed/large`."""
    parameters: Annotated[float, Field(gt=0)] | None = None
    """Nominal parameter count N for the FLOPs. None: the checkpoint's true count."""
    system_role: bool = True
    """Whether the model has a system role. False (Gemma): the system text goes to the head of the user turn."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: Annotated[int, Field(ge=16, lt=COUNTS), NO_TRUTH_VALUE] | None = None
    template: dict[str, Any] | None = None
    """Arguments of the chat template, e.g. `{enable_thinking: false}`. One that the template never reads is refused
    when the model loads."""
    thinks: ThoughtTags | None = None
    """The model thinks before it answers, between these tags. `{}` stands for `<think>` and `</think>`. None: all that
    it writes is its answer."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further vLLM engine arguments, e.g. `tensor_parallel_size`, `gpu_memory_utilization`."""
    usd_per_million_tokens: TokenPrices | None = None
    """Price of this model's tokens, e.g. `{input: 0.1, output: 0.4}`. None: this run's tokens have no price."""

    @field_validator("template")
    @classmethod
    def _of_the_template_alone(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in _GIVEN_TO_TEMPLATES:
            if name in (value or {}):
                raise ValueError(f"{name} is what STEER itself gives the chat template: leave it out")
        return value


class PairConfig(Strict):
    """The two models that write, and the models whose signals some policies need."""

    small: ModelConfig
    large: ModelConfig
    prm: ModelConfig | None = None
    """The process reward model that `rsd` needs."""
    judge: ModelConfig | None = None
    """The model that rates drafts for `spec_reason`. None: the large model rates them."""
    judge_prompt: str = (
        "Is the last step of the reasoning above right? Look at its facts and its logic, not at its style. Answer with "
        "one digit, from 0 (certainly wrong) to 9 (certainly right)."
    )
    """What the judge is asked after a draft, as a user turn."""
    probe: str | None = None
    """Folder of the probe that `query_router` needs. `steer train-router` trains it on the small model."""


class PoolConfig(Strict):
    """The replicas of one model, and what each of them gets."""

    replicas: Count = 1
    """Number of replicas. For an elastic pool this is only the default of `min_replicas`."""
    max_replicas: Count | None = None
    """If given, the pool is elastic (docs/loop.md): it starts with `min_replicas`, grows up to this number while the
    backlog is worth another start, and stops replicas that it no longer needs. None: fixed at `replicas`."""
    min_replicas: Annotated[int, Field(ge=0, lt=COUNTS), NO_TRUTH_VALUE] | None = None
    """Replicas that an elastic pool always keeps. With 0 (not for the small model) the first row starts the first
    replica. None: `replicas`."""
    cpus: Annotated[float, Field(ge=0)] = 1
    """CPUs for each replica."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs for each replica. If tensor parallelism is above 1, this must be the same number. Below 1: a part of a card,
    and of its memory (docs/pairs.md)."""
    card_gb: Literal[24, 48, 80] | None = None
    """Memory of each GPU in GB, for which vLLM's arguments are then chosen (docs/pairs.md). None: the card is asked."""
    label: str | None = None
    """Value of the node label `steer-pool` on which replicas are placed. None: anywhere."""
    max_rows: Count = 512
    """Rows in flight at one replica at most."""
    max_num_seqs: Count = 256
    """Sequences that vLLM batches at once."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a replica that has not loaded is given up. Time for packages and for the download of weights
    does not count. At the first start it is also the time that a replica may wait for a node."""
    step_timeout_s: Annotated[float, Field(gt=0)] = 900.0
    """Seconds after which a replica that has not answered a call counts as dead."""
    engine_metrics: bool | None = None
    """Export vLLM's own metrics, too (docs/monitoring.md): queue, cache, latencies. None: no, since vLLM counts them in
    Python at every engine step."""
    usd_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of one GPU for an hour, in US dollars. A replica costs this times `gpus`, from its place on a node until it
    is stopped. None: this pool's GPUs have no price."""

    @property
    def least(self) -> int:
        """Replicas that the pool starts with and never goes below."""
        return self.replicas if self.max_replicas is None or self.min_replicas is None else self.min_replicas

    @property
    def most(self) -> int:
        """Replicas that the pool never exceeds."""
        return self.max_replicas or self.replicas

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_replicas is None:
            if self.min_replicas is not None:
                remedy = "give max_replicas too, or leave min_replicas out"
                raise ValueError(f"min_replicas = {self.min_replicas} of a pool fixed at replicas: {remedy}")
        elif self.least > self.max_replicas:
            name = "replicas (min_replicas is not given)" if self.min_replicas is None else "min_replicas"
            raise ValueError(
                f"{name} = {self.least} is above max_replicas = {self.max_replicas}: set min_replicas to at most that"
            )
        return self


class PoolsConfig(Strict):
    """The pool of each role."""

    small: PoolConfig = PoolConfig()
    large: PoolConfig = PoolConfig()
    prm: PoolConfig = PoolConfig()
    judge: PoolConfig = PoolConfig()
    query: PoolConfig = PoolConfig()
    """`prm`, `judge` and `query` give signals. They are started only for a policy that needs them."""
    routers: Count = 1
    """Router processes. Each has an even share of every pool's replicas, and of the groups. One router is one CPU core:
    give more where its event loop is busy all the time (docs/running.md). Needs as many replicas of each model, and
    groups in flight."""
    measures: tuple[Measure, ...] = ("max_logit", "entropy", "max_prob", "margin")
    """What replicas measure of each step. `[max_logit]` alone runs on vLLM's public API; the others need the confidence
    hook."""

    @model_validator(mode="after")
    def _small_is_there(self) -> Self:
        if self.small.least == 0:
            raise ValueError("small.min_replicas = 0: every trace begins at the small model; set it to 1 or more")
        return self


class RunConfig(Strict):
    """A whole `steer run`."""

    benchmark: BenchmarkConfig = BenchmarkConfig()
    pair: str | PairConfig = "embedded"
    """The name of a known pair, the path of a pair's YAML file, or the models themselves."""
    policy: PolicyConfig = SteerPolicy()
    routing: RoutingOptions = RoutingOptions()
    pools: PoolsConfig = PoolsConfig()
    journal: bool = True
    """Keep the live traces in the run's folder after every round, so that `--resume` continues from there."""
    seed: Seed = 0
    """Run seed. Sampling seeds derive from (seed, question id, sample, step, attempt)."""
