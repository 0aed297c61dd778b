"""The tokenizer of one model: prompt and text to ids, ids to text, and the ids that end a trace.

Invariants: A step's text is `decode` of exactly its ids. Text of another model is encoded piece by piece, so that
earlier pieces never change their ids. Every single token has a text (partial UTF-8 becomes U+FFFD). Prompts and texts
of other models never bring a control token (`ControlTokens`). The prompt of a model that thinks ends inside its
thought, whether its chat template opens that or not: so no response begins with an opening tag, and a trace can go from
one such model to another.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from actors.engine.control_tokens import ControlTokens
from steer.config.run import ModelConfig, ThoughtTags
from steer.messages import Prompt

_MARK = "[what the assistant said]"
"""Stands for the assistant's message, where `Tokenizer.encode_turn` cuts the rendered chat template."""


def joined(prompt: Prompt) -> str:
    """The prompt as one text, for a model that has no roles."""
    texts = [prompt.system, *(text for _, text in prompt.earlier), prompt.user]
    return "\n\n".join(text for text in texts if text)


def turns_of(prompt: Prompt, system_role: bool) -> list[tuple[str, str]]:
    """The prompt's turns as (role, text). Without a system role its text goes to the head of the first user turn."""
    turns = [*prompt.earlier, ("user", prompt.user)]
    if not prompt.system:
        return turns
    if system_role:
        return [("system", prompt.system), *turns]
    first = next(i for i, (role, _) in enumerate(turns) if role == "user")
    turns[first] = ("user", f"{prompt.system}\n\n{turns[first][1]}")
    return turns


class _TokenTexts(dict):
    """Token id -> text. Filled on first use, so that a vocabulary of 152,000 tokens is never decoded as a whole."""

    def __init__(self, decode):
        self._decode = decode

    def __missing__(self, token: int) -> str:
        text = self[token] = self._decode([token])
        return text


