"""Selection: which of several flows answers a problem, said by a model or a verifier, or learned by a bandit within the run."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.drive import afforded, drive, driven
from reasonweave.orchestrator.errors import BadInput, Path
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute, scored
from reasonweave.orchestrator.trace import Skipped
from reasonweave.orchestrator.types import Candidate, Candidates, Context, Message, Sampling
from reasonweave.strategies.routers.cascade import Arrows, answering
from reasonweave.strategies.searches.live import score, value

ROUTE_PROMPT = """\
Below are a problem and {count} ways to solve it, numbered [1] to [{count}]. Do not solve the problem. For each way, say how
likely it is to lead to the right answer without waste, as a whole number from 0 (it will not) to 100 (it surely will).

Problem:
{problem}

{ways}

Reply with one line for each way and nothing else, in this form:
[1] 70"""

_RATED = re.compile(r"^[\s*_]*\[(\d{1,4})\][\s*_:=-]*(\d{1,3})(?:\s*/\s*100|\s*%)?[\s*_.]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Choice:
    """How promising each flow is, 0..1 each, in order, nan where that cannot be told; and what was found on the way, if anything,
    which stands where no flow answers. With `enough` it stands as it is, and no flow runs."""

    weights: tuple[float, ...]
    found: Candidates | None = None
    enough: bool = False


class Chooser(Protocol):
    """Says how promising each flow is for a problem."""

    async def choose(self, flows: Mapping[str, Strategy], roots: Candidates, run: Run) -> Choice: ...


@dataclass(frozen=True)
class AskModel:
    """A model reads the problem and what each flow is (`about`, by name; else its name), and rates them 0 to 100: PlanGEN's
    selection agent (Parmar et al., 2025, arXiv 2502.16111), whose ratings are a bandit's prior. One greedy call."""

    model: Model
    about: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int = 256
    prompt: str = ROUTE_PROMPT

    async def choose(self, flows: Mapping[str, Strategy], roots: Candidates, run: Run) -> Choice:
        if not roots.items:
            return Choice((math.nan,) * len(flows))
        ways = "\n".join(f"[{i}] {self.about.get(name, name)}" for i, name in enumerate(flows, 1))
        asked = filled(self.prompt, problem=roots[0].problem.prompt, ways=ways, count=len(flows))
        sampling = Sampling(0.0, max_tokens=self.max_tokens)
        (reply,) = await self.model.generate([Context((Message("user", asked),))], run, sampling=sampling)
        return Choice(ratings_in(reply.text, len(flows)))


def ratings_in(text: str, count: int) -> tuple[float, ...]:
    """The ratings in a reply, as shares of 100; nan for those it does not have. The last word on each counts.

    >>> ratings_in("[1] 70\\n[2]: 35/100\\n[4] 10", 3)
    (0.7, 0.35, nan)
    """
    found = {int(number): int(rating) for number, rating in _RATED.findall(after_thinking(text))}
    return tuple(found[i] / 100 if found.get(i, 101) <= 100 else math.nan for i in range(1, count + 1))


