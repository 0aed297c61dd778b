"""Spellings of mathematics in plain text, and rare ones of LaTeX, rewritten as the LaTeX that `latex.normalised` knows.

`>=`, `!=`, `+-`, `7.5e7`, `1.5 x 10^-5`, `abs(x)`, `infinity`, `atan`, `array` and `smallmatrix` become `\\ge`, `\\ne`,
`\\pm`, `7.5\\cdot 10^{7}` and so on.

Invariants: the functions are total on text, take linear time on texts of an answer's length, and never change a value.
"""

import re

_SPELLINGS = (
    ("<= =<", re.compile(r"<=|=<"), r"\\le "),
    (">=", re.compile(r">="), r"\\ge "),
    # `5!=120` holds a factorial. After a letter or a space, the two signs are one.
    ("!= <> =/= not", re.compile(r"(?<=[A-Za-z\s])!=|<>|=/=|\\not\s?="), r"\\ne "),
    # Between two operands without spaces, `3+-2` is a sum.
    ("+/- +- -+", re.compile(r"\+/-|(?:(?<![^=,(\[{])|(?<=[=,(\[{]\s))(?:\+-|-\+)|(?<=\s)\+-(?=\s)"), r"\\pm "),
    ("inf Inf INF oo OO", re.compile(r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])", re.IGNORECASE), r"\\infty "),
    ("asin acos atan", re.compile(r"(?<![A-Za-z\\])\\?a(sin|cos|tan)(?![A-Za-z])"), r"\\arc\1 "),
    ("minus negative", re.compile(r"(?<![A-Za-z\\])(?:minus|negative)\s(?=[\d.])"), "-"),
    ("cbrt", re.compile(r"(?<![A-Za-z\\])cbrt\s?\(([^()]{1,200})\)"), r"\\sqrt[3]{\1}"),
    ("num", re.compile(r"\\num\s?\{([\d.,eE+-]{1,60})\}"), r"\1"),
    ("' _", re.compile(r"(?<=\d)['_](?=\d{3}(?!\d))"), ""),
    (
        "\u00a3 \u20ac \u00a5 checkmark euro pounds",
        re.compile(r"[\u00a3\u20ac\u00a5]|\\(?:checkmark|euro|pounds)(?![A-Za-z])"),
        " ",
    ),
    # A multiplication sign that was typed as a letter.
    ("x X", re.compile(r"(?<=\d)\s?[xX]\s?(?=10\s?\^)|(?<=\d)\s[xX]\s(?=\d)"), r"\\cdot "),
    ("prime", re.compile(r"\^\s?(?:\{\s?\\prime\s?\}|\\prime)"), "'"),
    ("quad", re.compile(r"\\q?quad(?=[A-Za-z])"), " "),
    ("[", re.compile(r"\\\\\s?\[\s?-?[\d.]{1,6}\s?(?:pt|em|ex|mm|cm|in)\s?\]"), r"\\\\"),
    ("hline", re.compile(r"\\hline(?![A-Za-z])"), " "),
    ("array", re.compile(r"\\begin\s?\{array\}\s?\{[lcr|@ ]{0,40}\}"), r"\\begin{matrix}"),
    ("array", re.compile(r"\\end\s?\{array\}"), r"\\end{matrix}"),
    ("smallmatrix", re.compile(r"\\(begin|end)\s?\{([pbvBV]?)smallmatrix\*?\}"), r"\\\1{\2matrix}"),
    (
        "{matrix}",
        re.compile(r"[(\[]\s?\\begin\{matrix\}([^()]{0,2000}?)\\end\{matrix\}\s?[)\]]"),
        r"\\begin{pmatrix}\1\\end{pmatrix}",
    ),
    (
        "{matrix}",
        re.compile(r"\|\s?\\begin\{matrix\}([^|]{0,2000}?)\\end\{matrix\}\s?\|"),
        r"\\begin{vmatrix}\1\\end{vmatrix}",
    ),
)
"""What a text must hold for a pattern to match, the pattern, and the LaTeX."""
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
SCALE_WORDS = f"{'|'.join(_SCALES)}|dozen"
"""A pattern of the words that multiply the number before them."""
_SCALE = re.compile(
    rf"(?<=\d)\s?(?:\\text\w{{0,2}}\s?\{{\s?)?(?P<scale>{SCALE_WORDS})(?![A-Za-z])(?P<rest>[^{{}}]{{0,40}}\}})?"
)
_SCIENTIFIC = re.compile(r"(?<![\w\\.])(\d+(?:\.\d*)?|\.\d+)([eE])([+-]?)(\d{1,3})(?![\w.^])")
_CALL = re.compile(r"(?P<call>(?<![A-Za-z])\\?(?P<name>abs|floor|ceil)\s?\()|(?P<open>\()|(?P<close>\))")
_CALLED = {"abs": ("|", "|"), "floor": (r"\lfloor ", r"\rfloor "), "ceil": (r"\lceil ", r"\rceil ")}
_AND = re.compile(r"\s(?:and|AND|\\land|\\wedge|\\text\s?\{\s?and\s?\})\s|\s?\\land\s?")
_OR = re.compile(r"\s(?:or|OR|\\lor|\\vee|\\text\s?\{\s?or\s?\})\s")
_ORDER = re.compile(r"[<>]|\\[lg]e(?![A-Za-z])")


