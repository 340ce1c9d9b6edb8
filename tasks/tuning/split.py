"""Which problems a workflow is chosen by, and which are kept to see what the choice is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.run import Run
from reasonweave.tasks.base import Example, Task
from reasonweave.tasks.tuning.outcomes import problem_key

LEAST = 2
"""The fewest problems a side can have."""


@dataclass(frozen=True)
class Split:
    """Two sets of problems that share none, in a random order each."""

    search: tuple[Example, ...]
    held_out: tuple[Example, ...]

    @classmethod
    def of(cls, task: Task, limit: int | None, held_out: int | None, seed: int) -> Split:
        """`limit` problems to search with and `held_out` others of a task, shuffled by the seed; problems of the same words are
        one. Without numbers, half of the task each; without one of the two, as many as of the other.

        Raises `BadInput` where the task has fewer.
        """
        search = held_out if limit is None else limit
        kept = limit if held_out is None else held_out
        asked = None if search is None or kept is None else search + kept
        distinct = list({problem_key(example): example for example in reversed(task.examples(asked))}.values())[::-1]
        if search is None or kept is None:
            search = (len(distinct) + 1) // 2
            kept = len(distinct) - search
        if len(distinct) < search + kept or min(search, kept) < LEAST:
            raise BadInput(
                f"task {task.name} has {len(distinct)} different problems of the {search + kept} that are asked for: {search} to "
                f"search with and {kept} held out (--limit, --held-out); {LEAST} of each at least are needed"
            )
        order = Run(seed, ("tune", "split")).rng().permutation(len(distinct))
        mixed = [distinct[i] for i in order]
        return cls(tuple(mixed[:search]), tuple(mixed[search : search + kept]))

    @property
    def digest(self) -> str:
        """Which problems they are, and in which order."""
        sides: Sequence[Sequence[Example]] = (self.search, self.held_out)
        text = "/".join(" ".join(f"{problem_key(e)}={e.target!r}" for e in side) for side in sides)
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
