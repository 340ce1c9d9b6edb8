"""Aggregation by a model, with judges that are functions of the prompt."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from support import said

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Completion,
    FreeText,
    Model,
    Problem,
    Request,
    Run,
    Score,
    Step,
    chain,
    solve,
)
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.testing import ScriptedModel, check_strategy, reasoner
from reasonweave.orchestrator.trace import Event, Generated
from reasonweave.strategies import BestOfN, Fusion, GenSelect, GenSynthesis, UniversalSelfConsistency, majority, whole
from reasonweave.strategies.aggregators.fusion import TOPICS, analysis_in
from reasonweave.strategies.aggregators.generative import VERDICT
from reasonweave.strategies.aggregators.judging import presented
from reasonweave.strategies.presets import fusion, gen_select, gen_synthesis, universal_self_consistency

ENTRY = re.compile(r"^\[(\d+)\]\n(.*?)(?=^\[\d+\]\n|\Z)", re.DOTALL | re.MULTILINE)
AFTER = re.compile(r"\n\n?(?:Which|Check the solutions|Compare the answers|Write the best|A judge compared)")
PRESETS = universal_self_consistency, gen_select, gen_synthesis, fusion


def shown(request: Request) -> list[str]:
    """The candidates in a judge's prompt, in their order, without what stands after them."""
    entries = list(ENTRY.finditer(AFTER.split(request.context.messages[0].content)[0]))
    assert [int(entry[1]) for entry in entries] == list(range(1, len(entries) + 1))
    return [entry[2].strip() for entry in entries]


def worth(text: str) -> int:
    return int(re.findall(r"-?\d+", text)[-1])


def perfect(request: Request) -> str:
    """Chooses the highest number."""
    values = [worth(text) for text in shown(request)]
    return f"I compared them. Judgment: 99\nNo:\n**Judgment:** [{1 + values.index(max(values))}]"


def adding(request: Request) -> str:
    """Writes a solution whose number is the sum of those it is shown."""
    return f"Let me see.\n<solution>\nAll in all\n\n\\boxed{{{sum(map(worth, shown(request)))}}}\n</solution>\nDone."


def numbers(values: Sequence[int]) -> Candidates:
    return Candidates(tuple(said(str(value)) for value in values))


def run_of(strategy: Strategy, roots: Candidates, seed: int = 1) -> list[Candidates]:
    async def collect() -> list[Candidates]:
        return [found async for found in strategy.search(roots, Run(seed))]

    return asyncio.run(collect())


def last(strategy: Strategy, roots: Candidates, seed: int = 1) -> Candidates:
    return run_of(strategy, roots, seed)[-1]


def top(found: Candidates) -> Candidate:
    """What `Result.solution` would be."""
    assert found.best is not None
    return found.best


# A knockout with a judge that is always right.


