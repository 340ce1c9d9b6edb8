"""PlanSearch (Wang et al., 2024, arXiv 2409.03733): a search among observations, so that solutions follow plans that differ."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Problem, Sampling
from reasonweave.strategies.prompting.asking import Listing, asked, needs, numbered, said
from reasonweave.strategies.prompting.wording import Words

OBSERVE = """\
{problem}

Do not solve this. What can be noticed about it that helps to solve it and is not plain to see? List at most {count}
observations, true ones that have little to do with one another, one a line, numbered, in a sentence or two, and nothing
else."""

DERIVE = """\
{problem}

Do not solve this. Somebody has noticed about it:
{observations}

What more can be noticed, above all by putting these together? List at most {count} observations that are true and say
something new, one a line, numbered, in a sentence or two, and nothing else."""

IDEA = """\
{problem}

Somebody has noticed about it:
{observations}

How can it be solved with the help of all of these observations? Describe the way and why it leads to the goal, in plain words,
without carrying it out."""

OTHER_IDEA = """\
{problem}

Somebody has noticed about it:
{observations}

This was proposed:
{ideas}

Suppose that it is wrong. Say where the mistake may be, then describe a way to solve the problem that does not depend on it, in
plain words, without carrying it out."""

OUTLINE = """\
{problem}

A way to solve it:
{idea}

Write this way down as exact steps that only have to be carried out, pseudocode where the problem asks for a program. Do not
carry them out."""

BY_PLAN = """\
{problem}

