"""Reasoning-level speculation: who is asked what, in which order, and what stays, against traces worked by hand."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Completion,
    Context,
    Ledger,
    Problem,
    Request,
    Run,
    Score,
    Step,
    Token,
    asolve,
    solve,
)
from reasonweave.orchestrator.signals import closeness, doubt, entropy, uncertainty
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward, check_policy
from reasonweave.strategies import (
    Above,
    AboveMean,
    Aligned,
    Always,
    AtLeast,
    BestOfN,
    BestStep,
    Both,
    BudgetForcing,
    ByConfidence,
    ByScore,
    Clipped,
    Constant,
    Cues,
    Either,
    Every,
    Fallback,
    Gated,
    Guard,
    Guided,
    Handoff,
    Logistic,
    Lookahead,
    Mixture,
    Momentum,
    Nudge,
    Oracle,
    RunningQuality,
    SameText,
    Sample,
    Sigmoid,
    Speculate,
    Sure,
    Switch,
    Threshold,
    Weighted,
    arbitrage,
    rsd,
    spec_reason,
    spec_search,
    steer,
)
from reasonweave.verifiers import ProcessReward, SelfCheck, UtilityDigit

PROBLEM = Problem("What is 1 + 1?", id="sum")


class Rewards:
    """A verifier from a function of the newest step's text."""

    def __init__(self, reward: Callable[[str], float]) -> None:
        self.reward, self.asked = reward, list[list[str]]()

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.asked.append([c.text for c in candidates])
        return [Score(self.reward(c.passages[-1])) for c in candidates]


def steps_of(*texts: str) -> Callable[[Request], str]:
    """A script that writes these steps, the k-th one after k delimiters."""

    def script(request: Request) -> str:
        done = request.context.prefix.count("\n\n")
        return texts[min(done, len(texts) - 1)]

    return script


def asked(model: ScriptedModel) -> list[tuple[str, int]]:
    """(prefix, token limit) of every request, in order."""
    return [(request.context.prefix, request.max_tokens) for call in model.calls for request in call]


def extend(policy: object, *candidates: Candidate, run: Run | None = None) -> list[Candidate]:
    return asyncio.run(policy.extend(list(candidates), run or Run(1)))  # type: ignore[attr-defined]


def grow(policy: object, steps: int, candidate: Candidate | None = None, run: Run | None = None) -> Candidate:
    candidate, run = candidate or Candidate(PROBLEM), run or Run(1)
    for k in range(steps):
        if not candidate.done:
            (candidate,) = extend(policy, candidate, run=run.child(k))
    return candidate


# SpecReason.


def test_spec_reason_asks_whom_the_paper_asks() -> None:
    """Two steps drafted: the first judged 8 stays, the second judged 3 is written by the large model, which then ends."""
    small = ScriptedModel(steps_of("s1\n\n", "s2\n\n", "s3 \\boxed{9}"), name="small")

    def judge_or_write(request: Request) -> str:
        if request.max_tokens == 1:
            return {"s1": "8", "s2": "3", "s3": "9"}[
                request.context.messages[1].content.split()[-2 if "s3" in request.context.messages[1].content else -1]
            ]
        return "l2\n\n"

    large = ScriptedModel(judge_or_write, name="large")
    policy = spec_reason(small, large, UtilityDigit(large, expected=False), 7)
    candidate = grow(policy, 5)
    assert [step.author for step in candidate.steps] == ["small", "large", "small"]
    assert candidate.text == "s1\n\nl2\n\ns3 \\boxed{9}"
    assert candidate.done
    assert candidate.answer == "9"
    assert asked(small) == [("", 512), ("s1\n\n", 512), ("s1\n\nl2\n\n", 512)]
    judged = [r.context for call in large.calls for r in call if r.max_tokens == 1]
    assert [c.messages[1].content for c in judged] == ["s1\n\n", "s1\n\ns2\n\n", "s1\n\nl2\n\ns3 \\boxed{9}"]
    assert [(p, n) for p, n in asked(large) if n > 1] == [("s1\n\n", 512)]
    assert len(large.calls) == 4


def test_the_first_steps_are_the_large_models_and_not_judged() -> None:
    small, large = ScriptedModel(steps_of("s\n\n"), name="small"), ScriptedModel(steps_of("l\n\n"), name="large")
    judge = Rewards(lambda step: 9)
    candidate = grow(spec_reason(small, large, judge, first=2, repeats=9), 3)
    assert [step.author for step in candidate.steps] == ["large", "large", "small"]
    assert judge.asked == [["l\n\nl\n\ns\n\n"]]


def test_a_judge_that_answers_no_digit_rejects_and_one_that_fails_does_too() -> None:
    small, large = ScriptedModel(steps_of("s\n\n"), name="small"), ScriptedModel(steps_of("l\n\n"), name="large")
    for expected in (True, False):
        judge = UtilityDigit(ScriptedModel(["I think"]), expected=expected)
        assert grow(spec_reason(small, large, judge), 1).steps[0].author == "large"
    assert grow(spec_reason(small, large, Rewards(lambda step: math.nan)), 1).steps[0].author == "large"


def test_a_candidate_that_repeats_itself_is_ended_and_its_siblings_are_not() -> None:
    small = ScriptedModel(
        lambda r: "again\n\n" if r.context.messages[0].content == "a" else f"{len(r.context.prefix)}\n\n"
    )
    policy = Guard(Sample(small), repeats=2)
    looped, fine = extend(policy, *extend(policy, Candidate(Problem("a")), Candidate(Problem("b"))), run=Run(2))
    assert looped.done
    assert not fine.done


