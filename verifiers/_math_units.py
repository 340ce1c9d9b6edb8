r"""Units of measure: which there are, and what they are of one another.

>>> unit("square centimeters") == unit("cm", 2), unit("km/h").factor * 3600, unit("apples")
(True, Fraction(1000, 1), None)
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from reasonweave.verifiers._math_tokens import PLAIN_NAMES, Token, Tokens


class Unit(NamedTuple):
    """What is measured ("length^2") and how many base units one of it is."""

    dimension: str
    factor: Fraction


_LENGTHS = {
    "mm": "1/1000", "millimeter": "1/1000", "cm": "1/100", "centimeter": "1/100", "dm": "1/10", "decimeter": "1/10", "m": "1",
    "meter": "1", "km": "1000", "kilometer": "1000", "in": "0.0254", "inch": "0.0254", "inche": "0.0254", "ft": "0.3048",
    "foot": "0.3048", "feet": "0.3048", "yd": "0.9144", "yard": "0.9144", "mi": "1609.344", "mile": "1609.344",
}  # fmt: skip
_TIMES = {
    "s": "1", "sec": "1", "second": "1", "min": "60", "minute": "60", "h": "3600", "hr": "3600", "hour": "3600", "day": "86400",
    "week": "604800",
}  # fmt: skip
_MASSES = {
    "mg": "0.001", "milligram": "0.001", "g": "1", "gram": "1", "kg": "1000", "kilogram": "1000", "lb": "453.59237",
    "pound": "453.59237", "oz": "28.349523125", "ounce": "28.349523125",
}  # fmt: skip
_VOLUMES = {"l": "1/1000", "liter": "1/1000", "ml": "1/1000000", "milliliter": "1/1000000", "cc": "1/1000000"}
_OTHERS = {
    "money": {"dollar": "1", "usd": "1", "buck": "1", "cent": "1/100", "penny": "1/100", "pennie": "1/100"},
    "euro": {"euro": "1", "eur": "1"},
    "month": {"month": "1", "year": "12", "yr": "12"},
    "am": {"am": "1"},
    "pm": {"pm": "1"},
    "angle": {"degree": "1", "deg": "1"},
}
_KNOWN: dict[str, Unit] = {}
for _dimension, _table in {
    "length": _LENGTHS,
    "time": _TIMES,
    "mass": _MASSES,
    "length^3": _VOLUMES,
    **_OTHERS,
}.items():
    _KNOWN |= {name: Unit(_dimension, Fraction(factor)) for name, factor in _table.items()}

SHORT = frozenset(name for name in _KNOWN if 2 <= len(name) <= 3) - {"in", "am", "pm"} | {"mph", "kmh", "kph", "sq"}
"""Names of two or three letters that are units also outside of ``\\text{…}``, after a number."""

SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_NOT_UNITS = frozenset("if when where for only more less least most or and not mod modulo otherwise unless except than is are "
                       "to from with no all any such that".split())  # fmt: skip
_ANGULAR = frozenset("\\" + name for name in PLAIN_NAMES if name[:3] in ("sin", "cos", "tan", "cot", "sec", "csc"))
_CURRENCIES = frozenset(("dollar", "euro", "pound sterling", "yen"))
_POWERS = {"square": 2, "sq": 2, "sq.": 2, "squared": 2, "cubic": 3, "cu": 3, "cu.": 3, "cubed": 3}


@lru_cache(maxsize=4096)
def unit(text: str, exponent: int = 1) -> Unit | None:
    """The unit of this name, to this power; None where there is none, as for apples."""
    text = {"mph": "mi/h", "kmh": "km/h", "kph": "km/h"}.get(text.strip(" .").lower(), text.strip(" ."))
    above, _, below = re.sub(r"\s*(?:/|\bper\b)\s*", "/", text).partition("/")
    one = _simple(above, exponent)
    if one is None or not below:
        return one
    other = _simple(below, 1)
    return other and Unit(f"{one.dimension}/{other.dimension}", one.factor / other.factor)


def _simple(text: str, exponent: int) -> Unit | None:
    if match := re.fullmatch(r"([a-zA-Z]+)\s*\^?\s*\{?([23])\}?", text):
        text, exponent = match[1], int(match[2])
    words = [
        word for word in re.split(r"[\s-]+", text.lower().replace("metre", "meter").replace("litre", "liter")) if word
    ]
    for word in list(words):
        if word in _POWERS and len(words) > 1:
            words.remove(word)
            exponent *= _POWERS[word]
    if len(words) != 1:
        return None
    known = _KNOWN.get(words[0]) or _KNOWN.get(words[0].removesuffix("s"))
    if known is None or exponent == 1:
        return known
    base, _, power = known.dimension.partition("^")
    return Unit(f"{base}^{exponent * int(power or 1)}", known.factor**exponent)


def measured(some: Tokens) -> tuple[Tokens, Unit | None, str, int]:
    """An expression without its unit; the unit, where it is a known one; the mark; and the factor of "million" and its like."""
    mark, scale = "", 1
    if len(some) > 1 and some[0].kind == "text" and some[0].text in _CURRENCIES:
        return some[1:], unit(some[0].text), "", 1
    if len(some) > 1 and some[-1].text == "%":
        return some[:-1], None, "%", 1
    for tail in (("^", "circ"), ("^", "{", "circ", "}"), ("circ",)):
        for temperature in (0, 1):
            end = len(some) - temperature
            if (
                end > len(tail)
                and not _has_angle(some[: end - len(tail)])
                and tuple(token.text for token in some[end - len(tail) : end]) == tail
            ):
                if temperature and some[-1].text not in ("C", "F"):
                    continue
                return some[: end - len(tail)], None if temperature else unit("degree"), "" if temperature else "°", 1
    start = _unit_start(some)
    if not start or start == len(some):
        return some, None, mark, scale
    said = " ".join(token.text for token in some[start:])
    said = re.sub(r"\s*\^\s*\{?\s*(\d)\s*\}?", r"^\1", said).replace("*", " ")
    first, _, rest = said.lower().partition(" ")
    if first in SCALES:
        scale, said = SCALES[first], rest
    if re.fullmatch(r"percent(?:age)?|pct", said.lower().strip(". ")):
        return some[:start], None, "%", scale
    exponent = re.search(r"\^(\d)$", said)
    measure = (
        unit(said[: exponent.start()] if exponent else said, int(exponent[1]) if exponent else 1) if said else None
    )
    return some[:start], measure, "°" if measure == unit("degree") else "", scale


def _has_angle(some: Tokens) -> bool:
    """Whether a degree sign after this belongs to what a function is of, or to one of several angles."""
    return any(token.text == "circ" or token.text in _ANGULAR for token in some)


def _unit_start(some: Tokens) -> int:
    """Where the unit at the end begins; 0 where none does."""
    at = len(some)
    while at > 1:
        token = some[at - 1]
        exponent = 2 if len(some) > at - 2 >= 1 and some[at - 2].text == "^" and token.text.isdigit() else 0
        if token.text == "}" and at > 4 and some[at - 4].text == "^" and some[at - 2].text.isdigit():
            exponent = 4
        if exponent and at - exponent > 1 and _is_unit(some[at - exponent - 1]):
            at -= exponent + 1
        elif token.text in ("s", "h") and at > 2 and some[at - 2].text == "/" and _is_unit(some[at - 3]):  # km/h
            at -= 2
        elif _is_unit(token) or (token.text in ("/", "*", ".") and at < len(some) and _is_unit(some[at - 2])):
            at -= 1
        else:
            break
    if at < 1 or some[at - 1].text in ("+", "-", "*", "/", "^", "=", "_", "("):
        return 0
    return 0 if all(token.kind in ("text", "word") for token in some[:at]) else at


def _is_unit(token: Token) -> bool:
    words = re.split(r"[\s./-]+", token.text.lower())
    if token.kind == "text":
        return not _NOT_UNITS.intersection(words) and token.text.lower() not in PLAIN_NAMES
    return (
        token.kind == "word"
        and not _NOT_UNITS.intersection(words)
        and (words[0] in SHORT or (token.gap and len(words[0]) > 3))
    )
