"""Grader `kor`: the rules of KOR-Bench's own evaluator for cipher, counterfactual and logic.

Invariants: the verdict equals that of KOR-Bench's evaluator for the same response. Therefore the FIRST bracket counts,
invisible characters stay, and case is not folded. The time is linear in the text, which the evaluator's lazy patterns
do not guarantee.
"""

from steer.grading.answers import Stated
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

MAX_READ_CHARS = 1_000_000
"""The first bracket is searched in this many characters from the start of the response. This is sixty times the longest
answer that is asked for, so in practice no response is cut off."""

_DELIMITERS = (
    ("double_brackets", "[[", "]]"),
    ("boxed", "$\\boxed{", "}$"),
    ("brackets", "[", "]"),
)
_DELETED = str.maketrans("", "", '"\n []')
_DELETED_IN_LOGIC = str.maketrans("", "", '"\n .')
_UNORDERED_RULE = "5"
"""The rule of subset logic whose answers are truth tables: their rows may come in any order."""


def grade_kor(text: str, gold: str, subset: str, rule_id: str) -> Verdict:
    """Grade one response. `gold` comes with `[[ ]]`, as in the benchmark's files, or without.

    Subset `logic` has rules of its own. Every other subset is compared like cipher and counterfactual.
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
    """The text in the first `[[ ]]`, else in the first `$\\boxed{ }$`, else in the first `[ ]`.

    The text is stripped and cut to `MAX_ANSWER_CHARS`.
    """
    found = _first(text[:MAX_READ_CHARS])
    return found and found._replace(text=_stored(found.text))


def wrapped(found: Stated) -> str:
    """Put an extracted answer back into its brackets. `extract` is the inverse."""
    opening, closing = next((opening, closing) for where, opening, closing in _DELIMITERS if where == found.where)
    return f"{opening} {found.text} {closing}"


def _first(text: str) -> Stated | None:
    for where, opening, closing in _DELIMITERS:
        start = text.find(opening)
        end = text.find(closing, start + len(opening)) if start >= 0 else -1
        # If nothing closes the first opening, nothing closes a later one either.
        if end >= 0:
            return Stated(text[start + len(opening) : end].strip(), where, start, end + len(closing))
    return None


def _logic(answer: str, gold: str, rule_id: str) -> str | None:
    """How the two are equal: `equal` or `sorted_parts`; None if they differ. The gold is read like a response."""
    read = _first(gold)
    answer = answer.translate(_DELETED_IN_LOGIC)
    gold = (read.text if read and read.where == "double_brackets" else gold).translate(_DELETED_IN_LOGIC)
    if not answer:
        return None
    if answer == gold:
        return "equal"
    # Brackets in the answer stay on their parts, so a part that moves from or to an end becomes a different part.
    if rule_id == _UNORDERED_RULE and sorted(answer.split(";")) == sorted(gold.split(";")):
        return "sorted_parts"
    return None


def _inside(gold: str) -> str:
    gold = gold.strip()
    return gold[2:-2] if len(gold) >= 4 and gold.startswith("[[") and gold.endswith("]]") else gold


def _stored(answer: str) -> str:
    return answer[:MAX_ANSWER_CHARS].strip()
