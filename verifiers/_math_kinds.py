r"""The kinds of mathematical answers: a value, words, a list, a tuple or interval, a union, a matrix, an equation, a choice.

Each has an exact `key`, which answers that are certainly the same share, and its `latex`, for whom is asked about it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from reasonweave.verifiers._math_algebra import Form, real_value, written
from reasonweave.verifiers._math_units import Unit


@dataclass(frozen=True, slots=True)
class Value:
    """One expression. `form` is None where it is not understood; then `hopeless` says that nobody should try.

    `mark`: "%" or "°". `point`: the digits after the point of a plain decimal, and `digits` its significant ones, else 0.
    """

    key: Hashable
    latex: str
    form: Form | None = None
    unit: Unit | None = None
    mark: str = ""
    point: int = 0
    digits: int = 0
    grouped: bool = False
    hopeless: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """Text; also numerals in another base, and clock times: what is either written the same or different."""

    key: Hashable
    latex: str


@dataclass(frozen=True, slots=True)
class Many:
    """Several answers whose order does not matter; `braces` says that it was written as a set."""

    parts: tuple[Answer, ...]
    latex: str
    braces: bool = False

    @property
    def key(self) -> Hashable:
        return ("many", *sorted((part.key for part in self.parts), key=written))


@dataclass(frozen=True, slots=True)
class Group:
    """A tuple, a vector, or an interval: which one, only the brackets tell."""

    brackets: str
    parts: tuple[Answer, ...]
    latex: str

    @property
    def key(self) -> Hashable:
        return ("group", self.brackets if len(self.parts) == 2 else "()", *(part.key for part in self.parts))


@dataclass(frozen=True, slots=True)
class Union:
    """A union of sets."""

    parts: tuple[Answer, ...]
    latex: str

    @property
    def key(self) -> Hashable:
        return pieces(self) or ("union", *sorted({part.key for part in self.parts}, key=written))


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of cells."""

    rows: tuple[tuple[Answer, ...], ...]
    latex: str

    @property
    def key(self) -> Hashable:
        return ("matrix", *(tuple(cell.key for cell in row) for row in self.rows))


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation or an inequality.

    `name` is what it is about (``x``, ``f(x)``), where one side is no more than a name, and `body` what it says of it: a value,
    or the interval that the inequalities leave. Without a name, `body` is the last side. `exact` is a key for the relation as a
    whole; where it is `final`, another key means another relation.
    """

    sign: str
    name: str
    body: Answer
    exact: Hashable
    latex: str
    final: bool = False

    @property
    def key(self) -> Hashable:
        return ("named", self.name, self.body.key) if self.name else ("relation", self.exact)


@dataclass(frozen=True, slots=True)
class Choice:
    """A letter of a multiple choice together with what it stands for: ``(C) 12``."""

    letter: str
    body: Answer
    latex: str

    @property
    def key(self) -> Hashable:
        return ("choice", self.letter, self.body.key)


@dataclass(frozen=True, slots=True)
class Ratio:
    """3 : 4, or 1 : 2 : 3, in lowest terms; `clock` as it stands where it might be a time, and `half` whether before noon."""

    terms: tuple[Fraction, ...]
    latex: str
    clock: str = ""
    half: Unit | None = None

    @property
    def key(self) -> Hashable:
        return ("clock", self.clock, self.half) if self.clock else ("ratio", *self.terms)


Answer: TypeAlias = Value | Words | Many | Group | Union | Matrix | Relation | Choice | Ratio


def pieces(answer: Answer) -> Hashable:
    """A set of real numbers as a key: disjoint intervals and points in order, however it was cut; None where that is not known.

    (0, 1] ∪ [1, 2) has the key of (0, 2).
    """
    parts = answer.parts if isinstance(answer, Union) else (answer,)
    found = list[_Piece]()
    for part in parts:
        for each in part.parts if isinstance(part, Many) else (part,):
            low, high, brackets = each, each, "[]"
            if isinstance(each, Group) and len(each.parts) == 2:
                (low, high), brackets = each.parts, each.brackets
            start, end = _real(low), _real(high)
            if start is None or end is None or start > end:
                return None
            found.append(_Piece(start, end, low.key, high.key, brackets[0] == "[", brackets[1] == "]"))
    found.sort(key=lambda piece: (piece.low, not piece.left))
    joined = found[:1]
    for piece in found[1:]:
        last = joined[-1]
        order = _order(piece.low, piece.low_key, last.high, last.high_key)
        reach = _order(piece.high, piece.high_key, last.high, last.high_key)
        if order is None or reach is None:
            return None
        if order > 0 or (order == 0 and not (piece.left or last.right)):
            joined.append(piece)
            continue
        if _order(piece.low, piece.low_key, last.low, last.low_key) == 0:
            last = last._replace(left=last.left or piece.left)
        if reach > 0:
            last = last._replace(high=piece.high, high_key=piece.high_key, right=piece.right)
        elif reach == 0:
            last = last._replace(right=last.right or piece.right)
        joined[-1] = last
    keys = [
        piece.low_key
        if piece.low_key == piece.high_key
        else ("group", "(["[piece.left] + ")]"[piece.right], piece.low_key, piece.high_key)
        for piece in joined
    ]
    return keys[0] if len(keys) == 1 else ("union", *keys)


class _Piece(NamedTuple):
    low: float
    high: float
    low_key: Hashable
    high_key: Hashable
    left: bool
    right: bool


def _real(answer: Answer) -> float | None:
    if not isinstance(answer, Value):
        return None
    if isinstance(answer.key, tuple) and answer.key[0] == "infinity":
        return math.inf if answer.key[1] > 0 else -math.inf
    return None if answer.form is None else real_value(answer.form)


def _order(a: float, key_a: Hashable, b: float, key_b: Hashable) -> float | None:
    """The sign of a - b; None where they are too near to tell and not known to be the same."""
    if key_a == key_b:
        return 0
    return None if abs(a - b) <= 1e-9 * max(abs(a), abs(b)) and math.isfinite(a) else a - b
