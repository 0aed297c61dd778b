"""Where a response states its answer: in a balanced `\\boxed{}`, or after "answer is".

Invariants: every function takes time linear in the text; an answer holds no invisible characters if the text came
through `response_end`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
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
# `\beginboxed{` is a box that models garble.
_BRACE = re.compile(r"(?P<box>\\{1,2}(?:begin)?(?:boxed|fbox)\s{0,8}\{)|(?P<open>\{)|(?P<close>\})|\\[\\{}]")
_ANSWER_IS = re.compile(r"(?<![^\W_])answer[\s*_]{0,8}(?:is\b|:)", re.IGNORECASE)
_CLOSING_REVERSED = re.compile(r"\A[\s*`]*")
_OPENING = re.compile(r"\A[\s:*_`]*")
_DISPLAYS = (("$$", "$$"), (r"\[", r"\]"))
_MAX_DISPLAY_CHARS = 1_000
# What stands between the boxes of one statement: delimiters, spacing, a separator, and the name of the next value.
_BETWEEN_BOXES = re.compile(
    r"(?:\n\s*(?:[-\u2022]|\d{1,2}[.)])\s|\$|\\[()\[\]]|\\q?quad|\\[,;:! ]|\s|\\text\w{0,2}\s?\{|[{}]|[,;&*]|\\\\"
    r"|(?<![A-Za-z])(?:and|or|also|as well as)(?![A-Za-z])|for (?:part|case) \(?\w\)?|\(\w\)|\\cup(?![A-Za-z])"
    r"|(?:\\[A-Za-z]{1,12}|[A-Za-z])(?:_\{?\w{1,3}\}?)?\s?(?:=|\\in(?![A-Za-z])|:))*+"
)
_MAX_BETWEEN_BOXES = 60
_DRESS = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|up)?|math(?:bf|it|rm|sf|tt)|mbox|emph|boldsymbol|operatorname|displaystyle|q?quad)"
    r"(?![A-Za-z])|\\[ ,;:!]|[\s{}$*\"'“”‘’`<>~]+"
)
_BLANK = re.compile(r"[()\[\]]*(?:[.…_?□▢-]|\\(?:l|c|v)?dots|\\_|\\(?:square|Box|underline))*[()\[\]]*\.?")
_ECHO = re.compile(
    r"[(\[]?(?:(?:insert|put|write|place|enter|give|state|type) )?"
    r"(?:(?:(?:the|your|my|final|correct|numerical|numeric|integer|short|actual) )*answer(?: (?:goes )?here)?"
    r"|(?:your|my) (?:(?:final|own) )?(?:result|solution|response|number|value|integer|letter|option|choice|text)"
    r"(?: (?:goes )?here)?"
    r"|(?:result|solution|response|number|value|integer|letter|option|choice|text) (?:goes )?here)[)\]]?\.?"
)
# `<|im_end|>`, `</s>`, `<eos>`: the marks at which other systems end a turn.
_TURN_END = re.compile(
    r"(?:\s|<\|[^|<>\s]{1,40}\|>|</?s>|<eos>|<end_of_turn>|</[a-z_]{1,20}>"
    r"|<\uff5c[^<>\s]{1,40}\uff5c>|\[/?INST\])+\Z"
)
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
    """The part of a response that graders search for an answer, without invisible characters and marks of a turn's
    end."""
    return without_turn_end(visible(text[-MAX_TEXT_CHARS:]))


def without_turn_end(text: str) -> str:
    """Remove chat markers (`<|im_end|>`, `</s>`) at the end of a text."""
    last = text.rstrip()[-1:]
    if last not in ("", ">", "]"):
        return text
    while last in (">", "]") and (mark := _TURN_END.search(text, max(0, len(text) - 60))) and mark.group().strip():
        text = text[: mark.start()]
        last = text.rstrip()[-1:]
    return text


def boxes(text: str) -> list[Stated]:
    """All balanced `\\boxed{}` and `\\fbox{}`, in the order of the text. Of nested boxes only the innermost counts.

    The function makes one pass over the braces. `\\{` and `\\}` do not count as braces, and a box without a closing
    brace does not count as a box.
    """
    return list(_boxes(text))


# Several functions look for the boxes of one response.
@lru_cache(maxsize=4)
def _boxes(text: str) -> tuple[Stated, ...]:
    open_braces: list[tuple[bool, int, int]] = []
    found: list[Stated] = []
    for match in _BRACE.finditer(text):
        if match.lastgroup in ("box", "open"):
            open_braces.append((match.lastgroup == "box", match.start(), match.end()))
        elif match.lastgroup == "close" and open_braces:
            is_box, start, inside = open_braces.pop()
            if is_box and not (found and found[-1].start > start):
                found.append(Stated(_trimmed(text[inside : match.start()]), "boxed", start, match.end()))
    return tuple(found)


def boxed(text: str) -> Stated | None:
    """The last balanced box; None if there is none or if it is too long for an answer."""
    found = boxes(text)
    return found[-1] if found and len(found[-1].text) <= MAX_ANSWER_CHARS else None


def is_placeholder(content: str) -> bool:
    """Whether the content of a box is empty, dots or another blank to fill in, or words such as "your answer"."""
    if len(content) > 100:
        return False
    plain = " ".join(_DRESS.sub(" ", content).split()).casefold()
    return bool(_BLANK.fullmatch(plain.replace(" ", "")) or _ECHO.fullmatch(plain))


def closing_boxes(text: str) -> list[Stated]:
    """The boxes of the statement that stands last: the last box that is no placeholder, and those before it from which
    only separators, `and`, `or` or the next value's name (`y =`) divide it. Empty if the last box is too long."""
    found = [box for box in boxes(text) if not is_placeholder(box.text)]
    if not found or len(found[-1].text) > MAX_ANSWER_CHARS:
        return []
    first = len(found) - 1
    while first and _in_one_statement(text, found[first - 1], found[first]):
        first -= 1
    return found[first:]


def listed(statement: Sequence[Stated]) -> Stated:
    """Several boxes of one statement as one list (`boxes`); one box, or several of one content, as it is."""
    contents = list(dict.fromkeys(box.text for box in statement))
    if len(contents) == 1:
        return statement[-1]
    joined = ", ".join(contents)
    if len(joined) > MAX_ANSWER_CHARS:
        return statement[-1]
    return Stated(joined, "boxes", statement[0].start, statement[-1].end)


def _in_one_statement(text: str, one: Stated, next_one: Stated) -> bool:
    between = text[one.end : next_one.start]
    return (
        len(between) <= _MAX_BETWEEN_BOXES
        and "\n\n" not in between.strip()
        and (_BETWEEN_BOXES.fullmatch(between) is not None)
    )


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
    """The first line that is not empty, or the displayed formula that begins there.

    The marks of bold or italics around its first words are left out.
    """
    opened = _OPENING.sub("", rest, count=1)
    opening = rest[: len(rest) - len(opened)]
    line = opened.split("\n", 1)[0]
    for begin, end in _DISPLAYS:
        closing = opened.find(end, len(begin), _MAX_DISPLAY_CHARS) if line.startswith(begin) else -1
        if closing > len(line):
            # A formula on lines of its own.
            line = " ".join(opened[: closing + len(end)].split("\n"))
    marks = opening[len(opening.rstrip("*_`")) :]
    line = line.replace(marks[::-1], "", 1)
    # The line is reversed because a search for the pattern at the end would be quadratic in a long run of spaces.
    return _CLOSING_REVERSED.sub("", line[::-1], count=1)[::-1]
