"""What STEER changes inside vLLM. No other file touches vLLM's internals.

The confidence hook. vLLM returns log probabilities or raw logits, never both, and no entropy. The hook replaces
`gather_logprobs` of each worker's sampler. A request for `HOOK_LOGPROBS` alternatives a token then gets the largest raw
logit, the logsumexp, the entropy (nats) and the margin (the largest less the second largest logit) over the whole
vocabulary in their place. Prompt positions pass through the same method. A request for any other number of alternatives
is served as before. RuntimeError with the remedy at start if vLLM does not fit.

The recorder. Logits that vLLM returns cost it Python time at every token. Where the worker lives in the replica's own
process (no tensor parallelism), the recorder wraps the sampler's `forward` instead: it reduces the logits of a whole
batch to z_max, logsumexp, entropy and margin on the device, and moves them to the host in one piece an engine step. It
is tried on a request of its own at start and compared with the hook. Where it does not fit, the hook serves sampled
tokens, too.

The judge's hook. A JUDGE row asks for the logits of named tokens (`logprob_token_ids`). Once one row of an engine step
asks for some, vLLM 0.32 gives them to all rows of that step, and what the other rows asked for is lost. The hook gives
each row what it asked for. Where it does not fit, `Writer` never lets rows that judge and rows that write into the
engine together.

`speed_up_logprobs`. vLLM spends Python time on texts and objects that the replica does not read. The function leaves
this work out. Where it does not fit, vLLM stays as it is.

The measure `max_logit` alone needs no hook. With `logprobs_mode="raw_logits"` and one alternative a token, the public
API returns exactly the largest raw logit. With `measures: [max_logit]` neither hook is installed, so that a later vLLM
cannot stop the paper's measure.
"""

import inspect
from collections.abc import Sequence

import numpy as np

from steer.traces import MEASURES

REDUCED = 4
"""Numbers that the logits of a token are reduced to: z_max, logsumexp, entropy (nats), margin."""
HOOK_LOGPROBS = REDUCED
"""Alternatives a token to ask the confidence hook for. The flat answer holds `sampled, z_max, logsumexp, entropy,
margin` a token."""
PUBLIC_LOGPROBS = 1
"""Alternatives a token to ask vLLM's public API for. The flat answer holds `sampled, z_max` a token."""

_SAMPLER_MODULE = "vllm.v1.sample.sampler"
_GATHER_PARAMETERS = ["logprobs", "num_logprobs", "token_ids"]
_GATHER_NAMED_PARAMETERS = ["logprobs", "logprob_token_ids", "sampled"]
_REMEDY = (
    "set `pools.measures: [max_logit]` (it runs on vLLM's public API), or install vllm 0.32; on a GPU the hook needs "
    "VLLM_USE_V2_MODEL_RUNNER=0"
)


def needs_hook(measures: Sequence[str]) -> bool:
    """Whether these measures need the confidence hook. ValueError if one is unknown or none is given."""
    unknown = sorted(set(measures) - set(MEASURES))
    if unknown or not measures:
        raise ValueError(f"measures {list(measures)}: give one or more of {', '.join(MEASURES)}")
    return set(measures) != {"max_logit"}


def install_confidence_hook(engine) -> None:
    """Install the hook in every worker of a `vllm.LLMEngine`. RuntimeError with the remedy if vLLM does not fit."""
    import vllm

    problems = [problem for problem in engine.collective_rpc("install_confidence_hook") if problem]
    if problems:
        raise RuntimeError(
            f"the confidence hook does not fit vllm {vllm.__version__}: {problems[0]}. Remedy: {_REMEDY}"
        )


def install_recorder(engine) -> "Recorder | None":
    """Install the recorder, after the confidence hook. None, with nothing changed, if the engine's worker is in another
    process or vLLM does not fit."""
    config = engine.vllm_config
    if config.parallel_config.world_size != 1 or config.speculative_config is not None:
        return None
    recorder = engine.collective_rpc("install_recorder")[0]
    if recorder is not None and not _recorder_agrees(engine, recorder):
        recorder.remove()
        return None
    return recorder


