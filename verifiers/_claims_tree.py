"""What a claim is made of once it is read: a small tree, and the side of a claim that it is."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple, TypeAlias


class Num(NamedTuple):
    """A number as it is written, with the digits after its point."""

    value: Fraction
    places: int = 0


class Name(NamedTuple):
    """A letter, or something opaque that is the same wherever it is written the same: ``x_1``, ``f(3)``, ``Area``."""

    text: str


class Op(NamedTuple):
    """A binary operation: + - * / ^ mod."""

    symbol: str
    left: Node
    right: Node


class Call(NamedTuple):
    """A function of its arguments, by name: neg, %, !, deg, sqrt, log, sin, …"""

    name: str
    args: tuple[Node, ...]


Node: TypeAlias = Num | Name | Op | Call


class Member(NamedTuple):
    """One side of a claim. `doubts` say why it may mean something else; `units` are the words and currencies in it."""

    node: Node
    start: int
    end: int
    doubts: tuple[str, ...] = ()
    units: frozenset[str] = frozenset()

    @property
    def bare(self) -> bool:
        """Is it a number and nothing else?"""
        node = self.node
        while isinstance(node, Call) and node.name in ("neg", "%", "deg"):
            node = node.args[0]
        return isinstance(node, Num)


def nodes(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    waiting = [node]
    while waiting:
        yield (node := waiting.pop())
        if isinstance(node, Op):
            waiting += (node.right, node.left)
        elif isinstance(node, Call):
            waiting += node.args
