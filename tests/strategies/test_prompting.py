"""Prompt-level methods, with models that are functions of the prompt and remember what they were asked."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    FreeText,
    Model,
    Problem,
    Request,
    RewardModel,
    Run,
    Score,
    Step,
    chain,
    solve,
)
from reasonweave.orchestrator.models.spec import open_model
from reasonweave.orchestrator.protocols import StepPolicy, Strategy, Verifier
from reasonweave.orchestrator.testing import (
    ScriptedModel,
    ScriptedReward,
    check_policy,
    check_strategy,
    reasoner,
    words,
)
from reasonweave.strategies.aggregators.vote import best, majority
from reasonweave.strategies.policies.sample import Sample, whole
from reasonweave.strategies.policies.speculate import Speculate
from reasonweave.strategies.presets import prompting as presets
from reasonweave.strategies.prompting import (
    Example,
    InOrder,
    Leap,
    Listing,
    PlanSearch,
    Prepared,
    Reworded,
    RoundTrip,
    Stage,
    Stages,
    Words,
    cot_reflection,
    least_to_most,
    re_reading,
    self_discover,
    skeleton_of_thought,
)
from reasonweave.strategies.prompting.asking import listed, numbered
from reasonweave.strategies.prompting.leap import examples_in
from reasonweave.strategies.prompting.plan_search import spread, subsets
from reasonweave.strategies.prompting.wording import DIRECT
from reasonweave.strategies.searches.adaptive import AdaptiveConsistency
from reasonweave.strategies.searches.adaptive_branching import AdaptiveBranching
from reasonweave.strategies.searches.attempts import Attempts
from reasonweave.strategies.searches.beam import Beam
from reasonweave.strategies.searches.best_of_n import BestOfN
from reasonweave.strategies.searches.mcts import MCTS
from reasonweave.strategies.searches.particle import ParticleFilter, ParticleGibbs
from reasonweave.strategies.searches.rebase import REBASE
from reasonweave.strategies.searches.refiners import Redo
from reasonweave.strategies.searches.tree_of_thoughts import TreeOfThought
from reasonweave.verifiers import ProcessReward

PROBLEM = Problem("How many legs have three {cats}?", "legs")
QUESTION = PROBLEM.prompt

SIGNS = {
    "list": "Which smaller questions",
    "item": "Answer this one question",
    "after": "These questions on the way",
    "points": "Plan an answer",
    "point": "Somebody else writes",
    "derive": "What more can be noticed",
    "observe": "What can be noticed",
    "idea": "How can it be solved",
    "other": "Suppose that it is wrong",
    "outline": "Write this way down",
    "by plan": "Solve it by these steps",
    "examples": "Are there solved examples",
    "attempt": "Think step by step, and put",
    "lesson": "Where does the attempt",
    "condense": "Say the same in",
    "by principles": "These principles keep",
    "restate": "Which problem does it solve",
    "merge": "Here are two solutions",
    "select": "ways of thinking about problems",
    "adapt": "Say each of them anew",
    "compose": "Make a form",
    "follow": "filling in this form",
}
"""A sentence of each prompt."""

Reply = str | Callable[[Request], str]
DEFAULTS: dict[str, Reply] = {
    "list": "1. How many cats are there?\n2. How many legs has a cat?",
    "item": lambda r: (
        "There are 3." if "Answer this one question about it, briefly: How many cats" in asked(r) else "4"
    ),
    "points": "1. Count the cats\n2. Count the legs",
    "point": lambda r: f"All about {re.findall(r'belongs to point (.)', asked(r))[0]}.",
    "observe": numbered([f"seen {k}" for k in "abcde"]),
    "derive": lambda r: numbered([f"new {k} of <{', '.join(re.findall('seen (.)', asked(r)))}>" for k in "xy"]),
    "idea": lambda r: f"idea {r.seed}",
    "other": lambda r: f"other {r.seed}",
    "outline": lambda r: f"outlined {re.findall('(?:idea|other) [0-9]+', asked(r))[-1]}",
    "examples": "Q: Legs of one cat?\nA: 4\nQ: Legs of two?\nA: 8",
    "attempt": "so \\boxed{5}",
    "lesson": "Count all legs.",
    "condense": "1. Count well.",
    "restate": "Three cats: how many legs?",
    "merge": "Both looked at, \\boxed{12}",
    "select": "- cut\n- check",
    "adapt": "- cut the cats\n- check the legs",
    "compose": "cats: …\nlegs: …",
}


def asked(request: Request) -> str:
    (message,) = request.context.messages
    return message.content


def kind(request: Request) -> str:
    return next((name for name, sign in SIGNS.items() if sign in asked(request)), "direct")


class Talker(ScriptedModel):
    """Replies by what it is asked; what is not a question on the way gets a boxed 12."""

    def __init__(self, replies: Mapping[str, Reply] | None = None, **options: Any) -> None:
        self.replies: dict[str, Reply] = {**DEFAULTS, **(replies or {})}
        super().__init__(self._reply, name="m", **options)

    def _reply(self, request: Request) -> str:
        reply = self.replies.get(kind(request), "so \\boxed{12}")
        return reply if isinstance(reply, str) else reply(request)

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """What was asked in each call, and how often."""
        return [(name, n) for call in self.calls for name, n in Counter(map(kind, call)).items()]

    def prompts(self, name: str) -> list[str]:
        return [asked(r) for call in self.calls for r in call if kind(r) == name]


def extended(policy: StepPolicy, n: int = 1, problem: Problem = PROBLEM, seed: int = 1) -> list[Candidate]:
    return asyncio.run(policy.extend([Candidate(problem)] * n, Run(seed)))


def run_of(strategy: Strategy, roots: Candidates, seed: int = 1) -> list[Candidates]:
    async def collect() -> list[Candidates]:
        return [found async for found in strategy.search(roots, Run(seed))]

    return asyncio.run(collect())


def prepared(preparation: Any, n: int = 1, model: Talker | None = None) -> list[Candidate]:
    return extended(Prepared(whole(model or preparation.model), preparation), n)


# Lists.


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1. a\n2. b", ["a", "b"]),
        ("Here they are:\n\n(1) a\n(2) b\n\nThat is all of them.", ["a", "b"]),
        ("**1.** a\n\n**2.** b", ["a", "b"]),
        ("1. **Title**: a\n   - more\n   - and more\n2. b", ["Title: a - more - and more", "b"]),
        ("Q1: a\nQ2: b", ["a", "b"]),
        ("Step 1. a\nStep 2. b", ["a", "b"]),
        ("[1] a\n[2] b", ["a", "b"]),
        ("### 1. a\ntext of it\n### 2. b", ["a text of it", "b"]),
        ("- a\n* b\n• c", ["a", "b", "c"]),
        ("1. a\n2. A\n3.  a ", ["a"]),
        ("1. takes 1.5 hours\n2. and 2. then", ["takes 1.5 hours", "and 2. then"]),
        ("1.5 hours", []),
        ("In 2020: nothing", []),
        ("There is nothing to ask.", []),
        ("1.\n2.", []),
        ("", []),
    ],
)
def test_lists_as_models_write_them(text: str, items: list[str]) -> None:
    assert listed(text) == items


@given(st.lists(st.from_regex(r"[a-z][a-z ,]{0,20}[a-z]\?", fullmatch=True), unique_by=lambda s: " ".join(s.split())))
@settings(max_examples=60)
def test_what_is_numbered_is_read_back(items: list[str]) -> None:
    assert listed(f"Well:\n{numbered(items)}\n\nDone.") == items


def lists(model: ScriptedModel, **options: Any) -> list[str]:
    (found,) = asyncio.run(Listing(model, "{problem} {count}", **options).lists([{"problem": "q"}], Run(1)))
    return found


def test_a_list_is_cut_to_what_was_asked_for() -> None:
    model = Talker({"direct": "<think>\n1. no\n</think>\n1. a\n2. b\n3. c"})
    assert lists(model, most=2) == ["a", "b"]
    assert asked(model.calls[0][0]) == "q 2"


def test_the_last_item_of_a_reply_that_was_cut_is_not_taken() -> None:
    assert lists(Talker({"direct": "1. one thing\n2. two things here"}), max_tokens=6) == ["one thing"]
    assert lists(Talker({"direct": "1. one thing here"}), max_tokens=2) == ["one"]


# The same question in other words.


@dataclass(frozen=True)
class Watching:
    """A verifier that remembers which problems it was asked about, and likes what `liked` likes."""

    liked: Callable[[Candidate], float]
    seen: list[tuple[Any, ...]] = field(default_factory=list)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.seen.extend((c.problem, c.problem.messages, c.passages) for c in candidates)
        return [Score(self.liked(c)) for c in candidates]


def even(candidate: Candidate) -> float:
    return 0.9 if len(candidate.text) % 2 else 0.3


@pytest.mark.parametrize(
    "search",
    [
        lambda policy: chain(BestOfN(policy, n=4), majority),
        lambda policy: chain(ParticleFilter(policy, ProcessReward(ScriptedReward()), n=4), best),
        lambda policy: chain(Beam(policy, ProcessReward(ScriptedReward()), n=4, width=2), best),
    ],
    ids=["best-of-n", "particle-filter", "beam"],
)
def test_the_same_words_are_the_policy_itself(search: Callable[[StepPolicy], Strategy]) -> None:
    plain, worded = ScriptedModel(reasoner), ScriptedModel(reasoner)
    one = solve(PROBLEM, search(Sample(plain)), seed=3)
    other = solve(PROBLEM, search(Reworded(Sample(worded), "{problem}")), seed=3)
    assert one.candidates == other.candidates
    assert (one.answer, one.usage) == (other.answer, other.usage)
    requests = [[[(r.context, r.sampling, r.seed) for r in call] for call in model.calls] for model in (plain, worded)]
    assert requests[0] == requests[1]


def test_in_a_particle_filter_the_model_has_the_words_and_all_others_the_problem() -> None:
    model, verifier = ScriptedModel(reasoner), Watching(even)
    flow = chain(ParticleFilter(re_reading(Sample(model)), verifier, n=4), majority)
    result = solve(PROBLEM, flow, seed=2)
    assert {asked(r).count(QUESTION) for call in model.calls for r in call} == {2}
    assert {p for p, _, _ in verifier.seen} == {PROBLEM}
    assert {m for _, m, _ in verifier.seen} == {PROBLEM.messages}
    assert all(c.problem is PROBLEM for c in result.candidates)
    assert result.answer is not None


def test_each_particle_goes_on_from_where_it_was() -> None:
    model = ScriptedModel(reasoner)
    snapshots = run_of(ParticleFilter(re_reading(Sample(model)), Watching(even), n=4), Candidates.of(PROBLEM))
    written = {c.text for found in snapshots for c in found}
    prefixes = {r.context.prefix for call in model.calls[1:] for r in call}
    assert prefixes
    assert prefixes < written


def test_a_prefix_goes_on() -> None:
    model = ScriptedModel(["the end \\boxed{12}"])
    begun = Candidate(PROBLEM, (Step("step 0\n\n", "x", 2),))
    (made,) = asyncio.run(cot_reflection(Sample(model)).extend([begun], Run(1)))
    ((request,),) = model.calls
    assert request.context.prefix == "step 0\n\n"
    assert asked(request).startswith(QUESTION)
    assert (made.text, made.steps[0], made.answer) == ("step 0\n\nthe end \\boxed{12}", begun.steps[0], "12")


@pytest.mark.parametrize("make", [re_reading, cot_reflection])
@pytest.mark.parametrize("inner", [Sample, whole])
def test_rewordings_are_policies(make: Any, inner: Any, problem: Problem) -> None:
    check_policy(make(inner(ScriptedModel())), problem)


def test_rewordings_within_one_another() -> None:
    model = Talker()
    extended(Reworded(Reworded(whole(model), "<{problem}>"), "[{problem}]"))
    assert asked(model.calls[0][0]) == f"<[{QUESTION}]>"


def test_a_template_needs_the_problem() -> None:
    with pytest.raises(BadInput, match=re.escape("no {problem} in it")):
        Reworded(whole(Talker()), "Think.")


def test_after_reflection_the_answer_is_what_was_said_last() -> None:
    text = "<think>three times 5\n\nis \\boxed{15}\n\n<reflection>no: four legs</reflection></think>\n\n\\boxed{12}"
    model = ScriptedModel(lambda r: text[len(r.context.prefix) :])
    flow = chain(ParticleFilter(cot_reflection(Sample(model)), Watching(even), n=2), majority)
    assert solve(PROBLEM, flow).answer == "12"
    assert solve(Problem("Say it.", answers=FreeText()), flow).answer == "\\boxed{12}"
    assert "<reflection>" in asked(model.calls[0][0])


def test_the_lab_solves_as_without_words() -> None:
    small, prm = open_model("lab/small"), open_model("lab/prm")
    assert isinstance(small, Model)
    assert isinstance(prm, RewardModel)
    problem = Problem("Start with 3. A: Add 4. B: Multiply by 2. What is the result?")
    results = [
        solve(problem, chain(ParticleFilter(policy, ProcessReward(prm), n=4), best), seed=5)
        for policy in (Sample(small), Reworded(Sample(small), "{problem}"))
    ]
    assert results[0].candidates == results[1].candidates
    assert results[0].answer is not None


# Words that were prepared.


@dataclass(frozen=True)
class Plans:
    """A preparation that gives each copy a plan of its own number, and remembers how often it was asked."""

    asked: list[int] = field(default_factory=list, compare=False, repr=False)

    async def prepare(self, problems: Sequence[Problem], run: Run) -> list[Words]:
        self.asked.append(len(problems))
        return [Words(f"{p.prompt} [plan {k}]") for k, p in enumerate(problems)]


def by_plan(request: Request) -> str:
    """Three steps that name the plan it was asked with."""
    (number,) = re.findall(r"\[plan (\d)\]", asked(request))
    done = request.context.prefix.count("\n\n")
    return "".join(f"by {number}, step {k}\n\n" for k in range(done, 3)) + f"\\boxed{{{number}}}"


def likes_two(candidate: Candidate) -> float:
    return 0.999 if "by 2" in candidate.text else 0.001


def test_each_particle_has_a_plan_of_its_own_and_keeps_it_when_drawn() -> None:
    model, plans, verifier = ScriptedModel(by_plan), Plans(), Watching(likes_two)
    flow = chain(ParticleFilter(Prepared(Sample(model), plans), verifier, n=4), majority)
    result = solve(PROBLEM, flow, seed=1)
    assert plans.asked == [4]
    plans_used = [{re.findall(r"\[plan (\d)\]", asked(r))[0] for r in call} for call in model.calls]
    assert plans_used == [{"0", "1", "2", "3"}, {"2"}, {"2"}, {"2"}]
    assert (result.answer, result.confidence) == ("2", 1.0)
    assert all(c.problem == PROBLEM for c in result.candidates)
    assert {m for _, m, _ in verifier.seen} == {PROBLEM.messages}
    assert {p for _, _, passages in verifier.seen for p in passages} == {
        *(f"by {k}, step 0\n\n" for k in range(4)),
        *(f"by 2, step {k}\n\n" for k in range(3)),
        "\\boxed{2}",
    }
    assert all([s.label for s in c.steps] == [""] * 4 for c in result.candidates)


def test_a_beam_of_plans() -> None:
    model, plans = ScriptedModel(by_plan), Plans()
    flow = chain(Beam(Prepared(Sample(model), plans), Watching(likes_two), n=4, width=2), best)
    assert solve(PROBLEM, flow, seed=1).answer == "2"
    assert len(plans.asked) == 1


@pytest.mark.parametrize(
    "search",
    [
        lambda policy, prm: ParticleGibbs(ParticleFilter(policy, prm, n=4), sweeps=2),
        lambda policy, prm: MCTS(policy, prm, n=6, width=2),
        lambda policy, prm: REBASE(policy, prm, n=4),
        lambda policy, prm: TreeOfThought(policy, prm, samples=2, breadth=2),
        lambda policy, prm: AdaptiveBranching({"new": Redo(policy), "again": Redo(policy)}, prm, n=6),
        lambda policy, prm: AdaptiveConsistency(policy, n=6),
        lambda policy, prm: Attempts(policy, prm, threshold=0.9, most=4),
    ],
    ids=["gibbs", "mcts", "rebase", "tot", "ab-mcts", "adaptive-consistency", "attempts"],
)
@pytest.mark.parametrize("prepares", [False, True])
def test_any_search_extends_them(search: Callable[[StepPolicy, Verifier], Strategy], prepares: bool) -> None:
    """Each request is asked with one of the plans, and goes on with a text that was written by it."""
    model, verifier = ScriptedModel(by_plan if prepares else reasoner), Watching(even)
    policy = Prepared(Sample(model), Plans()) if prepares else re_reading(Sample(model))
    result = solve(PROBLEM, chain(search(policy, verifier), majority), seed=1)
    assert result.answer is not None
    assert all(c.problem == PROBLEM for c in result.candidates)
    assert {m for _, m, _ in verifier.seen} <= {PROBLEM.messages}
    for request in (r for call in model.calls for r in call):
        if prepares:
            (plan,) = re.findall(r"\[plan (\d)\]", asked(request))
            assert set(re.findall(r"by (\d)", request.context.prefix)) <= {plan}
        else:
            assert asked(request).count(QUESTION) == 2


def test_one_with_steps_from_elsewhere_is_prepared_first() -> None:
    model, plans = ScriptedModel(by_plan), Plans()
    begun = Candidate(PROBLEM, (Step("by 0, step 0\n\n", "x", 4),))
    (made,) = asyncio.run(Prepared(Sample(model), plans).extend([begun], Run(1)))
    (again,) = asyncio.run(Prepared(Sample(model), plans).extend([made], Run(2)))
    assert plans.asked == [1]
    assert again.text == "by 0, step 0\n\nby 0, step 1\n\nby 0, step 2\n\n"


def test_two_preparations_do_not_share_their_words() -> None:
    model = Talker()
    one, two = Stages(model, (), "one {problem}"), Stages(model, (), "two {problem}")
    draft, target = Prepared(Sample(model), one), Prepared(Sample(model), two)

    @dataclass(frozen=True)
    class Never:
        async def accept(self, before: Any, drafted: Sequence[Candidate], run: Run) -> list[bool]:
            return [False] * len(drafted)

    extended(Speculate(draft, target, Never()))
    extended(Prepared(Prepared(Sample(model), one), two))
    assert [asked(r) for call in model.calls for r in call] == [
        f"one {QUESTION}",
        f"two {QUESTION}",
        f"one two {QUESTION}",
    ]


def test_prepared_policies_are_policies(problem: Problem) -> None:
    model = Talker()
    for preparation in (self_discover(model), least_to_most(model), PlanSearch(model), Leap(model), Plans()):
        check_policy(Prepared(whole(model), preparation), problem)
        check_policy(Prepared(Sample(model), preparation), problem)
    check_policy(skeleton_of_thought(model), problem)


def test_words_that_do_not_fit_give_way_to_the_problem() -> None:
    model = Talker()
    model.context_length = 40
    long = Stages(model, (), "{problem} " + "and " * 60)
    (made,) = prepared(long)
    assert [asked(r) for call in model.calls for r in call] == [QUESTION]
    assert made.answer == "12"
    assert made.steps[0].label.startswith(DIRECT)
    assert "fill the context of 40" in made.steps[0].label
    assert not made.failed


def test_where_nothing_fits_it_fails_alone() -> None:
    model = Talker()
    model.context_length = 7
    (made,) = prepared(Stages(model, (), "{problem} " + "and " * 60))
    assert made.failed
    assert not made.steps


def test_a_preparation_leaves_its_share() -> None:
    """With a budget that stages alone could spend, half is left for solutions."""
    long = " ".join(["word"] * 40)
    model = Talker({"list": "1. a?\n2. b?\n3. c?\n4. d?", "item": long})
    policy = Prepared(whole(model, max_tokens=20), least_to_most(model, max_tokens=60), share=0.5)
    free = solve(PROBLEM, chain(BestOfN(policy, n=2, max_steps=1), majority))
    assert free.answer == "12"
    for tokens in range(0, free.tokens, 20):
        model.calls.clear()
        result = solve(PROBLEM, chain(BestOfN(policy, n=2, max_steps=1), majority), budget=Budget(tokens=tokens))
        on_the_way = [r for call in model.calls for r in call if kind(r) in ("list", "item")]
        spent = sum(model.count(r.context) + min(r.max_tokens, len(words(model._reply(r)))) for r in on_the_way)
        assert spent <= tokens / 2
        assert spent <= result.tokens <= tokens
        if tokens >= 100:  # two prompts, two answers, and as much again
            assert result.answer == "12"
        if tokens < free.tokens / 2:
            assert result.stopped


def test_a_share_is_a_part() -> None:
    for share in (0.0, 1.5):
        with pytest.raises(BadInput, match="above 0"):
            Prepared(whole(Talker()), Plans(), share=share)


def test_a_role_without_money_cannot_prepare() -> None:
    """The solver's answer comes, unprepared."""
    thinker, solver = Talker(role="thinker"), Talker(role="solver")
    flow = BestOfN(Prepared(whole(solver), self_discover(thinker)), n=2, max_steps=1)
    result = solve(PROBLEM, flow, budget=Budget(thinker=Budget(calls=2)))
    assert thinker.kinds == [("select", 2)]
    assert result.answer == "12"
    assert {c.steps[0].label for c in result.candidates} == {f"{DIRECT}no reply to 'adapted'"}
    assert result.stopped


