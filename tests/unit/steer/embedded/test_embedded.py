"""The embedded pair: its questions, its tokenizer, the rule that selects it, and the weights that ship."""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from steer.embedded import tokenizer, weights_path
from steer.embedded.labels import hard_steps
from steer.embedded.selection import select, shortfall
from steer.embedded.tasks import (
    BENCHMARKS,
    CHAIN_LENGTHS,
    EASY_OPERATIONS,
    ENTITIES,
    FACTS,
    HARD_OPERATIONS,
    LEVELS,
    MIXED_IMAGE_SIZE,
    MIXED_TABLES,
    PAIR_BENCHMARKS,
    RELATIONS,
    SPLIT_SIZES,
    STEP_DELIMITER,
    Task,
    apply_mixed_operation,
    apply_operation,
    questions,
    split_of,
    training_stream,
)

SIZES = ("small", "large")
PAIRS = (("small", "large"), ("mixed/small", "mixed/large"))
MODELS = tuple(name for pair in PAIRS for name in pair)
TRAINED_ON = {"embedded": PAIR_BENCHMARKS, "embedded-mixed": ("mixed_chain",)}
MAX_WEIGHTS_BYTES = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def built() -> Tokenizer:
    return tokenizer.build()


def _chain(task: Task) -> tuple[list[str], str]:
    names, start = re.fullmatch(r"(?:Operations|Relations): (.+)\. Start: (.+)", task.question).groups()
    return names.split(", "), start


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_splits_are_disjoint_at_every_level(benchmark: str) -> None:
    seen: dict[int, set[str]] = {level: set() for level in LEVELS}
    for split, size in SPLIT_SIZES.items():
        tasks = questions(benchmark, split)
        assert len(tasks) == size
        assert {split_of(task.question) for task in tasks} == {split}
        for level in LEVELS:
            texts = {task.question for task in tasks if task.level == level}
            assert len(texts) == size // len(LEVELS)
            assert not texts & seen[level]
            seen[level] |= texts


@pytest.mark.parametrize("pair", TRAINED_ON)
@pytest.mark.parametrize("size", SIZES)
def test_training_questions_belong_to_no_other_split_and_cover_everything(size: str, pair: str) -> None:
    names = TRAINED_ON[pair]
    tasks = list(islice(training_stream(size, 0, names), 2000))
    assert {split_of(task.question) for task in tasks} == {"train"}
    assert {(task.benchmark, task.level) for task in tasks} == {(b, level) for b in names for level in LEVELS}
    again = islice(training_stream(size, 0, names), 50)
    assert [task.question for task in again] == [task.question for task in tasks[:50]]
    assert next(training_stream(size, 1, names)).question != tasks[0].question


def _hash(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("benchmark", "hashes"),
    [
        ("chain_math", ("0df54ca8d67d6165", "47cad26177c9e7f3", "bead3a6ccf4bfdb0")),
        ("hops", ("e02853fff38536db", "8ce346957730ae08", "3fe7895e68581e8c")),
        ("mixed_chain", ("6b69a1b456e88085", "8ee37e66830a91cb", "94a6deb69125d82b")),
    ],
)
def test_questions_and_their_steps_never_change(benchmark: str, hashes: tuple[str, ...]) -> None:
    """The weights that ship were trained on them, and published figures measured on them."""
    found = []
    for split in ("validation", "test", "train"):
        tasks = questions(benchmark, split)
        found.append(_hash([f"{t.id}|{t.level}|{t.question}|{t.gold}|{''.join(t.steps)}" for t in tasks]))
    assert tuple(found) == hashes


@pytest.mark.parametrize(("size", "expected"), [("small", "a19ea31066600ece"), ("large", "3fe3cd744bd83fbc")])
def test_the_training_questions_of_the_pair_that_ships_never_change(size: str, expected: str) -> None:
    tasks = islice(training_stream(size, 0), 3000)
    assert _hash([f"{task.id}|{task.question}" for task in tasks]) == expected


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_any_prefix_is_the_same_and_balanced(benchmark: str) -> None:
    everything = questions(benchmark, "test")
    assert len({task.id for task in everything}) == len(everything)
    assert everything[7].id == f"{benchmark}-test-0007"
    for n in (0, 1, 5, 40, 799):
        prefix = questions(benchmark, "test", n)
        assert prefix == everything[:n]
        counts = [sum(task.level == level for task in prefix) for level in LEVELS]
        assert max(counts) - min(counts) <= 1


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="chain_math"):
        questions("gsm8k", "test")
    with pytest.raises(ValueError, match="validation, test, train"):
        questions("hops", "trial")
    with pytest.raises(ValueError, match="800"):
        questions("hops", "test", 801)


