"""A model as judge of two solutions at a time: everybody against everybody, or a knockout.

Every pair is asked about in both orders, since a judge may prefer whatever it reads first (Zheng et al., 2023, arXiv 2306.05685).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reasonweave.orchestrator.answers import alike
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Context, FloatArray, Message, Problem, Score, shown
from reasonweave.verifiers.consistency import ALONE, same_problem
from reasonweave.verifiers.judge import ONE_TOKEN, Unreadable, chances, not_judged, presented

PAIR_PROMPT = """\
Here are a problem and two attempts to solve it, [A] and [B]. Each of them may be wrong.

Problem:
{problem}

[A]
{a}

[B]
{b}

Which of the two is more likely to be right? Reply A or B."""
PAIR_PREFIX = "Answer:"

Standing: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
"""From the win probabilities wᵢⱼ of i against j, shape (n, n), nan where they did not meet, and how many candidates each of the n
stands for, shape (n,), to their scores in 0..1, shape (n,), nan where nothing is known."""

RIDGE = 1e-7
"""What keeps the strengths finite of those who win or lose always."""


def mean_win(wins: FloatArray, counts: FloatArray) -> FloatArray:
    """The mean win probability against those met, each as often as there are candidates like it; one's own likes are ties.

    >>> mean_win(np.array([[np.nan, 0.9], [0.1, np.nan]]), np.array([2.0, 1.0])).round(3).tolist()
    [0.7, 0.1]
    """
    return _against(np.nan_to_num(wins, nan=0.0), np.asarray(~np.isnan(wins)), counts)


def bradley_terry(wins: FloatArray, counts: FloatArray) -> FloatArray:
    """The mean win probability against all others by the Bradley–Terry model, P(i beats j) = σ(θᵢ − θⱼ), at its likeliest θ.

    Where all have met all, this is `mean_win`, since the equations of the likelihood's maximum say so; where pairs were drawn,
    it makes up for the strength of those whom one happened to meet. Groups that never met are taken to be equally strong.
    """
    met: NDArray[np.bool_] = np.asarray(~np.isnan(wins))
    games = np.where(met, np.outer(counts, counts), 0.0)
    won = games * np.nan_to_num(wins, nan=0.0)

    def likelihood(theta: FloatArray) -> float:
        lost = np.logaddexp(0.0, theta[None, :] - theta[:, None])  # −log σ(θᵢ − θⱼ)
        return -float((won * lost).sum() + RIDGE / 2 * (theta**2).sum())

    theta, best = np.zeros(len(counts)), likelihood(np.zeros(len(counts)))
    for _ in range(200):  # Newton's method; the likelihood is concave
        p = _beats(theta)
        curvature = games * p * (1 - p)
        gradient = (won - games * p).sum(axis=1) - RIDGE * theta
        step = np.linalg.solve(np.diag(curvature.sum(axis=1) + RIDGE) - curvature, gradient)
        while (better := likelihood(theta + step)) < best and np.abs(step).max() > 1e-12:
            step = step / 2
        if not better > best:
            break
        theta, best = theta + step, better
    known = np.asarray(met.any(axis=1))
    return _against(_beats(theta), np.outer(known, known) & ~np.eye(len(counts), dtype=bool), counts)


def _beats(theta: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(np.clip(theta[None, :] - theta[:, None], -500, 500))), dtype=np.float64)


def _against(p: FloatArray, known: NDArray[np.bool_], counts: FloatArray) -> FloatArray:
    """The mean of p over the others that are known, and of ½ over one's own likes."""
    weights = known * counts[None, :]
    met = weights.sum(axis=1) + counts - 1
    total = (weights * p).sum(axis=1) + (counts - 1) / 2
    mean = np.divide(total, met, out=np.full(len(counts), np.nan), where=met > 0)
    return np.asarray(np.clip(mean, 0.0, 1.0), dtype=np.float64)


