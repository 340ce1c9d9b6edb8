"""Siblings that run at the same time share what is left of a budget: none starves the others, and nothing is left unused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from reasonweave.orchestrator.budget import AMOUNT, Budget, Ledger
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Usage


@dataclass(frozen=True, slots=True)
class Share:
    """A part of whatever is left when it is asked for, 0..1: what a node may spend where the whole is not known beforehand.

    chain(Node(search, budget=Share(0.7)), majority, escalate(dear))   # something is left to escalate with
    """

    part: float

    def __post_init__(self) -> None:
        if not (isinstance(self.part, int | float) and 0 <= self.part <= 1):
            raise BadInput(f"Share({self.part!r}): a part of what is left, 0 to 1")

    def of(self, ledger: Ledger) -> Budget:
        """So much of every limit that applies under this account; no limit where there is none."""
        roles = {role: _budget(self._cut(ledger.left(role))) for role in roles_of(ledger)}
        return _budget(self._cut(ledger.left()), roles)

    def _cut(self, left: Mapping[str, float]) -> dict[str, float]:
        return {name: self.part * rest for name, rest in left.items()}


def roles_of(ledger: Ledger) -> set[str]:
    """The roles that an account, or one above it, limits."""
    return {role for node in ledger.lineage() for role in node.limit.roles}


class Shares:
    """Accounts for siblings under one parent. With T being what is left for all that still run, spent and held by them included,
    each may use T / k while k of them run: what one leaves over when it ends goes to the others (max-min fairness).

    A call for which a share has no room at all waits while a sibling may still leave something, and is refused where all of them
    wait; one that fits with fewer tokens is made. Time is not shared: siblings run at the same time.
    """

    def __init__(self, parent: Ledger, count: int) -> None:
        self.parent = parent
        self.members: Sequence[Ledger] = [_Share(self) for _ in range(count)]
        self._live = set(self.members)
        self._known: tuple[int, Budget] | None = None

    @property
    def live(self) -> set[Ledger]:
        """The members that have not ended."""
        return self._live

    def end(self, member: Ledger) -> None:
        """This one has ended; it leaves the rest to the others."""
        self._live.discard(member)
        self.parent.awake()

    def limit(self) -> Budget:
        """What each of those that still run may use by now."""
        if self._known is None or self._known[0] != self.parent.moved:
            roles = roles_of(self.parent)
            whole = self._cut(self.parent.left(), [member.used for member in self._live])
            shares = {
                role: _budget(self._cut(self.parent.left(role), [m.used_by(role) for m in self._live]))
                for role in roles
            }
            self._known = self.parent.moved, _budget(whole, shares)
        return self._known[1]

    def _cut(self, left: dict[str, float], used: Sequence[Usage]) -> dict[str, float]:
        k = max(1, len(used))
        return {
            name: (rest + sum(AMOUNT[name](each) for each in used)) / k for name, rest in left.items() if name in AMOUNT
        }


def _budget(limits: Mapping[str, float], roles: Mapping[str, Budget] | None = None) -> Budget:
    given: dict[str, Any] = {**limits, **(roles or {})}
    return Budget(**given)


class _Share(Ledger):
    """One sibling's account."""

    def __init__(self, group: Shares) -> None:
        super().__init__(None, group.parent)
        self._group = group

    @property
    def limit(self) -> Budget:
        return self._group.limit()

    is_share: ClassVar[bool] = True

    @property
    def grows(self) -> bool:
        """By a sibling that still does something, by what is around all of them, and by calls of others on the same accounts."""
        group = self._group
        if any(not other.idle for other in group.live if other is not self) or group.parent.grows:
            return True
        ours = sum(member.under_way for member in group.members)
        return any(node.under_way > ours for node in group.parent.lineage())


def shared(parent: Ledger, count: int) -> Shares | None:
    """Shares for so many siblings; None where there is nothing to share: one alone, or no limit."""
    limited = any(node.limit for node in parent.lineage())
    return Shares(parent, count) if count > 1 and limited else None
