"""Rewriting of an answer into one canonical spelling, so that most equal answers become equal strings.

Invariants: the functions are total on text, and take linear time up to the nesting limit. They change only the spelling
(spacing, sizes, dollar, degree and percent signs, units after a number, wrappers), never a value, and evaluate nothing.
"""

import re

from steer.grading.formulas.limits import MAX_NESTING, nesting
from steer.grading.formulas.spellings import SCALE_WORDS, joined_inequalities, plain_calls, plain_spellings

_SYMBOLS = {
    **{"−": "-", "–": "-", "×": r"\cdot ", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*", "÷": "/", "√": r"\sqrt "},
    **{"π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≠": r"\ne ", "∪": r"\cup ", "∈": r"\in "},
    **{"±": r"\pm ", "∓": r"\mp ", "²": "^2", "³": "^3", "½": r"\frac12 ", "θ": r"\theta ", "∅": r"\emptyset "},
    **{"≥": r"\ge ", "⩾": r"\ge ", "⩽": r"\le ", "≈": r"\approx ", "→": r"\to ", "∧": r"\land ", "∨": " or "},
    **{
        "∛": r"\sqrt[3]",
        "⌊": r"\lfloor ",
        "⌋": r"\rfloor ",
        "⌈": r"\lceil ",
        "⌉": r"\rceil ",
        "∣": "|",
        "∠": r"\angle ",
    },
    **{"φ": r"\varphi ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "μ": r"\mu ", "ω": r"\omega "},
    **{"¼": r"\frac14 ", "¾": r"\frac34 ", "⅓": r"\frac13 ", "⅔": r"\frac23 ", "⅛": r"\frac18 ", "⅕": r"\frac15 "},
    **{char: f"^{digit}" for digit, char in zip("01456789n", "⁰¹⁴⁵⁶⁷⁸⁹ⁿ", strict=True)},
    **{char: f"_{digit}" for digit, char in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{"′": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "º": "°", "⟨": r"\langle ", "⟩": r"\rangle "},
    # Rows of Omni-MATH hold the characters `\f` and `\b`, from string literals that were not raw.
    **{"\x0crac": r"\frac", "\x08inom": r"\binom"},
}
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))
_COMMANDS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), r"\le"),
    **dict.fromkeys(("geq", "geqslant", "geqq"), r"\ge"),
    **{"neq": r"\ne", "lt": "<", "gt": ">", "times": r"\cdot", "ast": r"\cdot", "div": "/", "colon": ":"},
    **{"lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")"},
    **{"infin": r"\infty", "varnothing": r"\emptyset", "degree": "°", "degrees": "°", "circ": "°", "percent": "%"},
    **{"dots": r"\ldots", "cdots": r"\ldots", "setminus": "\\setminus", "pmod": r"\pmod", "lg": r"\log_{10}"},
    **{
        "infinity": r"\infty",
        "wedge": r"\land",
        "lor": " or ",
        "vee": " or ",
        "sim": r"\approx",
        "thickapprox": r"\approx",
    },
    **dict.fromkeys(("lvert", "rvert", "vert"), "|"),
    **dict.fromkeys(("displaystyle", "textstyle", "limits", "nolimits", "left", "right", "middle", "thinspace"), " "),
    **dict.fromkeys(("big", "Big", "bigl", "bigr", "Bigl", "Bigr", "bigg", "Bigg", "biggl", "biggr"), " "),
    **dict.fromkeys(("quad", "qquad", "boxed", "fbox", "bf", "rm", "it", "dollar"), " "),
}
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SPACES = re.compile(r"(?<!\\)\\[,;: ]|~")
_SPACE_RUN = re.compile(r"\s+")
_DOUBLE_BACKSLASH = re.compile(r"\\\\(?=[A-Za-z])")
_DELIMITER = re.compile(r"(?<!\\)\\[()\[\]]|\\?\$")
# `11,\! 111` and `1{,} 000` are one number; `2, 345` and `2,\,345` may be two.
_SEPARATOR = re.compile(r"(?<=\d)(?:\{,\}\s?(?:\\[,!;: ]\s?)?|,?\s?(?:\\!\s?)+,?\s?|\{\\,\}|\\,\s?)(?=\d{3}(?!\d))")
_NEGATIVE_SPACE = re.compile(r"(?<!\\)\\!")
_THOUSANDS = re.compile(r"(?<![\d.,(\[])(?<!\\\{)(\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+)(?![\d,]|\s?/)")
_TEXT_COMMANDS = r"\\(?:text|textrm|textbf|textit|textnormal|mbox|hbox|mathrm|mathit|mathbf|mathsf|operatorname)\*?"
_TEXT = re.compile(_TEXT_COMMANDS + r"\s?\{([^{}]{0,200})\}")
_FUNCTIONS = frozenset("arcsin arccos arctan sin cos tan cot sec csc sinh cosh tanh ln log exp max min gcd lcm".split())
_BARE_FUNCTION = re.compile(
    r"(?<![A-Za-z\\])(arc(?:sin|cos|tan)|sqrt|(?:sin|cos|tan)h?|cot|sec|csc|exp|ln|log|pi)(?![A-Za-z])"
)
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_DEGREES = re.compile(r"\^\s?\{\s?°\s?\}|\^?\s?°")
_CONJUNCTION = re.compile(r"\s{0,4},?\s{0,4}(?<![A-Za-z\\])(?:and|or|AND|OR)(?![A-Za-z])\s{0,4},?")
_BASE = re.compile(r"_\s?\{?\s?(two|three|four|five|six|seven|eight|nine|ten)\s?\}?(?![A-Za-z])")
_BASES = dict(zip("two three four five six seven eight nine ten".split(), range(2, 11), strict=True))
_CHOOSE = re.compile(r"\{([^{}]{1,50})\\(choose|over)(?![A-Za-z])([^{}]{1,50})\}")

