"""Steps with errors planted in them, of every style that the step checker reads. What is right here is worked out here."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

Draw = Callable[[random.Random, bool], str]
"""Writes a step with one claim, right or wrong as it is told."""

NOUNS = ("apples", "eggs", "pages", "clips", "tickets", "marbles", "boxes", "students", "cookies", "flowers")
NAMES = ("Natalia", "Tom", "the farmer", "Maria", "each child", "the shop")
LETTERS = "abkmnpqrstwxyz"
SINES = {0: "0", 30: r"\frac{1}{2}", 45: r"\frac{\sqrt{2}}{2}", 60: r"\frac{\sqrt{3}}{2}", 90: "1"}


def off(rng: random.Random, right: int) -> int:
    """A wrong result of the kind that people and models produce: a neighbour, a lost carry, swapped digits."""
    digits = str(abs(right))
    swapped = int(digits[:-2] + digits[-1] + digits[-2]) if len(digits) > 1 else right + 3
    choices = [
        right + 1,
        right - 1,
        right + 10,
        right - 10,
        right + rng.randint(2, 9),
        right - rng.randint(2, 9),
        swapped,
    ]
    return rng.choice(
        [c for c in choices if c != right and (c < 0) == (right < 0)] or [right + 1 if right >= 0 else right - 1]
    )


def said(rng: random.Random, right: int, wrong: bool) -> int:
    return off(rng, right) if wrong else right


def off_fraction(rng: random.Random, right: Fraction, wrong: bool) -> Fraction:
    if not wrong:
        return right
    return rng.choice(
        [right + Fraction(1, right.denominator), right + 1, Fraction(right.numerator + 2, right.denominator)]
    )


def tex(number: Fraction, name: str = "frac") -> str:
    if number.denominator == 1:
        return str(number)
    sign = "-" if number < 0 else ""
    return f"{sign}\\{name}{{{abs(number.numerator)}}}{{{number.denominator}}}"


def decimal(number: Fraction, places: int) -> str:
    """A number that has at most so many digits after its point, written with that many."""
    scaled = number * 10**places
    assert scaled.denominator == 1
    whole, part = divmod(abs(int(scaled)), 10**places)
    return f"{'-' if number < 0 else ''}{whole}.{part:0{places}d}" if places else f"{'-' if number < 0 else ''}{whole}"


def operation(rng: random.Random, largest: int = 99) -> tuple[int, str, int, int]:
    symbol = rng.choice("+-*/")
    a, b = rng.randint(2, largest), rng.randint(2, largest)
    if symbol == "-" and a < b:
        a, b = b, a
    if symbol == "*":
        b = rng.randint(2, 12)
    if symbol == "/":
        b = rng.randint(2, 12)
        a *= b
    return a, symbol, b, {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[symbol]


def lab(rng: random.Random, wrong: bool) -> str:
    a, symbol, b, c = operation(rng)
    return f"{rng.choice(['', 'Wait, '])}{rng.choice('ABCDEFGH')}: {a} {symbol} {b} = {said(rng, c, wrong)}\n\n"


def gsm(rng: random.Random, wrong: bool) -> str:
    a, symbol, b, c = operation(rng, 400)
    c = said(rng, c, wrong)
    told = rng.choice(["has", "sold", "needs", "now has a total of", "will have"])
    noun, end = rng.choice(NOUNS), rng.choice(["in May.", "left.", ""])
    return f"{rng.choice(NAMES)} {told} {a} {symbol} {b} = <<{a}{symbol}{b}={c}>>{c} {noun} {end}"


def gsm_terms(rng: random.Random, wrong: bool) -> str:
    terms = [rng.randint(2, 60) for _ in range(rng.randint(3, 5))]
    noun, c = rng.choice(NOUNS), said(rng, sum(terms), wrong)
    return f"In all there are {' + '.join(map(str, terms))} = {c} {noun}."


def dollars(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 400), rng.randint(2, 30)
    c = said(rng, a * b, wrong)
    return rng.choice(
        ["She pays ${} * {} = ${}.", "That is ${} x {} = ${} in total.", r"He earns \${} \times {} = \${} a week."]
    ).format(a, b, c)


def cents(rng: random.Random, wrong: bool) -> str:
    a, b = Fraction(rng.randint(100, 9999), 100), rng.randint(2, 9)
    c = a * b + (Fraction(rng.choice([-100, -10, -1, 1, 10, 100, 27]), 100) if wrong else 0)
    return f"The bill is ${decimal(a, 2)} * {b} = ${decimal(c, 2)}."


def percent(rng: random.Random, wrong: bool) -> str:
    p, n = 5 * rng.randint(1, 19), 20 * rng.randint(1, 60)
    c = said(rng, p * n // 100, wrong)
    return rng.choice(
        [
            f"{p}% of {n} = {c}",
            f"So {p}% of ${n} = ${c}.",
            rf"${p}\% \cdot {n} = {c}$",
            f"{p}/100 * {n} = {c} {rng.choice(NOUNS)}",
        ]
    )


def share(rng: random.Random, wrong: bool) -> str:
    b = rng.choice([2, 4, 5, 8, 10, 20, 25])
    a = rng.randint(1, b - 1)
    c = Fraction(100 * a, b) + (rng.choice([5, 10, -5, 1]) if wrong else 0)
    text = str(c) if c.denominator == 1 else decimal(c, 1)
    return rng.choice([f"The share is {a}/{b} = {text}%.", rf"$\frac{{{a}}}{{{b}}} = {text}\%$"])


def thousands(rng: random.Random, wrong: bool) -> str:
    a, b = 100 * rng.randint(11, 90), rng.randint(3, 12)
    c = a * b + (rng.choice([100, -100, 1000, -200, 10]) if wrong else 0)
    return rng.choice(
        [
            f"{a:,} x {b} = {c:,}",
            f"The rent comes to {a:,} * {b} = {c:,} dollars.",
            rf"${a:,} \times {b} = {c:,}$".replace(",", "{,}"),
        ]
    )


def rate(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 30), rng.randint(2, 30)
    c = said(rng, a * b, wrong)
    return rng.choice(
        [
            f"{a} hours/day × {b} days = {c} hours",
            f"He drives {a} miles per hour * {b} hours = {c} miles.",
            f"{a} {rng.choice(NOUNS)} * {b} = {c} in total",
            f"{a} pages a day * {b} days = {c} pages",
        ]
    )


def counted(rng: random.Random, wrong: bool) -> str:
    a, b, noun = rng.randint(2, 90), rng.randint(2, 90), rng.choice(NOUNS)
    return f"There are {a} {noun} + {b} {noun} = {said(rng, a + b, wrong)} {noun}."


def fractions(rng: random.Random, wrong: bool) -> str:
    a, b = Fraction(rng.randint(1, 12), rng.randint(2, 12)), Fraction(rng.randint(1, 12), rng.randint(2, 12))
    symbol, c = rng.choice([("+", a + b), ("-", a - b), (r" \cdot ", a * b), (r" \div ", a / b)])
    name = rng.choice(["frac", "dfrac", "tfrac"])
    return f"${tex(a, name)}{symbol}{tex(b, name)}={tex(off_fraction(rng, c, wrong), name)}$"


def short_fractions(rng: random.Random, wrong: bool) -> str:
    a, b, c, d = (rng.randint(1, 9) for _ in range(4))
    e = off_fraction(rng, Fraction(a, b) + Fraction(c, d), wrong)
    return rf"Hence $\frac{a}{b}+\frac{c}{d}={tex(e)}$."


def plain_fractions(rng: random.Random, wrong: bool) -> str:
    a, b = Fraction(rng.randint(1, 12), rng.randint(2, 12)), Fraction(rng.randint(1, 12), rng.randint(2, 12))
    c = off_fraction(rng, a + b, wrong)
    return f"{a} + {b} = {c}"


def mixed(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    p, q = Fraction(rng.randint(1, 3), 4), Fraction(rng.randint(1, 7), 8)
    c = off_fraction(rng, a + p + b + q, wrong)
    if rng.random() < 0.5:
        return rf"${a}{tex(p)} + {b}{tex(q)} = {tex(c)}$"
    return f"{a} {p} + {b} {q} = {c}"


def roots(rng: random.Random, wrong: bool) -> str:
    m = rng.randint(2, 30)
    kind = rng.randrange(4)
    if kind == 0:
        return rf"$\sqrt{{{m * m}}} = {said(rng, m, wrong)}$"
    if kind == 1:
        return rf"$\sqrt[3]{{{m**3}}} = {said(rng, m, wrong)}$"
    if kind == 2:
        return f"√{m * m} = {said(rng, m, wrong)}"
    k = rng.randint(2, 9)
    return rf"$\sqrt{{{k * k * 2}}} = {said(rng, k, wrong)}\sqrt{{2}}$"


def powers(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 12), rng.randint(2, 4)
    c = said(rng, a**b, wrong)
    forms = [f"${a}^{b} = {c}$", f"{a}^{b} = {c}", f"{a}**{b} = {c}", f"${a}^{{{b}}}={c}$"]
    return rng.choice([*forms, f"{a}² = {said(rng, a * a, wrong)}", f"{a} squared equals {said(rng, a * a, wrong)}"])


def identity(rng: random.Random, wrong: bool) -> str:
    a, b, x = rng.randint(2, 12), rng.randint(2, 12), rng.choice(LETTERS)
    constant = said(rng, a * b, wrong)
    return rng.choice(
        [
            f"$({x}+{a})({x}+{b})={x}^2+{a + b}{x}+{constant}$",
            f"({x} + {a})({x} - {b}) = {x}^2 + {a - b}{x} - {constant}"
            if a != b
            else f"({x} + {a})({x} - {a}) = {x}^2 - {constant}",
            rf"\[{x}^2 - {constant} = ({x} - {a})({x} + {b}) + {a - b}{x}\]",
            f"${a}({x} + {b}) = {a}{x} + {constant}$",
        ]
    )


def square(rng: random.Random, wrong: bool) -> str:
    a, x = rng.randint(2, 12), rng.choice(LETTERS)
    return f"Expanding, $({x} - {a})^2 = {x}^2 - {2 * a}{x} + {said(rng, a * a, wrong)}$."


def rational(rng: random.Random, wrong: bool) -> str:
    a, x = rng.randint(1, 9), rng.choice("xyt")
    slip = f" + {rng.randint(1, 5)}" if wrong else ""
    return rf"$\frac{{1}}{{{x}}} - \frac{{1}}{{{x}+{a}}} = \frac{{{a}}}{{{x}({x}+{a})}}{slip}$"


def trigonometric(rng: random.Random, wrong: bool) -> str:
    if rng.random() < 0.3:
        return rf"$\sin^2 x + \cos^2 x = {2 if wrong else 1}$"
    at = rng.choice(list(SINES))
    other = rng.choice([each for each in SINES if each != at]) if wrong else at
    if rng.random() < 0.5:
        return rf"We know that $\sin {at}^\circ = {SINES[other]}$."
    return rf"$\cos({90 - at}^\circ) = {SINES[other]}$"


def logarithms(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 9), rng.randint(2, 5)
    return rf"$\log_{{{a}}} {a**b} = {said(rng, b, wrong)}$"


def chain(rng: random.Random, wrong: bool) -> str:
    a, b, c = (rng.randint(2, 60) for _ in range(3))
    middle, end = a + b, a + b + c
    if wrong and rng.random() < 0.5:
        return f"${a} + {b} + {c} = {off(rng, middle)} + {c} = {end}$"
    return f"{a} + {b} + {c} = {middle} + {c} = {said(rng, end, wrong)}"


def aligned(rng: random.Random, wrong: bool) -> str:
    a, b, c = (rng.randint(2, 12) for _ in range(3))
    product = said(rng, a * b, wrong)
    return (
        "Then\n\\begin{align*}\nx &= "
        + rf"{a} \cdot {b} + {c} \\"
        + f"\n&= {product} + {c} "
        + r"\\"
        + f"\n&= {product + c}.\n\\end{{align*}}"
    )


def lines(rng: random.Random, wrong: bool) -> str:
    a, b, c = (rng.randint(2, 60) for _ in range(3))
    return f"Total cost\n= {a} * {b} + {c}\n= {said(rng, a * b, wrong)} + {c}"


def order(rng: random.Random, wrong: bool) -> str:
    a, b = sorted(rng.sample(range(-40, 90), 2))
    if wrong:
        a, b = b, a
    sign = rng.choice(["<", r"\le", r"\leq", r"\leqslant"])
    return rng.choice([f"${a} {sign} {b}$", f"Since {a} < {b}, we go on.", f"{b} > {a}", f"{b} ≥ {a}"])


def fraction_order(rng: random.Random, wrong: bool) -> str:
    a, b = Fraction(rng.randint(1, 9), rng.randint(2, 9)), Fraction(rng.randint(1, 9), rng.randint(2, 9))
    if a == b:
        b += 1
    low, high = sorted((a, b), reverse=wrong)
    return rng.choice([f"{low} < {high}", rf"${tex(high)} > {tex(low)}$"])


def about(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(10, 99), rng.randint(3, 97)
    c = a / b * (rng.choice([0.7, 0.8, 1.25, 1.4]) if wrong else 1)
    return rng.choice([rf"$\frac{{{a}}}{{{b}}} \approx {c:.3f}$", f"{a}/{b} ≈ {c:.2f}"])


def rounded(rng: random.Random, wrong: bool) -> str:
    a, b, places = rng.randint(2, 60), rng.choice([3, 7, 9, 11, 13, 17]), rng.randint(2, 4)
    scaled = round(Fraction(a, b) * 10**places) + (rng.choice([2, 3, 10, 7, -3, -2, -10]) if wrong else 0)
    text = decimal(Fraction(scaled, 10**places), places)
    return rng.choice([f"{a} / {b} = {text}", rf"$\frac{{{a}}}{{{b}}} = {text}$", f"{a}/{b} = {text}"])


def decimals(rng: random.Random, wrong: bool) -> str:
    a, b = Fraction(rng.randint(1, 999), 100), Fraction(rng.randint(1, 99), 10)
    symbol, c, places = rng.choice([("+", a + b, 2), ("*", a * b, 3), ("-", a - b, 2)])
    c += Fraction(rng.choice([-10, -2, 1, 2, 10]), 10**places) if wrong else 0
    return f"{decimal(a, 2)} {symbol} {decimal(b, 1)} = {decimal(c, places)}"


def congruence(rng: random.Random, wrong: bool) -> str:
    m = rng.randint(3, 20)
    a = rng.randint(20, 400)
    r = (a % m + rng.randint(1, m - 1)) % m if wrong else a % m
    return rng.choice(
        [
            rf"${a} \equiv {r} \pmod{{{m}}}$",
            f"{a} ≡ {r} (mod {m})",
            rf"$7^{{{a}}} \equiv {(pow(7, a, m) + (1 if wrong else 0)) % m} \pmod {{{m}}}$",
        ]
    )


def counting(rng: random.Random, wrong: bool) -> str:
    n = rng.randint(3, 9)
    k = rng.randint(1, n - 1)
    if rng.random() < 0.5:
        return rf"$\binom{{{n}}}{{{k}}} = {said(rng, math.comb(n, k), wrong)}$"
    return f"{n}! = {said(rng, math.factorial(n), wrong)}"


def negative(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 20), rng.randint(2, 20)
    return rng.choice(
        [
            f"-{a} + {b} = {said(rng, b - a, wrong)}",
            f"(-{a}) * (-{b}) = {said(rng, a * b, wrong)}",
            f"$-{a} \\cdot {b} = {said(rng, -a * b, wrong)}$",
            f"{a} - (-{b}) = {said(rng, a + b, wrong)}",
        ]
    )


def nested(rng: random.Random, wrong: bool) -> str:
    a, b, c, d = (rng.randint(2, 20) for _ in range(4))
    result = said(rng, (a + b) * c - d, wrong)
    return rng.choice(
        [
            f"({a} + {b}) * {c} - {d} = {result}",
            rf"$\left({a}+{b}\right)\cdot {c}-{d}={result}$",
            f"{c}({a} + {b}) - {d} = {result}",
        ]
    )


def words(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 40), rng.randint(2, 12)
    word, c = rng.choice([("plus", a + b), ("times", a * b), ("multiplied by", a * b)])
    if rng.random() < 0.25:
        return f"So {a * b} divided by {b} equals {said(rng, a, wrong)}."
    return f"{a} {word} {b} {rng.choice(['equals', '='])} {said(rng, c, wrong)}."


def marked(rng: random.Random, wrong: bool) -> str:
    a, symbol, b, c = operation(rng)
    c = said(rng, c, wrong)
    return rng.choice(
        [
            f"1. **Total:** {a} {symbol} {b} = **{c}**",
            f"* {a} {symbol} {b} = {c}",
            f"Step {rng.randint(1, 9)}: {a} {symbol} {b} = {c}.",
            f"**{a} {symbol} {b} = {c}**",
            f"- Cost: {a} {symbol} {b} = {c}",
            f"First, we compute {a} {symbol} {b} = {c}, then we go on.",
            f"(b) {a} {symbol} {b} = {c}",
        ]
    )


def divisors(rng: random.Random, wrong: bool) -> str:
    g = rng.randint(2, 12)
    a, b = g * rng.randint(2, 9), g * rng.randint(2, 9)
    name, right = rng.choice([("gcd", math.gcd(a, b)), ("lcm", math.lcm(a, b))])
    c = said(rng, right, wrong)
    return rng.choice(
        [
            rf"$\{name}({a}, {b}) = {c}$" if name == "gcd" else rf"$\text{{lcm}}({a}, {b}) = {c}$",
            f"{name}({a}, {b}) = {c}",
        ]
    )


def given(rng: random.Random, wrong: bool) -> str:
    x, a, b = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 20)
    letter = rng.choice(LETTERS)
    return f"Let ${letter} = {x}$. Then ${a}{letter} + {b} = {said(rng, a * x + b, wrong)}$."


def repeating(rng: random.Random, wrong: bool) -> str:
    d = rng.randint(1, 8)
    c = Fraction(d + (1 if wrong else 0), 9)
    return rf"$0.\overline{{{d}}} = {tex(c)}$"


def boxed(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    return rf"So the answer is ${a} + {b} = \boxed{{{said(rng, a + b, wrong)}}}$."


def area(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 30), rng.randint(2, 30)
    c = said(rng, a * b, wrong)
    return rng.choice(
        [
            rf"$\text{{Area}} = {a} \text{{ cm}} \times {b} \text{{ cm}} = {c} \text{{ cm}}^2$",
            f"Area = {a} cm * {b} cm = {c} cm^2",
        ]
    )


def bare(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    return rng.choice(
        [rf"Note that ${said(rng, a * b, wrong)} = {a} \cdot {b}$.", f"So {said(rng, a * b, wrong)} = {a} * {b}."]
    )


def scientific(rng: random.Random, wrong: bool) -> str:
    a, k = rng.randint(2, 9), rng.randint(2, 6)
    return rf"${a} \times 10^{{{k}}} = {a}{'0' * (k + (rng.choice([-1, 1]) if wrong else 0))}$"


def bars(rng: random.Random, wrong: bool) -> str:
    a, b = rng.randint(2, 20), rng.randint(21, 50)
    if rng.random() < 0.5:
        return rf"$|{a} - {b}| = {said(rng, b - a, wrong)}$"
    return rf"$\left\lfloor \frac{{{b}}}{{{a}}} \right\rfloor = {said(rng, b // a, wrong)}$"


STYLES: tuple[Draw, ...] = (
    lab, gsm, gsm_terms, dollars, cents, percent, share, thousands, rate, counted, fractions, short_fractions,
    plain_fractions, mixed, roots, powers, identity, square, rational, trigonometric, logarithms, chain, aligned,
    lines, order, fraction_order, about, rounded, decimals, congruence, counting, negative, nested, words, marked,
    divisors, given, repeating, boxed, area, bare, scientific, bars,
)  # fmt: skip


def planted(n: int, seed: int) -> list[tuple[str, str, bool]]:
    """n steps: the style, the text, and whether there is an error in it. Every style in turn, right and wrong in turn."""
    rng = random.Random(seed)
    found = []
    for k in range(n):
        style = STYLES[(k // 2) % len(STYLES)]
        found.append((style.__name__, style(rng, k % 2 == 1), k % 2 == 1))
    return found