def test_thinking_that_is_closed_stays_in_the_judges_prompt() -> None:
    """Chat templates drop what stands before </think> in earlier turns."""
    judge = ScriptedModel(["9"])
    candidate = Candidate(PROBLEM, (Step("so 2\n\n", "m", 3), Step("</think>\n\nThe answer is 2", "m", 5)))
    asyncio.run(UtilityDigit(judge).score([candidate], Run()))
    (request,) = judge.calls[0]
    assert "so 2" in request.context.messages[1].content
    assert "</think>" not in request.context.messages[1].content


def test_a_batch_is_three_calls_whatever_its_size() -> None:
    small, large = ScriptedModel(steps_of("s\n\n"), name="small"), ScriptedModel(steps_of("l\n\n"), name="large")
    rewards = Rewards(lambda step: 0.0)
    extend(rsd(small, large, rewards), *[Candidate(Problem(str(i))) for i in range(9)])
    assert [len(call) for call in small.calls] == [9]
    assert [len(call) for call in rewards.asked] == [9]
    assert [len(call) for call in large.calls] == [9]


def test_a_draft_that_fails_is_written_by_the_target() -> None:
    class Down(ScriptedModel):
        async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
            return [Completion("", "error", error="no server") for _ in requests]

    large = ScriptedModel(steps_of("l\n\n"), name="large")
    (candidate,) = extend(Speculate(Sample(Down()), Sample(large), Always()), Candidate(PROBLEM))
    assert [step.author for step in candidate.steps] == ["large"]
    assert candidate.failed is None


def test_a_draft_that_ends_without_a_word_is_written_by_the_target() -> None:
    small, large = ScriptedModel([""], name="small"), ScriptedModel(["l\n\n"], name="large")
    (candidate,) = extend(Speculate(Sample(small), Sample(large), Always()), Candidate(PROBLEM))
    assert (candidate.text, candidate.done) == ("l\n\n", False)


# RSD: the theory on a language small enough to count.

SMALL = {"a": 0.6, "b": 0.3, "c": 0.1}
LARGE = {"a": 0.1, "b": 0.3, "c": 0.6}
REWARD = {"a": 0.2, "b": 0.7, "c": 0.95}


class Toy(ScriptedModel):
    """One-letter steps with known probabilities, that depend on the letter before."""

    def __init__(self, first: dict[str, float], name: str) -> None:
        super().__init__(self._letter, name=name)
        self.first = first

    def after(self, prefix: str) -> dict[str, float]:
        if not prefix:
            return self.first
        last = prefix.split()[-1]
        tilted = {letter: p * (2.0 if letter == last else 1.0) for letter, p in self.first.items()}
        return {letter: p / sum(tilted.values()) for letter, p in tilted.items()}

    def _letter(self, request: Request) -> str:
        probabilities = self.after(request.context.prefix)
        u = np.random.default_rng(request.seed).random()
        edges = np.cumsum(list(probabilities.values()))
        return list(probabilities)[min(int((edges <= u).sum()), 2)] + "\n\n"


def mixture(prefix: str, weighting: Callable[[float], float]) -> dict[str, float]:
    """ω P_small + ν P_large, ν = 1 − Σ ω P_small: the distribution of RSD's next step."""
    small, large = Toy(SMALL, "s").after(prefix), Toy(LARGE, "l").after(prefix)
    nu = 1 - sum(weighting(REWARD[letter]) * p for letter, p in small.items())
    return {letter: weighting(REWARD[letter]) * small[letter] + nu * large[letter] for letter in small}


WEIGHTINGS = [Threshold(0.7), Constant(0.3), Clipped(), Sigmoid(), Logistic(10, 0.7)]


def drawn(policy: object, draws: int, steps: int, seed: int) -> Counter[str]:
    """How often each sequence of letters comes."""

    async def sample() -> list[Candidate]:
        candidates = [Candidate(PROBLEM)] * draws
        for k in range(steps):
            candidates = await policy.extend(candidates, Run(seed).child(k))  # type: ignore[attr-defined]
        return candidates

    return Counter(c.text.replace("\n\n", "") for c in asyncio.run(sample()))


@pytest.mark.parametrize(
    ("weighting", "draws", "steps"),
    [*((w, 100_000, 1) for w in WEIGHTINGS), (WEIGHTINGS[2], 20_000, 3)],
    ids=lambda value: str(value),
)
def test_rsd_draws_from_the_mixture_of_the_theory(weighting: Callable[[float], float], draws: int, steps: int) -> None:
    """One step for every weighting, 10^5 draws; three steps (27 sequences) for one. Chi-square at 1e-4, six times: a false alarm
    once in 1,600 runs."""
    rewards = Rewards(lambda s: REWARD[s.strip()])
    policy = rsd(Toy(SMALL, "small"), Toy(LARGE, "large"), rewards, weighting=weighting, repeats=9)
    found = drawn(policy, draws, steps, seed=11)
    expected = {"": float(draws)}
    for _ in range(steps):
        expected = {
            before + letter: mass * p
            for before, mass in expected.items()
            for letter, p in mixture("".join(f"{x}\n\n" for x in before), weighting).items()
        }
    possible = [sequence for sequence, mass in expected.items() if mass > 0]
    assert set(found) <= set(possible)
    assert chisquare([found[s] for s in possible], [expected[s] for s in possible]).pvalue > 1e-4


@pytest.mark.parametrize(("verdict", "author"), [(True, "small"), (False, "large")])
def test_an_acceptor_that_always_says_one_thing_gives_one_models_text(verdict: bool, author: str) -> None:
    toys = {"small": Toy(SMALL, "small"), "large": Toy(LARGE, "large")}
    both = grow(Speculate(Sample(toys["small"]), Sample(toys["large"]), Always(verdict)), 5, run=Run(4))
    assert {step.author for step in both.steps} == {author}
    label = "draft" if verdict else "target"
    alone = Candidate(PROBLEM)
    for k in range(5):
        (alone,) = extend(Sample(toys[author]), alone, run=Run(4).child(k).child(label))
    assert both.text == alone.text


