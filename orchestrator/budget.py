"""Hard budgets: limits, and the ledger that holds before a call and settles after it, on a node and all its ancestors.

Only `Model.generate` and `RewardModel.rate` touch a ledger. For every node, at all times, spent + held <= limit, so
that concurrent calls cannot overshoot; at rest nothing is held.
"""

from __future__ import annotations

import asyncio
import difflib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from reasonweave.orchestrator.errors import BadInput, OverBudget, Path
from reasonweave.orchestrator.types import Usage

Clock = Callable[[], float]

_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Budget:
    """Limits on a run; None is no limit. `roles` limits what models of one role may spend within it.

    `tokens` counts prompt (cached or not) and completion tokens of every model, `calls` requests (a batch of eight is
    eight), `seconds` wall time from the first use, `flops` 2 · active parameters · (uncached prompt + completion
    tokens), `usd` money at the prices the user gave.

    >>> Budget(tokens=50_000, large=Budget(tokens=5_000))
    Budget(tokens=50000, large=Budget(tokens=5000))
    """

    LIMITS: ClassVar[tuple[str, ...]] = ("tokens", "completion_tokens", "calls", "seconds", "flops", "usd")

    tokens: float | None
    completion_tokens: float | None
    calls: float | None
    seconds: float | None
    flops: float | None
    usd: float | None
    roles: Mapping[str, Budget]

    def __init__(
        self,
        *,
        tokens: float | None = None,
        completion_tokens: float | None = None,
        calls: float | None = None,
        seconds: float | None = None,
        flops: float | None = None,
        usd: float | None = None,
        **roles: Budget,
    ) -> None:
        given = (tokens, completion_tokens, calls, seconds, flops, usd)
        for name, value in zip(self.LIMITS, given, strict=True):
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise BadInput(f"Budget({name}={value!r}): a limit is a number, 0 or more")
            object.__setattr__(self, name, value)
        for role, budget in roles.items():
            if not isinstance(budget, Budget):
                raise BadInput(
                    f"Budget({role}={budget!r}): a role takes a Budget; known limits: {', '.join(self.LIMITS)}"
                )
            if budget.roles:
                raise BadInput(f"Budget({role}={budget!r}): a role's budget has no roles of its own")
            if budget.seconds is not None:
                raise BadInput(f"Budget({role}=Budget(seconds=…)): time has no role; limit seconds on the whole")
        object.__setattr__(self, "roles", dict(roles))

    def __repr__(self) -> str:
        parts = [f"{name}={_plain(v)}" for name in self.LIMITS if (v := getattr(self, name)) is not None]
        parts += [f"{role}={budget!r}" for role, budget in self.roles.items()]
        return f"Budget({', '.join(parts)})"

    def __bool__(self) -> bool:
        """Does it limit anything?"""
        return bool(self.roles) or any(getattr(self, name) is not None for name in self.LIMITS)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read the command line's form: ``tokens=20k,usd=0.5,large.tokens=5k``.

        >>> Budget.parse("tokens=20k,large.calls=3")
        Budget(tokens=20000, large=Budget(calls=3))
        """
        own: dict[str, Any] = {}
        roles: dict[str, dict[str, Any]] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, found, value = part.partition("=")
            role, _, limit = name.strip().rpartition(".")
            if not found or limit not in cls.LIMITS or role in cls.LIMITS or "." in role:
                near = difflib.get_close_matches(limit, cls.LIMITS, n=1)
                guess = f"did you mean {near[0]}? " if found and near and near[0] != limit else ""
                raise BadInput(
                    f"budget {part!r}: {guess}write LIMIT=NUMBER with one of {', '.join(cls.LIMITS)}, as in tokens=20k"
                )
            limits = roles.setdefault(role, {}) if role else own
            if limit in limits:
                raise BadInput(f"budget {part!r}: {name.strip()} is given twice")
            limits[limit] = _number(part, value.strip())
        named: dict[str, Any] = {role: cls(**limits) for role, limits in roles.items()}
        return cls(**own, **named)


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and value < 1e15 else f"{value:g}"


def _number(part: str, text: str) -> float:
    scale = _UNITS.get(text[-1:].lower(), 1.0)
    try:
        value = float(text[:-1] if scale != 1.0 else text) * scale
    except ValueError:
        raise BadInput(f"budget {part!r}: {text!r} is not a number (20000, 20k, 1.5e9)") from None
    if not math.isfinite(value) or value < 0:
        raise BadInput(f"budget {part!r}: a limit is a finite number, 0 or more")
    return int(value) if value.is_integer() else value


@dataclass(frozen=True, slots=True)
class Rates:
    """What one token of a model costs: `active` parameters (for FLOPs), and usd a token."""

    active: float = 0.0
    usd_prompt: float = 0.0
    usd_cached: float | None = None
    usd_completion: float = 0.0

    def price(self, *, prompt: int, completion: int, cached: int = 0, calls: int = 1) -> Usage:
        """The usage of these token counts, FLOPs and usd worked out."""
        cheap = self.usd_prompt if self.usd_cached is None else self.usd_cached
        return Usage(
            prompt=prompt,
            cached=cached,
            completion=completion,
            calls=calls,
            flops=2 * self.active * (prompt - cached + completion),
            usd=(prompt - cached) * self.usd_prompt + cached * cheap + completion * self.usd_completion,
        )

    @property
    def dearest_prompt(self) -> float:
        return max(self.usd_prompt, self.usd_cached or 0.0)

    def worst(self, *, prompt: int, completion: int) -> Usage:
        """The most that one call of this size can cost: nothing cached."""
        usage = self.price(prompt=prompt, completion=completion)
        extra = prompt * (self.dearest_prompt - self.usd_prompt)
        return usage if not extra else usage + Usage(usd=extra)


@dataclass(frozen=True, slots=True)
class Reserve:
    """A slice of a budget to keep back, one worst-case call of one role."""

    role: str
    usage: Usage


@dataclass(slots=True)
class _Account:
    spent: Usage = field(default_factory=Usage)
    held: Usage = field(default_factory=Usage)
    open: int = 0
    """How many holds are on it."""
    kept: Usage = field(default_factory=Usage)
    """What is kept back for later; unlike a hold, nobody waits for it."""
    cut: Usage = field(default_factory=Usage)
    """The part of `spent` that went into calls which were cut because nobody wanted the rest."""
    saved: Usage = field(default_factory=Usage)

    @property
    def used(self) -> Usage:
        return self.spent + self.held + self.kept


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """Money set aside for one call; `Ledger.settle` takes it exactly once."""

    role: str
    worst: Usage


class _Room:
    """Where the calls of one tree of accounts wait until there is room for them."""

    def __init__(self) -> None:
        self._freed = asyncio.Event()
        self._waiting: dict[object, list[Ledger]] = {}
        self.moved = 0
        """How often anything has changed in the accounts: what was worked out from them holds until it does again."""

    async def wait(self, lineage: list[Ledger]) -> None:
        """Wait to be woken; until then each of these accounts counts a call that waits."""
        me = object()
        self._waiting[me] = lineage
        for node in lineage:
            node._waiting += 1
        self._freed.clear()
        try:
            await self._freed.wait()
        finally:
            self._leave(me)

    def awake(self) -> None:
        """Everybody looks again, and counts as waiting only where he comes back."""
        self.moved += 1
        for each in list(self._waiting):
            self._leave(each)
        self._freed.set()

    def _leave(self, who: object) -> None:
        for node in self._waiting.pop(who, ()):
            node._waiting -= 1


class Ledger:
    """One node in a tree of accounts. Single-threaded: all calls of one tree come from one event loop."""

    def __init__(
        self, limit: Budget | None = None, parent: Ledger | None = None, *, clock: Clock | None = None
    ) -> None:
        self._limit = limit or Budget()
        self.parent = parent
        self.clock: Clock = clock or (parent.clock if parent else time.monotonic)
        self._own = _Account()
        self._roles: dict[str, _Account] = {}
        self._open: set[Hold] = parent._open if parent else set()
        self._room: _Room = parent._room if parent else _Room()
        self._waiting = 0
        self._began = self.clock()

    @property
    def limit(self) -> Budget:
        """What may be spent under this node."""
        return self._limit

    @property
    def spent(self) -> Usage:
        return self._own.spent

    @property
    def held(self) -> Usage:
        return self._own.held

    @property
    def cut(self) -> Usage:
        """The part of `spent` that went into calls which were ended early because nobody wanted the rest."""
        return self._own.cut

    @property
    def saved(self) -> Usage:
        """What calls that were ended early had held and did not use: the most that ending them can have saved."""
        return self._own.saved

    def spent_by(self, role: str) -> Usage:
        """What models of this role have spent under this node."""
        return self._roles[role].spent if role in self._roles else Usage()

    def lineage(self) -> Iterator[Ledger]:
        """This node and its ancestors."""
        node: Ledger | None = self
        while node is not None:
            yield node
            node = node.parent

    @property
    def deadline(self) -> float | None:
        """The clock time at which the tightest `seconds` limit of this node or an ancestor ends."""
        ends = [node._began + node._limit.seconds for node in self.lineage() if node._limit.seconds is not None]
        return min(ends, default=None)

    @property
    def busy(self) -> bool:
        """Is anything held anywhere on the tree?"""
        return bool(self._open)

    def waits(self, role: str, worst: Usage, *, grow: bool = True) -> bool:
        """Could this fit once others settle? True where it does not fit now and each limit in its way has holds on it or, with
        `grow`, may still rise."""
        broken = list(self._broken(role, worst))
        settling = (account.open or (grow and node.grows) for _, node, _, account in broken)
        return bool(broken) and all(settling) and not self._late

    async def freed(self) -> None:
        """Wait until some hold of the tree has been settled, or a sibling has ended."""
        await self._room.wait(list(self.lineage()))

    def awake(self) -> None:
        """Let those who wait for room look again."""
        self._room.awake()

    is_share: ClassVar[bool] = False
    """Is this the account of one of several siblings, that share what is left?"""

    @property
    def grows(self) -> bool:
        """May this node's limit still rise?"""
        return False

    @property
    def used(self) -> Usage:
        """What is spent, held and kept back under this node."""
        return self._own.used

    def used_by(self, role: str) -> Usage:
        """The same of the models of one role."""
        return self._roles[role].used if role in self._roles else Usage()

    @property
    def under_way(self) -> int:
        """How many calls under this node hold something."""
        return self._own.open

    @property
    def moved(self) -> int:
        """A number that changes whenever anything in the tree of accounts does."""
        return self._room.moved

    @property
    def idle(self) -> bool:
        """Does a call under this node wait for room, and nothing else go on?"""
        return self._waiting > 0 and not self._own.open

    def _limits(self, role: str) -> Iterator[tuple[Ledger, Budget, _Account]]:
        for node in self.lineage():
            limit = node.limit
            yield node, limit, node._own
            if role in limit.roles:
                yield node, limit.roles[role], node._roles.get(role) or _Account()

    def refusal(self, role: str, worst: Usage, path: Path = ()) -> OverBudget | None:
        """The error that holding this would raise, or None where it fits every limit."""
        for name, node, limit, account in self._broken(role, worst):
            amount = AMOUNT[name]
            left = getattr(limit, name) - amount(account.used)
            return OverBudget(what=name, asked=amount(worst), left=left, limit=limit, path=path, share=node.is_share)
        if self._late:
            timed = next(node.limit for node in self.lineage() if node._limit.seconds is not None)
            return OverBudget(what="seconds", asked=0, left=0, limit=timed, path=path)
        return None

    def _broken(self, role: str, worst: Usage) -> Iterator[tuple[str, Ledger, Budget, _Account]]:
        """The limits that holding this would break, by name."""
        for node, limit, account in self._limits(role):
            for name, amount in AMOUNT.items():
                cap = getattr(limit, name)
                if cap is not None and amount(account.used) + amount(worst) > cap * _ROUNDING:
                    yield name, node, limit, account

    @property
    def _late(self) -> bool:
        return self.deadline is not None and self.clock() >= self.deadline

    def room(self, role: str, rates: Rates, prompt: int) -> int | None:
        """How many completion tokens one more call with this prompt may be allowed: None without a limit, else >= 0."""
        base, token = rates.worst(prompt=prompt, completion=0), rates.price(prompt=0, completion=1, calls=0)
        most = math.inf
        for _, limit, account in self._limits(role):
            used = account.used
            for name, amount in AMOUNT.items():
                if (cap := getattr(limit, name)) is None:
                    continue
                left = cap * _ROUNDING - amount(used) - amount(base)
                most = min(most, left // amount(token) if amount(token) else math.inf if left >= 0 else 0)
        return None if most == math.inf else max(0, int(most))

    def hold(self, role: str, worst: Usage, path: Path = ()) -> Hold:
        """Set aside the worst case of one call on this node and every ancestor, or raise `OverBudget`."""
        if refused := self.refusal(role, worst, path):
            raise refused
        return self.set_aside(role, worst)

    def set_aside(self, role: str, worst: Usage) -> Hold:
        """`hold`, for callers that have asked for a `refusal` in this very moment: asked twice, the clock may say otherwise."""
        hold = Hold(role, worst)
        for account in self._accounts(role):
            account.held = account.held + worst
            account.open += 1
        self._open.add(hold)
        self._room.moved += 1
        return hold

    def settle(self, hold: Hold, spent: Usage, *, cancelled: bool = False) -> None:
        """Replace a hold by what was really spent. A hold is settled exactly once; a second time raises KeyError.

        `cancelled` says that the call was ended early because nobody wanted the rest; it shows in `cut` and `saved`.
        """
        self._open.remove(hold)
        for account in self._accounts(hold.role):
            if cancelled:
                account.cut = account.cut + spent
                account.saved = account.saved + (hold.worst - spent)
            account.spent = account.spent + spent
            account.open -= 1
            account.held = account.held - hold.worst if account.open else Usage()
        self._room.awake()

    def _accounts(self, role: str) -> Iterator[_Account]:
        for node in self.lineage():
            yield node._own
            yield node._roles.setdefault(role, _Account())

    def left(self, role: str | None = None) -> dict[str, float]:
        """What is left under each limit that applies here, spent, held and kept taken off: the limits on everything, or
        with `role` those on that role alone."""
        rest: dict[str, float] = {}
        for node in self.lineage():
            limit = node.limit if role is None else node.limit.roles.get(role, Budget())
            account = node._own if role is None else node._roles.get(role, _Account())
            for name, amount in AMOUNT.items():
                if (cap := getattr(limit, name)) is not None:
                    used = amount(account.used)
                    rest[name] = min(rest.get(name, math.inf), max(0.0, cap - used))
        if role is None and self.deadline is not None:
            rest["seconds"] = max(0.0, self.deadline - self.clock())
        return rest

    @contextmanager
    def keep(self, reserve: Reserve) -> Iterator[None]:
        """Keep a slice back, for calls that come after this block: here and on every ancestor, nothing else may use it.

        Where less than that is left, all of it is kept.
        """
        accounts = list(self._accounts(reserve.role))
        for account in accounts:
            account.kept = account.kept + reserve.usage
        self._room.moved += 1
        try:
            yield
        finally:
            for account in accounts:
                account.kept = account.kept - reserve.usage
            self._room.awake()


AMOUNT: dict[str, Callable[[Usage], float]] = {
    "tokens": lambda usage: usage.tokens,
    "completion_tokens": lambda usage: usage.completion,
    "calls": lambda usage: usage.calls,
    "flops": lambda usage: usage.flops,
    "usd": lambda usage: usage.usd,
}
"""How each limit reads a usage; `seconds` is read off the clock instead."""

_ROUNDING = 1 + 1e-12
"""Slack for sums of floats (FLOPs, usd); far below one token."""