_UNIT_TEXT = re.compile(r"\s*(?:\\cdot|/)?\s*" + _TEXT_COMMANDS + r"\s?\{([^{}]{0,60})\}\s*(?:\^\s?\{?-?\d\}?)?\s*$")
_MEASURED = re.compile(r"(?=.*(?:\d|\\pi\b)).*[\w})!°%]\s*$", re.DOTALL)
_NOT_A_UNIT = re.compile(
    rf"(?:^|\W)(?:is|are|if|iff|for|when|where|or|and|not|mod|base|even|odd|only|all|any|to|{SCALE_WORDS})(?:\W|$)"
)
_IMAGINARY = frozenset("eix")
_UNIT_WORD = re.compile(
    r"(?<=[\d})%°])\s*(?:(?:square|cubic|sq\.?|cu\.?)\s)?\s*"
    r"(?:(?:centi|milli|kilo)?met(?:er|re)s?|inch(?:es)?|f(?:oo|ee)t|yards?|miles?|degrees?|dollars?|cents?|euros?|units?|USD|EUR|"
    r"hours?|minutes?|seconds?|days?|weeks?|months?|years?|percent|pct\.?|pounds?|(?:kilo)?grams?|lit(?:er|re)s?|"
    r"cm|mm|km|ft|kg|mph|lbs?|km/h|m/s|ft/s)(?:\s?\^\s?\{?[23]\}?)?(?:\s(?:squared|cubed))?\.?\s*$"
)
# A unit between the items of a list: `3\\text{ cm}, 4\\text{ cm}`.
_UNIT_BEFORE_COMMA = re.compile(
    r"(?<=[\d})])\s?\\(?:text|mathrm)\s?\{\s?(?:[ckm]?m|k?g|cm|km|mm|ft|in|s|h|min|inches|feet|units?|degrees|dollars)\s?\}"
    r"(?:\^\s?\{?[23]\}?)?(?=\s?,)"
)
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[A-Za-z]{1,12}\}")
_DECIMAL = re.compile(r"(\d*)\.(\d+)")
_DEGREES_OF = re.compile(r"(\d+(?:\.\d+)?|[A-Za-z])°")
_FACTORIAL_POWER = re.compile(r"(\d+|(?<![A-Za-z\\])[A-Za-z])!\^")
_TRANSPOSED = re.compile(r"(?<![A-Za-z\\])T(?![A-Za-z_])")
_PARSER_TOKEN = re.compile(r"\\(?:begin|end)\{[A-Za-z]{1,12}\}|\\[A-Za-z]+|\\.|\d+|.", re.DOTALL)
_MIXED = re.compile(r"\\frac\{(\d+)\}\{(\d+)\}")
_APPLIED = frozenset(f"\\{name}" for name in "sin cos tan cot sec csc sinh cosh tanh log ln sum prod".split())
# Names in plain text that are no words.
_NAMES = re.compile(r"(?<![A-Za-z])(?:infinity|sqrt|atan|arctan|asin|acos|sinh|cosh|tanh)(?![A-Za-z])", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{4,}|\b(?:yes|no)\b", re.IGNORECASE)
_FILLERS = frozenset("all any every each the a an is are must be only of for integer integers number numbers".split())
_ARTICLE = re.compile(r"^(?:the|an|a)\s")
_TEXT_MARKS = re.compile(r"[\s$.,;:!?\"'`*(){}\\]+")


def normalised(answer: str) -> str:
    """The canonical spelling: arguments in braces, one name for each command, spaces only between tokens that would
    merge without them."""
    text = spelled_symbols(answer.strip())
    if "matrix" not in text and "array" not in text:
        text = _DOUBLE_BACKSLASH.sub(r"\\", text)
    text = _SEPARATOR.sub("", text.replace("\\%", "%"))
    text = _SPACES.sub(" ", _NEGATIVE_SPACE.sub("", _DELIMITER.sub("", text)))
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[1], match.group()), text)
    # The patterns below match spaces in several places. On a long run of spaces they would try every way to divide it.
    text = _SPACE_RUN.sub(" ", text)
    text = without_units(_UNIT_BEFORE_COMMA.sub("", plain_spellings(text.strip())).rstrip(".,;: "))
    text = plain_calls(_TEXT.sub(_unwrapped, text))
    text = _DEGREES.sub("°" if _TRIGONOMETRY.search(text) else "", text.replace("%", " "))
    text = _BASE.sub(lambda match: f"_{{{_BASES[match[1]]}}}", text)
    text = _BARE_FUNCTION.sub(r"\\\1", _CONJUNCTION.sub(",", joined_inequalities(text)).replace("**", "^"))
    text = _CHOOSE.sub(_chosen, _THOUSANDS.sub(lambda match: re.sub("[, ]", "", match[1]), text))
    if nesting(text) > MAX_NESTING:
        return "".join(text.split())
    text = "".join(_Canonical(text).group())
    return _without_braces(text.rstrip("., ;").lstrip(", ;"))


