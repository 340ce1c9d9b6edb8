"""Is a claim right? All that is ambiguous is read in every way before anything is blamed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

from reasonweave.verifiers._claims_tree import Call, Member, Name, Node, Num, Op, nodes
from reasonweave.verifiers._claims_values import Irrational, Reading, Undecided, Value, exact, fifty_digits, value
from reasonweave.verifiers._claims_words import factors

Verdict: TypeAlias = Literal["right", "wrong", "open"]

SAME = Fraction(1, 10**30)
"""Two numbers that are no fractions are the same where they differ by less than this share of them."""
APART = Fraction(1, 10**12)
"""They differ where they differ by more than this share; between the two nothing is said."""
NEAR = Fraction(1, 100)
"""What ≈ allows, as a share of the number."""
FAR = Fraction(1, 10)
"""What ≈ certainly does not allow."""

_SMOOTH = frozenset({"neg", "%", "deg", "pi", "base", "identity", "sin", "cos", "exp", "mixed"})
"""Functions of which a difference that is constant somewhere is constant everywhere."""
_WHOLE = frozenset({"!", "binom", "gcd", "lcm"})
"""Functions of whole numbers only."""


class Judgement(NamedTuple):
    """A verdict, and why."""

    verdict: Verdict
    why: str = ""


def judge(
    left: Member, relation: str, right: Member, *, known: Mapping[str, Fraction], modulus: int | None
) -> Judgement:
    """What is to be said of ``left relation right``, doubts about the text around it aside.

    `known` are letters with a value; `modulus` is what the claim is modulo.
    """
    if relation == "≡" or modulus is not None:
        return _congruent(left, relation, right, known, modulus)
    letters = {
        node.text for side in (left, right) for node in nodes(side.node) if isinstance(node, Name)
    } - known.keys()
    if isinstance(left.node, Name) or isinstance(right.node, Name):
        return Judgement("open", "says what a letter is")
    if letters:
        return _in_letters(left.node, relation, right.node, sorted(letters), known)
    return _in_numbers(left, relation, right, known)


def _in_numbers(left: Member, relation: str, right: Member, known: Mapping[str, Fraction]) -> Judgement:
    first: Judgement | None = None
    for reading, usual in _readings(left, right, known):
        try:
            a, b = value(left.node, reading), value(right.node, reading)
        except Undecided as error:
            found = Judgement("open", str(error))
        else:
            found = _compared(left.node, a, relation, right.node, b, reading)
        if found.verdict == "right":
            return found if usual else Judgement("open", "right in a loose reading of the percent sign")
        if found.verdict == "open":
            first = found
        first = first or found
    assert first is not None
    if first.verdict == "wrong" and (why := _converted(left, right, known)):
        return Judgement("open", why)
    if first.verdict == "wrong" and (_share_of(left, right, known) or _share_of(right, left, known)):
        return Judgement("open", "a percentage of what is not said")
    return first


def _readings(left: Member, right: Member, known: Mapping[str, Fraction]) -> Iterator[tuple[Reading, bool]]:
    """Every way to read the two sides, the plain one first; and whether it is a usual one."""
    plain = Reading(letters=known)
    yield plain, True
    sides = [{node.name for node in nodes(side.node) if isinstance(node, Call)} for side in (left, right)]
    names = sides[0] | sides[1]
    if "%" in names:
        yield replace(plain, discount=True), True
        if ("%" in sides[0]) != ("%" in sides[1]) and (left if "%" in sides[0] else right).bare:
            yield replace(plain, percent=1), False
    if "mixed" in names:
        yield replace(plain, product=True), True
    if "deg" in names and ("pi" in names or "sin" in names):
        yield replace(plain, radians=True), True
    if names & {"arcsin", "arccos", "arctan"}:
        yield replace(plain, radians=True), True
    if names & {"log", "lg"}:
        yield replace(plain, decimal=False), True


def _compared(left: Node, a: Value, relation: str, right: Node, b: Value, reading: Reading) -> Judgement:
    """One reading's verdict."""
    told = f"the left side is {shown(a)}, the right side {shown(b)}"
    if relation in "<>≤≥":
        return _ordered(a, relation, b, told)
    same = _same(a, b)
    if relation == "≠":
        return Judgement("open" if same is None else "wrong" if same else "right", told)
    if same is None:
        return Judgement("open", "too near to tell")
    if same:
        return Judgement("right", told)
    if relation == "≈":
        return _near(left, a, right, b, told)
    for node, mine, other in ((right, b, a), (left, a, b)):
        places = shown_places(node, reading)
        if not places or _real(mine) is None or (number := _real(other)) is None:
            continue
        if abs(number - mine) * 2 * 10**places <= 1:
            return Judgement("right", f"rounded to {places} digits")
        if abs(number) > abs(mine) and abs(number - mine) * 10**places < 1:
            return Judgement("open", "cut off, not rounded")
    if _rounded_before(left, a, right, b, reading):
        return Judgement("open", "within the rounding of the numbers in it")
    return Judgement("wrong", told)


