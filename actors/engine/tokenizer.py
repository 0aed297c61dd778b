"""The tokens of one model: prompt and text to ids, ids to text, and which ids end a trace.

Invariants: a step's text is `decode` of exactly its ids; text of another model is encoded piece by piece, so that
earlier pieces never change their ids; the texts of single tokens never fail (partial UTF-8 becomes U+FFFD).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence

from steer.messages import Prompt

_MARK = "[what the assistant said]"
"""Stands for the assistant's message where a chat template is cut."""


def joined(prompt: Prompt) -> str:
    """The prompt as one text, for models that have no system role or no roles at all."""
    return f"{prompt.system}\n\n{prompt.user}" if prompt.system else prompt.user


class _TokenTexts(dict):
    """Token id -> text, filled on first use: a vocabulary of 152,000 is never decoded as a whole."""

    def __init__(self, decode):
        self._decode = decode

    def __missing__(self, token: int) -> str:
        text = self[token] = self._decode([token])
        return text


class Tokenizer:
    """Wraps a transformers tokenizer. `eos_ids`: every id that ends a trace (tokenizer and generation config)."""

    def __init__(self, hf_tokenizer, eos_ids: Iterable[int], system_role: bool):
        self._hf = hf_tokenizer
        self._system_role = system_role
        self.eos_ids = frozenset(eos_ids)
        self._texts = _TokenTexts(self._decode)
        self._anchor: list[int] = []
        self._anchor = self._find_anchor()

    @classmethod
    def of_engine(cls, engine, system_role: bool) -> "Tokenizer":
        """Of a loaded `vllm.LLMEngine`: every id that ends a sequence, the tokenizer's and those of the generation
        config (Qwen2.5 has two)."""
        tokenizer = engine.get_tokenizer()
        given = engine.model_config.try_get_generation_config().get("eos_token_id")
        ids = set(given if isinstance(given, (list, tuple)) else [given])
        return cls(tokenizer, {i for i in ids | {tokenizer.eos_token_id} if i is not None}, system_role)

    @property
    def bos_text(self) -> str:
        """The text of the token that begins a sequence, or none."""
        return self._hf.bos_token or ""

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """The chat template around the prompt, with the generation prompt; without a template, the text as it is.

        ValueError if the template refuses the prompt or the prompt has no token.
        """
        user, messages = prompt.user, []
        if prompt.system and self._system_role:
            messages.append({"role": "system", "content": prompt.system})
        elif prompt.system:
            user = joined(prompt)
        if self._hf.chat_template:
            messages.append({"role": "user", "content": user})
            ids = self._encode(self._apply_template(messages))
        else:
            # With the special tokens that the tokenizer itself puts in front.
            ids = self._hf.encode(joined(prompt))
        if not ids:
            raise ValueError("the prompt has no token")
        return ids

    def encode_turn(self, user: str) -> list[int]:
        """What follows an assistant's message whose generation was not ended: the end of its turn, a user turn and the
        generation prompt. Without a chat template, the text in a paragraph of its own.

        ValueError if the chat template refuses such a conversation or does not show the assistant's message.
        """
        if not self._hf.chat_template:
            return self.encode(f"\n\n{user}\n")
        roles = (("user", "?"), ("assistant", _MARK), ("user", user))
        _, shown, turn = self._apply_template([{"role": r, "content": c} for r, c in roles]).rpartition(_MARK)
        if not shown:
            raise ValueError("the chat template does not show what the assistant said before the last user turn")
        return self.encode(turn)

    def encode(self, text: str) -> list[int]:
        """Ids of a text in the middle of a trace, without special tokens."""
        if not self._anchor:
            return self._encode(text)
        ids = self._encode("\n" + text)
        n = len(self._anchor)
        return ids[n:] if ids[:n] == self._anchor else self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids from the middle of a trace; special tokens (end of sequence) have none."""
        if not self._anchor:
            return self._decode(ids)
        return self._decode([*self._anchor, *ids])[len(self._decode(self._anchor)) :]

    def texts(self, ids: Iterable[int]) -> list[str]:
        """The text of each token by itself."""
        texts = self._texts
        return [texts[i] for i in ids]

    def fingerprint(self) -> str:
        """A hash of vocabulary and added tokens, the same in every process: equal ones may exchange token ids."""
        added = {i: (str(t), bool(t.special)) for i, t in self._hf.added_tokens_decoder.items()}
        content = json.dumps([sorted(self._hf.get_vocab().items()), sorted(added.items())])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _find_anchor(self) -> list[int]:
        """Tokenizers of the sentencepiece kind put a space before a text and strip it when decoding: for them a newline
        goes in front of both and is cut off again. Empty: this tokenizer needs none."""
        newline = self._encode("\n")
        plain = (
            self._encode("a b") == self._encode("\na b")[len(newline) :] and self._decode(self._encode(" b")) == " b"
        )
        return [] if plain else newline

    def _encode(self, text: str) -> list[int]:
        return self._hf.encode(text, add_special_tokens=False)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._hf.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _apply_template(self, messages: list[dict]) -> str:
        from jinja2 import TemplateError

        try:
            return self._hf.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            remedy = "; set `system_role: false` for this model" if messages[0]["role"] == "system" else ""
            raise ValueError(f"the chat template refuses the prompt: {error}{remedy}") from error
