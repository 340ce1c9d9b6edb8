r"""Exact algebra without a computer algebra system: sums of products of powers of atoms, with rational coefficients.

A `Form` is a polynomial in *atoms*: letters, π, e, i, roots, inverses of sums, functions of forms. Sums and products are
multiplied out, roots of whole numbers reduced (√12 = 2√3, √2·√3 = √6, 1/√3 = √3/3, i² = -1), tangents are quotients of sines
and cos² is 1 - sin², so that two forms that are equal *are* equal as expressions. The converse does not hold: (x² - 1) / (x - 1)
is not x + 1 here. What differs in form is told apart by `values`, its value at fixed points, or is left to a computer algebra
system.
"""

from __future__ import annotations

import cmath
import hashlib
import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

Atom: TypeAlias = tuple[Any, ...]
Monomial: TypeAlias = frozenset[tuple[Atom, int]]
Form: TypeAlias = frozenset[tuple[Monomial, Fraction]]

MOST_TERMS = 300
MOST_BITS = 40_000
_HUGE = 1e200
_ONE: Monomial = frozenset()
ZERO: Form = frozenset()


class Unreadable(ValueError):
    """Not an expression that is understood here; somebody else may."""


class TooBig(ValueError):
    """A value that nobody should try to compute, as 9^9^9^9."""


def constant(value: Fraction | int) -> Form:
    """A number."""
    return frozenset({(_ONE, Fraction(value))}) if value else ZERO


def atom(*parts: Any) -> Form:
    """One atom by itself: ``atom("name", "x")``, ``atom("pi")``."""
    return frozenset({(frozenset({(parts, 1)}), Fraction(1))})


def rational(form: Form) -> Fraction | None:
    """The number that a form is; None where it is not a rational one."""
    if not form:
        return Fraction(0)
    (monomial, value), *rest = form
    return value if not rest and not monomial else None


def check_size(form: Form) -> Form:
    """The form itself; `TooBig` where a coefficient has grown beyond what is worth computing with."""
    if any(max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS for _, value in form):
        raise TooBig("a product")
    return form


def integer(form: Form) -> int | None:
    """The whole number that a form is."""
    value = rational(form)
    return int(value) if value is not None and value.denominator == 1 else None


def add(*forms: Form) -> Form:
    """The sum."""
    total: dict[Monomial, Fraction] = {}
    for form in forms:
        for monomial, value in form:
            total[monomial] = total.get(monomial, Fraction(0)) + value
    if len(total) > MOST_TERMS:
        raise Unreadable("too many terms")
    return frozenset((monomial, value) for monomial, value in total.items() if value)


def negative(form: Form) -> Form:
    """The form times -1."""
    return frozenset((monomial, -value) for monomial, value in form)


def multiply(a: Form, b: Form) -> Form:
    """The product, multiplied out."""
    if len(a) * len(b) > MOST_TERMS * 4:
        raise Unreadable("too many terms")
    return add(*(_scaled(_reduced([*x, *y]), p * q) for x, p in a for y, q in b))


def power(form: Form, n: int) -> Form:
    """The form to a whole power; sums to high powers stay as they are."""
    if n < 0:
        return power(inverse(form), -n)
    if n == 0 or form == constant(1):
        return constant(1)
    if not form:
        return ZERO
    if len(form) > 1 and not _opens(form, n):
        return frozenset({(frozenset({(("sum", form), n)}), Fraction(1))})
    if len(form) == 1:
        ((monomial, value),) = form
        if n * max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS and abs(value) != 1:
            raise TooBig("a power")
        return _scaled(_reduced([(each, k * n) for each, k in monomial]), value**n)
    result = constant(1)
    for _ in range(n):
        result = multiply(result, form)
    return result


def _opens(form: Form, n: int) -> bool:
    """Whether a sum to this power is multiplied out."""
    return n <= 12 and math.comb(len(form) + n - 1, n) <= MOST_TERMS


