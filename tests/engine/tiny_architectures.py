"""Tiny random models of the three pairs' architectures, saved to disk as the hub's snapshots are laid out.

The architecture classes, the shape of the configuration, the names of the weights, tokenizer classes, special tokens
and chat templates are the real ones; contexts and Gemma's window are a sixteenth of theirs. Tied embeddings leave no
free output matrix to bias as in `tiny_models`. Here dimension 0 of every embedding holds 1, so that dimension 0 of the
hidden state is positive whatever came before; a token that shall be likely holds more there (`lean`).
"""

import json
from functools import partial

import tiny_models

HEAD_DIM = 32
"""The smallest that vLLM's CPU attention takes."""
SCALE = 16
"""The real contexts over the tiny ones."""

CHATML = """{%%- if messages[0]['role'] == 'system' %%}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%%- else %%}
    {{- '<|im_start|>system\\n%s<|im_end|>\\n' }}
{%%- endif %%}
{%%- for message in messages %%}
    {%%- if message.role != 'system' or not loop.first %%}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%%- endif %%}
{%%- endfor %%}
{%%- if add_generation_prompt %%}
    {{- '<|im_start|>assistant\\n' }}
{%%- endif %%}"""
MATH_TEMPLATE = CHATML % r"Please reason step by step, and put your final answer within \\boxed{}."
QWEN_TEMPLATE = CHATML % "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
GEMMA_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {{ raise_exception("System role not supported") }}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}"""
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LIKELY = {"\n\n": 0.0, "\n": 0.0, "a": -0.3, " ": -0.3}
"""What is written most, with what is added to `lean`; the two ends of sequence get ENDS."""
ENDS = -0.2


def qwen(folder, heads, tie, math, seed=0, lean=2.4):
    """Qwen2ForCausalLM as Qwen2.5-Math-Instruct (`math`) or Qwen2.5-Instruct; 1.5B ties its embeddings, 7B does not."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _qwen_tokenizer()
    _save_tokenizer(
        folder, tokenizer, "Qwen2Tokenizer", MATH_TEMPLATE if math else QWEN_TEMPLATE,
        bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None, add_bos_token=False,
        add_prefix_space=False, errors="replace", split_special_tokens=False, model_max_length=131072,
    )  # fmt: skip
    end, endoftext = (tokenizer.token_to_id(text) for text in ("<|im_end|>", "<|endoftext|>"))
    context = (4096 if math else 32768) // SCALE
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size() + 8,  # the real one too is larger than its tokenizer
        hidden_size=heads * HEAD_DIM, intermediate_size=96, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=heads // 2, max_position_embeddings=context, rope_theta=10000.0 if math else 1000000.0,
        sliding_window=context, use_sliding_window=False, max_window_layers=2, tie_word_embeddings=tie,
        bos_token_id=endoftext, eos_token_id=end,
    )  # fmt: skip
    model = _random(Qwen2ForCausalLM, config, seed)
    _lean(model, tokenizer, lean, ("<|im_end|>", "<|endoftext|>"))
    return _save_model(folder, model, [end, endoftext], endoftext)


