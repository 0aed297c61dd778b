"""One vLLM engine in one process: it writes, scores, peeks at and judges the steps of batches of traces.

The class is plain Python; the router's process makes a Ray actor of it (`Replica.spawn`).
"""

from actors.engine import vllm_hooks
from actors.engine.arguments import engine_arguments
from actors.engine.judge import Judge
from actors.engine.prefixes import Prefixes
from actors.engine.requests import Requests
from actors.engine.thread import EngineThread, prepare_process, started_engine
from actors.engine.tokenizer import Tokenizer
from actors.engine.writer import Writer
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import EngineInfo


class EngineReplica(EngineThread):
    """`measures`: of `steer.traces.MEASURES`. `("max_logit",)` alone needs only vLLM's public API."""

    def __init__(self, name: str, model: ModelConfig, pool: PoolConfig, measures: tuple[str, ...]):
        self._hook = vllm_hooks.needs_hook(measures)
        super().__init__(name, model, pool, measures)

    def _load(self) -> tuple[Writer, EngineInfo]:
        prepare_process(self._pool)
        vllm_hooks.speed_up_logprobs()
        arguments = engine_arguments(self._model, self._pool, self._measures)
        engine = started_engine(arguments, self._pool)
        recorder, judges_among_writers = None, False
        if self._hook:
            vllm_hooks.install_confidence_hook(engine)
            recorder = vllm_hooks.install_recorder(engine)
            # With a recorder rows that write ask vLLM for nothing that a row that judges could take from them.
            judges_among_writers = recorder is not None or vllm_hooks.install_judge_hook(engine)
        tokenizer = Tokenizer.of_engine(engine, self._model)
        max_model_len = engine.model_config.max_model_len
        writer = Writer(
            engine,
            Requests(engine, self._hook, recorder),
            tokenizer,
            Prefixes(tokenizer),
            max_model_len,
            Judge(tokenizer, self._model.path),
            judges_apart=not judges_among_writers,
        )
        return writer, self._info(tokenizer.fingerprint(), max_model_len, self._measures)