def install_judge_hook(engine) -> bool:
    """Install the hook in every worker of a `vllm.LLMEngine`, after the confidence hook. False if vLLM does not fit."""
    return all(engine.collective_rpc("install_judge_hook"))


class SamplerHooks:
    """vLLM mixes this class into its worker (`worker_extension_cls`). The worker brings `model_runner` and `device`."""

    def install_confidence_hook(self) -> str:
        """Replace the sampler's `gather_logprobs`. Returns "", or what differs if vLLM does not fit."""
        import torch
        from vllm.v1.outputs import LogprobsTensors

        sampler = getattr(self.model_runner, "sampler", None)
        if sampler is None or type(sampler).__module__ != _SAMPLER_MODULE:
            return f"the worker's sampler is {type(sampler).__module__}.{type(sampler).__qualname__}"
        gather = getattr(sampler, "gather_logprobs", None)
        parameters = list(inspect.signature(gather).parameters) if gather else []
        if parameters != _GATHER_PARAMETERS:
            return f"gather_logprobs takes {parameters}, not {_GATHER_PARAMETERS}"

        def gather_confidence(logprobs, num_logprobs, token_ids):
            """logprobs: raw logits float32 [T, V]; token_ids: int64 [T] -> sampled, z_max, logsumexp, entropy,
            margin."""
            if num_logprobs != HOOK_LOGPROBS:
                return gather(logprobs, num_logprobs, token_ids)
            top_ids = logprobs.argmax(-1)
            sampled = logprobs.gather(-1, token_ids.unsqueeze(-1))
            unused = torch.zeros_like(top_ids)
            return LogprobsTensors(
                torch.stack([token_ids, top_ids] + [unused] * (REDUCED - 1), 1).to(torch.int32),
                torch.cat([sampled, _reduced(logprobs)], 1),
                unused,  # ranks, which nobody reads
            )

        sampler.gather_logprobs = gather_confidence
        return _check_confidence(sampler, self.device)

    def install_recorder(self) -> "Recorder | None":
        """Wrap the sampler's `forward`. None, with nothing changed, if vLLM does not fit."""
        batch = getattr(self.model_runner, "input_batch", None)
        if not hasattr(batch, "req_ids") or not hasattr(batch, "num_tokens_no_spec"):
            return None
        return Recorder(self.model_runner)

    def install_judge_hook(self) -> bool:
        """Wrap the sampler's `gather_specific_token_logprobs`. False, with nothing changed, if vLLM does not fit."""
        import torch
        from vllm.v1.outputs import LogprobsTensors

        sampler = self.model_runner.sampler
        gather_named = getattr(sampler, "gather_specific_token_logprobs", None)
        if gather_named is None or list(inspect.signature(gather_named).parameters) != _GATHER_NAMED_PARAMETERS:
            return False

        def gather_each_its_own(logprobs, logprob_token_ids, sampled):
            """logprobs: raw logits float32 [T, V]; logprob_token_ids: row -> tokens; sampled: int64 [T] -> per row
            `sampled, tokens...` or `sampled, z_max, logsumexp, entropy, margin`, padded."""
            named = gather_named(logprobs, logprob_token_ids, sampled)
            if named is None or len(logprob_token_ids) == len(sampled):
                return named
            others = [row for row in range(len(sampled)) if row not in logprob_token_ids]
            measured = sampler.gather_logprobs(logprobs[others], HOOK_LOGPROBS, sampled[others])
            width = HOOK_LOGPROBS + 1
            rows = torch.tensor(others, device=logprobs.device)
            ids, values = named.logprob_token_ids.clone(), named.logprobs.clone()
            ids[rows, :width] = measured.logprob_token_ids
            values[rows, :width] = measured.logprobs
            return LogprobsTensors(ids, values, named.selected_token_ranks)

        sampler.gather_specific_token_logprobs = gather_each_its_own
        return True