def spelled_symbols(text: str) -> str:
    """Write Unicode's mathematical characters as LaTeX: `√` as `\\sqrt`, `½` as `\\frac12`."""
    return _SYMBOL.sub(lambda match: _SYMBOLS[match.group()], text)


def explicit(text: str) -> str:
    """Spell out what the parser (latex2sympy) would misread.

    The parser reads a number before a rational as a mixed number, also in `2(3)` and `2\\binom{5}{2}`. It drops degree
    signs, and reads decimals as binary floats and a power of capital T as a transposition. It cannot parse a power of a
    factorial.
    """
    text = _DEGREES_OF.sub(r"(\\frac{\1\\pi}{180})", text)
    text = _DECIMAL.sub(lambda match: f"(\\frac{{{match[1]}{match[2]}}}{{1{'0' * len(match[2])}}})", text)
    text = _TRANSPOSED.sub("T_{0}", _FACTORIAL_POWER.sub(r"(\1!)^", text)).replace("°", r"\cdot\frac{\pi}{180}")
    out: list[str] = []
    opened: list[bool] = []  # for each open brace: whether it holds the index or exponent of a function's name
    number = factor_ends = after_function = root = False
    for match in _PARSER_TOKEN.finditer(text):
        token = match.group()
        if token == "[" and out and out[-1] == r"\sqrt":
            root = True
        elif token in "[]" and not (root and token == "]"):
            token = "(" if token == "[" else ")"
        if factor_ends and (token in ("(", r"\frac", r"\binom") or token.isdigit()):
            if not (number and _is_mixed(text[match.start() :])):
                out.append(r"\cdot ")
        if token == "{":
            opened.append(after_function)
            factor_ends = after_function = False
        elif token == "}":
            after_function = opened.pop() if opened else False
            factor_ends = not after_function
        else:
            after_function = token in _APPLIED or (after_function and token in "^_")
            factor_ends = token.isdigit() or token in (")", "!", r"\rfloor", r"\rceil")
        if token == "]":
            root = False
        if out and out[-1][0] == "\\" and out[-1][-1].isalpha() and token[0].isalpha():
            out.append(" ")
        number = token.isdigit()
        out.append(token)
    return "".join(out)


