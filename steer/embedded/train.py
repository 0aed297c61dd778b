"""Training of the embedded pairs in plain PyTorch on one CPU thread: Qwen2, Muon with AdamW, validation by sampling.

Invariants: this model and transformers' Qwen2 have the same weight names and give the same logits; training ends after
a number of tokens, never by the clock; the same seed on the same machine gives the same weights.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steer.embedded import checkpoint, tokenizer
from steer.embedded.batches import cut
from steer.embedded.checkpoint import DIMENSIONS, Dimensions
from steer.embedded.labels import hard_steps
from steer.embedded.muon import Muon
from steer.embedded.selection import Accuracies, StepAccuracy, TrainingResult, select, shortfall
from steer.embedded.tasks import LEVELS, PAIR_BENCHMARKS, questions, training_stream
from steer.embedded.tokenizer import token_id

TOKENS = {
    "small": {"chain_math": 7_000_000, "hops": 7_000_000, "mixed_chain": 4_000_000},
    "large": {"chain_math": 5_000_000, "hops": 5_000_000, "mixed_chain": 5_000_000},
}
"""Tokens seen in training for each benchmark that a model is trained on, prompts included."""
BATCH_TOKENS = {"small": 4096, "large": 4096}
MUON_LR = {"small": 0.012, "large": 0.015}
ADAM_LR = {"small": 0.004, "large": 0.004}
"""A small model is sensitive: at rates 0.02 (Muon) and 0.006 (AdamW), one of two seeds got only 2 in 10 chains of level
1 right, not 9."""
WARMUP_STEPS = 40
TEMPERATURE = 0.7
"""Validation uses the sampling temperature of the benchmarks."""


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, shape: Dimensions) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, self.heads * self.size)
        self.k_proj = nn.Linear(shape.hidden_size, self.kv_heads * self.size)
        self.v_proj = nn.Linear(shape.hidden_size, self.kv_heads * self.size)
        self.o_proj = nn.Linear(self.heads * self.size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: list[Tensor] | None) -> Tensor:
        """x: [rows, time, hidden]. `past` holds the keys and values so far and is extended in place."""
        rows, length, _ = x.shape
        group = self.heads // self.kv_heads
        q = self.q_proj(x).view(rows, length, self.heads, self.size).transpose(1, 2)
        k = self.k_proj(x).view(rows, length, self.kv_heads, self.size).transpose(1, 2)
        v = self.v_proj(x).view(rows, length, self.kv_heads, self.size).transpose(1, 2)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        if past is not None:
            past[:] = [k, v] if not past else [torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)]
            k, v = past
        # All query heads of one key head form one matrix. On one thread, a training step takes 13 % less time this way
        # than with scaled_dot_product_attention.
        scores = q.reshape(rows, self.kv_heads, group * length, self.size) @ k.mT * self.size**-0.5
        if length > 1:
            future = torch.full((length, length), -torch.inf).triu(1)
            scores = scores + future.repeat(group, 1)
        out = (scores.softmax(-1) @ v).view(rows, self.heads, length, self.size)
        mixed: Tensor = self.o_proj(out.transpose(1, 2).reshape(rows, length, self.heads * self.size))
        return mixed


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


class MLP(nn.Module):
    def __init__(self, shape: Dimensions) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, shape: Dimensions) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: list[Tensor] | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, past)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Body(nn.Module):
    def __init__(self, shape: Dimensions, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def decoder_layers(self) -> list[Layer]:
        """The entries of `layers` with their type, which `nn.ModuleList` does not keep."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]


class Qwen2(nn.Module):
    """Qwen2 with transformers' parameter names. The embedding is also the head."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Dimensions, vocabulary: int) -> None:
        super().__init__()
        self.model = Body(shape, vocabulary)
        frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        angles = torch.outer(torch.arange(tokenizer.MAX_LENGTH_TOKENS).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if name.endswith(("bias", "o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)

    def hidden(self, ids_BT: Tensor, start: int = 0, past: list[list[Tensor]] | None = None) -> Tensor:
        x, stop = self.model.embed_tokens(ids_BT), start + ids_BT.shape[1]
        for i, layer in enumerate(self.model.layers):
            x = layer(x, self.cos[start:stop], self.sin[start:stop], past[i] if past is not None else None)
        hidden: Tensor = self.model.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.model.embed_tokens.weight.T


def batches(size: str, seed: int, benchmarks: Sequence[str] = PAIR_BENCHMARKS) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of ids and answer masks, both [B, T], in random order.

    The rows of a batch have similar lengths and are padded on the right.
    """
    built, rng = tokenizer.build(), np.random.default_rng(seed)
    pad, assistant = token_id(built, tokenizer.PAD), token_id(built, tokenizer.ASSISTANT)
    stream = training_stream(size, seed, benchmarks)
    while True:
        texts = [
            f"{tokenizer.prompt_text(task.question)}{''.join(task.steps)}{tokenizer.EOS}"
            for task in islice(stream, 4096)
        ]
        rows = sorted((encoding.ids for encoding in built.encode_batch(texts)), key=len)
        cuts = [rows[part] for part in cut([len(row) for row in rows], BATCH_TOKENS[size])]
        for i in rng.permutation(len(cuts)):
            width = len(cuts[i][-1])
            ids_BT = torch.tensor([row + [pad] * (width - len(row)) for row in cuts[i]])
            answer_BT = (ids_BT == assistant).cumsum(1).bool() & (ids_BT != assistant) & (ids_BT != pad)
            yield ids_BT, answer_BT


