r"""What an answer says: one value, words, a list, a tuple or interval, a matrix, an equation; each with an exact key.

`read` never fails: what it does not understand is a `Value` without form, known by its letters alone. Things with equal keys are
the same answer; what else is the same is decided in `_math_sameness`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import product

from reasonweave.verifiers._math_algebra import (
    Form,
    TooBig,
    Unreadable,
    add,
    constant,
    equation,
    multiply,
    negative,
    positive_scale,
    rational,
    written,
)
from reasonweave.verifiers._math_expressions import FUNCTIONS, MOST_DEEP, expression
from reasonweave.verifiers._math_kinds import Answer, Choice, Group, Many, Matrix, Ratio, Relation, Union, Value, Words
from reasonweave.verifiers._math_tokens import CLOSES, JOINERS, OPENS, Token, Tokens, depths, latex, tokens
from reasonweave.verifiers._math_units import Unit, measured, unit

LONGEST = 1000
"""Answers of more characters than this are words: nobody's box holds so much mathematics."""


_RELATIONS = {"=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\approx": "~"}
_UNKNOWN = frozenset((r"\equiv", r"\pmod", r"\to", r"\Rightarrow", r"\implies", r"\iff", r"\forall", r"\exists", r"\subset",
                      r"\subseteq", r"\ldots", r"\dots", r"\cdots", r"\notin", r"\sum", r"\int", r"\prod", r"\lim"))  # fmt: skip
_BASES = {name: str(n) for n, name in enumerate(("two three four five six seven eight nine ten eleven twelve thirteen fourteen "
                                                 "fifteen sixteen").split(), 2)}  # fmt: skip
_MATRICES = frozenset(
    rf"\begin{{{name}}}" for name in ("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array")
)
MOST_SIGNS = 5
"""More plus-minus signs than this, each with two readings, are left alone."""


@lru_cache(maxsize=16_384)
def read(text: str) -> Answer:
    """What this answer says."""
    some = tokens(text) if len(text) <= LONGEST else ()
    if not some or max(depths(some)) > MOST_DEEP:
        return Words(("text", "".join(text.lower().split())), text)
    try:
        return _answer(some)
    except RecursionError:
        return Words(("text", "".join(text.lower().split())), text)


def scaled(value: Value, by: Fraction | Form) -> Value:
    """The value times a number, without its unit and mark."""
    factor = constant(by) if isinstance(by, Fraction) else by
    form = None if value.form is None else multiply(value.form, factor)
    size = by if isinstance(by, Fraction) else rational(by)
    times = r"\frac{\pi}{180}" if size is None else rf"\frac{{{size.numerator}}}{{{size.denominator}}}"
    return Value(_key(form, ""), rf"{times}\cdot ({value.latex})", form)


def listed(value: Value) -> Many | None:
    """A number with thousands marks as the list that it might be instead: 100,200."""
    parts = value.latex.split(",") if value.grouped else []
    if any(part.startswith("0") for part in parts):
        return None
    return Many(tuple(read(part) for part in parts), value.latex) if len(parts) > 1 else None


def _answer(some: Tokens) -> Answer:
    some = _unwrapped(some)
    if len(some) > 1 and some[0].text == "=":
        some = some[1:]
    if (choice := _choice(some)) is not None:
        return choice
    if (interval := _reversed_brackets(some)) is not None:
        return interval
    deep = depths(some)
    parts, joiners = _split(some, deep)
    if len(parts) > 1:
        return _several(some, parts, joiners)
    some = parts[0]
    deep = depths(some)
    signs = [i for i, token in enumerate(some) if token.text in _RELATIONS and not deep[i] and token.kind != "text"]
    if signs and not any(token.text in _UNKNOWN for token in some):
        return _relation(some, signs)
    if 0 < _signs(some) <= MOST_SIGNS and not _bracketed(some, (r"\{",)):
        return _many([_answer(each) for each in _both_signs(some)], latex(some))
    if any(token.text == r"\cup" and not deep[i] for i, token in enumerate(some)):
        pieces = list(_cut(some, [i for i, token in enumerate(some) if token.text == r"\cup" and not deep[i]]))
        if all(pieces):
            return Union(tuple(_answer(piece) for piece in pieces), latex(some))
    if _bracketed(some, OPENS):
        return _bracket(some)
    if (
        some
        and some[0].text in _MATRICES
        and some[-1].text == some[0].text.replace("begin", "end")
        and 1 not in _returns(some)
    ):
        return _matrix(some)
    return _leaf(some)