def test_a_reward_that_is_nan_rejects_under_every_weighting() -> None:
    for weighting in (*WEIGHTINGS, Constant(1.0)):
        (kept,) = asyncio.run(
            Weighted(Rewards(lambda s: math.nan), weighting).accept(
                [Candidate(PROBLEM)], [Candidate(PROBLEM, (Step("a", "s", 1),))], Run()
            )
        )
        assert kept is False


def test_rsd_reads_the_newest_steps_reward_and_not_the_product() -> None:
    prm = ProcessReward(ScriptedReward(lambda problem, steps: 0.9))
    small, large = ScriptedModel(lambda r: f"{len(r.context.prefix)}\n\n", name="s"), ScriptedModel(["l\n\n"], name="l")
    assert {step.author for step in grow(rsd(small, large, prm, 0.8), 9).steps} == {"s"}  # 0.9^3 is below 0.8


def test_weightings_never_fall_and_stay_probabilities() -> None:
    for weighting in WEIGHTINGS:
        values = [weighting(r) for r in np.linspace(-800, 800, 101)]
        assert values == sorted(values)
        assert all(0 <= v <= 1 for v in values)
    for wrong in (lambda: Constant(1.5), lambda: Clipped(1, 0), lambda: Guard(Sample(Toy(SMALL, "s")), 1)):
        with pytest.raises(BadInput):
            wrong()


# Acceptors combine.


def test_both_and_either_ask_the_second_only_where_it_matters() -> None:
    first, second = Rewards(lambda s: s == "a"), Rewards(lambda s: s in "ac")
    before = [Candidate(PROBLEM)] * 3
    drafted = [Candidate(PROBLEM, (Step(letter, "m", 1),)) for letter in "abc"]
    a, b = AtLeast(first, 0.5), AtLeast(second, 0.5)
    assert asyncio.run(Both(a, b).accept(before, drafted, Run())) == [True, False, False]
    assert second.asked == [["a"]]
    second.asked.clear()
    assert asyncio.run(Either(a, b).accept(before, drafted, Run())) == [True, False, True]
    assert second.asked == [["b", "c"]]


def test_sure_reads_the_geometric_mean_of_the_new_tokens() -> None:
    old = Candidate(PROBLEM, (Step("x", "m", 1, -9.0),))
    new = old.extend(Step("y", "m", 2, 2 * math.log(0.8)))
    blind = old.extend(Step("y", "m", 2))
    assert asyncio.run(Sure(0.79).accept([old, old], [new, blind], Run())) == [True, False]
    assert asyncio.run(Sure(0.81).accept([old], [new], Run())) == [False]


def test_a_self_check_accepts_without_a_reward_model() -> None:
    small, large = ScriptedModel(["s\n\n"], name="s"), ScriptedModel(["l\n\n"], name="l")
    verdict = {"True": "s", "False": "l"}
    for said, author in verdict.items():
        check = SelfCheck(TellingModel({said: 0.9}))
        (candidate,) = extend(Speculate(Sample(small), Sample(large), AtLeast(check, 0.5)), Candidate(PROBLEM))
        assert candidate.steps[0].author == author


# Speculative Thinking.


class Thinker(ScriptedModel):
    """Writes a given text from wherever the prefix stands in it, and what it is told where the prefix left it."""

    def __init__(self, text: str, name: str, otherwise: str = "") -> None:
        super().__init__(self._go_on, name=name)
        self.text, self.otherwise = text, otherwise

    def _go_on(self, request: Request) -> str:
        prefix = request.context.prefix
        return self.text[len(prefix) :] if self.text.startswith(prefix) else self.otherwise


def test_a_peek_without_a_cue_is_kept_and_one_with_a_cue_is_the_large_models() -> None:
    """Segment 1 "one\\n\\n" is followed by plain words: the peek stays. "Wait" after segment 2 is the large model's."""
    small = Thinker("one\n\ntwo is more\n\nWait no\n\nend", "small", otherwise=" and on\n\nend")
    large = Thinker("", "large", otherwise="Wait, three")
    policy = Handoff(small, large, cue_tokens=2, top_k=0)
    (first,) = extend(policy, Candidate(PROBLEM))
    assert [(s.text, s.author, s.label) for s in first.steps] == [("one\n\n", "small", ""), ("two is", "small", "peek")]
    assert first.passages == ("one\n\n", "two is")
    assert asked(small) == [("", 1024), ("one\n\n", 2)]
    assert large.calls == []
    (second,) = extend(policy, first, run=Run(2))
    assert [(s.text, s.author, s.label) for s in second.steps[2:]] == [
        (" more\n\n", "small", ""),
        ("Wait, three", "large", "cue"),
    ]
    assert asked(large) == [("one\n\ntwo is more\n\n", 2)]
    (third,) = extend(policy, second, run=Run(3))
    assert asked(small)[-2:] == [(second.text, 1024), (second.text + " and on\n\n", 2)]
    assert third.text.startswith("one\n\ntwo is more\n\nWait, three and on\n\n")


def test_a_peek_across_a_delimiter_is_kept_up_to_it() -> None:
    small = Thinker("one\n\ntwo\n\nWait no\n\nend", "small")
    policy = Handoff(small, Thinker("", "large", "Wait, three"), cue_tokens=20, cues=Cues((), ("nothing",), ()))
    (first,) = extend(policy, Candidate(PROBLEM))
    assert (first.text, first.done) == ("one\n\ntwo\n\n", False)
    cued = Handoff(small, Thinker("", "large", "Wait, three"), cue_tokens=20)
    (second,) = extend(cued, first, run=Run(2))  # what follows that delimiter is looked at, with no draft before
    assert second.steps[-1].text == "Wait, three"
    assert second.steps[-1].label == "cue"


