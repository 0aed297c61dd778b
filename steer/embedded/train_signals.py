"""Training of the embedded pair's process reward model and judge, and measurement of how well they rate drafts.

Invariants: both learn only from questions of the training split, with labels that follow from the facts; validation
questions are rated and never trained on; training ends after a number of tokens, never by the clock; the same seed on
the same machine gives the same weights.
"""

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from steer.embedded import checkpoint, tokenizer, weights_path
from steer.embedded.batches import cut
from steer.embedded.checkpoint import DIMENSIONS
from steer.embedded.labels import split_steps
from steer.embedded.mistakes import wrong_step
from steer.embedded.signals import AUXILIARY_WRONG, RIGHT, SIGNALS, WRONG, Rated, SignalModel, label, padded
from steer.embedded.tasks import LEVELS, PAIR_BENCHMARKS, Task, questions, training_stream
from steer.embedded.train import TEMPERATURE, Qwen2, fit, respond

TOKENS = {"prm": 3_000_000, "judge": 2_000_000}
"""Tokens seen in training, padding included. The judge starts from the reward model's new layers; with 4 M tokens it
got worse."""
BATCH_TOKENS = 4096
RATES = (0.008, 0.002)
"""Learning rates of Muon and AdamW for the new layers. No norm limits what these layers write to their scratch space:
at 0.02 and 0.005 the loss rose, and after 5 M tokens both models rated drafts of levels 3 and 4 no better than
chance."""
ROUND_RESPONSES = 1024
"""How many training responses are made at a time. The sampler batches prompts of one length."""
SOURCES = {"small": 3, "draft": 3, "mistakes": 6, "true": 1, "large": 1}
"""Weights of the sources of training responses: a sample of the small model; true steps with the small model's draft
after them; true steps with some wrong ones among them; the true response; a sample of the large model."""


def load(size: Literal["small", "large"]) -> Qwen2:
    """Load a shipped model of the pair."""
    model = Qwen2(DIMENSIONS[size], tokenizer.build().get_vocab_size())
    model.load_state_dict(load_file(weights_path(size) / "model.safetensors"))
    return model


def responses(seed: int) -> Iterator[Rated]:
    """Endless labelled training responses from the sources in `SOURCES`, in random order."""
    rng, stream = random.Random(f"signals {seed}"), training_stream("large", seed)
    models = {"small": load("small"), "large": load("large")}
    while True:
        tasks = list(islice(stream, ROUND_RESPONSES))
        sources = rng.choices(list(SOURCES), list(SOURCES.values()), k=len(tasks))
        steps: list[tuple[str, ...]] = []
        asked: dict[str, list[int]] = {"small": [], "large": []}
        for i, (task, source) in enumerate(zip(tasks, sources, strict=True)):
            steps.append(task.steps)
            if source == "mistakes":
                steps[i] = _with_mistakes(rng, task)
            elif source == "draft":
                steps[i] = task.steps[: rng.randrange(len(task.steps))]
            elif source != "true":
                steps[i] = ()
            if source in ("small", "draft", "large"):
                asked["large" if source == "large" else "small"].append(i)
        for size, places in asked.items():
            prompts = [tokenizer.prompt_text(tasks[i].question) + "".join(steps[i]) for i in places]
            written = respond(models[size], prompts, TEMPERATURE, rng.randrange(2**31))
            for i, text in zip(places, written, strict=True):
                new = split_steps(text)
                steps[i] += new[:1] if sources[i] == "draft" else new
        yield from (label(task, made) for task, made in zip(tasks, steps, strict=True) if made)


def _with_mistakes(rng: random.Random, task: Task) -> tuple[str, ...]:
    """True steps with one wrong step among them, or sometimes several, cut off after the last wrong step."""
    wrong = sorted(rng.sample(range(len(task.steps)), rng.choice((1, 1, 1, 2, 3))))
    return tuple(wrong_step(rng, task, i) if i in wrong else task.steps[i] for i in range(wrong[-1] + 1))