class Tokenizer:
    """A transformers tokenizer, as the replicas use it."""

    def __init__(
        self,
        hf_tokenizer,
        eos_ids: Iterable[int],
        system_role: bool,
        template: dict[str, Any] | None = None,
        thinks: ThoughtTags | None = None,
    ):
        """`eos_ids`: every id that ends a trace. `system_role`: whether the chat template takes a system message.
        `template`: further arguments of the chat template. `thinks`: the tags of a model that thinks.

        ValueError if the template never reads one of its arguments, or the model cannot think between these tags.
        """
        self._hf = hf_tokenizer
        self._system_role = system_role
        self._arguments = template or {}
        self.eos_ids = frozenset(eos_ids)
        self._texts = _TokenTexts(self._decode)
        self._anchor: list[int] = []
        self._anchor = self._find_anchor()
        self._refuse_unread_arguments()
        self._thinks = thinks
        self._opening = "" if thinks is None else self._find_opening(thinks)
        """What the prompt needs behind the rendered template, so that it ends inside the thought."""

    @classmethod
    def of_engine(cls, engine, model: ModelConfig) -> "Tokenizer":
        """The tokenizer of a `vllm.LLMEngine` that was loaded for `model`. A trace ends with the tokenizer's end of
        sequence and with those of the generation config (Qwen2.5 has two)."""
        tokenizer = engine.get_tokenizer()
        given = engine.model_config.try_get_generation_config().get("eos_token_id")
        ids = set(given if isinstance(given, (list, tuple)) else [given])
        eos_ids = {i for i in ids | {tokenizer.eos_token_id} if i is not None}
        return cls(tokenizer, eos_ids, model.system_role, model.template, model.thinks)

    @cached_property
    def _controls(self) -> ControlTokens:
        return ControlTokens(self._hf, self.eos_ids, self._plain_chat(), self._encode_middle)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """The prompt in the chat template, then the generation prompt, within the thought of a model that thinks.
        Without a template: the prompt as one text.

        ValueError if the template refuses the prompt, or the prompt has no token.
        """
        controls = self._controls
        if self._hf.chat_template:
            turns = turns_of(prompt, self._system_role)
            messages = [{"role": role, "content": controls.hide(text)} for role, text in turns]
            ids = controls.encode(self._apply_template(messages) + self._opening)
        else:
            ids = controls.encode(controls.hide(joined(prompt)), begins_sequence=True)
        if not ids:
            raise ValueError("the prompt has no token")
        return ids

    def encode_bare(self, prompt: Prompt) -> list[int]:
        """The token that begins a sequence, if there is one, then the prompt as a line of text, without a template."""
        return self._encode_middle(f"{self._hf.bos_token or ''}{self._controls.hide(joined(prompt))}\n")

    def encode_turn(self, user: str) -> list[int]:
        """What follows an unfinished assistant's message: the end of that message, a user turn and the generation
        prompt, with an empty thought if the model thinks. Without a chat template: the text in a paragraph of its own.

        ValueError if the chat template refuses such a conversation, or does not show the assistant's message.
        """
        if not self._hf.chat_template:
            return self.encode(f"\n\n{user}\n")
        roles = (("user", "?"), ("assistant", _MARK), ("user", self._controls.hide(user)))
        _, shown, turn = self._apply_template([{"role": r, "content": c} for r, c in roles]).rpartition(_MARK)
        if not shown:
            raise ValueError("the chat template does not show what the assistant said before the last user turn")
        if self._thinks is not None:
            turn += f"{self._opening}\n{self._thinks.close}\n\n"
        return self._encode_middle(turn)

    def encode(self, text: str) -> list[int]:
        """Ids of a text in the middle of a trace. No special tokens are added, and what spells one is text."""
        return self._encode_middle(self._controls.hide(text))

    def encode_fixed(self, text: str) -> list[int]:
        """Ids of a text of our own in the middle of a trace, such as a separator. Special tokens in it are meant."""
        return self._in_the_middle(text, self._encode)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids in the middle of a trace. Special tokens (end of sequence) have no text."""
        if not self._anchor:
            return self._decode(ids)
        return self._decode([*self._anchor, *ids])[len(self._decode(self._anchor)) :]

    def texts(self, ids: Iterable[int]) -> list[str]:
        """The text of each token by itself."""
        texts = self._texts
        return [texts[i] for i in ids]

    def fingerprint(self) -> str:
        """A hash of the vocabulary and the added tokens, the same in every process. Models with equal fingerprints may
        exchange token ids."""
        added = {i: (str(t), bool(t.special)) for i, t in self._hf.added_tokens_decoder.items()}
        content = json.dumps([sorted(self._hf.get_vocab().items()), sorted(added.items())])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _find_anchor(self) -> list[int]:
        """Ids that go in front of every text and are cut off again; empty if the tokenizer needs none.

        A tokenizer of the sentencepiece kind puts a space before a text, and strips it when decoding. A newline in
        front takes that space instead of the text.
        """
        newline = self._encode("\n")
        plain = (
            self._encode("a b") == self._encode("\na b")[len(newline) :] and self._decode(self._encode(" b")) == " b"
        )
        return [] if plain else newline

    def _refuse_unread_arguments(self) -> None:
        if not self._arguments:
            return
        from jinja2 import Environment

        read = set()
        if self._hf.chat_template:
            read = {name for _, kind, name in Environment().lex(self._hf.get_chat_template()) if kind == "name"}
        unread = sorted(self._arguments.keys() - read)
        if unread:
            what = "never reads" if self._hf.chat_template else "is missing, so nothing reads"
            raise ValueError(
                f"the model's chat template {what} {', '.join(unread)}: correct or remove that key under `template:`"
            )

    def _find_opening(self, thinks: ThoughtTags) -> str:
        """The opening tag as a line; empty if the chat template writes it. ValueError if the model cannot think
        between the tags."""
        for tag in (thinks.open, thinks.close):
            if self.decode(self.encode_fixed(tag)) != tag:
                raise ValueError(
                    f"the tokenizer shows no text for the tag {tag}, so nobody sees where the thought ends: give other "
                    "tags under `thinks:`, or leave it out"
                )
        prompt = self._plain_chat().rstrip()
        if not prompt:
            raise ValueError("a model without a chat template cannot think: leave `thinks:` out")
        if prompt.endswith(thinks.close):
            raise ValueError(
                f"the chat template ends the thought itself, with {thinks.close}: leave `thinks:` out, or change the "
                "arguments under `template:` (such as enable_thinking)"
            )
        return "" if prompt.endswith(thinks.open) else f"{thinks.open}\n"

    def _encode_middle(self, text: str) -> list[int]:
        """Ids in the middle of a trace, of a text whose contents went through `ControlTokens.hide`."""
        return self._in_the_middle(text, self._controls.encode)

    def _in_the_middle(self, text: str, encode: Callable[[str], list[int]]) -> list[int]:
        if not self._anchor:
            return encode(text)
        ids = encode("\n" + text)
        n = len(self._anchor)
        return ids[n:] if ids[:n] == self._anchor else encode(text)

    def _plain_chat(self) -> str:
        """A conversation of plain words in the chat template. "" without a template, or if it refuses all of them."""
        system, *turns = [{"role": role, "content": "a"} for role in ("system", "user", "assistant", "user")]
        for messages in ([system, *turns], turns, turns[:1]):
            with suppress(ValueError, TypeError):
                return self._apply_template(messages) if self._hf.chat_template else ""
        return ""

    def _encode(self, text: str) -> list[int]:
        return self._hf.encode(text, add_special_tokens=False)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._hf.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _apply_template(self, messages: list[dict]) -> str:
        from jinja2 import TemplateError

        try:
            return self._hf.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **self._arguments)
        except TemplateError as error:
            remedy = "; set `system_role: false` for this model" if messages[0]["role"] == "system" else ""
            raise ValueError(f"the chat template refuses the prompt: {error}{remedy}") from error
