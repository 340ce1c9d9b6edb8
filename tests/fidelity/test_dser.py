"""DSER's Markov chain: the closed forms against enumeration, and lines of scripted refinements against the closed forms.

Random tests say how many standard errors they allow; five of them are a false alarm in 1.7 million comparisons.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from toy import Itself

from reasonweave.orchestrator import BadInput, Candidate, Candidates, Problem, Request, Run, Score, Step, chain, solve
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies import majority
from reasonweave.strategies.refining.dser import Late, TwoStates, dser
from reasonweave.strategies.refining.feedback import Remark, Scores
from reasonweave.strategies.refining.refine import REFINE_PROMPT, Line, Refine
from reasonweave.strategies.refining.writing import Prompted, Reading

RIGHT, WRONG = "4", "5"
TOY = Problem("toy", answers=Itself())
RIGHT_STEP, WRONG_STEP = Step(RIGHT, "toy", 1), Step(WRONG, "toy", 1)
CHANCE = st.floats(0, 1)
CHAINS = [(0.2, 0.1, 0.1), (0.05, 0.3, 0.9), (0.7, 0.6, 0.3)]
"""P(improve), P(degrade), and the share of right drafts; the last of them overshoots."""


# The closed forms.


@given(CHANCE, CHANCE, CHANCE, st.integers(0, 12))
def test_the_share_after_t_rounds_is_that_of_the_transition_matrix(a: float, b: float, start: float, t: int) -> None:
    matrix = np.array([[1 - a, a], [b, 1 - b]])  # wrong, right
    after = np.array([1 - start, start]) @ np.linalg.matrix_power(matrix, t)
    states = TwoStates(a, b)
    assert states.share(t, start) == pytest.approx(after[1], abs=1e-9)
    if a + b > 1e-6:
        stays = np.array([1 - states.stationary, states.stationary])
        assert stays @ matrix == pytest.approx(stays)
        assert states.stationary == pytest.approx(a / (a + b))


@given(CHANCE, CHANCE, CHANCE, st.integers(1, 3), st.integers(0, 3), st.data())
@settings(max_examples=60)
def test_the_vote_against_going_through_all_histories(
    a: float, b: float, start: float, n: int, t: int, data: st.DataObject
) -> None:
    late = data.draw(st.integers(1, t + 1))
    histories = []
    for history in itertools.product((0, 1), repeat=t + 1):
        p = start if history[0] else 1 - start
        for before, after in itertools.pairwise(history):
            p *= (1 - b if after else b) if before else (a if after else 1 - a)
        histories.append((p, sum(history[-late:])))
    chance = 0.0
    for lines in itertools.product(histories, repeat=n):
        votes = 2 * sum(rights for _, rights in lines) - n * late
        chance += math.prod(p for p, _ in lines) * (0.5 if votes == 0 else float(votes > 0))
    assert TwoStates(a, b).vote(n, t, start, late=late) == pytest.approx(chance, abs=1e-9)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), CHANCE, st.integers(1, 40), st.integers(0, 30))
def test_the_vote_over_one_answer_of_each_line_is_binomial(a: float, b: float, start: float, n: int, t: int) -> None:
    states = TwoStates(a, b)
    rights = binom(n, min(1.0, max(0.0, states.share(t, start))))
    expected = rights.sf(n // 2) + (rights.pmf(n // 2) / 2 if n % 2 == 0 else 0.0)
    assert states.vote(n, t, start) == pytest.approx(expected, abs=1e-9)


@given(CHANCE, CHANCE, CHANCE, st.floats(0.001, 0.5))
def test_how_many_rounds_against_counting(a: float, b: float, start: float, within: float) -> None:
    states = TwoStates(a, b)
    rounds = states.rounds(within, start)
    if rounds == math.inf:
        assert a + b in (0, 2) or abs(states.decay) > 1 - 1e-12
    elif rounds < 5000:
        assert abs(states.share(int(rounds), start) - states.stationary) <= within + 1e-9
        assert rounds == 0 or abs(states.share(int(rounds) - 1, start) - states.stationary) > within - 1e-9


@pytest.mark.parametrize(("improve", "degrade"), [(0.2, 0.1), (0.3, 0.28), (0.9, 0.01)])
@pytest.mark.parametrize("target", [0.7, 0.9, 0.99])
def test_how_many_lines_against_counting(improve: float, degrade: float, target: float) -> None:
    states = TwoStates(improve, degrade)
    chances = {n: binom.sf(n // 2, n, states.stationary) for n in range(1, 6001, 2)}
    assert states.lines(target) == next(n for n, chance in chances.items() if chance >= target)


def test_what_can_never_be_reached() -> None:
    assert TwoStates(0.1, 0.2).lines(0.9) == math.inf  # the vote is wrong in the long run
    assert TwoStates(0.1, 0.1).lines(0.9) == math.inf
    assert TwoStates(0.1, 0.0).lines(0.9) == 1
    assert TwoStates(0.100001, 0.1).lines(0.9, most=1001) == math.inf
    assert TwoStates(0, 0).rounds() == TwoStates(0, 0).lines(0.9) == TwoStates(1, 1).rounds() == math.inf
    assert math.isnan(TwoStates(0, 0).stationary)
    assert TwoStates(0, 0).share(7, 0.3) == 0.3
    assert TwoStates(0.25, 0.75).rounds() == 1
    assert TwoStates(0.25, 0.0).rounds(0.0) == math.inf  # comes nearer, and is never there


def test_measuring() -> None:
    pairs = [(False, True), (False, False), (False, False), (False, False), (True, True), (True, False)]
    assert TwoStates.measured(pairs) == TwoStates(0.25, 0.5)
    for some, word in ((pairs[:4], "right"), (pairs[4:], "wrong"), ([], "right")):
        with pytest.raises(BadInput, match=f"none was {word}"):
            TwoStates.measured(some)
    with pytest.raises(BadInput, match=r"0\.\.1"):
        TwoStates(1.1, 0)
    with pytest.raises(BadInput, match="late in"):
        TwoStates(0.1, 0.1).vote(3, 4, 0.0, late=6)


# Lines of scripted refinements.


@dataclass(frozen=True)
class Toy:
    """Writes a right answer with chance `start` from the bare problem, `improve` after a wrong one, 1 − `degrade` after a right
    one."""

    improve: float
    degrade: float
    start: float

    async def write(self, readings: Sequence[Reading], run: Run) -> list[Candidate]:
        points = run.rng().random(len(readings))
        return [
            Candidate(TOY, (RIGHT_STEP if u < self.chance(r) else WRONG_STEP,), done=True)
            for u, r in zip(points.tolist(), readings, strict=True)
        ]

    def chance(self, reading: Reading) -> float:
        if not reading.sources:
            return self.start
        return 1 - self.degrade if reading.sources[-1].text == RIGHT else self.improve


class Silent:
    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        return [Remark()] * len(candidates)


@dataclass(frozen=True)
class Noisy:
    """Gives a right answer 1 with chance `completeness`, a wrong one 0 with chance `soundness`; it draws anew each time."""

    completeness: float
    soundness: float

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        points = run.rng().random(len(candidates))
        accepted = [self.completeness if c.answer == RIGHT else 1 - self.soundness for c in candidates]
        return [Score(float(u < p)) for u, p in zip(points, accepted, strict=True)]


def by_round(lines: Refine, seed: int = 0, problem: Problem = TOY) -> list[Candidates]:
    """What stands after 0, 1, 2, … rounds. Each round is seen twice, after the remarks and after the revisions."""

    async def collect() -> list[Candidates]:
        return [found async for found in lines.search(Candidates.of(problem), Run(seed))]

    found = asyncio.run(collect())
    assert len(found) == 1 + 2 * lines.rounds
    return found[::2]


def rights(candidates: Candidates) -> np.ndarray:
    return np.array([c.answer == RIGHT for c in candidates])


def check_trajectory(found: Sequence[Candidates], states: TwoStates, start: float) -> None:
    for t, now in enumerate(found):
        p, n = states.share(t, start), len(now)
        assert abs(rights(now).mean() - p) <= 5 * math.sqrt(p * (1 - p) / n) + 1e-12, t


@pytest.mark.parametrize(("improve", "degrade", "start"), CHAINS)
def test_the_whole_trajectory_and_the_stationary_share(improve: float, degrade: float, start: float) -> None:
    """1,500 lines over 30 rounds: 31 comparisons, a false alarm once in 50,000 times. Lines are independent, so that each share
    is a binomial one."""
    states, n = TwoStates(improve, degrade), 1500
    found = by_round(dser(Toy(improve, degrade, start), Silent(), n=n, rounds=30, late=1))
    assert all(len(now) == n for now in found)
    check_trajectory(found, states, start)
    closed = improve / (improve + degrade)
    assert abs(states.share(30, start) - closed) < 2e-3  # the chain has forgotten where it began
    error = 5 * math.sqrt(closed * (1 - closed) / n)
    assert abs(rights(found[-1]).mean() - closed) < error + 2e-3
    pairs = [
        pair for before, after in itertools.pairwise(found) for pair in zip(rights(before), rights(after), strict=True)
    ]
    again = TwoStates.measured((bool(before), bool(after)) for before, after in pairs)
    for share, p, before in ((again.improve, improve, False), (again.degrade, degrade, True)):
        cases = sum(bool(b) is before for b, _ in pairs)
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / cases)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("late", [1, 3])
def test_the_vote_over_lines_is_the_closed_form(n: int, late: int) -> None:
    """3,000 / n votes of n lines each after 5 rounds; 10 comparisons, a false alarm once in 170,000 times."""
    improve, degrade, start, rounds = 0.25, 0.15, 0.2, 5
    votes = 3000 // n
    lines = dser(Toy(improve, degrade, start), Silent(), n=n * votes, rounds=rounds, late=late)
    last = by_round(lines, seed=n)[-1]
    assert len(last) == late * n * votes
    won = 0
    for v in range(votes):
        some = [last[k * n * votes + v * n + i] for k in range(late) for i in range(n)]
        won += majority(Candidates(tuple(some), seed=v)).answer == RIGHT
    p = TwoStates(improve, degrade).vote(n, rounds, start, late=late)
    if late == 1:
        share = 0.625 + (0.2 - 0.625) * 0.6**5
        tie = binom.pmf(n / 2, n, share) / 2 if n % 2 == 0 else 0
        assert p == pytest.approx(binom.sf(n // 2, n, share) + tie)
    assert abs(won / votes - p) < 5 * math.sqrt(p * (1 - p) / votes)


@pytest.mark.parametrize(("completeness", "soundness"), [(0.9, 0.6), (1.0, 1.0), (0.3, 0.9)])
def test_a_verifier_that_is_heeded_thins_both_chances(completeness: float, soundness: float) -> None:
    """What it accepts stands and is judged anew: a right answer is lost with chance (1 − c) · degrade a round, a wrong one mended
    with s · improve. 3 · 21 comparisons, a false alarm once in 27,000 times."""
    improve, degrade, start = 0.3, 0.4, 0.3
    lines = dser(
        Toy(improve, degrade, start), Scores(Noisy(completeness, soundness)), n=1500, rounds=20, late=1, heed=True
    )
    states = TwoStates(soundness * improve, (1 - completeness) * degrade)
    check_trajectory(by_round(lines, seed=3), states, start)


def test_without_heed_the_verdict_changes_nothing() -> None:
    toy = Toy(0.3, 0.4, 0.3)
    with_verdicts = by_round(dser(toy, Scores(Noisy(0.9, 0.9)), n=50, rounds=4, late=1))
    silent = by_round(dser(toy, Silent(), n=50, rounds=4, late=1))
    assert [rights(a).tolist() for a in with_verdicts] == [rights(a).tolist() for a in silent]


def test_the_same_with_a_model_that_reads_the_prompt() -> None:
    """The whole way: a prompt with the answer in it, and a reply that depends on it. 300 lines over 8 rounds, 9 comparisons."""
    improve, degrade, start = 0.3, 0.1, 0.25

    def script(request: Request) -> str:
        shown = request.context.messages[0].content
        chance = start if shown == "q" else 1 - degrade if f"[1]\n\\boxed{{{RIGHT}}}" in shown else improve
        right = np.random.default_rng(request.seed).random() < chance
        return f"\\boxed{{{RIGHT if right else WRONG}}}"

    lines = dser(Prompted(ScriptedModel(script), REFINE_PROMPT), Silent(), n=300, rounds=8, late=1)
    check_trajectory(by_round(lines, problem=Problem("q")), TwoStates(improve, degrade), start)


# Which answers vote.


def test_the_late_answers_are_the_last_ones_of_all_lines() -> None:
    problem = Problem("q")

    def answer(text: str) -> Candidate:
        return Candidate(problem, (Step(text, "m", 1),), done=True)

    def lines(rounds: int) -> list[Line]:
        return [Line(problem, tuple(answer(f"{name}{t}") for t in range(rounds + 1))) for name in "ab"]

    def counted(rounds: int, most: int) -> list[str]:
        return [c.text for c in Late(most)(lines(rounds))]

    assert counted(0, 10) == ["a0", "b0"]
    assert counted(1, 10) == ["a1", "b1"]  # of two the later half
    assert counted(2, 10) == ["a1", "b1", "a2", "b2"]
    assert counted(5, 10) == ["a3", "b3", "a4", "b4", "a5", "b5"]
    assert counted(5, 2) == ["a4", "b4", "a5", "b5"]
    assert len(counted(40, 10)) == 20
    with pytest.raises(BadInput, match="1 or more"):
        Late(0)


def test_the_graph_votes_on_them() -> None:
    """One line that is right in the last three of six rounds; late=3 finds it, late=10 counts the later half of seven answers."""
    answers = [WRONG, WRONG, WRONG, WRONG, RIGHT, RIGHT, RIGHT]
    for late, winner in ((3, RIGHT), (10, RIGHT), (1, RIGHT)):
        model = ScriptedModel([f"\\boxed{{{answer}}}" for answer in answers])
        flow = chain(dser(Prompted(model, REFINE_PROMPT), Silent(), n=1, rounds=6, late=late), majority)
        result = solve("q", flow)
        assert result.answer == winner
        assert len(result.candidates) == min(late, 4)
        assert result.confidence == pytest.approx(1.0 if late <= 3 else 3 / 4)