# Pipelines.


def test_each_stage_reads_the_replies_before_it() -> None:
    model = Talker({"direct": lambda r: f"<think>secret</think> said({asked(r)})"})
    stages = Stages(model, (Stage("a", "A {problem}"), Stage("b", "B {a} {c}")), "{b} then {a} on {problem}")
    made = prepared(stages, n=3)
    assert [len(call) for call in model.calls] == [3, 3, 3]
    a = f"said(A {QUESTION})"
    b = f"said(B {a} {{c}})"
    assert [{asked(r) for r in call} for call in model.calls] == [
        {f"A {QUESTION}"},
        {f"B {a} {{c}}"},
        {f"{b} then {a} on {QUESTION}"},
    ]
    assert all(c.text.endswith(f"said({b} then {a} on {QUESTION})") for c in made)
    assert len({r.seed for call in model.calls for r in call}) == 9


def test_a_stage_without_a_reply_ends_that_copy_alone() -> None:
    def moody(request: Request) -> str:
        return "<think>hm" if request.seed == lost else "well"

    lost = -1
    probe = Talker({"direct": moody})
    stages = (Stage("a", "A {problem}"), Stage("b", "B {a}"))
    prepared(Stages(probe, stages, "{problem} {b}"), n=3)
    lost = probe.calls[0][1].seed
    model = Talker({"direct": moody})
    made = prepared(Stages(model, stages, "{problem} {b}"), n=3)
    assert [len(call) for call in model.calls] == [3, 2, 3]
    assert [asked(r) for r in model.calls[2]] == [f"{QUESTION} well", QUESTION, f"{QUESTION} well"]
    assert [c.steps[0].label for c in made] == ["", f"{DIRECT}no reply to 'a'", ""]


