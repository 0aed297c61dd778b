"""One engine of vLLM's pooling runner in one process: rewards of drafts, or whether the small model solves a question.

`PoolingReplica` serves `Op.SOLVE` where the model's `engine:` entry names a probe (`actors.roles.PROBE_KEY`), else
`Op.REWARD`. Prefixes, batches and answers are those of `actors/engine/replica.py`; nothing is generated.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from actors.engine.arguments import hf_config, pooling_arguments
from actors.engine.checkpoint import model_fingerprint
from actors.engine.in_flight import Answer, InFlightBatch
from actors.engine.loop import EngineLoop, EngineRow
from actors.engine.prefixes import Prefix, Prefixes
from actors.engine.requests import Intake, pooling_params
from actors.engine.rewards import RewardPrefixes, layout_of
from actors.engine.thread import EngineThread, prepare_process
from actors.engine.tokenizer import Tokenizer
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import EngineInfo, Op, Prompt
from steer.policies.probe import PROBE_KEY, check_fits, load_probe
from steer.traces import Finish

STATES = ("embed", False)
"""vLLM's task that gives the state at a prompt's last token, and whether it is normalised."""
REWARDS = ("token_classify", True)
"""The task that gives label scores at every token, and whether they are made probabilities."""


class PoolingReplica(EngineThread):
    """`measures` are not its business: it has none."""

    def _load(self) -> tuple["Pooler", EngineInfo]:
        prepare_process(self._pool)
        folder = self._model.engine.get(PROBE_KEY)
        pooler, tokenizer, max_model_len = self._load_rewards() if folder is None else self._load_probed(Path(folder))
        return pooler, self._info(tokenizer.fingerprint(), max_model_len, ())

    def _load_rewards(self) -> tuple["Pooler", Tokenizer, int]:
        layout = layout_of(hf_config(self._model).architectures or (), self._model.path)
        engine, tokenizer, max_model_len = load_pooling(self._model, self._pool, rewards=True)
        prefixes = RewardPrefixes(tokenizer, layout, self._model.path)

        def right(scores_TL: np.ndarray) -> float:
            """Of the positions that the cache did not serve, the last among them."""
            return float(scores_TL[-1, layout.label])

        return Pooler(engine, prefixes, max_model_len, Op.REWARD, REWARDS, right), tokenizer, max_model_len

    def _load_probed(self, folder: Path) -> tuple["Pooler", Tokenizer, int]:
        probe = load_probe(folder)
        hidden_size = hf_config(self._model).get_text_config().hidden_size
        check_fits(probe, folder, hidden_size, model_fingerprint(self._model.path))
        engine, tokenizer, max_model_len = load_pooling(self._model, self._pool, rewards=False)

        def solves(state_H: np.ndarray) -> float:
            return float(probe.solves(state_H[None])[0])

        return Pooler(engine, Prefixes(tokenizer), max_model_len, Op.SOLVE, STATES, solves), tokenizer, max_model_len


def load_pooling(model: ModelConfig, pool: PoolConfig, rewards: bool) -> tuple:
    """The `vllm.LLMEngine`, its tokenizer and its context in tokens."""
    import vllm

    engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**pooling_arguments(model, pool, rewards)))
    return engine, Tokenizer.of_engine(engine, model.system_role), engine.model_config.max_model_len


class Pooler(EngineLoop):
    """Drives a `vllm.LLMEngine` of the pooling runner. `op`: what it is asked; `task`: how vLLM calls that; `signal`:
    from vLLM's output, float32, to the answer."""

    def __init__(
        self,
        engine,
        prefixes: Prefixes,
        max_model_len: int,
        op: Op,
        task: tuple[str, bool],
        signal: Callable[[np.ndarray], float],
    ):
        super().__init__(engine, Intake(engine), prefixes, max_model_len)
        self._op = op
        self._task = task
        self._signal = signal

    def _open(self, in_flight: InFlightBatch, index: int, prefix: Prefix) -> Answer | None:
        row = EngineRow(in_flight, index, prefix)
        if row.op != self._op:
            error = f"this replica answers {self._op.name} alone, not {row.op.name}"
            return Answer(index, Finish.ERROR, error=error)
        if row.op == Op.REWARD and len(prefix.ends) < 2:
            return Answer(index, Finish.ERROR, error="there is no step to reward: the prefix is the prompt alone")
        ids = prefix.ids[: prefix.ends[0]] if row.op == Op.SOLVE else prefix.ids
        if len(ids) > self._max_model_len:
            return Answer(index, Finish.STEP)  # without a signal
        return self._send(row, ids.tolist(), pooling_params(*self._task))

    def _close(self, row: EngineRow, output) -> Answer | None:
        if output.error is not None or not output.outputs.data.numel():
            return Answer(row.index, Finish.ERROR, error=f"vLLM ended the request: {output.error or 'no output'}")
        return Answer(
            row.index,
            Finish.STEP,
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            signal=self._signal(output.outputs.data.float().numpy()),
        )


def prompt_states(model: ModelConfig, pool: PoolConfig, prompts: Sequence[Prompt]) -> np.ndarray:
    """float32 [n, hidden]: the model's state after its final norm at the last token of each prompt, chat template and
    generation prompt included. NaN where a prompt is longer than the model's context.

    The engine runs in a process of its own, which is gone on return, with all its memory: vLLM keeps part of its state
    in globals, and a shutdown would end every other engine of this process. ValueError if a prompt cannot be encoded;
    RuntimeError (BrokenProcessPool) if that process dies.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_read_states, model, pool, list(prompts)).result()


def _read_states(model: ModelConfig, pool: PoolConfig, prompts: list[Prompt]) -> np.ndarray:
    prepare_process(pool)
    engine, tokenizer, max_model_len = load_pooling(model, pool, rewards=False)
    intake = Intake(engine)
    states_NH = np.full((len(prompts), engine.model_config.get_hidden_size()), np.nan, np.float32)
    for n, prompt in enumerate(prompts):
        ids = tokenizer.encode_prompt(prompt)
        if len(ids) <= max_model_len:
            intake.add(str(n), ids, pooling_params(*STATES))
    while engine.has_unfinished_requests():
        for output in engine.step():
            states_NH[int(output.request_id)] = output.outputs.data.float().numpy()
    return states_NH
