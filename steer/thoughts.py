"""Where the thought of a response ends and its answer begins: the one rule for grading, tables and budgets.

The prompt of a model that thinks ends inside the thought (`actors/engine/tokenizer.py`), so a response begins with its
thought, and a closing tag such as `</think>` ends it. What comes after the tag is the answer, further tags included.
"""

import re

UNCLOSED = "unclosed_thought"
"""Rule of the verdict on a response whose thought never ends: it has no answer."""

_FENCE = re.compile(r"[ \t]*(?:(`)``+(?=[^`]*\Z)|(~)~~)")
"""The line that begins or ends a block of code. A line with backticks behind its fence is code within a line."""
_QUOTES = ('""', "''", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb")
"""What a quoted tag stands between: the character before it and the one behind."""


def answer_start(text: str, closing_tag: str) -> int | None:
    """Position after the closing tag that ends the thought of a response; None if there is none. Linear in the text.

    It is the first tag that is not quoted. A tag is quoted if it stands in code within a line or between two quotation
    marks; or in a block of code, unless it has a line to itself: models forget to end a block before they answer.
    """
    if closing_tag not in text:
        return None
    start, block = 0, ""
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if fence is not None:
            mark = fence[1] or fence[2]
            block = mark if not block else "" if block == mark else block
        if closing_tag in line:
            at = _unquoted(line, closing_tag, bool(block))
            if at is not None:
                return start + at + len(closing_tag)
        start += len(line) + 1
    return None


def _unquoted(line: str, tag: str, in_block: bool) -> int | None:
    """Position of the first tag of a line that is not quoted; None: all are. `in_block`: the line is one of code."""
    if in_block:
        return line.find(tag) if line.strip() == tag else None
    ticks_left, ticks, seen = line.count("`"), 0, 0
    while (at := line.find(tag, seen)) >= 0:
        before = line.count("`", seen, at)
        ticks, ticks_left, seen = ticks + before, ticks_left - before, at + len(tag)
        in_code = ticks % 2 == 1 and ticks_left > 0
        if not in_code and line[max(0, at - 1) : at] + line[seen : seen + 1] not in _QUOTES:
            return at
    return None


def closing_text(text: str, closing_tag: str) -> str:
    """What ends an unfinished thought, spaced as the models' own templates space it."""
    return f"{closing_tag}\n\n" if text.endswith("\n") else f"\n{closing_tag}\n\n"


class ThoughtSplitter:
    """Splits a response that comes in pieces into its thought and its answer, as `answer_start` splits the whole.

    The last line is held back while a part of the closing tag may be in it, since what stands behind a tag in its line
    decides whether it is quoted. White space around the thought and before the answer belongs to neither.
    """

    def __init__(self, closing_tag: str):
        """`closing_tag`: empty if the models do not think. Then all is answer."""
        self._tag = closing_tag
        self._text = ""
        """The thought so far, while it lasts."""
        self._sent = 0
        """How much of `_text` was handed on."""
        self._answering = not closing_tag
        self._begun = False
        """Whether any of the answer was handed on."""

    def feed(self, piece: str) -> tuple[str, str]:
        """(thought, answer) that may be handed on now."""
        if self._answering:
            return "", self._answer(piece)
        self._text += piece
        line = self._text.rfind("\n") + 1
        if self._tag in self._text[:line]:
            return self._split(self._text[:line], self._text[line:])
        return self._thought(self._text[:line]), ""

    def end(self) -> tuple[str, str]:
        """What was held back, once the response is over."""
        return ("", "") if self._answering else self._split(self._text, "")

    def _split(self, whole: str, rest: str) -> tuple[str, str]:
        start = answer_start(whole, self._tag)
        if start is None:
            return self._thought(whole), ""
        thought = self._thought(whole[: start - len(self._tag)])
        self._answering = True
        return thought, self._answer(whole[start:] + rest)

    def _thought(self, text: str) -> str:
        """What of the thought's text was not handed on, without the white space at its ends."""
        shown = text.rstrip()
        begin = max(self._sent, len(text) - len(text.lstrip()))
        self._sent = max(self._sent, len(shown))
        return shown[begin:]

    def _answer(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text