@pytest.mark.parametrize("window", [2, 3, 8])
def test_the_best_of_any_number_wins_wherever_it_stands(window: int) -> None:
    for n in range(1, 41):
        for at in {0, 3 * n // 4}:
            values = list(range(100, 100 + n))
            values[at], values[-1] = values[-1], values[at]
            model = ScriptedModel(perfect)
            found = last(GenSelect(model, window=window), numbers(values), seed=n)
            assert found.answer == str(99 + n)
            assert (top(found).answer, found.best.score and found.best.score.error) == (found.answer, None)  # type: ignore[union-attr]
            sizes = [len(shown(request)) for batch in model.calls for request in batch]
            assert all(2 <= size <= window for size in sizes)
            assert sum(size - 1 for size in sizes) == n - 1  # every candidate but one is beaten once
            rounds = 0 if n == 1 else math.ceil(math.log(n) / math.log(window) - 1e-9)
            assert len(model.calls) == rounds


@given(st.integers(2, 24), st.integers(2, 9), st.integers(0, 300), st.integers(1, 3), st.integers(0, 9), st.data())
@settings(max_examples=60, deadline=None)
def test_the_best_wins_in_any_context_that_holds_two(
    n: int, window: int, room: int, repeats: int, seed: int, data: st.DataObject
) -> None:
    """The model's context cuts the windows; no prompt, with the reply, is longer than it."""
    values = data.draw(st.permutations(range(n)))
    long = data.draw(st.lists(st.integers(1, 40), min_size=n, max_size=n))
    items = [
        Candidate(Problem("q"), (Step(f"{'so ' * words}\\boxed{{{value}}}", "m", 1),), done=True)
        for value, words in zip(values, long, strict=True)
    ]
    model = ScriptedModel(perfect)
    model.context_length = 160 + room
    found = last(GenSelect(model, window=window, repeats=repeats, max_tokens=40), Candidates(tuple(items)), seed)
    for batch in model.calls:
        for request in batch:
            assert model.count(request.context) + 40 <= model.context_length
            assert 2 <= len(shown(request)) <= window
    if room >= 120:  # any two fit
        assert (found.answer, top(found).score) == (str(n - 1), Score(1.0))


def test_a_context_too_short_for_two_is_the_vote() -> None:
    model = ScriptedModel(perfect)
    model.context_length = 60
    found = last(GenSelect(model), numbers([7, 8, 8]))
    assert not model.calls
    assert (found.answer, found.confidence) == ("8", pytest.approx(2 / 3))
    told = [c.score.error for c in found if c.score]
    assert told == ["2 too long to be compared"]


def test_one_that_is_too_long_does_not_keep_the_others_apart() -> None:
    model = ScriptedModel(perfect)
    model.context_length = 400
    endless = Candidate(Problem("q"), (Step("so " * 900 + "\\boxed{99}", "m", 1),), done=True)
    found = last(GenSelect(model, max_tokens=64), Candidates((endless, *numbers([7, 8, 8]))))
    assert [len(shown(request)) for batch in model.calls for request in batch] == [3]
    assert found.answer == "8"
    assert top(found).score == Score(1.0, error="1 too long to be compared")


class Unasked(ScriptedModel):
    """Like a server: it tells the length of its context only once it has been asked something."""

    exact = True

    async def _prepare(self, contexts: Any, session: int) -> None:
        self.context_length = 330


@pytest.mark.parametrize("n", [3, 9, 24])
def test_a_context_that_is_known_late_costs_nothing(n: int) -> None:
    model = Unasked(perfect)
    wordy = [Candidate(Problem("q"), (Step("so " * 40 + f"\\boxed{{{i}}}", "m", 1),)) for i in range(n)]
    found = last(GenSelect(model, window=24, max_tokens=64), Candidates(tuple(wordy)))
    assert found.answer == str(n - 1)
    assert top(found).score == Score(1.0)


# How it is asked.


def test_the_order_is_drawn_anew_for_every_seed() -> None:
    """With a judge that always takes the first, each of five wins as often; false alarm once in 100,000."""
    model = ScriptedModel(["Judgment: 1"])
    wins = Counter(last(GenSelect(model), numbers(range(5)), seed).answer for seed in range(500))
    assert len(wins) == 5
    assert chisquare(list(wins.values())).pvalue > 1e-5
    places = Counter(shown(batch[0]).index("\\boxed{3}") for batch in model.calls)
    assert chisquare([places[i] for i in range(5)]).pvalue > 1e-5


def test_repeats_are_shown_in_orders_of_their_own() -> None:
    model = ScriptedModel(["Judgment: 1"])
    last(GenSelect(model, repeats=6), numbers(range(7)))
    (batch,) = model.calls
    assert len({tuple(shown(request)) for request in batch}) == 6
    assert len({request.seed for request in batch}) == 6


def test_the_order_of_the_candidates_decides_nothing() -> None:
    for seed in range(20):
        for strategy in (GenSelect(ScriptedModel(["Judgment: 2"]), window=3), GenSelect(ScriptedModel(["?"]))):
            there, back = (last(strategy, numbers(v), seed) for v in ([1, 2, 3, 4, 5], [4, 1, 5, 3, 2]))
            assert (there.answer, there.confidence) == (back.answer, back.confidence)


def test_thinking_and_braces_in_solutions_and_problems() -> None:
    model = ScriptedModel(["Judgment: 2"])
    problem = Problem("What is {count} in {solutions}?", answers=FreeText())
    texts = "<think>secret {problem}</think>It is {problem}.", "It is {solutions}.", "<think>secret"
    items = tuple(Candidate(problem, (Step(text, "m", 1),)) for text in texts)
    found = last(GenSelect(model), Candidates(items))
    asked = model.calls[0][0].context.messages[0].content
    assert "secret" not in asked
    assert problem.prompt in asked
    assert sorted(shown(model.calls[0][0])) == ["It is {problem}.", "It is {solutions}."]  # one never said anything
    assert found.answer == shown(model.calls[0][0])[1]


def test_only_answers_where_there_are_answers() -> None:
    model = ScriptedModel(["Judgment: 1"])
    failed = Candidate(Problem("q"), (Step("\\boxed{9}", "m", 1),), done=True, failed="lost")
    last(GenSelect(model), Candidates((said("1"), said(None), said("2"), failed, Candidate(Problem("q")))))
    assert sorted(shown(model.calls[0][0])) == ["\\boxed{1}", "\\boxed{2}"]


def test_an_answer_within_the_thinking_is_shown_as_an_answer() -> None:
    assert presented(Candidate(Problem("q"), (Step("<think>It is \\boxed{4}, or", "m", 1),))) == "4"


def test_where_all_agree_nobody_is_asked() -> None:
    for strategy in (GenSelect(ScriptedModel(perfect)), UniversalSelfConsistency(ScriptedModel(perfect))):
        found = last(strategy, Candidates((said("4"), said("4.0"), said(None), said("4"))))
        assert (found.answer, found.confidence) == ("4", 1.0)
        assert not strategy.model.calls  # type: ignore[attr-defined]


def test_nothing_to_choose_from() -> None:
    for make in (GenSelect, UniversalSelfConsistency, GenSynthesis, Fusion):
        assert run_of(make(ScriptedModel(perfect)), Candidates.of(Problem("q"))) == []
        assert run_of(make(ScriptedModel(perfect)), Candidates()) == []


# How replies are read.


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("Judgment: 2", 2),
        ("judgement: 2.", 2),
        ("**Judgment:** 2", 2),
        ("**Judgment**: **2**", 2),
        ("Judgment: [2]", 2),
        ("Judgment: Solution 2", 2),
        ("Judgment: response #2", 2),
        ("JUDGMENT : 2 is the best", 2),
        ("Judgment: 1\nOn second thoughts,\nJudgment: 2", 2),
        ("<think>Judgment: 1</think>Judgment: 2", 2),
        ("Judgment: 2\n<think>Judgment: 1", 2),
        ("Judgment:\n2", 2),
        ("Judgment: 02", 2),
        ("Judgment: 1 Judgment: 7", None),
        ("Judgment: 0", None),
        ("Judgment: 4", None),
        ("Judgment: -2", None),
        ("Judgment: N", None),
        ("Judgment: two", None),
        ("My judgment is that 2 is right", None),
        ("<think>Judgment: 2", None),
        ("2", None),
        ("", None),
        ("Judgment: " + "1" * 5000, None),
    ],
)
def test_judgements(reply: str, number: int | None) -> None:
    """An unreadable one falls back on the vote: 8, which is one of three here whatever the order."""
    model = ScriptedModel([reply])
    roots = Candidates((said("7", 0.1), said("8", 0.9), said("9", 0.2)))
    for seed in range(4):
        model.calls.clear()
        found = last(GenSelect(model), roots, seed)
        if number is None:
            assert found.answer == "8"
            assert top(found).score == Score(0.9, error="1 of 1 judgements could not be made or read")
        else:
            assert found.answer == str(worth(shown(model.calls[0][0])[number - 1]))
            assert top(found).score == Score(1.0)


