"""What a text says of an option that it names by letter: that it is chosen, holds, fails or is denied.

Invariant: a phrase is judged by at most `WINDOW_CHARS` characters on either side of the letter, whatever the text is.
"""

import re
from enum import StrEnum

WINDOW_CHARS = 90
"""How far the words that choose or deny an option may stand from its letter: about a line of prose."""


class Stance(StrEnum):
    CORRECTED = "corrected"
    """`Wait, it is B`: a choice that takes back what was said before."""
    CHOSEN = "chosen"
    """`B is correct`, `I choose B`, `so B.`"""
    AFFIRMED = "affirmed"
    """`B holds`: a statement about the option. It is a choice if no other option holds."""
    MENTIONED = "mentioned"
    FAILS = "fails"
    """`B is impossible`, `B isn't`: a statement about the option. A question may ask for just such an option."""
    DENIED = "denied"
    """`B is wrong`, `not B`, `rather than B`"""


def _any(*patterns: str) -> str:
    return f"(?:{'|'.join(patterns)})"


def _compiled(*patterns: str) -> re.Pattern[str]:
    return re.compile(_any(*patterns), re.IGNORECASE)


NAME = r"(?:option|choice|answer|letter|alternative|statement|candidate|item)"
OPTION = rf"(?:(?:the\s|an?\s)?(?:other\s)?{NAME}s?\s?[:#]?\s?)?[(\[]{{0,2}}\s?"
"""What may stand between a phrase and its letter: `option (`."""

_ADVERBS = (
    r"(?:(?:both|all|also|clearly|definitely|indeed|therefore|thus|hence|certainly|obviously|simply|just|really|actually"
    r"|probably|likely|most|now|then|each|either|still|surely|in fact|of course|instead|again|only|the|my|our|a|an"
    r"|final|single|sole|one|best)\s){0,5}"
)
_IS = r"(?:is|are|was|were|must be|has to be|have to be|should be|will be|seems?(?: to be)?|looks?|remains?)\s"
_RIGHT = r"(?:correct|right|answer|option|choice|one|solution|winner|pick|selection|what|it)\b"
_REFUSED = r"(?:eliminated|ruled out|excluded|rejected|discarded|dismissed)"
_IST = r"\s(?:ist|est|es|è|é)\s(?:(?:die|la|a)\s)?"