def test_a_verification_gets_the_longer_span() -> None:
    small, large = (
        Thinker("one\n\nLet me check that\n\nend", "small"),
        Thinker("", "large", "Let me check it all again and again"),
    )
    (candidate,) = extend(Handoff(small, large, cue_tokens=3, check_tokens=5), Candidate(PROBLEM))
    assert [n for _, n in asked(large)] == [3, 5]
    assert [s.label for s in candidate.steps] == ["", "cue", "check"]


def test_too_many_reflections_bring_a_recap_and_longer_patience() -> None:
    small = ScriptedModel(lambda r: "wait\n\n", name="small")
    large = ScriptedModel(lambda r: "wait so" + " on" * 99, name="large")
    policy = Handoff(small, large, cue_tokens=2, recap_tokens=30, recap_after=2)
    candidate = grow(policy, 3)
    labels = [s.label for s in candidate.steps if s.label]
    assert labels == ["cue", "cue", "recap", "recap"]
    assert candidate.steps[-2].text == policy.recap
    assert [n for _, n in asked(large)] == [2, 2, 30]
    candidate = grow(policy, 8, candidate, run=Run(2))
    assert [s.label for s in candidate.steps if s.label][4:] == ["cue"] * 7 + ["recap"] * 2
    assert asked(large)[-1][1] == 55


def test_the_small_models_words_stay_where_the_two_agree() -> None:
    small = Thinker("one\n\nWait no\n\nend", "small")
    agree, differ = Thinker("", "large", "Hold on"), Thinker("", "large", "Yes, right")
    for large, author in ((agree, "small"), (differ, "large")):
        (candidate,) = extend(Handoff(small, large, choose_large=False, cue_tokens=2), Candidate(PROBLEM))
        assert candidate.steps[-1].author == author
        assert candidate.steps[-1].label == "cue"


def test_models_that_do_not_reason_hand_over_every_time_and_may_be_begun() -> None:
    small, large = Thinker("", "small", "more\n\n"), ScriptedModel(["so it is fine"], name="large")
    policy = Handoff(small, large, every=True, cue_tokens=2, begin_tokens=3)
    (candidate,) = extend(policy, Candidate(PROBLEM))
    assert [(s.author, s.label) for s in candidate.steps] == [("large", "begin")]
    (candidate,) = extend(policy, candidate, run=Run(2))
    assert [(s.author, s.label) for s in candidate.steps[1:]] == [("small", ""), ("large", "cue")]
    assert [n for _, n in asked(small)] == [1024]  # nothing to peek at: the large model writes anyway


@pytest.mark.parametrize(
    ("text", "feeling"),
    [
        ("Yes, I am confident", 1),
        ("wait, yes", -1),
        ("let me verify", -1),
        ("WAIT", -1),
        ("anotherness awaits", 0),
        ("", 0),
    ],
)
def test_feelings_are_counted_in_whole_words(text: str, feeling: int) -> None:
    assert Cues().feeling(text) == feeling


# Switching.


class TellingModel(ScriptedModel):
    """Writes one text in pieces, each with the alternatives it is given."""

    def __init__(self, top: dict[str, float], text: str | None = None, name: str = "telling") -> None:
        super().__init__([text or next(iter(top))], name=name)
        self.top = tuple((piece, math.log(p)) for piece, p in top.items())

    def _complete(self, request: Request) -> Completion:
        made = super()._complete(request)
        tokens = tuple(Token(t.text, self.top[0][1], self.top) for t in made.tokens)
        prefix = tuple(Token(c, -9.0 if c == "x" else -0.1) for c in request.context.prefix)
        return replace(made, tokens=tokens, prefix=prefix if request.sampling.prefix_logprobs else ())


def test_signals_are_their_closed_forms() -> None:
    even = Token("a", 0.0, tuple((c, math.log(0.25)) for c in "abcd"))
    assert entropy(even) == pytest.approx(math.log(4))
    assert doubt(even) == pytest.approx(0.75)
    assert closeness(even) == pytest.approx(1.0)
    assert entropy(Token("a", 0.0, (("a", math.log(0.5)),))) == pytest.approx(math.log(2))
    assert math.isnan(entropy(Token("a")))
    assert uncertainty(Step("ab", "m", 2, -3.0)) == 1.5
    assert math.isnan(uncertainty(Step("ab", "m", 2)))


def test_the_pen_changes_hands_with_the_entropy_and_dwells() -> None:
    sure, unsure = {"a": 0.99, "b": 0.01}, {"a": 0.5, "b": 0.5}
    small = Sample(TellingModel(unsure, "s\n\n", "small"), top_logprobs=20)
    large = Sample(TellingModel(sure, "l\n\n", "large"), top_logprobs=20)
    authors = [s.author for s in grow(Switch(small, large, threshold=0.5, window=2), 5).steps]
    assert authors == ["small", "large", "small", "large", "small"]
    authors = [s.author for s in grow(Switch(small, large, threshold=0.5, window=2, dwell=2), 6).steps]
    assert authors == ["small", "large", "large", "small", "small", "large"]
    authors = [s.author for s in grow(Switch(small, large, threshold=0.7, window=2), 3).steps]
    assert authors == ["small"] * 3


def test_a_draft_falls_back_where_it_is_unsure_and_rolls_back_what_the_large_model_finds_odd() -> None:
    class Wavering(TellingModel):
        def _complete(self, request: Request) -> Completion:
            made = super()._complete(request)
            low = tuple((t, math.log(0.4)) for t in "ab")
            tokens = tuple(replace(t, top=low) if t.text == " 3" else t for t in made.tokens)
            return replace(made, tokens=tokens)

    small = Wavering({"a": 0.9}, "1 2 3 4\n\n", "small")
    large = TellingModel({"a": 0.9}, " L\n\n", "large")
    (candidate,) = extend(Fallback(small, large, fallback=0.6, rollback=math.inf), Candidate(PROBLEM))
    assert [(s.text, s.author) for s in candidate.steps] == [("1 2", "small"), (" L\n\n", "large")]
    assert candidate.passages == ("1 2 L\n\n",)
    odd = Wavering({"a": 0.9}, "1 x 3 4\n\n", "small")
    (candidate,) = extend(Fallback(odd, large, fallback=0.6, rollback=5.0), Candidate(PROBLEM))
    assert [(s.text, s.author) for s in candidate.steps] == [("1 ", "small"), (" L\n\n", "large")]
    calm = TellingModel({"a": 0.9}, "1 2\n\n", "small")
    (candidate,) = extend(Fallback(calm, large, fallback=0.6), Candidate(PROBLEM))
    assert [s.author for s in candidate.steps] == ["small"]