def _unwrapped(some: Tokens) -> Tokens:
    """Without the braces around it, which mean nothing."""
    while _bracketed(some, ("{",)):
        some = some[1:-1]
    return some


def _bracketed(some: Tokens, openings: frozenset[str] | tuple[str, ...]) -> bool:
    """Whether one pair of brackets holds it all."""
    if len(some) < 2 or some[0].text not in openings or some[-1].text not in CLOSES:
        return False
    return 0 not in depths(some)[1:-1] and depths(some)[-1] == 0


def _returns(some: Tokens) -> list[int]:
    """1 where an environment ends before the end."""
    return [int(depth == 0 and 0 < i < len(some) - 1) for i, depth in enumerate(depths(some))]


def _cut(some: Tokens, at: list[int]) -> Iterator[Tokens]:
    for start, end in zip([-1, *at], [*at, len(some)], strict=True):
        yield some[start + 1 : end]


def _split(some: Tokens, deep: list[int], *, thousands: bool = True) -> tuple[list[Tokens], list[str]]:
    """The parts between commas, semicolons, "and" and "or" outside of brackets, and what stands between them."""
    some = _thousands(some, deep) if thousands else some
    deep = depths(some)
    at, joiners, parts, last = list[int](), list[str](), list[Tokens](), -1
    for i, token in enumerate(some):
        if deep[i] == 0 and (token.text in (",", ";") or (token.kind == "word" and token.text.lower() in JOINERS)):
            at.append(i)
    for i in [*at, len(some)]:
        if i > last + 1:
            parts.append(some[last + 1 : i])
            joiners.append("")
        if joiners and i < len(some):
            joiners[-1] = some[i].text.lower()
        last = i
    return parts or [some], joiners[:-1]


def _thousands(some: Tokens, deep: list[int]) -> Tokens:
    """12,345,678 and 12 345 678 as one number, where all of the groups side by side can be thousands; not within brackets."""
    out, i = list[Token](), 0
    while i < len(some):
        end, spaced = _run(some, i, ","), _run(some, i, "")
        groups = [token.text for token in some[i:end] if token.kind == "number"]
        if end > i + 1 and not deep[i] and _grouped(groups):
            out.append(some[i]._replace(text=",".join(groups)))
        elif spaced > i + 1 and _grouped([token.text for token in some[i:spaced]]):
            end = spaced
            out.append(some[i]._replace(text="".join(token.text for token in some[i:end])))
        else:
            out += some[i:end]
        i = end
    return out


def _run(some: Tokens, start: int, between: str) -> int:
    """Where the numbers side by side from here on end: with commas and no space between them, or with spaces alone."""
    end = start + 1
    while some[start].kind == "number" and end < len(some):
        if not between and some[end].kind == "number" and some[end].gap:
            end += 1
        elif between and some[end].text == between and not some[end].gap and _follows(some, end + 1):
            end += 2
        else:
            break
    return end if between or end == len(some) or some[end].text not in ("/", "_") else start + 1


def _follows(some: Tokens, at: int) -> bool:
    return at < len(some) and some[at].kind == "number" and not some[at].gap


def _grouped(groups: list[str]) -> bool:
    middle = all(re.fullmatch(r"\d{3}", group) for group in groups[1:-1])
    return bool(middle and re.fullmatch(r"[1-9]\d{0,2}", groups[0]) and re.fullmatch(r"\d{3}(?:\.\d+)?", groups[-1]))


