"""The known pairs on tiny random models of their architectures: they load, and prompt, score and end as they should."""

import asyncio

import numpy as np
import pytest
import torch
from tiny_architectures import SCALE, chat_ids, expected_scores, gemma, qwen, reference
from tiny_models import ask, rows
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlavaConfig,
    Qwen2Config,
)

from actors.engine.arguments import engine_arguments, model_dimensions
from actors.engine.checkpoint import count_parameters
from actors.engine.replica import EngineReplica
from actors.engine.tokenizer import Tokenizer as ModelTokenizer
from steer.config.pairs import PAIRS
from steer.config.run import ModelConfig, PoolConfig
from steer.costs.gpu_memory import DIMENSIONS
from steer.messages import Op, Prompt
from steer.traces import MEASURES

pytestmark = pytest.mark.engine
TOLERANCE = 1e-3
PROMPT = Prompt("what is the sum of one and two?", system="be brief")
BUILDERS = {
    ("qwen2.5-math", "small"): lambda folder: qwen(folder, heads=2, tie=True, math=True),
    ("qwen2.5-math", "large"): lambda folder: qwen(folder, heads=4, tie=False, math=True, seed=1, lean=2.7),
    ("qwen2.5", "small"): lambda folder: qwen(folder, heads=2, tie=True, math=False, seed=2),
    ("gemma-3", "small"): lambda folder: gemma(folder, heads=2, seed=3),
    ("gemma-3", "large"): lambda folder: gemma(folder, heads=4, seed=4),
    ("gemma-3", "converted"): lambda folder: gemma(folder, heads=2, text_only=True, seed=5),
}
MODELS = list(BUILDERS)


def tiny(folder, pair, size):
    """The pair's own configuration of that model, path and context apart."""
    model = PAIRS[pair].large if size == "large" else PAIRS[pair].small
    return model.model_copy(update={"path": str(folder), "max_model_len": model.max_model_len // SCALE})


class Loaded:
    """A replica of a tiny model, with what transformers says of it."""

    def __init__(self, folder, pair, size):
        self.folder, self.pair, self.config = folder, pair, tiny(folder, pair, size)
        self.replica = EngineReplica(f"{pair}-{size}", self.config, PoolConfig(max_num_seqs=64), MEASURES)
        self.info = asyncio.run(self.replica.describe())
        self.ends = {"gemma-3": (1, 106)}.get(pair) or self.ids("<|im_end|>", "<|endoftext|>")

    def ids(self, *texts):
        return tuple(AutoTokenizer.from_pretrained(self.folder).convert_tokens_to_ids(list(texts)))

    def prompt_ids(self, prompt=PROMPT):
        """The duty of each template: Gemma's system text heads the user turn, Qwen's has a turn of its own."""
        if self.pair == "gemma-3":
            return chat_ids(self.folder, [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}])
        turns = {"system": prompt.system, "user": prompt.user}
        return chat_ids(self.folder, [{"role": role, "content": text} for role, text in turns.items()])

    def expected(self, before, piece):
        return expected_scores(self.folder, before, piece, [i not in self.ends for i in piece])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return {
        (pair, size): Loaded(build(folder / f"{pair}-{size}"), pair, size) for (pair, size), build in BUILDERS.items()
    }


@pytest.fixture(params=MODELS, ids="-".join)
def model(request, loaded):
    return loaded[request.param]


def test_it_loads_with_the_pairs_context_and_nominal_parameters(model):
    assert model.info.max_model_len == model.config.max_model_len
    assert model.info.parameters == model.config.parameters
    assert model.info.measures == MEASURES


def test_models_of_a_pair_share_a_tokenizer(loaded):
    prints = {key: model.info.tokenizer for key, model in loaded.items()}
    assert prints["gemma-3", "small"] == prints["gemma-3", "large"] != prints["qwen2.5", "small"]
    assert prints["qwen2.5-math", "small"] == prints["qwen2.5-math", "large"]


def test_the_prompt_is_what_the_snapshots_own_template_makes(model):
    """The logits after the prompt tell: they are those after the template's tokens and no others."""
    ids = model.prompt_ids()
    answer = ask(model.replica, rows(Op.PEEK, ["prompt"], 0, (PROMPT,)))
    z_max, lse, entropy, margin = reference(model.folder, ids)[-1]
    np.testing.assert_allclose(
        answer.scores_RS[0], [*(z_max, -entropy, np.exp(z_max - lse), margin) * 4, 1], atol=TOLERANCE
    )
    assert answer.prompt_tokens_R == [len(ids)]


def test_gemma_begins_with_one_bos(loaded):
    folder = loaded["gemma-3", "small"].folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model_tokenizer = ModelTokenizer(tokenizer, (1, 106), system_role=False)
    ids = model_tokenizer.encode_prompt(PROMPT)
    assert ids == loaded["gemma-3", "small"].prompt_ids() and ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids).startswith("<bos><start_of_turn>user\nbe brief\n\nwhat is")
    with pytest.raises(ValueError, match="system_role: false"):
        ModelTokenizer(tokenizer, (1, 106), system_role=True).encode_prompt(PROMPT)