def test_a_nudge_is_one_word_where_the_base_is_unsure() -> None:
    base, guide = TellingModel({"a": 0.2}, "base words", "base"), ScriptedModel(["Let us see"], name="guide")
    (candidate,) = extend(Nudge(base, guide), Candidate(PROBLEM))
    assert [(s.text, s.author, s.label) for s in candidate.steps] == [("Let", "guide", "nudge")]
    candidate = grow(Nudge(base, guide), 3, candidate, run=Run(2))
    assert candidate.done  # the same word three times
    sure = TellingModel({"a": 0.9}, "base words", "base")
    assert extend(Nudge(sure, guide), Candidate(PROBLEM))[0].text == "base words"


# What came after.


def test_lookahead_keeps_what_agrees_and_then_the_targets_own_step() -> None:
    draft, target = (
        ScriptedModel(steps_of("1\n\n", "2\n\n", "x\n\n", "4\n\n")),
        ScriptedModel(steps_of("1\n\n", "2\n\n", "3\n\n", "4\n\n", "5\n\n"), name="target"),
    )
    (candidate,) = extend(Lookahead(Sample(draft), Sample(target), SameText(), gamma=3), Candidate(PROBLEM))
    assert candidate.text == "1\n\n2\n\n3\n\n"
    assert [s.author for s in candidate.steps] == ["scripted", "scripted", "target"]
    assert [p for p, _ in asked(target)] == ["", "1\n\n", "1\n\n2\n\n", "1\n\n2\n\nx\n\n"]
    (bonus,) = extend(Lookahead(Sample(target), Sample(target), SameText(), gamma=3), Candidate(PROBLEM), run=Run(2))
    assert bonus.text == "1\n\n2\n\n3\n\n4\n\n"


@pytest.mark.parametrize(("said", "kept"), [("aligned", 2), ("unaligned", 1), ("Aligned.", 2), ("hm", 1)])
def test_a_judge_may_say_what_agrees(said: str, kept: int) -> None:
    draft, target = ScriptedModel(["one\n\n"], name="d"), ScriptedModel(["uno\n\n"], name="t")
    policy = Lookahead(Sample(draft), Sample(target), Aligned(ScriptedModel([said])), gamma=1)
    (candidate,) = extend(policy, Candidate(PROBLEM))
    assert len(candidate.steps) == kept
    assert candidate.steps[-1].author == "t"


def test_lookahead_under_greedy_decoding_is_the_target_alone() -> None:
    """On letters whose greedy choice is the same for both or not, the text is the target's in every case."""
    small, large = (
        ScriptedModel(steps_of("a\n\n", "b\n\n", "c\n\n", "d"), name="s"),
        ScriptedModel(steps_of("a\n\n", "B\n\n", "c\n\n", "d"), name="l"),
    )
    for gamma in (1, 2, 5):
        both = grow(Lookahead(Sample(small), Sample(large), SameText(), gamma), 6, run=Run(gamma))
        assert both.text == grow(Sample(large), 6, run=Run(gamma)).text
        assert both.done


class Reader(Toy):
    """A toy that can say how probable a given text is."""

    def _complete(self, request: Request) -> Completion:
        made = super()._complete(request)
        letter = made.text.strip()
        logprob = math.log(self.after(request.context.prefix)[letter]) if letter else 0.0
        if request.sampling.prefix_logprobs:
            parts = request.context.prefix.split("\n\n")[:-1]
            told, before = [], ""
            for part in parts:
                told.append(Token(f"{part}\n\n", math.log(self.after(before)[part])))
                before += f"{part}\n\n"
            return replace(made, prefix=tuple(told))
        return replace(made, tokens=(Token(made.text, logprob),))


def test_guided_steps_come_from_the_tilted_large_model() -> None:
    """With many drafts and no threshold, GSI's step is P_large e^{βr} / Z. n = 64 leaves a bias of order 1/n, so the bound is a
    total variation of 0.05 at 1,500 draws: each share has a standard error of 0.013."""
    beta, draws = 2.0, 1_500
    policy = Guided(
        Reader(SMALL, "s"), Reader(LARGE, "l"), Rewards(lambda s: REWARD[s.strip()]), 64, beta, threshold=-math.inf
    )

    found = drawn(policy, draws, 1, seed=5)
    tilted = {letter: p * math.exp(beta * REWARD[letter]) for letter, p in LARGE.items()}
    total = sum(tilted.values())
    distance = sum(abs(found[letter] / draws - mass / total) for letter, mass in tilted.items()) / 2
    assert distance < 0.05


def test_guided_steps_below_the_threshold_are_the_large_models() -> None:
    small, large = Reader(SMALL, "small"), Reader(LARGE, "large")
    rewards = Rewards(lambda s: 0.1)
    (candidate,) = extend(Guided(small, large, rewards, 4, 20.0, 10.0), Candidate(PROBLEM))
    assert candidate.steps[0].author == "large"
    (kept,) = extend(Guided(small, large, Rewards(lambda s: 0.9), 4, 20.0, 10.0), Candidate(PROBLEM), run=Run(2))
    assert kept.steps[0].author == "small"
    blind = Guided(small, ScriptedModel(["l\n\n"], name="blind"), Rewards(lambda s: 0.9), 4)
    (candidate,) = extend(blind, Candidate(PROBLEM), run=Run(3))
    assert candidate.steps[0].author == "blind"  # a large model that reads nothing cannot be tilted to


