"""Where we are in a run: the path that names every seed, pays every token and labels every trace line."""

from __future__ import annotations

import hashlib
import itertools
import json
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from reasonweave.orchestrator.budget import Budget, Ledger
from reasonweave.orchestrator.errors import OverBudget, Path, SeedReuse
from reasonweave.orchestrator.shares import Share
from reasonweave.orchestrator.trace import Event, Tracer
from reasonweave.orchestrator.types import Usage


def _silent(event: Event) -> None:
    pass


@dataclass(slots=True)
class Session:
    """What one `solve` shares between all its branches: used paths, what the budget cut short where, and what to tell
    backends when it is over."""

    number: int = field(default_factory=itertools.count(1).__next__)
    used: set[Path] = field(default_factory=set)
    cuts: list[tuple[Path, str]] = field(default_factory=list)
    closers: dict[object, Callable[[], None]] = field(default_factory=dict)

    def close(self) -> None:
        """Let backends drop what they kept for this session (prefix caches)."""
        for closer in self.closers.values():
            closer()
        self.closers.clear()


@dataclass(frozen=True, slots=True)
class Run:
    """One position in the tree of a run. Frozen; split it with `child` where work branches.

    Seeds are paths: a call's randomness is a hash of (root seed, path), so the result does not depend on scheduling.
    """

    root_seed: int = 0
    path: Path = ()
    ledger: Ledger = field(default_factory=Ledger)
    tracer: Tracer = _silent
    session: Session = field(default_factory=Session)
    metered: bool = False
    """Whether calls from here on may be cancelled once nobody wants them, so that they must be counted as they come."""

    def child(self, *label: str | int, budget: Budget | Share | None = None) -> Run:
        """The run one branch further down; `budget` opens an account of its own under this one, a `Share` one of what is left.

        >>> Run().child("step", 3).path
        ('step', 3)
        """
        limit = budget.of(self.ledger) if isinstance(budget, Share) else budget
        ledger = Ledger(limit, self.ledger) if limit is not None else self.ledger
        plain = (part if isinstance(part, str) else operator.index(part) for part in label)
        return replace(self, path=(*self.path, *plain), ledger=ledger)

    def seed(self, *label: str | int) -> int:
        """A number in 0..2^48-1 that depends on the root seed and the path alone (48 bits survive JSON)."""
        text = json.dumps([self.root_seed, *self.path, *label])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def rng(self) -> np.random.Generator:
        """A fresh generator for this path: same path, same draws. Split the run for independent draws."""
        return np.random.default_rng(self.seed("rng"))

    def claim(self) -> None:
        """Mark this path as used by a call; a second call from it raises `SeedReuse`."""
        if self.path in self.session.used:
            raise SeedReuse(self.path)
        self.session.used.add(self.path)

    def late(self) -> OverBudget:
        """The refusal of a run whose time is over."""
        refused = self.ledger.refusal("", Usage(), self.path)
        return refused or OverBudget(what="seconds", asked=0, left=0, limit=self.ledger.limit, path=self.path)

    def cut(self, why: OverBudget) -> None:
        """Note that the budget cut a call at this path short, without ending it."""
        self.session.cuts.append((self.path, str(why)))

    @property
    def cut_short(self) -> str | None:
        """Why the budget cut something at or under this path short; None where it did not."""
        return next((why for path, why in self.session.cuts if path[: len(self.path)] == self.path), None)

    def emit(self, event: Event) -> None:
        self.tracer(event)
