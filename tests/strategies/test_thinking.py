"""How long a model thinks: DEER, AlphaOne and NoThinking against traces worked by hand and closed forms; what all promise."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import pytest
from scipy import stats
from thinker import PROBLEM, THOUGHT, Thinker, asked, grow, told

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Completion,
    Model,
    Problem,
    Request,
    Run,
    open_model,
    solve,
)
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.testing import ScriptedModel, check_policy, check_strategy
from reasonweave.orchestrator.trace import Event, Generated
from reasonweave.strategies import (
    DEER,
    AlphaOne,
    BestOfN,
    BudgetForcing,
    NoThinking,
    Probed,
    Sample,
    presets,
    whole,
)
from reasonweave.strategies.policies.thinking import FINAL, Confidence, arithmetic, geometric, lowest
from reasonweave.tasks.lab.problems import problems

# DEER.


def test_deer_ends_thinking_before_the_first_cue_at_which_the_answer_is_sure() -> None:
    model = Thinker(THOUGHT, ("1}", [0.9]), ("2} and more", [0.96, 0.1, 0.1]))
    candidate = grow(DEER(model, temperature=0.7))
    assert told(candidate) == [
        ("one two\n\n", "m", "", 3),
        ("Wait", "m", "probed", 1),
        (" three\n\n", "m", "", 2),
        ("So.", "m", "", 1),
        ("\n\n", "", "end", 0),
        ("</think>\n\n", "", "end", 0),
        ("so \\boxed{9}", "m", "", 2),
    ]
    assert candidate.passages == (
        "one two\n\n", "Wait three\n\n", "So.\n\n", "</think>\n\n", "so \\boxed{9}",
    )  # fmt: skip
    assert (candidate.answer, candidate.done) == ("9", True)
    cues = ("Wait", "Alternatively", "</think>")
    assert asked(model) == [
        ("", 1024, cues),
        ("one two\n\n" + FINAL, 20, ()),
        ("one two\n\nWait", 1024, cues),
        ("one two\n\nWait three\n\nSo.\n\n" + FINAL, 20, ()),
        ("one two\n\nWait three\n\nSo.\n\n</think>\n\n", 1024, ()),
    ]
    assert [r.sampling.temperature for call in model.calls for r in call] == [0.7, 0.0, 0.7, 0.0, 0.7]


@pytest.mark.parametrize(
    ("confidence", "probabilities", "value"),
    [
        (arithmetic, [0.999, 0.999, 0.855], 0.951),
        (geometric, [0.999, 0.999, 0.855], (0.999 * 0.999 * 0.855) ** (1 / 3)),
        (lowest, [0.999, 0.999, 0.855], 0.855),
        *((confidence, [0.7], 0.7) for confidence in (arithmetic, geometric, lowest)),
        (geometric, [0.0, 1.0], 0.0),
    ],
)
def test_confidences_are_their_closed_forms(confidence: Confidence, probabilities: list[float], value: float) -> None:
    assert confidence(probabilities) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("said", "probabilities", "confidence", "ends"),
    [
        ("1 2 3} so", [0.999, 0.999, 0.855, 0.1], arithmetic, True),  # 0.951; what follows the box does not count
        ("1 2 3} so", [0.999, 0.999, 0.855, 0.1], geometric, False),  # 0.948
        ("1 2 3} so", [0.999, 0.999, 0.855, 0.1], lowest, False),  # 0.855
        ("2}", [0.9501], arithmetic, True),  # one token
        ("2}", [0.9499], arithmetic, False),
        ("{2}} so", [0.99, 0.1], arithmetic, True),
        ("\\} 2} so", [0.91, 1.0, 0.1], arithmetic, True),  # an escaped brace closes nothing
        ("}", [1.0], arithmetic, False),  # no answer is not a sure one
        ("", [], arithmetic, False),
        ("1 " * 30, [0.99] * 30, arithmetic, True),  # an answer longer than the probe
        ("2}", [None], arithmetic, False),  # a server that tells no log-probabilities
    ],
)
def test_deer_is_as_sure_as_the_answers_tokens(
    said: str, probabilities: list[float | None], confidence: Confidence, ends: bool
) -> None:
    model = Thinker("one Wait two</think> three", (said, probabilities))
    candidate = grow(DEER(model, confidence=confidence))
    assert any(step.label == "end" for step in candidate.steps) is ends
    assert ("Wait" in candidate.text) is not ends


def test_deer_probes_so_often_and_no_more() -> None:
    model = Thinker("a Wait " * 6 + "end", ("1}", [0.5]))
    candidate = grow(DEER(model, probes=2, think_end=""))
    assert candidate.text == "a Wait " * 6 + "end"
    assert model.probed == 2
    assert asked(model)[-1] == ("a Wait a Wait", 1024, ())
    assert grow(DEER(Thinker(THOUGHT), probes=0)).text == THOUGHT


def test_deer_probes_before_a_first_word_too() -> None:
    candidate = grow(DEER(Thinker("Wait a", ("2}", [0.99]))))
    assert candidate.text == "</think>\n\nso \\boxed{9}"
    again = Thinker("Wait Wait a", ("2}", [0.5]), ("2}", [0.99]))
    assert grow(DEER(again)).text == "Wait\n\n</think>\n\nso \\boxed{9}"


def test_deer_without_think_tags_writes_the_probe_for_good() -> None:
    model = Thinker("one two\n\nWait three", ("2}", [0.99]), otherwise="7} ok")
    candidate = grow(DEER(model, think_end=""))
    assert candidate.text == "one two\n\n" + FINAL + "7} ok"
    assert candidate.passages == ("one two\n\n", "**Final Answer**\n\n", "\\boxed{7} ok")
    assert candidate.answer == "7"


def test_deer_holds_thinking_to_its_share_and_a_solution_to_its_length() -> None:
    model = Thinker("on " * 50, otherwise="and " * 50)
    candidate = grow(DEER(model, length=10, share=0.5))
    assert [(s.tokens, s.author) for s in candidate.steps] == [(5, "m"), (0, ""), (0, ""), (5, "m")]
    assert candidate.text == "on on on on on\n\n</think>\n\nand and and and and"
    assert candidate.done
    own = grow(DEER(Thinker("on </think>" + " so" * 50), length=10, share=0.5))
    assert own.tokens == 10
    assert own.done


def test_deer_keeps_to_whole_words_and_to_the_thinking() -> None:
    model = Thinker("a KWait b</think> c Wait d", ("2}", [0.99]))
    candidate = grow(DEER(model))
    assert candidate.text == "a KWait b</think> c Wait d"
    assert len(candidate.passages) == 1
    assert model.probed == 0


def test_deer_thinks_on_where_a_probe_fails() -> None:
    class Broken(Thinker):
        def _complete(self, request: Request) -> Completion:
            made = super()._complete(request)
            return Completion("", "error", error="down") if self.is_probe(request) else made

    candidate = grow(DEER(Broken(THOUGHT, ("2}", [0.99]))))
    assert candidate.text == THOUGHT
    assert candidate.failed is None


# AlphaOne.


def test_alpha_one_waits_by_the_runs_own_numbers() -> None:
    policy = AlphaOne(ScriptedModel(["a b c d\n\n"], name="m"), typical=20, alpha=1.5)
    candidate, waits = Candidate(PROBLEM), list[bool]()
    for k in range(6):
        point = Run(7).child(k, "wait").rng().random()
        waits.append(k > 0 and point < 1 - 5 * k / 30)
        (candidate,) = asyncio.run(policy.extend([candidate], Run(7).child(k)))
    texts = ["Waita b c d\n\n" if wait else "a b c d\n\n" for wait in waits]
    assert candidate.text == "".join(texts)
    assert {(s.text, s.author, s.tokens, s.open) for s in candidate.steps if s.label == "wait"} == {
        ("Wait", "", 0, True)
    }
    assert candidate.passages == tuple(texts)
    assert 0 < sum(waits) < 5


def test_alpha_one_waits_as_often_as_its_schedule_says() -> None:
    """Counts at nine points of the schedule are binomial and independent: the sum of z² is chi-square with nine degrees of
    freedom. A right policy fails with a chance of 1e-5, were the seed not fixed."""
    n, limit = 500, 50
    policy = AlphaOne(ScriptedModel(["a b c d\n\n"]), typical=40, alpha=limit / 40)
    many, total = [Candidate(PROBLEM)] * n, 0.0
    for k in range(11):
        before = [len(c.steps) for c in many]
        many = asyncio.run(policy.extend(many, Run(3).child(k)))
        waits = sum(c.steps[at].label == "wait" for c, at in zip(many, before, strict=True))
        p = 1 - 5 * k / limit if k else 0.0
        assert policy.chance(5 * k) == pytest.approx(1 - 5 * k / limit)
        if 0 < p < 1:
            total += (waits - n * p) ** 2 / (n * p * (1 - p))
        else:
            assert waits == n * p
    assert stats.chi2.sf(total, 9) > 1e-5


@pytest.mark.parametrize(("think_end", "end"), [("</think>", "</think>\n\n"), ("", FINAL)], ids=["tags", "no tags"])
def test_alpha_one_turns_a_late_wait_into_the_end_of_thinking(think_end: str, end: str) -> None:
    model = Thinker("a b c\n\nd e\n\nWait f", otherwise="g\n\nWait \\boxed{4}")
    policy = AlphaOne(model, typical=3, alpha=1, think_end=think_end)
    candidate = grow(policy)
    assert candidate.text == "a b c\n\nd e\n\n" + end + "g\n\nWait \\boxed{4}"
    assert [step.label for step in candidate.steps].count("wait") == 0
    assert (candidate.answer, candidate.done) == ("4", True)
    tag = (think_end,) if think_end else ()
    assert [stop for _, _, stop in asked(model)] == [("\n\n", *tag), ("Wait", *tag), ()]


def test_alpha_one_leaves_an_end_of_its_own_and_the_answer_alone() -> None:
    text = "a</think>\n\nb\n\nc\n\nso \\boxed{1}"
    assert grow(AlphaOne(Thinker(text), typical=1e9)).text == text


# NoThinking.


@pytest.mark.parametrize(
    "policy", [whole, Sample, BudgetForcing, DEER, Probed, lambda m: AlphaOne(m, 99)], ids=lambda p: p.__name__
)
def test_any_policy_may_follow_a_thought_that_nobody_thought(policy: Callable[[ScriptedModel], StepPolicy]) -> None:
    thought = NoThinking.thought
    model = Thinker(thought + "so\n\n\\boxed{3}")
    candidate = grow(NoThinking(policy(model)))
    assert candidate.text == thought + "so\n\n\\boxed{3}"
    assert told(candidate)[0] == (thought, "", "prefill", 0)
    assert [label for _, _, label, _ in told(candidate)].count("prefill") == 1
    assert candidate.tokens == 3
    assert model.probed == 0


# All of them.

MODEL = ScriptedModel()


def wavering(request: Request) -> str:
    """Thinks at random, with cues, with an end tag or without, and answers at random."""
    rng = random.Random(request.seed)
    if request.context.prefix.endswith("{"):
        return f"{rng.randint(1, 2)}}}" + rng.choice(["", " wait", " fine"])
    said = [rng.choice(["a b ", "Wait, ", "c\n\n", "Alternatively ", "</think>\n\n"]) for _ in range(rng.randint(1, 9))]
    return "".join(said) + rng.choice(["", f"\\boxed{{{rng.randint(1, 2)}}}"])


POLICIES: dict[str, Callable[[ScriptedModel], StepPolicy]] = {
    "deer": lambda m: DEER(m, 0.5, temperature=0.5),
    "deer, no tags": lambda m: DEER(m, 0.5, think_end="", confidence=lowest),
    "deer, limited": lambda m: DEER(m, 0.5, length=12, share=0.5, max_tokens=5),
    "alpha-one": lambda m: AlphaOne(m, 20),
    "alpha-one, no tags": lambda m: AlphaOne(m, 5, think_end="", max_tokens=3),
    "no-thinking": lambda m: NoThinking(whole(m)),
    "no-thinking, by steps": lambda m: NoThinking(Sample(m), "So "),
    "dynasor": lambda m: Probed(m, 3, 2),
    "dynasor, no tags": lambda m: Probed(m, 3, 2, think_end=""),
    "dynasor, one probe": lambda m: Probed(m, 4, 1),
}


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_keeps_a_policys_promises(name: str) -> None:
    for script in (MODEL._script, wavering):
        check_policy(POLICIES[name](ScriptedModel(script)), PROBLEM)


@pytest.mark.parametrize("name", POLICIES)
def test_steps_that_are_there_stay_and_steps_that_are_put_in_are_free(name: str) -> None:
    for seed in range(60):
        candidate = grow(POLICIES[name](ScriptedModel(wavering, name="m")), seed=seed)
        assert "".join(candidate.passages) == candidate.text
        assert all(candidate.passages)
        assert all(step.tokens == 0 and step.logprob == 0.0 for step in candidate.steps if not step.author)
        assert {step.author for step in candidate.steps} <= {"", "m"}
        assert candidate.logprob is not None


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("tokens", [15, 60, 200, 4000])
def test_every_policy_keeps_a_budget_and_pays_for_its_probes(name: str, tokens: int) -> None:
    events: list[Event] = []
    policy = POLICIES[name](ScriptedModel(wavering))
    result = solve(PROBLEM, BestOfN(policy, n=3), budget=Budget(tokens=tokens), seed=tokens, trace=events.append)
    assert result.tokens <= tokens
    assert sum(event.usage.tokens for event in events if isinstance(event, Generated)) == result.tokens


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_ends_where_no_cue_comes_and_a_context_is_full(name: str) -> None:
    endless = ScriptedModel(lambda r: " on and" * 99)
    endless.context_length = 300
    result = solve(PROBLEM, BestOfN(POLICIES[name](endless), n=2, max_steps=400), seed=1)
    assert result.errors == ()
    assert all(c.done for c in result.candidates)


@pytest.mark.parametrize("name", ["deer", "alpha_one", "no_thinking", "dynasor"])
@pytest.mark.parametrize("n", [1, 3])
def test_every_workflow_keeps_its_promises(name: str, n: int) -> None:
    check_strategy(getattr(presets, name)(ScriptedModel(wavering), n=n), PROBLEM)


def test_throwing_probes_away_changes_nothing() -> None:
    """Greedy, a model that is probed and never stopped writes what it writes unprobed."""
    model = open_model("lab/small")
    assert isinstance(model, Model)
    cue, seen = "The answer is \\boxed{", list[str]()
    policies = [
        whole(model, temperature=0.0),
        DEER(model, 1.1, ("B:", "C:"), cue, think_end=""),
        Probed(model, 16, 99, cue, think_end="", temperature=0.0),
    ]
    for chain in problems(8):
        made = [solve(Problem(chain.text), BestOfN(policy, n=1), seed=1).candidates[0] for policy in policies]
        assert len({candidate.text for candidate in made}) == 1
        seen += [step.label for candidate in made for step in candidate.steps]
    assert seen.count("probed") >= 8
    assert sum(label.startswith("probe: ") for label in seen) >= 16


WRONG: dict[Callable[..., object], list[dict[str, object]]] = {
    DEER: [
        {"probe": ""},
        {"cues": ()},
        {"probe_tokens": 0},
        {"probes": -1},
        {"share": 0.0},
        {"share": 1.0},
        {"length": 1},
    ],
    AlphaOne: [
        {"typical": 9} | wrong
        for wrong in ({"typical": 0}, {"typical": math.nan}, {"alpha": 0}, {"word": ""}, {"think_end": "", "final": ""})
    ],
    NoThinking: [{"thought": ""}],
    Probed: [{"chunk": 0}, {"window": 0}, {"probe_tokens": 0}, {"probe": ""}],
    presets.deer: [{"confidence": "median"}, {"cues": " , "}],
    presets.dynasor: [{"effort": "none"}],
}


@pytest.mark.parametrize(("make", "wrong"), [(make, wrong) for make, those in WRONG.items() for wrong in those])
def test_arguments_that_make_no_sense_are_refused(make: Callable[..., object], wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        make(MODEL, **wrong)


def test_a_part_is_shown_the_same_in_every_process() -> None:
    assert "confidence=geometric" in repr(DEER(MODEL, confidence=geometric))
    assert " at 0x" not in repr(DEER(MODEL)) + repr(AlphaOne(MODEL, 9)) + repr(NoThinking(Probed(MODEL)))
