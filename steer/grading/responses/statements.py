"""The statements of a response in the order in which they count: the last box or "answer is" first.

Invariant: an empty box and a box that repeats the instruction (`\\boxed{}`, `\\boxed{your answer}`) state nothing, and
neither does a remark such as "I hope that the answer is correct".
"""

import re
from collections.abc import Iterator

from steer.grading.answers import Stated, answer_is, boxes, is_placeholder, sayings, stated
from steer.grading.verdict import MAX_ANSWER_CHARS

MAX_STATEMENTS = 50
"""How many of the last boxes and of the last "answer is" are read. A model that writes more of them repeats itself."""

_BOX = re.compile(r"\\{1,2}(?:boxed|fbox)\s{0,8}\{([^{}]{0,100}|\\[a-z]{2,12}\s{0,4}\{[^{}]{0,100}\})\}")
_REMARK = re.compile(
    r"\W*(?:(?:indeed|also|clearly|therefore|probably|not) )?(?:correct|right|wrong|clear|plausible|reasonable|sensible"
    r"|valid|consistent|confirmed|verified|unique|useful|helpful|(?:as |given |stated |boxed )?above|boxed|in the box)"
    r"(?:\W*$|[.!;]\s)",
    re.IGNORECASE,
)


def statements(text: str) -> Iterator[Stated]:
    """Boxes and "answer is" statements, the last one first, without those that state nothing.

    A box on the line of an "answer is" comes later than it. An "answer is" inside a box belongs to the box.
    """
    found_boxes, said = boxes(text)[-MAX_STATEMENTS:], sayings(text)[-MAX_STATEMENTS:]
    for found in reversed(sorted([*found_boxes, *said], key=lambda s: s.start)):
        if found.where == "boxed":
            content = "" if is_placeholder(found.text) else found.text
        elif any(box.start < found.start < box.end for box in found_boxes):
            continue
        else:
            # "The answer is 5. \boxed{}" states 5.
            content = _BOX.sub(lambda box: "" if is_placeholder(box.group(1)) else box.group(), found.text).strip()
            content = "" if is_placeholder(content) or _REMARK.match(content) else content
        if 0 < len(content) <= MAX_ANSWER_CHARS:
            yield found._replace(text=content)


def last_statement(text: str) -> Stated | None:
    """The statement that counts. If nothing but empty boxes and echoes is there, the last of those."""
    return next(statements(text), None) or stated(text)


def said_inside(found: Stated) -> Stated:
    """The text after an "answer is" that stands inside a box; else the statement as it is."""
    return (found.where == "boxed" and answer_is(found.text)) or found
