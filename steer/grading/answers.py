"""Where a response states its answer: the last balanced `\\boxed{}`, or what follows the last "answer is"."""

import re
from typing import NamedTuple

from steer.grading.verdict import MAX_ANSWER_CHARS, MAX_TEXT_CHARS


class Stated(NamedTuple):
    text: str
    where: str
    """`boxed`, `answer_is`, or `whole` for the whole response."""
    start: int
    """Where the statement begins in the response's end."""


_BRACE = re.compile(r"\\boxed\s{0,8}\{|\\[{}]|[{}]")
_ANSWER_IS = re.compile(r"\banswer\s{0,8}(?:is\s{0,8}:?|:)", re.IGNORECASE)
_LINE_END = re.compile(r"\n")


def response_end(text: str) -> str:
    return text[-MAX_TEXT_CHARS:]


def boxed(text: str) -> Stated | None:
    """The box that closes last; one box around another is taken off. One pass over the braces, whatever the nesting."""
    open_braces: list[tuple[bool, int, int]] = []
    last = None
    for match in _BRACE.finditer(text):
        brace = match.group()
        if brace.endswith("{") and brace != "\\{":
            open_braces.append((len(brace) > 1, match.start(), match.end()))
        elif brace == "}" and open_braces:
            is_box, start, inside = open_braces.pop()
            if is_box:
                content = text[inside : match.start()].strip()
                # The inner box has closed just before: keep it if it is all that this one holds.
                if not (last and last.start >= inside and content.startswith("\\boxed") and content.endswith("}")):
                    last = Stated(content, "boxed", start)
    return last if last and len(last.text) <= MAX_ANSWER_CHARS else None


def answer_is(text: str) -> Stated | None:
    """The rest of the line after the last "answer is" or "answer:"; of the next line if that one is empty."""
    last = None
    for match in _ANSWER_IS.finditer(text):
        last = match
    if last is None:
        return None
    rest = text[last.end() :].lstrip().lstrip("*:").lstrip()
    line = _LINE_END.split(rest, maxsplit=1)[0].strip().strip("*").strip()
    return Stated(line, "answer_is", last.start()) if line and len(line) <= MAX_ANSWER_CHARS else None


def stated(text: str) -> Stated | None:
    """The box, else the rest of the line after "answer is"."""
    return boxed(text) or answer_is(text)