@dataclass(frozen=True)
class Pairwise:
    """A model says which of two solutions is better, everybody against everybody; the mean win probability.

        P(i beats j) = ½ (p("A" | i, j) + p("B" | j, i))      of p("A") + p("B") = 1

    from the alternatives of one token, from the token itself where the server tells none. Solutions that give the same answer,
    or say the same, are a tie without being asked about. With `most` at most so many pairs a problem are asked about, drawn by
    the run's seed in rounds in which each meets one other, so that all meet about as many; `rank` is then better
    `bradley_terry`. Not judged (nan) is a candidate that is alone, or of whose pairs none could be read in both orders; all are
    where no pair at all could.

    Costs: two tokens of the model a pair, each after the problem and both solutions: n (n − 1) for n candidates that all differ.
    """

    model: Model
    most: int | None = None
    rank: Standing = mean_win
    prompt: str = PAIR_PROMPT
    prefix: str = PAIR_PREFIX

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0
    relative: ClassVar[bool] = True

    __repr__ = shown

    def __post_init__(self) -> None:
        _check_prompt(self, self.prompt)
        if self.most is not None and self.most < 1:
            raise BadInput(f"Pairwise: most={self.most}; it is 1 or more, or None for all pairs")

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        leagues = [_League.of(problem, own, candidates) for problem, own in same_problem(candidates).items()]
        pairs = [self._pairs(league, run) for league in leagues]
        asked = [
            (league.solutions[i], league.solutions[j])
            for league, some in zip(leagues, pairs, strict=True)
            for i, j in some
            if not league.even(i, j)
        ]
        said = iter(await _compared(self.model, self.prompt, self.prefix, asked, run.child("pairs")))
        scores = [not_judged(ALONE)] * len(candidates)
        for league, some in zip(leagues, pairs, strict=True):
            outcomes = {pair: 0.5 if league.even(*pair) else next(said) for pair in some}
            for solution, score in zip(league.solutions, self._standings(league, outcomes), strict=True):
                for at in solution.members:
                    scores[at] = score
        return scores

    def _pairs(self, league: _League, run: Run) -> list[tuple[int, int]]:
        """The pairs that meet: all, or round by round until `most` of them have to be asked about."""
        pairs: list[tuple[int, int]] = []
        left = math.inf if self.most is None else self.most
        for i, j in _rounds(len(league.solutions), run.child("draw", league.problem.prompt).rng()):
            if not league.even(i, j):
                if left == 0:
                    break
                left -= 1
            pairs.append((i, j))
        return pairs

    def _standings(self, league: _League, outcomes: Mapping[tuple[int, int], float | Unreadable]) -> list[Score]:
        n = len(league.solutions)
        wins, why = np.full((n, n), np.nan), dict[int, Unreadable]()
        for (i, j), outcome in outcomes.items():
            if isinstance(outcome, Unreadable):
                why[i] = why[j] = outcome
            else:
                wins[i, j], wins[j, i] = outcome, 1 - outcome
        if why and all(league.even(*pair) for pair, outcome in outcomes.items() if not isinstance(outcome, Unreadable)):
            return [not_judged(next(iter(why.values())))] * n
        values = self.rank(wins, np.array([len(solution.members) for solution in league.solutions], dtype=np.float64))
        otherwise = ALONE if n == 1 else "it is in none of the pairs that were drawn; ask about more of them with most="
        return [
            not_judged(why.get(i, otherwise)) if math.isnan(value) else Score(float(value))
            for i, value in enumerate(values)
        ]


@dataclass(frozen=True)
class Tournament:
    """A knockout in which a model says which of two solutions is better; how far a candidate came, the winner having 1.

        value = rounds survived / rounds      in 0..1

    Who meets whom is drawn by the run's seed; where their number is no power of two, some go on from the first round unasked.
    Candidates that give the same answer play as one, by a solution of theirs that is drawn, and get the same score, which is 1
    where all give the same. A match is asked about in both orders; one that is even, or cannot be read, is decided by lot. Not
    judged (nan) is a candidate that is alone, or none of whose matches could be read; where none of a first round can, that ends
    the knockout.

    Costs: two tokens of the model a match, each after the problem and both solutions: 2 (n − 1) for n distinct answers.
    """

    model: Model
    prompt: str = PAIR_PROMPT
    prefix: str = PAIR_PREFIX

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0
    relative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_prompt(self, self.prompt)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        leagues = [_League.of(problem, own, candidates) for problem, own in same_problem(candidates).items()]
        brackets = [_Bracket.of(league, run.child("draw", league.problem.prompt).rng()) for league in leagues]
        while matches := [(bracket, i, j) for bracket in brackets for i, j in bracket.matches()]:
            here = run.child("round", max(bracket.round for bracket in brackets))
            asked = [(bracket.players[i], bracket.players[j]) for bracket, i, j in matches]
            work = _compared(self.model, self.prompt, self.prefix, asked, here)
            first = all(bracket.round == 0 for bracket in brackets)
            replies = await work if first else await afforded(work, here)
            if replies is None:  # how far they have come stands
                break
            for (bracket, i, j), said in zip(matches, replies, strict=True):
                bracket.decide(i, j, said)
            for bracket in brackets:
                bracket.next_round()
        scores = [not_judged(ALONE)] * len(candidates)
        for bracket in brackets:
            for player, score in zip(bracket.players, bracket.scores(), strict=True):
                for at in player.members:
                    scores[at] = score
        return scores


