"""What an endpoint answers: the bodies of OpenAI's API, and usage that counts every token of both models."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from steer.costs.flops import UNIT, flops_full, flops_paper
from steer.traces import Model, Trace

OWNER = "steer"
DONE = b"data: [DONE]\n\n"
Body = dict[str, Any]


def usage(trace: Trace, n_small: float, n_large: float) -> Body:
    """The usage of a trace. `n_small`, `n_large`: parameter counts, for the FLOPs.

    `completion_tokens` are all tokens that both models generated, those that were thrown away included. They are the
    sum of `steer.small.generated` and `steer.large.generated`. `cached_tokens` are those of the prompt that the first
    call found in the prefix cache. `flops` is the full count, `flops_paper` the paper's, both in FLOPs.
    """
    generated = trace.tokens_small + trace.tokens_large
    kept = [step for step in trace.steps if step.accepted and step.tokens]
    cached = next((step.cached_tokens for step in trace.steps if step.prompt_tokens), 0)
    tokens = float(trace.tokens_small), float(trace.tokens_large)
    prefill = float(trace.prefill_small), float(trace.prefill_large)
    steer: Body = {
        "small": {"generated": trace.tokens_small, "prefill": trace.prefill_small},
        "large": {"generated": trace.tokens_large, "prefill": trace.prefill_large},
        "discarded": trace.tokens_discarded,
        "steps": len(kept),
        "steps_large": sum(step.model == Model.LARGE for step in kept),
        "switches": sum(one.model != other.model for one, other in pairwise(kept)),
        "flops": round(flops_full(*tokens, n_small, n_large, *prefill) * UNIT),
        "flops_paper": round(flops_paper(*tokens, n_small, n_large) * UNIT),
    }
    signal = sum(trace.tokens_signal)
    if signal:
        steer["signal"] = signal
    return {
        "prompt_tokens": trace.prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": trace.prompt_tokens + generated,
        "prompt_tokens_details": {"cached_tokens": min(cached, trace.prompt_tokens)},
        "steer": steer,
    }


def headers(used: Body) -> dict[str, str]:
    """The same in headers, for clients that drop what they do not know of a body."""
    steer = used["steer"]
    return {
        "x-steer-tokens-small": str(steer["small"]["generated"]),
        "x-steer-tokens-large": str(steer["large"]["generated"]),
        "x-steer-tokens-discarded": str(steer["discarded"]),
        "x-steer-steps": str(steer["steps"]),
        "x-steer-switches": str(steer["switches"]),
        "x-steer-flops": f"{steer['flops']:.6g}",
    }


def completion(
    name: str, created: int, model: str, text: str, reasoning: str | None, finish_reason: str, used: Body
) -> Body:
    """The answer to a request that does not stream. `reasoning`: the thought; None: the models do not think."""
    message: Body = {"role": "assistant", "content": text, "refusal": None}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return _body(name, "chat.completion", created, model, [choice]) | {"usage": used}


def chunk(
    name: str, created: int, model: str, delta: Body, finish_reason: str | None = None, with_usage: bool = False
) -> Body:
    """A piece of a stream. `with_usage`: a last piece with usage follows, so the others say that they have none."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    body = _body(name, "chat.completion.chunk", created, model, [choice])
    return body | {"usage": None} if with_usage else body


def usage_chunk(name: str, created: int, model: str, used: Body) -> Body:
    return _body(name, "chat.completion.chunk", created, model, []) | {"usage": used}


def sse(body: Body) -> bytes:
    """The body as an event of a stream."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def error(message: str, status: int, param: str | None = None, code: str | None = None) -> Body:
    """OpenAI's error object."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def models(names: Sequence[str], created: int) -> Body:
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": created, "owned_by": OWNER} for name in names],
    }


def _body(name: str, kind: str, created: int, model: str, choices: list[Body]) -> Body:
    return {"id": name, "object": kind, "created": created, "model": model, "choices": choices}
