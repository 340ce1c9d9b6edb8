r"""Tokens of an expression read as a `Form`: numbers, letters, fractions, roots, powers, functions, mixed numbers.

What could mean two things (``a/2b``) or is not known here (integrals, sums over an index) is `Unreadable`; a value too big to
have is `TooBig`.
"""

from __future__ import annotations

from fractions import Fraction

from reasonweave.verifiers._math_algebra import (
    Form,
    TooBig,
    Unreadable,
    add,
    atom,
    called,
    check_size,
    constant,
    integer,
    inverse,
    multiply,
    negative,
    raised,
    rational,
    root,
)
from reasonweave.verifiers._math_tokens import Tokens, depths

FUNCTIONS = frozenset("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp".split())
MOST_WORK = 10_000
"""Products of terms in one expression; at some 20 microseconds each."""
MOST_DEEP = 40
"""Brackets within brackets."""
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_GREEK = frozenset("alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega Gamma "
                   "Delta Theta Lambda Sigma Phi Psi Omega ell".split())  # fmt: skip
_PAIRS = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", "|": "|"}
_ENDS = frozenset((")", "]", "}", r"\}", r"\rfloor", r"\rceil", "+", "-", ",", ";", "=", "<", ">"))


def expression(some: Tokens) -> Form:
    """What these tokens, all of them, say; `Unreadable` or `TooBig` where they say nothing that can be computed with."""
    if max(depths(some), default=0) > MOST_DEEP:
        raise Unreadable("nested too deeply")
    reader = _Reader(some)
    try:
        form = reader.sum()
    except RecursionError as error:
        raise Unreadable("nested too deeply") from error
    if reader.at != len(reader.some):
        raise Unreadable(f"left over: {reader.next}")
    return form


def decimal(text: str) -> Fraction:
    """The value of digits with a point.

    A number of 15 or more digits after a point is what computers print, so it counts to 12 significant ones.

    >>> decimal("0.25"), decimal("0.30000000000000004"), decimal("1.5e3")
    (Fraction(1, 4), Fraction(3, 10), Fraction(1500, 1))
    """
    digits, _, exponent = text.replace(",", "").lower().partition("e")
    if exponent:
        if abs(int(exponent)) > 9999:
            raise TooBig("a power of ten")
        return decimal(digits) * Fraction(10) ** int(exponent)
    whole, _, point = digits.partition(".")
    significant = (whole + point).lstrip("0")
    extra = len(significant) - 12
    if extra >= 3 and len(point) > extra:
        return Fraction(round(Fraction(int(significant), 10**extra)), 10 ** (len(point) - extra))
    return Fraction(int(whole + point), 10 ** len(point))