def _same(a: Value, b: Value) -> bool | None:
    """Are two values the same? None where that is too near to tell."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = _digits(a), _digits(b)
    size = max(abs(a), abs(b))
    gap = abs(a - b)
    if gap <= size * _digits(SAME) or gap < _digits(Fraction(1, 10**40)):
        return True
    return False if gap > size * _digits(APART) else None


def _gap(a: Value, b: Value) -> Value:
    return a - b if isinstance(a, Fraction) and isinstance(b, Fraction) else _digits(a) - _digits(b)


def _digits(number: Value) -> Value:
    if isinstance(number, Fraction):
        return fifty_digits().mpf(number.numerator) / number.denominator
    return number


def _real(number: Value) -> Value | None:
    """A value as a real fraction, None where it is complex."""
    if isinstance(number, Fraction):
        return number
    if getattr(number, "imag", 0) != 0:
        return None
    return Fraction(str(number.real))


def _ordered(a: Value, relation: str, b: Value, told: str) -> Judgement:
    left, right = _real(a), _real(b)
    if left is None or right is None:
        return Judgement("open", "complex numbers have no order")
    if (same := _same(a, b)) is None:
        return Judgement("open", "too near to tell")
    holds = relation in "≤≥" if same else (left < right) == (relation in "<≤")
    return Judgement("right" if holds else "wrong", told)


def _near(left: Node, a: Value, right: Node, b: Value, told: str) -> Judgement:
    a, b = _real(a), _real(b)
    if a is None or b is None:
        return Judgement("open", "complex numbers")
    gap, size = abs(a - b), max(abs(a), abs(b))
    unit = max(_unit(left), _unit(right))
    if gap <= NEAR * size or gap * 2 <= unit:
        return Judgement("right", told)
    return Judgement("wrong" if gap > FAR * size and gap * 4 > unit * 3 else "open", told)


def _unit(node: Node) -> Fraction:
    """One in the last place that a literal shows; trailing zeros of a whole number show nothing."""
    while isinstance(node, Call) and node.name in ("neg", "%"):
        node = node.args[0]
    if not isinstance(node, Num):
        return Fraction(0)
    unit = Fraction(1, 10**node.places)
    while not node.places and node.value and node.value % (unit * 10) == 0:
        unit *= 10
    return unit


def shown_places(node: Node, reading: Reading) -> int | None:
    """The digits after the point that a literal shows; None for what is no literal."""
    if isinstance(node, Num):
        return node.places if node.value.denominator == 1 or node.places else None
    if isinstance(node, Call) and node.name in ("neg", "deg"):
        return shown_places(node.args[0], reading)
    if isinstance(node, Call) and node.name == "%":
        inner = shown_places(node.args[0], reading)
        return None if inner is None else inner + 2 * (reading.percent == 100)
    return None


def _rounded_before(left: Node, a: Value, right: Node, b: Value, reading: Reading) -> bool:
    """May the difference come from decimals that are rounded themselves, as in 33.33 * 3 = 100?

    Not where the result shows as many digits as the exact one has: then it is a slip.
    """
    a, b = _real(a), _real(b)
    if a is None or b is None:
        return False
    shares = [
        Fraction(1, 2 * 10**node.places) / abs(node.value)
        for side in (left, right)
        if shown_places(side, reading) is None
        for node in nodes(side)
        if isinstance(node, Num) and node.places >= 2 and node.value
    ]
    if not shares or abs(a - b) > sum(shares) * max(abs(a), abs(b)):
        return False
    for node, other in ((right, a), (left, b)):
        places = shown_places(node, reading)
        if places is not None and (other * 10**places).denominator == 1:
            return False
    return True


def _converted(left: Member, right: Member, known: Mapping[str, Fraction]) -> str:
    """Why a difference may be one of units only, empty where it cannot be."""
    if left.units and right.units and not left.units & right.units:
        return "its sides have different units"
    if bool(left.units) == bool(right.units):
        return ""
    try:
        a, b = (exact(side.node, Reading(letters=known)) for side in (left, right))
    except (Undecided, Irrational, ZeroDivisionError):
        return ""
    if a and b and (a / b in factors(left.units | right.units) or b / a in factors(left.units | right.units)):
        return "its sides may have different units"
    return ""


def _share_of(percent: Member, other: Member, known: Mapping[str, Fraction]) -> bool:
    """Does one side only say what share of something the other is, as in 48 = 120 %?"""
    calls = [node for node in nodes(percent.node) if isinstance(node, Call) and node.name == "%"]
    numbers = [node for node in nodes(percent.node) if isinstance(node, Num)]
    if (
        not calls
        or len(calls) != len(numbers)
        or any(isinstance(node, Call) and node.name == "%" for node in nodes(other.node))
    ):
        return False
    try:
        return abs(exact(other.node, Reading(letters=known))) > 1
    except (Undecided, Irrational, ZeroDivisionError):
        return True


def _congruent(
    left: Member, relation: str, right: Member, known: Mapping[str, Fraction], modulus: int | None
) -> Judgement:
    if modulus is None:
        return Judgement("open", "modulo what is not said")
    if relation not in ("≡", "="):
        return Judgement("open", "an inequality has no modulus")
    try:
        a, b = residue(left.node, modulus, known), residue(right.node, modulus, known)
    except Undecided as error:
        return Judgement("open", str(error))
    told = f"modulo {modulus} the left side is {a}, the right side {b}"
    return Judgement("right" if a == b else "wrong", told)


def residue(node: Node, modulus: int, known: Mapping[str, Fraction]) -> int:
    """A whole number modulo another, powers of any size included. Raises `Undecided`."""
    if isinstance(node, Op) and node.symbol in "+-*":
        a, b = residue(node.left, modulus, known), residue(node.right, modulus, known)
        return (a + b if node.symbol == "+" else a - b if node.symbol == "-" else a * b) % modulus
    if isinstance(node, Op) and node.symbol == "^":
        exponent = value(node.right, Reading(letters=known))
        if not isinstance(exponent, Fraction) or exponent.denominator != 1 or exponent < 0:
            raise Undecided("an exponent that is no whole number")
        return pow(residue(node.left, modulus, known), int(exponent), modulus)
    if isinstance(node, Call) and node.name == "neg":
        return -residue(node.args[0], modulus, known) % modulus
    number = value(node, Reading(letters=known))
    if not isinstance(number, Fraction) or number.denominator != 1:
        raise Undecided("no whole number")
    return int(number) % modulus


def _points(letters: list[str], whole: bool) -> list[dict[str, Fraction]]:
    """Where an equation in letters is tried: numbers that no equation was made for."""
    rng = random.Random("/".join(letters))
    if whole:
        return [{letter: Fraction(rng.randint(5, 14)) for letter in letters} for _ in range(4)]
    signs = [(1, 1, 1, 1, 1), (-1, 1, -1, 1, 1)]
    return [
        {
            letter: Fraction(rng.randint(200, 9999), rng.randint(101, 997)) * signs[k % 2][i % 5]
            for i, letter in enumerate(letters)
        }
        for k in range(6)
    ]


def _in_letters(left: Node, relation: str, right: Node, letters: list[str], known: Mapping[str, Fraction]) -> Judgement:
    """An identity is right, a contradiction wrong, an equation open.

    Both sides are computed at a few points that nobody could have had in mind. Where they agree at all of them, it is an identity
    (two different rational functions agree at a random point hardly ever: Schwartz, 1980; Zippel, 1979). Where they differ at
    all of them by one and the same number, no value of the letters makes it true.
    """
    if relation == "≠" or len(letters) > 12:
        return Judgement("open", "an equation in " + ", ".join(letters[:3]))
    every = [node for side in (left, right) for node in nodes(side)]
    names = {node.name for node in every if isinstance(node, Call)}
    whole = bool(names & _WHOLE)
    unknown = Judgement("open", f"holds for some {', '.join(letters[:3])} only, if for any")
    gaps: list[Value] = []
    for point in _points(letters, whole):
        reading = Reading(letters={**known, **point})
        try:
            a, b = value(left, reading), value(right, reading)
        except Undecided:
            continue
        if _same(a, b) is None:
            return unknown
        gaps.append(Fraction(0) if _same(a, b) else _gap(a, b))
        if len(gaps) == 2 and gaps[0] != gaps[1] and _same(gaps[0], gaps[1]) is False:
            break
    constants = {"e", "i"} & set(letters)
    if (
        constants
        and not any(gap == 0 for gap in gaps)
        and (found := _with_constants(left, relation, right, letters, known))
    ):
        return found
    if len(gaps) < 2:
        return unknown
    rational = names <= {"neg", "%", "deg", "base", "identity", "mixed"} and all(
        not isinstance(node, Op) or node.symbol in "+-*/" or (node.symbol == "^" and isinstance(node.right, Num))
        for node in every
    )
    if all(gap == 0 for gap in gaps):
        return Judgement(
            "right" if relation in "=≤≥≈" else "wrong" if relation in "<>" and rational else "open", "an identity"
        )
    smooth = names <= _SMOOTH and all(not isinstance(node, Op) or node.symbol in "+-*/^" for node in every)
    constant = len(gaps) >= 4 and not whole and smooth and all(_same(gap, gaps[0]) for gap in gaps)
    if not constant or (isinstance(left, Name) and any(node == left for node in nodes(right))):
        return unknown
    if relation in "<>≤≥" and (gap := _real(gaps[0])) is not None:
        holds = (gap < 0) == (relation in "<≤")
        return Judgement(
            "right" if holds else "wrong", f"the sides differ by {shown(gaps[0])} whatever the letters are"
        )
    if relation == "=":
        return Judgement("wrong", f"no {', '.join(letters[:3])} makes it true: the sides differ by {shown(gaps[0])}")
    return unknown


def _with_constants(
    left: Node, relation: str, right: Node, letters: list[str], known: Mapping[str, Fraction]
) -> Judgement | None:
    """Right where e is Euler's number and i the imaginary unit."""
    rest = [letter for letter in letters if letter not in ("e", "i")]
    for point in _points(rest, False)[:2]:
        reading = Reading(constants=True, letters={**known, **point})
        try:
            a, b = value(left, reading), value(right, reading)
        except Undecided:
            return None
        if relation not in "=≈" or _compared(left, a, relation, right, b, reading).verdict != "right":
            return None
    return Judgement("right", "with the constants e and i")


def shown(number: Value) -> str:
    """A value as people write it.

    >>> [shown(Fraction(*pair)) for pair in ((45, 1), (1, 2), (1, 3), (22, 7))]
    ['45', '0.5', '1/3', '22/7']
    """
    if not isinstance(number, Fraction):
        return _mp_text(number)
    if number.numerator.bit_length() > 200 or number.denominator.bit_length() > 200:
        return "a very large number" if abs(number) > 1 else "a long fraction"
    if number.denominator == 1:
        return str(number.numerator)
    for places in range(1, 7):
        if (number * 10**places).denominator == 1:
            return f"{float(number):.{places}f}"
    return str(number)


def _mp_text(number: Value) -> str:
    if getattr(number, "imag", 0) != 0:
        return f"{float(number.real):.6g}{float(number.imag):+.6g}i"
    return f"{float(number.real):.10g}" if abs(number.real) < 1e300 else "a very large number"
