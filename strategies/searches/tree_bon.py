"""TreeBoN: best-of-n over layers, each of which keeps some and branches them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidate, Candidates, Score
from reasonweave.strategies.policies.reading import Reader
from reasonweave.strategies.searches.live import begin, extend_live, ranked, score, unjudged


@dataclass(frozen=True)
class TreeBoN:
    """TreeBoN (Qiu et al., 2024, arXiv 2410.16033): `layers` rounds of pruning within best-of-n.

    n candidates take one step of `policy` (a segment: give a policy with a `max_tokens` of its own for segments of fixed length)
    and are scored by `verifier`; the n / `children` best are kept and branch into n again. After `layers` of these, all are
    written to their end and scored by `final`, or `verifier` where there is none. The paper scores layers by an implicit reward
    (`ImplicitReward`) and solutions by a reward model; any verifiers will do. Finished candidates compete and are not extended.
    """

    policy: StepPolicy
    verifier: Verifier
    n: int = 16
    children: int = 4
    layers: int = 4
    final: Verifier | None = None
    max_steps: int = 64

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        if min(self.n, self.children, self.layers, self.max_steps) < 1:
            raise BadInput(f"{self}: n, children, layers and max_steps are 1 or more")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        nodes = begin(roots, self.n)
        for layer in range(min(self.layers, self.max_steps)):
            here = run.child("layer", layer)
            nodes = await extend_live(self.policy, nodes, here)
            if unjudged(nodes):
                yield nodes
            nodes = await score(self.verifier, nodes, here)
            yield nodes
            if nodes.all_done:
                break
            nodes = _branched(ranked(nodes)[: max(1, self.n // self.children)], self.n)
        for t in range(self.layers, self.max_steps):
            if nodes.all_done:
                break
            nodes = await extend_live(self.policy, nodes, run.child("step", t))
            yield nodes
        if self.final is not None:
            nodes = begin(nodes, len(nodes))
        yield await score(self.final or self.verifier, nodes, run.child("final"))


@dataclass(frozen=True)
class ImplicitReward:
    """What a tuned model prefers: (log p of the text under `tuned` − log p under `base`) per token, the reward that
    preference tuning leaves in a model (Rafailov et al., 2023). TreeBoN scores its layers by it.

    Two readings of each text, past the prefix cache. nan where one of the two cannot tell.
    """

    tuned: Reader
    base: Reader

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        empty = [Candidate(c.problem) for c in candidates]
        tuned = await self.tuned.read(empty, candidates, run.child("tuned"))
        base = await self.base.read(empty, candidates, run.child("base"))
        return [Score((t - b) / max(1, c.tokens)) for t, b, c in zip(tuned, base, candidates, strict=True)]


def _branched(kept: list[Candidate], n: int) -> Candidates:
    """n nodes: the finished ones once each, the others in turn."""
    done, live = [c for c in kept if c.done], [c for c in kept if not c.done]
    return Candidates((*done, *Candidates(tuple(live)).repeat(max(len(live), n - len(done)))))