def test_the_advantage_gate_and_its_oracle() -> None:
    small, large = ScriptedModel(["s\n\n"], name="s"), ScriptedModel(["l\n\n"], name="l")
    for advantage, author in ((0.3, "l"), (-0.3, "s"), (math.nan, "l")):
        policy = arbitrage(Sample(small), Sample(large), Rewards(lambda s, a=advantage: a))
        assert extend(policy, Candidate(PROBLEM))[0].steps[0].author == author
    better = Rewards(lambda s: 0.9 if s.startswith("l") else 0.5)
    assert extend(Oracle(Sample(small), Sample(large), better), Candidate(PROBLEM))[0].steps[0].author == "l"
    assert extend(Oracle(Sample(small), Sample(large), better, tau=0.5), Candidate(PROBLEM))[0].steps[0].author == "s"


def test_a_running_quality_is_the_large_models_mean_so_far() -> None:
    values = {"l": 0.6, "g": 0.7, "b": 0.5}
    prm = ProcessReward(ScriptedReward(lambda problem, steps: values[steps[-1].strip()]))
    before = Candidate(PROBLEM, (Step("l\n\n", "large", 1),))
    good, bad = before.extend(Step("g\n\n", "s", 1)), before.extend(Step("b\n\n", "s", 1))
    assert asyncio.run(RunningQuality(prm, "large").accept([before] * 2, [good, bad], Run())) == [True, False]
    alone = Candidate(PROBLEM, (Step("g\n\n", "s", 1),))
    assert asyncio.run(RunningQuality(prm, "large").accept([before], [alone], Run(2))) == [False]
    small, large = ScriptedModel(["g\n\n"], name="s"), ScriptedModel(["l\n\n"], name="large")
    authors = [s.author for s in grow(spec_search(Sample(small), Sample(large), prm, "large"), 3).steps]
    assert authors == ["large", "s", "s"]


def test_a_mixture_finds_two_kinds_of_steps() -> None:
    """Recovers its own parameters from 4,000 draws; 0.05 is more than six standard errors of each mean."""
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0.2, 0.1, 3000), rng.normal(1.0, 0.3, 1000)])
    fitted = Mixture.fit(list(values))
    assert fitted.means == pytest.approx((0.2, 1.0), abs=0.06)
    assert fitted.weights == pytest.approx((0.75, 0.25), abs=0.04)
    assert fitted.high(1.2) > 0.95
    assert fitted.high(0.1) < 0.05
    with pytest.raises(BadInput, match="four that differ"):
        Mixture.fit([1.0, 1.0, 1.0, 1.0])
    low, high = Candidate(PROBLEM, (Step("a", "s", 1, -0.1),)), Candidate(PROBLEM, (Step("a", "s", 1, -1.2),))
    policy = steer(Sample(ScriptedModel(["s"])), Sample(ScriptedModel(["l"])), fitted)
    assert asyncio.run(policy.accept.accept([low, high], [low, high], Run())) == [True, False]  # type: ignore[attr-defined]


# More drafts where a step is uncertain.


def test_momentum_does_not_open_for_a_constant_uncertainty() -> None:
    """The published code, without bias correction, opens at each of the first nine steps."""
    gate = Momentum(gamma=0.9, alpha=0.9)
    assert not any(gate([0.3] * t) for t in range(1, 12))
    assert gate([0.3, 0.3, 0.3 - math.log(0.9) + 1e-6])
    assert not gate([0.3, 0.3, 0.3 - math.log(0.9) - 1e-6])
    assert not gate([5.0])
    assert not gate([0.3, math.nan])


def test_momentum_is_its_formula() -> None:
    history, alpha = [0.5, 0.1, 0.4, 0.2], 0.8
    m = sum((1 - alpha) * alpha ** (len(history) - 1 - t) * u for t, u in enumerate(history)) / (
        1 - alpha ** len(history)
    )
    edge = m - math.log(0.7)
    gate = Momentum(0.7, alpha)
    assert gate([*history, edge + 1e-9])
    assert not gate([*history, edge - 1e-9])


def test_other_gates() -> None:
    assert [Above(0.3)(h) for h in ([0.31], [0.3], [math.nan], [])] == [True, False, False, False]
    assert [AboveMean()(h) for h in ([1.0], [1.0, 2.0], [1.0, 0.5])] == [False, True, False]
    assert [Every(2)([0.0] * t) for t in range(1, 5)] == [False, True, False, True]


def test_a_gate_that_opens_keeps_the_step_that_opened_it_in_the_running() -> None:
    texts = iter(["a\n\n", "b\n\n", "c\n\n"])
    model = ScriptedModel(lambda r: next(texts))
    value = {"a": 0.9, "b": 0.1, "c": 0.5}
    policy = Gated(
        Sample(model), lambda history: True, BestStep(Sample(model), ByScore(Rewards(lambda s: value[s.strip()])), 3)
    )
    (candidate,) = extend(policy, Candidate(PROBLEM))
    assert candidate.text == "a\n\n"
    assert [len(call) for call in model.calls] == [1, 2]
    shut = Gated(Sample(ScriptedModel(["a\n\n"])), lambda history: False, policy.wider)
    assert extend(shut, Candidate(PROBLEM), run=Run(2))[0].text == "a\n\n"


def test_the_best_step_is_the_most_valued_one_in_two_calls() -> None:
    model = ScriptedModel(lambda r: f"{r.seed % 97}\n\n")
    rewards = Rewards(lambda s: int(s))
    a, b = extend(BestStep(Sample(model), ByScore(rewards), 5), Candidate(Problem("a")), Candidate(Problem("b")))
    assert [len(call) for call in model.calls] == [10]
    (scored,) = rewards.asked
    assert int(a.text) == max(int(text) for text in scored[:5])
    assert int(b.text) == max(int(text) for text in scored[5:])