def plain_spellings(text: str) -> str:
    """Rewrite a text whose runs of spaces are single spaces."""
    for needs, pattern, latex in _SPELLINGS:
        if any(need in text for need in needs.split()):
            text = pattern.sub(latex, text)
    text = _SCALE.sub(_scaled, text)
    return _SCIENTIFIC.sub(_scientific, text)


def plain_calls(text: str) -> str:
    """Rewrite `abs(x)`, `floor(x)` and `ceil(x)` by their brackets. A call that nothing closes stays."""
    if _CALL.search(text) is None or not any(name in text for name in _CALLED):
        return text
    pieces: list[str] = []
    opened: list[tuple[int, str] | None] = []
    at = 0
    for match in _CALL.finditer(text):
        pieces.append(text[at : match.start()])
        at = match.end()
        if match["call"]:
            opened.append((len(pieces), match["name"]))
        elif match["open"]:
            opened.append(None)
        elif opened and (call := opened.pop()):
            position, name = call
            pieces[position] = _CALLED[name][0]
            pieces.append(_CALLED[name][1])
            continue
        pieces.append(match.group())
    return "".join([*pieces, text[at:]])


def joined_inequalities(text: str) -> str:
    """Write the `and` or `or` between two inequalities as `\\land` or `\\lor`, while a comma may mean either."""
    for pattern, sign in ((_AND, r"\land "), (_OR, r"\lor ")):
        sides = pattern.split(text)
        if len(sides) == 2 and all(_ORDER.search(side) for side in sides):
            return sign.join(sides)
    return text


def _scaled(match: re.Match[str]) -> str:
    """`5 million` as a product; `5\\text{ million dollars}` keeps its unit."""
    factor = "12" if match["scale"] == "dozen" else f"10^{{{_SCALES[match['scale']]}}}"
    rest = match["rest"] or ""
    unit = f"\\text{{{rest}" if rest.strip(" }") else ""
    return rf"\cdot {factor}{unit if rest else ''}"


def _scientific(match: re.Match[str]) -> str:
    """`7.5e7` as a power of ten. With Euler's number, `2e-3` is a difference: a negative exponent counts only after a
    capital E, a decimal point, or with a leading zero (`1e-05`)."""
    mantissa, mark, sign, digits = match.groups()
    if sign == "-" and mark == "e" and "." not in mantissa and not (len(digits) == 2 and digits[0] == "0"):
        return match.group()
    return rf"{mantissa}\cdot 10^{{{sign.replace('+', '')}{digits}}}"