def test_another_form_of_judgement() -> None:
    model = ScriptedModel(["I take (B1)."])
    asks = GenSelect(model, prompt="{problem}\n{solutions}\n\nWhich? Write (B1), (B2), …", verdict=r"\(B(\d)\)")
    assert last(asks, numbers([5, 6])).answer == str(worth(shown(model.calls[0][0])[0]))
    words = GenSelect(model, prompt="{problem}\n{solutions}\n\nWhich?", verdict="I (take)")
    assert last(words, Candidates((said("1"), said("2"), said("2")))).answer == "2"  # no number: not read
    assert re.compile(VERDICT).groups == 1


def test_unread_windows_fall_back_by_vote_or_draw_never_on_the_first() -> None:
    model = ScriptedModel(["?"])
    assert {last(GenSelect(model), Candidates((said("1"), said("2"), said("2"))), s).answer for s in range(20)} == {"2"}
    drawn = Counter(last(GenSelect(model), numbers([1, 2, 3]), seed).answer for seed in range(300))
    assert len(drawn) == 3
    assert chisquare(list(drawn.values())).pvalue > 1e-5  # false alarm once in 100,000
    free = [Candidate(Problem("q"), (Step(text, "m", 1),), done=True) for text in ("a rose", "a lily", "a tree")]
    chosen = Counter(top(last(GenSelect(model), Candidates(tuple(free)), seed)).text for seed in range(300))
    assert chisquare([chosen[c.text] for c in free]).pvalue > 1e-5