def _several(some: Tokens, parts: list[Tokens], joiners: list[str]) -> Answer:
    read_parts = list[Answer]()
    for part in parts:
        one = _answer(part)
        read_parts += one.parts if isinstance(one, Many) and not one.braces else [one]
    words = [isinstance(part, Words) and _wordy(part) for part in read_parts]
    if any(words) and not all(words):
        return _words(some)
    if len(read_parts) == 2 and (both := _bounds(read_parts[0], read_parts[1], joiners[0])) is not None:
        return both
    return _many(read_parts, latex(some), distinct={*joiners} == {"or"})


def _wordy(part: Words) -> bool:
    return isinstance(part.key, tuple) and part.key[0] == "text"


def _many(parts: list[Answer], source: str, *, braces: bool = False, distinct: bool = False) -> Answer:
    if braces or distinct:  # a set has each of its elements once
        parts = list({part.key: part for part in parts}.values())
    return parts[0] if len(parts) == 1 else Many(tuple(parts), source, braces)


def _bounds(a: Answer, b: Answer, joiner: str) -> Answer | None:
    """Two inequalities for one name: with "or" the union, with "and" what both leave."""
    if not (isinstance(a, Relation) and isinstance(b, Relation) and a.name == b.name and a.name):
        return None
    if not (a.sign in "<=>=" and b.sign in "<=>=" and isinstance(a.body, Group) and isinstance(b.body, Group)):
        return None
    source = f"{a.latex} {joiner} {b.latex}"
    if joiner == "or":
        return Relation("in", a.name, Union((a.body, b.body), rf"{a.body.latex}\cup {b.body.latex}"), None, source)
    if joiner == "and":
        low, high = (a.body, b.body) if a.body.parts[1] == _infinity(1) else (b.body, a.body)
        if low.parts[1] == _infinity(1) and high.parts[0] == _infinity(-1):
            return Relation(
                "in", a.name, _interval(low.brackets[0], low.parts[0], high.parts[1], high.brackets[1]), None, source
            )
    return None


def _signs(some: Tokens) -> int:
    return sum(token.text in (r"\pm", r"\mp") for token in some)


def _both_signs(some: Tokens) -> Iterator[Tokens]:
    """Each choice of signs; where a minus-plus is among them, all signs change together."""
    at = [i for i, token in enumerate(some) if token.text in (r"\pm", r"\mp")]
    together = any(some[i].text == r"\mp" for i in at)
    for signs in [(1,) * len(at), (-1,) * len(at)] if together else product((1, -1), repeat=len(at)):
        chosen = list(some)
        for i, sign in zip(at, signs, strict=True):
            chosen[i] = Token("mark", "+" if (sign > 0) == (some[i].text == r"\pm") else "-", some[i].gap)
        yield chosen


def _choice(some: Tokens) -> Choice | None:
    if (
        len(some) > 3
        and some[0].text == "("
        and some[2].text == ")"
        and re.fullmatch("[A-J]", some[1].text)
        and some[3].gap
    ):
        return Choice(some[1].text.lower(), _answer(some[3:]), latex(some))
    if len(some) > 2 and re.fullmatch("[A-J]", some[0].text) and some[1].text in (".", ":", ")") and some[2].gap:
        return Choice(some[0].text.lower(), _answer(some[2:]), latex(some))
    return None


def _reversed_brackets(some: Tokens) -> Answer | None:
    """]a, b[ for an open interval (ISO 80000-2)."""
    if (
        len(some) < 5
        or some[0].text not in "[]"
        or some[-1].text not in "[]"
        or (some[0].text, some[-1].text) == ("[", "]")
    ):
        return None
    inner = some[1:-1]
    parts, _ = _split(inner, depths(inner), thousands=False)
    if len(parts) != 2 or any(token.text in ("[", "]", r"\cup") for token in inner):
        return None
    return _interval(
        "(" if some[0].text == "]" else "[", _answer(parts[0]), _answer(parts[1]), ")" if some[-1].text == "[" else "]"
    )


def _interval(left: str, low: Answer, high: Answer, right: str) -> Group:
    return Group(left + right, (low, high), f"{left}{low.latex},{high.latex}{right}")


def _infinity(sign: int) -> Value:
    return Value(("infinity", sign), r"\infty" if sign > 0 else r"-\infty")