@dataclass(frozen=True)
class TryFirst:
    """By a verifier: `probe` (a cheap flow) answers first, and the score of its best candidate says what comes next.

    `cuts` are scores, falling, one for each flow: from the first one on the probe's answer stands and no flow runs, from the
    second one on the first flow answers, and so on; below all of them the last flow does. With the flows (vote, large) and the
    cuts (0.9, 0.5), a probe that scores 0.95 stands, 0.6 goes to the vote, 0.2 to the large model. No answer, and one that
    cannot be judged, go to the last flow. Where that gives no answer, the probe's stands.
    """

    probe: Strategy
    verifier: Verifier
    cuts: tuple[float, ...] = (0.7,)

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        if not self.cuts or list(self.cuts) != sorted(self.cuts, reverse=True):
            raise BadInput(f"TryFirst(cuts={self.cuts}): scores that fall, as (0.8, 0.5), one for each flow")
        if not isinstance(self.probe, Strategy) or isinstance(self.probe, type):
            raise BadInput(f"TryFirst: the probe {self.probe!r:.80} is no strategy")

    @property
    def inside(self) -> dict[Path, object]:
        """The probe and the verifier, by where they run."""
        return {("probe",): self.probe, ("score",): self.verifier}

    @property
    def arrows(self) -> Arrows:
        """The probe comes first."""
        return {(("probe",), ("score",)): ""}

    async def choose(self, flows: Mapping[str, Strategy], roots: Candidates, run: Run) -> Choice:
        if len(flows) != len(self.cuts):
            raise BadInput(f"TryFirst(cuts={self.cuts}): there are {len(flows)} flows; give a cut for each")
        found = await drive(self.probe, roots, run.child("probe"))
        first = answering(found)[:1]
        scores = await afforded(scored(self.verifier, first, run.child("score")), run) if first else None
        reached = scores[0].value if scores else math.nan
        passed = next((i for i, cut in enumerate(self.cuts) if reached >= cut), len(flows))
        weights = tuple(float(i == max(0, passed - 1)) for i in range(len(flows)))
        return Choice(weights, found, enough=passed == 0)


@dataclass(frozen=True)
class Select:
    """The flow that `by` finds most promising answers (the first of equals); where it cannot tell at all, or cannot be afforded,
    the first flow does. What `by` found on the way stands where that flow gives no answer."""

    flows: Mapping[str, Strategy]
    by: Chooser

    def __post_init__(self) -> None:
        _check_flows(self, self.flows, "choose")

    @property
    def inside(self) -> dict[Path, object]:
        """The flows and the chooser, by where they run."""
        return {**{(name,): flow for name, flow in self.flows.items()}, ("choose",): self.by}

    @property
    def arrows(self) -> Arrows:
        """The choice comes before the flows."""
        return {(("choose",), (name,)): "" for name in self.flows}

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        names, nothing = list(self.flows), Choice((math.nan,) * len(self.flows))
        choice = await afforded(self.by.choose(self.flows, roots, run.child("choose")), run) or nothing
        if len(choice.weights) != len(names):
            raise BadInput(f"Select: {self.by!r:.80} gave {len(choice.weights)} weights for {len(names)} flows")
        standing = choice.found
        if standing is not None and any(c.steps for c in standing):
            yield standing
        chosen = max(range(len(names)), key=lambda i: -math.inf if math.isnan(choice.weights[i]) else choice.weights[i])
        for i, name in enumerate(names):
            if i != chosen or choice.enough:
                told = "what was tried first was enough" if choice.enough else f"{names[chosen]!r} was chosen"
                run.emit(Skipped((*run.path, name), told))
        if choice.enough:
            return
        kept = standing is not None and bool(answering(standing))
        async with aclosing(driven(self.flows[names[chosen]], roots, run.child(names[chosen]))) as sets:
            async for found in sets:
                if not kept or found.abstains or answering(found):
                    yield found


