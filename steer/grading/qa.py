"""Grader `qa`: a short text answer against the gold answer and its aliases, after SQuAD's normalisation.

It departs from the SQuAD script in three places:

- The script removes ASCII punctuation only. This grader also removes typographic quotes, dashes and all other Unicode
  punctuation, because models write it where the gold has `'` or `-`.
- Signs that are part of a name or a number stay: `C++` and `C#` are not `C`, `-40` is not `40`, and `2.5` is not `25`.
  Units (`5%`, `$5`) are punctuation, as in the script.
- To the script all answers of which it leaves nothing are equal. Here they are compared by what is left before the
  articles are removed (`The The`), or else before the punctuation is (`!!!`).
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

from steer.grading.answers import Stated, response_end, visible
from steer.grading.responses.statements import last_statement, said_inside
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

_OPENING = "\"'“‘`*(["
_SYMBOLS = "+#"
"""Symbols of names that the SQuAD script counts as punctuation."""
_ARTICLES = re.compile(rf"(?<![\w{_SYMBOLS}])(?:a|an|the)(?![\w{_SYMBOLS}])")
# What a symbol must stand behind to belong to it: `C++`, `A+`, `18+`, `F#`.
_LOOSE_SYMBOL = re.compile(r"(?<![\w+#])[+#]+")
# A minus sign begins a number at the start or after a word: `-40`. In `1950-1953` and `B-52` it is a hyphen.
_MINUS = re.compile(rf"(?:(?<![^\s{_OPENING}])(?<![\d)]\s)|(?<=\$))-(?=\$?\d)")
# In `1.500` the point may divide thousands, and in `12.5.1990` it is no decimal point.
_DECIMAL_POINT = re.compile(r"(?<![\d.,])(\d++)\.(?!\d{3}(?!\d))(?=\d++(?![.,]\d))")
_KEPT = str.maketrans("\x01\x02", "-.")
_ESCAPED = re.compile(rf"\\([{_SYMBOLS}])")
_QUOTATION_MARKS = "\"'“”‘’`*«»"
_ASCII_PUNCTUATION = frozenset(string.punctuation)
_TEXT_COMMAND = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|up)?|math(?:bf|it|rm|sf|tt)|mbox|emph|operatorname)\s{0,4}\{")
_ONE_FORM = str.maketrans("−♯", "-#")
_LATEX_SPACE = re.compile(r"\\[ ,;:]")


def grade_qa(text: str, gold: str, aliases: Iterable[str] = ()) -> Verdict:
    """Grade one response: `correct` is the exact match, and `f1` is the token F1.

    Both take the best value over the gold answer and the aliases. An empty answer matches nothing.
    """
    found = extract(text)
    if found is None:
        return Verdict(NO_ANSWER.extracted, False, NO_ANSWER.rule, 0.0)
    answer = normalised(found.text)
    golds = [normalised(right) for right in (gold, *aliases)]
    f1 = max(token_f1(answer, right) for right in golds)
    if equal := [right for right in golds if right and right == answer]:
        return Verdict(found.text, True, f"{found.where}:{'answer' if golds[0] in equal else 'alias'}", f1)
    return Verdict(found.text, False, f"{found.where}:different", f1)


def extract(text: str) -> Stated | None:
    """The last box or "answer is", whichever comes later. A response without either is its own answer.

    If "answer is" stands inside the box, the text after it is the answer.
    """
    end = response_end(text)
    if found := last_statement(end):
        return said_inside(found)
    whole = end.strip()
    return Stated(whole, "whole", 0, len(whole)) if 0 < len(whole) <= MAX_ANSWER_CHARS else None


def normalised(answer: str) -> str:
    """Lower case, no punctuation, no articles, single spaces. Formatting commands of LaTeX are removed first.

    If only articles are left, they stay. If only punctuation is left, the text is returned in lower case, without
    quotation marks around it and without a full stop at its end.
    """
    plain = unicodedata.normalize("NFC", visible(answer))
    plain = _LATEX_SPACE.sub(" ", _TEXT_COMMAND.sub("", plain)).lower()
    # `visible` has removed all control characters, so two of them can stand for signs that are not punctuation.
    words = _DECIMAL_POINT.sub("\\1\x02", _MINUS.sub("\x01", _ESCAPED.sub(r"\1", plain.translate(_ONE_FORM))))
    words = "".join(char for char in words if char in _SYMBOLS or not _is_punctuation(char))
    words = " ".join(_LOOSE_SYMBOL.sub("", words).translate(_KEPT).split())
    return " ".join(_ARTICLES.sub(" ", words).split()) or words or _bare(plain)


def token_f1(answer: str, gold: str) -> float:
    """F1 between the bags of tokens of two normalised texts; 0 if they share no token."""
    answer_tokens, gold_tokens = answer.split(), gold.split()
    shared = sum((Counter(answer_tokens) & Counter(gold_tokens)).values())
    return 2 * shared / (len(answer_tokens) + len(gold_tokens)) if shared else 0.0


def _is_punctuation(char: str) -> bool:
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")


def _bare(punctuation: str) -> str:
    bare = _without_stop(" ".join(punctuation.split()))
    return _without_stop(bare.strip(_QUOTATION_MARKS)) or bare


def _without_stop(text: str) -> str:
    return text[:-1].rstrip() if len(text) > 1 and text.endswith(".") and not text.endswith("..") else text
