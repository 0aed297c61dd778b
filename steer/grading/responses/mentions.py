"""The options that a text names by letter.

Invariant: a capital inside a word, the article "A" and the pronoun "I" are never mentions.
"""

import re
from typing import NamedTuple

from steer.grading.responses.stance import NAME, OPTION, Stance, stance

MAX_MENTIONS = 200
"""How many of the last mentions are judged. A response that names options more often goes round in circles."""

# What makes a word together with a Latin letter. Letters of other scripts do not: `정답은 C입니다`, `答案是C`.
_WORD = r"0-9A-Za-z_\u00aa-\u02af\u0300-\u036f\u1e00-\u1eff"
LETTER_ENDS = rf"(?![{_WORD}]|['’](?!(?:[dt][iıuü]r|dan|den)\b))"
"""What may not follow the letter of an option. A Turkish ending may: `C'dir`."""
_LETTER_BEGINS = rf"(?<![{_WORD}\\'’])(?<![A-Z]\.)"
_NO_NAME_FOLLOWS = r"(?!\.[A-Z]\b|-[A-Za-z0-9])"
# Words that follow the name of an option but hardly ever follow an article: "A is right", "A because ...".
_AFTER_NAME = (
    r"(?:is|are|was|were|and|or|but|nor|so|not|then|because|since|as|given|if|when|where|while|which|that|for|from|with"
    r"|due|based|according|would|will|can|cannot|could|does|do|must|should|has|holds|matches|seems|follows|satisfies"
    r"|isn't|wasn't|aren't|doesn't|don't|can't|won't|fails|fail|fits|works|it|remains|violates|appears|looks|instead"
    r"|leads|achieves|stands|itself|alone|only)\b"
)
ARTICLE_OR_PRONOUN = {
    "A": re.compile(rf"\s(?!{_AFTER_NAME})[a-z]"),
    "I": re.compile(r"\s(?!is\b)[a-z]"),
}
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n{]|\n\s{0,8}[-*•\"“(])\s{0,8}$")
# Between two letters that are named together: `B or C`, `B, and option C`, or a comma alone (the group).
_JOINT = re.compile(
    r"[)\]]?\s?(?:,?\s?(?:and|or|nor|&|/|和|或|与|與|와|과|や|と|и|или|و|أو)\s?|(,)\s?)"
    rf"(?:(?:maybe|possibly|perhaps|also|even|both)\s)?{OPTION}",
    re.IGNORECASE,
)
_LIST_GOES_ON = re.compile(r"[)\]]?\s?(?:,\s?(?:and\s|or\s|nor\s)?|and\s|or\s|&\s|/)[(\[]?[A-Za-z][)\]]?(?![A-Za-z'])")
_LIST_BEFORE = re.compile(
    r"(?:\b(?:options|choices|answers|letters|others|rest|both)\b[\s:]{0,2}|[(\[])\s?$", re.IGNORECASE
)

_OR = re.compile(r"\bn?or\b|/|[或か]|또는|или|أو", re.IGNORECASE)
_ONE_DOES = re.compile(
    r"[)\]]?\s(?:is|isn't|was|wasn't|has|does|doesn't|fails|holds|works|needs|takes|breaks)\b", re.IGNORECASE
)
_NO_WORDS = re.compile(r"\W*$")


class Mention(NamedTuple):
    letters: tuple[str, ...]
    """Several if they are named together: `A, B and D`."""
    small: bool
    """Small letters, as in `option (c)`."""
    start: int
    end: int
    stance: Stance


class _Named(NamedTuple):
    letters: tuple[str, ...]
    small: bool
    start: int
    end: int


def mentions(prose: str, letters: str) -> list[Mention]:
    """The last `MAX_MENTIONS` mentions of `letters` (capitals), in the order of the text.

    `prose` is a text without formatting. A small letter counts in brackets and after "option", "choice" or "the answer
    is".
    """
    return [
        Mention(*named, stance(prose, named.start, named.end, several=len(named.letters) > 1))
        for named in _together(prose, _alone(prose, letters))[-MAX_MENTIONS:]
    ]


def _alone(prose: str, letters: str) -> list[_Named]:
    """Each letter that stands alone."""
    capital = f"[{re.escape(letters)}]"
    small = f"[{re.escape(letters.lower())}]{LETTER_ENDS}(?!-\\w)"
    pattern = re.compile(
        rf"(?P<capital>{_LETTER_BEGINS}{capital}{LETTER_ENDS}{_NO_NAME_FOLLOWS})"
        rf"|\A\s?(?P<first>{small})\)"
        rf"|(?<![{_WORD}])[(\[](?P<bracketed>{small})[)\]]"
        rf"|(?i:\b(?:options?|choices?|letter|alternative)\s?[:#]?\s?)[(\[]?(?P<named>{small})"
        rf"|(?i:\b(?:{NAME}|one)\s(?:[a-z]+\s){{0,2}}?(?:is|be|=)\s?:?\s)(?P<said>{small})"
    )
    found = []
    for match in pattern.finditer(prose):
        where = match.lastgroup or ""
        letter, start, end = match[where], match.start(where), match.end(where)
        if where == "capital":
            if not _is_article(prose, start, end):
                found.append(_Named((letter,), False, start, end))
        elif letter != "i" and not (letter == "a" and ARTICLE_OR_PRONOUN["A"].match(prose, end)):
            found.append(_Named((letter.upper(),), True, start, end))
    return found


def _together(prose: str, alone: list[_Named]) -> list[_Named]:
    """The letters with those that are named together (`A, B and D`) as one."""
    found: list[_Named] = []
    for named in alone:
        if found and found[-1].small == named.small and _joined(prose, found[-1], named):
            letters = tuple(dict.fromkeys((*found[-1].letters, *named.letters)))
            found[-1] = found[-1]._replace(letters=letters, end=named.end)
        else:
            found.append(named)
    return found


def _joined(prose: str, first: _Named, second: _Named) -> bool:
    """Whether two neighbours are named together. In "B, and C is needed" they are not."""
    between = prose[first.end : second.start]
    joint = _JOINT.fullmatch(between) if len(between) <= 40 else None
    if joint is None or (not _OR.search(between) and _ONE_DOES.match(prose, second.end)):
        return False
    if joint.group(1) is None or len(first.letters) > 1:
        return True
    if _NO_WORDS.match(prose[second.end : second.end + 20]) and _NO_WORDS.match(prose[: first.start][-20:]):
        return True
    before = prose[max(0, first.start - 20) : first.start]
    return bool(_LIST_GOES_ON.match(prose, second.end) or _LIST_BEFORE.search(before))


def _is_article(prose: str, start: int, end: int) -> bool:
    word = ARTICLE_OR_PRONOUN.get(prose[start])
    if not (word and word.match(prose, end)):
        return False
    # Inside a sentence, a capital "A" is the name of an option. "I" is a pronoun everywhere.
    return prose[start] == "I" or bool(_SENTENCE_START.search(prose[max(0, start - 20) : start]))
