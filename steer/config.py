"""The typed configuration of a run: pydantic models, a docstring under each field, unknown keys refused.

The resolved configuration is written beside the output (`run.json`), so a run can be read and repeated from its folder.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Measure = Literal["max_logit", "entropy", "max_prob"]
Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# --- policies: one model a policy, told apart by `name` -------------------------------------------------------------


class SmallPolicy(Strict):
    name: Literal["small"] = "small"
    """The small model alone, in one pass."""


class LargePolicy(Strict):
    name: Literal["large"] = "large"
    """The large model alone, in one pass."""


class RandomStepPolicy(Strict):
    name: Literal["random_step"] = "random_step"
    p: Unit = 0.5
    """Probability that a step is written by the large model."""


class RandomQueryPolicy(Strict):
    name: Literal["random_query"] = "random_query"
    p: Unit = 0.5
    """Probability that a whole question goes to the large model."""


class Scored(Strict):
    """What policies that route by a step's confidence share."""

    measure: Measure = "max_prob"
    """Which confidence measure routes (method.md, Confidence)."""
    scored_by: Literal["small", "producer"] = "small"
    """Who scores a step: the small model always, or the model that wrote it."""
    refine: bool = True
    """First-step refinement: an unsure draft of step 0 is discarded and rewritten by the large model."""


class MixtureOptions(Scored):
    """How the mixture is fitted and read."""

    scope: Literal["pooled", "per_model"] = "pooled"
    """One mixture over all live traces, or one for each generating model."""
    fit_from: Literal["live", "bank", "frozen"] = "live"
    """Scores the mixture is fitted on: the live traces, the run's bank of recent scores, or a saved file."""
    frozen_path: Path | None = None
    """Mixture parameters saved by an earlier run (its `mixtures/` folder); needed by `fit_from: frozen`."""
    monotone: bool = True
    """Clamp the posterior so that more confidence never means a lower posterior; false is Eq. 9 to the letter."""
    min_fit: Annotated[int, Field(ge=2)] = 8
    """Fewer ongoing traces than this: fit on all that have answered."""

    @model_validator(mode="after")
    def _frozen_needs_path(self):
        if self.fit_from == "frozen" and self.frozen_path is None:
            raise ValueError("fit_from: frozen needs frozen_path: the mixtures/ folder of an earlier run")
        return self


class SteerPolicy(MixtureOptions):
    name: Literal["steer"] = "steer"
    gamma: Unit = 0.5
    """A step goes to the large model where the posterior of the confident component is below gamma."""
    preset: Literal["none", "paper"] = "none"
    """`paper` is Algorithm 1 to the letter: max_logit, producer, pooled, live, literal posterior, refinement. It
    overrides those keys."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data):
        if isinstance(data, dict) and data.get("preset") == "paper":
            paper = dict(
                measure="max_logit", scored_by="producer", scope="pooled", fit_from="live", monotone=False, refine=True
            )
            clash = sorted(k for k, v in paper.items() if k in data and data[k] != v)
            if clash:
                raise ValueError(f"preset: paper fixes {', '.join(clash)}: remove them or the preset")
            return {**data, **paper}
        return data


class PercentilePolicy(Scored):
    name: Literal["percentile"] = "percentile"
    percent: Annotated[float, Field(ge=0.0, le=100.0)] = 50.0
    """The lowest `percent` of the live traces at each step go to the large model."""


class FirstTokenEntropyPolicy(Strict):
    name: Literal["first_token_entropy"] = "first_token_entropy"
    tau: Annotated[float, Field(ge=0.0)] = 0.5
    """The large model takes the step when the small model's first-token entropy (nats) is above tau."""


class RsdPolicy(Strict):
    """Reward-guided speculation (arXiv 2501.19324): every step is drafted, and rewritten where its reward is low."""

    name: Literal["rsd"] = "rsd"
    threshold: Unit = 0.7
    """A draft stays where the process reward model gives it at least this probability."""


class SpecReasonPolicy(Strict):
    """Speculative reasoning (arXiv 2504.07891): every step is drafted, and rewritten where the judge rates it low."""

    name: Literal["spec_reason"] = "spec_reason"
    threshold: Annotated[float, Field(ge=0.0, le=9.0)] = 7.0
    """A draft stays where the judge rates it at least so, of 0 to 9."""
    read: Literal["expectation", "greedy"] = "expectation"
    """The rating: the expectation over the ten digits, or the likeliest one."""


class QueryRouterPolicy(Strict):
    """Routing of whole questions by the small model's own prompt states (arXiv 2410.04707)."""

    name: Literal["query_router"] = "query_router"
    threshold: Unit = 0.5
    """The small model gets a question that the probe gives at least this probability of being solved by it."""


PolicyConfig = Annotated[
    SmallPolicy
    | LargePolicy
    | RandomStepPolicy
    | RandomQueryPolicy
    | SteerPolicy
    | PercentilePolicy
    | FirstTokenEntropyPolicy
    | RsdPolicy
    | SpecReasonPolicy
    | QueryRouterPolicy,
    Field(discriminator="name"),
]


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


class PoolsConfig(Strict):
    small: PoolConfig = PoolConfig()
    large: PoolConfig = PoolConfig()
    prm: PoolConfig = PoolConfig()
    judge: PoolConfig = PoolConfig()
    query: PoolConfig = PoolConfig()
    """Pools of the models that signal; started only for a policy that needs them."""
    measures: tuple[Measure, ...] = ("max_logit", "entropy", "max_prob")
    """`[max_logit]` alone runs on vLLM's public API; the others need the confidence hook."""


class RunConfig(Strict):
    """A whole `steer run`."""

    benchmark: BenchmarkConfig = BenchmarkConfig()
    pair: str | PairConfig = "embedded"
    """The name of a known pair, the path of a pair YAML, or the two models spelled out."""
    policy: PolicyConfig = SteerPolicy()
    routing: RoutingOptions = RoutingOptions()
    pools: PoolsConfig = PoolsConfig()
    seed: int = 0
    """Run seed: sampling seeds derive from (seed, question id, sample, step, attempt)."""