class _Reader:
    """A descent through sums, products and powers."""

    def __init__(self, some: Tokens) -> None:
        self.some, self.at, self.bars, self.work = some, 0, 0, 0

    def times(self, a: Form, b: Form) -> Form:
        self.work += len(a) * len(b)
        if self.work > MOST_WORK:
            raise Unreadable("too many products")
        return check_size(multiply(a, b))

    @property
    def next(self) -> str:
        return self.some[self.at].text if self.at < len(self.some) else ""

    def take(self, text: str) -> bool:
        if self.next == text:
            self.at += 1
            return True
        return False

    def need(self, text: str) -> None:
        if not self.take(text):
            raise Unreadable(f"no {text}")

    def sum(self) -> Form:
        total = self.product()
        while self.next in ("+", "-"):
            sign = self.next
            self.at += 1
            term = self.product()
            total = add(total, term if sign == "+" else negative(term))
        return total

    def product(self) -> Form:
        if self.take("-"):
            return negative(self.product())
        if self.take("+"):
            return self.product()
        total, divided = self.power(), False
        while self.at < len(self.some):
            if self.next == "*":
                self.at += 1
                total, divided = self.times(total, self.signed()), False
            elif self.next in ("/", ":"):
                self.at += 1
                total, divided = self.times(total, inverse(self.signed())), True
            elif self.ends():
                break
            elif divided and self.some[self.at - 1].text != ")":
                raise Unreadable("a division followed by a product")
            elif self.some[self.at].kind == "number" and self.some[self.at - 1].kind == "number":
                total = self.mixed(total)
            else:
                total = self.times(total, self.power())
        return total

    def signed(self) -> Form:
        if self.take("-"):
            return negative(self.power())
        self.take("+")
        return self.power()

    def ends(self) -> bool:
        return self.next in _ENDS or (self.next == "|" and self.bars > 0)

    def mixed(self, whole: Form) -> Form:
        """``1 1/2``: a whole number, a space, a proper fraction."""
        rest = self.some[self.at : self.at + 3]
        value = integer(whole)
        if value is None or len(rest) < 3 or not rest[0].gap or rest[1].text != "/" or not rest[2].text.isdigit():
            raise Unreadable("two numbers side by side")
        if not rest[0].text.isdigit() or not 0 < int(rest[0].text) < int(rest[2].text):
            raise Unreadable("not a proper fraction")
        self.at += 3
        return add(whole, constant(Fraction(int(rest[0].text), int(rest[2].text))))

    def power(self) -> Form:
        base = self.base()
        while self.at < len(self.some):
            if self.take("!"):
                if self.next == "!":
                    raise Unreadable("a double factorial")
                base = called("factorial", base)
            elif self.next == "^" or (self.next == "*" and self.after(1) == "*"):
                self.at += 1 if self.next == "^" else 2
                if self.take("circ") or (self.next == "{" and self.after(1) == "circ" and self.after(2) == "}"):
                    self.at += 3 if self.next == "{" else 0
                    base = self.times(base, self.times(atom("pi"), constant(Fraction(1, 180))))
                    continue
                base = raised(base, self.exponent())
            else:
                break
        return base

    def after(self, n: int) -> str:
        return self.some[self.at + n].text if self.at + n < len(self.some) else ""

    def exponent(self) -> Form:
        if self.next == "{":
            return self.argument()
        sign = -1 if self.take("-") else 1
        if self.take("("):
            inside = self.sum()
            self.need(")")
        elif self.at < len(self.some) and self.some[self.at].kind == "number":
            inside = constant(decimal(self.next))
            self.at += 1
        else:
            inside = self.argument()
        return inside if sign > 0 else negative(inside)

    def argument(self) -> Form:
        r"""What a command is given: a group, or as in TeX one digit, letter or command (``\frac12``)."""
        if self.take("{"):
            inside = self.inner()
            self.need("}")
            return inside
        token = self.some[self.at] if self.at < len(self.some) else None
        if token is None or token.kind not in ("number", "letter", "command"):
            raise Unreadable("an argument is missing")
        if token.kind == "number" and len(token.text) > 1:
            if not token.text.isdigit():
                raise Unreadable("an argument of several digits")
            digits = token._replace(text=token.text[0]), token._replace(text=token.text[1:], gap=False)
            self.some = [*self.some[: self.at], *digits, *self.some[self.at + 1 :]]
        return self.base()

    def inner(self) -> Form:
        """A sum within brackets, where a bar opens rather than closes."""
        bars, self.bars = self.bars, 0
        form = self.sum()
        self.bars = bars
        return form

    def base(self) -> Form:
        if self.at >= len(self.some):
            raise Unreadable("something is missing")
        token = self.some[self.at]
        self.at += 1
        if token.kind == "number":
            return self.number(token.text)
        if token.kind == "letter":
            return self.letter(token.text)
        if token.kind == "word":
            total = constant(1)
            for char in token.text[:-1]:
                total = self.times(total, named(char))
            return self.times(total, self.letter(token.text[-1]))
        if token.text in _PAIRS:
            return self.bracket(token.text)
        if token.kind != "command" or token.text == "circ":
            raise Unreadable(token.text)
        return self.command(token.text[1:])

    def number(self, digits: str) -> Form:
        value = decimal(digits)
        if self.next == r"\frac" and digits.isdigit():
            start = self.at
            fraction = rational(self.base())
            if fraction is not None and 0 < fraction < 1 and all(t.text.isdigit() or t.text in "{}" for t in
                                                                 self.some[start + 1 : self.at]):  # fmt: skip
                return constant(value + fraction)
            self.at = start
        return constant(value)

    def letter(self, name: str) -> Form:
        if self.next == "_":
            name += "_" + self.subscript()
        if self.next == "'":
            raise Unreadable("a prime")
        return named(name)

    def subscript(self) -> str:
        self.at += 1
        if self.take("{"):
            text = ""
            while self.at < len(self.some) and self.next != "}":
                text += self.next
                self.at += 1
            self.need("}")
            return text
        if self.at >= len(self.some):
            raise Unreadable("an empty subscript")
        self.at += 1
        return self.some[self.at - 1].text

    def bracket(self, opening: str) -> Form:
        if opening == "|":
            self.bars += 1
            inside = self.sum()
            self.bars -= 1
        else:
            inside = self.inner()
        self.need(_PAIRS[opening])
        if opening in ("|", r"\lfloor", r"\lceil"):
            return called({"|": "abs", r"\lfloor": "floor", r"\lceil": "ceil"}[opening], inside)
        return inside

    def command(self, name: str) -> Form:
        if name == "pi":
            return atom("pi")
        if name in _GREEK:
            return self.letter("\\" + name)
        if name in ("lfloor", "lceil"):
            return self.bracket("\\" + name)
        if name == "frac":
            top = self.argument()
            return self.times(top, inverse(self.argument()))
        if name == "binom":
            top = self.argument()
            return called("binom", top, self.argument())
        if name == "sqrt":
            return self.radical()
        if name in FUNCTIONS:
            return self.function(name)
        raise Unreadable("\\" + name)

    def radical(self) -> Form:
        n = 2
        if self.take("["):
            degree = integer(self.sum())
            self.need("]")
            if degree is None or not 2 <= degree <= 64:
                raise Unreadable("a root of this degree")
            n = degree
        if self.take("("):
            inside = self.inner()
            self.need(")")
            return root(inside, n)
        return root(self.argument(), n)

    def function(self, name: str) -> Form:
        base = None
        times = constant(1)
        if name == "log" and self.next == "_":
            self.at += 1
            base = self.argument()
        if self.take("^"):
            times = self.exponent()
        if integer(times) == -1:
            if name not in _INVERSES:
                raise Unreadable("an inverse function")
            name, times = _INVERSES[name], constant(1)
        of = self.applied()
        if name == "exp":
            return raised(raised(atom("e"), of), times)
        form = called("log", base or constant(10), of) if name == "log" else called(name, of)
        return raised(form, times)

    def applied(self) -> Form:
        """What a function is of: a bracket, or all factors up to the next sign or function (``sin 2x cos x``)."""
        if self.next in ("(", "{", "["):
            opening = self.next
            self.at += 1
            inside = self.bracket(opening)
            if self.next in ("^", "!"):
                raise Unreadable("a power of a function, or of what it is of")
            return inside
        if self.next == "|":
            return self.power()
        inside = self.power()
        while (
            self.at < len(self.some) and not self.ends() and self.next not in ("*", "/", "(") and not self.is_function()
        ):
            inside = self.times(inside, self.power())
        if self.next == "/":
            raise Unreadable("a division after a function")
        return inside

    def is_function(self) -> bool:
        return self.next[1:] in FUNCTIONS


def named(name: str) -> Form:
    """A letter: e and i are numbers."""
    return atom(name) if name in ("e", "i") else atom("name", name)


__all__ = ["TooBig", "Unreadable", "decimal", "expression", "named"]
