"""Tiny random Qwen2 models and tokenizers that vLLM loads, and the same numbers from transformers to compare with.

A random model hardly ever ends a step. Here dimension 0 of every embedding is the same, so the hidden state keeps a
constant part, and the rows of the output matrix can be given a bias along it: `likely` maps a token's text to a logit.
"""

import asyncio
import itertools
import json

import numpy as np

from steer.messages import Op, Prompt, Sampling, StepBatch

EOS, EOT = "<eos>", "<eot>"
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<a>' }}{% endif %}"
)
PLAIN_TOKENIZER = """from transformers import PreTrainedTokenizerFast


class PlainTokenizer(PreTrainedTokenizerFast):
    pass
"""
HEAD_DIM = 32


def byte_tokenizer(merges, reverse=False):
    """256 bytes and what `merges` joins; `reverse` numbers the bytes the other way round."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=reverse)
    vocabulary = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (EOS, EOT)])
    return tokenizer


FIRST = byte_tokenizer([("Ċ", "Ċ"), (".", "ĊĊ")])
SECOND = byte_tokenizer([("Ċ", "Ċ"), ("a", "b"), ("ab", "Ġ")], reverse=True)


def build(folder, tokenizer=FIRST, hidden=32, seed=0, likely=None, context=256):
    """Write a model of `hidden` / 32 heads with its tokenizer; EOS is the tokenizer's, EOT the generation config's."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "auto_map": {"AutoTokenizer": [None, "plain_tokenizer.PlainTokenizer"]},
        "eos_token": EOS,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "plain_tokenizer.py").write_text(PLAIN_TOKENIZER)
    torch.manual_seed(seed)
    eos, eot = (tokenizer.token_to_id(text) for text in (EOS, EOT))
    heads = hidden // HEAD_DIM
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=1, intermediate_size=2 * hidden, max_position_embeddings=context,
        tie_word_embeddings=False, eos_token_id=eos, bos_token_id=None,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).float().eval()
    with torch.no_grad():
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.normal_(0, 0.5)
        embedding[:, 0] = 2.0
        head.normal_(0, 16 / hidden)
        head[:, 0] = 0.0
        for text, logit in (likely or {}).items():
            token = tokenizer.encode(text, add_special_tokens=False).ids
            assert len(token) == 1, f"{text!r} is no single token"
            head[token[0]] *= 0.3
            head[token[0], 0] = logit / 3.0
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [eos, eot]}))
    return folder


def reference(folder, ids):
    """[T, 4] (max logit, logsumexp, entropy, margin) of the logits after each of `ids`, by transformers in float32."""
    import torch
    from transformers import Qwen2ForCausalLM

    return measured(Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), ids)


def measured(model, ids):
    """The numbers of `reference`, of a model that is loaded."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([list(ids)])).logits[0].double()
    p = torch.softmax(logits, -1)
    entropy = -(p * torch.log_softmax(logits, -1)).sum(-1)
    first, second = logits.topk(2, -1).values.T
    return torch.stack([first, torch.logsumexp(logits, -1), entropy, first - second], 1).numpy()


def expected_scores(folder, before, piece, keep, reference=reference):
    """Step scores of `piece` after the ids `before`, over `keep`: the measures by aggregate, and the count."""
    kept = reference(folder, [*before, *piece])[len(before) - 1 : -1][np.asarray(keep, bool)]
    measures = np.stack([kept[:, 0], -kept[:, 2], np.exp(kept[:, 0] - kept[:, 1]), kept[:, 3]], 1)
    windows = [measures[i : i + 16].mean(0) for i in range(max(len(kept) - 15, 1))]
    tenth = np.sort(measures, 0)[: int(np.ceil(len(kept) / 10))].mean(0)
    return [*measures.mean(0), *measures.min(0), *np.min(windows, 0), *tenth, len(kept)]


def prompt_ids(tokenizer, prompt: Prompt):
    system = f"<system>{prompt.system}" if prompt.system else ""
    return tokenizer.encode(f"{system}<user>{prompt.user}<a>", add_special_tokens=False).ids


def rows(
    op: Op,
    keys,
    held,
    new,
    seeds=None,
    max_tokens=40,
    tokens="all",
    drop=(),
    flush_s=None,
    temperature=0.7,
    pass_tokens=None,
):
    """A batch in which every row asks the same, but for what is given as a list."""
    n = len(keys)
    new_B = list(new) if isinstance(new, list) else [new] * n
    max_tokens_B = max_tokens if isinstance(max_tokens, list) else [max_tokens] * n
    seed_B = list(range(n)) if seeds is None else list(seeds)
    sampling = Sampling(temperature=temperature, tokens=tokens, pass_tokens=pass_tokens, ahead_tokens=pass_tokens)
    return StepBatch(sampling, list(keys), [op] * n, seed_B, max_tokens_B, [held] * n, new_B, tuple(drop), flush_s)


_calls = itertools.count()


async def conversation(replica, batches, heard=None):
    """What a replica answers several batches with, a list of messages for each. `heard` is awaited after every message
    with (replica, call numbers, position of the batch, what it was answered)."""
    numbers = [next(_calls) for _ in batches]
    answered, open_ = [[] for _ in batches], [len(batch.key_B) for batch in batches]
    for number, batch in zip(numbers, batches, strict=True):
        await replica.submit(number, batch)
    async for message in replica.answers():
        for call, results in message:
            at = numbers.index(call)
            answered[at].append(results)
            open_[at] -= len(results.row_R) - len(results.open_R)
            if heard is not None:
                await heard(replica, numbers, at, results)
        if not any(open_) and all(answered):
            return answered


def messages(replica, batch):
    """Every message that the replica answers a batch with."""
    (answered,) = asyncio.run(conversation(replica, [batch]))
    return answered


def ask(replica, batch):
    """The one message of a batch without `flush_s`, its rows in the order of the batch."""
    (answer,) = messages(replica, batch)
    assert sorted(answer.row_R) == list(range(len(batch.key_B)))
    order = np.argsort(answer.row_R)
    columns = ("finish_R", "text_R", "ids_R", "tokens_R", "prompt_tokens_R", "cached_tokens_R", "seconds_R")
    errors = {answer.row_R[r]: reason for r, reason in answer.error_R.items()}
    more = {answer.row_R[r]: tuple(s._replace(ids=tuple(s.ids)) for s in m) for r, m in answer.more_R.items()}
    sorted_columns = {name: [getattr(answer, name)[i] for i in order] for name in columns}
    sorted_columns["ids_R"] = [tuple(ids) for ids in sorted_columns["ids_R"]]
    return type(answer)(
        row_R=list(range(len(order))), **sorted_columns, scores_RS=answer.scores_RS[order], error_R=errors, more_R=more,
        replica=answer.replica, busy_s=answer.busy_s,
    )  # fmt: skip