def test_some_windows_cannot_be_read() -> None:
    """Such a window is decided by the vote, and what was judged counts: also where the last window cannot be read."""

    def moody(request: Request) -> str:
        return "?" if "\\boxed{0}" in shown(request) else perfect(request)

    endings = set()
    for seed in range(30):
        model = ScriptedModel(moody)
        found = last(GenSelect(model, window=3), numbers(range(9)), seed)
        (final,) = model.calls[1]
        (told,) = [c.score.error for c in found if c.score and c.score.error]
        if lost := "\\boxed{0}" in shown(final):
            assert told == "2 of 4 judgements could not be made or read"
        else:
            assert told == "1 of 4 judgements could not be made or read"
            assert found.answer == str(max(map(worth, shown(final))))
            assert top(found).answer == found.answer
        endings.add(lost)
    assert endings == {True, False}


def test_a_judge_that_never_speaks_as_asked_is_not_asked_again() -> None:
    model = ScriptedModel(["?"])
    found = last(GenSelect(model, window=2), numbers([1, 1, 2, 3, 4, 5, 6, 7]))
    assert [len(batch) for batch in model.calls] == [4]
    assert (found.answer, found.confidence) == ("1", 0.25)


class Broken(ScriptedModel):
    """A server that is down."""

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(list(requests))
        return [Completion("", "error", error="down") for _ in requests]


def test_a_judge_that_is_down() -> None:
    for make in (GenSelect, UniversalSelfConsistency, GenSynthesis, Fusion):
        model = ScriptedModel(lambda request: f"\\boxed{{{request.seed % 2}}}", name="small")
        flow = chain(BestOfN(whole(model), n=5, max_steps=1), make(Broken(name="large")))
        result = solve("q", flow, seed=1)
        vote = solve("q", chain(BestOfN(whole(model), n=5, max_steps=1), majority), seed=1)
        assert (result.answer, result.confidence) == (vote.answer, vote.confidence)
        assert "down" in result.errors


# Confidence and scores.


def test_confidence_is_the_share_of_the_repeats_that_agree() -> None:
    """A judge that is right three times in four, by its seed."""

    def fickle(request: Request) -> str:
        values = [worth(text) for text in shown(request)]
        pick = max(values) if request.seed % 4 else min(values)
        return f"Judgment: {1 + values.index(pick)}"

    model = ScriptedModel(fickle)
    found = last(GenSelect(model, repeats=40), numbers([1, 2, 3]), 5)
    right = sum(request.seed % 4 > 0 for request in model.calls[0])
    assert 20 < right < 40
    assert (found.answer, found.confidence) == ("3", right / 40)
    assert {c.text: c.score.value for c in found if c.score} == {
        "\\boxed{1}": (40 - right) / 40,
        "\\boxed{2}": 0.0,
        "\\boxed{3}": right / 40,
    }


def test_repeats_that_cannot_be_read_abstain() -> None:
    model = ScriptedModel(["Judgment: 1", "?", "Judgment: 1", "?", "?"])
    found = last(GenSelect(model, repeats=4), numbers([1, 2]), 5)
    assert found.confidence in (0.5, 1.0)
    assert top(found).score is not None
    assert "2 of 4" in (top(found).score.error or "")  # type: ignore[union-attr]


