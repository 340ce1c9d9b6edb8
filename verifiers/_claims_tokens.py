"""From a solution's text to tokens: plain arithmetic, TeX, Markdown, prose and calculator marks in one stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from reasonweave.verifiers._claims_words import FUNCTIONS, RELATIONS, TIGHT_UNITS

LONGEST_TEXT = 20_000
"""Characters of a passage that are read."""
LONGEST_NUMBER = 60
"""Digits of a number that is read."""


class Token(NamedTuple):
    """One token of a text.

    `kind`: num, name, word, func, op, rel, open, close, bar, currency, comma, colon, edge (of inline mathematics), stop (of a
    statement), line, odd (what is not understood). `gap` says that a blank stands before it, `tex` that it is inside mathematics.
    For a number, `value` and the digits after its point.
    """

    kind: str
    text: str
    start: int
    end: int
    gap: bool = False
    tex: bool = False
    value: Fraction | None = None
    places: int = 0


_MATRICES = r"(?:[pbvBV]?matrix|smallmatrix|array|cases|tabular|asy|tikzpicture|table)"
_TEXTS = r"(?:text|mbox|hbox|textbf|textit|textrm|textsf|mathrm|mathit|mathbf|mathsf|operatorname|emph|texttt)"
_SCAN = re.compile(
    rf"""
    (?P<skip>\[asy\].*?\[/asy\]|```.*?(?:```|\Z)|\\begin\{{{_MATRICES}\*?\}}.*?\\end\{{{_MATRICES}\*?\}})
  | (?P<tag></?[A-Za-z][^<>=\n]{{0,60}}>|https?://\S+|\\(?:tag|label|ref|eqref)\*?\{{[^{{}}]*\}})
  | (?P<spread>\\(?:hspace|vspace|phantom|color)\*?\{{[^{{}}]*\}}|\\(?:qquad|quad)(?![A-Za-z]))
  | (?P<says>\\{_TEXTS}\s*\{{(?P<said>[^{{}}]*)\}})
  | (?P<env>\\(?:begin|end)\s*\{{[A-Za-z]+\*?\}}(?:\{{[^{{}}]*\}})?|\\\[|\\\]|\$\$)
  | (?P<inline>\\\(|\\\))
  | (?P<row>\\\\(?:\[[^\]]*\])?|\\newline|\\cr(?![A-Za-z]))
  | (?P<blank>(?:[ \t\u00a0\u2009\u202f]|\\[,;:!> ])+)
  | (?P<nothing>\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|mathstrut|strut|it|rm|bf)(?![A-Za-z])\.?)
  | (?P<repeating>\d*\ ?\.\ ?\d*\ ?\\(?:overline|bar)\s*\{{\d+\}})
  | (?P<oddnumber>\d+(?:\.\d+){{2,}}|\d+(?::\d+)+|\d+(?:st|nd|rd|th)\b|\d[\d,]*\.\d+(?:\.\.\.|…|\\[lc]?dots)
                |\d+(?:\.\d+)?[eE][-+]?\d+|\d+(?:[ap]m)\b)
  | (?P<number>(?>\d{{1,3}}(?:(?:,|\{{,\}}|,\\!|\\,)\d{{3}})+(?!\d)|\d+)(?>\.\d+)?(?!,\d)|\.\d+)
  | (?P<list>\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)+)
  | (?P<vulgar>[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])
  | (?P<super>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)
  | (?P<arrow><=>|<-+>|-+>|=>|[→⇒⟹↔⇔⟶↦∴∵—]|={{3,}}|-{{3,}}|\#{{2,}}|\*{{3,}})
  | (?P<rel><=|>=|!=|=/=|==|[=<>≤≥≠≈≅≡])
  | (?P<ellipsis>\.{{2,}}|…|_{{2,}}|\?{{2,}}|:=)
  | (?P<stop>[.!?](?=[\s"')\]*\\]|\Z|\$)|[;。！？])
  | (?P<op>\*\*|[-+*/^!%°±×·⋅∙÷−–∗⁄√'_&])
  | (?P<open>\\\{{|[(\[{{])
  | (?P<close>\\\}}|[)\]}}])
  | (?P<command>\\[A-Za-z]+\*?|\\[^A-Za-z])
  | (?P<times>(?<=\d)(?<!\b0)[xX](?=\d))
  | (?P<identifier>[A-Za-z]+\d\w*)
  | (?P<letters>[A-Za-z]{{2,}}(?:['’-][A-Za-z]{{2,}})*(?:['’][a-z](?![A-Za-z]))?)
  | (?P<letter>[A-Za-z])
  | (?P<greek>[α-ωΑ-Ω∞∠△∑∏∫∂])
  | (?P<other>[^\W\d_]+)
  | (?P<line>\s*\n\s*)
  | (?P<punctuation>[,:])
  | (?P<currency>[€£¥])
  | (?P<dollar>\$)
  | (?P<bar>\|)
  | (?P<junk>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5),
    "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
}  # fmt: skip
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SAME = {"×": "*", "·": "*", "⋅": "*", "∙": "*", "∗": "*", "÷": "/", "⁄": "/", "−": "-"}
_RELATIONS = {
    "==": "=", "<=": "≤", ">=": "≥", "!=": "≠", "=/=": "≠", "\\le": "≤", "\\leq": "≤", "\\leqslant": "≤", "\\ge": "≥",
    "\\geq": "≥", "\\geqslant": "≥", "\\lt": "<", "\\gt": ">", "\\ne": "≠", "\\neq": "≠", "\\approx": "≈", "\\equiv": "≡",
    "\\doteq": "≈", "≅": "odd", "\\cong": "odd", "\\sim": "odd", "\\simeq": "odd", "\\propto": "odd", "\\in": "odd",
}  # fmt: skip
_OPERATORS = {
    "\\cdot": "*", "\\times": "*", "\\ast": "*", "\\div": "/", "\\pm": "±", "\\mp": "±", "\\%": "%", "\\degree": "°",
    "\\bmod": "mod", "\\mod": "mod",
}  # fmt: skip
_STOPS = frozenset(
    "\\to \\rightarrow \\Rightarrow \\implies \\iff \\Leftrightarrow \\longrightarrow \\Longrightarrow \\Leftarrow \\leftarrow "
    "\\Longleftrightarrow \\mapsto \\therefore \\because \\item \\par \\hline \\wedge \\vee \\land \\lor".split()
)
_GREEK = frozenset(
    "\\alpha \\beta \\gamma \\delta \\epsilon \\varepsilon \\zeta \\eta \\theta \\vartheta \\iota \\kappa \\lambda \\mu \\nu "
    "\\xi \\rho \\sigma \\tau \\phi \\varphi \\chi \\psi \\omega \\Gamma \\Delta \\Theta \\Lambda \\Xi \\Sigma \\Phi \\Psi "
    "\\Omega \\ell \\hbar".split()
)
_READ = frozenset(
    "\\frac \\dfrac \\tfrac \\cfrac \\sqrt \\binom \\dbinom \\tbinom \\pi \\boxed \\fbox \\circ \\lfloor \\rfloor \\lceil "
    "\\rceil \\lvert \\rvert \\vert \\pmod \\pod \\overline \\bar \\hat \\vec \\tilde \\widehat \\angle \\triangle "
    "\\mathcal \\mathbb \\prime \\infty".split()
)
"""Commands that the parser knows."""
_PROSE_IN_TEX = frozenset(
    "and or if so then for is are where when the of as all with mod thus hence since have that which but because we get".split()
)

_BULLET = re.compile(r"^[ \t]*(?:[*•+]|\(?\d{1,2}[.)]|\(?[a-zA-Z][.)])(?=[ \t])", re.MULTILINE)
"""What begins a line and is no part of what it says. A dash is left: it may be a sign."""
_ANNOTATION = re.compile(r"<<([^<>\n]{1,200})>>")
_COMMAND_OR_TEXT = re.compile(rf"\\{_TEXTS}\s*\{{[^{{}}]*\}}|\\[A-Za-z]+")
_LONG_WORD = re.compile(r"[A-Za-z]{3,}")


def tokens(text: str) -> list[Token]:
    """All tokens of a text. What stands in calculator marks (``<<48/2=24>>``) comes apart, after the rest, between stops."""
    text = _BULLET.sub(lambda bullet: " " * len(bullet.group()), text[:LONGEST_TEXT])
    marks = list(_ANNOTATION.finditer(text))
    edges = _dollars(text)
    found: list[Token] = []
    at, tex = 0, False
    for mark in marks:
        tex = _scan(text, at, mark.start(), tex, edges, found)
        at = mark.end()
    _scan(text, at, len(text), tex, edges, found)
    for mark in marks:
        found.append(Token("stop", "<<", mark.start(), mark.start() + 2))
        _scan(text, mark.start(1), mark.end(1), False, edges, found)
        found.append(Token("stop", ">>", mark.end() - 2, mark.end()))
    return _split_arguments(list(_settled(found)))


_ARGUMENTS = {"frac": 2, "dfrac": 2, "tfrac": 2, "cfrac": 2, "binom": 2, "dbinom": 2, "tbinom": 2, "sqrt": 1}


def _split_arguments(found: list[Token]) -> list[Token]:
    """TeX takes one digit for an argument without braces: ``\\frac12`` is one half."""
    for i, token in enumerate(found):
        if token.kind == "func" and token.tex and (wanted := _ARGUMENTS.get(token.text)):
            at = i + 1
            if token.text == "sqrt" and at < len(found) and found[at].text == "[":
                at = _after_group(found, at)
            for _ in range(wanted):
                if at < len(found) and found[at].kind == "num" and len(found[at].text) > 1 and found[at].text.isdigit():
                    one = found[at]
                    head = one._replace(text=one.text[0], end=one.start + 1, value=Fraction(int(one.text[0])))
                    rest = one._replace(
                        text=one.text[1:], start=one.start + 1, gap=False, value=Fraction(int(one.text[1:]))
                    )
                    found[at : at + 1] = [head, rest]
                at = _after_group(found, at)
    return found


def _after_group(found: list[Token], at: int) -> int:
    """The index after the token or the bracketed group that begins here."""
    depth = 0
    while at < len(found):
        depth += (found[at].kind == "open") - (found[at].kind == "close")
        at += 1
        if depth <= 0:
            break
    return at


def _dollars(text: str) -> frozenset[int]:
    """Where a dollar sign begins or ends mathematics; elsewhere it is money.

    As Pandoc does, and more: nothing blank just inside, no digit right after, and inside no prose and no dangling operator.
    """
    if "$" not in text:
        return frozenset()
    edges: set[int] = set()
    for part in re.finditer(r"(?:(?!\n\s*\n).)+", text, re.DOTALL):
        places = [m.start() for m in re.finditer(r"(?<![\\$])\$(?!\$)", part.group())]
        i = 0
        while i + 1 < len(places):
            start, end = places[i] + part.start(), places[i + 1] + part.start()
            if _mathematical(text[start + 1 : end], text[end + 1 : end + 2]):
                edges.update((start, end))
                i += 1
            i += 1
    return frozenset(edges)


def _mathematical(inside: str, after: str) -> bool:
    bare = inside.strip()
    if not bare or after.isdigit() or (inside[0].isspace() != inside[-1].isspace()):
        return False
    if bare[-1] in "+-*/×·÷=<>" or (
        len(inside) > 1 and inside[0].isspace() and bare[0].isdigit() and "=" not in inside
    ):
        return False
    words = _LONG_WORD.findall(_COMMAND_OR_TEXT.sub(" ", inside))
    return all(word in FUNCTIONS or word.isupper() or "\\" in inside or "_" in inside for word in words)


def _scan(text: str, start: int, end: int, tex: bool, edges: frozenset[int], found: list[Token]) -> bool:
    """Append the tokens of text[start:end]; returns whether mathematics is still open at its end."""
    gap = True
    for match in _SCAN.finditer(text, start, end):
        kind = match.lastgroup if match.lastgroup != "said" else "says"
        piece, at, stop = match.group(), match.start(), match.end()
        if kind in ("blank", "nothing"):
            gap = gap or kind == "blank"
            continue
        before = len(found)
        if kind == "dollar":
            if at in edges:
                tex = not tex
                found.append(Token("edge", piece, at, stop, gap, tex))
            else:
                found.append(Token("currency", piece, at, stop, gap, tex))
        elif kind == "inline":
            tex = piece == "\\("
            found.append(Token("edge", piece, at, stop, gap, tex))
        elif kind == "env":
            tex = (not tex) if piece == "$$" else piece == "\\[" or (piece.startswith("\\begin"))
            found.append(Token("stop", piece, at, stop, gap, tex))
        elif kind == "says":
            _said(match, found, gap, tex)
        elif kind == "line":
            if piece.count("\n") > 1:
                tex = False
            found.append(Token("stop" if piece.count("\n") > 1 else "line", "\n", at, stop, True, tex))
        else:
            found.extend(_tokens_of(kind or "junk", piece, at, stop, gap, tex))
        gap = (gap and len(found) == before) or kind == "line"
    return tex


def _said(match: re.Match[str], found: list[Token], gap: bool, tex: bool) -> None:
    """What ``\\text{…}`` says: words where it is words, one letter as a name, else something that is not understood."""
    said, at = match["said"], match.start("said")
    if len(said) == 1 and said.isalpha() and "math" in match.group():
        found.append(Token("name", said, match.start(), match.end(), gap, tex))
    elif said.strip() in FUNCTIONS:
        found.append(Token("func", said.strip(), match.start(), match.end(), gap, tex))
    elif re.fullmatch(r"[A-Za-z .,'’-]*", said):
        for word in re.finditer(r"[A-Za-z'’-]+|[.,]", said):
            kind = "word" if word.group()[0].isalpha() else "comma" if word.group() == "," else "odd"
            if word.group() != ".":
                found.append(Token(kind, word.group(), at + word.start(), at + word.end(), True, False))
    else:
        found.append(Token("odd", match.group(), match.start(), match.end(), gap, tex))


def _tokens_of(kind: str, piece: str, at: int, end: int, gap: bool, tex: bool) -> list[Token]:
    """The tokens of one piece that the scanner has cut out."""
    match kind:
        case "number" | "repeating":
            return [_number(kind, piece, at, end, gap, tex)]
        case "vulgar":
            return [Token("num", piece, at, end, gap, tex, Fraction(*_VULGAR[piece]))]
        case "super":
            digits = piece.translate(_SUPER)
            if len(digits) > 9:
                return [Token("odd", piece, at, end, gap, tex)]
            return [
                Token("op", "^", at, at, False, tex),
                Token("num", digits, at, end, False, tex, Fraction(int(digits))),
            ]
        case "rel" if piece == "!=" and (tex or not gap):  # a factorial, and an equals sign
            return [Token("op", "!", at, at + 1, gap, tex), Token("rel", "=", at + 1, end, False, tex)]
        case "rel":
            relation = _RELATIONS.get(piece, piece)
            return [Token("odd" if relation == "odd" else "rel", relation, at, end, gap, tex)]
        case "op":
            return [Token("op", _SAME.get(piece, piece), at, end, gap, tex)]
        case "times":
            return [Token("op", "*", at, end, gap, tex)]
        case "command":
            return [_command(piece, at, end, gap, tex)]
        case "letters":
            return _letters(piece, at, end, gap, tex)
        case "letter":
            return [Token("name", piece, at, end, gap, tex)]
        case "greek" if piece == "π":
            return [Token("func", "pi", at, end, gap, tex)]
        case "greek" if piece in "∞∠△∑∏∫∂":
            return [Token("odd", piece, at, end, gap, tex)]
        case "greek":
            return [Token("name", piece, at, end, gap, tex)]
        case "other":
            return [Token("word", piece, at, end, gap, False)]
        case "punctuation":
            return [Token("comma" if piece == "," else "colon", piece, at, end, gap, tex)]
        case "open" | "close":
            return [Token(kind, piece, at, end, gap, tex)]
        case "skip" | "tag" | "arrow":
            return [Token("stop", piece[:8], at, end, gap, tex)]
        case "spread":
            return [Token("spread", piece, at, end, gap, tex)]
        case "row" | "stop" | "line" | "currency" | "bar":
            return [Token(kind, piece, at, end, gap, tex)]
        case _:
            return [Token("odd", piece, at, end, gap, tex)]


def _number(kind: str, piece: str, at: int, end: int, gap: bool, tex: bool) -> Token:
    if len(piece) > LONGEST_NUMBER:
        return Token("odd", piece[:8], at, end, gap, tex)
    if kind == "repeating":
        digits = re.findall(r"\d*", piece)
        piece = piece.replace(" ", "")
        whole, first, again = piece.split(".")[0], re.split(r"\\", piece.split(".")[1])[0], [d for d in digits if d][-1]
        value = Fraction(int(whole or "0")) + Fraction(int(first or "0"), 10 ** len(first))
        value += Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(first))
        return Token("num", piece, at, end, gap, tex, value)
    bare = re.sub(r"[^\d.]", "", piece)
    return Token("num", bare, at, end, gap, tex, Fraction(bare), len(bare.partition(".")[2]))


def _command(piece: str, at: int, end: int, gap: bool, tex: bool) -> Token:
    if piece in _RELATIONS:
        relation = _RELATIONS[piece]
        return Token("odd" if relation == "odd" else "rel", relation, at, end, gap, tex)
    if piece in _OPERATORS:
        return Token("op", _OPERATORS[piece], at, end, gap, tex)
    if piece == "\\$":
        return Token("currency", "$", at, end, gap, tex)
    if piece == "\\|":
        return Token("odd", piece, at, end, gap, tex)
    if piece in _STOPS:
        return Token("stop", piece, at, end, gap, tex)
    if piece in _GREEK:
        return Token("name", piece, at, end, gap, tex)
    if piece in _READ or piece[1:] in FUNCTIONS:
        return Token("func", piece[1:], at, end, gap, tex)
    return Token("odd", piece, at, end, gap, tex)


def _letters(piece: str, at: int, end: int, gap: bool, tex: bool) -> list[Token]:
    lower = piece.lower()
    if lower in RELATIONS:
        return [Token("rel", RELATIONS[lower], at, end, gap, tex)]
    if tex and not piece.isupper() and piece.isalpha():
        if piece in FUNCTIONS:
            return [Token("func", piece, at, end, gap, tex)]
        if lower in _PROSE_IN_TEX:
            return [Token("word", piece, at, end, gap, False)]
        if len(piece) > 3:
            return [Token("name", piece, at, end, gap, tex)]
        return [Token("name", c, at + k, at + k + 1, gap and not k, tex) for k, c in enumerate(piece)]
    if tex and piece.isalpha():
        return [Token("name", piece, at, end, gap, tex)]
    if not gap and lower not in TIGHT_UNITS and len(piece) <= 3 and piece.islower():
        return [Token("tight", piece, at, end, gap, tex)]
    return [Token("word", piece, at, end, gap, tex)]


def _settled(found: list[Token]) -> Iterator[Token]:
    """The tokens with what depends on their neighbours decided: emphasis, a letter x that multiplies, lines that go on."""
    last: Token | None = None
    for i, token in enumerate(found):
        after = found[i + 1] if i + 1 < len(found) else None
        kind, text = token.kind, token.text
        if kind == "tight":  # letters right after a number are unknowns, elsewhere they are a word
            if last is not None and last.kind == "num" and last.end == token.start:
                for k, c in enumerate(text):
                    last = Token("name", c, token.start + k, token.start + k + 1, False, token.tex)
                    yield last
                continue
            token = token._replace(kind="word")
        elif kind in ("row", "line", "spread"):
            if (kind == "line" and token.tex) or _goes_on(kind, found, i):
                continue
            token = token._replace(kind="edge" if kind == "spread" else "stop")
        elif kind == "op" and text == "&":
            continue
        elif kind == "op" and text in ("*", "**", "_", "'"):
            if text in ("*", "**") and _emphasis(token, last, after):
                continue
            if text == "**":
                token = token._replace(text="^")
        elif kind == "name" and text in ("x", "X") and not token.tex and _multiplies(token, last, after):
            token = token._replace(kind="op", text="*")
        elif kind == "name" and text in ("a", "A", "I") and not token.tex and _article(token, last, after):
            token = token._replace(kind="word")
        elif kind == "name" and text.isupper() and after is not None and after.kind == "colon":
            token = token._replace(kind="word")  # the label of a step
        elif kind == "stop" and text == "!" and last is not None and (token.tex or _factorial(last, after)):
            token = token._replace(kind="op")
        last = token
        yield token


def _goes_on(kind: str, found: list[Token], i: int) -> bool:
    """Does the statement go on in the next line, row or column?"""
    k = i + 1
    while k < min(len(found), i + 12) and (found[k].kind in ("line", "spread", "row") or found[k].text == "&"):
        k += 1
    after = found[k] if k < len(found) else None
    last = found[i - 1] if i else None
    if after is None or last is None:
        return False
    if after.kind == "rel":
        return last.kind not in ("stop", "comma")
    if kind == "line":
        return False
    marked = kind == "spread" or any(each.text == "&" for each in found[i:k])
    return after.kind == "op" and after.text in "+-*/" and marked and last.kind != "stop"


def _operand_end(token: Token | None) -> bool:
    return token is not None and (token.kind in ("num", "name", "close") or token.text in ("%", "!", "°", "pi"))


def _operand_start(token: Token | None) -> bool:
    return token is not None and (token.kind in ("num", "name", "open", "func", "currency") or token.text in ("√", "-"))


def _emphasis(token: Token, last: Token | None, after: Token | None) -> bool:
    """Is this star Markdown's, not an operator?"""
    if after is None or last is None:
        return True
    if token.gap != after.gap:
        return token.text == "**" or not (_operand_start(after) and _operand_end(last))
    return not ((_operand_start(after) or after.kind == "word") and (_operand_end(last) or last.kind == "word"))


def _multiplies(token: Token, last: Token | None, after: Token | None) -> bool:
    """Is this letter x a times sign? Between numbers, or with blanks on both sides after a quantity and before a number."""
    if last is None or after is None:
        return False
    begins = after.kind in ("num", "currency")
    if last.kind == "num" or last.text in (")", "%"):
        if begins and (not token.gap) == (not after.gap):
            return True
        return token.gap and after.gap and (begins or after.text == "(")
    return (
        last.kind == "word"
        and token.gap
        and after.gap
        and begins
        and last.text.lower() not in ("for", "let", "of", "and")
    )


def _article(token: Token, last: Token | None, after: Token | None) -> bool:
    """Is this letter a word of English, no unknown?"""
    if after is not None and after.kind in ("rel", "op"):
        return False
    if last is not None and last.kind in ("rel", "op"):
        return after is not None and after.kind == "word"
    return not (last is not None and last.kind == "num" and not token.gap)


def _factorial(last: Token, after: Token | None) -> bool:
    """Is this mark at a word's end a factorial's? After a number or bracket, before something that goes on with it."""
    return last.kind in ("num", "close", "name") and after is not None and after.kind in ("rel", "op", "close", "edge")
