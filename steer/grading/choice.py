"""Grader `choice`: the letter of one option.

Invariant: a capital inside a word, the article "A" and the pronoun "I" never count as answers. The evaluation harness
of ACPBench accepts all three. Its rule is used only to compare with ACPBench's published figures.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from steer.grading.answers import Stated, response_end
from steer.grading.responses.mentions import ARTICLE_OR_PRONOUN, LETTER_ENDS, Mention, mentions
from steer.grading.responses.stance import CORRECTION, Stance
from steer.grading.responses.statements import said_inside, statements
from steer.grading.verdict import NO_ANSWER, Verdict

_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|it|rm|sf|tt)|mbox|emph|boldsymbol|underline|boxed|fbox)\s{0,4}(?=\{)"
)
_LATEX_SPACE = re.compile(r"\\[ ,;:!()\[\]]|\\(?:quad|left|right)(?![A-Za-z])")
_MARKS = re.compile(r"[$*`\"“”‘’~\s]+")
_EMPHASIS = re.compile(r"[$*`\"“”«»{}]+|(?<![A-Za-z])[‘’']|[‘’'](?![A-Za-z])")
_UNDERSCORES = re.compile(r"(?<!\w)_{1,2}(\(?[A-Za-z]\)?)_{1,2}(?!\w)")
_SPACES = re.compile(r"[^\S\n]+")
_ADVERB = (
    r"(?:(?:clearly|definitely|indeed|therefore|thus|hence|certainly|obviously|simply|just|actually|probably|likely"
    r"|most likely|then|surely|still|only|either|both|between)\s){0,3}"
)
_BEFORE_LETTER = (
    rf"{_ADVERB}(?:(?:the\s)?(?:correct\s)?(?:options?|choices?|answers?|letters?)\b\s?:?\s?)?[(\[]{{0,3}}\s?"
)
_OR_AND = (
    r"(?:,? (?:and|or|&) |,? ?(?:和|或|と|か|와|과|또는|или|и) ?|[,;/&] ?)"
    r"(?:(?:maybe|possibly|perhaps|even|also|both)\s)?(?:(?:option|choice)\s)?"
)
_OR = re.compile(r"\bor\b|/|或|か|또는|или")
_SMALL_LETTER_ENDS = re.compile(r"\s?[.:)\]]{0,4}$|\s?\)|[.:]\s|,?\s(?:because|since|as)\b")
_OPENING = re.compile(
    r"\s*(?:(?:the\s)?(?:correct\s)?(?:option|choice|answer|letter)\s?:?\s?)?(?P<bracket>[(\[]{0,2})\s?", re.IGNORECASE
)
_AFTER_OPENING = re.compile(
    r"\s?[)\]]{0,2}(?:[^\S\n]*(?:\n|$)|\s?[.:,;)–—-](?=\s|$)|[。，；]|\s(?:because|since|as|for|due|given)\b|\s[(–—-])|[)\]]\s?[A-Z]",
    re.IGNORECASE,
)
_ALONE_ON_ITS_LINE = re.compile(r"\s?[)\]]{0,2}[.:]?[^\S\n]*(?:\n|$)")


def _look_alikes() -> dict[int, str]:
    """Letters in forms of their own (`Ｃ`, `Ⓒ`, `𝐂`) and the punctuation of East Asia, each as one ASCII character."""
    blocks = (range(0xFF01, 0xFF5F), range(0x24B6, 0x24EA), range(0x1D400, 0x1D6A4))
    plain = {code: unicodedata.normalize("NFKC", chr(code)) for block in blocks for code in block}
    return {code: char for code, char in plain.items() if char.isascii()} | dict(
        zip(map(ord, "【】「」『』〔〕、"), "[][][][],", strict=True)
    )


_LOOK_ALIKES = _look_alikes()


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

    The last box or "answer is" that names a letter or an option's text decides, unless a correction follows it ("wait,
    it is B"). Else these decide, in this order: the last phrase that chooses an option; the letter that opens the
    response; the last letter that stands alone; the option whose text is quoted last.
    """
    end = response_end(text).translate(_LOOK_ALIKES)
    texts = _option_texts(letters, options)
    for statement in statements(end):
        chosen = _read(said_inside(statement), letters, texts) or _read(statement, letters, texts)
        if chosen:
            # After a box, or inside the line of an "answer is".
            later = end[statement.start if statement.where == "answer_is" else statement.end :]
            return _corrected(_prose(later, letters, options), letters) or chosen
    if chosen := _mentioned(_prose(end, letters, options), letters):
        return chosen
    if letter := _quoted(_plain(end), texts):
        return Chosen(letter, "quoted_option")
    return None


def _corrected(prose: str, letters: str) -> Chosen | None:
    if not CORRECTION.search(prose):
        return None
    corrected = [mention for mention in mentions(prose, letters) if mention.stance == Stance.CORRECTED]
    return Chosen(corrected[-1].letters[0], "correction") if corrected else None