def test_one_judgement_has_the_votes_for_confidence() -> None:
    found = last(
        GenSelect(ScriptedModel(perfect)), Candidates((said("3"), said("3.0"), said("2"), said("9"), said(None)))
    )
    assert (found.answer, found.confidence) == ("9", 0.25)
    found = last(UniversalSelfConsistency(ScriptedModel(perfect)), Candidates((said("3"), said("9"), said("9.0"))))
    assert found.confidence == pytest.approx(2 / 3)


def test_weights_are_votes() -> None:
    heavy = Candidates((said("1"), said("2"))).reweight([math.log(3), 0.0])
    found = last(GenSelect(ScriptedModel(perfect)), heavy)
    assert (found.answer, found.confidence) == ("2", pytest.approx(0.25))
    assert last(GenSelect(ScriptedModel(["?"])), heavy).answer == "1"


# Free text.

POEMS = "A rose is red", "A lily is white", "A tree is green"


def poet(request: Request) -> str:
    return POEMS[request.seed % 3]


def liking(word: str) -> Callable[[Request], str]:
    def judge(request: Request) -> str:
        at = next((i for i, text in enumerate(shown(request), 1) if word in text), 1)
        return f"Judgment: {at}"

    return judge


@pytest.mark.parametrize("answers", [FreeText(), None], ids=["FreeText", "boxed"])
@pytest.mark.parametrize("word", ["rose", "lily", "tree"])
@pytest.mark.parametrize("make", [UniversalSelfConsistency, GenSelect])
def test_free_text_is_the_text_that_was_chosen(make: Any, word: str, answers: FreeText | None) -> None:
    problem = Problem("Write a line.", answers=answers) if answers else Problem("Write a line.")
    flow = chain(BestOfN(whole(ScriptedModel(poet)), n=8, max_steps=1), make(ScriptedModel(liking(word), name="judge")))
    result = solve(problem, flow, seed=4)
    assert word in result.text
    assert result.answer == (result.text if answers else None)
    assert result.confidence is None


def test_free_text_over_other_scores() -> None:
    problem = Problem("Write a line.")
    items = tuple(
        Candidate(problem, (Step(p, "m", 1),), True, score=Score(s))
        for p, s in zip(POEMS, (0.9, 0.5, 0.1), strict=True)
    )
    assert top(last(GenSelect(ScriptedModel(liking("tree"))), Candidates(items))).text == POEMS[2]
    assert top(last(GenSelect(ScriptedModel(["?"])), Candidates(items))).text == POEMS[0]


def test_free_text_repeated_has_a_confidence() -> None:
    problem = Problem("Write a line.", answers=FreeText())
    items = tuple(Candidate(problem, (Step(poem, "m", 1),), done=True) for poem in POEMS)
    found = last(GenSelect(ScriptedModel(liking("lily")), repeats=3), Candidates(items))
    assert (found.answer, found.confidence) == (POEMS[1], 1.0)


def test_the_presets_leave_free_text_alone() -> None:
    for preset in (universal_self_consistency, gen_select):
        flow = preset(ScriptedModel(poet, name="s"), ScriptedModel(liking("lily"), name="l"), n=6)
        assert solve(Problem("Write a line.", answers=FreeText()), flow, seed=4).answer == POEMS[1]


# Universal self-consistency.


def test_usc_asks_once_about_all() -> None:
    model = ScriptedModel(perfect)
    found = last(UniversalSelfConsistency(model), numbers(range(40)))
    ((request,),) = model.calls
    assert len(shown(request)) == 40
    assert request.sampling.temperature == 0
    assert found.answer == "39"


def test_usc_asks_in_windows_where_the_context_is_short() -> None:
    model = ScriptedModel(perfect)
    model.context_length = 300
    assert last(UniversalSelfConsistency(model, max_tokens=64), numbers(range(40))).answer == "39"
    assert len(model.calls[0]) > 1
    assert {n for (n,) in [(sum(len(shown(r)) for r in model.calls[0]),)]} == {40}