def test_chain_math_gold_is_the_chain_evaluated_again() -> None:
    for task in questions("chain_math", "test"):
        names, start = _chain(task)
        assert len(start) == len(task.gold) == task.level
        assert len(set(names)) == len(names) == len(task.steps) - 1
        value = int(start)
        for name, step in zip(names, task.steps, strict=False):
            value = apply_operation(name, value, task.level)
            assert step == f"{name} = {value:0{task.level}d}{STEP_DELIMITER}"
        assert int(task.gold) == value
        assert task.steps[-1] == f"The answer is \\boxed{{{task.gold}}}."


def test_hops_gold_is_where_the_relations_lead_within_the_level() -> None:
    for task in questions("hops", "test"):
        relations, entity = _chain(task)
        low, high = CHAIN_LENGTHS["hops"][task.level]
        assert low <= len(set(relations)) == len(relations) <= high
        for relation, step in zip(relations, task.steps, strict=False):
            entity = FACTS[relation][entity]
            assert entity in ENTITIES[task.level]
            assert step == f"{relation} = {entity}{STEP_DELIMITER}"
        assert task.steps[-1] == f"The answer is {entity}."
        assert task.gold == entity


def test_mixed_chain_gold_is_the_chain_evaluated_again_and_its_level_counts_hard_operations() -> None:
    places, lengths = set(), set()
    for task in questions("mixed_chain", "test"):
        names, start = _chain(task)
        assert len(start) == len(task.gold) == 4
        assert 6 <= len(set(names)) == len(names) == len(task.steps) - 1 <= 9
        hard = [name in HARD_OPERATIONS for name in names]
        assert hard == hard_steps(task)
        assert sum(hard) == task.level - 1
        value = int(start)
        for name, step in zip(names, task.steps, strict=False):
            high, value = value // 100, apply_mixed_operation(name, value)
            assert step == f"{name} = {value:04d}{STEP_DELIMITER}"
            assert value // 100 == (MIXED_TABLES[name][high] if name in HARD_OPERATIONS else high)
        assert int(task.gold) == value
        assert task.steps[-1] == f"The answer is \\boxed{{{task.gold}}}."
        lengths.add((task.level, len(names)))
        places |= {place for place, is_hard in enumerate(hard) if is_hard}
    assert places == set(range(9))
    assert lengths == {(level, length) for level in LEVELS for length in range(6, 10)}


