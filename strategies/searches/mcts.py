"""Monte Carlo tree search over reasoning steps (UCT)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.searches.live import begin, complete, extend_live, moved, score, unjudged, value


@dataclass(frozen=True)
class MCTS:
    """Monte Carlo tree search (UCT; Kocsis & Szepesvári, 2006) with a verifier for its rewards.

    A simulation goes down from the root by Q + `exploration` · √(ln N / n) to a node that has sampled fewer than `width`
    children, samples one there, writes it to its end (`rollout`) and has it scored; the score, in 0..1, is added to every
    node above. Without `rollout`, the new node itself is scored, which needs a verifier of prefixes. A finished node gives
    its score again, at no cost. A child of the same text is the same child.

    `batch` simulations run at a time, in one call each for steps and for scores; those under way count as visits of value 0
    (virtual loss), which sends the others elsewhere. After `n` simulations, all finished solutions are the result.
    """

    policy: StepPolicy
    verifier: Verifier
    n: int = 16
    width: int = 4
    exploration: float = math.sqrt(2)
    rollout: bool = True
    batch: int = 4
    max_steps: int = 64

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        if min(self.n, self.width, self.batch, self.max_steps) < 1 or self.exploration < 0:
            raise BadInput(f"{self}: n, width, batch and max_steps are 1 or more, exploration is 0 or more")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        root = _Node.of(begin(roots, len(roots)), self.width)
        found: dict[str, Candidate] = {}
        partial: Candidate | None = None
        begun = 0
        while begun < self.n:
            paths = self._paths(root, min(self.batch, self.n - begun))
            here = run.child("simulation", begun)
            begun += len(paths)
            starts = Candidates(tuple(path[-1].candidate for path in paths))
            grown = await extend_live(self.policy, starts, here)
            ends = await complete(self.policy, grown, here, most=self.max_steps) if self.rollout else grown
            if late := unjudged(ends):
                yield Candidates((*found.values(), *late))
            ends = await score(self.verifier, ends, here)
            for path, before, after, end in zip(paths, starts, grown, ends, strict=True):
                new = end if after.done or not self.rollout else after
                child = new if not before.done and moved(before, new) else None
                for node in path:
                    node.pending -= 1
                for node in path if child is None else (*path, path[-1].grown(child)):
                    node.visits += 1
                    node.total += max(0.0, value(end))
                if end.done and not end.failed:
                    found.setdefault(end.text, end)
                elif partial is None or value(end) > value(partial):
                    partial = end
            yield Candidates(tuple(found.values()) or ((partial,) if partial is not None else roots.items))

    def _paths(self, root: _Node, most: int) -> list[list[_Node]]:
        """Where the next simulations begin, each a path from the root; at least one."""
        paths: list[list[_Node]] = []
        while len(paths) < most:
            path = [root]
            while path[-1].children and path[-1].tries >= self.width:
                path.append(path[-1].favourite(self.exploration))
            node = path[-1]
            if paths and not node.candidate.done and node.tries >= self.width:
                break  # all of its children are still under way
            node.tries += not node.candidate.done
            for each in path:
                each.pending += 1
            paths.append(path)
        return paths


@dataclass(slots=True, eq=False)
class _Node:
    candidate: Candidate
    children: dict[str, _Node] = field(default_factory=dict)
    """By their texts, in the order of coming."""
    tries: int = 0
    """How many children were sampled, or are being sampled, here."""
    visits: int = 0
    total: float = 0.0
    pending: int = 0

    @classmethod
    def of(cls, roots: Candidates, width: int) -> _Node:
        """The root; several are the children of one at which nothing is sampled."""
        if len(roots) == 1:
            return cls(roots[0])
        root = cls(Candidate(roots[0].problem), tries=width)
        for each in roots:
            root.grown(each)
        return root

    def favourite(self, exploration: float) -> _Node:
        """The child with the highest upper confidence bound; one that was never visited comes first."""
        reach = exploration * math.sqrt(math.log(max(1, self.visits + self.pending)))

        def bound(child: _Node) -> float:
            n = child.visits + child.pending
            return child.total / n + reach / math.sqrt(n) if n else math.inf

        return max(self.children.values(), key=bound)

    def grown(self, candidate: Candidate) -> _Node:
        """The child of this text, new or known."""
        text = candidate.text
        if text not in self.children:
            self.children[text] = _Node(candidate)
        return self.children[text]
