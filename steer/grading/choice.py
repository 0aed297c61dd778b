"""Grader `choice`: the letter of one option.

Invariant: a capital inside a word, the article "A" and the pronoun "I" never count as answers. The evaluation harness
of ACPBench accepts all three. Its rule is used only to compare with ACPBench's published figures.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from steer.grading.answers import Stated, boxes, response_end, sayings
from steer.grading.verdict import MAX_ANSWER_CHARS, NO_ANSWER, Verdict

MAX_STATEMENTS = 50
"""How many of the last boxes and of the last "answer is" are read. A model that writes more of them repeats itself."""

_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|it|rm|sf|tt)|mbox|emph|boldsymbol|boxed|fbox)\s{0,4}(?=\{)"
)
_LATEX_SPACE = re.compile(r"\\[ ,;:!()\[\]]|\\(?:quad|left|right)(?![A-Za-z])")
_MARKS = re.compile(r"[$*`\"“”‘’~\s]+")
_BEFORE_LETTER = r"(?:(?:the\s)?(?:correct\s)?(?:option|choice|answer|letter)\b\s?:?\s?)?[(\[]{0,3}\s?"
_SMALL_LETTER_ENDS = re.compile(r"\s?[.:)\]]{0,4}$|\s?\)|[.:]\s")
# Words that follow the name of an option but hardly ever follow an article: "A is right", "A because ...".
_AFTER_NAME = (
    r"(?:is|are|was|were|and|or|but|nor|so|not|then|because|since|as|given|if|when|where|while|which|that|for|from|with"
    r"|due|based|according|would|will|can|cannot|could|does|do|must|should|has|holds|matches|seems|follows|satisfies)\b"
)
_ARTICLE_OR_PRONOUN = {
    "A": re.compile(rf"\s(?!{_AFTER_NAME})[a-z]"),
    "I": re.compile(r"\s(?!is\b)[a-z]"),
}
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n{]|\n\s{0,8}[-*•\"“(])\s{0,8}$")


class Chosen(NamedTuple):
    text: str
    """One letter; or `A, B` if the statement names several."""
    rule: str


def grade_choice(
    text: str, gold: str, letters: str = "ABCD", options: Sequence[str] = (), *, official: bool = False
) -> Verdict:
    """Grade a response to a multiple-choice question.

    `letters` are the letters of the question's options, and `options` are the options' texts in the same order. With
    `official`, the rule of ACPBench's harness applies: the answer is the last of these letters anywhere in the
    response.
    """
    chosen = last_capital(text, letters) if official else extract(text, letters, options)
    if chosen is None:
        return NO_ANSWER
    return Verdict(chosen.text, chosen.text == gold.strip().upper(), chosen.rule)


def last_capital(text: str, letters: str) -> Chosen | None:
    last = max(letters, key=text.rfind, default="")
    return Chosen(last, "official") if last and last in text else None


def extract(text: str, letters: str = "ABCD", options: Sequence[str] = ()) -> Chosen | None:
    """Find the chosen option.

    The last box or "answer is" that names a letter or an option's text decides; else the last letter that stands alone;
    else the option whose text is quoted last.
    """
    end = response_end(text)
    texts = _option_texts(letters, options)
    for statement in _last_statements(end):
        if chosen := _read(statement, letters, texts):
            return chosen
    if letter := _last_letter(_without_quotations(end, letters, options), letters):
        return Chosen(letter, "last_letter")
    if letter := _quoted(_plain(end), texts):
        return Chosen(letter, "quoted_option")
    return None


def _last_statements(text: str) -> Iterator[Stated]:
    """Boxes and "answer is" statements, the last one first. A box on the line of an "answer is" comes later than it."""
    statements = sorted([*boxes(text)[-MAX_STATEMENTS:], *sayings(text)[-MAX_STATEMENTS:]], key=lambda s: s.start)
    return (s for s in reversed(statements) if 0 < len(s.text) <= MAX_ANSWER_CHARS)


def _read(statement: Stated, letters: str, texts: dict[str, str]) -> Chosen | None:
    content, where = _unmarked(statement.text), statement.where
    whole = content.casefold().rstrip(" .")
    if texts.get(whole) and whole.upper() not in letters:
        return Chosen(texts[whole], f"{where}:option")
    one = f"[{re.escape(letters)}]"
    if re.fullmatch(rf"[(\[]?{one}[)\]]?(?:(?:,? (?:and|or|&) |[,;/&] ?)[(\[]?{one}[)\]]?)+\.?", content):
        named = dict.fromkeys(re.findall(one, content))
        if len(named) > 1:
            return Chosen(", ".join(named), f"{where}:several")
    either = f"[{re.escape(letters + letters.lower())}]"
    letter = re.match(rf"(?i:{_BEFORE_LETTER})({either})(?![\w'’])", content)
    if letter and _is_name(letter.group(1), content[letter.end() :]):
        return Chosen(letter.group(1).upper(), where)
    if quoted := _quoted(content.casefold(), texts):
        return Chosen(quoted, f"{where}:option")
    return None


def _is_name(letter: str, behind: str) -> bool:
    """Whether the first letter of a statement names an option. In "the answer is a lack of ..." it does not."""
    if letter.islower():
        return bool(_SMALL_LETTER_ENDS.match(behind))
    word = _ARTICLE_OR_PRONOUN.get(letter)
    return not (word and word.match(behind))


def _last_letter(text: str, letters: str) -> str:
    """The last capital that is not part of a word or of initials (`D.C.`), and not an article or a pronoun."""
    one = f"[{re.escape(letters)}]"
    last = ""
    for match in re.finditer(rf"(?<![\w\\'’])(?<![A-Z]\.){one}(?![\w'’]|\.[A-Z]\b|-\w)", text):
        word = _ARTICLE_OR_PRONOUN.get(match.group())
        if word and word.match(text, match.end()):
            # Inside a sentence, a capital "A" is the name of an option. "I" is a pronoun everywhere.
            if match.group() == "I" or _SENTENCE_START.search(text[max(0, match.start() - 20) : match.start()]):
                continue
        last = match.group()
    return last


def _without_quotations(text: str, letters: str, options: Sequence[str]) -> str:
    """Blank out quoted options: a capital in an option's text ("A thermograph0 mode image ...") is not an answer."""
    for option in options:
        if option.strip().upper() not in letters:
            words = r"\s+".join(map(re.escape, option.split()))
            text = re.sub(rf"(?<!\w){words}(?!\w)", "…", text, flags=re.IGNORECASE)
    return text