@torch.no_grad()
def respond(model: Qwen2, prompts: list[str], temperature: float, seed: int) -> list[str]:
    """Sample continuations; greedy at temperature 0. Prompts of one length form a batch, so nothing needs padding."""
    built, generator = tokenizer.build(), torch.Generator().manual_seed(seed)
    eos = token_id(built, tokenizer.EOS)
    by_length = defaultdict(list)
    for i, encoding in enumerate(built.encode_batch(prompts)):
        by_length[len(encoding.ids)].append((i, encoding.ids))
    responses = [""] * len(prompts)
    for rows in by_length.values():
        past: list[list[Tensor]] = [[] for _ in model.model.layers]
        tokens, start = torch.tensor([ids for _, ids in rows]), 0
        written: list[Tensor] = []
        done = torch.zeros(len(rows), dtype=torch.bool)
        while len(written) < 100 and not done.all():
            logits = model.logits(model.hidden(tokens, start, past)[:, -1])
            start += tokens.shape[1]
            if temperature == 0:
                tokens = logits.argmax(-1, keepdim=True)
            else:
                tokens = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            tokens[done] = eos
            done |= tokens[:, 0] == eos
            written.append(tokens)
        for (i, _), ids in zip(rows, torch.cat(written, 1).tolist(), strict=True):
            responses[i] = built.decode(ids, skip_special_tokens=True)
    return responses


def accuracies(
    model: Qwen2,
    temperature: float,
    split: str = "validation",
    n: int | None = None,
    benchmarks: Sequence[str] = PAIR_BENCHMARKS,
) -> Accuracies:
    """Sample the first n questions of a split. A response is right if its last step is the true one."""
    result: Accuracies = {}
    for benchmark in benchmarks:
        tasks = questions(benchmark, split, n)
        responses = respond(model, [tokenizer.prompt_text(task.question) for task in tasks], temperature, seed=0)
        right = defaultdict(list)
        for task, response in zip(tasks, responses, strict=True):
            right[task.level].append(response.split("\n\n")[-1] == task.steps[-1])
        result[benchmark] = {"overall": float(np.mean([r for level in LEVELS for r in right[level]]))}
        result[benchmark] |= {str(level): float(np.mean(right[level])) for level in LEVELS}
    return result


@torch.no_grad()
def step_accuracies(model: Qwen2, benchmark: str) -> dict[str, StepAccuracy]:
    """How often the model writes the step right that follows the true steps before it, over the validation questions.

    The key is `easy` or `hard`. Nothing is sampled: the chance of a step is the product of its tokens' chances.
    """
    built = tokenizer.build()
    chances: dict[str, list[float]] = defaultdict(list)
    likeliest: dict[str, list[bool]] = defaultdict(list)
    for task in questions(benchmark, "validation"):
        stops, text = [], tokenizer.prompt_text(task.question)
        for step in ("", *task.steps[:-1]):
            text += step
            stops.append(len(built.encode(text).ids))
        ids_T = torch.tensor(built.encode(text).ids)
        logits = model.logits(model.hidden(ids_T[None, :-1])[0])
        logprob_T = (logits / TEMPERATURE).log_softmax(-1).gather(1, ids_T[1:, None])[:, 0]
        same_T = logits.argmax(-1) == ids_T[1:]
        for hard, first, stop in zip(hard_steps(task), stops[:-1], stops[1:], strict=True):
            kind = "hard" if hard else "easy"
            chances[kind].append(logprob_T[first - 1 : stop - 1].sum().exp().item())
            likeliest[kind].append(bool(same_T[first - 1 : stop - 1].all()))
    return {
        kind: {
            "steps": len(chances[kind]),
            "sampled": float(np.mean(chances[kind])),
            "greedy": float(np.mean(likeliest[kind])),
        }
        for kind in ("easy", "hard")
    }


