"""A verifier that knows its task: does a lab solution do what the problem says, with the numbers that it says?"""

from __future__ import annotations

import re

from reasonweave.orchestrator import Candidate, Verifier
from reasonweave.verifiers import Rule

TOLD = re.compile(r"([A-Z]): (Add|Subtract|Multiply by|Divide by) (\d+)")
DONE = re.compile(r"([A-Z]): (\d+) ([-+*/]) (\d+) = (\d+)")
SIGNS = {"Add": "+", "Subtract": "-", "Multiply by": "*", "Divide by": "/"}


def share_followed(candidate: Candidate) -> float | None:
    """The share of the problem's operations that the solution carries out as told; None for other problems."""
    told = {letter: (SIGNS[words], number) for letter, words, number in TOLD.findall(candidate.problem.prompt)}
    if not told:
        return None
    done = {letter: (sign, number) for letter, _, sign, number, _ in DONE.findall(candidate.text)}
    return sum(done.get(letter) == operation for letter, operation in told.items()) / len(told)


def follows_the_problem(*, seconds: float = 5.0) -> Verifier:
    """Does a lab solution carry out the operations that its problem tells? The share of them, 0 to 1.

    It does not look at the results: a solution that follows the problem may still miscalculate.

    Costs: nothing.
    """
    return Rule(share_followed, seconds=seconds, lowest=0.0, highest=1.0)
