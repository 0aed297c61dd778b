"""The states that `steer train-router` trains a probe on: what a replica of `Op.SOLVE` reads."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from actors.engine_thread import prepare_process
from actors.pooling import STATES, load_pooling
from actors.requests import Intake, pooling_params
from steer.config import ModelConfig, PoolConfig
from steer.work import Prompt


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
    engine, vocabulary, max_model_len = load_pooling(model, pool, rewards=False)
    intake = Intake(engine)
    states_NH = np.full((len(prompts), engine.model_config.get_hidden_size()), np.nan, np.float32)
    for n, prompt in enumerate(prompts):
        ids = vocabulary.encode_prompt(prompt)
        if len(ids) <= max_model_len:
            intake.add(str(n), ids, pooling_params(*STATES))
    while engine.has_unfinished_requests():
        for output in engine.step():
            states_NH[int(output.request_id)] = output.outputs.data.float().numpy()
    return states_NH
