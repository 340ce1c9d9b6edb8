"""Agreement against counts and the ballots of votes; the round trip against scripts that do or do not find the number."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import pytest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Completion,
    Ledger,
    OverBudget,
    Problem,
    Run,
    Step,
)
from reasonweave.orchestrator.answers import FreeText, alike
from reasonweave.orchestrator.models.base import Request
from reasonweave.orchestrator.testing import ScriptedModel, check_verifier
from reasonweave.strategies.aggregators.ballots import ballots
from reasonweave.verifiers.consistency import Agreement, RoundTrip

PROBLEM = Problem("Tom has 12 apples and buys 3 bags of 1,500 each. How many does he have?")


def said(answer: object, problem: Problem = PROBLEM, log_weight: float = 0.0) -> Candidate:
    text = f"\\boxed{{{answer}}}" if answer is not None else "I do not know"
    return Candidate(problem, (Step(text, "m", 1),), log_weight=log_weight)


def agreement(candidates: Sequence[Candidate]) -> list[float]:
    return [score.value for score in asyncio.run(Agreement().score(candidates, Run()))]


# Agreement.


def test_agreement_is_the_share_of_the_others() -> None:
    candidates = [said(a) for a in (4, 5, "4.0", None, 4)]
    assert agreement(candidates) == [2 / 4, 0, 2 / 4, 0, 2 / 4]
    assert agreement([said(1), said(1)]) == [1, 1]
    assert agreement([said(None), said(None), said(1)]) == [0, 0, 0]


def test_the_others_count_by_their_weights() -> None:
    """Weights 1, 2, 3, 4 with answers a, a, b, b: the others of the first are 2 / 9 for a."""
    weighed = [said(a, log_weight=math.log(w)) for a, w in zip("aabb", (1, 2, 3, 4), strict=True)]
    assert agreement(weighed) == pytest.approx([2 / 9, 1 / 8, 4 / 7, 3 / 6])
    assert agreement([said(1, log_weight=-math.inf), said(1, log_weight=-math.inf), said(2)]) == pytest.approx(
        [0, 0, 0]
    )
    assert agreement([said(1), said(1, log_weight=-math.inf), said(2, log_weight=-math.inf)]) == pytest.approx(
        [0.5, 1, 0]
    )


def test_only_candidates_of_the_same_problem_are_compared() -> None:
    other = Problem("another")
    assert agreement([said(1), said(1, other), said(2), said(1, other)]) == [0, 1, 0, 1]


def test_who_is_alone_is_not_judged() -> None:
    first, *pair = asyncio.run(Agreement().score([said(1, Problem("another")), said(1), said(1)], Run()))
    assert math.isnan(first.value)
    assert first.error == "there is no other candidate of this problem to compare it with"
    assert [score.value for score in pair] == [1, 1]
    assert asyncio.run(Agreement().score([], Run())) == []


@dataclass(frozen=True)
class Near:
    """Whole numbers; those that are next to each other are the same, which is not transitive. 7 is the same as 9, not the other
    way round."""

    def extract(self, text: str) -> str | None:
        return text if text.isdigit() else None

    def canonical(self, answer: str) -> Hashable:
        return int(answer)

    def same(self, a: str, b: str) -> bool:
        return abs(int(a) - int(b)) <= 1 or (a, b) == ("7", "9")


def test_answers_are_grouped_as_in_votes_whatever_their_order() -> None:
    rng = random.Random(0)
    for _ in range(200):
        texts = [rng.choice(["1", "2", "3", "5", "7", "9", "09", "no"]) for _ in range(rng.randint(1, 7))]
        groups = alike([Near().extract(text) for text in texts], Near())
        ours = {frozenset(i for i, g in enumerate(groups) if g == group) for group in set(groups) - {None}}
        pool = Candidates(tuple(Candidate(Problem("q", answers=Near()), (Step(text, "m", 1),)) for text in texts))
        assert ours == {frozenset(ballot.voters) for ballot in ballots(pool)}
        assert [g is None for g in groups] == [text == "no" for text in texts]


def test_the_best_are_those_behind_the_majority() -> None:
    rng = random.Random(1)
    for _ in range(100):
        answers = [rng.randint(1, 3) for _ in range(rng.randint(2, 8))]
        got = agreement([said(a) for a in answers])
        counts = Counter(answers)
        assert got == pytest.approx([(counts[a] - 1) / (len(answers) - 1) for a in answers])


def test_agreement_keeps_the_promises_of_verifiers(problem: Problem) -> None:
    check_verifier(Agreement(), problem)


# The round trip.


class Backwards(ScriptedModel):
    """Finds the hidden number where the answer that it is told is right."""

    def __init__(self, right: str = "4512", reply: Callable[[Request], str] | None = None) -> None:
        self.right = right
        super().__init__(reply or self._solve)

    def _solve(self, request: Request) -> str:
        question = request.context.messages[0].content
        (hidden,) = [
            n for n in ("12", "3", "1,500") if not re.search(rf"(?<![\d,]){n}(?![\d,])", question.split("?")[0])
        ]
        return f"It must be \\boxed{{{hidden}}}" if f"it is {self.right}." in question else "So \\boxed{99}."


def trip(verifier: RoundTrip, candidates: Sequence[Candidate], seed: int = 1) -> list[float]:
    return [score.value for score in asyncio.run(verifier.score(candidates, Run(seed)))]


def test_the_value_is_the_share_of_the_hidden_numbers_that_are_found() -> None:
    model = Backwards()
    assert trip(RoundTrip(model), [said(4512), said(15), said("4512.0"), said(4512)]) == [1, 0, 1, 1]
    requests = [request for call in model.calls for request in call]
    assert len(requests) == 2 * 3  # two distinct answers, three numbers
    asked = [r.context.messages[0].content.split("\n")[0] for r in requests]
    assert Counter(asked) == {
        PROBLEM.prompt.replace("12", "X"): 2,
        PROBLEM.prompt.replace("3 bags", "X bags"): 2,
        PROBLEM.prompt.replace("1,500", "X"): 2,
    }


def test_two_of_three_found_is_two_thirds() -> None:
    model = Backwards(reply=lambda r: "12" if "Tom has X" in r.context.messages[0].content else "It is 3, no: 1500.0")
    assert trip(RoundTrip(model), [said(4512)]) == pytest.approx([2 / 3])


def test_how_a_number_is_hidden() -> None:
    def hidden(text: str) -> set[str]:
        model = ScriptedModel(["1"])
        trip(RoundTrip(model, maskings=9), [said(1, Problem(text))])
        return {r.context.messages[0].content.split("\n")[0] for call in model.calls for r in call}

    assert hidden("Add 4 to 2.50.") == {"Add X to 2.50.", "Add 4 to X."}
    assert hidden("X is 5% of \\frac{1}{20}") == {
        "X is Y% of \\frac{1}{20}",
        "X is 5% of \\frac{Y}{20}",
        "X is 5% of \\frac{1}{Y}",
    }
    assert hidden("Version 1.2.3 and 12,5 and 7") == {"Version 1.2.3 and 12,5 and X"}
    assert hidden("The 3rd of v2 has -7") == {"The 3rd of v2 has -X"}
    assert hidden("U, V, W, X, Y and Z make 6") == {"U, V, W, X, Y and Z make the hidden number"}


@pytest.mark.parametrize("maskings", [1, 2, 3, 5])
@pytest.mark.parametrize("samples", [1, 4])
def test_its_cost_is_maskings_times_samples_for_each_answer(maskings: int, samples: int) -> None:
    model = Backwards()
    verifier = RoundTrip(model, maskings, samples, 0.7 if samples > 1 else 0.0)
    trip(verifier, [said(a) for a in (4512, 15, 15, 16, None)])
    assert sum(map(len, model.calls)) == 3 * min(maskings, 3) * samples
    assert len({r.seed for r in model.calls[0]}) == len(model.calls[0])


def test_which_numbers_are_hidden_is_drawn_by_the_seed() -> None:
    def asked(seed: int) -> str:
        model = Backwards()
        trip(RoundTrip(model, maskings=1), [said(4512)], seed)
        return model.calls[0][0].context.messages[0].content

    assert asked(1) == asked(1)
    assert len({asked(seed) for seed in range(20)}) == 3


def test_scores_follow_the_candidates_whatever_their_order() -> None:
    candidates = [said(a) for a in (4512, 15, "4512.0", 16)]
    model = Backwards(reply=lambda r: str(r.seed % 3 * 10 + 2))
    verifier = RoundTrip(model, samples=8, temperature=0.7)
    expected = trip(verifier, candidates)
    for order in itertools.permutations(range(4)):
        assert trip(verifier, [candidates[i] for i in order]) == [expected[i] for i in order]


def test_what_cannot_be_gone_back_from_is_not_judged() -> None:
    model = Backwards()
    bare = Problem("How many?")
    scores = asyncio.run(RoundTrip(model).score([said(None), said(1, bare)], Run()))
    assert all(math.isnan(score.value) for score in scores)
    assert [score.error for score in scores] == [
        "no answer to go back from",
        "the problem's text has no number to hide",
    ]
    assert model.calls == []


class Short(Backwards):
    """Answers the first requests of a call, and has no budget for the others."""

    kept = 1

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        got = await super()._generate(requests)
        ends = [Completion("", "budget"), Completion("Well, he", "budget")]
        return [*got[: self.kept], *[ends[i % 2] for i in range(len(got) - self.kept)]]


def test_replies_that_the_budget_cut_do_not_count() -> None:
    model = Short()
    assert trip(RoundTrip(model), [said(4512)]) == [1]
    model.kept = 0
    (score,) = asyncio.run(RoundTrip(model).score([said(4512)], Run()))
    assert math.isnan(score.value)
    assert "budget" in (score.error or "")
    with pytest.raises(OverBudget):
        asyncio.run(RoundTrip(Backwards()).score([said(4512)], Run(ledger=Ledger(Budget(tokens=5)))))


def test_a_reply_without_a_number_has_not_found_it() -> None:
    assert trip(RoundTrip(ScriptedModel(["I cannot tell."])), [said(4512)]) == [0]


def test_the_round_trip_keeps_the_promises_of_verifiers() -> None:
    check_verifier(RoundTrip(ScriptedModel(["It is 12."])), replace(PROBLEM, answers=FreeText()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RoundTrip(ScriptedModel(), 0),
        lambda: RoundTrip(ScriptedModel(), samples=0),
        lambda: RoundTrip(ScriptedModel(), samples=2),
        lambda: RoundTrip(ScriptedModel(), prompt="{problem} {answer}"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        make()