def _bracket(some: Tokens) -> Answer:
    left, right, inner = some[0].text, some[-1].text, some[1:-1]
    if not inner:
        return Words(("text", "\\emptyset" if left == r"\{" else "()"), r"\emptyset")
    deep = depths(inner)
    if left == r"\{":
        bars = [i for i, token in enumerate(inner) if token.text in ("|", ":") and not deep[i]]
        if len(bars) == 1 and isinstance(told := _answer(inner[bars[0] + 1 :]), Relation):
            return told  # {x : x > 3}
    parts, _ = _split(inner, deep, thousands=False)
    if len(parts) == 1 and left != r"\{":
        return _answer(inner)
    if left == r"\{" or right == r"\}":
        elements = list[Answer]()
        for part in parts:
            one = _answer(part)
            elements += one.parts if isinstance(one, Many) and not one.braces else [one]
        return _many(elements, latex(some), braces=True)
    if 0 < _signs(inner) <= MOST_SIGNS:
        return _many([_bracket(each) for each in _both_signs(some)], latex(some))
    brackets = "()" if left == r"\langle" else left + right
    return Group(brackets, tuple(_answer(part) for part in parts), latex(some))


def _matrix(some: Tokens) -> Matrix:
    rows = [row for row in _cells(some[1:-1], "\\\\") if row]
    return Matrix(
        tuple(tuple(_answer(cell) if cell else _words(cell) for cell in _cells(row, "&")) for row in rows), latex(some)
    )


def _cells(some: Tokens, mark: str) -> Iterator[Tokens]:
    deep = depths(some)
    return _cut(some, [i for i, token in enumerate(some) if token.text == mark and not deep[i]])


def _relation(some: Tokens, at: list[int]) -> Answer:
    sides, signs = list(_cut(some, at)), [_RELATIONS[some[i].text] for i in at]
    if not all(sides):
        return _leaf(some)
    names = [_name(side) for side in sides]
    source = latex(some)
    if signs[0] == "~":
        return Relation("=", names[0], _answer(sides[1]), None, source) if names[0] else _answer(sides[0])
    if set(signs) <= {"=", "~"}:
        if not names[0] and names[-1] and len(sides) == 2:
            sides, names = sides[::-1], names[::-1]
        last = sides[-1] if signs[-1] == "=" else sides[-2]
        function = _function(names[0], last)
        exact, final = (function, True) if function else _exact("=", sides)
        return Relation("=", names[0], _answer(last), exact, source, final)
    if signs == ["in"] and names[0]:
        return Relation("in", names[0], _answer(sides[1]), None, source)
    if len(signs) == 1 and signs[0] == "!=":
        return Relation("!=", "", _words(some), _exact("!=", sides)[0], source)
    if len(signs) == 1 and signs[0] in ("<", ">", "<=", ">="):
        return _inequality(sides, names, signs[0], source)
    if (
        len(signs) == 2
        and names[1]
        and len({sign[0] for sign in signs} - {"<"}) * len({sign[0] for sign in signs} - {">"}) == 0
    ):
        if signs[0][0] == ">":
            sides, signs = sides[::-1], signs[::-1]
        low, high = _answer(sides[0]), _answer(sides[2])
        left, right = "[" if signs[0].endswith("=") else "(", "]" if signs[1].endswith("=") else ")"
        return Relation("<", names[1], _interval(left, low, high, right), None, source)
    return Value(("raw", _letters(some)), source)


def _inequality(sides: list[Tokens], names: list[str], sign: str, source: str) -> Answer:
    flip = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
    exact, final = _exact(sign, sides)
    if not names[0] and names[1]:
        sides, names, sign = sides[::-1], names[::-1], flip[sign]
    if not names[0]:
        return Relation(sign, "", _words(sides[0]), exact, source, final)
    bound, closed = _answer(sides[1]), sign.endswith("=")
    if sign[0] == ">":
        body = _interval("[" if closed else "(", bound, _infinity(1), ")")
    else:
        body = _interval("(", _infinity(-1), bound, "]" if closed else ")")
    return Relation(sign, names[0], body, exact, source, final)


