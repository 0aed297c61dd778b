"""Lets rows that judge and rows that write share one engine step.

vLLM 0.32 gives the logits of named tokens (`logprob_token_ids`) to all rows of an engine step once one of them asks
for some: what the others asked for is lost. Here every row gets its own. Where the hook does not fit, or the replica
runs without hooks, `Stepper` keeps the two sorts of rows apart in time instead.
"""

import inspect

from actors.confidence_hook import HOOK_LOGPROBS, ConfidenceHook

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


def install(engine) -> bool:
    """Install the hook in every worker of a `vllm.LLMEngine` that has the confidence hook."""
    return all(engine.collective_rpc("install_judge_hook"))