@pytest.mark.parametrize(
    ("stages", "final", "told"),
    [
        ((Stage("a", "{b}"), Stage("b", "")), "{problem}", "reads {b}, which no stage before it"),
        ((Stage("a", "{a}"),), "{problem}", "reads {a}"),
        ((Stage("a", ""), Stage("a", "")), "{problem}", "must differ"),
        ((Stage("problem", ""),), "{problem}", "not be 'problem'"),
        ((Stage("a b", ""),), "{problem}", "be words"),
        ((Stage("a", ""),), "{a}", "no {problem}"),
    ],
)
def test_pipelines_are_checked(stages: tuple[Stage, ...], final: str, told: str) -> None:
    with pytest.raises(BadInput, match=re.escape(told)):
        Stages(Talker(), stages, final)


def test_self_discover() -> None:
    model = Talker()
    (made,) = prepared(self_discover(model))
    assert model.kinds == [("select", 1), ("adapt", 1), ("compose", 1), ("follow", 1)]
    shown = {name: model.prompts(name)[0] for name in ("select", "adapt", "compose", "follow")}
    assert all(QUESTION in prompt for prompt in shown.values())
    assert "Go backwards" in shown["select"]
    assert "- cut\n- check" in shown["adapt"]
    assert "Go backwards" not in shown["adapt"]
    assert "- cut the cats" in shown["compose"]
    assert "cats: …\nlegs: …" in shown["follow"]
    assert "- cut the cats" not in shown["follow"]
    assert (made.text, made.tokens) == ("so \\boxed{12}", 2)