# New solutions.


@pytest.mark.parametrize("n", [2, 3, 8, 9, 17])
def test_synthesis_over_windows_uses_every_solution(n: int) -> None:
    """A model that adds up, over a tree of any shape, adds up all."""
    found = last(GenSynthesis(ScriptedModel(adding, name="writer"), window=4), numbers(range(1, n + 1)))
    assert found.answer == str(n * (n + 1) // 2)
    assert [(c.text, c.score) for c in found.items[:n]] == [(f"\\boxed{{{k}}}", Score(0.0)) for k in range(1, n + 1)]
    assert top(found).text == f"All in all\n\n\\boxed{{{found.answer}}}"
    assert {step.author for step in top(found).steps} == {"writer"}
    assert [step.text for step in top(found).steps] == ["All in all\n\n", f"\\boxed{{{found.answer}}}"]
    assert top(found).tokens == 5
    assert len(found) - n == sum(1 for c in found if c.steps[0].author == "writer")


def test_a_new_answer_has_its_own_vote_only() -> None:
    found = last(GenSynthesis(ScriptedModel(adding)), numbers([1, 1, 2]))
    assert (found.answer, found.confidence) == ("4", 0.25)
    found = last(GenSynthesis(ScriptedModel(adding), repeats=3), numbers([1, 1, 2]))
    assert (found.answer, found.confidence) == ("4", 1.0)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("<solution>\\boxed{5}</solution>", "\\boxed{5}"),
        ("<SOLUTION>\\boxed{5}</Solution>", "\\boxed{5}"),
        ("<solution>\\boxed{4}</solution> or <solution>\\boxed{5}</solution>", "\\boxed{5}"),
        ("<solution>\\boxed{5}</solution> between <solution></solution>", "\\boxed{5}"),
        ("<think><solution>\\boxed{4}</solution></think><solution>\\boxed{5}</solution>", "\\boxed{5}"),
        ("<solution>\\boxed{5}", "\\boxed{5}"),
        ("\\boxed{5}", None),
        ("<solution></solution>", None),
        ("<solution>five</solution>", None),
        ("<think><solution>\\boxed{5}</solution>", None),
        ("<solution>\\boxed{5} and so " + "on and " * 3000, None),
        ("", None),
    ],
)
def test_new_solutions(reply: str, text: str | None) -> None:
    for make in (GenSynthesis, Fusion):
        found = last(make(ScriptedModel([reply])), Candidates((said("1"), said("2"), said("2"))))
        if text is None:
            assert (found.answer, found.confidence, len(found)) == ("2", pytest.approx(2 / 3), 3)
            (told,) = [c.score.error for c in found if c.score]
            assert "could not be made or read" in (told or "") or "no new answer" in (told or "")
        else:
            assert (found.answer, found.items[-1].text) == ("5", text)
            assert found.items[-1].score == Score(1.0)


def test_synthesis_of_free_text() -> None:
    problem = Problem("Write a line.", answers=FreeText())
    items = tuple(Candidate(problem, (Step(poem, "m", 1),), done=True) for poem in POEMS)
    for make in (GenSynthesis, Fusion):
        found = last(make(ScriptedModel(["So be it: <solution>All are flowers.</solution>"])), Candidates(items))
        assert (found.answer, found.confidence) == ("All are flowers.", None)


# Fusion.

ANALYSIS = {
    "consensus": ["all say 1"],
    "contradictions": [],
    "unique_insights": ["[2] adds"],
    "blind_spots": "no units",
}


def panel_of(first: str, second: str) -> ScriptedModel:
    def script(request: Request) -> str:
        return first if "JSON" in request.context.messages[0].content else second

    return ScriptedModel(script)


def test_fusion_shows_its_analysis_to_the_writer() -> None:
    model = panel_of(f"Here: ```json\n{json.dumps(ANALYSIS)}\n```", "<solution>\\boxed{3}</solution>")
    found = last(Fusion(model), numbers([1, 1, 2]))
    assert (found.answer, found.confidence, len(found)) == ("3", 0.25, 4)
    (compare,), (fuse,) = model.calls
    assert shown(compare) == shown(fuse)
    assert len(shown(fuse)) == 3
    assert compare.sampling.temperature == 0
    for words in ("all say 1", "[2] adds", "no units"):
        assert words in fuse.context.messages[0].content
        assert words not in compare.context.messages[0].content
    assert "contradictions" not in fuse.context.messages[0].content


