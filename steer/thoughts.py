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
