"""Successive halving over problems (Jamieson & Talwalkar, 2016; Karnin et al., 2013), for two aims at once.

Each workflow is first measured on few problems, and on more of them unless another one is clearly better there. optuna's pruners
know one aim only, so the rule is this file's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from reasonweave.tasks.tuning.outcomes import Outcome

FIRST = 25
"""Problems of the first rung."""
GROWTH = 4
"""How many times as many the next one has."""
CHANCE = 0.1
"""The most that chance may have to do with a workflow's being dropped."""


def rungs(problems: int) -> list[int]:
    """How many problems each rung has: 25, four times as many while that is at most half of all, and all.

    >>> rungs(300), rungs(60), rungs(30)
    ([25, 100, 300], [25, 60], [30])
    """
    sizes, size = list[int](), FIRST
    while 2 * size <= problems:
        sizes.append(size)
        size *= GROWTH
    return [*sizes, problems]


def sign_test(wins: int, losses: int) -> float:
    """The chance of this many wins or more among these decisions, each of which is a toss of a coin (one-sided sign test).

    >>> sign_test(4, 0), sign_test(3, 0), sign_test(0, 0)
    (0.0625, 0.125, 1.0)
    """
    n = wins + losses
    return float(sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n)


def beaten(own: Sequence[Outcome], other: Sequence[Outcome], cost: str) -> bool:
    """Is the other one clearly better on these problems? It costs no more, and of the problems that one of the two has right
    alone, so many are its own that chance would do that in one case of ten at most."""
    if sum(o.costs[cost] for o in other) > sum(o.costs[cost] for o in own):
        return False
    wins = sum(b.right and not a.right for a, b in zip(own, other, strict=True))
    losses = sum(a.right and not b.right for a, b in zip(own, other, strict=True))
    return wins > losses and sign_test(wins, losses) <= CHANCE