def _batches(model: SignalModel, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of ids and targets, both [B, T], from rows of similar length."""
    rng, stream = random.Random(f"signal rows {seed}"), responses(seed)
    while True:
        rows = sorted(model.rows(list(islice(stream, ROUND_RESPONSES)), rng), key=lambda row: len(row.ids))
        parts = cut([len(row.ids) for row in rows], BATCH_TOKENS)
        for part in rng.sample(parts, len(parts)):
            yield padded(rows[part])


def _balanced(log_probabilities_N2: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy in which the classes wrong and right have the same weight: only one token in forty is a first wrong
    one."""
    losses_N = F.nll_loss(log_probabilities_N2, targets_N, reduction="none")
    means = (losses_N[targets_N == kind].mean() for kind in (WRONG, RIGHT) if (targets_N == kind).any())
    return sum(means, start=losses_N.new_zeros(()))


def _read(targets_BT: Tensor) -> Tensor:
    return (targets_BT == WRONG) | (targets_BT == RIGHT)


def train_signal(
    name: str,
    seed: int,
    out: Path,
    tokens: int | None = None,
    log: Callable[[str], None] = print,
    start: SignalModel | None = None,
) -> tuple[SignalModel, dict[str, Any]]:
    """Train the reward model or the judge and write its folder. Return the model, and its size, tokens and CPU minutes.

    With `start`, the new layers are initialised from that model.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    started, model = time.process_time(), SIGNALS[name]()
    if start is not None:
        for layer, trained in zip(model.new_layers, start.new_layers, strict=True):
            layer.load_state_dict(trained.state_dict())

    def loss(ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        before_BTH, hidden_BTH = model.layered(ids_BT)
        read_BT, auxiliary_BT = _read(targets_BT), targets_BT >= AUXILIARY_WRONG
        told = _balanced(model.log_probabilities(hidden_BTH[read_BT]), targets_BT[read_BT])
        auxiliary = model.auxiliary(before_BTH[auxiliary_BT]).log_softmax(-1)
        return told + _balanced(auxiliary, targets_BT[auxiliary_BT] - AUXILIARY_WRONG)

    seen = fit(model, _batches(model, seed), loss, tokens or TOKENS[name], RATES, lambda line: log(f"{name}: {line}"))
    weights = {key: p.detach().bfloat16() for key, p in model.trained().items()}
    model.load_state_dict(weights, strict=False)  # the figures are of the weights as written
    checkpoint.save(out, DIMENSIONS["signal"], weights, rewards=name == "prm")
    return model, {
        "seed": seed,
        "tokens": seen,
        "parameters": sum(p.numel() for p in model.trained().values()),
        "cpu_minutes": (time.process_time() - started) / 60,
    }


def drafts(n: int | None = None) -> dict[str, list[Rated]]:
    """The small model's sampled drafts for the first n validation questions of each benchmark, by the kind of prefix.

    `true_prefix`: a draft after the true steps, at every place of every question; only the draft counts. `own_prefix`:
    whole responses, in which every step counts.
    """
    small = load("small")
    result: dict[str, list[Rated]] = {"true_prefix": [], "own_prefix": []}
    for benchmark in PAIR_BENCHMARKS:
        tasks = questions(benchmark, "validation", n)
        prompts = [tokenizer.prompt_text(task.question) for task in tasks]
        for task, text in zip(tasks, respond(small, prompts, TEMPERATURE, seed=0), strict=True):
            result["own_prefix"].append(label(task, split_steps(text)))
        places = [(task, i) for task in tasks for i in range(len(task.steps))]
        prompts = [tokenizer.prompt_text(task.question) + "".join(task.steps[:i]) for task, i in places]
        for (task, i), text in zip(places, respond(small, prompts, TEMPERATURE, seed=0), strict=True):
            result["true_prefix"].append(label(task, task.steps[:i] + split_steps(text)[:1], first=i))
    return {name: [r for r in found if len(r.steps) > r.first] for name, found in result.items()}


@torch.no_grad()
def ratings(model: SignalModel, rated: list[Rated]) -> list[list[float]]:
    """For each response, the ratings (0 to 1) of its steps from `first` on."""
    rows = model.rows(rated)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    by_row: dict[int, list[float]] = {}
    for part in cut([len(rows[i].ids) for i in order], BATCH_TOKENS):
        ids_BT, targets_BT = padded([rows[i] for i in order[part]])
        read_BT = _read(targets_BT)
        values = iter(model.ratings(model.hidden(ids_BT)[read_BT]).tolist())
        by_row |= {i: list(islice(values, n)) for i, n in zip(order[part], read_BT.sum(1).tolist(), strict=True)}
    every = iter(value for i in range(len(rows)) for value in by_row[i])
    return [list(islice(every, len(r.steps) - r.first)) for r in rated]


class Figures(TypedDict):
    """How well the ratings of some steps fit their labels."""

    auroc: float | None
    """None if all steps are right or all are wrong."""
    accuracy: float
    """At the threshold 0.5."""
    right: int
    """The number of right steps."""
    wrong: int
    """The number of wrong steps."""


def figures(model: SignalModel, rated: list[Rated]) -> dict[str, dict[str, Figures]]:
    """Benchmark -> "overall" and each level -> figures."""
    found_rights: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    found_ratings: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for r, values in zip(rated, ratings(model, rated), strict=True):
        for level in ("overall", str(r.level)):
            found_rights[r.benchmark, level].extend(r.rights[r.first :])
            found_ratings[r.benchmark, level].extend(values)
    result: dict[str, dict[str, Figures]] = {benchmark: {} for benchmark in PAIR_BENCHMARKS}
    for benchmark in PAIR_BENCHMARKS:
        for level in ("overall", *map(str, LEVELS)):
            rights_N = np.array(found_rights[benchmark, level])
            ratings_N = np.array(found_ratings[benchmark, level])
            both = 0 < rights_N.sum() < len(rights_N)
            result[benchmark][level] = {
                "auroc": float(roc_auc_score(rights_N, ratings_N)) if both else None,
                "accuracy": float(np.mean((ratings_N > 0.5) == rights_N)),
                "right": int(rights_N.sum()),
                "wrong": int((~rights_N).sum()),
            }
    return result


def train_signals(seed: int, out: Path, log: Callable[[str], None] = print) -> dict[str, dict[str, Any]]:
    """Train both models and rate the validation drafts. Write their folders and `signals.json`; return its content."""
    out.mkdir(parents=True, exist_ok=True)
    found = drafts()
    report: dict[str, dict[str, Any]] = {}
    model: SignalModel | None = None
    for name in SIGNALS:
        model, report[name] = train_signal(name, seed, out / name, log=log, start=model)
        report[name] |= {prefix: figures(model, rated) for prefix, rated in found.items()}
        log(f"{name} done: {json.dumps(report[name])}")
    (out / "signals.json").write_text(json.dumps(report, indent=2) + "\n")
    return report