def inverse(form: Form) -> Form:
    """One by the form. Of two terms whose squares are rational the denominator is made rational: 1/(1 + √2) = √2 - 1."""
    if not form:
        raise Unreadable("division by zero")
    if len(form) == 1:
        ((monomial, value),) = form
        return _scaled(_reduced([(each, -k) for each, k in monomial]), 1 / value)
    if len(form) == 2:
        first, second = sorted((frozenset({term}) for term in form), key=written)
        other = add(first, negative(second))
        product = rational(multiply(form, other))
        if product:
            return _scaled(other, 1 / product)
    content = _content(form)
    return _scaled(frozenset({(frozenset({(("sum", _scaled(form, 1 / content)), -1)}), Fraction(1))}), 1 / content)


def root(form: Form, n: int) -> Form:
    """The n-th root: exact for rational numbers, where an odd root of a negative number is the real one; else an atom."""
    value = rational(form)
    if value is None:
        return atom("root", n, form)
    if value < 0:
        if n % 2:
            return negative(root(constant(-value), n))
        if n == 2:
            return multiply(atom("i"), root(constant(-value), n))
        return atom("root", n, form)
    outside, inside = _extracted(value.numerator * value.denominator ** (n - 1), n)
    scale = Fraction(outside, value.denominator)
    return _scaled(constant(1) if inside == 1 else atom("root", n, constant(inside)), scale)


def raised(base: Form, exponent: Form) -> Form:
    """Base to any power: whole and fractional exponents as powers and roots, others as an atom."""
    value = rational(exponent)
    if value is None:
        return atom("power", base, exponent)
    known = rational(base)
    if known is not None and abs(known) not in (0, 1) and abs(value) > MOST_BITS:
        raise TooBig("a power")
    if abs(value.numerator) > 10_000 and known is None:
        return atom("power", base, exponent)
    if value.denominator == 1:
        return power(base, int(value))
    if value.denominator > 12:
        return atom("power", base, exponent)
    return root(power(base, value.numerator), value.denominator)


def called(name: str, *of: Form) -> Form:
    """A function: its value where it is a whole number or a fraction that is easy to have, else an atom."""
    numbers = [rational(form) for form in of]
    exact = [value for value in numbers if value is not None]
    if (
        name in ("sin", "cos")
        and (turns := _half_turns(of[0])) is not None
        and (known := _on_the_circle(name, turns)) is not None
    ):
        return known
    if name in _QUOTIENTS:
        above, below = (called(each, *of) if each else constant(1) for each in _QUOTIENTS[name])
        return multiply(above, inverse(below))
    if len(exact) == len(numbers) and name in _EXACT and (value := _EXACT[name](*exact)) is not None:
        return constant(value)
    return atom("call", name, *of)


def equation(form: Form) -> Form:
    """The form up to a factor, as the left side of ``… = 0``."""
    return _scaled(form, 1 / _content(form)) if form else form


def positive_scale(form: Form) -> Form:
    """The form up to a positive factor, as the left side of ``… > 0``."""
    return _scaled(form, 1 / abs(_content(form))) if form else form


@lru_cache(maxsize=65_536)
def written(thing: Any) -> str:
    """A form, a part of one, or a key as text, the same in every process: what things are ordered by."""
    if isinstance(thing, frozenset):
        return "{" + " ".join(sorted(map(written, thing))) + "}"
    if isinstance(thing, tuple):
        return "(" + " ".join(map(written, thing)) + ")"
    if isinstance(thing, Fraction) and max(abs(thing.numerator), thing.denominator) > 10**18:
        return f"{thing.numerator:#x}/{thing.denominator:#x}"  # Python refuses to write long numbers in tens
    return str(thing)


def _scaled(form: Form, by: Fraction) -> Form:
    return form if by == 1 else frozenset((monomial, value * by) for monomial, value in form) if by else ZERO


def _content(form: Form) -> Fraction:
    """The factor that makes the coefficients whole, without common divisor, and that of the first term positive."""
    values = [value for _, value in form]
    size = Fraction(math.gcd(*(v.numerator for v in values)), math.lcm(*(v.denominator for v in values)))
    first = min(form, key=lambda term: written(term[0]))[1]
    return size if first > 0 else -size