# Least to most.


def test_least_to_most_answers_in_order() -> None:
    model = Talker()
    (made,) = prepared_by(least_to_most(model))
    assert model.kinds == [("list", 1), ("item", 1), ("item", 1), ("after", 1)]
    first, second = model.prompts("item")
    (final,) = model.prompts("after")
    assert "at most 6" in model.prompts("list")[0]
    assert first.endswith("briefly: How many cats are there?")
    assert "legs has a cat" not in first
    assert "Q: " not in first
    assert "Q: How many cats are there?\nA: There are 3.\n\n" in second
    assert second.endswith("briefly: How many legs has a cat?")
    assert "A: There are 3.\n\nQ: How many legs has a cat?\nA: 4\n\n" in final
    assert all(prompt.startswith(QUESTION) for prompt in (first, second, final))
    assert [s.text for s in made.steps] == ["so \\boxed{12}"]


def prepared_by(preparation: InOrder, n: int = 1) -> list[Candidate]:
    return extended(Prepared(whole(preparation.listing.model), preparation), n)


def test_least_to_most_of_several_lengths_shares_its_calls() -> None:
    """Copies with one, two and three questions: a call for all first ones, one for the second ones, one for the third."""

    def some(request: Request) -> str:
        return numbered([f"part {k} of {request.seed}?" for k in range(1 + request.seed % 3)])

    model = Talker({"list": some, "item": lambda r: f"answer to {asked(r).rsplit(': ')[-1]}"})
    prepared_by(least_to_most(model), n=12)
    lengths = [1 + r.seed % 3 for r in model.calls[0]]
    assert set(lengths) == {1, 2, 3}  # of 12 seeds: all but 2.3 % of root seeds
    rounds = [("item", sum(n > k for n in lengths)) for k in range(3)]
    assert model.kinds == [("list", 12), *rounds, ("after", 12)]
    for request, prompt in zip(model.calls[0], model.prompts("after"), strict=True):
        assert set(re.findall(r"part \d of (\d+)", prompt)) == {str(request.seed)}
        assert prompt.count("Q: ") == prompt.count("A: answer to") == 1 + request.seed % 3