def _function(name: str, body: Tokens) -> Hashable:
    """A key for ``f(x) = …`` in which the letter x does not matter."""
    match = re.fullmatch(r"(\w)\((\w)\)", name)
    if not match or not match[2].isalpha():
        return None
    blank = [token._replace(text="·") if token.kind == "letter" and token.text == match[2] else token for token in body]
    return ("function", match[1], _answer(blank).key)


def _exact(sign: str, sides: list[Tokens]) -> tuple[Hashable, bool]:
    """A key for the relation, whatever was brought to the other side or multiplied out, None where a side is not understood; and
    whether another key would mean another relation, as for polynomials, up to repeated factors."""
    try:
        form = add(expression(sides[0]), negative(expression(sides[-1])))
    except (Unreadable, TooBig):
        return None, False
    if not form:
        return None, False
    final = all(part[0] in ("name", "pi") and k > 0 for monomial, _ in form for part, k in monomial)
    if sign in ("=", "!="):
        return (sign, written(equation(form))), final
    if sign[0] == "<":
        form = negative(form)
    return (">=" if sign.endswith("=") else ">", written(positive_scale(form))), final


def _name(some: Tokens) -> str:
    """What an equation is about where its side is no more than a name: ``x``, ``a_1``, ``f(x)``, ``AB``, ``(x, y)``, words."""
    if not some or max(depths(some)) > MOST_DEEP:
        return ""
    if _bracketed(some, ("(",)):
        parts, _ = _split(some[1:-1], depths(some[1:-1]), thousands=False)
        found = [_name(part) for part in parts]
        return f"({','.join(found)})" if all(found) else ""
    text = "".join(token.text for token in some)
    first, rest = some[0], some[1:]
    if first.text in (r"\angle", r"\triangle", r"\overline", r"\vec", r"\measuredangle", r"\operatorname"):
        return text
    if first.text == r"\pi" or first.text[1:] in FUNCTIONS or first.kind not in ("letter", "word", "text", "command"):
        return ""
    if (first.kind == "command" and not re.fullmatch(r"\\[a-zA-Z]{2,7}", first.text)) or first.text in (
        r"\frac",
        r"\sqrt",
        r"\infty",
    ):
        return ""
    if _is_wordy(some) and not any(token.kind == "mark" and token.text in "+*/^-" for token in some):
        return text.lower()
    while rest and rest[0].text == "_":
        sub = 2
        if len(rest) > 1 and rest[1].text == "{":
            sub = depths(rest)[1:].index(0, 1) + 2 if 0 in depths(rest)[2:] else len(rest)
        rest = rest[sub:]
    while rest and rest[0].text == "'":
        rest = rest[1:]
    if rest and not _bracketed(rest, ("(",)):
        return ""
    if rest and not all(token.kind in ("letter", "number", "mark") for token in rest):
        return ""
    return re.sub(r"[{}]", "", text)


def _is_wordy(some: Tokens) -> bool:
    """Whether these are words rather than products of letters."""
    words = [token for token in some if token.kind in ("word", "text") and len(token.text) > 1]
    if any(token.kind == "text" or len(token.text) > 3 for token in words):
        return True
    if len(some) == 1 and words:
        word = words[0].text.lower()
        return len(set(word)) < len(word) or len(word) > 2 or word in ("no", "up", "ok")
    return sum(token.gap for token in words) > 1


def _words(some: Tokens) -> Words:
    source = latex(some)
    said = " ".join(token.text for token in some).lower()
    if not any("\\" in token.text for token in some):
        said = re.sub(r"[^\w\s/+*^=<>.-]|\.(?!\d)", " ", said)
    return Words(("text", "".join(re.sub(r"^(?:an?|the) ", "", said.strip()).split())), source)