def _reduced(factors: Iterable[tuple[Atom, int]]) -> Form:
    """A product of powers of atoms, each atom once, roots and powers of i reduced."""
    powers: dict[Atom, int] = {}
    for each, k in factors:
        powers[each] = powers.get(each, 0) + k
    rest, outside, value = dict[Atom, int](), list[Form](), Fraction(1)
    radicands: dict[int, int] = {}
    for each, k in powers.items():
        if each == ("i",):
            value *= -1 if k % 4 >= 2 else 1
            if k % 2:
                rest[each] = 1
        elif each[0] == "root":
            n, inside = each[1], each[2]
            whole, part = divmod(k, n)
            if (radicand := rational(inside)) is not None and radicand > 0:
                value *= radicand**whole
                radicands[n] = radicands.get(n, 1) * int(radicand) ** part
            else:
                outside += [power(inside, whole)] if whole else []
                if part:
                    rest[each] = part
        elif each[:2] == ("call", "cos") and k >= 2:  # cos² = 1 - sin²
            outside.append(power(add(constant(1), negative(power(called("sin", each[2]), 2))), k // 2))
            if k % 2:
                rest[each] = 1
        elif each[0] == "sum" and k > 0 and _opens(each[1], k):
            outside.append(power(each[1], k))
        elif k:
            rest[each] = k
    for n, product in radicands.items():
        factor, left = _extracted(product, n)
        value *= factor
        if left != 1:
            rest[("root", n, constant(left))] = 1
    form: Form = frozenset({(frozenset(rest.items()), value)})
    for each_form in outside:
        form = multiply(form, each_form)
    return form


@lru_cache(maxsize=4096)
def _extracted(number: int, n: int) -> tuple[int, int]:
    """(a, b) with number = aⁿ·b, b without n-th powers of primes below 1,000 and itself none."""
    if number.bit_length() > 4096:
        raise Unreadable("a root of a long number")
    outside, prime = 1, 2
    rest, inside = number, 1
    while prime < 1000 and rest > 1:
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        outside, inside = outside * prime ** (count // n), inside * prime ** (count % n)
        prime += 1 if prime == 2 else 2
    if (exact := _whole_root(rest, n)) is not None:
        return outside * exact, inside
    return outside, inside * rest


def _whole_root(number: int, n: int) -> int | None:
    """The n-th root of a whole number where it is whole: by bisection."""
    low, high = 1, 1 << (number.bit_length() // n + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**n < number else (low, middle)
    return low if low**n == number else None


_QUOTIENTS = {"tan": ("sin", "cos"), "cot": ("cos", "sin"), "sec": ("", "cos"), "csc": ("", "sin")}


def _half_turns(angle: Form) -> Fraction | None:
    """An angle over π, where that is rational."""
    if len(angle) != 1:
        return None
    ((monomial, value),) = angle
    return value if monomial == frozenset({(("pi",), 1)}) else None


def _on_the_circle(name: str, turns: Fraction) -> Form | None:
    """sin 30° = 1/2 and its like, for multiples of 30° and 45°."""
    if 12 % turns.denominator or turns.denominator == 12:
        return None
    if name == "sin":
        turns = turns % 2
        sign, turns = (-1, turns - 1) if turns > 1 else (1, turns)
        turns = min(turns, 1 - turns)
        squared = {0: 0, Fraction(1, 6): 1, Fraction(1, 4): 2, Fraction(1, 3): 3, Fraction(1, 2): 4}[turns]  # of 2 sin
        return _scaled(root(constant(squared), 2), Fraction(sign, 2)) if squared else ZERO
    return _on_the_circle("sin", turns + Fraction(1, 2))


def _factorial(n: Fraction) -> Fraction | None:
    if n > 3000:
        raise TooBig("a factorial")
    return Fraction(math.factorial(int(n))) if n.denominator == 1 and n >= 0 else None


def _binomial(n: Fraction, k: Fraction) -> Fraction | None:
    if n > MOST_BITS:
        raise TooBig("a binomial coefficient")
    return Fraction(math.comb(int(n), int(k))) if n.denominator == k.denominator == 1 and n >= 0 and k >= 0 else None


def _log(base: Fraction, value: Fraction) -> Fraction | None:
    """The logarithm where it is a whole number."""
    if base <= 1 or value <= 0 or value.numerator.bit_length() + value.denominator.bit_length() > 4096:
        return None
    times = round((math.log(value.numerator) - math.log(value.denominator)) / math.log(base))
    return Fraction(times) if base**times == value else None


_EXACT: dict[str, Callable[..., Fraction | None]] = {
    "abs": abs,
    "floor": lambda x: Fraction(math.floor(x)),
    "ceil": lambda x: Fraction(math.ceil(x)),
    "factorial": _factorial,
    "binom": _binomial,
    "log": _log,
    "ln": lambda x: Fraction(0) if x == 1 else None,
    **dict.fromkeys(("sin", "arcsin", "arctan", "sinh", "tanh"), lambda x: Fraction(0) if x == 0 else None),
    **dict.fromkeys(("cos", "cosh"), lambda x: Fraction(1) if x == 0 else None),
}


def _real(function: Callable[[float], float]) -> Callable[[complex], complex]:
    def checked(x: complex) -> complex:
        if abs(x.imag) > 1e-12 * abs(x):
            raise ValueError("not real")
        return complex(function(x.real))

    return checked


def _steady(function: Callable[[float], int]) -> Callable[[complex], complex]:
    """Floor or ceiling of what is not within rounding of a whole number."""

    def checked(x: complex) -> complex:
        if abs(x.imag) > 0 or abs(x.real - round(x.real)) < 1e-6 or abs(x) > 1e9:
            raise ValueError("too near a jump")
        return complex(function(x.real))

    return checked


_NUMERIC: dict[str, Callable[..., complex]] = {
    "abs": abs,
    "floor": _steady(math.floor),
    "ceil": _steady(math.ceil),
    "factorial": _real(lambda x: math.gamma(x + 1)),
    "binom": lambda n, k: (
        _real(lambda x: math.gamma(x + 1))(n)
        / (_real(lambda x: math.gamma(x + 1))(k) * _real(lambda x: math.gamma(x + 1))(n - k))
    ),
    "ln": cmath.log,
    "log": lambda base, x: cmath.log(x) / cmath.log(base),
    "sin": cmath.sin,
    "cos": cmath.cos,
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
}


@lru_cache(maxsize=16_384)
def values(form: Form) -> tuple[tuple[complex, float], ...] | None:
    """The value at two fixed points where every letter has a number of its own between 1.2 and 2.8, and its size: the sum of the
    absolute values of its terms, which is what rounding is relative to. None where it cannot be had."""
    try:
        return tuple(_value(form, point) for point in (1, 2))
    except (ArithmeticError, ValueError, KeyError, RecursionError):
        return None


def apart(a: Form, b: Form) -> bool | None:
    """Whether the values of two forms differ by more than rounding can explain; None where this cannot be said."""
    one, other = values(a), values(b)
    if one is None or other is None:
        huge = rational(a if one is None else b)
        return True if huge is not None and abs(huge) > _HUGE and one is not other else None
    return any(abs(x - y) > 1e-9 * max(p, q) for (x, p), (y, q) in zip(one, other, strict=True))


def real_value(form: Form) -> float | None:
    """The value of a constant form, to about 12 digits; None where it has letters, is not real, or cancels too much."""
    found = values(form)
    if found is None or found[0] != found[1]:
        return None
    value, size = found[0]
    return value.real if value.imag == 0 and size <= 1000 * abs(value) else None


def _value(form: Form, point: int) -> tuple[complex, float]:
    total, size = 0j, 0.0
    for monomial, coefficient in form:
        product: complex = complex(coefficient.numerator / coefficient.denominator)
        for each, k in sorted(monomial, key=written):
            product *= _atom_value(each, point) ** k
        total, size = total + product, size + abs(product)
    if not size <= _HUGE:
        raise OverflowError
    return total, size


def _atom_value(each: Atom, point: int) -> complex:
    kind = each[0]
    if kind == "name":
        digest = hashlib.sha256(f"{point}/{each[1]}".encode()).digest()
        return complex(1.2 + 1.6 * int.from_bytes(digest[:6]) / 2**48)
    if kind == "pi":
        return complex(math.pi)
    if kind == "e":
        return complex(math.e)
    if kind == "i":
        return 1j
    of = [_value(part, point)[0] for part in each[1:] if isinstance(part, frozenset)]
    if kind == "root":
        return (
            math.sqrt(of[0].real) + 0j
            if each[1] == 2 and of[0].imag == 0 and of[0].real >= 0
            else of[0] ** (1 / each[1])
        )
    if kind == "power":
        return of[0] ** of[1]
    if kind == "sum":
        return of[0]
    return _NUMERIC[each[1]](*of)