def test_fusion_without_an_analysis_goes_by_the_answers() -> None:
    model = panel_of("They all say 1.", "<solution>\\boxed{3}</solution>")
    assert last(Fusion(model), numbers([1, 1, 2])).answer == "3"
    assert "compared them" not in model.calls[1][0].context.messages[0].content
    assert "{analysis}" not in model.calls[1][0].context.messages[0].content


def test_fusion_with_a_judge_of_its_own() -> None:
    judge, writer = (
        ScriptedModel([json.dumps(ANALYSIS)], name="j"),
        ScriptedModel(["<solution>\\boxed{3}</solution>"], name="w"),
    )
    found = last(Fusion(writer, judge), numbers([1, 1, 2]))
    assert (len(judge.calls), len(writer.calls)) == (1, 1)
    assert found.items[-1].steps[0].author == "w"


def test_quorum() -> None:
    model = ScriptedModel(["<solution>\\boxed{3}</solution>"])
    found = last(Fusion(model, quorum=3), Candidates((said("1"), said("2"), said(None))))
    assert not model.calls
    assert found.answer in ("1", "2")
    assert last(Fusion(model, quorum=2), Candidates((said("1"), said("2"), said(None)))).answer == "3"


def test_fusion_takes_as_many_as_fit() -> None:
    model = panel_of(json.dumps(ANALYSIS), "<solution>\\boxed{3}</solution>")
    model.context_length = 400
    wordy = [Candidate(Problem("q"), (Step("so " * 40 + f"\\boxed{{{i}}}", "m", 1),)) for i in range(9)]
    found = last(Fusion(model, max_tokens=40, analysis_tokens=40), Candidates(tuple(wordy)))
    assert found.answer == "3"
    seen = [shown(batch[0]) for batch in model.calls]
    assert 2 <= len(seen[1]) <= len(seen[0]) < 9
    assert seen[0][: len(seen[1])] == seen[1]  # so that numbers mean the same
    assert all(model.count(batch[0].context) + 40 <= 400 for batch in model.calls)
    model.context_length = 200
    model.calls.clear()
    found = last(Fusion(model, max_tokens=40, analysis_tokens=40), Candidates(tuple(wordy)))
    assert not model.calls
    assert found.answer is not None


def test_fusion_learns_a_context_late() -> None:
    model = Unasked(
        lambda r: json.dumps(ANALYSIS) if "JSON" in r.context.messages[0].content else "<solution>\\boxed{3}</solution>"
    )
    wordy = [Candidate(Problem("q"), (Step("so " * 40 + f"\\boxed{{{i}}}", "m", 1),)) for i in range(9)]
    found = last(Fusion(model, max_tokens=40, analysis_tokens=40), Candidates(tuple(wordy)))
    assert found.answer == "3"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"consensus": ["a"]}', {"consensus": ["a"]}),
        ('{"consensus": "a"}', {"consensus": ["a"]}),
        ('{"consensus": ["a", "b", "c"], "blind_spots": ["d"]}', {"consensus": ["a", "b"], "blind_spots": ["d"]}),
        ('{"consensus": [], "contradictions": []}', {}),
        ('{"consensus": [1, null, {"x": 2}, "a"]}', {"consensus": ["a"]}),
        ('{"x": 1} {"consensus": ["a"]}', {"consensus": ["a"]}),
        ('{"analysis": {"consensus": ["a"]}}', {"consensus": ["a"]}),
        ('<think>{"consensus": ["b"]}</think>{"consensus": ["a"]}', {"consensus": ["a"]}),
        ('{"consensus": ["' + "a" * 5000 + '"]}', {"consensus": ["a" * 400]}),
        ('{"x": 1}', None),
        ('{"consensus": ["a"', None),
        ("[]", None),
        ("", None),
        ("{" * 3000, None),
    ],
)
def test_analyses(text: str, found: dict[str, list[str]] | None) -> None:
    assert analysis_in(text) == found
    assert found is None or set(found) <= set(TOPICS)