def test_the_problem_itself_is_no_sub_question() -> None:
    model = Talker({"list": f"1. How many cats are there?\n2. {QUESTION}"})
    prepared_by(least_to_most(model))
    assert model.kinds == [("list", 1), ("item", 1), ("after", 1)]


def test_a_sub_question_without_an_answer_is_left_out() -> None:
    model = Talker({"item": lambda r: "<think>" if asked(r).endswith("there?") else "4"})
    prepared_by(least_to_most(model))
    assert "Q: How many legs has a cat?\nA: 4" in model.prompts("after")[0]
    assert "How many cats are there" not in model.prompts("after")[0]


@pytest.mark.parametrize(
    ("replies", "kinds", "why"),
    [
        ({"list": "I would just count."}, ["list", "direct"], "no list could be read"),
        ({"item": ""}, ["list", "item", "item", "direct"], "no answer to any item"),
    ],
)
def test_least_to_most_without_a_list_is_the_problem(replies: dict[str, Reply], kinds: list[str], why: str) -> None:
    model = Talker(replies)
    (made,) = prepared_by(least_to_most(model))
    assert [name for name, _ in model.kinds] == kinds
    assert (made.answer, made.steps[0].label) == ("12", DIRECT + why)


# Skeleton of thought.


def test_a_skeleton_is_written_at_once() -> None:
    model = Talker()
    (made,) = extended(skeleton_of_thought(model))
    assert model.kinds == [("points", 1), ("point", 2)]
    for number, (prompt, item) in enumerate(
        zip(model.prompts("point"), ("Count the cats", "Count the legs"), strict=True)
    ):
        assert f'point {number + 1}, "{item}"' in prompt
        assert "1. Count the cats\n2. Count the legs" in prompt
        assert "All about" not in prompt
    assert made.text == "1. Count the cats: All about 1.\n\n2. Count the legs: All about 2."
    assert made.passages == ("1. Count the cats: All about 1.\n\n", "2. Count the legs: All about 2.")
    assert [(s.author, s.label, s.tokens) for s in made.steps] == [("", "point", 0), ("m", "", 3)] * 2
    assert made.done
    assert made.logprob is not None


def test_skeletons_of_several_share_two_calls() -> None:
    model = Talker()
    made = extended(skeleton_of_thought(model, most=1), n=3)
    assert model.kinds == [("points", 3), ("point", 3)]
    assert {c.text for c in made} == {"1. Count the cats: All about 1."}


@pytest.mark.parametrize(
    ("replies", "kinds", "why"),
    [
        ({"points": "Well."}, ["points", "direct"], "no list could be read"),
        ({"point": ""}, ["points", "point", "direct"], "no point could be written"),
    ],
)
def test_a_skeleton_that_cannot_be_read_is_a_direct_answer(
    replies: dict[str, Reply], kinds: list[str], why: str
) -> None:
    model = Talker(replies)
    (made,) = extended(skeleton_of_thought(model))
    assert [name for name, _ in model.kinds] == kinds
    assert (made.answer, made.steps[0].label, made.done) == ("12", DIRECT + why, True)


def test_a_point_that_is_missing_is_left_out() -> None:
    model = Talker({"point": lambda r: "" if "belongs to point 1" in asked(r) else "<think>so</think>Four each."})
    (made,) = extended(skeleton_of_thought(model))
    assert made.text == "2. Count the legs: Four each."
    assert made.steps[1].tokens == len(words("<think>so</think>Four each."))
    assert made.logprob is None


def test_a_skeleton_has_the_points_that_the_budget_pays() -> None:
    model = Talker()
    flow = BestOfN(skeleton_of_thought(model), n=1, max_steps=1)
    problem = Problem("Tell me about cats.", answers=FreeText())
    free = solve(problem, flow)
    found = {solve(problem, flow, budget=Budget(calls=calls)).text for calls in range(4)}
    assert found == {"", "1. Count the cats: All about 1.", free.text}


def test_one_that_has_begun_goes_on() -> None:
    model = Talker({"direct": "and so \\boxed{12}"})
    begun = Candidate(PROBLEM, (Step("Cats have legs ", "x", 3),))
    (made,) = asyncio.run(skeleton_of_thought(model).extend([begun], Run(1)))
    assert model.kinds == [("direct", 1)]
    assert (made.text, [s.label for s in made.steps]) == ("Cats have legs and so \\boxed{12}", ["", ""])


# Plan search.


def plans_of(n: int, replies: Mapping[str, Reply] | None = None, **options: Any) -> tuple[Talker, list[Candidate]]:
    model = Talker(replies)
    return model, prepared(PlanSearch(model, **options), n)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 40])
