"""The arithmetic of a card's memory, with numbers worked out by hand."""

import pytest
from paths import ROOT

from steer.config.pairs import PAIRS
from steer.config.run import ModelConfig, PoolConfig, PoolsConfig
from steer.costs.gpu_memory import (
    GIB,
    GPU_SIZES,
    ModelDimensions,
    known_dimensions,
    memory_arguments,
    memory_plan,
    memory_problems,
)

THINKING = ("qwen3", "qwen3-4b-32b", "r1-distill", "r1-distill-7b-32b")
HUB_PAIRS = ("qwen2.5-math", "qwen2.5", "gemma-3", "qwen2.5-coder", *THINKING)
UNFIT = {"gemma-3-12b-it": {(24, 1)}, "Qwen3-8B": {(24, 1)}} | dict.fromkeys(
    ("Qwen3-32B", "DeepSeek-R1-Distill-Qwen-32B"), {(24, 1), (24, 2), (48, 1)}
)
"""By model: (card_gb, gpus) that do not hold one sequence of its context."""
MODELS = {model.path: model for name in HUB_PAIRS for model in (PAIRS[name].small, PAIRS[name].large)}
GEMMA_12B = MODELS["google/gemma-3-12b-it"]
SHAPE = ModelDimensions(
    parameters=GIB,
    vocabulary=2**15,
    kv_heads=2,
    head_dim=64,
    full_layers=1,
    window_layers=3,
    window_tokens=512,
    context_tokens=4096,
)


def fit(model, **pool):
    return memory_arguments(known_dimensions(model.path), model, PoolConfig(**pool))


def test_weights_and_cache_by_hand():
    assert SHAPE.weights_gib(1) == 2.0 and SHAPE.weights_gib(2) == 1.0 and SHAPE.weights_gib(1, 4) == 4.0
    # Keys and values of 2 heads of 64 numbers of 2 bytes: 512 bytes a token and layer.
    assert SHAPE.cache_gib(512, 1) * GIB == 512 * 512 * 4
    assert SHAPE.cache_gib(4096, 1) * GIB == 512 * (4096 + 3 * 512), "three of the layers hold their window alone"
    assert SHAPE.cache_gib(4096, 4) == SHAPE.cache_gib(4096, 2) == SHAPE.cache_gib(4096, 1) / 2, "one head at least"


@pytest.mark.parametrize(
    ("name", "bytes_a_token"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", 28_672),
        ("Qwen/Qwen2.5-7B-Instruct", 57_344),
        ("google/gemma-3-4b-it", 139_264),
        ("google/gemma-3-12b-it", 393_216),
    ],
)
def test_cache_of_the_known_models_within_the_window(name, bytes_a_token):
    assert known_dimensions(name).cache_gib(1000, 1) * GIB == pytest.approx(1000 * bytes_a_token)


@pytest.mark.parametrize("path", MODELS)
@pytest.mark.parametrize("card_gb", GPU_SIZES)
@pytest.mark.parametrize("gpus", [1, 2])
def test_everything_that_is_on_a_card_at_once_is_less_than_the_card(path, card_gb, gpus):
    pool = PoolConfig(gpus=gpus, card_gb=card_gb)
    planned, card = memory_plan(known_dimensions(path), MODELS[path], pool), GPU_SIZES[card_gb]
    if (card_gb, gpus) in UNFIT.get(path.split("/")[1], ()):
        assert not planned.fits
        return
    arguments = memory_arguments(known_dimensions(path), MODELS[path], pool)
    scoring_gib = 4 * arguments["max_num_batched_tokens"] * known_dimensions(path).vocabulary * 4 / GIB
    assert arguments["gpu_memory_utilization"] * card.usable_gib + scoring_gib + 0.5 <= card.usable_gib
    cache_gib = arguments["max_num_seqs"] * planned.typical_gib
    assert planned.weights_gib + 1.5 + cache_gib <= planned.given_gib
    assert planned.longest_gib <= planned.cache_gib, "vLLM refuses a context that the cache cannot hold once"
    assert arguments["max_num_seqs"] >= (20 if "32B" in path else 32), "a batch worth its weights"


def test_the_pool_bounds_the_sequences():
    assert fit(MODELS["Qwen/Qwen2.5-1.5B-Instruct"], gpus=1, card_gb=80, max_num_seqs=8)["max_num_seqs"] == 8