@dataclass(frozen=True, slots=True)
class _Solution:
    """What a judge reads, and the indices of the candidates it stands for."""

    problem: Problem
    text: str
    group: int | None
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _League:
    """The distinct solutions of one problem, in an order that does not depend on that of the candidates."""

    problem: Problem
    solutions: tuple[_Solution, ...]

    @classmethod
    def of(cls, problem: Problem, own: Sequence[int], candidates: Sequence[Candidate]) -> _League:
        answers = [candidates[i].answer for i in own]
        found: dict[tuple[str, int | None], list[int]] = {}
        for i, group in zip(own, alike(answers, problem.answers), strict=True):
            found.setdefault((presented(candidates[i]), group), []).append(i)
        ordered = sorted(found.items(), key=lambda each: (each[0][0], candidates[each[1][0]].answer or ""))
        return cls(problem, tuple(_Solution(problem, text, group, tuple(at)) for (text, group), at in ordered))

    def even(self, i: int, j: int) -> bool:
        """Is there nothing to choose between the two?"""
        a, b = self.solutions[i], self.solutions[j]
        return a.text == b.text or (a.group is not None and a.group == b.group)


@dataclass(slots=True)
class _Bracket:
    """One problem's knockout: who plays, who is still in, what each has reached."""

    players: list[_Solution]
    rng: np.random.Generator
    alive: list[int]
    rounds: int
    round: int = 0
    survived: list[int] = field(default_factory=list)
    read: list[bool] = field(default_factory=list)
    why: Unreadable | None = None
    won: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, league: _League, rng: np.random.Generator) -> _Bracket:
        groups: dict[object, list[_Solution]] = {}
        for solution in league.solutions:
            groups.setdefault(solution.text if solution.group is None else solution.group, []).append(solution)
        players = []
        for some in groups.values():
            drawn = some[int(rng.integers(len(some)))]
            members = tuple(at for solution in some for at in solution.members)
            players.append(_Solution(drawn.problem, drawn.text, drawn.group, members))
        n = len(players)
        order = [int(i) for i in rng.permutation(n)]
        return cls(players, rng, order, (n - 1).bit_length(), 0, [0] * n, [False] * n)

    def matches(self) -> list[tuple[int, int]]:
        """Who meets whom in this round; those before them go on without a match."""
        if len(self.alive) == 1:
            return []
        resting = self._resting
        return list(zip(self.alive[resting::2], self.alive[resting + 1 :: 2], strict=True))

    @property
    def _resting(self) -> int:
        return (1 << self.rounds - self.round) - len(self.alive)

    def decide(self, i: int, j: int, said: float | Unreadable) -> None:
        """A match is over: the better one goes on, of equals one that is drawn."""
        coin = bool(self.rng.integers(2))
        if isinstance(said, Unreadable):
            self.why = said
        else:
            self.read[i] = self.read[j] = True
            coin = coin if math.isclose(said, 0.5) else said > 0.5
        self.won.append(i if coin else j)

    def next_round(self) -> None:
        """Those who won, and those who rested, meet in the next round; nobody does where no judgement could be read so far."""
        if len(self.alive) == 1:
            return
        self.alive = [*self.alive[: self._resting], *self.won]
        self.won, self.round = [], self.round + 1
        for i in self.alive:
            self.survived[i] = self.round
        if not any(self.read):
            self.alive = self.alive[:1]

    def scores(self) -> list[Score]:
        """What each player has reached."""
        if len(self.players) == 1:
            return [Score(1.0) if len(self.players[0].members) > 1 else not_judged(ALONE)]
        return [
            Score(survived / self.rounds) if read else not_judged(self.why or "the judge said nothing of it")
            for survived, read in zip(self.survived, self.read, strict=True)
        ]


def _rounds(n: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Every pair of n once, in rounds in which each meets one other (one rests where n is odd): the circle method."""
    seats: list[int | None] = [int(i) for i in rng.permutation(n)]
    if n % 2:
        seats.append(None)
    for _ in range(len(seats) - 1):
        for i, j in zip(seats[: len(seats) // 2], reversed(seats), strict=False):
            if i is not None and j is not None:
                yield i, j
        seats = [seats[0], seats[-1], *seats[1:-1]]


async def _compared(
    model: Model, prompt: str, prefix: str, pairs: Sequence[tuple[_Solution, _Solution]], run: Run
) -> list[float | Unreadable]:
    """P(the first is better) of each pair, both orders averaged; `Unreadable` where one of the two replies is."""

    def question(a: _Solution, b: _Solution) -> Context:
        return Context((Message("user", filled(prompt, problem=a.problem.prompt, a=a.text, b=b.text)),), prefix)

    contexts = [question(*order) for a, b in pairs for order in ((a, b), (b, a))]
    answers = await asked_once(model, contexts, run, ONE_TOKEN)
    found: list[float | Unreadable] = []
    for there, back in zip(answers[::2], answers[1::2], strict=True):
        try:
            found.append((chances(there, "AB")[0] + chances(back, "AB")[1]) / 2)
        except Unreadable as why:
            found.append(why)
    return found


def _check_prompt(part: object, prompt: str) -> None:
    if missing := [blank for blank in ("{problem}", "{a}", "{b}") if blank not in prompt]:
        raise BadInput(f"{type(part).__name__}: the prompt needs {', '.join(missing)} in it")
