"""The memory of an engine that shares a card, with numbers worked out by hand."""

import pytest
from paths import ROOT

from steer.config.pairs import PAIRS
from steer.config.run import ModelConfig, PoolConfig
from steer.costs.gpu_memory import GIB, ModelDimensions, known_dimensions
from steer.costs.gpu_share import affordable_tokens, share, share_arguments, whole_card_tokens

CARDS_GIB = {"L4": 22.5, "L40S": 45.0, "H100": 79.6, "H200": 140.4}
SMALL, LARGE = PAIRS["qwen2.5"].small, PAIRS["qwen2.5"].large
SHAPE = ModelDimensions(GIB, 2**17, 2, 64, 4, 0, 0, 4096)
"""A vocabulary of 131,072: one float32 copy of 2,048 tokens' logits is 1 GiB. A token's cache is 2 KiB."""


def arguments(card_gib, model=None, shape=SHAPE, weights_gib=2.0, writes=True, **pool):
    model = model or ModelConfig(path="some/model")
    return share_arguments(int(card_gib * GIB), weights_gib * GIB, shape, model, PoolConfig(**pool), writes)


def of(model, card_gib, **pool):
    shape = known_dimensions(model.path)
    return arguments(card_gib, model, shape, shape.weights_gib(1), **pool)


def test_a_share_by_hand():
    # 40 GiB less 3 % is 38.8; a tenth of that pays 1,986 tokens of four copies: 1,792 by steps of 256.
    got = arguments(80, gpus=0.5)
    assert got["max_num_batched_tokens"] == 1792
    logits_gib = 4 * 1792 / 2048
    assert got["kv_cache_memory_bytes"] / GIB == pytest.approx(38.8 - 2.0 - logits_gib - 0.5 - 1.5)
    # CUDA has taken its half GiB when vLLM looks at what is free: 38.3 of 80.
    assert got["gpu_memory_utilization"] == 0.47


@pytest.mark.parametrize("card", CARDS_GIB)
@pytest.mark.parametrize("parts", [(0.5, 0.5), (0.3, 0.7), (0.25, 0.75)])
def test_two_engines_together_stay_within_the_card(card, parts):
    models, total = (SMALL, LARGE), CARDS_GIB[card]
    try:
        got = [of(model, total, gpus=part) for model, part in zip(models, parts, strict=True)]
    except ValueError:
        assert card == "L4", "a pair of 1.5B and 7B shares every larger card"
        return
    used = 0.0
    for model, one in zip(models, got, strict=True):
        shape = known_dimensions(model.path)
        scoring = 4 * one["max_num_batched_tokens"] * shape.vocabulary * 4 / GIB
        sampling = 8 * 256 * shape.vocabulary * 4 / GIB
        used += shape.weights_gib(1) + one["kv_cache_memory_bytes"] / GIB + max(scoring, sampling) + 2.0
    assert used < 0.98 * total
    # The one that starts last finds free what the other one has left.
    assert all(one["gpu_memory_utilization"] <= part for one, part in zip(got, parts, strict=True))
    assert all(one["max_num_batched_tokens"] >= 256 for one in got), "vLLM wants a token for each sequence"


def test_what_does_not_fit_its_share_says_the_need_the_share_and_the_remedy():
    with pytest.raises(
        ValueError, match=r"Qwen2.5-7B-Instruct needs 24\.3 GiB .*14\.2 for weights.*share of 23\.2 .*140\.4"
    ) as e:
        of(LARGE.model_copy(update={"max_model_len": 131_072}), CARDS_GIB["H200"], gpus=0.17)
    part = float(str(e.value).split("set gpus to ")[1].split(",")[0])
    assert of(LARGE.model_copy(update={"max_model_len": 131_072}), CARDS_GIB["H200"], gpus=part), "the remedy works"
    assert "lower the model's max_model_len" in str(e.value)
    with pytest.raises(ValueError, match="take a larger card"):
        of(LARGE, 12.0, gpus=0.9)


def test_scoring_gives_way_before_a_model_is_refused():
    generous, tight = arguments(40, gpus=0.5), arguments(40, gpus=0.5, weights_gib=16.2)
    assert tight["max_num_batched_tokens"] == 512 < generous["max_num_batched_tokens"]
    assert tight["kv_cache_memory_bytes"] > 4096 * 2048


def test_the_users_own_entries_are_counted_and_never_refused():
    def own(**engine):
        return arguments(80, ModelConfig(path="some/model", engine=engine), weights_gib=60.0, gpus=0.5)

    assert set(own(kv_cache_memory_bytes=GIB)) == {"max_num_batched_tokens", "gpu_memory_utilization"}
    assert set(own(gpu_memory_utilization=0.4)) == {"max_num_batched_tokens"}, "vLLM measures within that part"
    model = ModelConfig(path="some/model", engine={"max_num_batched_tokens": 4096})
    got = arguments(80, model, gpus=0.5)
    assert got["kv_cache_memory_bytes"] / GIB == pytest.approx(38.8 - 2.0 - 8.0 - 2.0)
    whole = ModelConfig(path="some/model", engine={"enable_chunked_prefill": False})
    assert arguments(80, whole, gpus=0.5)["max_num_batched_tokens"] >= 4096, "vLLM takes no prompt in parts then"


def test_engines_without_logits_set_none_aside():
    got = arguments(80, writes=False, gpus=0.5)
    assert "max_num_batched_tokens" not in got
    assert got["kv_cache_memory_bytes"] / GIB == pytest.approx(38.8 - 2.0 - 2.0)


def test_many_sequences_need_their_own_logits():
    model, pool = ModelConfig(path="some/model"), PoolConfig(gpus=0.5, max_num_seqs=2048)
    divided = share(80 * GIB, 2 * GIB, SHAPE, model, pool, writes=True)
    assert divided.logits == 8 * GIB and divided.batched_tokens >= 2048


def test_scoring_on_a_whole_card_fits_what_vllm_leaves_free():
    pool = PoolConfig(gpus=1)
    for card_gib in CARDS_GIB.values():
        tokens = whole_card_tokens(int(card_gib * GIB), 152_064, LARGE, pool, 16_384)
        assert tokens * 4 * 152_064 * 4 / GIB <= 0.08 * card_gib - 0.5
        assert tokens >= 256
    more_free = LARGE.model_copy(update={"engine": {"gpu_memory_utilization": 0.5}})
    assert whole_card_tokens(80 * GIB, 152_064, more_free, pool, 16_384) == 8192
    assert whole_card_tokens(8 * GIB, 152_064, LARGE, pool, 16_384) == 256, "as many as vLLM samples from"


def test_a_small_vocabulary_is_bounded_by_what_makes_the_card_busy():
    assert affordable_tokens(GIB, 320) == 8192
    assert affordable_tokens(-GIB, 320) == 0


def test_the_documented_table_is_this_arithmetic():
    text = (ROOT / "docs" / "pairs.md").read_text()
    gemma = PAIRS["gemma-3"]
    for model in (SMALL, LARGE, gemma.small, gemma.large):
        cells = []
        for card_gib in CARDS_GIB.values():
            try:
                got = of(model, card_gib, gpus=0.5)
                cells.append(f"{got['max_num_batched_tokens']:,}, {got['kv_cache_memory_bytes'] / GIB:.1f}")
            except ValueError:
                cells.append("no")
        assert f"| {model.path.split('/')[1]} | {' | '.join(cells)} |" in text