def _mentioned(prose: str, letters: str) -> Chosen | None:
    """The option that a text chooses by naming letters, without a box and without "answer is"."""
    named = mentions(prose, letters)
    if not named:
        return None
    left = [mention for mention in named if mention.stance != Stance.DENIED]
    if len(_letters(named)) == 1:
        return Chosen(named[0].letters[0], "last_letter") if left else None
    if chosen := _last(named, Stance.CORRECTED, Stance.CHOSEN):
        return _one_of(chosen, "verdict")
    if opening := _opening(prose, named, letters):
        return Chosen(opening, "opening_letter")
    affirmed = _letters([mention for mention in named if mention.stance == Stance.AFFIRMED])
    if len(affirmed) == 1:
        return Chosen(affirmed.pop(), "verdict")
    # What fails may be what the question asks for. It is left out only if this leaves one option.
    standing = [mention for mention in left if mention.stance != Stance.FAILS]
    if len(_letters(standing)) == 1:
        left = standing
    capitals = [mention for mention in left if not mention.small]
    return _one_of((capitals or left)[-1], "last_letter") if left else None


def _letters(named: Sequence[Mention]) -> set[str]:
    return {letter for mention in named for letter in mention.letters}


def _last(named: Sequence[Mention], *stances: Stance) -> Mention | None:
    return next((mention for mention in reversed(named) if mention.stance in stances), None)


def _one_of(mention: Mention, rule: str) -> Chosen:
    return Chosen(", ".join(mention.letters), rule if len(mention.letters) == 1 else f"{rule}:several")


def _opening(prose: str, named: Sequence[Mention], letters: str) -> str:
    """The letter that opens a response, alone on its line or before an explanation; "" if the options are gone through
    from the first one on, as in "A. no. B. yes."."""
    opening = _OPENING.match(prose)
    first = named[0]
    if not opening or opening.end() != first.start or len(first.letters) > 1:
        return ""
    if first.stance in (Stance.DENIED, Stance.FAILS) or not _AFTER_OPENING.match(prose, first.end):
        return ""
    if first.letters[0] == letters[:1] and not _ALONE_ON_ITS_LINE.match(prose, first.end):
        others = "".join(_letters(named) - {first.letters[0]})
        others = re.escape(others + others.lower())
        item = rf"[\n.;!?]\s{{0,8}}(?:[-•]\s?)?(?:option\s|choice\s)?[(\[]?[{others}](?:[.):\]]\s|\s\()"
        if re.search(item, prose[first.end :]):
            return ""
    return first.letters[0]


def _read(statement: Stated, letters: str, texts: dict[str, str]) -> Chosen | None:
    content, where = _unmarked(statement.text), statement.where
    whole = content.casefold().rstrip(" .")
    if texts.get(whole) and whole.upper() not in letters:
        return Chosen(texts[whole], f"{where}:option")
    if named := _hedged(content, letters):
        return Chosen(", ".join(named), f"{where}:several")
    either = f"[{re.escape(letters + letters.lower())}]"
    letter = re.match(rf"(?i:{_BEFORE_LETTER})({either}){LETTER_ENDS}(?!-\w)", content)
    if letter and _is_name(letter.group(1), content[letter.end() :]):
        return Chosen(letter.group(1).upper(), where)
    if quoted := _quoted(content.casefold(), texts):
        return Chosen(quoted, f"{where}:option")
    return None


def _hedged(content: str, letters: str) -> list[str]:
    """Letters between which a statement does not decide: `A or B`, `A, B`. Empty if it decides."""
    capital, either = f"[{re.escape(letters)}]", f"[{re.escape(letters + letters.lower())}]"
    for one, end in ((capital, r"(?![\w'’])"), (either, r"\W*$")):
        pattern = rf"(?i:{_BEFORE_LETTER})({one}(?:[)\]]?{_OR_AND}[(\[]?{one})+)[)\]]?{end}"
        if several := re.match(pattern, content):
            break
    else:
        return []
    # "A, B is wrong" and "A and B fails" decide for A.
    if content[several.end() :].strip(" .!?,;:)]") and not _OR.search(several.group(1)):
        return []
    named = dict.fromkeys(letter.upper() for letter in re.findall(rf"(?<!\w){either}(?!\w)", several.group(1)))
    return list(named) if len(named) > 1 else []


def _is_name(letter: str, behind: str) -> bool:
    """Whether the first letter of a statement names an option. In "the answer is a lack of ..." it does not."""
    if letter.islower():
        return bool(_SMALL_LETTER_ENDS.match(behind)) or (letter not in "ai" and bool(re.match(r"[\s,;]", behind)))
    word = ARTICLE_OR_PRONOUN.get(letter)
    return not (word and word.match(behind))


def _without_quotations(text: str, letters: str, options: Sequence[str]) -> str:
    """Blank out quoted options: a capital in an option's text ("A thermograph0 mode image ...") is not an answer."""
    for option in options:
        # One word holds no letter that stands alone, and may be `wait`, `no` or another word that a phrase needs.
        if option.strip().upper() not in letters and not option.strip().isalpha():
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


def _prose(text: str, letters: str, options: Sequence[str]) -> str:
    """A text without quoted options and without formatting; lines stay."""
    text = _LATEX_SPACE.sub(" ", _COMMAND.sub(" ", _without_quotations(text, letters, options)))
    text = _UNDERSCORES.sub(r"\1", _EMPHASIS.sub("", text).replace("’", "'"))
    return _SPACES.sub(" ", text)


def _plain(text: str) -> str:
    return _unmarked(text).casefold()


def _unmarked(text: str) -> str:
    """Remove formatting, quotation marks and braces, and reduce runs of spaces to one space."""
    bare = _LATEX_SPACE.sub(" ", _COMMAND.sub(" ", text)).replace("\\_", "_").replace("{", "").replace("}", "")
    return _MARKS.sub(" ", bare).strip()
