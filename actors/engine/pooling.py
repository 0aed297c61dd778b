"""One engine of vLLM's pooling runner in one process. It generates nothing: it reads rewards or prompt states.

`PoolingReplica` answers `Op.SOLVE` if the model's `engine:` entry names a probe (`steer.policies.probe.PROBE_KEY`).
Otherwise it answers `Op.REWARD`. `prompt_states` reads the states that `steer train-router` trains a probe on, the same
states that `Op.SOLVE` reads.
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
from actors.engine.thread import EngineThread, prepare_process, started_engine
from actors.engine.tokenizer import Tokenizer
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import EngineInfo, Op, Prompt
from steer.policies.probe import PROBE_KEY, check_fits, load_probe
from steer.traces import Finish

STATE_TASK = ("embed", False)
"""vLLM's task that returns the state at the last token, and its `use_activation`: the state is not normalised."""
REWARD_TASK = ("token_classify", True)
"""vLLM's task that scores each label at every token, and its `use_activation`: the scores are probabilities."""


class PoolingReplica(EngineThread):
    """`measures` play no part: a pooling replica has none."""

    def _load(self) -> tuple["Pooler", EngineInfo]:
        prepare_process(self._pool)
        folder = self._model.engine.get(PROBE_KEY)
        pooler, tokenizer, max_model_len = self._load_rewards() if folder is None else self._load_probe(Path(folder))
        return pooler, self._info(tokenizer.fingerprint(), max_model_len, ())

    def _load_rewards(self) -> tuple["Pooler", Tokenizer, int]:
        layout = layout_of(hf_config(self._model).architectures or (), self._model.path)
        engine, tokenizer, max_model_len = load_pooling(self._model, self._pool, rewards=True)
        prefixes = RewardPrefixes(tokenizer, layout, self._model.path)

        def reward(scores_TL: np.ndarray) -> float:
            """From the scores at the T positions that the prefix cache did not hold; the last token is among them."""
            return float(scores_TL[-1, layout.label])

        return Pooler(engine, prefixes, max_model_len, Op.REWARD, REWARD_TASK, reward), tokenizer, max_model_len

    def _load_probe(self, folder: Path) -> tuple["Pooler", Tokenizer, int]:
        probe = load_probe(folder)
        hidden_size = hf_config(self._model).get_text_config().hidden_size
        check_fits(probe, folder, hidden_size, model_fingerprint(self._model.path))
        engine, tokenizer, max_model_len = load_pooling(self._model, self._pool, rewards=False)

        def solves(state_H: np.ndarray) -> float:
            return float(probe.solves(state_H[None])[0])

        prefixes = Prefixes(tokenizer)
        return Pooler(engine, prefixes, max_model_len, Op.SOLVE, STATE_TASK, solves), tokenizer, max_model_len


class Pooler(EngineLoop):
    """The loop around a `vllm.LLMEngine` of the pooling runner. It answers rows of one kind."""

    def __init__(
        self,
        engine,
        prefixes: Prefixes,
        max_model_len: int,
        op: Op,
        task: tuple[str, bool],
        signal: Callable[[np.ndarray], float],
    ):
        """`op`: what the rows ask; `task`: the arguments of `pooling_params`; `signal`: from vLLM's output, float32, to
        the row's signal."""
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
        # vLLM 0.26 has no field for an error.
        error = getattr(output, "error", None)
        if error is not None or not output.outputs.data.numel():
            return Answer(row.index, Finish.ERROR, error=f"vLLM ended the request: {error or 'no output'}")
        return Answer(
            row.index,
            Finish.STEP,
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            signal=self._signal(output.outputs.data.float().numpy()),
        )


def load_pooling(model: ModelConfig, pool: PoolConfig, rewards: bool) -> tuple:
    """Load a `vllm.LLMEngine` of the pooling runner. Returns it, its tokenizer and its context in tokens.

    `rewards`: the model is a process reward model; otherwise the engine returns states.
    """
    engine = started_engine(pooling_arguments(model, pool, rewards), pool)
    return engine, Tokenizer.of_engine(engine, model), engine.model_config.max_model_len


def prompt_states(model: ModelConfig, pool: PoolConfig, prompts: Sequence[Prompt]) -> np.ndarray:
    """The model's state, after its final norm, at the last token of each prompt: float32 [N, hidden].

    The chat template and the generation prompt are part of the prompt. The state is NaN if the prompt is longer than
    the model's context.

    The engine runs in a process of its own, because vLLM keeps part of its state in globals: a shutdown would end every
    other engine of the same process. On return that process is gone, and its memory is free. ValueError if a prompt
    cannot be encoded. RuntimeError (BrokenProcessPool) if the process dies.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_read_states, model, pool, list(prompts)).result()


def _read_states(model: ModelConfig, pool: PoolConfig, prompts: list[Prompt]) -> np.ndarray:
    """What `prompt_states` runs in the other process."""
    prepare_process(pool)
    engine, tokenizer, max_model_len = load_pooling(model, pool, rewards=False)
    intake = Intake(engine)
    states_NH = np.full((len(prompts), engine.model_config.get_hidden_size()), np.nan, np.float32)
    for n, prompt in enumerate(prompts):
        ids = tokenizer.encode_prompt(prompt)
        if len(ids) <= max_model_len:
            intake.add(str(n), ids, pooling_params(*STATE_TASK))
    while engine.has_unfinished_requests():
        for output in engine.step():
            states_NH[int(output.request_id)] = output.outputs.data.float().numpy()
    return states_NH