def _is_mixed(text: str) -> bool:
    match = _MIXED.match(text)
    return match is not None and int(match[1]) < int(match[2])


def text_form(answer: str) -> str:
    """The form in which answers in words are compared: lower case, no punctuation, no leading article.

    `\\text{(C)}`, `(C)` and `C` have the same form.
    """
    return _ARTICLE.sub("", _TEXT_MARKS.sub(" ", _TEXT.sub(r" \1 ", answer)).strip().lower()).strip()


def is_words(answer: str) -> bool:
    """Whether an answer is text: one letter in brackets, or words without a number or a formula."""
    bare = _NAMES.sub(" ", _TEXT.sub(r"\1", answer).strip().strip("$. "))
    if re.fullmatch(r"\(?[A-Z]\)?", bare):
        return "(" in bare or "\\" in answer
    return bool(_WORD.search(bare)) and not re.search(r"[\d\\^_=<>+*/|]", bare)


def same_words(answer: str, gold: str) -> bool:
    """Whether two short answers have the same words, whatever their order: `n \\text{ odd}` and `all odd $n$`.

    The gold answer must have a word and at most three words, letters and numbers in all, so that the order decides
    nothing.
    """
    words = _word_bag(gold)
    return len(words) <= 3 and any(len(word) > 2 and word.isalpha() for word in words) and words == _word_bag(answer)


def _word_bag(answer: str) -> list[str]:
    if len(answer) > 100:
        return []
    return sorted(word for word in text_form(answer).split() if word not in _FILLERS)


def without_units(text: str) -> str:
    """Remove the units after a number: `\\mathrm{~km} / \\mathrm{h}`, `\\mbox{ inches}^2`, `square feet`."""
    for _ in range(6):
        match = _UNIT_TEXT.search(text)
        if not match or not _MEASURED.search(text[: match.start()]) or _NOT_A_UNIT.search(match[1]):
            break
        if match[1].strip() in _IMAGINARY or match[1].strip() in _FUNCTIONS:
            break
        text = text[: match.start()].rstrip()
    return _UNIT_WORD.sub("", text).rstrip(" /")


def _chosen(match: re.Match[str]) -> str:
    return f"\\{'binom' if match[2] == 'choose' else 'frac'}{{{match[1]}}}{{{match[3]}}}"


def _unwrapped(match: re.Match[str]) -> str:
    inside = match[1].strip()
    if inside in _FUNCTIONS:
        return f"\\{inside} "
    return f" {inside} " if len(inside) > 1 else inside


def _without_braces(text: str) -> str:
    while text.startswith("{") and text.endswith("}") and _closes(text) == len(text) - 1:
        text = text[1:-1].rstrip("., ;").lstrip(", ;")
    return text


def _closes(text: str) -> int:
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return position
    return -1


