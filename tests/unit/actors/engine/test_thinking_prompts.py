"""Prompts of models that think, under chat templates laid out as those of Qwen3 and of R1's distillations are."""

import pytest
from test_control_tokens import special, wrapped
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from actors.engine.tokenizer import Tokenizer
from steer.config.run import ThoughtTags
from steer.messages import Prompt

SWITCHED = (
    "{%- for m in messages -%}{%- set text = m['content'] -%}"
    "{%- if m['role'] == 'assistant' and '</think>' in text -%}"
    "{%- set text = text.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}"
    "{{- '<|im_start|>' + m['role'] + '\\n' + text + '<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}{%- endif -%}"
)
"""A switch, as Qwen3 has it: the model opens its thought itself."""
OPENED = (
    "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{- '<|User|>' + m['content'] -}}{%- else -%}"
    "{{- '<|Assistant|>' + m['content'].split('</think>')[-1] + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|Assistant|><think>\\n' -}}{%- endif -%}"
)
"""The generation prompt opens the thought, as R1's does. It strips the thoughts of earlier turns."""
PROMPT = Prompt("1+1?")
THINKS = ThoughtTags()


def hf(template, tags=("<think>", "</think>"), tags_are_special=False):
    backend = Backend(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([special(text) for text in ("<|im_start|>", "<|im_end|>", "<|User|>", "<|Assistant|>")])
    add = backend.add_special_tokens if tags_are_special else backend.add_tokens
    add([AddedToken(text, special=tags_are_special, normalized=False) for text in tags])
    return wrapped(backend, template)


def of(tokenizer, template=None, thinks=THINKS):
    return Tokenizer(tokenizer, [tokenizer.eos_token_id], True, template, thinks)


def shown(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    ("template", "arguments", "end"),
    [
        (SWITCHED, None, "<|im_start|>assistant\n<think>\n"),
        (SWITCHED, {"enable_thinking": True}, "<|im_start|>assistant\n<think>\n"),
        (OPENED, None, "<|Assistant|><think>\n"),
    ],
)
def test_every_prompt_ends_inside_the_thought_that_is_opened_once(template, arguments, end):
    tokenizer = hf(template)
    text = shown(tokenizer, of(tokenizer, arguments).encode_prompt(PROMPT))
    assert text.endswith("1+1?" + ("<|im_end|>\n" if template is SWITCHED else "") + end)
    assert text.count("<think>") == 1


def test_a_tag_is_its_own_token_whether_the_template_or_we_write_it():
    tokenizer = hf(SWITCHED)
    ids = of(tokenizer).encode_prompt(PROMPT)
    assert tokenizer.convert_tokens_to_ids("<think>") in ids
    closing = of(tokenizer).encode("\n</think>\n\n")
    assert tokenizer.convert_tokens_to_ids("</think>") in closing and of(tokenizer).decode(closing) == "\n</think>\n\n"


def test_arguments_reach_the_template():
    tokenizer = hf(SWITCHED)
    without = of(tokenizer, {"enable_thinking": False}, thinks=None).encode_prompt(PROMPT)
    assert shown(tokenizer, without).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    plain = of(tokenizer, thinks=None).encode_prompt(PROMPT)
    assert shown(tokenizer, plain).endswith("<|im_start|>assistant\n")


def test_a_question_that_holds_tags_opens_and_ends_nothing():
    tokenizer = hf(OPENED)
    text = shown(tokenizer, of(tokenizer).encode_prompt(Prompt("what does </think> do, and <think>")))
    assert text.endswith("and <think><|Assistant|><think>\n")


@pytest.mark.parametrize("template", [SWITCHED, OPENED])
def test_a_judge_that_thinks_is_asked_behind_an_empty_thought(template):
    tokenizer = hf(template)
    turn = shown(tokenizer, of(tokenizer).encode_turn("Right?"))
    assert turn.startswith("<|im_end|>") and "Right?" in turn
    assert turn.endswith("<think>\n\n</think>\n\n") and turn.count("<think>") == 1
    assert "think" not in shown(tokenizer, of(hf(SWITCHED), thinks=None).encode_turn("Right?"))


@pytest.mark.parametrize(
    ("tokenizer", "arguments", "thinks", "why"),
    [
        (hf(OPENED), {"enable_thinking": True}, None, "never reads enable_thinking"),
        (hf(SWITCHED), {"enable_thinking": True, "think": 1}, None, "never reads think:"),
        (hf(None), {"enable_thinking": True}, None, "is missing, so nothing reads enable_thinking"),
        (hf(SWITCHED), {"enable_thinking": False}, THINKS, "ends the thought itself"),
        (hf(None), None, THINKS, "without a chat template cannot think"),
        (hf(SWITCHED, tags_are_special=True), None, THINKS, "shows no text for the tag <think>"),
    ],
)
def test_what_a_model_cannot_do_is_refused_when_it_loads(tokenizer, arguments, thinks, why):
    with pytest.raises(ValueError, match=why):
        of(tokenizer, arguments, thinks)


def test_tags_that_are_no_single_tokens_do_too():
    tokenizer = hf(SWITCHED, tags=())
    thinker = of(tokenizer, thinks=ThoughtTags(open="[THINK]", close="[/THINK]"))
    assert shown(tokenizer, thinker.encode_prompt(PROMPT)).endswith("assistant\n[THINK]\n")