Solve it by these steps:
{plan}"""

NONE = "(nothing yet)"
"""What is shown where there are no observations."""

Observations = tuple[str, ...]


@dataclass(frozen=True)
class PlanSearch:
    """A preparation: each copy of a problem gets a plan that stands on another set of observations.

    The tree of the paper: observations about the problem; every subset of at most `size` of them, the empty one too, is a
    node, from which further observations are derived; every subset of at most `size` of those makes a leaf, which has the
    observations on its way. For each leaf `ideas` ways to solve the problem are described, each after the first with the ones
    before it, which it is told to take for wrong; each is written down as steps (`outline`; None leaves this out), and the
    problem is asked with them.

    Of all leaves, as many as the copies take are drawn by the run's seed, spread over the nodes, and only what they stand on
    is asked for. Where there are fewer, they are used again. Replies that cannot be read: without observations the problem is
    put as it is; without derived ones the leaf has the node's; without an idea the copy is put as it is; without an outline
    the idea is the plan.

    `observe` and `derive` have {problem} and {count}, `derive` also {observations}; `idea` has {problem} and {observations},
    `other_idea` also {ideas}; `outline` has {idea}; `final` has {problem} and {plan}.
    """

    model: Model
    observations: int = 5
    size: int = 2
    ideas: int = 2
    observe: str = OBSERVE
    derive: str = DERIVE
    idea: str = IDEA
    other_idea: str = OTHER_IDEA
    outline: str | None = OUTLINE
    final: str = BY_PLAN
    temperature: float = 0.8
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.observations < 1 or self.size < 1 or self.ideas < 1:
            told = f"observations={self.observations}, size={self.size}, ideas={self.ideas}"
            raise BadInput(f"PlanSearch({told}): all are 1 or more")
        needs(self, "derive prompt", self.derive, "problem", "observations")
        needs(self, "idea prompt", self.idea, "problem", "observations")
        needs(self, "other_idea prompt", self.other_idea, "problem", "observations", "ideas")
        if self.outline is not None:
            needs(self, "outline prompt", self.outline, "idea")
        needs(self, "final question", self.final, "problem", "plan")

    async def prepare(self, problems: Sequence[Problem], run: Run) -> list[Words]:
        """For n copies of a problem, i ideas a leaf, N nodes: 1 + min(⌈n/i⌉, N) + 2n requests, in 3 + i calls."""
        copies: dict[Problem, list[int]] = {}
        for i, problem in enumerate(problems):
            copies.setdefault(problem, []).append(i)
        leaves = await self._leaves({problem: -(-len(mine) // self.ideas) for problem, mine in copies.items()}, run)
        stands: dict[int, Observations] = {}
        after: dict[int, list[int]] = {}
        """The copies that have the ideas before this one's, in their order."""
        for problem, mine in copies.items():
            for k, i in enumerate(mine if leaves[problem] else ()):
                leaf, before = divmod(k, self.ideas)
                stands[i], after[i] = leaves[problem][leaf], mine[k - before : k]
        ideas = await self._ideas(problems, stands, after, run)
        plans = await self._plans(problems, ideas, run)
        return [
            Words(filled(self.final, problem=problem.prompt, plan=plans[i]))
            if plans.get(i)
            else Words(None, "no idea could be read" if i in stands else "no observations could be read")
            for i, problem in enumerate(problems)
        ]

    async def _leaves(self, wanted: dict[Problem, int], run: Run) -> dict[Problem, list[Observations]]:
        """So many leaves for each problem; none where nothing was observed."""
        told = [{"problem": problem.prompt} for problem in wanted]
        first = await self._listing(self.observe).lists(told, run.child("observe"))
        nodes: list[tuple[Problem, Observations]] = []
        for k, (problem, count) in enumerate(wanted.items()):
            drawn = shuffled(subsets(first[k], self.size), run.child("node", k).rng()) if first[k] else []
            nodes += [(problem, node) for node in drawn[:count]]
        told = [{"problem": problem.prompt, "observations": numbered(node) or NONE} for problem, node in nodes]
        further = await self._listing(self.derive).lists(told, run.child("derive"))
        below: dict[Problem, list[list[Observations]]] = {problem: [] for problem in wanted}
        for k, ((problem, node), new) in enumerate(zip(nodes, further, strict=True)):
            drawn = shuffled(subsets(new, self.size), run.child("leaf", k).rng())
            below[problem].append([node + subset for subset in drawn])
        return {problem: spread(below[problem], count) for problem, count in wanted.items()}

    async def _ideas(
        self, problems: Sequence[Problem], stands: dict[int, Observations], after: dict[int, list[int]], run: Run
    ) -> dict[int, str]:
        """An idea for each copy: first those that are a leaf's first, then those that see them, and so on; "" for none."""
        found: dict[int, str] = {}
        for turn in range(self.ideas):
            mine = [i for i in stands if len(after[i]) == turn]
            prompts = []
            for i in mine:
                before = [found[j] for j in after[i] if found[j]]
                told = {"problem": problems[i].prompt, "observations": numbered(stands[i]) or NONE}
                told["ideas"] = "\n\n".join(before)
                prompts.append(filled(self.other_idea if before else self.idea, **told))
            replies = await asked(self.model, prompts, run.child("idea", turn), self._sampling)
            found |= {i: said(reply) for i, reply in zip(mine, replies, strict=True)}
        return found

    async def _plans(self, problems: Sequence[Problem], ideas: dict[int, str], run: Run) -> dict[int, str]:
        """Each idea as steps; where that cannot be read, as it is."""
        if self.outline is None:
            return ideas
        prompts = [
            filled(self.outline, problem=problems[i].prompt, idea=idea) if idea else None for i, idea in ideas.items()
        ]
        replies = await asked(self.model, prompts, run.child("outline"), self._sampling)
        return {i: said(reply) or idea for (i, idea), reply in zip(ideas.items(), replies, strict=True)}

    def _listing(self, prompt: str) -> Listing:
        return Listing(self.model, prompt, self.observations, self.temperature, self.max_tokens)

    @property
    def _sampling(self) -> Sampling:
        return Sampling(self.temperature, max_tokens=self.max_tokens)


def subsets(items: Sequence[str], size: int) -> list[Observations]:
    """All subsets of at most `size` items, each in the items' order, the smaller ones first.

    >>> subsets("abc", 2)
    [(), ('a',), ('b',), ('c',), ('a', 'b'), ('a', 'c'), ('b', 'c')]
    """
    return [each for k in range(min(size, len(items)) + 1) for each in itertools.combinations(items, k)]


def spread(families: Sequence[Sequence[Observations]], count: int) -> list[Observations]:
    """So many members of families, the first of each in turn, then the second of each, and so on; from the beginning again
    where they are used up. None where there are no families.

    >>> spread([[("a",), ("b",)], [("c",)]], 5)
    [('a',), ('c',), ('b',), ('a',), ('c',)]
    """
    ranks = itertools.zip_longest(*families)
    order = [member for rank in ranks for member in rank if member is not None]
    return list(itertools.islice(itertools.cycle(order), count))


def shuffled(sets: Sequence[Observations], rng: np.random.Generator) -> list[Observations]:
    """In an order that is drawn."""
    return [sets[i] for i in rng.permutation(len(sets))]