# Budgets, presets, mistakes.


def judge_of(preset: Any) -> Callable[[Request], str]:
    return adding if preset in (gen_synthesis, fusion) else perfect


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("judge", ["good", "random", "silent"])
def test_presets_keep_their_promises(preset: Any, judge: str, problem: Problem) -> None:
    script: Any = {"good": judge_of(preset), "random": reasoner, "silent": [""]}[judge]
    check_strategy(preset(ScriptedModel(name="small"), ScriptedModel(script, name="large"), n=6), problem)


@pytest.mark.parametrize("preset", [gen_select, gen_synthesis])
def test_presets_keep_their_promises_in_windows(preset: Any, problem: Problem) -> None:
    flow = preset(ScriptedModel(name="small"), ScriptedModel(judge_of(preset), name="large"), n=9, window=3, repeats=2)
    check_strategy(flow, problem, budgets=(0, 1, 50, 500, 1500, 2500, 3500))


@pytest.mark.parametrize("make", [GenSelect, GenSynthesis, UniversalSelfConsistency, Fusion])
def test_a_budget_that_ends_before_or_in_the_judging_leaves_an_answer(make: Any) -> None:
    """At every budget from nothing to enough, in steps, there is an answer that a candidate gives, and no more is spent."""
    roots = Candidates((said("1"), said("2"), said("2"), said("3"), said("4"), said("5")))
    options = {"window": 3} if make in (GenSelect, GenSynthesis) else {}
    script = adding if make in (GenSynthesis, Fusion) else perfect

    class Given:
        async def search(self, _: Candidates, run: Run) -> Any:
            yield roots

    full = solve("q", chain(Given(), make(ScriptedModel(script), **options)), seed=2)
    seen = set()
    for tokens in range(0, full.tokens + 2100, 100):
        events: list[Event] = []
        part = make(ScriptedModel(script), **options)
        result = solve("q", chain(Given(), part), seed=2, budget=Budget(tokens=tokens), trace=events.append)
        assert result.tokens <= tokens
        assert any(c.answer == result.answer for c in result.candidates)
        assert result.solution is not None
        assert result.solution.answer == result.answer
        assert result.stopped is not None or result.answer == full.answer
        if not any(isinstance(event, Generated) for event in events):
            assert (result.answer, result.confidence) == ("2", pytest.approx(1 / 3))
        seen.add(result.answer)
    assert full.answer in seen
    assert "2" in seen


def test_every_call_has_a_path_of_its_own_and_is_paid() -> None:
    events: list[Event] = []
    small, large = ScriptedModel(name="small"), ScriptedModel(perfect, name="large")
    result = solve("q", gen_select(small, large, n=9, window=3, repeats=2), seed=3, trace=events.append)
    calls = [event for event in events if isinstance(event, Generated)]
    assert len({event.path for event in calls}) == len(calls)
    assert sum(event.usage.tokens for event in calls) == result.tokens
    assert result.usage["large"].calls == sum(len(batch) for batch in large.calls)


def test_what_is_no_option() -> None:
    model = ScriptedModel()
    for wrong in (
        lambda: GenSelect(model, window=1),
        lambda: GenSelect(model, repeats=0),
        lambda: GenSelect(model, verdict="("),
        lambda: GenSelect(model, verdict="Judgment"),
        lambda: GenSelect(model, prompt="Which?"),
        lambda: UniversalSelfConsistency(model, prompt="Which?"),
        lambda: GenSynthesis(model, window=0),
        lambda: GenSynthesis(model, prompt="Write."),
        lambda: Fusion(model, quorum=0),
        lambda: Fusion(model, analysis_prompt="Compare."),
    ):
        with pytest.raises(BadInput):
            wrong()


def test_repr_is_the_configuration() -> None:
    model: Model = ScriptedModel(name="large")
    for part in (GenSelect(model, window=4), UniversalSelfConsistency(model), GenSynthesis(model), Fusion(model)):
        assert "0x" not in repr(part)
        assert "max_tokens=" in repr(part)