def gemma(folder, heads, text_only=False, seed=0, lean=2.8):
    """Gemma3ForConditionalGeneration as the hub has it (vision tower and all), or the language model alone."""
    from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig

    tokenizer = _gemma_tokenizer()
    _save_tokenizer(
        folder, tokenizer, "GemmaTokenizer", GEMMA_TEMPLATE, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        unk_token="<unk>", add_bos_token=True, add_eos_token=False, boi_token="<start_of_image>",
        eoi_token="<end_of_image>", image_token="<image_soft_token>", processor_class="Gemma3Processor",
        model_max_length=10**30,
    )  # fmt: skip
    eos_ids, bos = [tokenizer.token_to_id(text) for text in ("<eos>", "<end_of_turn>")], tokenizer.token_to_id("<bos>")
    text = {
        "vocab_size": tokenizer.get_vocab_size() + 8, "hidden_size": 96, "intermediate_size": 128, "head_dim": HEAD_DIM,
        "num_hidden_layers": 6, "num_attention_heads": heads, "num_key_value_heads": heads // 2,
        "query_pre_attn_scalar": HEAD_DIM, "sliding_window": 1024 // SCALE, "max_position_embeddings": 131072 // SCALE,
        "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14,
        "image_size": 56, "vision_use_head": False,
    }  # fmt: skip
    if text_only:
        model = _random(Gemma3ForCausalLM, Gemma3TextConfig(**text, eos_token_id=eos_ids), seed)
    else:
        marks = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
        names = ("boi_token_index", "eoi_token_index", "image_token_index")
        indices = {name: tokenizer.token_to_id(mark) for name, mark in zip(names, marks, strict=True)}
        config = Gemma3Config(
            text_config=text, vision_config=vision, mm_tokens_per_image=4, eos_token_id=eos_ids, **indices
        )
        model = _random(Gemma3ForConditionalGeneration, config, seed)
    _lean(model, tokenizer, lean, ("<eos>", "<end_of_turn>"))
    return _save_model(folder, model, eos_ids, bos)


def _qwen_tokenizer():
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    merges = [("Ċ", "Ċ"), (".", "ĊĊ")]
    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(vocabulary)}, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer


def _gemma_tokenizer():
    """Sentencepiece turned into BPE, with the real places of <eos> (1), <end_of_turn> (106) and the newlines."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary += [f"<unused{i}>" for i in range(100)] + ["<start_of_turn>", "<end_of_turn>"]
    vocabulary += ["\n", "\n\n", "\n\n\n", "\n\n\n\n"]
    vocabulary += [f"<0x{byte:02X}>" for byte in range(256)] + ["▁"] + [chr(i) for i in range(33, 127)]
    vocabulary += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    merges = [("\n", "\n"), ("\n\n", "\n"), ("\n\n", "\n\n")]
    tokenizer = Tokenizer(
        models.BPE(
            {text: i for i, text in enumerate(vocabulary)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    special = [*vocabulary[:5], "<start_of_turn>", "<end_of_turn>", *vocabulary[-3:]]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    assert tokenizer.token_to_id("<end_of_turn>") == 106
    return tokenizer


def _save_tokenizer(folder, tokenizer, tokenizer_class, template, **settings):
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings |= {"tokenizer_class": tokenizer_class, "chat_template": template, "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _random(model_class, config, seed):
    import torch

    torch.manual_seed(seed)
    model = model_class(config).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "vision" not in name:
                weight.normal_(0, 0.6 / weight.shape[-1] ** 0.5)
            elif "norm" in name and "vision" not in name:
                weight.add_(0.2 * torch.randn_like(weight))  # a norm that is left out shows
    return model


def _lean(model, tokenizer, lean, ends):
    """See the module."""
    import torch

    likely = {text: lean + more for text, more in LIKELY.items()} | dict.fromkeys(ends, lean + ENDS)
    with torch.no_grad():
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        for matrix in (embedding, head)[: 1 if head is embedding else 2]:
            matrix.normal_(0, 0.15)
            matrix[:, 0] = 1.0
            for text, weight in likely.items():
                (token,) = tokenizer.encode(text, add_special_tokens=False).ids
                matrix[token] *= 0.3
                matrix[token, 0] = weight


def _save_model(folder, model, eos_ids, bos):
    model.save_pretrained(folder)
    generation = {"bos_token_id": bos, "eos_token_id": eos_ids, "do_sample": True, "top_k": 20, "top_p": 0.8}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


# --- the same numbers from transformers -----------------------------------------------------------------------------


def chat_ids(folder, messages):
    """What the snapshot's own chat template makes of the messages, by transformers alone."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def reference(folder, ids):
    """[T, 4] (max logit, logsumexp, entropy, margin) of the logits after each of `ids`, by transformers in float32."""
    import torch
    import transformers

    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    model_class = getattr(transformers, architecture)
    return tiny_models.measured(
        model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval(), ids
    )


expected_scores = partial(tiny_models.expected_scores, reference=reference)