def fit(
    model: nn.Module,
    stream: Iterator[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    tokens: int,
    rates: tuple[float, float],
    log: Callable[[str], None],
) -> int:
    """Train on a stream of ids and targets until at least `tokens` ids are seen, padding included.

    `rates` are the learning rates of Muon and AdamW. Returns the number of ids seen.
    """
    torch.set_flush_denormal(True)  # it applies to the whole process, and is undone below
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in trained if p.dim() == 2 and "embed" not in name]
    rest = [p for name, p in trained if p.dim() != 2 or "embed" in name]
    muon = Muon(matrices, rates[0])
    adam = torch.optim.AdamW(rest, rates[1], betas=(0.9, 0.98), weight_decay=0.0)
    base = [(group, group["lr"]) for optimizer in (muon, adam) for group in optimizer.param_groups]
    seen, step, losses = 0, 0, []
    while seen < tokens:
        ids_BT, targets_BT = next(stream)
        for group, lr in base:
            group["lr"] = lr * min(1.0, (step + 1) / WARMUP_STEPS, 1.2 * (1 - seen / tokens))
        value = loss(ids_BT, targets_BT)
        muon.zero_grad(set_to_none=True)
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        muon.step()
        adam.step()
        seen, step = seen + ids_BT.numel(), step + 1
        losses.append(value.item())
        if step % 200 == 0:
            log(f"{seen / 1e6:.1f} M tokens, loss {np.mean(losses[-200:]):.4f}")
    torch.set_flush_denormal(False)
    return seen


def train(
    size: str,
    seed: int,
    out: Path,
    benchmarks: Sequence[str] = PAIR_BENCHMARKS,
    tokens: int | None = None,
    log: Callable[[str], None] = print,
) -> TrainingResult:
    """Train one model, write its folder, and measure its validation accuracies, sampled at T = 0.7 and greedy.

    If it is trained on `mixed_chain`, its accuracies on easy and hard steps are measured too.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    started = time.process_time()
    model = Qwen2(DIMENSIONS[size], tokenizer.build().get_vocab_size())

    def loss(ids_BT: Tensor, answer_BT: Tensor) -> Tensor:
        logits = model.logits(model.hidden(ids_BT[:, :-1])[answer_BT[:, 1:]])
        return F.cross_entropy(logits, ids_BT[:, 1:][answer_BT[:, 1:]])

    rates = MUON_LR[size], ADAM_LR[size]
    seen = fit(
        model,
        batches(size, seed, benchmarks),
        loss,
        tokens or sum(TOKENS[size][benchmark] for benchmark in benchmarks),
        rates,
        lambda line: log(f"{size} seed {seed}: {line}"),
    )
    checkpoint.save(out, DIMENSIONS[size], {name: p.detach() for name, p in model.named_parameters()})
    result: TrainingResult = {
        "size": size,
        "seed": seed,
        "tokens": seen,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_minutes": (time.process_time() - started) / 60,
        "sampled": accuracies(model, TEMPERATURE, benchmarks=benchmarks),
        "greedy": accuracies(model, 0.0, benchmarks=benchmarks),
    }
    if "mixed_chain" in benchmarks:
        result["steps"] = step_accuracies(model, "mixed_chain")
    return result


class PairReport(TypedDict):
    """The content of `selection.json`."""

    selected: dict[str, int]
    """The selected seed of each size."""
    results: list[TrainingResult]


def train_pair(
    seeds: list[int], out: Path, benchmarks: Sequence[str] = PAIR_BENCHMARKS, log: Callable[[str], None] = print
) -> PairReport:
    """Train every seed of both sizes in two processes. Write their folders and `selection.json`; return its content."""
    out.mkdir(parents=True, exist_ok=True)
    # The large models come first because they take longest. The small ones fill the gap at the end.
    jobs = [(size, seed) for size in ("large", "small") for seed in seeds]
    results = []
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as processes:
        running = {
            processes.submit(train, size, seed, out / f"{size}-seed{seed}", benchmarks): (size, seed)
            for size, seed in jobs
        }
        for future in as_completed(running):
            results.append(future.result())
            log(f"{'{} seed {}'.format(*running[future])} done: {json.dumps(results[-1]['sampled'])}")
            if "steps" in results[-1]:
                log(f"steps: {json.dumps(results[-1]['steps'])}")
    results.sort(key=lambda result: (result["size"], result["seed"]))
    small, large = select(results)
    report: PairReport = {"selected": {"small": small, "large": large}, "results": results}
    for result in results:
        result["shortfall"] = shortfall(result)
    (out / "selection.json").write_text(json.dumps(report, indent=2) + "\n")
    return report