def test_qwen_puts_its_own_system_text_where_there_is_none(loaded):
    tokenizer = AutoTokenizer.from_pretrained(loaded["qwen2.5-math", "small"].folder)
    text = tokenizer.decode(ModelTokenizer(tokenizer, (), True).encode_prompt(Prompt("1+1?")))
    assert text.startswith(
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert text.endswith("<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("op", [Op.STEP, Op.WHOLE])
def test_what_it_writes_is_scored_as_transformers_does(model, op):
    answer = ask(model.replica, rows(op, [f"{op}-{i}" for i in range(4)], 0, (PROMPT,), max_tokens=60))
    assert not answer.error_R and set(answer.finish_R) <= {"step", "end", "length"}
    for ids, scores in zip(answer.ids_R, answer.scores_RS, strict=True):
        if set(ids) - set(model.ends):
            np.testing.assert_allclose(scores, model.expected(model.prompt_ids(), ids), atol=TOLERANCE)


def test_a_step_is_scored_after_a_cached_prefix_longer_than_gemmas_window(model):
    before = model.prompt_ids()
    first, second = ((97 + i % 7,) * n for i, n in enumerate((80, 33)))
    ask(model.replica, rows(Op.SCORE, ["scored"], 0, (PROMPT, first)))
    answer = ask(model.replica, rows(Op.SCORE, ["scored"], 2, (second,)))
    assert answer.cached_tokens_R[0] >= 64 and answer.finish_R == ["step"]
    np.testing.assert_allclose(answer.scores_RS[0], model.expected([*before, *first], second), atol=TOLERANCE)


def test_every_end_of_sequence_of_the_generation_config_ends_a_trace(model):
    answer = ask(model.replica, rows(Op.WHOLE, [f"end-{i}" for i in range(200)], 0, (PROMPT,), max_tokens=60))
    last = {ids[-1] for finish, ids in zip(answer.finish_R, answer.ids_R, strict=True) if finish == "end"}
    assert last == set(model.ends)
    assert not any(set(model.ends) & set(ids[:-1]) for ids in answer.ids_R)


def test_the_context_is_the_end_of_a_trace_and_an_error_of_a_longer_prompt(model):
    context = model.info.max_model_len
    room = context - len(model.prompt_ids())
    long = Prompt("x" * context)
    answer = ask(model.replica, rows(Op.STEP, ["long", "full"], 0, [(long,), (PROMPT, (97,) * room)]))
    assert answer.finish_R == ["error", "length"] and "context" in answer.error_R[0]


def test_only_gemmas_language_model_is_taken_from_its_checkpoint(loaded):
    folder = loaded["gemma-3", "small"].folder
    whole = Gemma3ForConditionalGeneration.from_pretrained(folder)
    text = sum(weight.numel() for weight in whole.model.language_model.parameters())
    assert count_parameters(str(folder)) == text < sum(weight.numel() for weight in whole.parameters())


def test_gemmas_head_is_float32_though_vllm_is_given_the_text_part_alone(loaded):
    folder = loaded["gemma-3", "small"].folder
    entry = {"hf_overrides": {"final_logit_softcapping": 5.0, "text_config": {"sliding_window": 7}}}
    override = engine_arguments(ModelConfig(path=str(folder), engine=entry), PoolConfig(), MEASURES)["hf_overrides"]
    text = override(AutoConfig.from_pretrained(folder))
    assert (text.model_type, text.head_dtype, text.sliding_window) == ("gemma3_text", "float32", 7)
    assert text.final_logit_softcapping == 5.0 and text.get_text_config() is text
    converted = AutoConfig.from_pretrained(loaded["gemma-3", "converted"].folder)
    assert override(converted) is converted


def test_another_nested_checkpoint_gets_its_head_in_float32_too(tmp_path):
    """vLLM builds the language model from the nested configuration, which does not see what is set on the whole."""
    LlavaConfig(architectures=["LlavaForConditionalGeneration"]).save_pretrained(tmp_path)
    arguments = engine_arguments(ModelConfig(path=str(tmp_path)), PoolConfig(gpus=1), MEASURES)
    assert arguments["hf_overrides"] == {"head_dtype": "float32", "text_config": {"head_dtype": "float32"}}
    assert arguments["language_model_only"]


# --- GPU memory -----------------------------------------------------------------------------------------------------


def qwen_config(hidden, intermediate, heads, kv_heads, vocabulary, context):
    return Qwen2Config(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=28, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocabulary, tie_word_embeddings=hidden == 1536,
        max_position_embeddings=context, sliding_window=4096, use_sliding_window=False,
    )  # fmt: skip


def gemma_config(hidden, intermediate, layers, heads, kv_heads):
    return Gemma3TextConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=256, sliding_window=1024,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Qwen2.5-Math-1.5B-Instruct", qwen_config(1536, 8960, 12, 2, 151_936, 4096)),
        ("Qwen2.5-Math-7B-Instruct", qwen_config(3584, 18_944, 28, 4, 152_064, 4096)),
        ("Qwen2.5-1.5B-Instruct", qwen_config(1536, 8960, 12, 2, 151_936, 32_768)),
        ("Qwen2.5-7B-Instruct", qwen_config(3584, 18_944, 28, 4, 152_064, 32_768)),
        ("gemma-3-4b-it", gemma_config(2560, 10_240, 34, 8, 4)),
        ("gemma-3-12b-it", gemma_config(3840, 15_360, 48, 16, 8)),
    ],
)
def test_the_listed_dimensions_are_those_of_the_published_dimensions(name, config):
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    assert DIMENSIONS[name] == model_dimensions(ModelConfig(path=name, parameters=parameters), config)


