r"""An answer as tokens: LaTeX, Unicode and plain writing made one, with everything dropped that only changes its looks.

``\dfrac``, ``½`` and ``\frac`` become one command, ``\left(`` and ``(`` one bracket, ``10,\!080`` one number. What a text means
is not decided here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Token(NamedTuple):
    """One piece of an answer.

    `kind`: "number" (digits, perhaps with a point), "letter", "word" (letters that stand together in mathematics), "text" (the
    words of a ``\\text{…}``), "command", "mark" (a bracket, an operator). `gap`: whether a space stands before it.
    """

    kind: str
    text: str
    gap: bool = False


Tokens = Sequence[Token]

_FRACTIONS = {"½": "12", "⅓": "13", "⅔": "23", "¼": "14", "¾": "34", "⅕": "15", "⅖": "25", "⅗": "35", "⅘": "45"}
_FRACTIONS |= {"⅙": "16", "⅚": "56", "⅐": "17", "⅛": "18", "⅜": "38", "⅝": "58", "⅞": "78", "⅑": "19"}
_SYMBOLS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "∕": "/",
    "⁄": "/", "±": r"\pm ", "∓": r"\mp ", "√": r"\sqrt ", "∛": r"\sqrt[3]", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ",
    "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∅": r"\emptyset ", "°": r"^\circ ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ",
    "€": r"\text{euro}", "£": r"\text{pound sterling}", "¥": r"\text{yen}", "∖": r"\setminus ", "…": r"\ldots ", "\u200b": "",
    "\ufeff": "", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ", "ω": r"\omega ", "′": "'",
}  # fmt: skip
_SYMBOLS |= {char: rf"\frac{{{pair[0]}}}{{{pair[1]}}}" for char, pair in _FRACTIONS.items()}
_UPPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_LOWER = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_ODD = re.compile(r"[^\x00-\x7f]")

_SAME = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge", "neq": "ne",
    "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lbrack": "[", "rbrack": "]", "lbrace": r"\{", "rbrace": r"\}",
    "times": "*", "cdot": "*", "ast": "*", "bullet": "*", "div": "/", "lt": "<", "gt": ">", "varnothing": "emptyset",
    "dbinom": "binom", "tbinom": "binom", "infin": "infty", "lparen": "(", "rparen": ")", "notin": "notin", "simeq": "approx",
    "thickapprox": "approx", "cong": "approx", "varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta", "imath": "i",
    "degree": "circ",
}  # fmt: skip
_DROPPED = frozenset("left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle limits "
                     "nolimits mathstrut strut rm bf it boldsymbol bm hline".split())  # fmt: skip
_WRAPPERS = frozenset("text textrm textbf textit textnormal texttt textsf mbox hbox mathrm mathbf mathit mathsf mathtt "
                      "operatorname emph".split())  # fmt: skip
_OPERATORS = frozenset(("arccot", "arcsec", "arccsc", "sgn", "sign", "cis", "Re", "Im", "det", "tr", "rank"))
_SHELLS = frozenset(("boxed", "fbox", "underline", "mathord", "ensuremath"))
PLAIN_NAMES = frozenset("sqrt pi sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp infty lcm gcd theta "
                        "alpha beta gamma delta lambda".split())  # fmt: skip
"""Words that are commands also where the backslash was forgotten."""
JOINERS = frozenset(("and", "or"))

_PIECE = re.compile(
    r"(?P<env>\\(?:begin|end)\s*\{\s*[a-zA-Z]*\*?\s*\}(?:\{[lcr|\s]*\})?)|(?P<row>\\\\(?:\[[^\]]*\])?)|\\(?P<command>[a-zA-Z]+)"
    r"|\\(?P<escaped>.)|(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:(?:(?<=\.\d)|(?<=\.\d\d))?[eE](?:\+?\d+|-\d\d+)(?![\d.]))?)|(?P<word>[a-zA-Z]+)|(?P<space>[\s~$]+)|(?P<mark>.)",
    re.DOTALL,
)
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?")
_HALF_DAY = re.compile(r"(?<=[\d{\s~])([ap])\.\s?m\b\.?")
_WORDS = re.compile(r"[^\d\\${}_^]*[a-zA-Z](?:[a-zA-Z]|/)[^\d\\${}]*")
_LISTED = re.compile(r",|;|\b(?:and|or)\b")
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:(?:\{,\}|,\s*\\!|\\,|\\;|\u2009|\u202f)\s*\d{3})+(?!\d)")
_BLANKS = re.compile(r"(?:\{,\}|,\s*\\!|\\[,;]|\u2009|\u202f|\s)+")


def tokens(text: str) -> tuple[Token, ...]:
    r"""The tokens of an answer, without layout, sentence stops and dollar signs around it.

    >>> [t.text for t in tokens(r"$\dfrac12\left(x+1\right)$.")]
    ['\\frac', '12', '(', 'x', '+', '1', ')']
    >>> [t.text for t in tokens(r"10,\!080\text{ cm}")], [t.text for t in tokens("１½")]
    (['10080', 'cm'], ['1', '\\frac', '{', '1', '}', '{', '2', '}'])
    """
    text = _REPEATING.sub(_repeated, text)
    text = _HALF_DAY.sub(r" \\text{\1m}", text)
    found = list(_tokens(_GROUPED.sub(lambda match: _BLANKS.sub("", match[0]), _ascii(text))))
    while found and (found[-1].text in (".", ";", ",") or (found[-1].text == "*" and found[0].text != "*")):
        found.pop()
    while len(found) > 4 and (found[0].text, found[1].text) == ("*", "*") == (found[-2].text, found[-1].text):
        found = found[2:-2]  # Markdown's bold
    if found and found[0].gap:
        found[0] = found[0]._replace(gap=False)
    return tuple(found)


def _repeated(match: re.Match[str]) -> str:
    """0.1(6) as a fraction."""
    whole, start, again = match.groups()
    if len(whole + start + again) > 30:
        return match[0]
    value = int(whole + start + again) - int(whole + start or "0")
    return rf"{{\frac{{{value}}}{{{(10 ** len(again) - 1) * 10 ** len(start)}}}}}"


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda match: "^{" + match[0].translate(_UPPER) + "}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda match: "_{" + match[0].translate(_LOWER) + "}", text)
    text = _ODD.sub(lambda match: _SYMBOLS.get(match[0]) or (unicodedata.normalize("NFKC", match[0])), text)
    return _ODD.sub(lambda match: _SYMBOLS.get(match[0], match[0]), text)  # what NFKC made of full-width forms


def _tokens(text: str, start: int = 0, end: int | None = None) -> Iterator[Token]:
    at, end, gap = start, len(text) if end is None else end, False
    while at < end:
        match = _PIECE.match(text, at, end)
        if match is None:  # a backslash at the end
            return
        at, kind = match.end(), match.lastgroup or ""
        piece = match[kind]
        if kind == "space":
            gap = True
            continue
        if kind == "escaped":
            if piece in ",;:! ()[]\n":  # spaces, and the brackets that set off mathematics
                gap = gap or piece not in "!"
                continue
            made = [Token("mark", "\\" + piece if piece in "{}" else piece, gap)]
            if piece == "$":
                made = [Token("text", "dollar", gap)]
        elif kind == "command":
            at, made, skipped = _command(text, piece, at, end, gap)
            gap = gap or skipped
            if not made:
                continue
        elif kind == "word":
            made = _word(piece, gap)
        elif kind == "number":
            made = [Token("number", piece, gap)]
        else:
            made = [Token("mark", re.sub(r"\s|\{[lcr|\s]*\}$", "", piece) if kind == "env" else piece[:2], gap)]
        yield from made
        gap = False


def _command(text: str, name: str, at: int, end: int, gap: bool) -> tuple[int, list[Token], bool]:
    """Where the command ends, its tokens, and whether it is a space."""
    if name in _DROPPED:
        if name in ("left", "right") and (dot := re.compile(r"\s*\.(?!\d)").match(text, at, end)):
            at = dot.end()
        return at, [], False
    if name in ("quad", "qquad", "space", "enspace", "thinspace"):
        return at, [], True
    if name in _WRAPPERS or name in _SHELLS or name == "mathbb":
        inner = _braced(text, at, end)
        if inner is None and name == "mathbb" and (letter := re.compile(r"\s*([A-Z])").match(text, at, end)):
            return letter.end(), [Token("command", "\\" + letter[1], gap)], False
        if inner is None:
            return at, [], True
        return inner[1] + 1, _wrapped(text, name, *inner, gap), False
    same = _SAME.get(name, name)
    if same == "circ":
        return at, [Token("command", "circ", gap)], False
    if not same.isalpha():
        return at, [Token("mark", same, gap)], False
    return at, [Token("letter", same, gap) if len(same) == 1 else Token("command", "\\" + same, gap)], False


def _wrapped(text: str, name: str, start: int, end: int, gap: bool) -> list[Token]:
    """What stands in ``\\text{…}`` and its like: a name, words, or mathematics that was only set in another type."""
    content, gap = text[start:end].strip(), gap or text[start : start + 1] == " "
    bare = content.strip(" .")
    if name == "mathbb":
        return [Token("command", "\\" + content, gap)]
    if name not in _SHELLS:
        if bare in PLAIN_NAMES or bare in _OPERATORS:
            return [Token("command", "\\" + bare, gap)]
        if len(content) == 1 and content.isalpha():
            return [Token("letter" if name == "mathbf" or content in "ei" else "text", content, gap)]
        if _WORDS.fullmatch(content) and not _LISTED.search(content):
            return [Token("text", " ".join(content.split()), gap)]
    inner = list(_tokens(text, start, end))
    return [inner[0]._replace(gap=gap or inner[0].gap), *inner[1:]] if inner else []


def _word(word: str, gap: bool) -> list[Token]:
    lower = word.lower()
    if word in PLAIN_NAMES:
        return [Token("command", "\\" + word, gap)]
    if lower in ("infinity", "inf", "oo") and word != "OO":
        return [Token("command", r"\infty", gap)]
    return [Token("letter" if len(word) == 1 else "word", word, gap)]


def _braced(text: str, at: int, end: int) -> tuple[int, int] | None:
    """Where the content of the braces that open here begins and ends."""
    while at < end and text[at].isspace():
        at += 1
    if at >= end or text[at] != "{":
        return None
    depth, start = 0, at + 1
    while at < end:
        if text[at] == "\\":
            at += 2
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return start, at
        at += 1
    return None


def latex(some: Tokens) -> str:
    r"""The tokens as LaTeX again, for readers of LaTeX.

    >>> latex(tokens("½ x \\leq 2*π"))
    '\\frac{1}{2}x\\le2\\cdot \\pi'
    """
    out = ""
    for token in some:
        piece = {"*": r"\cdot ", "circ": r"\circ "}.get(token.text, token.text)
        if token.kind == "text":
            piece = rf"\text{{{token.text}}}"
        elif token.kind == "command" and len(piece) == 2:
            piece = rf"\mathbb{{{piece[1]}}}"
        elif (token.gap and out[-1:].isdigit() and piece[:1].isdigit()) or (
            _ends_in_command(out) and piece[:1].isalpha()
        ):
            piece = " " + piece
        out += piece
    return out


def _ends_in_command(text: str) -> bool:
    return bool(re.search(r"\\[a-zA-Z]+$", text))


OPENS, CLOSES = frozenset(("(", "[", r"\{", "{", r"\langle")), frozenset((")", "]", r"\}", "}", r"\rangle"))


def depths(some: Tokens) -> list[int]:
    """How many brackets are open before each token; a closing one is as deep as its opening one."""
    depth, found = 0, []
    for token in some:
        if token.text in CLOSES or token.text.startswith(r"\end"):
            depth -= 1
        found.append(depth)
        if token.text in OPENS or token.text.startswith(r"\begin"):
            depth += 1
    return found
