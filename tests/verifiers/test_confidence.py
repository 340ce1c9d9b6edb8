"""How sure the author was, as a verifier."""

from __future__ import annotations

import asyncio
import math

import pytest

from reasonweave.orchestrator import Candidate, NotFound, Problem, Run, Score, Step, Token, asolve, chain, open_model
from reasonweave.orchestrator.confidence import Windowed, mean_confidence, self_certainty, tail_confidence
from reasonweave.strategies import BestOfN, best, whole
from reasonweave.verifiers import Confidence, calm
from reasonweave.verifiers.presets import confidence


def token(*ps: float) -> Token:
    return Token("x", math.log(ps[0]), tuple(("x", math.log(p)) for p in ps))


def step(*tokens: Token, told: bool = True) -> Step:
    logprob = math.fsum(t.logprob for t in tokens if t.logprob is not None)
    return Step("x" * len(tokens), "m", len(tokens), logprob, tokens if told else ())


CANDIDATE = Candidate(Problem("q"), (step(token(0.5, 0.5), token(0.25, 0.75)), step(token(0.9, 0.1))))


def one(verifier: Confidence, candidate: Candidate = CANDIDATE) -> Score:
    (score,) = asyncio.run(verifier.score([candidate], Run()))
    return score


def test_probability_is_the_geometric_mean() -> None:
    score = one(Confidence())
    assert score.value == pytest.approx((0.5 * 0.25 * 0.9) ** (1 / 3))
    assert score.steps == pytest.approx(((0.5 * 0.25) ** 0.5, 0.9))


def test_calm_is_exp_of_minus_the_mean_entropy() -> None:
    def h(*ps: float) -> float:
        return -sum(p * math.log(p) for p in ps)

    entropies = [h(0.5, 0.5), h(0.25, 0.75), h(0.9, 0.1)]
    assert one(Confidence(calm)).value == pytest.approx(math.exp(-sum(entropies) / 3))
    assert one(Confidence(calm)).steps[1] == pytest.approx(math.exp(-entropies[2]))


def test_deepconfs_measures_are_those_of_the_votes() -> None:
    for measure in (mean_confidence, self_certainty, Windowed(tail_confidence, 1)):
        assert one(Confidence(measure)).value == measure(CANDIDATE)


@pytest.mark.parametrize("measure", ["entropy", "mean", "tail", "bottom", "lowest", "self-certainty"])
def test_without_alternatives_it_says_what_is_missing(measure: str) -> None:
    bare = Candidate(Problem("q"), (step(token(0.5, 0.5), told=False),))
    score = one(confidence(measure=measure), bare)  # type: ignore[arg-type]
    assert math.isnan(score.value)
    assert "kept no alternatives (top_logprobs=20 keeps them)" in (score.error or "")


def test_without_log_probabilities_there_is_no_probability() -> None:
    score = one(Confidence(), Candidate(Problem("q"), (Step("x", "m", 3),)))
    assert "has" not in (score.error or "has")
    assert math.isnan(score.value)
    assert "no log-probabilities" in (score.error or "")


def test_an_unknown_measure_gets_the_nearest() -> None:
    with pytest.raises(NotFound, match="did you mean 'entropy'"):
        confidence(measure="entropie")


def test_on_the_lab_it_costs_no_token() -> None:
    small = open_model("lab/small", role="small")
    problem = "Start with 17. A: Add 28. B: Multiply by 2. C: Subtract 19. What is the result?"
    flow = chain(BestOfN(whole(small, top_logprobs=20), n=4, verifier=Confidence(calm)), best)  # type: ignore[arg-type]
    plain = chain(BestOfN(whole(small, top_logprobs=20), n=4))  # type: ignore[arg-type]
    result = asyncio.run(asolve(problem, flow, seed=1))
    assert result.tokens == asyncio.run(asolve(problem, plain, seed=1)).tokens
    scores = [c.score.value for c in result.candidates if c.score]
    assert len(scores) == 4
    assert all(0 < value <= 1 for value in scores)
    assert result.solution is not None
    assert result.solution.score == Score(max(scores), result.solution.score.steps if result.solution.score else ())