class Recorder:
    """The measures of the tokens that an engine has sampled, by request. It belongs to the engine's thread.

    A row of the sampler is found again by its request and by the position of its token. Rows of unfinished prompt
    chunks have the position of the first token, whose row comes after them and replaces theirs.
    """

    def __init__(self, runner):
        self._runner, self._sampler = runner, runner.sampler
        self._forward = self._sampler.forward
        self._watched: dict[str, list[tuple[_Measured, int]]] = {}
        """By the id that vLLM has given a request: of each of its tokens, where its measures are."""
        self._first: dict[str, int] = {}
        """By the same id: position of the request's first token."""
        self._ids: dict[str, str] = {}
        """vLLM's id by the caller's."""

        def forward(logits, *args, **kwargs):
            self._record(logits)
            return self._forward(logits, *args, **kwargs)

        self._sampler.forward = forward

    def remove(self) -> None:
        """Leave the sampler as it was."""
        del self._sampler.forward

    def watch(self, request: str, added: str) -> None:
        """Record a request from its first token on. `added`: the id that vLLM has given it."""
        self._ids[request], self._watched[added] = added, []

    def forget(self, request: str) -> None:
        added = self._ids.pop(request, "")
        self._watched.pop(added, None)
        self._first.pop(added, None)

    def count(self, request: str) -> int:
        """How many tokens of the request have been sampled."""
        return len(self._watched.get(self._ids.get(request, ""), ()))

    def read(self, request: str, start: int, tokens: int) -> np.ndarray:
        """z_max, logsumexp, entropy (nats), margin of so many tokens from the `start`-th on: float64 [tokens, 4].

        RuntimeError if they were not sampled here: vLLM has changed under the recorder.
        """
        found = self._watched[self._ids[request]][start : start + tokens]
        if len(found) < tokens:
            raise RuntimeError(f"the recorder has {len(found)} of {tokens} tokens. Remedy: {_REMEDY}")
        return np.array([measured.rows[row] for measured, row in found], np.float64).reshape(-1, REDUCED)

    def _record(self, logits) -> None:
        """logits: raw [T, V], a row for each request of the batch."""
        batch = self._runner.input_batch
        requests = batch.req_ids
        if not self._watched or len(requests) != len(logits):
            return
        measured = _Measured(logits)
        positions = batch.num_tokens_no_spec[: len(requests)].tolist()
        for row, (request, position) in enumerate(zip(requests, positions, strict=True)):
            tokens = self._watched.get(request)
            if tokens is None:
                continue
            at = position - self._first.setdefault(request, position)
            if at == len(tokens):
                tokens.append((measured, row))
            else:
                tokens[at] = (measured, row)


