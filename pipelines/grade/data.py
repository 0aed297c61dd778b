"""`steer show-prompt` and `steer data`: a benchmark as the models would be asked it, before anything is started.

Both read the rows in this process. With a pair they load its tokenizers, but no model.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pipelines.report.printed import first_of
from steer.benchmarks import EmptySplit, Key, Reading, load_benchmark, reading
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.run import BenchmarkConfig, ModelConfig
from steer.messages import Prompt

REFUSALS_SHOWN = 20
BAR_CHARS = 40
"""Length of a histogram's longest bar."""


class _Tally(NamedTuple):
    """Counts over the rows of a benchmark."""

    keys: list[Key]
    refused: list[str]
    subsets: Counter
    difficulties: Counter
    chars: list[int]
    lengths: dict[str, list[int]]
    """By model: tokens of each prompt."""


def show_prompt(config: BenchmarkConfig, row: int, pair: str | None) -> str:
    """The prompt of one row of the split, counted from 1. With a `pair`: as the chat templates of its models write it.
    Raises SettingsError for a row that is not there."""
    with refusals_as_settings_errors():
        benchmark = load_benchmark(config)
    if not 1 <= row <= len(benchmark.rows):
        raise SettingsError(f"{benchmark.name} {benchmark.split} has rows 1 to {len(benchmark.rows)}: choose --row N")
    question, error = benchmark.rows[row - 1].question, benchmark.rows[row - 1].error
    lines = [f"{benchmark.name} {benchmark.split}, row {row} of {len(benchmark.rows)}: {question.id}"]
    if error:
        return "\n".join([*lines, f"refused: {error}"])
    about = {"subset": question.subset, "difficulty": question.difficulty, "labels": question.labels.strip("{}")}
    lines.append("   ".join(f"{name}: {value}" for name, value in about.items() if value))
    lines.append(f"grader: {benchmark.grader}   gold: {question.gold}")
    prompt = Prompt(question.prompt, question.system)
    if pair is None:
        parts = {"system": prompt.system, "user": prompt.user}
    else:
        with refusals_as_settings_errors():
            parts = {f"as {m.path} is given it": _Encoder(m).text(prompt) for m in _distinct(pair)}
    for name, text in parts.items():
        if text:
            lines += ["", f"--- {name} ---", text]
    return "\n".join(lines)


def describe_data(config: BenchmarkConfig, pair: str | None) -> str:
    """Counts of rows, splits and difficulties, prompt lengths, and the refused rows with their reasons.

    Makes one pass over the rows and holds one at a time. `pair`: count prompts in tokens of its models, too.
    """
    with refusals_as_settings_errors():
        plan = reading(config.model_copy(update={"split": "test"}))
        encoders = [_Encoder(model) for model in _distinct(pair)] if pair is not None else []
        tally = _tally(replace(plan, split="all"), encoders)
        splits = {split: _count(plan, split, tally.keys) for split in ("validation", "test")}
    lines = [
        f"{plan.name}: {len(tally.keys)} rows, {len(tally.chars)} questions, {len(tally.refused)} refused",
        f"grader: {plan.grader}   tokens: {plan.tokens}",
        f"splits: validation {splits['validation']}, test {splits['test']} ({plan.split_rule})",
        *_histogram("subset", tally.subsets),
        *_histogram("difficulty", tally.difficulties),
        "",
        f"prompt length in characters: {_spread(tally.chars)}",
    ]
    for encoder in encoders:
        lengths, limit = tally.lengths[encoder.name], encoder.limit
        room = f"; context {limit:,}: {sum(n >= limit for n in lengths)} prompts do not fit" if limit else ""
        lines.append(f"prompt length in tokens of {encoder.name}, chat template included: {_spread(lengths)}{room}")
    if tally.refused:
        lines += ["", "refused:", *first_of(tally.refused, REFUSALS_SHOWN)]
    return "\n".join(lines)


def _tally(plan: Reading, encoders: Sequence["_Encoder"]) -> _Tally:
    tally = _Tally([], [], Counter(), Counter(), [], {encoder.name: [] for encoder in encoders})
    for shard in plan.wanted_shards():
        for key, row in shard.rows():
            tally.keys.append(key)
            if row.error:
                tally.refused.append(row.error)
                continue
            question = row.question
            tally.subsets[question.subset] += 1
            tally.difficulties[question.difficulty] += 1
            tally.chars.append(len(question.system) + len(question.prompt))
            for encoder in encoders:
                tally.lengths[encoder.name].append(encoder.tokens(Prompt(question.prompt, question.system)))
    return tally


def _count(plan: Reading, split: str, keys: Sequence[Key]) -> int:
    wanted = replace(plan, split=split)
    try:
        return len(wanted.select(keys))
    except EmptySplit:
        return 0


def _distinct(pair: str) -> list[ModelConfig]:
    """The models of the pair; only one of them if both have the same path."""
    loaded = load_pair(pair)
    return list({m.path: m for m in (loaded.small, loaded.large)}.values())


class _Encoder:
    """Encodes prompts as a replica of the model does. Raises SettingsError if the tokenizer cannot be loaded."""

    def __init__(self, model: ModelConfig):
        import transformers

        from actors.engine.checkpoint import model_folder
        from actors.engine.tokenizer import Tokenizer

        self.name = model.path
        self.limit = model.max_model_len
        # Otherwise it warns of prompts beyond the tokenizer's own limit, whose lengths are asked for here.
        transformers.logging.set_verbosity_error()
        try:
            self._hf_tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder(model.path))
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise SettingsError(
                f"the tokenizer of {model.path} cannot be loaded ({reason}): check the network, or give a pair file "
                "with the path of a local copy"
            ) from error
        try:
            self._tokenizer = Tokenizer(self._hf_tokenizer, (), model.system_role, model.template, model.thinks)
        except ValueError as refusal:
            raise SettingsError(f"{model.path}: {refusal}") from refusal

    def tokens(self, prompt: Prompt) -> int:
        return len(self._tokenizer.encode_prompt(prompt))

    def text(self, prompt: Prompt) -> str:
        return self._hf_tokenizer.decode(self._tokenizer.encode_prompt(prompt), skip_special_tokens=False)


def _histogram(name: str, counts: Counter) -> list[str]:
    if set(counts) <= {""}:
        return []
    top = max(counts.values())
    width = max(len(value) for value in counts)
    bars = (
        f"  {value:{width}s} {count:6d} {'#' * max(1, round(BAR_CHARS * count / top))}"
        for value, count in sorted(counts.items(), key=lambda item: _in_order(item[0]))
    )
    return ["", f"{name}:", *bars]


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _spread(lengths: Sequence[int]) -> str:
    if not lengths:
        return "none"
    low, median, high, most = (int(v) for v in np.quantile(lengths, [0, 0.5, 0.95, 1]))
    return f"{low:,} to {most:,}, median {median:,}, 95 % within {high:,}"
