"""The control tokens of one tokenizer, and how text that merely spells one stays text.

A question, a system text or another model's step may hold `<|im_end|>`. Encoded as it stands, that would end the turn.
Such contents therefore go through `hide`, which puts stand-ins where they spell a control token. The chat template is
rendered around the stand-ins, so every control token that it then holds is the template's own. `encode` gives these
their ids, and encodes what the stand-ins stand for as ordinary text.

Control tokens are the added tokens that are special, that end a trace, or that the chat template writes between
messages (`<｜User｜>` is not special in every tokenizer). Other added tokens stay tokens wherever they are written:
runs of spaces, and tags that come in pairs, such as `<think>` and `</think>`.

Invariants: A text that spells no control token gets exactly the ids that the tokenizer gives it. Contents never bring a
control token: what cannot be encoded without one is refused.
"""

import copy
import re
import secrets
from collections.abc import Callable, Iterable
from functools import cached_property

_MARK = re.compile(r"[^\w\s]\S*\w\S*[^\w\s]")
"""What a template writes around a message: a name between brackets, bars or the like. Not a word, not white space."""
_TAG = re.compile(r"<(/?)(\w+)>")


class ControlTokens:
    def __init__(self, hf_tokenizer, eos_ids: Iterable[int], chat: str, encode_middle: Callable[[str], list[int]]):
        """`hf_tokenizer`: of transformers. `eos_ids`: every id that ends a trace. `chat`: what the chat template makes
        of a conversation whose messages are plain words; "" without a template. `encode_middle`: from a text to its ids
        in the middle of a sequence."""
        self._hf = hf_tokenizer
        self._encode_middle = encode_middle
        ends = {*eos_ids, hf_tokenizer.eos_token_id}
        self._tokens = {i: token for i, token in hf_tokenizer.added_tokens_decoder.items() if str(token)}
        """The added tokens by id, at first all of them."""
        special = {i for i, token in self._tokens.items() if token.special}
        chosen = self._tokens.keys() & (special | ends | {*hf_tokenizer.all_special_ids} | self._marks(chat))
        self._tokens = {i: self._tokens[i] for i in sorted(chosen)}
        # Characters that the vocabulary lacks may get the unknown token, which is harmless. (Byte-level vocabularies
        # lack none, and often name their end of sequence as unknown.)
        self._ids = frozenset(chosen - ({hf_tokenizer.unk_token_id} - ends))
        nonce = secrets.token_hex(8)  # no content can spell a stand-in
        self._stand_ins = {str(token): f"{nonce}h{i}z" for i, token in self._tokens.items()}
        self._meanings = {stand_in: text for text, stand_in in self._stand_ins.items()}
        self._names = {str(token): f"{nonce}n{i}z" for i, token in self._tokens.items()}
        """Name of each control token in the twin."""
        longest_first = sorted(self._stand_ins, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._stand_in = re.compile(rf"{nonce}h\d+z")

    def hide(self, content: str) -> str:
        """The content with stand-ins for what spells a control token."""
        return self._spelled.sub(lambda found: self._stand_ins[found.group()], content)

    def encode(self, text: str, begins_sequence: bool = False) -> list[int]:
        """Ids of a text whose contents went through `hide`. `begins_sequence`: the tokenizer puts its own special
        tokens around the text. ValueError if contents cannot be encoded without a control token."""
        meant = len(self._spelled.findall(text)) + (self._hf.num_special_tokens_to_add() if begins_sequence else 0)
        if not self._stand_in.search(text):
            ids = self._encode(text, begins_sequence)
            # There are more than the meant ones if a normalizer (lower case, say) made control tokens of other text.
            if self._count(ids) <= meant:
                return ids
        ids = self._encode_by_twin(text, begins_sequence)
        if ids is None or self._count(ids) > meant:
            ids = self._encode_in_parts(text, begins_sequence)
        if self._count(ids) > meant:
            raise ValueError("the text spells a special token that this tokenizer cannot encode as text")
        return ids

    def _marks(self, chat: str) -> set[int]:
        """Ids of the added tokens that the chat template writes to tell messages apart."""
        texts = {str(token) for token in self._tokens.values()}

        def is_mark(text: str) -> bool:
            tag = _TAG.fullmatch(text)
            paired = tag is not None and f"<{'' if tag[1] else '/'}{tag[2]}>" in texts
            return _MARK.fullmatch(text) is not None and not paired

        written = self._encode(chat, False) if chat else []
        return {i for i in written if i in self._tokens and is_mark(str(self._tokens[i]))}

    def _count(self, ids: Iterable[int]) -> int:
        return sum(i in self._ids for i in ids)

    def _encode(self, text: str, begins_sequence: bool) -> list[int]:
        return self._hf.encode(text, add_special_tokens=begins_sequence)

    # --- texts that spell control tokens ------------------------------------------------------------------------------

    @cached_property
    def _twin(self):
        """(a copy of the fast tokenizer that knows the control tokens by secret names alone, and their ids by those
        that the names have in it). None if the tokenizer is not a fast one, or has parts that cannot be copied.

        A name is a whole token wherever the token was one, so what stands between gets the ids that it always gets. The
        copy takes about a second for 150,000 entries, and is made when it is first needed.
        """
        from tokenizers import AddedToken

        fast = getattr(self._hf, "backend_tokenizer", None)
        try:
            twin = copy.deepcopy(fast)
        except Exception:  # tokenizers has no class of its own for parts written in Python, which cannot be copied
            return None
        if twin is None:
            return None

        def token(like: AddedToken, text: str, special: bool) -> AddedToken:
            flags = {name: getattr(like, name) for name in ("single_word", "lstrip", "rstrip", "normalized")}
            return AddedToken(text, special=special, **flags)

        twin.no_truncation()
        twin.no_padding()
        twin.add_special_tokens([token(t, str(t), True) for t in self._tokens.values()])
        twin.encode_special_tokens = True  # the library's name for: what spells a special token is text
        twin.add_tokens([token(t, self._names[str(t)], False) for t in self._tokens.values()])
        return twin, {twin.token_to_id(self._names[str(t)]): i for i, t in self._tokens.items()}

    def _encode_by_twin(self, text: str, begins_sequence: bool) -> list[int] | None:
        if self._twin is None:
            return None
        twin, ids = self._twin
        named = self._spelled.sub(lambda found: self._names[found.group()], text)
        spelled = self._stand_in.sub(lambda found: self._meanings[found.group()], named)
        return [ids.get(i, i) for i in twin.encode(spelled, add_special_tokens=begins_sequence).ids]

    def _encode_in_parts(self, text: str, begins_sequence: bool) -> list[int]:
        """For tokenizers that are not fast, or whose model has pieces that spell control tokens: cut what spells one
        after its first character, and encode the parts one by one."""
        parts, end = [""], 0
        for found in self._stand_in.finditer(text):
            spelled = self._meanings[found.group()]
            parts[-1] += text[end : found.start()] + spelled[0]
            parts.append(spelled[1:])
            end = found.end()
        parts[-1] += text[end:]
        ids = [*self._encode(parts[0], False), *(i for part in parts[1:] for i in self._encode_middle(part))]
        return self._in_a_sequence(ids) if begins_sequence else ids

    def _in_a_sequence(self, ids: list[int]) -> list[int]:
        """`ids` between the special tokens that the tokenizer puts around a text."""
        alone, around = self._encode("a", False), self._encode("a", True)
        start = next((n for n in range(len(around)) if around[n : n + len(alone)] == alone), 0)
        return [*around[:start], *ids, *around[start + len(alone) :]]