def test_confidence_needs_no_verifier() -> None:
    drafts = [Candidate(PROBLEM, (Step("a", "m", 2, lp),)) for lp in (-3.0, -1.0, None)]
    assert asyncio.run(ByConfidence().values(drafts, Run()))[:2] == [-1.5, -0.5]
    assert math.isnan(asyncio.run(ByConfidence().values(drafts, Run()))[2])


# Budget forcing.


def test_an_early_end_is_taken_back_and_a_late_one_is_forced() -> None:
    first, again = "think a\n\n</think>\n\nanswer 1", "think a\n\nWait more\n\n</think>\n\nanswer \\boxed{2}"
    model = ScriptedModel(lambda r: (again if "Wait" in r.context.prefix else first)[len(r.context.prefix) :])
    policy = BudgetForcing(model, waits=1)
    candidate = grow(policy, 8)
    assert candidate.text == "think a\n\nWait more\n\n</think>\n\nanswer \\boxed{2}"
    assert candidate.answer == "2"
    assert candidate.done
    assert sum(step.label == "wait" for step in candidate.steps) == 1


def test_a_limit_ends_the_thinking_to_the_token() -> None:
    model = ScriptedModel(
        lambda r: "4" if r.context.prefix.endswith("Final Answer:") else "on and on and on and on\n\n"
    )
    candidate = grow(BudgetForcing(model, waits=0, limit=10, answer_tokens=5), 9)
    thinking = sum(step.tokens for step in candidate.steps if not step.label)
    assert thinking - 1 == 10  # the last token is the answer
    assert candidate.text.endswith("</think>\n\nFinal Answer:4")
    assert candidate.done


def test_a_model_without_think_tags_waits_at_its_own_end() -> None:
    model = Thinker("so 3", "m", otherwise=", no: 4")
    candidate = grow(BudgetForcing(model, waits=1, think_end=""), 4)
    assert candidate.text == "so 3\n\nWait, no: 4"
    assert candidate.done


# All of them.

POLICIES = {
    "spec-reason": lambda s, m, v: spec_reason(s, m, v, 0.5),
    "rsd": lambda s, m, v: rsd(s, m, v, 0.5),
    "handoff": lambda s, m, v: Handoff(s, m, every=True),
    "switch": lambda s, m, v: Switch(Sample(s, top_logprobs=20), Sample(m, top_logprobs=20), 0.5),
    "fallback": lambda s, m, v: Fallback(s, m),
    "nudge": lambda s, m, v: Nudge(s, m),
    "lookahead": lambda s, m, v: Lookahead(Sample(s), Sample(m), SameText()),
    "guided": lambda s, m, v: Guided(s, m, v, 3),
    "oracle": lambda s, m, v: Oracle(Sample(s), Sample(m), v),
    "spec-search": lambda s, m, v: spec_search(Sample(s), Sample(m), v, "scripted"),
    "gated": lambda s, m, v: Gated(Sample(s), Momentum(), BestStep(Sample(s), ByScore(v))),
    "budget-forcing": lambda s, m, v: BudgetForcing(s, waits=1),
    "a policy in a policy": lambda s, m, v: Speculate(
        Gated(Sample(s), Every(), BestStep(Sample(s), ByConfidence(), 2)),
        Lookahead(Sample(s), Sample(m), SameText(), 2),
        AtLeast(v, 0.5),
    ),
}


def made(name: str) -> object:
    return POLICIES[name](ScriptedModel(name="small"), ScriptedModel(name="large"), ProcessReward(ScriptedReward()))


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_keeps_a_policys_promises(name: str) -> None:
    check_policy(made(name), PROBLEM)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("tokens", [10, 40, 120, 400, 4000])
def test_every_policy_keeps_a_budget_in_a_search(name: str, tokens: int) -> None:
    result = solve(PROBLEM, BestOfN(made(name), n=3), budget=Budget(tokens=tokens), seed=tokens)  # type: ignore[arg-type]
    assert result.tokens <= tokens


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_ends_where_no_delimiter_comes_and_a_context_is_full(name: str) -> None:
    endless = [ScriptedModel(lambda r: " on and" * 99, name=n) for n in ("small", "large")]
    for model in endless:
        model.context_length = 300
    policy = POLICIES[name](*endless, ProcessReward(ScriptedReward()))
    result = asyncio.run(asyncio.wait_for(asolve(PROBLEM, BestOfN(policy, n=2, max_steps=400), seed=1), 30))
    assert result.errors == ()
    assert all(c.done for c in result.candidates)


def test_a_problem_that_fills_the_context_fails_with_that_reason() -> None:
    model = ScriptedModel()
    model.context_length = 3
    result = solve(PROBLEM, BestOfN(Sample(model), n=1), seed=1)
    assert "fill the context of 3" in result.errors[0]
    assert model.calls == []


def test_reading_is_asked_of_the_context_that_was_written() -> None:
    """What GSI and rollback read is the prompt with the draft in it, for one token."""
    large = Reader(LARGE, "large")
    extend(Guided(Reader(SMALL, "small"), large, Rewards(lambda s: 0.9), 2), Candidate(PROBLEM))
    read = [r for call in large.calls for r in call if r.sampling.prefix_logprobs]
    assert {r.max_tokens for r in read} == {1}
    assert all(
        r.context == Context(PROBLEM.messages, r.context.prefix) and r.context.prefix.endswith("\n\n") for r in read
    )


# What a review found.