def _option_texts(letters: str, options: Sequence[str]) -> dict[str, str]:
    """Map each option's text to its letter, or to "" if several options share the text and it names none of them."""
    plain = [_plain(option).rstrip(" .") for option in options]
    letter_of = zip(plain, letters, strict=False)
    return {text: letter if plain.count(text) == 1 else "" for text, letter in letter_of if text}


def _quoted(text: str, texts: dict[str, str]) -> str:
    """The letter of the option whose text is quoted last. A quotation inside a longer quoted option does not count."""
    last: list[tuple[int, int, str]] = []
    for option, letter in texts.items():
        if match := _last_match(option, text):
            last.append((match.end(), match.start(), letter))
    apart = [
        (end, letter)
        for end, start, letter in last
        if not any(s <= start and end <= e and (s, e) != (start, end) for e, s, _ in last)
    ]
    return max(apart, default=(0, ""))[1]


def _last_match(option: str, text: str) -> re.Match[str] | None:
    last = None
    for match in re.finditer(rf"(?<!\w){re.escape(option)}(?!\w)", text):
        last = match
    return last


def _plain(text: str) -> str:
    return _unmarked(text).casefold()


def _unmarked(text: str) -> str:
    """Remove formatting, quotation marks and braces, and reduce runs of spaces to one space."""
    bare = _LATEX_SPACE.sub(" ", _COMMAND.sub(" ", text)).replace("\\_", "_").replace("{", "").replace("}", "")
    return _MARKS.sub(" ", bare).strip()