@dataclass(frozen=True)
class Bandit:
    """Flows tried in turn, the promising ones more often: PlanGEN's mixture, a bandit that learns within the run.

    In each of `rounds` rounds the flow of the highest index answers anew, and its best candidate's score by `verifier` is its
    reward. The index of a flow tried N times in T rounds, with mean reward m, is (PlanGEN's modified UCB)

        m / m_max + explore · √(2 ln(T + 1) / N) + weight · p / N

    m_max being the highest mean so far and p the `prior`'s rating of it, 0..1, which counts less the more is known. A flow that
    was never tried comes before all others, by its prior, then in order. It stops at a reward of `enough`. All candidates of all
    rounds are the result, scored; end with `best` or a weighted vote.
    """

    flows: Mapping[str, Strategy]
    verifier: Verifier
    rounds: int = 4
    explore: float = 1.0
    enough: float = math.inf
    prior: Chooser | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_flows(self, self.flows, "score", "prior", "round")
        absolute(self.verifier, type(self).__name__)
        if self.rounds < 1 or not self.explore >= 0:
            raise BadInput(
                f"Bandit(rounds={self.rounds}, explore={self.explore}): rounds are 1 or more, explore 0 or more"
            )

    @property
    def inside(self) -> dict[Path, object]:
        """The flows, the verifier and the prior, by where they run; a flow runs at "round", its number, its name."""
        found: dict[Path, object] = {(name,): flow for name, flow in self.flows.items()}
        return found | {("score",): self.verifier} | ({("prior",): self.prior} if self.prior is not None else {})

    @property
    def arrows(self) -> Arrows:
        """The flows come before the score, and the prior before the flows."""
        found: Arrows = {((name,), ("score",)): "" for name in self.flows}
        return found | ({(("prior",), (name,)): "" for name in self.flows} if self.prior is not None else {})

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        names = list(self.flows)
        prior = (0.0,) * len(names)
        if self.prior is not None:
            told = await afforded(self.prior.choose(self.flows, roots, run.child("prior")), run)
            prior = tuple(0.0 if math.isnan(p) else p for p in told.weights) if told else prior
        tries, rewards = [0] * len(names), [0.0] * len(names)
        made: tuple[Candidate, ...] = ()
        for r in range(self.rounds):
            arm = best_arm(tries, rewards, prior, self.explore, self.weight)
            here = run.child("round", r)
            found = await drive(self.flows[names[arm]], roots, here.child(names[arm]))
            new = [replace(c, score=None) for c in found if c.steps]
            if new:
                yield Candidates((*made, *new))
            elif found.stopped:  # a limit, which will be there in the next round too
                return
            judged = await score(self.verifier, Candidates(tuple(new)), here)
            made = (*made, *judged)
            if made:
                yield Candidates(made)
            reward = max((value(c) for c in judged if c.answer is not None), default=0.0)
            tries[arm], rewards[arm] = tries[arm] + 1, rewards[arm] + max(0.0, reward)
            if reward >= self.enough:
                return


def best_arm(
    tries: Sequence[int], rewards: Sequence[float], prior: Sequence[float], explore: float, weight: float
) -> int:
    """Which arm a bandit pulls next (`Bandit`); `rewards` are sums.

    >>> best_arm([0, 0], [0.0, 0.0], [0.2, 0.9], 1.0, 1.0), best_arm([3, 1], [2.7, 0.1], [0, 0], 0.1, 1.0)
    (1, 0)
    """
    fresh = [i for i, n in enumerate(tries) if n == 0]
    if fresh:
        return max(fresh, key=lambda i: prior[i])
    indices = index(tries, rewards, prior, explore, weight)
    return max(range(len(tries)), key=lambda i: indices[i])


def index(
    tries: Sequence[int], rewards: Sequence[float], prior: Sequence[float], explore: float, weight: float
) -> Sequence[float]:
    """The modified UCB of arms that have all been tried (`Bandit`), shape (arms,)."""
    total = sum(tries)
    means = [reward / n for reward, n in zip(rewards, tries, strict=True)]
    top = max(means) or 1.0
    return [
        m / top + explore * math.sqrt(2 * math.log(total + 1) / n) + weight * p / n
        for m, n, p in zip(means, tries, prior, strict=True)
    ]


def _check_flows(part: object, flows: Mapping[str, Strategy], *reserved: str) -> None:
    who = type(part).__name__
    if not flows:
        raise BadInput(f"{who}: there is no flow to choose; give a mapping from names to strategies")
    for name, flow in flows.items():
        if not isinstance(flow, Strategy) or isinstance(flow, type):
            raise BadInput(f"{who}: flow {name!r} is {flow!r:.80}, no strategy")
        if name in reserved or "/" in name:
            raise BadInput(f"{who}: a flow cannot be called {name!r}, which is taken in paths")