# The patterns of `..._AFTER` match from the letter on, those of `..._BEFORE` match up to it.
_DENIED_AFTER = _compiled(
    rf"\s?{_IS}{_ADVERBS}(?:wrong|incorrect|mistaken|{_REFUSED}|distractors?|out\b|not\s{_ADVERBS}{_RIGHT})",
    rf"\s?(?:isn't|aren't|wasn't|can't be|cannot be|can not be|won't be)\s{_ADVERBS}{_RIGHT}",
    rf"\s?(?:can|could|may|must|should) be {_REFUSED}",
    r"\s?[:(–—-]{1,2}\s?(?:wrong|incorrect|no)\b",
    r"\s?[:(–—-]?\s?[✗✘❌×]",
    rf"{_IST}(?:falsch|fau(?:x|sse)|fals[oa]|incorrect[ea]?|sbagliata|errad[ao]|errónea)",
    r"\s(?:невер|неправил|не\s|ошибоч)",
    r"\s(?:خطأ|خاطئ|غير)",
    r"\s?(?:选项|選項)?[是为]?(?:错|錯|不对|不對|不正确|不正確|误|誤)",
    r"\s?[はがも]\s?(?:間違|誤|正解では|不正解)",
    r"\s?번?[은는이가]?\s?(?:틀|오답|정답이 아니)",
)
_CHOSEN_AFTER = _compiled(
    rf"\s?{_IS}{_ADVERBS}{_RIGHT}",
    r",?\s?it (?:is|must be|has to be)\b",
    r"\s?[:(–—-]{1,2}\s?(?:correct|right|yes)\b",
    r"\s?[:(–—-]?\s?[✓✔✅]",
    rf"{_IST}(?:richtig|korrekt|correct[ea]?|corret[ao]|corretta|juste|vraie|antwort|resp)",
    r"\s(?:верен|верн|правил)",
    r"\s(?:هو\s|هي\s)?(?:صحيح|الصحيح)",
    r"\s?(?:选项|選項)?[是为]?(?:正确|正確|对的|對的|答案)",
    r"\s?が\s?(?:正解|正し|答)",
    r"\s?번?[이가]\s?(?:정답|맞|옳)",
)
_FAILS_AFTER = re.compile(
    r"\s?(?:[\w']+\s){0,3}?(?:not|[a-z]+n't|cannot|never|no longer|fail(?:s|ed)?|false|impossible|invalid|violates?"
    r"|contradicts?|untrue|unreachable|inapplicable|lacks?)\b",
    re.IGNORECASE,
)
# In the next sentence: `A. No. B. Yes.`
_CHOSEN_NEXT = _compiled(r"\.\s(?:yes|correct|right)(?=[.,;!\n]|$)")
_FAILS_NEXT = _compiled(r"\.\s(?:no|wrong|incorrect|false)(?=[.,;!\n]|$)")
_AFFIRMED_AFTER = _compiled(
    rf"\s?{_ADVERBS}(?:holds?|works?|fits?|satisf(?:y|ies)|match(?:es)?|follows?|remains?|succeeds?|suffices?|stands?"
    r"|survives?|applies|qualifies|achieves?)\b",
    rf"\s?(?:{_IS}|can be\s){_ADVERBS}(?:true|valid|possible|applicable|reachable|consistent|left|feasible|satisfied"
    r"|supported|achieved|needed|sound|fine)\b",
)
_DENIED_BEFORE = re.compile(
    _any(
        r"\bnot(?: be)?|n't(?: be)?|\bcannot be",
        r"\bnor|\bneither|\bexcept(?: for)?|\bunlike|\bwithout|\bover|\binstead of",
        r"\b(?:rather|better|other|likelier|likely) than",
        r"\brul(?:e|es|ed|ing) out|\bcross(?:ed|ing)? out|\beliminat(?:e|es|ed|ing)|\bexclud(?:e|es|ed|ing)",
        r"\breject(?:s|ed|ing)?|\bdiscard(?:s|ed|ing)?|\bdismiss(?:es|ed|ing)?",
        rf"\b(?:wrong|incorrect|false|other|{_REFUSED})\s{NAME}s?\s(?:is|are|was|were)",
        r"\b(?:wrong|incorrect)\s?:",
        r"\b(?:pas|nicht|non|não|no|ni|не)|不是|不选",
    )
    + rf"\s?(?:both\s|either\s)?{OPTION}$",
    re.IGNORECASE,
)
_CHOSEN_BEFORE = re.compile(
    _any(
        r"\b(?:choos(?:e|ing)|chose|select(?:ed|ing)?|go(?:ing)? (?:with|for)|opt(?:ed|ing)? for|vote for|prefer"
        r"|settled? (?:on|for)|decided? (?:on|for)|stick(?:ing)? with|answer(?:ing)? with|i(?:'d| would)? say"
        r"|conclude(?: that)?(?: it)?(?: is| must be)?|leav(?:es|ing)(?: us)?(?: with)?(?: just)?)\b",
        r"\b(?:(?:correct|right|best|final|only|remaining|valid|true|proper|appropriate|suitable|possible|applicable"
        rf"|reachable|my|our|your)\s(?:[a-z]+\s)?(?:{NAME}s?|one|selection|pick|response|solution|guess|verdict|decision"
        r"|conclusion|action|fact)|the\s(?:option|choice|answer|letter|action|pick|solution|verdict|conclusion))\s"
        r"(?:[a-z]+\s){0,2}?(?:is|are|was|must be|should be|would be|will be|has to be|can only be)\b",
        r"\b(?:option|choice|answer|letter|selection|verdict|decision|conclusion|result|solution|pick)"
        r"\s?(?::|=|→|->|=>|[–—-])",
        r"^\W*(?:correct|right)\s?:|\banswer (?:to|of|for) (?:[a-z]+ ){1,4}is\b|(?:\b(?:i|will|would)|'ll|'d) answer\b",
        r"\banswer(?:\s(?:would|must|should|will|has to|can only))+\s(?:[a-z]+\s)?be\b|\banswer is\b",
        r"\b(?:choisis|elijo|wähle|scelgo|escolho|выбираю)",
        r"\b(?:respuesta|réponse|antwort|risposta|resposta)(?:\s\w+){0,2}?\s?(?::|es|est|ist|è|é)"
        r"(?:\s(?:la|die|a|l'))?(?:\s?(?:opción|opzione|opção))?",
        r"(?:ответ|вариант)(?:\s?[:—–-]|\sэто)?(?:\sвариант)?",
        r"(?:الإجابة|الاجابة|الجواب|الخيار)(?:\sالصحيحة|\sالصحيح)?(?:\sهي|\sهو|:)?(?:\sالخيار)?",
        r"(?:答案|正解|选项|選項|选择|選擇|[应應故]?[选選])(?:应该是|應該是|应为|應為|就是|[是为為:])?",
        r"(?:答え|正解|解答|回答|正答|正しい選択肢)[はが:]?",
        r"(?:정답|답안|답변|답)[은는이:]?",
    )
    + rf"\s?(?:{_ADVERBS}|that\s){OPTION}$",
    re.IGNORECASE,
)
_CONCLUDED_BEFORE = re.compile(
    _any(
        r"\b(?:so|thus|hence|therefore|ergo|consequently|accordingly|finally|in conclusion|overall|namely|that is|but"
        r"|final|take|pick|only|it(?:'s| is| must be| has to be| should be))",
        r"[⇒→∴]|=>|->|因此|所以|故|따라서|そのため|よって|значит|итак",
    )
    + rf"\s?[,:]?\s?{_ADVERBS}{OPTION}$",
    re.IGNORECASE,
)
_CORRECTION = (
    r"(?:wait|hmm|actually|correction|oops|sorry|scratch that|on second thoughts?|i mean|let me correct (?:that|myself)"
    r"|no(?=\s?(?:[,:;…!–—-]|\.\.)))"
)
_CORRECTED_BEFORE = re.compile(
    rf"\b{_CORRECTION}(?:"
    + _any(
        r"[\s,.:;…!–—-]",
        rf"\b(?:{_CORRECTION}|rather|instead|so|it(?:'s| is| must be| should be)|make (?:that|it)|should be|must be|the"
        r"|that(?:'s| is| should be| would be)|i (?:now )?(?:choose|pick|select|go with|say))\b",
        r"\b(?:i (?:will |'ll )?)?change (?:it|that|my answer) to\b",
        rf"\b(?:correct|right|final) (?:{NAME}|one) (?:is|should be|must be)\b",
    )
    + rf"){{0,12}}\s?{OPTION}$",
    re.IGNORECASE,
)
# After "so C" or "wait, C" the sentence must end or give a reason: "so C moves the ferry" chooses nothing.
_NOTHING_FOLLOWS = re.compile(
    r"\s?(?:$|[,;(–—]|(?:because|since|as|for|due|given|instead|rather|which|not|and not|입니다|です|だ)(?![a-z]))",
    re.IGNORECASE,
)
_UNSURE_BEFORE = re.compile(
    r"\b(?:if|whether|unless|suppose|supposing|assume|assuming|could|might|may|perhaps|maybe|possibly|when|either)\b"
    r"[^,]*$",
    re.IGNORECASE,
)
_UNSURE_AFTER = re.compile(r"[^,.]{0,60}?\b(?:if|unless|only when|provided)\b", re.IGNORECASE)
_NEGATED = re.compile(
    r"(?:\b(?:not|never|cannot|neither|nor|no longer|hardly)\b|n't\b)(?!.*\b(?:but|rather|instead)\b)[^,]*$",
    re.IGNORECASE,
)
_REMARK = re.compile(r"^\s?(?:\([^()]{1,80}\)|(?:[:.,–—-]\s)?…,?)")
_BOUNDARY = re.compile(r"[.!?;\n](?=\s|$|[)\"])|[。！？；\n]")
CORRECTION = re.compile(rf"\b{_CORRECTION}", re.IGNORECASE)
"""A word that takes back what was said before."""


