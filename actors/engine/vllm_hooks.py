"""Three confidence measures out of vLLM's sampler: the one place that touches vLLM's internals.

vLLM returns log probabilities or raw logits, never both and no entropy. Each worker's sampler gets another
`gather_logprobs`: asked for `HOOK_LOGPROBS` alternatives a token it answers, in place of the alternatives, the largest
raw logit, the logsumexp and the entropy (nats) over the whole tokenizer. Prompt positions pass the same method.
Everything that asks for another number of alternatives is served as before.

Without the hook (`measures: [max_logit]`) the public API suffices: with `logprobs_mode="raw_logits"` and one
alternative a token, that is the largest raw logit, exactly. A later vLLM can thus never stop the paper's measure.
"""

import inspect
from collections.abc import Sequence

from steer.traces import MEASURES

HOOK_LOGPROBS = 3
"""Alternatives a token to ask for: the flat answer then holds `sampled, z_max, logsumexp, entropy` a token."""
PUBLIC_LOGPROBS = 1
"""Alternatives a token on the public API alone: the flat answer holds `sampled, z_max` a token."""

_SAMPLER_MODULE = "vllm.v1.sample.sampler"
_SAMPLER_PARAMETERS = ["logprobs", "num_logprobs", "token_ids"]
_REMEDY = (
    "set `pools.measures: [max_logit]` (it runs on vLLM's public API), or install vllm 0.32; on a GPU the hook needs "
    "VLLM_USE_V2_MODEL_RUNNER=0"
)


def needs_hook(measures: Sequence[str]) -> bool:
    """Whether these measures need more than the largest logit."""
    unknown = sorted(set(measures) - set(MEASURES))
    if unknown or not measures:
        raise ValueError(f"measures {list(measures)}: give one or more of {', '.join(MEASURES)}")
    return set(measures) != {"max_logit"}


class ConfidenceHook:
    """vLLM mixes this into its worker (`worker_extension_cls`); `self.model_runner` is the worker's."""

    def install_confidence_hook(self) -> str:
        """Replace the sampler's `gather_logprobs`. Returns "" or, if this vLLM does not fit, what differs."""
        import torch
        from vllm.v1.outputs import LogprobsTensors

        sampler = getattr(self.model_runner, "sampler", None)
        if sampler is None or type(sampler).__module__ != _SAMPLER_MODULE:
            return f"the worker's sampler is {type(sampler).__module__}.{type(sampler).__qualname__}"
        gather = getattr(sampler, "gather_logprobs", None)
        parameters = list(inspect.signature(gather).parameters) if gather else []
        if parameters != _SAMPLER_PARAMETERS:
            return f"gather_logprobs takes {parameters}, not {_SAMPLER_PARAMETERS}"

        def gather_confidence(logprobs, num_logprobs, token_ids):
            """logprobs: raw logits float32 [T, V]; token_ids: int64 [T] -> sampled, z_max, logsumexp, entropy."""
            if num_logprobs != HOOK_LOGPROBS:
                return gather(logprobs, num_logprobs, token_ids)
            top, top_ids = logprobs.max(-1)
            lse = torch.logsumexp(logprobs, -1)
            # H = lse - sum p z
            entropy = lse - torch.einsum("tv,tv->t", torch.exp(logprobs - lse[:, None]), logprobs)
            sampled = logprobs.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)
            unused = torch.zeros_like(top_ids)
            return LogprobsTensors(
                torch.stack([token_ids, top_ids, unused, unused], 1).to(torch.int32),
                torch.stack([sampled, top, lse, entropy], 1),
                unused,  # ranks, which nobody reads
            )

        sampler.gather_logprobs = gather_confidence
        return _check(sampler, self.device)


def _check(sampler, device) -> str:
    """One answer of the installed hook against the same numbers computed apart."""
    import torch

    logits = torch.tensor([[1.0, 3.0, 2.0, -1.0]], device=device)
    answer = sampler.gather_logprobs(logits, HOOK_LOGPROBS, token_ids=torch.tensor([2], device=device))
    p = torch.softmax(logits, -1)
    expected = torch.stack([logits[0, 2], logits.max(), logits.logsumexp(-1)[0], -(p * p.log()).sum()])
    if answer.logprobs.shape != (1, 4) or not torch.allclose(answer.logprobs[0], expected, atol=1e-5):
        return f"the hook answers {answer.logprobs.tolist()} where {expected.tolist()} is right"
    return ""


def install_confidence(engine) -> None:
    """Install the hook in every worker of a `vllm.LLMEngine`. RuntimeError with the remedy if vLLM does not fit."""
    import vllm

    problems = [problem for problem in engine.collective_rpc("install_confidence_hook") if problem]
    if problems:
        raise RuntimeError(
            f"the confidence hook does not fit vllm {vllm.__version__}: {problems[0]}. Remedy: {_REMEDY}"
        )


def speed_up_logprobs() -> bool:
    """Spare vLLM Python work on logits that the replica takes as numbers: the text of the alternatives of each token
    (114 -> 64 us a token on the embedded pair), and a loop over every prompt position of a scoring pass.

    Only speed: where vLLM has changed too much for it, nothing is replaced and False comes back.
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


_PARAMETERS = ["logprobs", "logprob_token_ids", "sampled"]


class JudgeHook(ConfidenceHook):
    """vLLM mixes this into its worker (`worker_extension_cls`)."""

    def install_judge_hook(self) -> bool:
        """Wrap the sampler's `gather_specific_token_logprobs`, after the confidence hook. False, with nothing changed,
        if this vLLM's is another one."""
        import torch
        from vllm.v1.outputs import LogprobsTensors

        sampler = self.model_runner.sampler
        gather = getattr(sampler, "gather_specific_token_logprobs", None)
        if gather is None or list(inspect.signature(gather).parameters) != _PARAMETERS:
            return False

        def gather_each_its_own(logprobs, logprob_token_ids, sampled):
            """logprobs: raw logits float32 [T, V]; logprob_token_ids: row -> tokens; sampled: int64 [T] -> per row
            `sampled, tokens...` or `sampled, z_max, logsumexp, entropy`, padded."""
            named = gather(logprobs, logprob_token_ids, sampled)
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


def install_judging(engine) -> bool:
    """Install the judge's hook in every worker of a `vllm.LLMEngine` that has the confidence hook."""
    return all(engine.collective_rpc("install_judge_hook"))
