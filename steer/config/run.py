"""The typed configuration of a run: pydantic models, a docstring under each field, unknown keys refused.

The resolved configuration is written beside the output (`run.json`), so a run can be read and repeated from its folder.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steer.config.policy import Measure, PolicyConfig, SteerPolicy
from steer.config.strict import Strict


class RoutingOptions(Strict):
    """The loop around every policy."""

    barrier: Literal["strict", "rolling"] = "strict"
    """strict: a step ends when every live trace of the group has ended it (Alg. 1); rolling: each trace by itself."""
    max_steps: Annotated[int, Field(ge=1)] = 100
    max_new_tokens: Annotated[int, Field(ge=1)] = 4096
    """Kept tokens of a trace at most; the trace then ends as `length`."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.7
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    tries: Annotated[int, Field(ge=1)] = 3
    """Times one step is asked for before its trace ends as `error` (a replica died or failed on it)."""
    pass_tokens: Annotated[int, Field(ge=1)] | None = 512
    """A pass over more than one step (a model alone, the large model's last pass, steps written ahead) comes back at
    the end of the step in which it has written so many tokens, and is asked to go on: no more is lost with a replica or
    a run, and a node that is drained is left so soon. none: only at its end."""
    groups_in_flight: Annotated[int, Field(ge=1)] = 4
    """Groups routed at the same time, so that one group's work fills the pools while another waits at its barrier."""


# --- benchmark, pair, pools -----------------------------------------------------------------------------------------


class BenchmarkConfig(Strict):
    name: str = "chain_math"
    """`chain_math` or `hops` of the embedded pair; `math500`, `omni_math`, `aime`, `acpbench`, `musique` or
    `kor_bench`; or any name with `source: PATH` and the field names below."""
    source: str | None = None
    """`embedded`, `hub`, or the path of a local json, jsonl, csv or parquet file (of a public benchmark: or folder);
    none: `hub` for a public benchmark, `embedded` for the others."""
    split: Literal["validation", "test", "all", "train"] = "test"
    """`train` is for `steer train-router` and of embedded benchmarks alone: `all` does not hold it."""
    question: str | None = None
    """Field that holds the question text (own data)."""
    answer: str | None = None
    """Field that holds the gold answer (own data)."""
    id: str | None = None
    """Field that holds the question id (own data); none: the row's number."""
    grader: Literal["math", "aime", "choice", "qa", "kor", "exact"] | None = None
    """How answers are judged; none: the benchmark's own grader. Own data must name one."""
    choice_official: bool = False
    """Grade choices by the ACPBench harness's own rule (the last capital A to D anywhere), as published figures do."""
    prompt: str = "{question}"
    """Template of the user turn (own data); `{question}` and any other field of the row."""
    tokens: Literal["math", "all"] | None = None
    """Which tokens a step's score averages over; none: the benchmark's own choice."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """So many questions: the first of embedded benchmarks and of own data, of a public benchmark a draw by a hash of
    the ids (its first would be of one subset)."""
    samples: Annotated[int, Field(ge=1)] = 1
    """Traces sampled for each question."""
    groups: Annotated[int, Field(ge=1)] = 1
    """K of Table 3: the traces are cut into so many groups, routed independently."""


class ModelConfig(Strict):
    """One model of a pair."""

    path: str
    """Hub id, local folder, or `embedded:small`, `embedded:large`, `embedded:prm` or `embedded:judge`."""
    parameters: Annotated[float, Field(gt=0)] | None = None
    """Nominal N for the FLOPs; none: the checkpoint's true count."""
    system_role: bool = True
    """False (Gemma): the system text goes to the head of the user turn."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    engine: dict = Field(default_factory=dict)
    """Further vLLM engine arguments, e.g. `tensor_parallel_size`, `gpu_memory_utilization`."""


class PairConfig(Strict):
    small: ModelConfig
    large: ModelConfig
    prm: ModelConfig | None = None
    """Process reward model, which `rsd` needs."""
    judge: ModelConfig | None = None
    """Model that rates drafts for `spec_reason`; none: the large model."""
    judge_prompt: str = (
        "Is the last step of the reasoning above right? Look at its facts and its logic, not at its style. Answer with "
        "one digit, from 0 (certainly wrong) to 9 (certainly right)."
    )
    """What the judge is asked after a draft, as a user turn."""
    probe: str | None = None
    """Folder of a probe that `steer train-router` trained on the small model, which `query_router` needs."""


class PoolConfig(Strict):
    """Replicas of one model."""

    replicas: Annotated[int, Field(ge=1)] = 1
    """Their fixed number; of an elastic pool only what `min_replicas` is when nothing else is said."""
    max_replicas: Annotated[int, Field(ge=1)] | None = None
    """Given: the pool is elastic (docs/loop.md). It starts with `min_replicas`, grows to so many where the backlog is
    worth another start, and lets go what it no longer needs. None: fixed at `replicas`."""
    min_replicas: Annotated[int, Field(ge=0)] | None = None
    """Of an elastic pool; 0 (not for the small model): the first is started for the first row. None: `replicas`."""
    cpus: Annotated[float, Field(ge=0)] = 1
    """CPUs a replica."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs a replica; with tensor parallel above 1 the same number."""
    card_gb: Literal[24, 48, 80] | None = None
    """Memory of each GPU: vLLM's engine arguments are then chosen for it (docs/pairs.md); none: vLLM's own."""
    label: str | None = None
    """Value of the node label `steer-pool` to place replicas on; none: anywhere."""
    max_rows: Annotated[int, Field(ge=1)] = 512
    """Credits: rows in flight at one replica."""
    max_num_seqs: Annotated[int, Field(ge=1)] = 256
    """Sequences vLLM batches at once."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """A replica that has not loaded by then is given up."""
    step_timeout_s: Annotated[float, Field(gt=0)] = 900.0
    """A call that has not answered by then counts as a dead replica."""

    @property
    def least(self) -> int:
        """Replicas that the pool starts with and never goes below."""
        return self.replicas if self.max_replicas is None or self.min_replicas is None else self.min_replicas

    @property
    def most(self) -> int:
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
    small: PoolConfig = PoolConfig()
    large: PoolConfig = PoolConfig()
    prm: PoolConfig = PoolConfig()
    judge: PoolConfig = PoolConfig()
    query: PoolConfig = PoolConfig()
    """Pools of the models that signal; started only for a policy that needs them."""
    measures: tuple[Measure, ...] = ("max_logit", "entropy", "max_prob")
    """`[max_logit]` alone runs on vLLM's public API; the others need the confidence hook."""

    @model_validator(mode="after")
    def _small_is_there(self) -> Self:
        if self.small.least == 0:
            raise ValueError("small.min_replicas = 0: every trace begins at the small model; set it to 1 or more")
        return self


class RunConfig(Strict):
    """A whole `steer run`."""

    benchmark: BenchmarkConfig = BenchmarkConfig()
    pair: str | PairConfig = "embedded"
    """The name of a known pair, the path of a pair YAML, or the two models spelled out."""
    policy: PolicyConfig = SteerPolicy()
    routing: RoutingOptions = RoutingOptions()
    pools: PoolsConfig = PoolsConfig()
    journal: bool = True
    """Keep the live traces in the run's folder after every round, so that `--resume` goes on from there."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Run seed: sampling seeds derive from (seed, question id, sample, step, attempt)."""
