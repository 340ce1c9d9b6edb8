"""What can go wrong, as a tree::

    ReasonweaveError
    ├── UserError               the caller can fix it; the command line prints it as one line
    │   ├── BadInput            a file, option or argument
    │   └── NotFound            a name that nothing answers to; carries the nearest matches
    ├── OverBudget              a limit was reached; caught by `drive` alone
    ├── SeedReuse               the same path was used for two calls
    ├── GraphError              a graph that cannot be built
    └── ModelError              a backend failed for good or broke its contract

A message says where, what, how much, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from reasonweave.orchestrator.budget import Budget

Path = tuple[str | int, ...]
_E = TypeVar("_E", bound=BaseException)


def show(path: Path) -> str:
    """A path as people read it.

    >>> show(("pf", "step", 3))
    'pf/step/3'
    """
    return "/".join(map(str, path)) or "run"


def first_of(error: BaseException) -> BaseException:
    """The first error of a group, of groups of groups too; any other error is itself."""
    return first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def described(error: BaseException) -> str:
    """An error in one line: a model's own words as they are, anything else with its type; and in which node it happened.

    >>> described(ModelError("server gone")), described(located(KeyError("x"), ("draft", "vote")))
    ('server gone', "KeyError: 'x' (in node draft/vote)")
    """
    told = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
    return " ".join([told, *(note for note in getattr(error, "__notes__", ()) if note.startswith(_IN_NODE))])


_IN_NODE = "(in node "


def located(error: _E, path: Path) -> _E:
    """The error with a note that says in which node of a graph it happened; that of a node within this one stays."""
    notes: list[str] = getattr(error, "__notes__", [])
    here = f"{_IN_NODE}{show(path)}"
    if not any(note.startswith((f"{here})", f"{here}/")) for note in notes):
        if notes:  # the same error was raised elsewhere before
            notes[:] = [note for note in notes if not note.startswith(_IN_NODE)]
        error.add_note(f"{here})")
    return error


class ReasonweaveError(Exception):
    """Base of all errors of this package."""


class UserError(ReasonweaveError):
    """A mistake that the caller can mend; the message stands alone."""


class BadInput(UserError):
    """A file, an option or an argument that cannot be used."""


class NotFound(UserError):
    """Nothing answers to this name.

    >>> print(NotFound("workflow", "best-of-m", ["single", "best-of-n"]))
    no workflow 'best-of-m'; did you mean 'best-of-n'? Known: best-of-n, single
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
        listed = f" Known: {', '.join(names)}" if names else ""
        super().__init__(f"no {kind} {name!r}{guess}{listed}{'. ' + hint if hint else ''}")
        self.kind, self.name, self.near = kind, name, near


class OverBudget(ReasonweaveError):
    """A limit was reached. Caught once, by `drive`; strategies never see it."""

    def __init__(self, *, what: str, asked: float, left: float, limit: Budget, path: Path, share: bool = False) -> None:
        self.what, self.asked, self.left, self.limit, self.path = what, asked, left, limit, path
        super().__init__(
            f"{show(path)}: asked for {asked:,.6g} {what}, {max(left, 0):,.6g} left of {'its share, ' * share}{limit}; raise "
            "budget= or lower n="
        )


class SeedReuse(ReasonweaveError):
    """Two calls from one path would draw the same random numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"seed reuse at {show(path)}; use run.child(...) to give each call its own path")


class GraphError(UserError):
    """A graph with a cycle, two sinks, an unknown parent or a name used twice."""


class ModelError(ReasonweaveError):
    """A backend failed for good, or broke its contract."""
