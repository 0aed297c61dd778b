"""One vLLM engine in one process: writes, scores, probes and judges the next steps of batches of traces.

The class is plain; `actors/pool.py` makes it a Ray actor.
"""

from actors import confidence_hook, judge_hook
from actors.bodies import Bodies
from actors.engine_arguments import engine_arguments
from actors.engine_thread import EngineThread, prepare_process
from actors.judge import Judge
from actors.requests import Requests
from actors.stepper import Stepper
from actors.vocabulary import Vocabulary
from steer.config import ModelConfig, PoolConfig
from steer.work import EngineInfo


class EngineReplica(EngineThread):
    """`measures`: of `steer.traces.MEASURES`; `("max_logit",)` alone needs only vLLM's public API."""

    def __init__(self, name: str, model: ModelConfig, pool: PoolConfig, measures: tuple[str, ...]):
        self._hook = confidence_hook.needs_hook(measures)
        super().__init__(name, model, pool, measures)

    def _load(self) -> tuple[Stepper, EngineInfo]:
        prepare_process(self._pool)
        import vllm

        confidence_hook.speed_up_logprobs()
        arguments = engine_arguments(self._model, self._pool, self._measures)
        engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
        judges_among_writers = False
        if self._hook:
            confidence_hook.install(engine)
            judges_among_writers = judge_hook.install(engine)
        vocabulary = Vocabulary.of_engine(engine, self._model.system_role)
        max_model_len = engine.model_config.max_model_len
        stepper = Stepper(
            engine,
            Requests(engine, self._hook),
            vocabulary,
            Bodies(vocabulary),
            max_model_len,
            Judge(vocabulary, self._model.path),
            judges_apart=not judges_among_writers,
        )
        return stepper, self._info(vocabulary.fingerprint(), max_model_len, self._measures)