def stance(prose: str, start: int, end: int, *, several: bool) -> Stance:
    """What the text says of the letter, or of `several` letters that are named together, from `start` to `end`."""
    text_before = prose[max(0, start - WINDOW_CHARS) : start]
    text_after = prose[end : end + WINDOW_CHARS].lstrip(")]")
    boundary = _BOUNDARY.search(text_after)
    before = _BOUNDARY.split(text_before)[-1]
    after = text_after[: boundary.start()] if boundary else text_after
    # "Option C (lift the crate) is right": what stands in brackets, or is blanked out as a quotation, is skipped.
    verb = _REMARK.sub("", after, count=1)
    asked = boundary is not None and boundary.group() in "?？"
    unsure = asked or _UNSURE_BEFORE.search(before)
    if _DENIED_AFTER.match(after) or _DENIED_AFTER.match(verb):
        return Stance.MENTIONED if unsure else Stance.DENIED
    if _CHOSEN_AFTER.match(after) or _CHOSEN_AFTER.match(verb) or _CHOSEN_NEXT.match(text_after):
        return Stance.MENTIONED if unsure or _UNSURE_AFTER.match(after) else _unless_negated(before)
    if _DENIED_BEFORE.search(before):
        return Stance.DENIED
    if _FAILS_AFTER.match(verb) or _FAILS_NEXT.match(text_after):
        return Stance.MENTIONED if unsure else Stance.FAILS
    ends = _NOTHING_FOLLOWS.match(after)
    if ends and not several and not asked and _CORRECTED_BEFORE.search(text_before):
        return Stance.CORRECTED
    affirmed = _AFFIRMED_AFTER.match(verb)
    chosen = (ends or not several) and _CHOSEN_BEFORE.search(before)
    if chosen or ((ends or affirmed) and _CONCLUDED_BEFORE.search(before)):
        return Stance.MENTIONED if unsure else _unless_negated(before)
    if affirmed and not unsure and not _UNSURE_AFTER.match(after) and not _NEGATED.search(before):
        return Stance.AFFIRMED
    return Stance.MENTIONED


def _unless_negated(before: str) -> Stance:
    return Stance.DENIED if _NEGATED.search(before) else Stance.CHOSEN