def _leaf(some: Tokens) -> Answer:
    bare, measure, mark, scale = measured(some)
    if (special := _numeral(bare) or _ratio(bare, measure)) is not None:
        return special
    if any(token.text in _UNKNOWN for token in bare) and not _is_wordy(bare):
        return Value(("raw", _letters(some)), latex(some))
    if _is_wordy(bare):
        return _words(some)
    if len(bare) == 1 and bare[0].kind in ("letter", "text") and len(bare[0].text) == 1:
        letter = (Token("letter", bare[0].text),)
        return Value(("letter", bare[0].text.lower()), latex(letter), _form(letter)[0])
    if "".join(token.text for token in bare) in (r"\infty", r"+\infty", r"-\infty"):
        return _infinity(-1 if bare[0].text == "-" else 1)
    if len(bare) == 1 and bare[0].text == r"\emptyset":
        return Words(("text", r"\emptyset"), r"\emptyset")
    if len(bare) == 1 and bare[0].text in (r"\R",):
        return _interval("(", _infinity(-1), _infinity(1), ")")
    form, hopeless = _form(bare)
    source = latex(bare)
    point, digits = _decimal(bare)
    value = Value(None, source, form, measure, mark, point, digits, any("," in token.text for token in bare), hopeless)
    if scale != 1:
        value = replace(scaled(value, Fraction(scale)), unit=measure, mark=mark)
    return replace(value, key=_key(value.form, _letters(bare), measure))


def _form(some: Tokens) -> tuple[Form | None, bool]:
    try:
        return expression(some), False
    except Unreadable:
        return None, False
    except TooBig:
        return None, True


def _letters(some: Tokens) -> str:
    """An expression as it is written, but for braces around one letter or digit and for spaces."""
    out = list[str]()
    for token in some:
        if token.text == "}" and len(out) > 1 and out[-2] == "{" and (len(out[-1]) == 1 or out[-1].startswith("\\")):
            out[-2:] = out[-1:]
        else:
            out.append(token.text)
    return " ".join(out)


def _key(form: Form | None, source: str, measure: Unit | None = None) -> Hashable:
    if form is None:
        return ("raw", source, measure)
    if measure is not None and measure not in (unit("dollar"), unit("degree")):
        return ("quantity", measure.dimension, written(multiply(form, constant(measure.factor))))
    value = rational(form)
    return value if value is not None else ("form", written(form))


def _decimal(some: Tokens) -> tuple[int, int]:
    """The digits after the point, and the significant ones, of a plain decimal."""
    bare = [token for token in some if token.text not in "+-"]
    if len(bare) != 1 or len(some) > 2 or bare[0].kind != "number" or not re.fullmatch(r"[\d,]*\.\d+", bare[0].text):
        return 0, 0
    digits = bare[0].text.replace(",", "")
    point, significant = len(digits.partition(".")[2]), len(digits.replace(".", "").lstrip("0"))
    left = point - significant + 12  # of what a computer printed: see `decimal`
    return (left, 12) if significant >= 15 and left > 0 else (point, significant)


def _numeral(some: Tokens) -> Words | None:
    """A numeral with its base: ``204_5``, ``1A_{16}``, ``(11)_{\\text{two}}``."""
    at = next((i for i, token in enumerate(some) if token.text == "_"), 0)
    digits = "".join(token.text for token in some[:at]).strip("()")
    base = "".join(token.text for token in some[at + 1 :]).strip("{}()").lower() if at else ""
    base = _BASES.get(base, base)
    if not at or not re.fullmatch(r"-?[0-9a-zA-Z.]*\d[0-9a-zA-Z.]*", digits) or not re.fullmatch(r"\d{1,2}", base):
        return None
    return Words(("base", digits.lower(), int(base)), latex(some))


def _ratio(some: Tokens, measure: Unit | None) -> Ratio | None:
    deep = depths(some)
    at = [i for i, token in enumerate(some) if token.text == ":" and not deep[i]]
    found = [None if form is None else rational(form) for form, _ in map(_form, _cut(some, at))] if at else []
    terms = [term for term in found if term]
    time = re.fullmatch(r"0?(\d\d?:[0-5]\d)", "".join(token.text for token in some))
    if time and len(terms) < len(found):
        return Ratio((), latex(some), time[1], measure)
    if not terms or len(terms) < len(found):
        return None
    shrink = math.lcm(*(term.denominator for term in terms))
    whole = [int(term * shrink) for term in terms]
    lowest = tuple(Fraction(n, math.gcd(*whole)) for n in whole)
    return Ratio(lowest, latex(some), time[1] if time else "", measure)