def test_memory_arguments_reach_vllm_and_an_engine_entry_overrides_them(loaded):
    model, pool = loaded["gemma-3", "large"].config, PoolConfig(gpus=2, card_gb=24)
    arguments = engine_arguments(model, pool, MEASURES)
    assert arguments["tensor_parallel_size"] == 2 and arguments["max_model_len"] == model.max_model_len
    assert arguments["max_num_batched_tokens"] == 512 and 0.9 < arguments["gpu_memory_utilization"] < 1
    own = model.model_copy(update={"engine": {"gpu_memory_utilization": 0.5}})
    assert engine_arguments(own, pool, MEASURES)["gpu_memory_utilization"] == 0.5
    assert "gpu_memory_utilization" not in engine_arguments(model, PoolConfig(gpus=2), MEASURES)
    with pytest.raises(ValueError, match="gpus is 0"):
        engine_arguments(model, PoolConfig(card_gb=24), MEASURES)


def test_an_unlisted_models_dimensions_are_read_from_its_checkpoint(loaded):
    folder = str(loaded["gemma-3", "large"].folder)
    found = model_dimensions(ModelConfig(path=folder), AutoConfig.from_pretrained(folder))
    assert (found.full_layers, found.window_layers, found.window_tokens) == (1, 5, 1024 // SCALE)
    assert (found.kv_heads, found.head_dim, found.context_tokens) == (2, 32, 131_072 // SCALE)
    assert found.parameters == count_parameters(folder)