def test_gemma_12b_needs_two_small_cards_or_one_larger():
    with pytest.raises(ValueError, match=r"21\.9 GiB of weights.* set gpus to 2 or set card_gb to 48"):
        fit(GEMMA_12B, gpus=1, card_gb=24)
    assert fit(GEMMA_12B, gpus=2, card_gb=24)["max_num_seqs"] == 32
    assert fit(GEMMA_12B, gpus=1, card_gb=48)["max_num_seqs"] >= 32


def test_a_context_too_long_for_the_cache_can_be_lowered():
    model = ModelConfig(path="Qwen/Qwen2.5-7B-Instruct", max_model_len=131_072)
    with pytest.raises(ValueError, match="set gpus to 2 or set card_gb to 48 or lower the model's max_model_len"):
        fit(model, gpus=1, card_gb=24)
    by_engine = ModelConfig(path=model.path, max_model_len=131_072, engine={"max_model_len": 4096})
    assert fit(by_engine, gpus=1, card_gb=24)


def test_what_fits_nowhere_says_so():
    huge = ModelDimensions(1e12, 150_000, 8, 128, 100, 0, 0, 4096)
    with pytest.raises(ValueError, match="take a smaller model"):
        memory_arguments(huge, ModelConfig(path="huge"), PoolConfig(gpus=8, card_gb=80))


def test_half_a_card_and_float32_are_counted():
    half = fit(MODELS["Qwen/Qwen2.5-1.5B-Instruct"], gpus=0.5, card_gb=48)
    assert half["gpu_memory_utilization"] <= 0.5
    model = ModelConfig(path="Qwen/Qwen2.5-7B-Instruct", dtype="float32", max_model_len=4096)
    with pytest.raises(ValueError, match=r"28\.4 GiB of weights"):
        fit(model, gpus=1, card_gb=24)


def test_own_batched_tokens_change_what_is_left_for_scoring():
    model = MODELS["google/gemma-3-4b-it"]
    larger = model.model_copy(update={"engine": {"max_num_batched_tokens": 2048}})
    given = [fit(m, gpus=1, card_gb=24)["gpu_memory_utilization"] for m in (model, larger)]
    assert given[1] < given[0]


def test_a_local_snapshot_in_a_folder_of_the_models_name_is_known():
    assert known_dimensions("/models/gemma-3-4b-it/") == known_dimensions("google/gemma-3-4b-it")
    assert known_dimensions("/models/other") is None


def test_problems_are_found_before_anything_is_loaded():
    small, large = PoolConfig(gpus=1, card_gb=24), PoolConfig(gpus=1, card_gb=24)
    (problem,) = memory_problems(PAIRS["gemma-3"], PoolsConfig(small=small, large=large))
    assert problem.startswith("pools.large: google/gemma-3-12b-it does not fit")
    (problem,) = memory_problems(PAIRS["embedded"], PoolsConfig(small=PoolConfig(card_gb=24)))
    assert problem.startswith("pools.small: card_gb is 24 but gpus is 0")
    assert not list(memory_problems(PAIRS["qwen2.5"], PoolsConfig(small=small, large=large)))
    assert not list(memory_problems(PAIRS["gemma-3"], PoolsConfig()))


def test_the_documented_table_is_this_arithmetic():
    text = (ROOT / "docs" / "pairs.md").read_text()
    for path, model in MODELS.items():
        planned = memory_plan(known_dimensions(path), model, PoolConfig(gpus=1, card_gb=80))
        cells = [f"{planned.weights_gib:.1f}", f"{planned.typical_gib:.3f}", f"{planned.longest_gib:.2f}"]
        for card_gb, gpus in ((24, 1), (24, 2), (48, 1), (80, 1)):
            if memory_plan(known_dimensions(path), model, PoolConfig(gpus=gpus, card_gb=card_gb)).fits:
                arguments = fit(model, gpus=gpus, card_gb=card_gb)
                cells.append(f"{arguments['gpu_memory_utilization']:.2f}, {arguments['max_num_seqs']}")
            else:
                cells.append("no")
        assert f"| {path.split('/')[1]} | {' | '.join(cells)} |" in text