@pytest.mark.parametrize("ideas", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_plan_search_asks_as_often_as_it_says(n: int, ideas: int, k: int) -> None:
    model, made = plans_of(n, observations=k, ideas=ideas)
    nodes = 1 + k + k * (k - 1) // 2
    counts = Counter(kind(r) for call in model.calls for r in call)
    assert counts["observe"] == 1
    assert counts["derive"] == min(-(-n // ideas), nodes)
    assert counts["idea"] == -(-n // ideas)
    assert counts["idea"] + counts["other"] == counts["outline"] == counts["by plan"] == n
    assert sum(counts.values()) == 1 + min(-(-n // ideas), nodes) + 3 * n
    assert len(model.calls) == 2 + min(ideas, n) + 2
    assert [c.answer for c in made] == ["12"] * n


def leaf(prompt: str) -> tuple[frozenset[str], frozenset[str]]:
    """The observations that a prompt stands on: those of the problem, and those derived from them."""
    numbers = re.findall(r"^\d+\. (.*)$", prompt, re.MULTILINE)
    return frozenset(o for o in numbers if o.startswith("seen")), frozenset(o for o in numbers if o.startswith("new"))


def test_plans_stand_on_different_observations() -> None:
    """Sixty-four leaves of one idea each: all differ, all are in the tree, and every node of it is used alike."""
    model, _ = plans_of(64, ideas=1)
    leaves = [leaf(prompt) for prompt in model.prompts("idea")]
    assert len(set(leaves)) == 64 == 16 * 4  # 1 + 5 + 10 nodes, {}, x, y, xy below each
    assert all(len(seen) <= 2 for seen, _ in leaves)
    for seen, new in leaves:
        of = ", ".join(sorted(o.removeprefix("seen ") for o in seen))
        assert all(o.endswith(f"of <{of}>") for o in new)
    model, _ = plans_of(20, ideas=1)
    assert sorted(Counter(seen for seen, _ in map(leaf, model.prompts("idea"))).values()) == [1] * 12 + [2] * 4
    assert len({seen for seen, _ in map(leaf, model.prompts("idea"))}) == 16


def test_the_draw_is_the_seeds() -> None:
    def leaves(seed: int) -> list[Any]:
        model = Talker()
        extended(Prepared(whole(model), PlanSearch(model)), 6, seed=seed)
        return [leaf(prompt) for prompt in model.prompts("idea")]

    assert leaves(1) == leaves(1)
    assert len({tuple(leaves(seed)) for seed in range(6)}) > 1


def test_the_second_idea_reads_the_first_and_takes_it_for_wrong() -> None:
    model, _ = plans_of(5, ideas=3)
    first = {r.seed: leaf(asked(r)) for call in model.calls for r in call if kind(r) == "idea"}
    others = [(leaf(p), re.findall(r"^(idea|other) (\d+)$", p, re.MULTILINE)) for p in model.prompts("other")]
    assert [len(before) for _, before in others] == [1, 1, 2]
    assert all(name == "idea" and first[int(seed)] == mine for mine, ((name, seed), *_) in others)
    said = {f"idea {seed}" for seed in first} | {
        f"other {r.seed}" for call in model.calls for r in call if kind(r) == "other"
    }
    assert sorted(re.findall(r"outlined (.*)$", p, re.MULTILINE)[0] for p in model.prompts("by plan")) == sorted(said)
    assert all("seen" not in prompt for prompt in model.prompts("by plan") + model.prompts("outline"))


def test_without_outlines_the_idea_is_the_plan() -> None:
    model, _ = plans_of(2, outline=None)
    assert not model.prompts("outline")
    assert [p.split("\n")[-1].split()[0] for p in model.prompts("by plan")] == ["idea", "other"]
    model, _ = plans_of(2, {"outline": ""})
    assert [p.split("\n")[-1].split()[0] for p in model.prompts("by plan")] == ["idea", "other"]


@pytest.mark.parametrize(
    ("replies", "asks", "why"),
    [
        ({"observe": "Nothing."}, ["observe", "direct"], "no observations could be read"),
        ({"idea": ""}, ["observe", "derive", "idea", "idea", "direct"], "no idea could be read"),
    ],
)
def test_without_observations_or_ideas_it_is_the_problem(replies: dict[str, Reply], asks: list[str], why: str) -> None:
    model, made = plans_of(2, replies)
    assert [name for name, _ in model.kinds] == asks
    assert {c.steps[0].label for c in made} == {DIRECT + why}


def test_without_derived_observations_a_leaf_has_the_nodes() -> None:
    model, made = plans_of(6, {"derive": "None that I see."}, ideas=1)
    assert all(not new for _, new in map(leaf, model.prompts("idea")))
    assert len({seen for seen, _ in map(leaf, model.prompts("idea"))}) == 6
    assert [c.answer for c in made] == ["12"] * 6
    none = [p for p in model.prompts("idea") if not leaf(p)[0]]
    assert all("(nothing yet)" in p for p in none)


def test_leaves_are_used_again_where_there_are_few() -> None:
    model, made = plans_of(9, {"observe": "1. seen a", "derive": "?"}, ideas=2)
    assert Counter(map(leaf, model.prompts("idea"))).most_common()[0][1] == 3
    assert len(made) == 9


def test_plans_of_two_problems_do_not_mix() -> None:
    model, other = Talker(), Problem("How many wings have two cats?")
    policy = Prepared(whole(model), PlanSearch(model))
    roots = [Candidate(p) for p in (PROBLEM, other, PROBLEM, other, PROBLEM)]
    made = asyncio.run(policy.extend(roots, Run(1)))
    assert [c.problem for c in made] == [c.problem for c in roots]
    assert model.kinds[:2] == [("observe", 2), ("derive", 3)]
    finals = [asked(r).split("\n")[0] for r in model.calls[-1]]
    assert finals == [c.problem.prompt for c in roots]
    for k, problem in enumerate((PROBLEM, other)):
        assert {asked(r).split("\n")[0] for r in model.calls[0]} == {PROBLEM.prompt, other.prompt}
        mine = [asked(r) for r in model.calls[2] if asked(r).startswith(problem.prompt)]
        assert len(mine) == 2 - k


def test_subsets_and_spread() -> None:
    assert [len(subsets("abcde", k)) for k in (1, 2, 3, 9)] == [6, 16, 26, 32]
    assert spread([], 3) == []
    families = [[("a",), ("b",), ("c",)], [("d",)]]
    assert spread(families, 4) == [("a",), ("d",), ("b",), ("c",)]


# LEAP.

EXAMPLES = Example("Legs of one cat?", "4"), Example("Legs of two?", "Four each, \\boxed{8}")


def learnt(replies: Mapping[str, Reply] | None = None, n: int = 1, **options: Any) -> tuple[Talker, list[Candidate]]:
    model = Talker(replies)
    return model, prepared(Leap(model, **options), n)


def test_leap_learns_from_its_mistakes() -> None:
    model, made = learnt(tries=2, n=3)
    # equal wrong answers to an example are one mistake
    assert model.kinds == [("examples", 1), ("attempt", 4), ("lesson", 2), ("condense", 1), ("by principles", 3)]
    assert QUESTION in model.prompts("examples")[0]
    assert [p.split("\n")[0] for p in model.prompts("attempt")] == ["Legs of one cat?"] * 2 + ["Legs of two?"] * 2
    assert all(QUESTION not in p for name in ("attempt", "lesson", "condense") for p in model.prompts(name))
    first, second = model.prompts("lesson")
    assert "Legs of one cat?" in first
    assert "so \\boxed{5}" in first
    assert "\n4\n" in first
    assert "Legs of two?" not in first
    assert "\n8\n" in second
    assert "- Count all legs.\n- Count all legs." in model.prompts("condense")[0]
    assert "in 5 principles" in model.prompts("condense")[0]
    assert model.prompts("by principles")[0].endswith(f"\n1. Count well.\n\n{QUESTION}")
    assert [c.answer for c in made] == ["12"] * 3


def test_right_attempts_teach_nothing() -> None:
    """By the answer space: 4.0 is 4, and a worked answer is what its box says."""
    model, (made,) = learnt(
        {"attempt": lambda r: "\\boxed{4.0}" if "one" in asked(r) else "\\boxed{8}"}, examples=EXAMPLES
    )
    assert model.kinds == [("attempt", 8), ("direct", 1)]
    assert model.prompts("direct") == [
        f"Q: Legs of one cat?\nA: 4\n\nQ: Legs of two?\nA: Four each, \\boxed{{8}}\n\n{QUESTION}"
    ]
    assert made.steps[0].label == ""  # the examples are shown, so it was not asked as it is


def test_different_wrong_answers_are_different_mistakes() -> None:
    """What gives no answer is a mistake for itself."""
    model, _ = learnt(
        {"attempt": lambda r: f"\\boxed{{{r.seed % 2 + 1}}}" if r.seed % 3 else f"I give up {r.seed}"}, tries=30
    )
    tries = {"Legs of one cat?": set[str](), "Legs of two?": set[str]()}
    for request in (r for call in model.calls for r in call if kind(r) == "attempt"):
        reply = model._reply(request)
        tries[asked(request).split("\n")[0]].add(reply)
    assert dict(model.kinds)["lesson"] == sum(map(len, tries.values())) > 6


def test_given_examples_are_shown_before_the_principles() -> None:
    model, _ = learnt(examples=EXAMPLES, tries=1)
    assert model.kinds == [("attempt", 2), ("lesson", 2), ("condense", 1), ("by principles", 1)]
    final = model.prompts("by principles")[0]
    assert final.index("Q: Legs of one cat?\nA: 4") < final.index("1. Count well.") < final.index(QUESTION)


@pytest.mark.parametrize(
    ("replies", "asks", "why"),
    [
        ({"examples": "NONE"}, ["examples", "direct"], "no examples"),
        ({"examples": "Q: Legs?"}, ["examples", "direct"], "no examples"),
        ({"attempt": ""}, ["examples", "attempt", "direct"], "no mistakes"),
        ({"lesson": " **none**."}, ["examples", "attempt", "lesson", "direct"], "no mistakes"),
    ],
)
def test_without_examples_or_mistakes_it_is_the_problem(replies: dict[str, Reply], asks: list[str], why: str) -> None:
    model, (made,) = learnt(replies)
    assert [name for name, _ in model.kinds] == asks
    assert (made.answer, made.steps[0].label) == ("12", DIRECT + why)


def test_principles_that_cannot_be_condensed_are_taken_as_they_are() -> None:
    model, _ = learnt({"condense": ""}, tries=1)
    assert model.prompts("by principles")[0].endswith(f"\n- Count all legs.\n- Count all legs.\n\n{QUESTION}")


def test_examples_in_many_forms() -> None:
    assert examples_in("Question: a\nAnswer: b") == (Example("a", "b"),)
    assert examples_in("- Q: a\n  A: b\n- Q: c\n\nd\n  A: e\nf") == (Example("a", "b"), Example("c\n\nd", "e\nf"))
    assert examples_in("A: b\nQ: a") == ()
    assert examples_in("Q: a\nQ: b\nA: c") == (Example("b", "c"),)
    assert examples_in("A cat has legs.\nQuestions remain.") == ()


# Round trip.


def trip(replies: Mapping[str, Reply] | None = None, **options: Any) -> tuple[Talker, RoundTrip]:
    model = Talker(replies)
    return model, RoundTrip(whole(model), model, **options)


def there_and_back(request: Request) -> str:
    """Answers the problem with 12, and what was told from it with 5."""
    return "so \\boxed{5}" if asked(request) == "Three cats: how many legs?" else "so \\boxed{12}"


def test_two_answers_that_agree_are_left_alone() -> None:
    """12.0 is 12 by the answer space."""
    model, strategy = trip({"direct": lambda r: "so \\boxed{12}" if QUESTION in asked(r) else "\\boxed{12.0}"})
    (found,) = run_of(strategy, Candidates.of(PROBLEM))
    assert model.kinds == [("direct", 1), ("restate", 1), ("direct", 1)]
    (restate,) = model.prompts("restate")
    assert QUESTION not in restate
    assert "so \\boxed{12}" in restate
    assert model.prompts("direct")[1] == "Three cats: how many legs?"
    assert (found[0].text, found[0].score) == ("so \\boxed{12}", None)


def test_two_that_differ_are_merged() -> None:
    model, strategy = trip({"direct": there_and_back, "merge": "It is \\boxed{13}"})
    drafts, merged = run_of(strategy, Candidates.of(PROBLEM))
    assert model.kinds == [("direct", 1), ("restate", 1), ("direct", 1), ("merge", 1)]
    (prompt,) = model.prompts("merge")
    assert prompt.startswith(QUESTION)
    assert "[1]\nso \\boxed{12}\n\n[2]\nso \\boxed{5}" in prompt
    assert "Three cats" not in prompt
    assert [drafts[0].answer, merged[0].answer] == ["12", "13"]
    assert merged[0].problem is PROBLEM
    assert merged[0].text == "It is \\boxed{13}"


@pytest.mark.parametrize(
    ("replies", "asks", "why"),
    [
        ({"restate": ""}, ["direct", "restate"], "could not be told"),
        (
            {"direct": lambda r: "\\boxed{12}" if QUESTION in asked(r) else "no idea"},
            ["direct", "restate", "direct"],
            "gave no answer",
        ),
        (
            {"direct": there_and_back, "merge": "no idea"},
            ["direct", "restate", "direct", "merge"],
            "the merged solution gave no answer",
        ),
    ],
)
def test_what_cannot_be_read_leaves_the_draft_and_says_so(replies: dict[str, Reply], asks: list[str], why: str) -> None:
    model, strategy = trip(replies)
    (found,) = run_of(strategy, Candidates.of(PROBLEM))[-1].items
    assert [name for name, _ in model.kinds] == asks
    assert found.answer == "12"
    assert found.score is not None
    assert why in (found.score.error or "")
    assert math.isnan(found.score.value)


def test_a_draft_without_an_answer_is_left_alone() -> None:
    model, strategy = trip({"direct": "no idea"})
    (found,) = run_of(strategy, Candidates.of(PROBLEM))
    assert model.kinds == [("direct", 1)]
    assert (found[0].text, found[0].score) == ("no idea", None)


def test_each_of_several_takes_its_own_way() -> None:
    """After another search, with its scores; those that agree keep them, each merge takes the place of its draft."""

    def restated(request: Request) -> str:
        return f"told from {re.findall(r'boxed.(.).', asked(request))[0]}"

    def again(request: Request) -> str:
        number = int(asked(request)[-1])
        return f"\\boxed{{{number if number % 2 else 9 - number}}}"

    merge = lambda r: "\\boxed{" + "".join(re.findall(r"boxed.(.).", asked(r))) + "}"  # noqa: E731
    model, strategy = trip({"restate": restated, "direct": again, "merge": merge})
    drafts = Candidates(
        tuple(
            Candidate(PROBLEM, (Step(f"\\boxed{{{k}}}", "x", 1),), done=True, score=Score(k / 10), log_weight=-k)
            for k in (1, 2, 3, 4)
        )
    )
    *_, found = run_of(strategy, drafts)
    assert model.kinds == [("restate", 4), ("direct", 4), ("merge", 2)]
    assert [c.answer for c in found] == ["1", "27", "3", "45"]
    assert [c.score for c in found] == [Score(0.1), None, Score(0.3), None]
    assert found.log_weights.tolist() == [-1, -2, -3, -4]


def test_the_drafts_outlive_the_budget() -> None:
    for calls, answer in ((1, "12"), (2, "12"), (3, "12"), (4, "13")):
        model, strategy = trip({"direct": there_and_back, "merge": "\\boxed{13}"})
        result = solve(PROBLEM, strategy, budget=Budget(calls=calls))
        assert (result.answer, bool(result.stopped)) == (answer, calls < 4)
        assert sum(n for _, n in model.kinds) == calls


# The presets.

PRESETS: dict[str, Callable[..., Strategy]] = {
    "re_reading": presets.re_reading,
    "cot_reflection": presets.cot_reflection,
    "self_discover": presets.self_discover,
    "least_to_most": presets.least_to_most,
    "plan_search": presets.plan_search,
    "leap": presets.leap,
    "skeleton": presets.skeleton,
    "round_trip": presets.round_trip,
}
COSTS = {
    "re_reading": lambda n: n,
    "cot_reflection": lambda n: n,
    "self_discover": lambda n: 4 * n,
    "least_to_most": lambda n: (1 + 2 + 1) * n,
    "plan_search": lambda n: 1 + -(-n // 2) + 3 * n,
    "leap": lambda n: 1 + 2 * 4 + 2 + 1 + n,
    "round_trip": lambda n: 3 * n,
}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("model", [ScriptedModel, Talker])
def test_presets_keep_their_promises(name: str, model: Callable[[], ScriptedModel], problem: Problem) -> None:
    check_strategy(PRESETS[name](model()), problem)


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("n", [1, 5])
def test_presets_cost_what_they_say(name: str, n: int) -> None:
    model = Talker()
    result = solve(PROBLEM, PRESETS[name](model, n=n))
    assert sum(len(call) for call in model.calls) == COSTS[name](n)
    assert (result.answer, result.confidence, len(result.candidates)) == ("12", 1.0, n)
    assert {s.text for c in result.candidates for s in c.steps} == {"so \\boxed{12}"}
    assert all(c.problem == PROBLEM for c in result.candidates)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "skeleton"])
def test_presets_answer_with_any_budget_that_holds_a_forced_answer(name: str) -> None:
    model = Talker()
    least = model.count(Candidate(PROBLEM).context) + 3 + 16 + 1
    free = solve(PROBLEM, PRESETS[name](model)).tokens
    for tokens in {*range(least, free, max(1, free // 12)), free}:
        result = solve(PROBLEM, PRESETS[name](model), budget=Budget(tokens=tokens))
        assert result.tokens <= tokens
        assert result.answer is not None


def test_a_skeleton_of_prose_is_its_answer() -> None:
    model = Talker()
    result = solve(Problem("Tell me about cats.", answers=FreeText()), presets.skeleton(model))
    assert result.answer == "1. Count the cats: All about 1.\n\n2. Count the legs: All about 2."
    assert [len(call) for call in model.calls] == [1, 2]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_what_a_model_may_say(name: str) -> None:
    for text in ("", "<think>", "1.", "Q:\nA:", "{problem}", "\\boxed{1}", "1. \\boxed{2}\n\n2. x"):
        for answers in (PROBLEM.answers, FreeText()):
            problem = Problem(QUESTION, answers=answers)
            solve(problem, PRESETS[name](ScriptedModel([text])))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_server_that_is_gone(name: str) -> None:
    class Gone(ScriptedModel):
        async def _generate(self, requests: Sequence[Request]) -> Any:
            raise OSError("gone")

    result = solve(PROBLEM, PRESETS[name](Gone()))
    assert result.answer is None
    assert any("gone" in error for error in result.errors)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: PlanSearch(m, ideas=0),
        lambda m: PlanSearch(m, final="{problem}"),
        lambda m: Leap(m, tries=0),
        lambda m: Leap(m, lesson="{question}"),
        lambda m: RoundTrip(whole(m), m, max_steps=0),
        lambda m: RoundTrip(whole(m), m, merge="{problem}"),
        lambda m: Listing(m, "{problem}", most=0),
        lambda m: Listing(m, "{count}"),
        lambda m: least_to_most(m, most=0),
    ],
)
def test_mistakes_are_told(make: Callable[[ScriptedModel], object]) -> None:
    with pytest.raises(BadInput):
        make(Talker())
