"""The requests that a replica sends to vLLM: their parameters, and their prompts as token ids.

Building `SamplingParams` anew takes longer than sampling a short step. Each request therefore gets a shallow copy of a
template.
"""

import copy
from collections.abc import Sequence

import numpy as np

from actors.engine.vllm_hooks import HOOK_LOGPROBS, PUBLIC_LOGPROBS, Recorder
from steer.messages import Sampling

MAX_TEMPLATES = 512
"""Templates that are kept. The requests of an endpoint may each have a temperature of its own."""
DELIMITER = "\n\n"
"""The end of a step. vLLM looks for it in the written text, whatever tokens it is spread over or merged with."""


class Intake:
    """Adds requests to a `vllm.LLMEngine`."""

    def __init__(self, engine):
        self._engine = engine
        self.refusals = _refusals()
        """What vLLM raises if one request is at fault."""

    def add(self, request: str, ids: list[int], params) -> None:
        """Add one request. Raises one of `refusals`, with nothing added, if vLLM does not take it."""
        self._add(request, ids, params)

    def _add(self, request: str, ids: list[int], params) -> str:
        """Add one request. Returns the id that vLLM has given it."""
        from vllm.inputs import tokens_input

        return self._engine.add_request(request, tokens_input(ids), params) or request


def _refusals() -> tuple[type[Exception], ...]:
    try:
        from vllm.exceptions import VLLMClientError
    except ImportError:  # vLLM 0.26 raises ValueError alone.
        return (ValueError,)
    return (VLLMClientError, ValueError)


class Requests(Intake):
    """Adds requests, makes the parameters of those that write or read logits, and returns what was measured.

    With a recorder the measures are kept where the logits are, and vLLM is asked for no logits of written tokens.
    Without one they come as vLLM's flat logprobs, a few Python numbers a token.
    """

    def __init__(self, engine, hook: bool, recorder: Recorder | None = None):
        """`hook`: the engine has the confidence hook. `recorder`: the one of this engine."""
        super().__init__(engine)
        self._logprobs = HOOK_LOGPROBS if hook else PUBLIC_LOGPROBS
        self._recorder = recorder
        self.width = self._logprobs + 1
        """Numbers a token in a flat answer: the sampled logit, z_max and, from the hook, logsumexp, entropy, margin."""
        self._templates: dict = {}

    def add(self, request: str, ids: list[int], params) -> None:
        added = self._add(request, ids, params)
        if self._recorder is not None:
            self._recorder.watch(request, added)

    def forget(self, request: str) -> None:
        """Drop what was measured of a request that is over."""
        if self._recorder is not None:
            self._recorder.forget(request)

    def sampled(self, request: str, seen: int) -> int:
        """How many tokens the request has sampled. `seen`: those that vLLM has handed over, all that is known without
        a recorder."""
        return seen if self._recorder is None else max(self._recorder.count(request), seen)

    def measures(self, request: str, start: int, completion) -> np.ndarray:
        """z_max, logsumexp, entropy (nats) and margin of a completion's tokens: float64 [T, 4], NaN where not measured.

        `start`: how many of the request's tokens came before them.
        """
        if self._recorder is not None:
            return self._recorder.read(request, start, len(completion.token_ids))
        return self.as_measures(completion.logprobs.logprobs)

    def as_measures(self, flat: Sequence[float]) -> np.ndarray:
        """The same from vLLM's flat logprobs, `width` numbers a token."""
        z = np.array(flat, np.float64).reshape(-1, self.width)
        return np.pad(z[:, 1:], ((0, 0), (0, HOOK_LOGPROBS - self._logprobs)), constant_values=np.nan)

    def write(self, sampling: Sampling, stop_at_delimiter: bool, seed: int, max_tokens: int, as_it_comes: bool = False):
        """Write up to and including the delimiter or, without `stop_at_delimiter`, to the end of the sequence.

        `as_it_comes`: hand the tokens over while more are written, `STREAM_TOKENS` at a time.
        """
        key = (sampling.temperature, sampling.top_p, stop_at_delimiter, as_it_comes)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()
            extra = {"stop": [DELIMITER], "include_stop_str_in_output": True} if stop_at_delimiter else {}
            if as_it_comes:
                from vllm.sampling_params import RequestOutputKind

                extra["output_kind"] = RequestOutputKind.DELTA
            template = self._templates[key] = self._template(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=0,
                detokenize=stop_at_delimiter,
                logprobs=self._sampled_logprobs,
                **extra,
            )
        params = copy.copy(template)
        params.seed = seed
        params.max_tokens = max_tokens
        return params

    def score(self, prompt_positions: int, skip_cache: bool):
        """Read the logits of so many prompt positions (0: none) and of the one token that vLLM has to write."""
        key = (prompt_positions > 0, skip_cache)
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = self._template(
                temperature=0.0,
                max_tokens=1,
                detokenize=False,
                logprobs=self._sampled_logprobs,
                prompt_logprobs=self._logprobs if prompt_positions > 0 else None,
                # By default vLLM does not read the cache here, because cached positions have no logits.
                skip_reading_prefix_cache=skip_cache,
            )
        return copy.copy(template)

    def read_tokens(self, tokens: Sequence[int]):
        """Read the logits of these tokens at the one position that vLLM has to write. The flat answer holds
        `sampled, *tokens`."""
        key = ("tokens", *tokens)
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = self._template(
                temperature=0.0, max_tokens=1, detokenize=False, logprobs=None, logprob_token_ids=list(tokens)
            )
        return copy.copy(template)

    @property
    def _sampled_logprobs(self) -> int | None:
        """What vLLM is asked for of every token that it samples."""
        return self._logprobs if self._recorder is None else None

    def _template(self, **parameters):
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            flat_logprobs=True,
            skip_clone=True,  # each request gets its own copy here
            **{"output_kind": RequestOutputKind.FINAL_ONLY, **parameters},
        )


def pooling_params(task: str, use_activation: bool):
    """Parameters of one pass through vLLM's pooling runner.

    `task`: `token_classify` (a score of each label at every token) or `embed` (one state). By default vLLM does not
    read the prefix cache for `token_classify`, because cached positions have no output. The replica may read it: it
    needs only the last position, which is always computed.
    """
    from vllm import PoolingParams

    return PoolingParams(task=task, use_activation=use_activation, skip_reading_prefix_cache=False)