class _Canonical:
    """One pass over the tokens. It adds missing closing braces and leaves superfluous ones as they are."""

    def __init__(self, text: str, unbraced: int = 0) -> None:
        self.tokens = _TOKEN.findall(text)
        self.at = 0
        self.unbraced = unbraced
        """How many commands are nested as arguments without braces, as in `\\sqrt\\frac12`."""

    def group(self, inner: bool = False) -> list[str]:
        """The canonical tokens up to the end; with `inner`, up to the closing brace of the current group."""
        out: list[str] = []
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token == "}" and inner:
                self.at += 1
                break
            self.at += 1
            if token in (r"\begin", r"\end", r"\mathbb", r"\pmod", r"\overline", r"\dot", r"\bar"):
                _join(out, [token, *self.argument()])
            elif token in (r"\frac", r"\binom"):
                _join(out, [token, *self.argument(), *self.argument()])
            elif token == r"\sqrt":
                _join(out, [token, *self.root(), *self.argument(digits=True)])
            elif token in "^_":
                base_of_log = token == "_" and out[-1:] == [r"\log"]
                _join(out, [token, *self.argument(digits=not base_of_log)])
            elif token == "{":
                inside = self.group(inner=True)
                plain = len(inside) < 2 or (not out and self.at >= len(self.tokens))
                _join(out, inside if plain else ["(", *inside, ")"] if {"+", "-"} & set(inside) else inside)
            elif token.isspace():
                if out and out[-1][-1:].isdigit() and self.at < len(self.tokens) and self.tokens[self.at].isdigit():
                    out.append(" ")
            elif token == "*":
                _join(out, [r"\cdot"])
            else:
                _join(out, [token])
        return out

    def argument(self, digits: bool = False) -> list[str]:
        """The next argument, in braces. Without braces it is one token, or with `digits` a whole run of digits."""
        self.skip_spaces()
        if self.at >= len(self.tokens):
            return ["{", "}"]
        token = self.tokens[self.at]
        self.at += 1
        if token == "{":
            return ["{", *self.group(inner=True), "}"]
        if token == "}":
            self.at -= 1
            return ["{", "}"]
        run = [token]
        if token in ("+", "-") and self.at < len(self.tokens):
            run.append(self.tokens[self.at])
            self.at += 1
        if token in (r"\frac", r"\binom", r"\sqrt") and self.unbraced < MAX_NESTING:
            self.unbraced += 1
            inside = [part for _ in range(1 if token == r"\sqrt" else 2) for part in self.argument()]
            self.unbraced -= 1
            return ["{", token, *inside, "}"]
        while digits and run[-1].isdigit() and self.at < len(self.tokens) and self.tokens[self.at].isdigit():
            run.append(self.tokens[self.at])
            self.at += 1
        if digits and token == "(" and out_of_brackets(self.tokens, self.at):
            # In `x^(n+1)` and `sqrt(2)` the brackets mean braces.
            end = out_of_brackets(self.tokens, self.at)
            inside = _Canonical("".join(self.tokens[self.at : end - 1]), self.unbraced).group()
            self.at = end
            return ["{", *inside, "}"]
        return ["{", *run, "}"]

    def root(self) -> list[str]:
        self.skip_spaces()
        if self.at >= len(self.tokens) or self.tokens[self.at] != "[" or "]" not in self.tokens[self.at :]:
            return []
        end = self.tokens.index("]", self.at)
        order = [token for token in self.tokens[self.at : end + 1] if not token.isspace()]
        self.at = end + 1
        return order

    def skip_spaces(self) -> None:
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1


def out_of_brackets(tokens: list[str], start: int) -> int:
    """The position after the `)` that closes the bracket opened just before `start`; 0 if nothing closes it."""
    depth = 1
    for position in range(start, len(tokens)):
        depth += (tokens[position] == "(") - (tokens[position] == ")")
        if depth == 0:
            return position + 1
    return 0


def _join(out: list[str], tokens: list[str]) -> None:
    for token in tokens:
        if out and token[0].isalpha() and out[-1][0] == "\\" and out[-1][-1].isalpha():
            out.append(" ")
        out.append(token)
