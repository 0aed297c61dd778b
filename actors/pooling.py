"""One engine of vLLM's pooling runner in one process: rewards of drafts, or whether the small model solves a question.

`PoolingReplica` serves `Op.SOLVE` where the model's `engine:` entry names a probe (`actors.seats.PROBE_KEY`), else
`Op.REWARD`. Bodies, batches and answers are those of `actors/engine.py`; nothing is generated.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from actors.bodies import Bodies, Body
from actors.driver import Driver, Row
from actors.engine_arguments import hf_config, model_fingerprint, pooling_arguments
from actors.engine_thread import EngineThread, prepare_process
from actors.prm import RewardBodies, layout_of
from actors.requests import Intake, pooling_params
from actors.seats import PROBE_KEY
from actors.tickets import Answer, Ticket
from actors.vocabulary import Vocabulary
from steer.config import ModelConfig, PoolConfig
from steer.probe import check_fits, load_probe
from steer.traces import Finish
from steer.work import EngineInfo, Op

STATES = ("embed", False)
"""vLLM's task that gives the state at a prompt's last token, and whether it is normalised."""
REWARDS = ("token_classify", True)
"""The task that gives label scores at every token, and whether they are made probabilities."""


class PoolingReplica(EngineThread):
    """`measures` are not its business: it has none."""

    def _load(self) -> tuple["Pooler", EngineInfo]:
        prepare_process(self._pool)
        folder = self._model.engine.get(PROBE_KEY)
        pooler, vocabulary, max_model_len = self._load_rewards() if folder is None else self._load_probed(Path(folder))
        return pooler, self._info(vocabulary.fingerprint(), max_model_len, ())

    def _load_rewards(self) -> tuple["Pooler", Vocabulary, int]:
        layout = layout_of(hf_config(self._model).architectures or (), self._model.path)
        engine, vocabulary, max_model_len = load_pooling(self._model, self._pool, rewards=True)
        bodies = RewardBodies(vocabulary, layout, self._model.path)

        def right(scores_TL: np.ndarray) -> float:
            """Of the positions that the cache did not serve, the last among them."""
            return float(scores_TL[-1, layout.label])

        return Pooler(engine, bodies, max_model_len, Op.REWARD, REWARDS, right), vocabulary, max_model_len

    def _load_probed(self, folder: Path) -> tuple["Pooler", Vocabulary, int]:
        probe = load_probe(folder)
        hidden_size = hf_config(self._model).get_text_config().hidden_size
        check_fits(probe, folder, hidden_size, model_fingerprint(self._model.path))
        engine, vocabulary, max_model_len = load_pooling(self._model, self._pool, rewards=False)

        def solves(state_H: np.ndarray) -> float:
            return float(probe.solves(state_H[None])[0])

        return Pooler(engine, Bodies(vocabulary), max_model_len, Op.SOLVE, STATES, solves), vocabulary, max_model_len


def load_pooling(model: ModelConfig, pool: PoolConfig, rewards: bool) -> tuple:
    """The `vllm.LLMEngine`, its vocabulary and its context in tokens."""
    import vllm

    engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**pooling_arguments(model, pool, rewards)))
    return engine, Vocabulary.of_engine(engine, model.system_role), engine.model_config.max_model_len


class Pooler(Driver):
    """Drives a `vllm.LLMEngine` of the pooling runner. `op`: what it is asked; `task`: how vLLM calls that; `signal`:
    from vLLM's output, float32, to the answer."""

    def __init__(
        self,
        engine,
        bodies: Bodies,
        max_model_len: int,
        op: Op,
        task: tuple[str, bool],
        signal: Callable[[np.ndarray], float],
    ):
        super().__init__(engine, Intake(engine), bodies, max_model_len)
        self._op = op
        self._task = task
        self._signal = signal

    def _open(self, ticket: Ticket, index: int, body: Body) -> Answer | None:
        row = Row(ticket, index, body)
        if row.op != self._op:
            error = f"this replica answers {self._op.name} alone, not {row.op.name}"
            return Answer(index, Finish.ERROR, error=error)
        if row.op == Op.REWARD and len(body.ends) < 2:
            return Answer(index, Finish.ERROR, error="there is no step to reward: the body is the prompt alone")
        ids = body.ids[: body.ends[0]] if row.op == Op.SOLVE else body.ids
        if len(ids) > self._max_model_len:
            return Answer(index, Finish.STEP)  # without a signal
        return self._send(row, ids.tolist(), pooling_params(*self._task))

    def _close(self, row: Row, output) -> Answer | None:
        if output.error is not None or not output.outputs.data.numel():
            return Answer(row.index, Finish.ERROR, error=f"vLLM ended the request: {output.error or 'no output'}")
        return Answer(
            row.index,
            Finish.STEP,
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            signal=self._signal(output.outputs.data.float().numpy()),
        )
