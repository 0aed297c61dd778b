"""The tokenizer of the embedded models: 256 bytes, and one token for each word of the benchmarks.

Invariants: any text survives encoding and decoding unchanged (the special markers too, unless they are skipped on
purpose); a blank line (two newlines) is exactly one token; every digit is one token. There are no merges: the
pre-tokenizer cuts out the known words, the model takes them whole (`ignore_merges`), and all other text becomes bytes.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from steer.embedded import JUDGE_PROMPT
from steer.embedded.tasks import FIRST_NAMES, LAST_NAMES, OPERATIONS, RELATIONS, STEP_DELIMITER

PAD, EOS, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
SPECIALS = (PAD, EOS, USER, ASSISTANT)
STEP_SEPARATOR = "<extra_0>"
"""The additional token of the process reward model. It follows every step, and the reward is read there."""
MAX_LENGTH_TOKENS = 512

# The fixed phrases include their spaces, so that an operation has the same token in the question and in its step.
_PHRASES = (
    STEP_DELIMITER, " = ", ", ", "Operations: ", "Relations: ", ". Start: ", "The answer is ", "\\boxed{", "}.",
)  # fmt: skip

CHAT_TEMPLATE = (
    "{%- set ns = namespace(system='') -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{%- set ns.system = message['content'] + '\\n\\n' -%}"
    f"{{%- elif message['role'] == 'user' -%}}{{{{- '{USER}' + ns.system + message['content'] -}}}}"
    "{%- set ns.system = '' -%}"
    f"{{%- else -%}}{{{{- '{ASSISTANT}' + message['content'] + '{EOS}' -}}}}{{%- endif -%}}"
    "{%- endfor -%}"
    f"{{%- if add_generation_prompt -%}}{{{{- '{ASSISTANT}' -}}}}{{%- endif -%}}"
)

# For a model of type qwen2, transformers 5 uses Qwen's own normalizer and word splitting instead of tokenizer.json,
# unless the folder has a tokenizer class of its own. Nobody needs to trust this class: with `trust_remote_code` off,
# transformers uses its base class.
_PLAIN_TOKENIZER = '''"""tokenizer.json exactly as it stands."""

from transformers import PreTrainedTokenizerFast


class PlainTokenizer(PreTrainedTokenizerFast):
    pass
'''


def words() -> list[str]:
    """All texts of more than one byte that are one token."""
    return [*_PHRASES, *OPERATIONS, *RELATIONS, *FIRST_NAMES, *(f" {name}" for name in LAST_NAMES)]


def _byte_characters() -> list[str]:
    """The printable character for each byte 0 to 255 in the byte-level alphabet (GPT-2's table)."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte) if byte in visible else chr(next(hidden)) for byte in range(256)]


def build(extra: Sequence[str] = ()) -> Tokenizer:
    """Build the tokenizer, with the special tokens `extra` after all others."""
    alphabet = _byte_characters()
    entries = alphabet + ["".join(alphabet[byte] for byte in word.encode()) for word in words()]
    tokenizer = Tokenizer(
        models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], ignore_merges=True)
    )
    longest_first = sorted(words(), key=len, reverse=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(re.escape(word) for word in longest_first)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (*SPECIALS, *extra)])
    return tokenizer


def token_id(built: Tokenizer, text: str) -> int:
    """The id of a text that is one token. Raises KeyError if it is not."""
    return built.get_vocab()[text]


def save(folder: Path, extra: Sequence[str] = ()) -> None:
    """Write the tokenizer so that `AutoTokenizer.from_pretrained(folder)` and vLLM load it."""
    folder.mkdir(parents=True, exist_ok=True)
    build(extra).save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "auto_map": {"AutoTokenizer": [None, "plain_tokenizer.PlainTokenizer"]},
        "pad_token": PAD,
        "eos_token": EOS,
        "additional_special_tokens": [USER, ASSISTANT, *extra],
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_LENGTH_TOKENS,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "plain_tokenizer.py").write_text(_PLAIN_TOKENIZER)


def prompt_text(question: str) -> str:
    """The text that the chat template makes of one user message and the generation prompt."""
    return f"{USER}{question}{ASSISTANT}"


JUDGE_TURN = f"{EOS}{prompt_text(JUDGE_PROMPT)}"
"""The text between the last step and the judge's digit, as the chat template writes it."""
