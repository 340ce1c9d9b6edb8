"""What a member is worth: exactly in fractions where that is possible, to fifty digits where not, and within bounds always."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from reasonweave.verifiers._claims_tree import Call, Name, Node, Num, Op

BITS = 20_000
"""Bits of the largest numerator or denominator that is computed with."""
LARGEST_FACTORIAL = 400
DIGITS = 50
"""Digits that numbers which are no fractions are computed to."""

Value: TypeAlias = Any
"""A Fraction, or a complex number of mpmath's."""


class Undecided(Exception):
    """This cannot be computed, or is too large to be."""


class Irrational(Exception):
    """This is no fraction."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read what is ambiguous.

    `percent` is what % divides by; `discount`: "80 - 25 %" takes a quarter off; `product`: a mixed number is a product after
    all; `constants`: e and i are not letters; `radians`: a degree is π/180; `decimal`: log has base 10; `letters` are known.
    """

    percent: int = 100
    discount: bool = False
    product: bool = False
    constants: bool = False
    radians: bool = False
    decimal: bool = True
    letters: Mapping[str, Fraction] = field(default_factory=lambda: MappingProxyType({}))


def value(node: Node, reading: Reading) -> Value:
    """The value of a node. Raises `Undecided`."""
    try:
        return exact(node, reading)
    except Irrational:
        return Digits(reading).of(node)
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise Undecided(str(error)) from None


def _bounded(number: Fraction) -> Fraction:
    if number.numerator.bit_length() > BITS or number.denominator.bit_length() > BITS:
        raise Undecided("the numbers are too large")
    return number


def exact(node: Node, reading: Reading) -> Fraction:
    """The value as a fraction. Raises `Irrational`, `Undecided`, `ZeroDivisionError`."""
    if isinstance(node, Num):
        return node.value
    if isinstance(node, Name):
        if (known := reading.letters.get(node.text)) is not None:
            return known
        if reading.constants and node.text in ("e", "i"):
            raise Irrational
        raise Undecided(f"{node.text} is not known")
    if isinstance(node, Op):
        return _bounded(_operation(node, reading))
    return _bounded(_call(node, reading))


def _operation(node: Op, reading: Reading) -> Fraction:
    left = exact(node.left, reading)
    if node.symbol in "+-":
        if reading.discount and isinstance(node.right, Call) and node.right.name == "%":
            right = left * exact(node.right, reading)
        else:
            right = exact(node.right, reading)
        return left + right if node.symbol == "+" else left - right
    right = exact(node.right, reading)
    match node.symbol:
        case "*":
            return left * right
        case "/":
            return left / right
        case "^":
            return power(left, right)
        case _:
            return left % right


def power(base: Fraction, exponent: Fraction) -> Fraction:
    """base ** exponent, where it is a fraction and not too large."""
    if exponent.denominator != 1:
        if base < 0:
            raise Undecided("a root of a negative number")
        if exponent.denominator > 64:
            raise Irrational
        return power(root(base, exponent.denominator), Fraction(exponent.numerator))
    if base in (0, 1, -1):
        if base == 0 and exponent <= 0:
            raise Undecided("a power of zero")
        return base if exponent % 2 else base * base
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > BITS:
        raise Undecided("the numbers are too large")
    return base ** int(exponent)


def root(number: Fraction, degree: int) -> Fraction:
    """The real root of this degree, where it is a fraction."""
    if number < 0:
        if degree % 2 == 0:
            raise Irrational
        return -root(-number, degree)
    return Fraction(_whole_root(number.numerator, degree), _whole_root(number.denominator, degree))


