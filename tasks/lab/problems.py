"""Lab problems: seeded, inexhaustible chains of whole-number arithmetic with levels 1 to 5.

A problem is one sentence an operation, a solution one equation a paragraph::

    Start with 17. A: Add 28. B: Multiply by 2. C: Subtract 19. What is the result?

    A: 17 + 28 = 45

    B: 45 * 2 = 90

    C: 90 - 19 = 71

    The answer is \\boxed{71}

Every value stays a whole number between 0 and 99, so each step is a true equation that anyone (or a symbolic checker)
can check. Training and test problems are disjoint by construction: a hash of the text decides the side.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from reasonweave.orchestrator.errors import BadInput

LARGEST = 99
PATIENCE = 1_000
"""Draws in a row that were drawn before, after which a level counts as used up."""
LEVELS = (1, 2, 3, 4, 5)
LETTERS = "ABCDEFGHIJKL"
"""What the operations of a problem, and the steps of a solution, are called."""
Split = Literal["train", "test"]
Symbol = Literal["+", "-", "*", "/"]

_WORDS: dict[Symbol, str] = {"+": "Add", "-": "Subtract", "*": "Multiply by", "/": "Divide by"}
_SYMBOLS: dict[str, Symbol] = {words: symbol for symbol, words in _WORDS.items()}


@dataclass(frozen=True, slots=True)
class Level:
    """What a level asks for: the number of operations and the largest addend; products only where `products`."""

    operations: tuple[int, int]
    addend: int
    products: bool


LEVEL: dict[int, Level] = {
    1: Level((2, 2), 30, products=False),
    2: Level((3, 3), 60, products=True),
    3: Level((4, 4), 99, products=True),
    4: Level((5, 6), 99, products=True),
    5: Level((7, 8), 99, products=True),
}


def apply(value: int, symbol: Symbol, operand: int) -> int:
    """The result of one operation; division must be exact.

    >>> apply(47, "+", 38), apply(84, "/", 4)
    (85, 21)
    """
    match symbol:
        case "+":
            return value + operand
        case "-":
            return value - operand
        case "*":
            return value * operand
        case "/":
            return value // operand


@dataclass(frozen=True, slots=True)
class Chain:
    """One lab problem: a starting value and the operations on it, in order."""

    start: int
    operations: tuple[tuple[Symbol, int], ...]
    level: int

    @property
    def values(self) -> tuple[int, ...]:
        """The running value after each operation."""
        values, value = [], self.start
        for symbol, operand in self.operations:
            value = apply(value, symbol, operand)
            values.append(value)
        return tuple(values)

    @property
    def answer(self) -> int:
        return self.values[-1]

    @property
    def text(self) -> str:
        """The problem as it is put to a model.

        >>> Chain(47, (("+", 38), ("*", 6)), level=1).text
        'Start with 47. A: Add 38. B: Multiply by 6. What is the result?'
        """
        lettered = zip(LETTERS, self.operations, strict=False)
        told = " ".join(f"{letter}: {_WORDS[symbol]} {operand}." for letter, (symbol, operand) in lettered)
        return f"Start with {self.start}. {told} What is the result?"

    @property
    def id(self) -> str:
        return f"lab-{self.level}-{hashlib.sha256(self.text.encode()).hexdigest()[:10]}"

    @property
    def split(self) -> Split:
        """One text in eight belongs to the test split, decided by a hash of the text alone."""
        return "test" if hashlib.sha256(self.text.encode()).digest()[0] < 32 else "train"


def parse(text: str) -> Chain:
    """Read a problem back from its text (the level is not in the text; it comes back as 0).

    Raises ValueError where the text is not a lab problem.

    >>> parse("Start with 8. A: Multiply by 6. B: Subtract 9. What is the result?").values
    (48, 39)
    """
    *told, question = [part.strip() for part in text.strip().split(".")]
    if question != "What is the result?" or not told or not told[0].startswith("Start with "):
        raise ValueError(f"not a lab problem: {text[:80]!r}")
    operations = []
    for letter, sentence in zip(LETTERS, told[1:], strict=False):
        words, _, operand = sentence.removeprefix(f"{letter}: ").rpartition(" ")
        if words not in _SYMBOLS or not operand.isdigit():
            raise ValueError(f"not a lab operation: {sentence!r}")
        operations.append((_SYMBOLS[words], int(operand)))
    return Chain(int(told[0].removeprefix("Start with ")), tuple(operations), level=0)


def draw(rng: random.Random, level: int) -> Chain:
    """One random chain of this level; every running value is a whole number in 0..99, and no operation is idle."""
    shape = LEVEL[level]
    start = value = rng.randint(2, 99)
    operations: list[tuple[Symbol, int]] = []
    for _ in range(rng.randint(*shape.operations)):
        symbol, operand = _draw_operation(rng, value, shape)
        value = apply(value, symbol, operand)
        operations.append((symbol, operand))
    return Chain(start, tuple(operations), level)


def _draw_operation(rng: random.Random, value: int, shape: Level) -> tuple[Symbol, int]:
    kinds: list[Symbol] = ["+", "-", "*", "/"] if shape.products else ["+", "-"]
    while True:
        symbol = rng.choice(kinds)
        if symbol == "+" and value < LARGEST - 2:
            return symbol, rng.randint(2, min(shape.addend, LARGEST - value))
        if symbol == "-" and value > 2:
            return symbol, rng.randint(2, min(shape.addend, value))
        if symbol == "*" and 2 <= value <= LARGEST // 2:
            return symbol, rng.randint(2, min(9, LARGEST // value))
        if symbol == "/" and (divisors := [d for d in range(2, 10) if value and value % d == 0]):
            return symbol, rng.choice(divisors)


def stream(split: Split, seed: int, levels: Sequence[int] = LEVELS) -> Iterator[Chain]:
    """An endless stream of problems of one split, levels drawn uniformly. The same seed gives the same stream."""
    rng = random.Random(f"reasonweave-lab/{split}/{seed}")
    while True:
        chain = draw(rng, rng.choice(levels))
        if chain.split == split:
            yield chain


def problems(n: int, *, split: Split = "test", seed: int = 0, levels: Sequence[int] = LEVELS) -> list[Chain]:
    """The first n distinct problems of a stream, with the levels in equal shares (1, 2, … 5, 1, 2, …).

    Raises `BadInput` for more than there are: level 1 has some tens of thousands a split.

    >>> [chain.level for chain in problems(6)]
    [1, 2, 3, 4, 5, 1]
    """
    sources = {level: stream(split, seed, [level]) for level in levels}
    chosen: dict[str, Chain] = {}
    repeated = 0
    while len(chosen) < n:
        chain = next(sources[levels[len(chosen) % len(levels)]])
        repeated = repeated + 1 if chain.text in chosen else 0
        if repeated > PATIENCE:
            raise BadInput(
                f"{n:,} problems of the lab: after {len(chosen):,} of them nearly all of level {chain.level} are taken; ask for "
                "fewer"
            )
        chosen.setdefault(chain.text, chain)
    return list(chosen.values())