class Flaky(ScriptedModel):
    """Writes a step, but every request at these places of a call fails or ends without a word."""

    def __init__(self, text: str, name: str, fails: tuple[int, ...] = (), ends: tuple[int, ...] = ()) -> None:
        super().__init__([text], name=name)
        self.fails, self.ends = fails, ends

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        made = await super()._generate(requests)
        for i in self.fails:
            made[i] = Completion("", "error", error="down")
        for i in self.ends:
            made[i] = Completion("", "eos")
        return made


def test_drafts_that_wrote_nothing_do_not_win_with_the_old_steps_reward() -> None:
    before = Candidate(PROBLEM, (Step("good\n\n", "x", 1),))
    rewards = Rewards(lambda s: 0.99 if s.startswith("good") else 0.5)
    for model in (Flaky("new\n\n", "m", fails=(0,)), Flaky("new\n\n", "m", ends=(0,))):
        (best,) = extend(BestStep(Sample(model), ByScore(rewards), 3), before)
        assert best.passages == ("good\n\n", "new\n\n")
        (chosen,) = extend(Guided(model, model, rewards, 3, threshold=math.inf), before)
        assert chosen.passages == ("good\n\n", "new\n\n")
    down, fine = Flaky("", "down", fails=(0,)), ScriptedModel(["new\n\n"], name="fine")
    for pair in ((down, fine), (fine, down)):
        (one,) = extend(Oracle(*map(Sample, pair), rewards), before)
        assert one.failed is None
        assert one.passages == ("good\n\n", "new\n\n")


def test_spans_that_end_with_the_step_are_reflections_of_their_own() -> None:
    small, large = (
        ScriptedModel(["wait\n\n"], name="small"),
        ScriptedModel(lambda r: "wait no\n\n" + "so " * 50, name="large"),
    )
    policy = Handoff(small, large, one_step=True, cue_tokens=9, recap_tokens=5, recap_after=3)
    labels = [step.label for step in grow(policy, 6).steps if step.label]
    assert labels[:4] == ["cue", "cue", "cue", "recap"]


@pytest.mark.parametrize(("draft", "target"), [("b", "b\n\n"), ("b\n\n", "b")])
def test_lookahead_is_the_target_also_where_one_of_the_two_ends(draft: str, target: str) -> None:
    small = ScriptedModel(steps_of("a\n\n", draft, "x"), name="s")
    large = ScriptedModel(steps_of("a\n\n", target, "\\boxed{1}"), name="l")
    both = grow(Lookahead(Sample(small), Sample(large), SameText(), 3), 5)
    assert both.text == grow(Sample(large), 5, run=Run(9)).text


def test_a_fallback_that_cannot_be_paid_keeps_the_draft() -> None:
    small = TellingModel({"a": 0.3}, "it is \\boxed{2}", "small")
    large = ScriptedModel(["so 3\n\n"], name="large")
    prompt = large.count(Context(PROBLEM.messages, ""))
    run = Run(1, ledger=Ledger(Budget(large=Budget(tokens=prompt + 1))))
    first, second = extend(Fallback(small, large, rollback=math.inf), Candidate(PROBLEM), Candidate(PROBLEM), run=run)
    assert {first.text, second.text} & {"it is \\boxed{2}"}


def test_words_that_are_put_in_end_and_begin_passages() -> None:
    model = ScriptedModel(lambda r: ", no: 4" if "Wait" in r.context.prefix else "so 3", name="m")
    candidate = grow(BudgetForcing(model, waits=1, think_end=""), 4)
    assert candidate.passages == ("so 3\n\n", "Wait, no: 4")
    model = ScriptedModel(lambda r: "4" if "Final" in r.context.prefix else "on and on and on", name="m")
    candidate = grow(BudgetForcing(model, waits=0, limit=3), 4)
    assert candidate.passages == ("on and on\n\n", "</think>\n\n", "Final Answer:4")


def test_an_answer_after_an_end_of_its_own_is_not_cut() -> None:
    long = "think\n\n</think>\n\n" + "word " * 300 + "\\boxed{7}"
    model = Thinker(long, "m")
    assert grow(BudgetForcing(model, waits=0, limit=100_000), 6).answer == "7"
    forced = ScriptedModel(lambda r: "word word word\n\n", name="m")
    candidate = grow(BudgetForcing(forced, waits=0, limit=4, answer_tokens=5), 9)
    assert candidate.done
    at = next(n for n, step in enumerate(candidate.steps) if step.label == "end")
    assert sum(step.tokens for step in candidate.steps[at:]) == 5


def test_one_writer_without_budget_stops_the_other() -> None:
    small, large = ScriptedModel(name="small"), ScriptedModel(name="large", latency=0.2)
    both = Switch(Sample(small), Sample(large), 0.5)
    unsure = Candidate(
        PROBLEM, (Step("a", "m", 1, told=(Token("a", 0.0, (("a", math.log(0.5)), ("b", math.log(0.5)))),)),)
    )
    ledger = Ledger(Budget(small=Budget(tokens=1)))
    with pytest.raises(BaseExceptionGroup):
        extend(both, Candidate(PROBLEM), unsure, run=Run(1, ledger=ledger))
    assert not ledger.busy


def test_a_first_step_that_is_cut_is_still_the_large_models_to_end() -> None:
    small, large = ScriptedModel(["s\n\n"], name="small"), ScriptedModel([" L L L L L", " L\n\n"], name="large")
    policy = Speculate(Sample(small), Sample(large, max_tokens=4), Always(), first=1)
    assert [step.author for step in grow(policy, 3).steps] == ["large", "large", "small"]


def test_a_mixture_never_falls_and_cues_are_stripped() -> None:
    mixture = Mixture((0.8, 0.2), (0.2, 0.6), (0.02, 0.3))
    values = [mixture.high(x) for x in (-5.0, 0.0, 0.2, 0.3, 0.6, 5.0, math.inf)]
    assert values == sorted(values)
    assert math.isnan(mixture.high(math.nan))
    assert entropy(Token("a", 0.0, (("a", 0.0), ("b", -math.inf)))) == 0