def test_a_hard_operation_depends_on_the_first_two_digits_and_an_easy_one_keeps_them() -> None:
    assert not set(EASY_OPERATIONS) & set(HARD_OPERATIONS)
    for name in HARD_OPERATIONS:
        results = {apply_mixed_operation(name, 100 * high) // 100 for high in range(100)}
        assert len(results) == MIXED_IMAGE_SIZE
    for name in EASY_OPERATIONS:
        assert all(apply_mixed_operation(name, value) // 100 == value // 100 for value in range(10_000))


def test_the_world_is_whole() -> None:
    names = [entity for level in LEVELS for entity in ENTITIES[level]]
    assert len(set(names)) == len(names)
    assert all(set(FACTS[relation]) == set(names) for relation in RELATIONS)


@pytest.mark.parametrize("benchmark", PAIR_BENCHMARKS)
def test_hard_levels_hold_about_two_fifths_of_the_tokens(benchmark: str, built: Tokenizer) -> None:
    tokens = dict.fromkeys(LEVELS, 0)
    for task in questions(benchmark, "test"):
        tokens[task.level] += len(built.encode("".join(task.steps)).ids) + 1
    assert 0.37 <= (tokens[3] + tokens[4]) / sum(tokens.values()) <= 0.45


@settings(deadline=None)  # a busy machine says nothing about the tokenizer
@given(text=st.text())
def test_any_text_survives_the_tokenizer(built: Tokenizer, text: str) -> None:
    assert built.decode(built.encode(text).ids, skip_special_tokens=False) == text


def test_delimiter_digits_and_words_are_single_tokens(built: Tokenizer) -> None:
    delimiter = built.encode(STEP_DELIMITER).ids
    assert len(delimiter) == 1
    assert built.encode("a.\n\nb").ids == [*built.encode("a.").ids, *delimiter, *built.encode("b").ids]
    assert built.encode("\n").ids != delimiter
    assert built.encode("\n\n\n").ids == [*delimiter, *built.encode("\n").ids]
    assert len(built.encode("0123456789").ids) == 10
    assert all(len(built.encode(word).ids) == 1 for word in tokenizer.words())


def test_a_chain_step_is_one_token_a_part(built: Tokenizer) -> None:
    assert [built.decode([i]) for i in built.encode("bek = 52\n\n").ids] == ["bek", " = ", "5", "2", "\n\n"]


def _result(size: str, seed: int, names: tuple[str, ...] = PAIR_BENCHMARKS, **levels: float) -> dict:
    return {"size": size, "seed": seed, "sampled": {benchmark: levels for benchmark in names}}


def test_selection_prefers_what_qualifies_to_what_is_merely_better() -> None:
    good = {"1": 0.95, "2": 0.95, "4": 0.1}
    results = [
        _result("small", 0, **{"1": 1.0, "2": 1.0, "4": 0.4}),
        _result("small", 1, **good),
        _result("small", 2, **good),
        _result("large", 0, overall=0.8),
        _result("large", 1, overall=0.9),
        _result("large", 2, overall=0.97),
    ]
    assert select(results) == (1, 2)
    assert [round(shortfall(result), 9) for result in results] == [0.5, 0, 0, 0.05, 0, 0]


def test_a_small_model_of_mixed_chain_is_judged_by_the_level_without_a_hard_step() -> None:
    mixed = ("mixed_chain",)
    results = [
        _result("small", 0, mixed, **{"1": 0.8, "2": 0.9, "4": 0.1}),
        _result("small", 1, mixed, **{"1": 0.95, "2": 0.3, "4": 0.1}),
        _result("large", 0, mixed, overall=0.97),
        _result("large", 1, mixed, overall=0.9),
    ]
    assert select(results) == (1, 0)
    assert [round(shortfall(result), 9) for result in results] == [0.1, 0, 0, 0.05]


@pytest.mark.parametrize("size", MODELS)
def test_shipped_tokenizer_and_chat_template(size: str, built: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(weights_path(size))
    # "e" and a combining accent: transformers' own Qwen2 tokenizer would compose them, and lose the text.
    for text in ("Operations: bek. Start: 7", "a.\n\nb", "Cafe\u0301 , don 't"):
        assert loaded.encode(text) == built.encode(text).ids
        assert loaded.decode(loaded.encode(text)) == text
    user = {"role": "user", "content": "Q"}

    def render(messages: list[dict], generate: bool) -> str:
        return loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)

    assert render([user], True) == tokenizer.prompt_text("Q") == "<|user|>Q<|assistant|>"
    assert render([{"role": "system", "content": "S"}, user], True) == "<|user|>S\n\nQ<|assistant|>"
    dialogue = [user, {"role": "assistant", "content": "A"}, user]
    assert render(dialogue, False) == "<|user|>Q<|assistant|>A<|end|><|user|>Q"
    assert loaded.eos_token == "<|end|>"
    assert loaded.pad_token == "<|pad|>"


@pytest.mark.parametrize("pair", PAIRS)
def test_shipped_weights_are_those_selected_and_small_enough(pair: tuple[str, str]) -> None:
    folders = [weights_path(name) for name in pair]
    assert sum(f.stat().st_size for folder in folders for f in folder.rglob("*")) <= MAX_WEIGHTS_BYTES
    report = json.loads((folders[0].parent / "selection.json").read_text())
    assert select(report["results"]) == (report["selected"]["small"], report["selected"]["large"])


@pytest.mark.parametrize("size", MODELS)
def test_shipped_weights_load_in_transformers_and_answer(size: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.Qwen2ForCausalLM.from_pretrained(weights_path(size), dtype=torch.float32)
    loaded = transformers.AutoTokenizer.from_pretrained(weights_path(size))
    right = 0
    for task in questions("mixed_chain" if size.startswith("mixed/") else "chain_math", "validation", 37)[::4]:
        prompt = loaded(tokenizer.prompt_text(task.question), return_tensors="pt")
        output = model.generate(**prompt, do_sample=False, temperature=None, max_new_tokens=100)
        right += loaded.decode(output[0, prompt["input_ids"].shape[1] :]) == "".join(task.steps) + tokenizer.EOS
    assert right >= 8, f"{right} of 10 questions of level 1 answered"


def test_training_model_gives_the_logits_of_transformers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from steer.embedded import checkpoint, train

    torch.manual_seed(0)
    for size in SIZES:
        shape = checkpoint.DIMENSIONS[size]
        ours = train.Qwen2(shape, tokenizer.build().get_vocab_size())
        for parameter in ours.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        weights = {name: parameter.detach() for name, parameter in ours.named_parameters()}
        checkpoint.save(tmp_path / size, shape, weights)
        theirs = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path / size, dtype=torch.float32)
        ids = torch.randint(0, 320, (2, 80))
        with torch.no_grad():
            assert (ours.logits(ours.hidden(ids)) - theirs(ids).logits).abs().max() < 1e-4


def test_training_writes_a_model_and_reports_accuracies(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from steer.embedded import train

    result = train.train("small", seed=0, out=tmp_path / "model", tokens=5000, log=lambda line: None)
    assert result["tokens"] >= 5000
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "model").iterdir()
    }
    for name in ("sampled", "greedy"):
        assert set(result[name]) == set(PAIR_BENCHMARKS)
        assert all(set(levels) == {"overall", "1", "2", "3", "4"} for levels in result[name].values())
    assert "steps" not in result


def test_train_pair_trains_every_seed_of_both_sizes_and_records_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from steer.embedded import train

    def fake_train(size: str, seed: int, out: Path, benchmarks: tuple[str, ...]) -> dict:
        out.mkdir()
        return _result(
            size, seed, benchmarks, **{"overall": 0.9 + seed / 100, "1": 0.9 + seed / 100, "2": 1.0, "4": 0.0}
        )

    def in_threads(max_workers: int, mp_context: object) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers)

    monkeypatch.setattr(train, "train", fake_train)
    monkeypatch.setattr(train, "ProcessPoolExecutor", in_threads)
    report = train.train_pair([0, 2, 1], tmp_path, log=lambda line: None)
    assert report == json.loads((tmp_path / "selection.json").read_text())
    assert report["selected"] == {"small": 2, "large": 2}
    assert [(r["size"], r["seed"]) for r in report["results"]] == [
        (size, k) for size in sorted(SIZES) for k in range(3)
    ]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        f"{s}-seed{k}" for s in SIZES for k in range(3)
    }


