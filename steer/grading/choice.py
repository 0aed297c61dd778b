"""Grader `choice`: the letter of an option. A capital inside a word is not an answer."""

import re

from steer.grading.answers import answer_is, boxed, response_end
from steer.grading.verdict import NO_ANSWER, Verdict

_WRAPPERS = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\{|[{}()\[\]$*\s]")
_OPENING = r"[\s(\[*$:\"'{]{0,8}(?:(?:option|choice)\s{0,4})?(?:\\(?:text|mathrm|textbf|mathbf|boxed)\{)?[(\[*]{0,4}"


def grade_choice(text: str, gold: str, letters: str = "ABCD") -> Verdict:
    """`letters`: those an option of the question can have."""
    end = response_end(text)
    letter, where = _chosen(end, letters)
    if not letter:
        return NO_ANSWER
    return Verdict(letter, letter == gold.strip().upper(), where)


def _chosen(text: str, letters: str) -> tuple[str, str]:
    box = boxed(text)
    if box and (letter := _leading_letter(box.text, letters)):
        return letter, "boxed"
    said = answer_is(text)
    if said and (match := re.match(rf"{_OPENING}([{letters}])(?![A-Za-z0-9_'])", said.text, re.IGNORECASE)):
        # "the answer is a lack of ...": a small letter counts only where it stands alone.
        if match.group(1).isupper() or not said.text[match.end() :].strip(" .)*]}$"):
            return match.group(1).upper(), "answer_is"
    last = None
    for match in re.finditer(rf"(?<![A-Za-z0-9_\\'])[{letters}](?![A-Za-z0-9_'])", text):
        last = match
    return (last.group(), "last_letter") if last else ("", "none")


def _leading_letter(content: str, letters: str) -> str:
    bare = _WRAPPERS.sub(" ", content).strip()
    if len(bare) == 1:
        bare = bare.upper()
    match = re.match(rf"(?:[Oo]ption\s{{0,4}})?([{letters}])(?![A-Za-z0-9_'])", bare)
    return match.group(1) if match else ""