def _whole_root(number: int, degree: int) -> int:
    if degree == 2:
        found = math.isqrt(number)
    else:
        low, high = 0, 1 << (number.bit_length() // degree + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**degree <= number else (low, middle - 1)
        found = low
    if found**degree != number:
        raise Irrational
    return found


def _call(node: Call, reading: Reading) -> Fraction:
    name, args = node.name, node.args
    match name:
        case "neg":
            return -exact(args[0], reading)
        case "%":
            return exact(args[0], reading) / reading.percent
        case "mixed":
            whole, part = exact(args[0], reading), exact(args[1], reading)
            return whole * part if reading.product else whole + part
        case "deg":
            if reading.radians:
                raise Irrational
            return exact(args[0], reading)
        case "base" | "identity":
            return exact(args[0], reading)
        case "sqrt":
            return root(exact(args[0], reading), 2)
        case "root":
            return root(exact(args[0], reading), _whole(args[1], reading, 2, 64))
        case "abs":
            return abs(exact(args[0], reading))
        case "floor":
            return Fraction(math.floor(exact(args[0], reading)))
        case "ceil":
            return Fraction(math.ceil(exact(args[0], reading)))
        case "!":
            return Fraction(math.factorial(_whole(args[0], reading, 0, LARGEST_FACTORIAL)))
        case "binom":
            upper, lower = _whole(args[0], reading, 0, 2000), _whole(args[1], reading, 0, 2000)
            return Fraction(math.comb(upper, lower))
        case "gcd" | "lcm":
            numbers = [_whole(arg, reading, -(10**30), 10**30) for arg in args]
            return Fraction(math.gcd(*numbers) if name == "gcd" else math.lcm(*numbers))
        case "max" | "min":
            values = [exact(arg, reading) for arg in args]
            return max(values) if name == "max" else min(values)
        case _:
            raise Irrational


def _whole(node: Node, reading: Reading, least: int, most: int) -> int:
    number = exact(node, reading)
    if number.denominator != 1 or not least <= number <= most:
        raise Undecided("no whole number, or too large a one")
    return int(number)


@lru_cache(maxsize=1)
def fifty_digits() -> Any:
    """mpmath, sympy's arithmetic, with a context of our own: its precision is shared with nobody."""
    import mpmath  # type: ignore[import-untyped]  # here, for it is slow to load and seldom needed

    context = mpmath.MPContext()
    context.dps = DIGITS
    return context


class Digits:
    """Values to `DIGITS` digits, complex ones included, computed from the leaves up so that nothing can grow unseen."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.m = reading, fifty_digits()

    def of(self, node: Node) -> Value:
        """The value of a node. Raises `Undecided`."""
        try:
            found = self._of(node)
        except Irrational:
            raise Undecided("no whole number") from None
        except (ZeroDivisionError, OverflowError, ValueError, TypeError, self.m.NoConvergence) as error:
            raise Undecided(str(error)) from None
        return self._bounded(found)

    def _bounded(self, number: Value) -> Value:
        size = abs(number)
        if not self.m.isfinite(size) or size > self.m.mpf(10) ** 4000:
            raise Undecided("the numbers are too large")
        return number

    def _of(self, node: Node) -> Value:
        if isinstance(node, Name):
            if self.reading.constants and node.text not in self.reading.letters:
                if node.text == "e":
                    return self.m.e()
                if node.text == "i":
                    return self.m.mpc(0, 1)
            return self._fraction(exact(node, self.reading))
        if isinstance(node, Num):
            return self._fraction(node.value)
        if isinstance(node, Op):
            return self._bounded(self._operation(node))
        return self._bounded(self._call(node))

    def _fraction(self, number: Fraction) -> Value:
        return self.m.mpf(number.numerator) / number.denominator

    def _operation(self, node: Op) -> Value:
        left, right = self._of(node.left), self._of(node.right)
        match node.symbol:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
            case "^":
                if abs(right) * (1 + abs(self.m.log(abs(left)))) > 10_000 if left else right == 0:
                    raise Undecided("the numbers are too large")
                if self.m.im(left) == 0 and self.m.re(left) < 0 and right != self.m.nint(self.m.re(right)):
                    raise Undecided("a root of a negative number")
                return left**right
            case _:
                raise Undecided("no whole number")

    def _call(self, node: Call) -> Value:
        m, name = self.m, node.name
        if name == "pi":
            return m.pi()
        if name in ("!", "binom", "gcd", "lcm", "base"):
            return self._fraction(exact(node, self.reading))
        args = (
            [self._angle(node.args[0])]
            if name in ("sin", "cos", "tan", "cot", "sec", "csc")
            else list(map(self._of, node.args))
        )
        x = args[0]
        match name:
            case "neg":
                return -x
            case "%":
                return x / self.reading.percent
            case "deg":
                return x * m.pi() / 180 if self.reading.radians else x
            case "floor" | "ceil":
                return self._rounded(name, x)
            case "sqrt":
                return m.sqrt(x)
            case "root":
                return self._root(x, args[1])
            case "abs":
                return abs(x)
            case "ln" | "log" | "lg":
                return self._log(name, args)
            case "exp":
                if abs(x) > 5000:
                    raise Undecided("the numbers are too large")
                return m.exp(x)
            case "max" | "min":
                return max(args) if name == "max" else min(args)
            case "mixed":
                return args[0] * args[1] if self.reading.product else args[0] + args[1]
            case "arcsin" | "arccos" | "arctan":
                found = getattr(m, name.replace("arc", "a"))(x)
                return found if self.reading.radians else found * 180 / m.pi()
            case "sin" | "cos" | "tan" | "cot" | "sec" | "csc" | "sinh" | "cosh" | "tanh":
                if abs(x) > 10**9 or abs(m.im(x)) > 1000 or (name.endswith("h") and abs(x) > 1000):
                    raise Undecided("the numbers are too large")
                found = getattr(m, name)(x)
                if abs(found) > m.mpf(10) ** 30:
                    raise Undecided("not defined there")
                return found
            case _:
                raise Undecided(f"{name} is not known")

    def _rounded(self, name: str, x: Value) -> Value:
        if self.m.im(x) != 0 or abs(x) > 10**30 or abs(x - self.m.nint(self.m.re(x))) < self.m.mpf(10) ** -15:
            raise Undecided("too near a whole number")
        return self.m.floor(x) if name == "floor" else self.m.ceil(x)

    def _angle(self, node: Node) -> Value:
        """An angle in radians: a degree is π/180 inside a sine, whatever it is outside."""
        inside = Digits(
            Reading(self.reading.percent, False, False, self.reading.constants, True, True, self.reading.letters)
        )
        return inside._of(node)

    def _root(self, x: Value, degree: Value) -> Value:
        n = int(self.m.nint(self.m.re(degree)))
        if n != degree or not 2 <= n <= 64 or self.m.im(x) != 0:
            raise Undecided("no such root")
        x = self.m.re(x)
        if x < 0:
            if n % 2 == 0:
                raise Undecided("a root of a negative number")
            return -self.m.root(-x, n)
        return self.m.root(x, n)

    def _log(self, name: str, args: list[Value]) -> Value:
        if any(self.m.im(arg) != 0 or arg <= 0 for arg in args):
            raise Undecided("a logarithm of no positive number")
        if len(args) == 2:
            return self.m.log(args[0]) / self.m.log(args[1])
        return self.m.log(args[0]) if name == "ln" or not self.reading.decimal else self.m.log10(args[0])
