"""`steer bench overhead`: cost of routing step by step against one pass, and idle time of pools that have work."""

import statistics
import time

import pyarrow as pa
import ray

from actors.router.router import Job
from pipelines.bench.router import made_up_questions
from pipelines.run.session import Session, cluster, session
from steer.config.pairs import load_pair
from steer.config.policy import PolicyConfig, RandomStepPolicy, SteerPolicy
from steer.config.run import ModelConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.embedded.tasks import questions
from steer.traces import PAIR

QUESTIONS = 200
TURNS = 4
MAX_NEW_TOKENS = 256


class PlainEngine:
    """vLLM's own `LLM.chat`, which writes whole answers: no steps, no scores, no router."""

    def __init__(self, model: ModelConfig, pool: PoolConfig):
        from actors.engine.arguments import engine_arguments, set_environment

        set_environment(pool.gpus)
        import vllm

        arguments = engine_arguments(model, pool, ("max_logit",))
        arguments["logprobs_mode"] = "raw_logprobs"
        self._llm = vllm.LLM(**arguments)
        self._sampling = vllm.SamplingParams

    def generate(self, prompts: list[str]) -> tuple[int, float]:
        """(generated tokens, seconds)."""
        sampling = [
            self._sampling(temperature=0.7, max_tokens=MAX_NEW_TOKENS, seed=i, detokenize=True)
            for i in range(len(prompts))
        ]
        started = time.monotonic()
        outputs = self._llm.chat([[{"role": "user", "content": p}] for p in prompts], sampling, use_tqdm=False)
        return sum(len(o.outputs[0].token_ids) for o in outputs), time.monotonic() - started


def bench_overhead() -> list[dict]:
    """A row `step_by_step`, and a row for each pool with its idle share in a routed run.

    `ratio` is the median, over turns A B A B ..., of microseconds a token, routed over plain. The small model answers
    the same questions both ways, at the same temperature. A pool is idle with work while rows are submitted to it and
    its engine has none.
    """
    pair, pools = load_pair("embedded"), PoolsConfig()
    prompts = [task.question for task in questions("chain_math", "validation", QUESTIONS)]
    with cluster(), session(pair, pools) as opened:
        plain = ray.remote(PlainEngine).options(num_cpus=1).remote(pair.small, pools.small)
        table = made_up_questions(prompts, "math")
        _routed(opened, table, RandomStepPolicy(p=0.0), -1)
        ray.get(plain.generate.remote(prompts))
        routed, passes = [], []
        for turn in range(TURNS):
            tokens, seconds = _routed(opened, table, RandomStepPolicy(p=0.0), turn)
            routed.append(1e6 * seconds / tokens)
            tokens, seconds = ray.get(plain.generate.remote(prompts))
            passes.append(1e6 * seconds / tokens)
        ray.kill(plain)
        rows = [
            {
                "what": "step_by_step",
                "router_us_per_token": round(statistics.median(routed), 1),
                "one_pass_us_per_token": round(statistics.median(passes), 1),
                "ratio": round(statistics.median(a / b for a, b in zip(routed, passes, strict=True)), 2),
                "turns": TURNS,
            }
        ]
        return rows + _idle(opened, table)


def _idle(opened: Session, table: pa.Table) -> list[dict]:
    before, started = opened.stats(), time.monotonic()
    _routed(opened, table, SteerPolicy(preset="stepwise"), TURNS)
    wall_s, after = time.monotonic() - started, opened.stats()
    rows = []
    for role in PAIR:
        waiting_s = after.outstanding_s[role] - before.outstanding_s[role]
        busy_s = after.busy_s[role] - before.busy_s[role]
        rows.append(
            {
                "what": f"idle_{role.label}",
                "share_of_wall_idle_with_work": round(max(waiting_s - busy_s, 0.0) / wall_s, 3),
                "share_of_wall_without_work": round(1 - waiting_s / wall_s, 3),
                "wall_s": round(wall_s, 2),
            }
        )
    return rows


def _routed(opened: Session, table: pa.Table, policy: PolicyConfig, turn: int) -> tuple[int, float]:
    """Route one group. Returns (generated tokens, seconds)."""
    job = Job("bench", f"{policy.name}-{turn}", policy, RoutingOptions(max_new_tokens=MAX_NEW_TOKENS), "math", turn)
    started = time.monotonic()
    stream = opened.router.route.options(num_returns="streaming").remote(table, job)
    tables = [ray.get(ref) for ref in stream]
    seconds = time.monotonic() - started
    return sum(sum(t[name].to_pylist()) for t in tables for name in ("tokens_small", "tokens_large")), seconds