def test_training_on_mixed_chain_reports_easy_and_hard_steps_apart(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from steer.embedded import train

    result = train.train("small", 0, tmp_path / "model", ("mixed_chain",), tokens=5000, log=lambda line: None)
    assert set(result["sampled"]) == {"mixed_chain"}
    hard = sum(task.level - 1 for task in questions("mixed_chain", "validation"))
    steps = sum(len(task.steps) - 1 for task in questions("mixed_chain", "validation"))
    assert {kind: found["steps"] for kind, found in result["steps"].items()} == {"easy": steps - hard, "hard": hard}


def test_the_shipped_small_model_of_mixed_chain_fails_at_hard_steps_alone_and_the_large_one_at_none() -> None:
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    from steer.embedded import checkpoint, train

    found = {}
    for size in SIZES:
        model = train.Qwen2(checkpoint.DIMENSIONS[size], tokenizer.build().get_vocab_size())
        model.load_state_dict(load_file(weights_path(f"mixed/{size}") / "model.safetensors"))
        found[size] = train.step_accuracies(model, "mixed_chain")
    assert found["small"]["easy"]["sampled"] > 0.99
    assert 0.15 <= found["small"]["hard"]["sampled"] <= 0.4
    assert min(found["large"][kind]["sampled"] for kind in ("easy", "hard")) > 0.98
