"""Grader `kor`: the rules of KOR-Bench's own evaluator for cipher, counterfactual and logic.

Invariants: a verdict is the one that the benchmark publishes for the same response, which is why the FIRST bracket is
read and nothing else is tidied (no invisible characters dropped, no case folded); reading is linear in the text, which
the evaluator's lazy patterns are not.
"""

from steer.grading.answers import Stated
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

MAX_READ_CHARS = 1_000_000
"""A response's first bracket is looked for in so much of its beginning: sixty times the longest answer that is asked
for, so that no response is cut off in practice."""

_DELIMITERS = (
    ("double_brackets", "[[", "]]"),
    ("boxed", "$\\boxed{", "}$"),
    ("brackets", "[", "]"),
)
_DELETED = str.maketrans("", "", '"\n []')
_DELETED_IN_LOGIC = str.maketrans("", "", '"\n .')
_UNORDERED_RULE = "5"
"""The rule of logic whose answers are truth tables: their rows come in any order."""


def grade_kor(text: str, gold: str, subset: str, rule_id: str) -> Verdict:
    """`subset`: `logic` has rules of its own; every other is compared as cipher and counterfactual are.

    `gold` stands in `[[ ]]` as in the benchmark's files, or without.
    """
    found = _first(text[:MAX_READ_CHARS])
    if found is None:
        return NO_ANSWER
    if subset == "logic":
        how = _logic(found.text, gold, rule_id)
    else:
        answer = found.text.translate(_DELETED)
        how = "equal" if answer and answer == _inside(gold) else None
    return Verdict(_stored(found.text), how is not None, f"{found.where}:{how or 'different'}")


def extract(text: str) -> Stated | None:
    """What stands in the first `[[ ]]`, else in the first `$\\boxed{ }$`, else in the first `[ ]`, without space at its
    ends; the first `MAX_ANSWER_CHARS` of it."""
    found = _first(text[:MAX_READ_CHARS])
    return found and found._replace(text=_stored(found.text))


def wrapped(found: Stated) -> str:
    """An extract in the brackets that it stood in: `extract` gives it back."""
    opening, closing = next((opening, closing) for where, opening, closing in _DELIMITERS if where == found.where)
    return f"{opening} {found.text} {closing}"


def _first(text: str) -> Stated | None:
    for where, opening, closing in _DELIMITERS:
        start = text.find(opening)
        end = text.find(closing, start + len(opening)) if start >= 0 else -1
        # If nothing closes the first opening, nothing closes a later one either.
        if end >= 0:
            return Stated(text[start + len(opening) : end].strip(), where, start)
    return None


def _logic(answer: str, gold: str, rule_id: str) -> str | None:
    """How the two are equal: `equal` or `sorted_parts`; None if they are not. The gold is read as a response is."""
    read = _first(gold)
    answer = answer.translate(_DELETED_IN_LOGIC)
    gold = (read.text if read and read.where == "double_brackets" else gold).translate(_DELETED_IN_LOGIC)
    if not answer:
        return None
    if answer == gold:
        return "equal"
    # Brackets within the answer stay on their parts, so a part that is moved from or to an end is a different part.
    if rule_id == _UNORDERED_RULE and sorted(answer.split(";")) == sorted(gold.split(";")):
        return "sorted_parts"
    return None


def _inside(gold: str) -> str:
    gold = gold.strip()
    return gold[2:-2] if len(gold) >= 4 and gold.startswith("[[") and gold.endswith("]]") else gold


def _stored(answer: str) -> str:
    return answer[:MAX_ANSWER_CHARS].strip()