class _Measured:
    """The measures of one batch of logits, on their way to the host."""

    __slots__ = ("_host", "_event", "_rows")

    def __init__(self, logits):
        import torch

        device = _reduced(logits.float())
        self._event, self._rows, self._host = None, None, device
        if device.is_cuda:
            self._host = torch.empty(device.shape, dtype=device.dtype, pin_memory=True)
            self._host.copy_(device, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    @property
    def rows(self) -> np.ndarray:
        """float32 [T, 4]. Waits for the copy."""
        if self._rows is None:
            if self._event is not None:
                self._event.synchronize()
            self._rows, self._host = self._host.numpy(), None
        return self._rows


def _recorder_agrees(engine, recorder: Recorder) -> bool:
    """Whether the recorder and the confidence hook say the same of one request's tokens."""
    from vllm import SamplingParams
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind

    tokens, width = 3, HOOK_LOGPROBS + 1
    params = SamplingParams(
        temperature=0.0,
        max_tokens=tokens,
        ignore_eos=True,
        detokenize=False,
        logprobs=HOOK_LOGPROBS,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    recorder.watch("check", engine.add_request("check", tokens_input([1, 2]), params) or "check")
    flat: list[float] = []
    while engine.has_unfinished_requests():
        for output in engine.step():
            flat = list(output.outputs[0].logprobs.logprobs)
    try:
        recorded = recorder.read("check", 0, tokens)
    except (LookupError, RuntimeError):
        return False
    finally:
        recorder.forget("check")
    expected = np.array(flat).reshape(-1, width)[:, 1:]
    return expected.shape == recorded.shape and bool(np.allclose(recorded, expected, atol=1e-3))


def _reduced(logits):
    """z_max, logsumexp, entropy (nats) and margin of raw logits [T, V], over the whole vocabulary: [T, 4]."""
    import torch

    two = logits.topk(2, -1).values
    top = two[:, :1]
    shifted = logits - top
    p = shifted.exp()
    total = p.sum(-1, keepdim=True)
    log_total = total.log()
    # H = log sum e^(z - top) - sum p (z - top)
    mean = torch.einsum("tv,tv->t", p, shifted)[:, None] / total
    return torch.cat([top, top + log_total, log_total - mean, top - two[:, 1:]], 1)


def _check_confidence(sampler, device) -> str:
    """Compare one answer of the installed hook with the same numbers computed here. "", or how they differ."""
    import torch

    logits = torch.tensor([[1.0, 3.0, 2.0, -1.0]], device=device)
    answer = sampler.gather_logprobs(logits, HOOK_LOGPROBS, token_ids=torch.tensor([2], device=device))
    p = torch.softmax(logits, -1)
    margin = logits[0, 1] - logits[0, 2]
    expected = torch.stack([logits[0, 2], logits.max(), logits.logsumexp(-1)[0], -(p * p.log()).sum(), margin])
    if answer.logprobs.shape != (1, 1 + REDUCED) or not torch.allclose(answer.logprobs[0], expected, atol=1e-5):
        return f"the hook answers {answer.logprobs.tolist()} where {expected.tolist()} is right"
    return ""


def speed_up_logprobs() -> bool:
    """Leave out two pieces of Python work in vLLM, for the whole process. The replica reads logits as numbers.

    vLLM decodes the alternatives of each token to text: without that, a token takes 64 us instead of 114 us on the
    embedded pair. vLLM also loops over every prompt position of a scoring pass: here the positions are copied at once.
    Returns False, with nothing changed, if vLLM does not fit.
    """
    from vllm.logprobs import FlatLogprobs
    from vllm.v1.engine import logprobs as module

    processor = getattr(module, "LogprobsProcessor", None)
    original = getattr(processor, "from_new_request", None)
    update = getattr(processor, "_update_prompt_logprobs", None)
    if original is None or update is None:
        return False
    if getattr(processor, "serves_numbers", False):
        return True
    if list(inspect.signature(original).parameters) != ["tokenizer", "request"]:
        return False
    if list(inspect.signature(update).parameters) != ["self", "prompt_logprobs_tensors"]:
        return False
    unbound = original.__func__

    def update_in_one_go(self, prompt_logprobs_tensors):
        flat = self.prompt_logprobs
        if self.tokenizer is not None or not isinstance(flat, FlatLogprobs):
            return update(self, prompt_logprobs_tensors)
        token_ids, values, *_ = prompt_logprobs_tensors
        positions, width = values.shape
        start, count = len(flat.logprobs), positions * width
        flat.start_indices.extend(range(start, start + count, width))
        flat.end_indices.extend(range(start + width, start + count + width, width))
        flat.token_ids.extend(token_ids.flatten().tolist())
        flat.logprobs.extend(values.flatten().tolist())
        flat.ranks.extend([None] * count)
        flat.decoded_tokens.extend([None] * count)

    processor.from_new_request = classmethod(lambda cls, tokenizer, request: unbound(cls, None, request))
    processor._update_prompt_logprobs = update_in_one_go
    processor.serves_numbers = True
    return True
