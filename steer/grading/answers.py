"""Where a response states its answer: in a balanced `\\boxed{}`, or after "answer is".

Invariants: every function takes time linear in the text; an answer holds no invisible characters if the text came
through `response_end`.
"""

import re
from typing import NamedTuple

from steer.grading.verdict import MAX_ANSWER_CHARS, MAX_TEXT_CHARS


class Stated(NamedTuple):
    text: str
    where: str
    """`boxed`, `answer_is`, or a grader's own word for another place, such as `whole` for the whole response."""
    start: int
    """Position of the statement's first character in the searched text."""
    end: int
    """Position after the statement, including its closing brace or delimiter; for `answer_is`, the position of the next
    "answer is" or the end of the text."""


# A doubled backslash is a line break, except before "boxed": models write `\\boxed{` as if in JSON.
_BRACE = re.compile(r"(?P<box>\\{1,2}(?:boxed|fbox)\s{0,8}\{)|(?P<open>\{)|(?P<close>\})|\\[\\{}]")
_ANSWER_IS = re.compile(r"(?<![^\W_])answer[\s*_]{0,8}(?:is\b|:)", re.IGNORECASE)
_CLOSING_REVERSED = re.compile(r"\A[\s*]*")
_OPENING = re.compile(r"\A[\s:*_]*")
_INVISIBLE = dict.fromkeys(
    [
        *(code for code in range(0x20) if chr(code) not in "\n\t"),
        0x7F,
        # Zero-width characters and direction marks, word joiner, byte order mark.
        *range(0x200B, 0x2010),
        0x2060,
        0xFEFF,
        # Embeddings, overrides and isolates of text direction.
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ]
)


def visible(text: str) -> str:
    """Remove zero-width and direction characters, and control characters other than newline and tab.

    Two answers that look the same must not differ by such characters.
    """
    return text.translate(_INVISIBLE)


def response_end(text: str) -> str:
    """The part of a response that graders search for an answer, without invisible characters."""
    return visible(text[-MAX_TEXT_CHARS:])


def boxes(text: str) -> list[Stated]:
    """All balanced `\\boxed{}` and `\\fbox{}`, in the order of the text. Of nested boxes only the innermost counts.

    The function makes one pass over the braces. `\\{` and `\\}` do not count as braces, and a box without a closing
    brace does not count as a box.
    """
    open_braces: list[tuple[bool, int, int]] = []
    found: list[Stated] = []
    for match in _BRACE.finditer(text):
        if match.lastgroup in ("box", "open"):
            open_braces.append((match.lastgroup == "box", match.start(), match.end()))
        elif match.lastgroup == "close" and open_braces:
            is_box, start, inside = open_braces.pop()
            if is_box and not (found and found[-1].start > start):
                found.append(Stated(_trimmed(text[inside : match.start()]), "boxed", start, match.end()))
    return found


def boxed(text: str) -> Stated | None:
    """The last balanced box; None if there is none or if it is too long for an answer."""
    found = boxes(text)
    return found[-1] if found and len(found[-1].text) <= MAX_ANSWER_CHARS else None


def sayings(text: str) -> list[Stated]:
    """The text after each "answer is", "answer:" or "**Answer**:": the rest of its line, or the next line.

    The text is not interpreted: "the answer is not 5" states "not 5".
    """
    matches = list(_ANSWER_IS.finditer(text))
    ends = [*(match.start() for match in matches[1:]), len(text)]
    return [
        Stated(_line(text[match.end() : end]), "answer_is", match.start(), end)
        for match, end in zip(matches, ends, strict=False)
    ]


def answer_is(text: str) -> Stated | None:
    """The text after the last "answer is"; None if there is none, or if it is empty or too long for an answer."""
    found = sayings(text)
    return found[-1] if found and 0 < len(found[-1].text) <= MAX_ANSWER_CHARS else None


def stated(text: str) -> Stated | None:
    """The last box, else the text after the last "answer is"."""
    return boxed(text) or answer_is(text)


def _trimmed(content: str) -> str:
    """Strip the content of a box.

    A control space (a backslash and a space) at the end is removed as a whole: its backslash alone would escape the
    brace that closes the box.
    """
    end = len(content)
    while True:
        while end and content[end - 1].isspace():
            end -= 1
        backslashes = end
        while backslashes and content[backslashes - 1] == "\\":
            backslashes -= 1
        if (end - backslashes) % 2 == 0:
            return content[:end].lstrip()
        end -= 1


def _line(rest: str) -> str:
    """The first line that is not empty, without the marks of bold or italics around its first words."""
    opened = _OPENING.sub("", rest, count=1)
    opening = rest[: len(rest) - len(opened)]
    line = opened.split("\n", 1)[0]
    marks = opening[len(opening.rstrip("*_")) :]
    line = line.replace(marks[::-1], "", 1)
    # The line is reversed because a search for the pattern at the end would be quadratic in a long run of spaces.
    return _CLOSING_REVERSED.sub("", line[::-1], count=1)[::-1]
