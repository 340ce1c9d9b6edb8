"""Searches: what each costs, in closed form; that they end and stay usable whatever comes; that they compose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from dealt import PROBLEM, Counted, snapshots

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Completion,
    Problem,
    Request,
    Run,
    Score,
    Step,
    chain,
    solve,
)
from reasonweave.orchestrator.protocols import StepPolicy, Strategy, Verifier
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward, check_strategy
from reasonweave.strategies import (
    DVTS,
    MCTS,
    REBASE,
    AdaptiveBranching,
    AStar,
    AtLeast,
    Beam,
    BestOfN,
    DepthFirst,
    Entropic,
    EssBelow,
    Foresight,
    Handoff,
    Linear,
    OwnConfidence,
    ParticleFilter,
    ParticleGibbs,
    PhiDecoding,
    PowerSampling,
    Ratio,
    Redo,
    Revise,
    Sample,
    Speculate,
    Steady,
    StochasticBeam,
    Tilted,
    TreeBoN,
    TreeOfThought,
    best,
    entropic,
    log_reward,
    rsd,
    spec_reason,
    stratified,
    twisted,
    whole,
)
from reasonweave.verifiers import ProcessReward, UtilityDigit
from reasonweave.verifiers.prm import last

Make = Callable[[StepPolicy, Verifier, ScriptedModel], Strategy]


def of_depth(depth: int) -> Callable[[Request], str]:
    """A script: every solution takes exactly so many steps, the last one boxed, no two of them the same."""

    def script(request: Request) -> str:
        begun = request.context.prefix.count("\n\n")
        steps = [f"step {k} gives {request.seed % 10**9}\n\n" for k in range(begun, depth - 1)]
        return "".join(steps) + f"so \\boxed{{{request.seed % 7}}}"

    return script


@dataclass(frozen=True)
class Cost:
    """Model calls, samples in them, verifier calls, candidates in them."""

    calls: int
    samples: int
    ratings: int
    rated: int


def cost_of(make: Make, depth: int, reward: Callable[[Problem, Sequence[str]], float] | None = None) -> Cost:
    model = ScriptedModel(of_depth(depth))
    verifier = Counted(ProcessReward(ScriptedReward(reward), last))
    found = snapshots(make(Sample(model), verifier, model))
    assert all(len(candidates) for candidates in found)
    assert any(candidate.done for candidate in found[-1])
    prefixes = [request.context.prefix for call in model.calls for request in call]
    assert not any("boxed" in prefix for prefix in prefixes), "a finished candidate was extended"
    return Cost(
        len(model.calls), len(prefixes), len(verifier.asked), sum(len(candidates) for candidates in verifier.asked)
    )


def stepwise(samples: int, rounds: int) -> Cost:
    """So many samples and ratings in one call each, a round."""
    return Cost(rounds, samples * rounds, rounds, samples * rounds)


# What each search costs for solutions of D steps. `n` is 8 throughout.

COSTS: dict[str, tuple[Make, Callable[[int], Cost]]] = {
    "best of n": (lambda p, v, m: BestOfN(p, 8, v), lambda d: Cost(d, 8 * d, 1, 8)),
    "best of n, whole": (lambda p, v, m: BestOfN(whole(m), 8, v), lambda d: Cost(1, 8, 1, 8)),
    "particle filter": (lambda p, v, m: ParticleFilter(p, v, 8), lambda d: stepwise(8, d)),
    "finished set aside": (lambda p, v, m: ParticleFilter(p, v, 8, absorbing=False), lambda d: stepwise(8, d)),
    # a trial step after every step but the last
    "look-ahead": (lambda p, v, m: ParticleFilter(p, v, 8, look_ahead=True), lambda d: stepwise(8, 2 * d - 1)),
    "entropic": (lambda p, v, m: entropic(p, v, 8, temperature=Entropic()), lambda d: stepwise(8, d)),
    "twisted": (lambda p, v, m: twisted(p, v, 8), lambda d: stepwise(8, d)),
    # 3 sweeps; the reference of the second and third costs nothing
    "gibbs": (
        lambda p, v, m: ParticleGibbs(ParticleFilter(p, v, 8), 3),
        lambda d: Cost(3 * d, d * (8 + 2 * 7), 3 * d, d * (8 + 2 * 7)),
    ),
    # 3 drafts each
    "tilted": (
        lambda p, v, m: ParticleFilter(Tilted(p, v, 3), v, 8, log_reward, Ratio()),
        lambda d: stepwise(24, d),
    ),
    "beam": (lambda p, v, m: Beam(p, v, 8, 4), lambda d: stepwise(8, d)),
    # k = 2 steps ahead, as far as there are any: Σ min(k, D − t) further calls
    "beam, looking ahead": (
        lambda p, v, m: Beam(p, Foresight(p, v, 2), 8, 4),
        lambda d: Cost(ahead(d), 8 * ahead(d), d, 8 * d),
    ),
    "dvts": (lambda p, v, m: DVTS(p, v, 8, 4), lambda d: stepwise(8, d)),
    # B = 2 beams with k = 4 samples each, from one root
    "stochastic beam": (lambda p, v, m: StochasticBeam(p, v, 2, 4), lambda d: widened(4, 2, d)),
    "tree of thoughts": (lambda p, v, m: TreeOfThought(p, v, 4, 2), lambda d: widened(4, 2, d)),
    "thoughts drawn": (lambda p, v, m: TreeOfThought(p, v, 4, 2, greedy=False), lambda d: widened(4, 2, d)),
    # no thought is given up, so it goes straight down
    "depth first": (lambda p, v, m: DepthFirst(p, v, 4), lambda d: stepwise(4, d)),
    "rebase": (lambda p, v, m: REBASE(p, v, 8), lambda d: stepwise(8, d)),
    # the first 2 steps are layers, and all solutions are scored at the end
    "tree bon": (
        lambda p, v, m: TreeBoN(p, v, 8, 4, layers=2),
        lambda d: Cost(d, 8 * d, min(d, 2) + (d > 2), 8 * (min(d, 2) + (d > 2))),
    ),
    "tree bon, another judge at the end": (
        lambda p, v, m: TreeBoN(p, v, 8, 4, layers=2, final=v),
        lambda d: Cost(d, 8 * d, min(d, 2) + 1, 8 * (min(d, 2) + 1)),
    ),
    # no more simulations than children of the root: each writes a whole solution
    "mcts": (lambda p, v, m: MCTS(p, v, 8, width=8, batch=4), lambda d: Cost(2 * d, 8 * d, 2, 8)),
    # one child a node: each simulation begins a step further down, and those at the end cost nothing
    "mcts, a chain": (
        lambda p, v, m: MCTS(p, v, 8, width=1, batch=1),
        lambda d: Cost(d * (d + 1) // 2, d * (d + 1) // 2, d, d),
    ),
    "mcts without rollout": (
        lambda p, v, m: MCTS(p, v, 8, width=1, batch=1, rollout=False),
        lambda d: stepwise(1, d),
    ),
    # whole answers, in 2 rounds of 4
    "adaptive branching": (
        lambda p, v, m: AdaptiveBranching({"revise": Revise(m)}, v, 8, batch=4),
        lambda d: Cost(2, 8, 2, 8),
    ),
    # 2 beams with 3 rollouts each, all of which are kept; 2 steps of foresight
    "phi-decoding": (
        lambda p, v, m: PhiDecoding(p, 2, 3, sigma=99, agreement=1, least=2, most=2),
        lambda d: Cost(d + (d - 1) + (d - 2), 6 * d + 6 * (d - 1) + 2 * (d - 2), 0, 0),
    ),
    # one block that is long enough for all: 3 chains are written, and 5 times rewritten
    "power sampling": (
        lambda p, v, m: PowerSampling(m, 3, block=500, blocks=4, moves=5),
        lambda d: Cost(3 * (1 + 5), 3 * (1 + 5), 0, 0),
    ),
}


def ahead(depth: int) -> int:
    return depth + sum(min(2, depth - t) for t in range(1, depth + 1))


def widened(samples: int, kept: int, depth: int) -> Cost:
    """One call each a step; `samples` at the root, then as many for each of those kept."""
    together = samples + (depth - 1) * kept * samples
    return Cost(depth, together, depth, together)


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("name", COSTS)
def test_calls_samples_and_ratings_are_as_in_the_closed_form(name: str, depth: int) -> None:
    make, closed_form = COSTS[name]
    assert cost_of(make, depth) == closed_form(depth)


@pytest.mark.parametrize("depth", [2, 5])
def test_astar_goes_straight_down_where_no_step_lowers_the_reward(depth: int) -> None:
    """k samples a step, D expansions; ties go to the deeper node. E < D expansions: the rest is written by one, and scored."""

    def make(p: StepPolicy, v: Verifier, m: ScriptedModel) -> Strategy:
        return AStar(p, v, 4)

    def two(p: StepPolicy, v: Verifier, m: ScriptedModel) -> Strategy:
        return AStar(p, v, 4, expansions=2)

    assert cost_of(make, depth, lambda problem, steps: 0.5) == stepwise(4, depth)
    rest = max(0, depth - 2)
    cut = Cost(2 + rest, 4 * 2 + rest, 2 + (rest > 0), 4 * 2 + (rest > 0))
    assert cost_of(two, depth, lambda problem, steps: 0.5) == cut


@pytest.mark.parametrize("name", COSTS)
def test_a_model_that_ends_early_costs_what_it_writes(name: str) -> None:
    """Two steps without a boxed answer; up to 64 are allowed. The reference project pays 204 calls for 4 particles here."""
    make, closed_form = COSTS[name]
    model = ScriptedModel(lambda r: "one\n\n" if not r.context.prefix else f"two-{r.seed % 10**9}")
    verifier = Counted(ProcessReward(ScriptedReward(), last))
    snapshots(make(Sample(model), verifier, model))
    assert len(model.calls) <= closed_form(2).calls
    assert not any(r.context.prefix.count("two") for call in model.calls for r in call)


def test_four_particles_that_end_after_two_steps_cost_two_calls() -> None:
    model = ScriptedModel(lambda r: "one\n\n" if not r.context.prefix else "two")
    snapshots(ParticleFilter(Sample(model), ProcessReward(ScriptedReward()), 4, max_steps=50))
    assert [len(call) for call in model.calls] == [4, 4]


def test_a_long_power_sample_costs_a_call_for_each_block_and_move() -> None:
    model = ScriptedModel(lambda r: " word" * 99)
    (*_, end) = snapshots(PowerSampling(model, 2, block=8, blocks=3, moves=4))
    assert len(model.calls) == 2 * 3 * (1 + 4)
    assert [c.tokens for c in end] == [24, 24]
    assert max(r.max_tokens for call in model.calls for r in call) <= 24


def test_a_redone_answer_costs_the_steps_from_the_worst_one_on() -> None:
    """Step 3 of 4 is always the worst: the first answer is 4 calls, each refinement 2."""
    model = ScriptedModel(of_depth(4))
    worst = ScriptedReward(lambda problem, steps: 0.1 if len(steps) == 3 else 0.9)

    class Deeper:
        def draw(self, told: np.ndarray, rng: object) -> np.ndarray:
            return -told[:, 0]  # "go on" has had fewer scores than "new" after the first answer, and more later

    branching = AdaptiveBranching({"redo": Redo(Sample(model))}, ProcessReward(worst), 3, Deeper(), batch=1)
    (*_, end) = snapshots(branching)
    refined = [r.context.prefix.count("\n\n") for call in model.calls for r in call]
    assert refined[:4] == [0, 1, 2, 3]
    assert refined[4:6] == [2, 3]
    assert len(end) == 3


# Whatever comes, a search ends and what it yields is usable.


class Dead(ScriptedModel):
    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(list(requests))
        return [Completion("", "error", error="no server") for _ in requests]


class Flaky(ScriptedModel):
    """Every third request fails."""

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        written = await super()._generate(requests)
        return [
            Completion("", "error", error="no") if r.seed % 3 == 0 else w
            for r, w in zip(requests, written, strict=True)
        ]


class Blind:
    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(math.nan, error="blind") for _ in candidates]


ENDED = Candidate(PROBLEM, (Step("so \\boxed{4}", "m", 3),), done=True)
BEGUN = Candidate(PROBLEM, (Step("begin\n\n", "m", 3),))
ODD: dict[str, tuple[Callable[[], ScriptedModel], Verifier, Candidates]] = {
    "a verifier that cannot judge": (lambda: ScriptedModel(of_depth(3)), Blind(), Candidates.of(PROBLEM)),
    "no server": (lambda: Dead(of_depth(3)), ProcessReward(ScriptedReward()), Candidates.of(PROBLEM)),
    "failures": (lambda: Flaky(of_depth(3)), ProcessReward(ScriptedReward()), Candidates.of(PROBLEM)),
    "failures, unjudged": (lambda: Flaky(of_depth(3)), Blind(), Candidates.of(PROBLEM)),
    "nothing is written": (lambda: ScriptedModel([""]), ProcessReward(ScriptedReward()), Candidates.of(PROBLEM)),
    "all write the same": (lambda: ScriptedModel(["same"]), ProcessReward(ScriptedReward()), Candidates.of(PROBLEM)),
    "never an end": (lambda: ScriptedModel(["on\n\n"]), ProcessReward(ScriptedReward()), Candidates.of(PROBLEM)),
    "a root that is done": (lambda: ScriptedModel(of_depth(3)), ProcessReward(ScriptedReward()), Candidates((ENDED,))),
    "several roots": (
        lambda: ScriptedModel(of_depth(3)),
        ProcessReward(ScriptedReward()),
        Candidates((BEGUN, ENDED, Candidate(PROBLEM))),
    ),
}

SMALL: dict[str, Make] = {
    "best of n": lambda p, v, m: BestOfN(p, 4, v, 6),
    "particle filter": lambda p, v, m: ParticleFilter(p, v, 4, max_steps=6),
    "look-ahead": lambda p, v, m: ParticleFilter(
        p, v, 4, log_reward, Ratio(), stratified, look_ahead=True, max_steps=6
    ),
    "set aside": lambda p, v, m: ParticleFilter(p, v, 4, log_reward, Ratio(), absorbing=False, max_steps=6),
    "own confidence": lambda p, v, m: ParticleFilter(p, OwnConfidence(), 4, when=EssBelow(0.9), max_steps=6),
    "tilted": lambda p, v, m: ParticleFilter(Tilted(p, v, 2), v, 4, log_reward, Ratio(), max_steps=6),
    "gibbs": lambda p, v, m: ParticleGibbs(ParticleFilter(p, v, 3, max_steps=6), 2),
    "entropic": lambda p, v, m: entropic(p, v, 4, temperature=Entropic(), look_ahead=True, max_steps=6),
    "twisted": lambda p, v, m: twisted(p, v, 4, max_steps=6),
    "one particle": lambda p, v, m: ParticleFilter(p, v, 1, temperature=Linear(), max_steps=6),
    "beam": lambda p, v, m: Beam(p, v, 4, 2, max_steps=6),
    "one beam": lambda p, v, m: Beam(p, v, 1, 4, distinct=False, max_steps=6),
    "looking ahead": lambda p, v, m: Beam(p, Foresight(p, v), 4, 2, max_steps=6),
    "dvts": lambda p, v, m: DVTS(p, v, 4, 2, 6),
    "stochastic beam": lambda p, v, m: StochasticBeam(p, v, 2, 3, decay=0.5, max_steps=6),
    "greedy beam": lambda p, v, m: StochasticBeam(p, v, 2, 3, temperature=0, max_steps=6),
    "rebase": lambda p, v, m: REBASE(p, v, 4, max_steps=6),
    "astar": lambda p, v, m: AStar(p, v, 2, 6, batch=2, frontier=3, max_steps=6),
    "tree bon": lambda p, v, m: TreeBoN(p, v, 4, 2, 2, v, 6),
    "mcts": lambda p, v, m: MCTS(p, v, 6, 2, batch=3, max_steps=6),
    "mcts without rollout": lambda p, v, m: MCTS(p, v, 6, 2, rollout=False, batch=3, max_steps=6),
    "redo": lambda p, v, m: AdaptiveBranching({"redo": Redo(p, 6), "revise": Revise(m)}, v, 5, batch=2),
    "phi-decoding": lambda p, v, m: PhiDecoding(p, 2, 2, least=1, most=3, max_steps=6),
    "power sampling": lambda p, v, m: PowerSampling(m, 2, block=6, blocks=3, moves=2),
    "thoughts": lambda p, v, m: TreeOfThought(p, v, 2, 2, max_steps=6),
    "thoughts drawn": lambda p, v, m: TreeOfThought(p, v, 2, 2, greedy=False, max_steps=6),
    "depth first": lambda p, v, m: DepthFirst(p, v, 2, answers=2, expansions=6),
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("name", SMALL)
def test_a_search_ends_and_yields_something_usable(name: str, what: str) -> None:
    model, verifier, roots = ODD[what]
    scripted = model()
    found = snapshots(SMALL[name](Sample(scripted), verifier, scripted), roots)
    assert all(len(candidates) for candidates in found)
    assert found or all(root.done for root in roots)
    assert not any("boxed" in r.context.prefix for call in scripted.calls for r in call)
    if what in ("failures", "a verifier that cannot judge") and len(found[-1]) > 1 and name != "power sampling":
        assert any(c.done and not c.failed for c in found[-1])


@pytest.mark.parametrize("name", SMALL)
def test_every_search_keeps_its_promises(name: str, problem: Problem) -> None:
    model = ScriptedModel()
    check_strategy(SMALL[name](Sample(model), ProcessReward(ScriptedReward()), model), problem)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "tilted"])  # which judges within a step
def test_what_is_finished_is_kept_where_nothing_is_left_to_judge_it(name: str) -> None:
    """The reward model may not be called at all: what was paid for is there, and answers."""
    model, prm = ScriptedModel([r"\boxed{4}"]), ScriptedReward(role="prm")
    search = SMALL[name](Sample(model), ProcessReward(prm), model)
    result = solve(PROBLEM, chain(search, best), budget=Budget(prm=Budget(tokens=0)))
    assert result.answer == "4"
    assert result.usage["scripted"].completion > 0


def two_models() -> tuple[ScriptedModel, ScriptedModel]:
    return ScriptedModel(name="small"), ScriptedModel(name="large")


def judge() -> UtilityDigit:
    return UtilityDigit(ScriptedModel(["7"], name="judge"))


COMPOSED: dict[str, Callable[[ScriptedModel, ScriptedModel, Verifier], Strategy]] = {
    "SpecReason in a particle filter": lambda s, g, v: ParticleFilter(spec_reason(s, g, judge()), v, 3, max_steps=6),
    "RSD in a particle filter": lambda s, g, v: ParticleFilter(rsd(s, g, v), v, 3, max_steps=6),
    "a beam over a hand-off": lambda s, g, v: Beam(Handoff(s, g, cue_tokens=2), v, 4, 2, max_steps=6),
    "A* over speculation": lambda s, g, v: AStar(Speculate(Sample(s), Sample(g), AtLeast(v, 0.3)), v, 2, 6),
    "REBASE over RSD": lambda s, g, v: REBASE(rsd(s, g, v), v, 3, max_steps=6),
    "two models as actions": lambda s, g, v: AdaptiveBranching(
        {"s": Revise(s), "l": Redo(Sample(g), 6)}, v, 4, batch=2
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_two_model_steps_go_wherever_steps_go(name: str, problem: Problem) -> None:
    check_strategy(COMPOSED[name](*two_models(), ProcessReward(ScriptedReward())), problem)


P, V, M = Sample(ScriptedModel()), ProcessReward(ScriptedReward()), ScriptedModel()
BAD: list[Callable[[], Any]] = [
    lambda: BestOfN(P, 0),
    lambda: ParticleFilter(P, V, 0),
    lambda: ParticleFilter(P, V, max_steps=0),
    lambda: ParticleGibbs(ParticleFilter(P, V, 1)),
    lambda: ParticleGibbs(ParticleFilter(P, V, 4), 0),
    lambda: ParticleGibbs(ParticleFilter(P, V, 4, look_ahead=True)),
    lambda: ParticleGibbs(ParticleFilter(P, V, 4, resample=stratified)),
    lambda: ParticleGibbs(ParticleFilter(P, V, 4, temperature=Steady(2))),
    lambda: ParticleGibbs(ParticleFilter(P, V, 4), ancestors=object()),  # type: ignore[arg-type]
    lambda: Steady(0),
    lambda: Steady(math.nan),
    lambda: Linear(steps=0),
    lambda: Entropic(threshold=2),
    lambda: Entropic(horizon=0),
    lambda: Tilted(P, V, 0),
    lambda: Beam(P, V, 0),
    lambda: Beam(P, V, 4, 0),
    lambda: DVTS(P, V, 6, 4),
    lambda: DVTS(P, V, 0),
    lambda: StochasticBeam(P, V, 0),
    lambda: StochasticBeam(P, V, trust=2),
    lambda: StochasticBeam(P, V, scale=0),
    lambda: REBASE(P, V, 0),
    lambda: REBASE(P, V, temperature=0),
    lambda: AStar(P, V, 0),
    lambda: AStar(P, V, frontier=0),
    lambda: AStar(P, V, max_steps=0),
    lambda: TreeBoN(P, V, children=0),
    lambda: MCTS(P, V, batch=0),
    lambda: MCTS(P, V, exploration=-1),
    lambda: AdaptiveBranching({}, V),
    lambda: AdaptiveBranching({"redo": Redo(P)}, V, 0),
    lambda: PhiDecoding(P, beams=0),
    lambda: PhiDecoding(P, sharpness=0),
    lambda: PowerSampling(M, blocks=0),
    lambda: PowerSampling(M, alpha=0),
    lambda: PowerSampling(M, temperature=0),
    lambda: TreeOfThought(P, V, 0),
    lambda: DepthFirst(P, V, expansions=0),
]


@pytest.mark.parametrize("make", BAD, ids=range(len(BAD)))
def test_bad_arguments_are_refused_in_one_sentence(make: Callable[[], Any]) -> None:
    with pytest.raises(BadInput) as refused:
        make()
    assert "\n" not in str(refused.value)
