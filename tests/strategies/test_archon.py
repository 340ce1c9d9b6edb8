"""Archon's components, with models that are functions of the prompt, and configs in its published form."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
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
    Graph,
    Problem,
    Request,
    Run,
    Score,
    Step,
    Strategy,
    chain,
    open_model,
    solve,
)
from reasonweave.orchestrator.registry import VerifierRecipe
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward, check_strategy, check_verifier, reasoner
from reasonweave.orchestrator.trace import Event, Generated
from reasonweave.strategies import BestOfN, majority, whole
from reasonweave.strategies.archon import (
    AsAsked,
    Critic,
    Criticised,
    Filter,
    Fuser,
    Ranked,
    Ranker,
    ReasonedVerdict,
    UnitTestGenerator,
    WithTests,
    as_asked,
    conclude,
    criticised,
    distinct,
    from_archon,
    graph_of,
)
from reasonweave.strategies.archon.carried import plain
from reasonweave.strategies.archon.critic import reviews_in
from reasonweave.strategies.archon.form import FIELDS
from reasonweave.strategies.archon.ranker import ranking_in
from reasonweave.strategies.archon.unit_tests import unit_tests_in
from reasonweave.strategies.archon.verdict import verdict_in
from reasonweave.strategies.presets.archon import archon

EXAMPLE = Path(__file__).parents[2] / "examples" / "archon.json"
ENTRY = re.compile(r"^\[(\d+)\]\n(.*?)(?=^\[\d+\]\n|\Z)", re.DOTALL | re.MULTILINE)
AFTER = re.compile(r"\n\n?(?:Write one response|Put all|Review each|A critic, who)")


def asked(request: Request) -> str:
    return request.context.messages[0].content


def shown(request: Request) -> list[str]:
    """The candidates in a prompt, in their order."""
    entries = list(ENTRY.finditer(AFTER.split(asked(request))[0]))
    assert [int(entry[1]) for entry in entries] == list(range(1, len(entries) + 1))
    return [entry[2].strip() for entry in entries]


def worth(text: str) -> int:
    return int(re.findall(r"-?\d+", text)[-1])


def review(text: str) -> str:
    return f"Strengths:\n- it says {worth(text)}\nWeaknesses:\n- it is short"


def drawn(request: Request) -> str:
    """A solution with a number from 1 to 9, by the seed."""
    return f"So it is\n\n\\boxed{{{1 + request.seed % 9}}}"


SIGNS: dict[str, Callable[[Request], str]] = {
    "Write unit tests": lambda r: '["It has a number.", "It is short."]',
    "Review each": lambda r: "\n\n".join(f"[{i}]\n{review(text)}" for i, text in enumerate(shown(r), 1)),
    "Put all": lambda r: (
        "Answer: " + " > ".join(f"[{i + 1}]" for i in sorted(range(len(shown(r))), key=lambda i: -worth(shown(r)[i])))
    ),
    "Write one response": lambda r: f"<solution>\nAll in all\n\n\\boxed{{{sum(map(worth, shown(r)))}}}\n</solution>",
    "Give the reasons": lambda r: "It adds up.",
    "Is the response right?": lambda r: "It does. [Correct]",
    "Unit tests:\n": lambda r: "Unit Test #1: [Passed]\nUnit Test #2: [Passed]",
}


def sign_of(request: Request) -> str:
    return next((sign for sign in SIGNS if sign in asked(request)), "")


def obliging(request: Request) -> str:
    """Answers each component in the form that it asks for: ranks by number, fuses by adding, finds all right."""
    return SIGNS.get(sign_of(request), drawn)(request)


def instead(**replies: str | Callable[[Request], str]) -> Callable[[Request], str]:
    """`obliging`, but for the questions whose sign has one of these words in it."""

    def script(request: Request) -> str:
        for word, reply in replies.items():
            if word in sign_of(request).replace(" ", "_"):
                return reply if isinstance(reply, str) else reply(request)
        return obliging(request)

    return script


def numbers(*values: int | None) -> Candidates:
    return Candidates(tuple(said(None if value is None else str(value)) for value in values))


def run_of(strategy: Strategy, roots: Candidates, seed: int = 1) -> list[Candidates]:
    async def collect() -> list[Candidates]:
        return [found async for found in strategy.search(roots, Run(seed))]

    return asyncio.run(collect())


def last(strategy: Strategy, roots: Candidates, seed: int = 1) -> Candidates:
    return run_of(strategy, roots, seed)[-1]


def answers(found: Candidates) -> list[int]:
    return [int(c.answer) for c in found if c.answer is not None]


def errors(found: Candidates) -> list[str]:
    return [c.score.error for c in found if c.score and c.score.error]


class Broken(ScriptedModel):
    """A server that is down."""

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(list(requests))
        return [Completion("", "error", error="down") for _ in requests]


# How replies are read.


@pytest.mark.parametrize(
    ("reply", "order"),
    [
        ("Answer: [4] > [2] > [1] > [3]\nThe fourth is best.", [4, 2, 1, 3]),
        ("Answer: [4] > [2]", [4, 2, 1, 3]),  # missing ids come last, in their order
        ("Answer: [4] > [2] > [4] > [2] > [1] > [3]", [4, 2, 1, 3]),  # duplicates are dropped
        ("Answer: [9] > [3] > [0] > [1]", [3, 1, 2, 4]),  # so is what does not exist
        ("**Answer:** [2] > [1] > [3] > [4]", [2, 1, 3, 4]),
        ("answer : [2], [1], [3], [4]", [2, 1, 3, 4]),
        ("[3] > [1] > [2] > [4]\nAnswer: see above", [3, 1, 2, 4]),
        ("Here it is.\n[3] > [1] > [2] > [4], since [4] is wrong.", [3, 1, 2, 4]),
        ("<think>Answer: [1] > [2]</think>Answer: [2] > [1] > [4] > [3]", [2, 1, 4, 3]),
        ("Answer: [2]\nIn [1] there is an error.", [2, 1, 3, 4]),
        ("Answer: 4 > 2", None),
        ("All of them are good: [1], [2], [3], [4].", None),
        ("Answer: [7]", None),
        ("<think>Answer: [1] > [2]", None),
        ("", None),
        ("Answer: [" + "1" * 5000 + "]", None),
    ],
)
def test_rankings(reply: str, order: list[int] | None) -> None:
    assert ranking_in(reply, 4) == (None if order is None else [number - 1 for number in order])


GOOD, BAD = "Strengths:\n- short", "Weaknesses:\n- wrong"


@pytest.mark.parametrize(
    ("reply", "reviews"),
    [
        (f"[1]\n{GOOD}\n{BAD}\n\n[2]\n{BAD}\n{GOOD}", {1: f"{GOOD}\n{BAD}", 2: f"{BAD}\n{GOOD}"}),
        (f"**[1]**\n{GOOD}\n{BAD}\n---\n### [2]:\n{GOOD}\n{BAD}", {1: f"{GOOD}\n{BAD}", 2: f"{GOOD}\n{BAD}"}),
        (f"Response [2]\n{GOOD}\n{BAD}", {2: f"{GOOD}\n{BAD}"}),
        (f"[1] {GOOD}, unlike [2],\n{BAD}", {1: f"{GOOD}, unlike [2],\n{BAD}"}),  # within a line it is no head
        (f"[1]\n{GOOD}\n{BAD} as\n[2] is\n[2]\n{GOOD}\n{BAD}", {1: f"{GOOD}\n{BAD} as\n[2] is", 2: f"{GOOD}\n{BAD}"}),
        (f"[2]\n{GOOD}\n{BAD}\n[2]\n{GOOD}\nWeaknesses: none\n[7]\n{GOOD}\n{BAD}", {2: f"{GOOD}\n{BAD}"}),
        (f"[1]\n{GOOD}\n[2]\n{GOOD}\n{BAD}", {2: f"{GOOD}\n{BAD}"}),  # half a review is none
        (f"<think>[1]\n{GOOD}\n{BAD}</think>No.", {}),
        (f"{GOOD}\n{BAD}", {}),
        ("", {}),
    ],
)
def test_reviews(reply: str, reviews: dict[int, str]) -> None:
    assert reviews_in(reply, 2) == reviews


def test_a_review_of_one_needs_no_number() -> None:
    assert reviews_in(f"{GOOD}\n{BAD}", 1) == {1: f"{GOOD}\n{BAD}"}
    assert reviews_in(f"{GOOD}", 1) == {}


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("It holds.\n[Correct]", True),
        ("It does not. [Incorrect].", False),
        ("**[correct]**", True),
        ("[Correct] or [Incorrect]? [Correct]", None),
        ("The reasons are incorrect.\nVerdict: Correct", True),
        ("incorrect", False),
        ("<think>[Incorrect]</think>[Correct]", True),
        ("It is correct, not incorrect", None),
        ("It is correct.\nThat is all.", None),
        ("", None),
    ],
)
def test_verdicts(reply: str, verdict: bool | None) -> None:
    assert verdict_in(reply) is verdict


@pytest.mark.parametrize(
    ("reply", "tests"),
    [
        ('["It is [5].", "It is short."]', ("It is [5].", "It is short.")),
        ("['It\\'s 5.', \"It is short.\"]", ("It's 5.", "It is short.")),
        ('As in [1]: ["a", "a", " b ", ""] (see [2])', ("a", "b")),
        ('<think>["x"]</think>```json\n["a", "b", "c", "d"]\n```', ("a", "b", "c")),
        ('Tests:\n1. It is 5.\n2) It is short.\n- "It ends.",', ("It is 5.", "It is short.", "It ends.")),
        ("[1, 2]", ()),
        ("I cannot.", ()),
        ("[" * 5000, ()),
    ],
)
def test_lists_of_unit_tests(reply: str, tests: tuple[str, ...]) -> None:
    assert unit_tests_in(reply, 3) == tests


# The critic, and how what it says travels.


def test_a_critic_writes_of_each_candidate_and_drops_nobody() -> None:
    model = ScriptedModel(obliging)
    roots = numbers(3, None, 5)
    found = last(Critic(model), roots)
    assert [[len(shown(r)) for r in batch] for batch in model.calls] == [[2]]
    assert [getattr(c, "critique", None) for c in found] == [review("3"), None, review("5")]
    assert [c.text for c in found] == [c.text for c in roots]
    assert errors(found) == []


def test_critiques_stay_with_their_candidates_until_something_new_is_written() -> None:
    """Critic, then a ranking, then a filter, then a fuser, each of which reorders or drops some."""
    model = ScriptedModel(instead(Is_the_response=lambda r: f"[{'Inc' if 'boxed{8}' in asked(r) else 'C'}orrect]"))
    ranked = last(Ranker(model, top_k=3), last(Critic(model), numbers(3, 8, 5, 9)))
    assert answers(ranked) == [9, 8, 5]
    assert "A critic, who may be wrong" in asked(model.calls[-1][0])
    kept = last(Filter(ReasonedVerdict(model)), ranked)
    assert answers(kept) == [9, 5]
    assert [c.critique for c in kept if isinstance(c, Criticised)] == [review("9"), review("5")]
    fused = last(Fuser(model), kept)
    prompt = asked(model.calls[-1][0])
    assert f"[1]\n{review('9')}\n\n[2]\n{review('5')}" in prompt
    assert "8" not in prompt
    assert answers(fused) == [14]
    assert not isinstance(fused[0], Criticised)


def test_a_critique_replaces_an_earlier_one_and_is_part_of_the_candidate() -> None:
    (one,) = numbers(4)
    twice = criticised(criticised(one, "good"), "bad")
    assert twice.critique == "bad"
    assert (twice.text, twice.answer, twice.problem) == (one.text, "4", one.problem)
    assert replace(twice, log_weight=1.0).critique == twice.extend(done=True).critique == "bad"
    assert twice != one


def test_who_has_no_review_is_asked_about_once_more_and_then_told() -> None:
    def forgetful(request: Request) -> str:
        """Reviews all but the last it is shown."""
        return "\n".join(f"[{i}]\n{review(text)}" for i, text in enumerate(shown(request)[:-1], 1))

    model = ScriptedModel(instead(Review=forgetful))
    snapshots = run_of(Critic(model), numbers(1, 2, 3))
    assert [[shown(r) for r in batch] for batch in model.calls] == [
        [["\\boxed{1}", "\\boxed{2}", "\\boxed{3}"]],
        [["\\boxed{3}"]],
    ]
    assert [isinstance(c, Criticised) for c in snapshots[-1]] == [True, True, False]
    assert errors(snapshots[-1]) == ["no critique of it could be made or read"]
    assert len(snapshots) == 2  # what was read is there before more is paid


def test_a_greedy_critic_is_not_asked_the_same_again() -> None:
    model = ScriptedModel(["?"])
    found = last(Critic(model, temperature=0.0), numbers(1, 2))
    assert len(model.calls) == 1
    assert errors(found) == ["no critique of it could be made or read"] * 2


@pytest.mark.parametrize(("room", "windows"), [(320, [1] * 6), (400, [3, 3]), (480, [5, 1]), (2000, [6])])
def test_a_critic_in_a_short_context_reads_in_windows(room: int, windows: list[int]) -> None:
    model = ScriptedModel(obliging)
    model.context_length = room
    items = [Candidate(Problem("q"), (Step("so " * 40 + f"\\boxed{{{i}}}", "m", 1),)) for i in range(6)]
    found = last(Critic(model, max_tokens=120), Candidates(tuple(items)))
    (batch,) = model.calls
    assert all(model.count(request.context) + 120 <= room for request in batch)
    assert [len(shown(request)) for request in batch] == windows
    assert all(isinstance(c, Criticised) for c in found)


def test_a_critic_that_nobody_fits() -> None:
    model = ScriptedModel(obliging)
    model.context_length = 60
    found = last(Critic(model), numbers(1, 2))
    assert not model.calls
    assert errors(found) == ["no critique of it could be made or read"] * 2


# Rankings.


@pytest.mark.parametrize("n", [2, 3, 7, 12])
def test_a_ranker_orders_and_cuts(n: int) -> None:
    model = ScriptedModel(obliging)
    for top_k in (1, 2, None):
        found = last(Ranker(model, top_k), numbers(*range(n)), seed=n)
        assert answers(found) == list(range(n))[::-1][:top_k]
        assert [c.score.value for c in found if c.score] == pytest.approx(
            [1 - at / (n - 1) for at in range(n if top_k is None else min(top_k, n))]
        )
        assert (found.answer, found.confidence) == (str(n - 1), pytest.approx(1 / n))
        assert len(model.calls[-1]) == 1
    assert len(model.calls) == 3


def test_the_ranking_is_shown_in_an_order_that_the_seed_draws() -> None:
    """With a ranker that always puts the first one first, each of four wins as often; false alarm once in 100,000."""
    model = ScriptedModel(["Answer: [1] > [2] > [3] > [4]"])
    wins = Counter(last(Ranker(model), numbers(1, 2, 3, 4), seed).answer for seed in range(400))
    assert len(wins) == 4
    assert chisquare(list(wins.values())).pvalue > 1e-5


def test_a_ranking_that_cannot_be_read_is_asked_for_once_more_and_then_told() -> None:
    roots = Candidates((said("1", 0.2), said("2"), said("7", 0.9), said("2"), said("3")))
    model = ScriptedModel(["they are all good"])
    found = last(Ranker(model, top_k=4), roots)
    assert len(model.calls) == 2
    assert model.calls[0][0].seed != model.calls[1][0].seed
    assert answers(found) == [7, 1, 2, 2]  # by score, then by votes
    assert errors(found) == ["no ranking could be made or read"]
    assert found[0].score is not None
    assert found[0].score.value == 0.9
    again = ScriptedModel(["?", "Answer: [2] > [1]"])
    assert errors(last(Ranker(again), numbers(1, 2))) == []


def test_a_ranker_that_is_down_or_greedy_is_asked_once() -> None:
    for model in (Broken(), ScriptedModel(["?"])):
        ranker = Ranker(model, 2, temperature=0.0 if type(model) is ScriptedModel else 0.7)
        found = last(ranker, numbers(1, 5, 5))
        assert len(model.calls) == 1
        assert answers(found) == [5, 5]
        assert errors(found) == ["no ranking could be made or read"]


def test_critiques_only_where_a_ranker_is_to_use_them() -> None:
    model = ScriptedModel(obliging)
    roots = last(Critic(model), numbers(1, 2))
    for use, there in ((True, True), (False, False)):
        last(Ranker(model, use_critiques=use), roots)
        assert ("Weaknesses" in asked(model.calls[-1][0])) is there


def test_one_alone_is_not_ranked_nor_verified() -> None:
    model = ScriptedModel(obliging)
    failed = Candidate(Problem("q"), done=True, failed="down")
    roots = Candidates((failed, said("4")))
    assert answers(last(Ranker(model, top_k=1), roots)) == [4]
    assert answers(last(Ranked(ReasonedVerdict(model), top_k=1), roots)) == [4]
    assert run_of(Filter(ReasonedVerdict(model)), roots) == []
    for strategy in (Critic(model), Ranker(model), Fuser(model)):
        assert run_of(strategy, Candidates.of(Problem("q"))) == []
        assert run_of(strategy, Candidates()) == []
    assert not model.calls


def test_what_does_not_fit_beside_the_others_is_ranked_last() -> None:
    model = ScriptedModel(obliging)
    model.context_length = 300
    endless = Candidate(Problem("q"), (Step("so " * 900 + "\\boxed{99}", "m", 1),))
    seen = set()
    for seed in range(8):
        found = last(Ranker(model, max_tokens=40), Candidates((endless, *numbers(7, 8))), seed)
        if model.calls:
            assert answers(found) == [8, 7, 99]
            assert errors(found) == ["too long to be ranked"]
        else:
            assert errors(found) == ["two of them do not fit the ranker's context"]
        seen.add(len(model.calls) > 0)
        model.calls.clear()
    assert seen == {True, False}  # where it is drawn before the last place, nobody can be shown


# Any verifier in a ranker's or a filter's place.


@dataclass(frozen=True)
class Listed:
    """Scores by answer, from a list; it knows whom it was asked about, call by call."""

    values: Mapping[str, float]
    seen: list[list[str]] = field(default_factory=list)
    relative: bool = False

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.seen.append([c.answer or "" for c in candidates])
        found = [self.values.get(c.answer or "", math.nan) for c in candidates]
        return [Score(v, error="not judged" if math.isnan(v) else None) for v in found]


def test_ranked_by_a_verifier() -> None:
    verifier = Listed({"1": 0.1, "2": 0.5, "3": 0.5, "4": 0.9})
    found = last(Ranked(verifier, top_k=5), numbers(1, 2, 9, 3, 3, 4))
    assert answers(found) == [4, 3, 3, 2, 1]  # 3 has more votes than 2
    assert verifier.seen == [["1", "2", "9", "3", "3", "4"]]
    assert answers(last(Ranked(verifier), numbers(9, 1))) == [1, 9]  # not judged comes last
    assert errors(last(Ranked(verifier), numbers(9, 1))) == ["not judged"]


@given(st.lists(st.booleans(), min_size=2, max_size=10), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_first_k_judges_whom_one_by_one_would_judge(passes: list[bool], k: int) -> None:
    """Against a loop over single candidates."""
    roots = numbers(*range(len(passes)))
    judged, good = 0, list[int]()
    for i, passed in enumerate(passes):
        judged += 1
        good += [i] if passed else []
        if len(good) == k:
            break
    scores = {str(i): float(passed) for i, passed in enumerate(passes)}
    kept = Listed(scores)
    assert answers(last(Filter(kept, first_k=k), roots)) == (good or list(range(len(passes))))
    ranked = Listed(scores)
    found = answers(last(Ranked(ranked, top_k=1, first_k=k), roots))
    assert found == (good if len(good) == k else [good[0] if good else 0])
    for verifier in (kept, ranked):
        assert sum(map(len, verifier.seen)) == judged
        assert len(verifier.seen) <= judged


def test_waves_are_snapshots() -> None:
    """What one wave has found is there before the next is paid."""
    verifier = Listed({"0": 1.0, "1": 0.0, "2": 0.0, "3": 1.0, "4": 0.0})
    snapshots = run_of(Filter(verifier, first_k=2), numbers(0, 1, 2, 3, 4))
    assert verifier.seen == [["0", "1"], ["2"], ["3"]]
    assert [answers(found) for found in snapshots] == [[0], [0], [0, 3]]
    assert [answers(f) for f in run_of(Ranked(verifier, 2, first_k=2), numbers(0, 1, 2, 3))] == [[0, 1], [0, 1], [0, 3]]


def test_a_filter_lets_all_pass_where_none_does() -> None:
    verifier = Listed({"1": 0.2, "2": 0.4, "3": 0.9})
    assert answers(last(Filter(verifier), numbers(1, 2, 3))) == [3]
    assert answers(last(Filter(verifier, threshold=0.4), numbers(1, 2, 3))) == [2, 3]
    roots = Candidates((said("1", 0.3), said("2", 0.7), said("9", 0.1)))
    found = last(Filter(verifier), roots)
    assert answers(found) == [1, 2, 9]
    assert [c.score.value for c in found if c.score] == [0.3, 0.7, 0.1]  # the scores that they had
    assert errors(found) == ["not judged"]


def test_a_filter_has_the_middle_of_the_range_for_threshold() -> None:
    @dataclass(frozen=True)
    class Digit(Listed):
        lowest: float = 0.0
        highest: float = 9.0

    assert answers(last(Filter(Digit({"1": 4.0, "2": 5.0})), numbers(1, 2))) == [2]
    assert answers(last(Ranked(Digit({"1": 4.0, "2": 9.0}), first_k=1), numbers(1, 2))) == [2]


def test_first_k_and_a_verifier_that_compares_do_not_go_together() -> None:
    for make in (Filter, Ranked):
        make(Listed({}, relative=True))
        with pytest.raises(BadInput, match="compares the candidates of a call"):
            make(Listed({}, relative=True), first_k=2)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda m: Ranker(m, top_k=0), r"Ranker\(top_k=0\)"),
        (lambda m: Ranked(Listed({}), first_k=0), r"Ranked\(first_k=0\)"),
        (lambda m: Filter(Listed({}), first_k=-1), r"Filter\(first_k=-1\)"),
        (lambda m: Fuser(m, samples=0), r"Fuser\(samples=0\)"),
        (lambda m: UnitTestGenerator(m, most=0), r"UnitTestGenerator\(most=0\)"),
        (lambda m: Fuser(m, prompt="no blanks"), "no {solutions} in it"),
        (lambda m: Critic(m, prompt="no blanks"), "no {solutions} in it"),
        (lambda m: Ranker(m, prompt="no blanks"), "no {solutions} in it"),
        (lambda m: ReasonedVerdict(m, prompt="{response}"), "no {reasons} in it"),
        (lambda m: UnitTestGenerator(m, added="{tests}"), "no {problem} in it"),
    ],
)
def test_what_cannot_be(make: Callable[[ScriptedModel], object], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make(ScriptedModel())


def test_pairs_in_both_orders_stand_where_pair_rm_stood() -> None:
    def better(request: Request) -> str:
        a, b = (worth(part) for part in re.findall(r"\[[AB]\]\n(.*)\n", asked(request)))
        return "A" if a > b else "B"

    model = ScriptedModel(better)
    graph = graph_of(config({"type": "ranker", "model": "llm-blender/PairRM", "model_type": "", "top_k": 2}), model)
    found = last(graph.nodes["2-ranker"].part, numbers(2, 7, 5, 3))  # type: ignore[arg-type]
    assert answers(found) == [7, 5]
    assert len([r for batch in model.calls for r in batch]) == 4 * 3


# The verifier in two calls.


def test_reasons_first_then_a_verdict() -> None:
    def script(request: Request) -> str:
        if sign_of(request) == "Give the reasons":
            return f"<think>hm</think>Because of {worth(asked(request).split('Response:')[1])}."
        return "[Correct]" if "Because of 4." in asked(request) else "[Incorrect]"

    model = ScriptedModel(script)
    roots = numbers(3, 4, 4)
    scores = asyncio.run(ReasonedVerdict(model).score(list(roots), Run(1)))
    assert scores == [Score(0.0), Score(1.0), Score(1.0)]
    assert [[sign_of(r) for r in batch] for batch in model.calls] == [
        ["Give the reasons"] * 2,
        ["Is the response right?"] * 2,
    ]
    assert "hm" not in asked(model.calls[1][0])


@pytest.mark.parametrize("reply", ["[Correct] [Incorrect]", "I cannot say."])
def test_both_or_neither_is_asked_once_more_and_then_not_judged(reply: str) -> None:
    model = ScriptedModel(instead(Is_the_response=lambda r: reply if "boxed{4}" in asked(r) else "[Incorrect]"))
    scores = asyncio.run(ReasonedVerdict(model).score(list(numbers(3, 4)), Run(1)))
    assert scores[0] == Score(0.0)
    assert math.isnan(scores[1].value)
    assert scores[1].error == f"no verdict in {reply!r}"
    assert [len(batch) for batch in model.calls] == [2, 2, 1]
    turned = iter(["[Correct] [Incorrect]", "[Correct]"])
    model = ScriptedModel(instead(Is_the_response=lambda r: next(turned)))
    assert asyncio.run(ReasonedVerdict(model).score(list(numbers(4)), Run(1))) == [Score(1.0)]


def test_a_verifier_that_is_down_or_silent() -> None:
    for model, told in (
        (Broken(), "no reasons: down"),
        (ScriptedModel([""]), "no reasons came; the request ended with 'eos'"),
    ):
        scores = asyncio.run(ReasonedVerdict(model).score(list(numbers(3, 4)), Run(1)))
        assert [s.error for s in scores] == [told] * 2
        assert len(model.calls) == 1
        assert errors(last(Filter(ReasonedVerdict(model)), numbers(3, 4))) == [told] * 2


def test_the_two_calls_keep_a_verifiers_promises(problem: Problem) -> None:
    check_verifier(
        ReasonedVerdict(ScriptedModel(instead(Is_the=lambda r: f"[{'Inc' if '3' in asked(r) else 'C'}orrect]"))),
        problem,
    )


# The fuser.


def test_a_fuser_writes_its_samples_in_one_batch_in_place_of_the_old() -> None:
    model = ScriptedModel(instead(Write_one=lambda r: f"<solution>\\boxed{{{r.seed % 2}}}</solution>"))
    snapshots = run_of(Fuser(model, samples=9), numbers(3, 4, None, 4))
    assert [len(batch) for batch in model.calls] == [9]
    assert {asked(r) for r in model.calls[0]} == {asked(model.calls[0][0])}
    assert shown(model.calls[0][0]) == ["\\boxed{3}", "\\boxed{4}", "\\boxed{4}"]
    assert (snapshots[0].answer, len(snapshots[0])) == ("4", 4)  # before anything is new
    fused = snapshots[-1]
    assert sorted(answers(fused)) == sorted(r.seed % 2 for r in model.calls[0])
    (most, count), *_ = Counter(answers(fused)).most_common()
    assert (fused.answer, fused.confidence) == (str(most), count / 9)
    assert {c.steps[0].author for c in fused} == {"scripted"}


def test_one_fusion_says_nothing_of_how_sure_it_is() -> None:
    fused = last(Fuser(ScriptedModel(obliging)), numbers(3, 4))
    assert (answers(fused), fused.answer, fused.confidence) == ([7], "7", None)


def test_fusions_that_cannot_be_read_are_asked_for_once_more() -> None:
    replies = iter(
        ["\\boxed{1}", "<solution>\\boxed{2}</solution>", "<solution>no answer</solution>", "?", "<solution>\\boxed{3}"]
    )
    model = ScriptedModel(instead(Write_one=lambda r: next(replies)))
    snapshots = run_of(Fuser(model, samples=3), numbers(8, 9))
    assert [len(batch) for batch in model.calls] == [3, 2]
    assert [answers(found) for found in snapshots] == [[8, 9], [2], [2, 3]]


def test_where_nothing_is_new_the_vote_stays_and_says_so() -> None:
    for model in (ScriptedModel(["?"]), Broken()):
        fused = last(Fuser(model, samples=2), numbers(8, 9, 9))
        assert (answers(fused), fused.answer, fused.confidence) == ([9], "9", pytest.approx(2 / 3))
        assert errors(fused) == ["no new response could be made or read"]
        assert [len(batch) for batch in model.calls] == ([2] if isinstance(model, Broken) else [2, 2])


def test_the_length_of_a_fusion() -> None:
    model = ScriptedModel(obliging)
    items = tuple(Candidate(Problem("q"), (Step("so " * n + "\\boxed{1}", "m", 1),)) for n in (4, 11))
    last(Fuser(model, brief=True), Candidates(items))
    assert "no more words than the longest of them, which has 12." in asked(model.calls[0][0])
    last(Fuser(model), Candidates(items))
    assert "words" not in asked(model.calls[1][0])


def test_as_many_as_fit_are_fused_from_the_first_on() -> None:
    items = [Candidate(Problem("q"), (Step("so " * 40 + f"\\boxed{{{i}}}", "m", 1),)) for i in range(6)]
    counts = []
    for room in range(200, 480, 20):
        model = ScriptedModel(obliging)
        model.context_length = room
        last(Fuser(model, max_tokens=40), Candidates(tuple(items)))
        for batch in model.calls:
            assert [worth(text) for text in shown(batch[0])] == list(range(len(shown(batch[0]))))
            assert model.count(batch[0].context) + 40 <= room
        counts.append(max((len(shown(batch[0])) for batch in model.calls), default=0))
    assert counts == sorted(counts)
    assert {1, 2, 3, 4, 5, 6} <= set(counts)


class Late(ScriptedModel):
    """Like a server that tells the length of its context when it refuses a request."""

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(list(requests))
        if any(self.count(r.context) + r.max_tokens > 400 for r in requests):
            self.context_length = 400
            return [Completion("", "error", error="too long") for _ in requests]
        return [self._complete(request) for request in requests]


@pytest.mark.parametrize("make", [Critic, Ranker, Fuser])
def test_a_context_that_is_known_late_costs_one_call(make: Any) -> None:
    items = [Candidate(Problem("q"), (Step("so " * 40 + f"\\boxed{{{i}}}", "m", 1),)) for i in range(8)]
    model = Late(obliging)
    found = last(make(model, max_tokens=64), Candidates(tuple(items)))
    assert len(model.calls) == 2
    assert not [error for error in errors(found) if "could be made or read" in error]
    assert sum(len(shown(r)) for r in model.calls[1]) >= 3


# Unit tests.


def test_unit_tests_are_written_once_and_shown_to_all_who_come_after() -> None:
    model = ScriptedModel(obliging)
    problem = Problem("Name a number.", "p", meta={"level": 3})
    roots = Candidates.of(problem).repeat(2) + Candidates(
        (Candidate(problem, (Step("\\boxed{4}", "m", 1),), done=True),)
    )
    found = last(UnitTestGenerator(model), roots)
    assert [len(batch) for batch in model.calls] == [1]
    (tested,) = {c.problem for c in found}
    assert isinstance(tested, WithTests)
    assert tested.prompt.startswith("Name a number.\n\n")
    assert "- It has a number.\n- It is short." in tested.prompt
    assert tested.meta == {"level": 3, "statements": ("It has a number.", "It is short.")}
    assert (tested.id, tested.answers, tested.plain) == (problem.id, problem.answers, problem)
    assert [c.text for c in found] == ["", "", "\\boxed{4}"]
    assert as_asked(found).items == roots.items
    again = last(UnitTestGenerator(model), found)  # from the problem as it was asked
    assert asked(model.calls[0][0]) == asked(model.calls[1][0])
    assert again.items == found.items


def test_unit_tests_that_are_given_cost_nothing_and_those_that_cannot_be_read_are_none() -> None:
    model = ScriptedModel(["I cannot."])
    given_ones = Candidates.of(Problem("q", meta={"statements": ["It is 4."]}))
    assert "- It is 4." in last(UnitTestGenerator(model), given_ones)[0].problem.prompt
    assert not model.calls
    roots = Candidates.of(Problem("q"))
    assert last(UnitTestGenerator(model), roots).items == roots.items
    assert len(model.calls) == 2
    down = Broken()
    assert last(UnitTestGenerator(down), roots).items == roots.items
    assert len(down.calls) == 1


def test_answers_are_checked_against_the_unit_tests_that_their_writers_saw() -> None:
    """Two statements, of which a number passes the first where it is even and the second where it is over 5."""

    def evaluator(request: Request) -> str:
        n = worth(asked(request).split("Answer:\n")[1].split("\n\nUnit tests")[0])
        marks = ["Passed" if each else "Failed" for each in (n % 2 == 0, n > 5)]
        return "\n".join(f"Unit Test #{i}: [{mark}]" for i, mark in enumerate(marks, 1))

    model = ScriptedModel(instead(Unit_tests=evaluator))
    tested = last(UnitTestGenerator(model), Candidates.of(Problem("q")))[0].problem
    roots = Candidates(tuple(replace(c, problem=tested) for c in numbers(3, 7, 6, 4, 8)))
    judge = VerifierRecipe.named("unit-tests").make(model)
    found = last(Ranked(AsAsked(judge), top_k=4), roots)
    assert [(c.answer, c.score.value) for c in found if c.score] == [("6", 1.0), ("8", 1.0), ("7", 0.5), ("4", 0.5)]
    assert [len(batch) for batch in model.calls] == [1, 5]
    assert all("A good answer passes" not in asked(r) for r in model.calls[1])
    last(Ranked(judge, top_k=4), roots)
    assert all("A good answer passes" in asked(r) for r in model.calls[2])
    assert all("Unit Test #2: It is short." in asked(r) for batch in model.calls[1:] for r in batch)
    assert answers(last(Ranked(AsAsked(judge), first_k=1), roots)) == [6]
    assert [len(batch) for batch in model.calls[3:]] == [1, 1, 1]


# What the last layer comes to.


def test_the_last_layer_is_concluded() -> None:
    vote = conclude(numbers(3, 4, 4, None))
    assert (vote.answer, vote.confidence) == ("4", pytest.approx(2 / 3))
    best = conclude(Candidates((said("3", 1.0), said("4", 0.5), said("4", 0.5))))
    assert (best.answer, best.confidence) == ("3", pytest.approx(1 / 3))
    tied = conclude(Candidates((said("3", 1.0), said("5", 1.0), said("5", 1.0), said("4", 0.5))))
    assert (tied.answer, tied.confidence) == ("5", pytest.approx(1 / 2))
    alone = conclude(numbers(4, None))
    assert (alone.answer, alone.confidence) == ("4", None)
    stands = conclude(replace(numbers(3, 4, 4), answer="3", confidence=0.1))
    assert (stands.answer, stands.confidence) == ("3", 0.1)
    assert conclude(numbers(None)).answer is None
    assert conclude(Candidates()).answer is None


def test_of_free_texts_one_is_drawn_by_the_seed() -> None:
    """As published, where the last layer has several; false alarm once in 100,000."""
    problem = Problem("Write a line.", answers=FreeText())
    texts = "a rose", "a lily", "a tree"
    items = tuple(Candidate(problem, (Step(text, "m", 1),), done=True) for text in texts)
    chosen = Counter(conclude(Candidates(items, seed=seed)).answer for seed in range(300))
    assert set(chosen) == set(texts)
    assert chisquare(list(chosen.values())).pvalue > 1e-5


def test_what_several_components_passed_on_is_there_once() -> None:
    roots = numbers(3, 4, 4)
    new = numbers(7, 7)
    told = replace(roots[1], score=Score(math.nan, error="no new response"))
    failed = Candidates((Candidate(Problem("q"), failed="down"), Candidate(Problem("q"), failed="down")))
    found = distinct(roots + new + roots + Candidates((told,)) + failed)
    assert found.items == (*roots, *new, *failed)


# Configs.


def config(*components: Mapping[str, Any], samples: int = 4) -> dict[str, Any]:
    """One generator, and each of these in a layer of its own."""
    first = {"type": "generator", "model": "a", "samples": samples}
    return {"name": "test", "layers": [[first], *([dict(component)] for component in components)]}


def names_of(graph: Graph) -> list[str]:
    return list(graph.nodes)


def read(tmp_path: Path, given: object, models: Any = None) -> Graph:
    path = tmp_path / "c.json"
    path.write_text(given if isinstance(given, str) else json.dumps(given))
    return from_archon(path, models or ScriptedModel(obliging))


def test_a_seven_layer_config_runs_end_to_end() -> None:
    """Worked by hand: the ranker keeps the four highest of six numbers, each of three fusers gives their sum."""
    editor, first, second = (ScriptedModel(obliging, name=name) for name in ("editor", "writer-a", "writer-b"))
    graph = from_archon(EXAMPLE, {model.name: model for model in (editor, first, second)})
    assert names_of(graph) == [
        "1-unit_test_generator",
        "2-generator-1",
        "2-generator-2",
        "3-critic",
        "4-ranker",
        "5-fuser-1",
        "5-fuser-2",
        "5-distinct",
        "6-verifier",
        "7-unit_test_evaluator",
        "conclude",
    ]
    problem = Problem("Name a number.", "p")
    events: list[Event] = []
    result = solve(problem, graph, seed=3, trace=events.append)
    writers = [r for model in (first, second) for batch in model.calls for r in batch if not sign_of(r)]
    drawn_numbers = [1 + r.seed % 9 for r in writers]
    assert len(drawn_numbers) == 6
    assert result.answer == str(sum(sorted(drawn_numbers)[-4:]))
    # The three fusions say the same, so the verifier is asked about one, and the tests are evaluated once.
    calls = [e for e in events if isinstance(e, Generated)]
    assert [(e.path[0], e.model, len(e.completions)) for e in calls if e.path[0] not in ("6-verifier",)] == [
        ("1-unit_test_generator", "editor", 1),
        ("2-generator-1", "writer-a", 3),
        ("2-generator-2", "writer-b", 3),
        ("3-critic", "editor", 1),
        ("4-ranker", "editor", 1),
        ("5-fuser-1", "editor", 2),
        ("5-fuser-2", "writer-a", 1),
        ("7-unit_test_evaluator", "editor", 1),
    ]
    assert [len(e.completions) for e in calls if e.path[0] == "6-verifier"] == [1, 1]
    assert all("- It is short." in asked(r) for r in writers)
    assert {plain(c.problem) for c in result.candidates} == {problem}
    assert all(type(c.problem) is Problem for c in result.candidates)
    assert result.solution is not None
    assert result.solution.score == Score(1.0)


def test_the_same_model_for_all_names_and_a_function_of_the_name() -> None:
    one = ScriptedModel(obliging)
    opened: list[str] = []

    def open_one(name: str) -> ScriptedModel:
        opened.append(name)
        return one

    there = solve("q", from_archon(EXAMPLE, one), seed=2)
    back = solve("q", from_archon(str(EXAMPLE), open_one), seed=2)
    assert (there.answer, there.tokens) == (back.answer, back.tokens)
    assert sorted(opened) == ["editor", "writer-a", "writer-b"]  # each once


def test_fields_become_the_parts_and_what_is_missing_has_the_published_defaults() -> None:
    model = ScriptedModel(obliging, name="m")
    full = {"model_type": "vLLM", "temperature": 0.2, "max_tokens": 99, "samples": 3, "top_k": 2, "no_system": True}
    graph = graph_of(
        {
            "layers": [
                [{"type": "unit_test_generator", "model": "a", **full, "unit_test_cap": 5}],
                [{"type": "generator", "model": "a", **full}, {"type": "generator", "model": "b"}],
                [{"type": "critic", "model": "a", **full}],
                [{"type": "ranker", "model": "a", **full, "use_critiques": False, "ranker_batch_size": 16}],
                [{"type": "fuser", "model": "a", **full, "length_control": True}],
                [{"type": "verifier", "model": "a", **full, "first_k": 1, "batch_num": 2}],
                [{"type": "unit_test_evaluator", "model": "a", **full, "first_pass": True, "first_k": None}],
            ]
        },
        model,
    )
    sampled = {"temperature": 0.2, "max_tokens": 99}
    judge = replace(VerifierRecipe.named("unit-tests").make(model), max_tokens=99)
    assert [node.part for node in graph.nodes.values()] == [
        UnitTestGenerator(model, 5, **sampled),  # type: ignore[arg-type]
        BestOfN(whole(model, **sampled), n=3, max_steps=1),  # type: ignore[arg-type]
        BestOfN(whole(model, temperature=0.7, max_tokens=2048), n=1, max_steps=1),
        Critic(model, **sampled),  # type: ignore[arg-type]
        Ranker(model, 2, False, **sampled),  # type: ignore[arg-type]
        Fuser(model, 3, True, **sampled),  # type: ignore[arg-type]
        Filter(ReasonedVerdict(model, **sampled), first_k=1),  # type: ignore[arg-type]
        Ranked(judge, top_k=2, first_k=1),
        conclude,
    ]
    bare = graph_of(
        config(*({"type": kind, "model": "a"} for kind in ("critic", "ranker", "fuser", "verifier"))), model
    )
    assert [node.part for node in list(bare.nodes.values())[1:-1]] == [
        Critic(model),
        Ranker(model),
        Fuser(model),
        Filter(ReasonedVerdict(model)),
    ]


def test_the_older_form_of_layers() -> None:
    """An object with models and branches; ITAS writes max_context_length for max_tokens, and a save_path."""
    model = ScriptedModel(obliging)
    graph = graph_of(
        {
            "name": "old",
            "save_path": "x.json",
            "custom": False,
            "layers": [
                {
                    "branches": 1,
                    "models": [{"type": "generator", "model": "a", "max_context_length": 77, "samples": 3}],
                },
                {"models": [{"type": "critic", "model": "a", "top_k": 3, "max_context_length": 88}]},
                {
                    "branches": 2,
                    "models": [{"type": "fuser", "model": "a", "samples": 2}, {"type": "fuser", "model": "b"}],
                },
            ],
        },
        model,
    )
    assert [node.part for node in graph.nodes.values()] == [
        BestOfN(whole(model, temperature=0.7, max_tokens=77), n=3, max_steps=1),
        Critic(model, max_tokens=88),
        Fuser(model, samples=4),
        Fuser(model, samples=2),
        distinct,
        conclude,
    ]


def test_any_registered_verifier_can_be_named() -> None:
    model, reward = ScriptedModel(obliging, name="m"), ScriptedReward(name="r")
    listed = Listed({"1": 1.0})
    models = {"a": model, "llm-blender/PairRM": reward, "own": listed}

    def part(**fields: Any) -> object:
        return list(graph_of(config({"model": "a", **fields}), models).nodes.values())[1].part

    make = {name: VerifierRecipe.named(name).make for name in ("pairwise", "prm", "self-check", "agreement", "judge")}
    assert part(type="ranker", verifier="pairwise", options={"most": 5}, top_k=2) == Ranked(
        make["pairwise"](model, most=5), 2
    )
    assert part(type="ranker", model="llm-blender/PairRM", top_k=2) == Ranked(make["prm"](reward), 2)
    assert part(type="ranker", model="own", top_k=2) == Ranked(listed, 2)
    assert part(type="ranker", verifier="agreement") == Ranked(make["agreement"]())
    assert part(type="verifier", verifier="self-check", threshold=0.7) == Filter(make["self-check"](model), 0.7)
    assert part(type="verifier", model="own", first_k=1) == Filter(listed, first_k=1)
    assert part(type="verifier", model="llm-blender/PairRM") == Filter(make["prm"](reward))
    tested = [
        {"type": "unit_test_generator", "model": "a"},
        {"type": "unit_test_evaluator", "model": "a", "options": {"most": 3}},
    ]
    evaluator = list(graph_of(config(*tested), models).nodes.values())[2].part
    assert evaluator == Ranked(VerifierRecipe.named("unit-tests").make(model, most=3))


G = {"type": "generator", "model": "a"}
C = {"type": "critic", "model": "a"}
F = {"type": "fuser", "model": "a"}
R = {"type": "ranker", "model": "a"}
V = {"type": "verifier", "model": "a"}
T = {"type": "unit_test_generator", "model": "a"}
E = {"type": "unit_test_evaluator", "model": "a"}


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (
            [[G], [{**F, "lenght_control": True}]],
            r"c.json, layer 2, component 1 \(fuser\): unknown field 'lenght_control'; did you mean 'length_control'\?",
        ),
        (
            [[G], [F, {"type": "fusor", "model": "a"}]],
            r"component 2: unknown type 'fusor'; did you mean 'fuser'\? Known: generator, fuser, critic, ranker, verifier, ",
        ),
        ([[{"model": "a"}]], "layer 1, component 1: it has no type; known types: generator"),
        ([[{"type": "generator"}]], r"layer 1, component 1 \(generator\): it has no model"),
        ([[{**G, "model": ""}]], 'model=""; a text that is not empty'),
        (
            [[{**G, "temperature": "hot"}]],
            r'layer 1, component 1 \(generator\): temperature="hot"; a number, 0 or more',
        ),
        ([[{**G, "temperature": -1}]], "temperature=-1; a number"),
        ([[{**G, "temperature": True}]], "temperature=true; a number"),
        ([[{**G, "samples": 0}]], "samples=0; a whole number, 1 or more"),
        ([[{**G, "samples": 2.5}]], "samples=2.5; a whole number"),
        ([[{**G, "max_tokens": True}]], "max_tokens=true; a whole number"),
        ([[G], [{**F, "length_control": 1}]], "length_control=1; true or false"),
        ([[G], [{**R, "verifier": "prm", "options": 3}]], "options=3; an object with the verifier's options"),
        ([[G], [{**R, "options": {}}]], "options are those of a verifier; name it"),
        ([[G], [{**C, "first_k": 1}]], r"layer 2, component 1 \(critic\): unknown field 'first_k'"),
        ([], r"c.json: layers=\[\]; a list of layers is needed"),
        ([[]], r"layer 1: a list of components is needed, not \[\]"),
        ([G], r"layer 1: unknown field 'type'. Known: models, branches"),
        (["generator"], 'layer 1: a list of components is needed, not "generator"'),
        ([["generator"]], 'layer 1, component 1: an object with type and model is needed, not "generator"'),
        ([{"models": [G], "branches": 0}], "layer 1: branches=0; a whole number, 1 or more"),
        ([[G], {"models": [C], "branches": 2}, [F]], "branches=2 multiplies samples, and a critic makes none"),
        (
            [[G], [G]],
            r"layer 2, component 1 \(generator\): generators make the first candidates, and stand in one layer alone",
        ),
        ([[G, F]], r"component 2 \(fuser\): it cannot share a layer with a generator"),
        ([[G], [F, R]], r"component 2 \(ranker\): it cannot share a layer with a fuser"),
        ([[G], [V, V]], r"component 2 \(verifier\): it cannot share a layer with a verifier"),
        ([[F]], r"layer 1, component 1 \(fuser\): there are no candidates yet; the first layer is of generators"),
        ([[T], [R], [G]], "layer 2, component 1 .ranker.: there are no candidates yet"),
        ([[T]], "c.json: no layer has a generator"),
        ([[G], [C]], r"layer 2, component 1 \(critic\): no ranker or fuser comes after it"),
        ([[G], [F], [C], [V]], r"layer 3, component 1 \(critic\): no ranker or fuser comes after it"),
        ([[G], [E]], r"layer 2, component 1 \(unit_test_evaluator\): no unit_test_generator comes before it"),
        (
            [[G], [{**R, "verifier": "pairwize"}]],
            r"layer 2, component 1 \(ranker\): no verifier 'pairwize'; did you mean 'pairwise'",
        ),
        (
            [[G], [{**R, "verifier": "pairwise", "options": {"mots": 1}}]],
            r"\(ranker\): verifier pairwise has no option 'mots'; it has: most, rank",
        ),
        (
            [[G], [{**R, "verifier": "pairwise", "options": {"rank": "x"}}]],
            r"layer 2, component 1 \(ranker\): no rank 'x'",
        ),
        (
            [[G], [{**V, "verifier": "prm"}]],
            r"\(verifier\): verifier prm needs a RewardModel for its role 'prm', and ScriptedModel",
        ),
        (
            [[G], [{**V, "verifier": "pairwise", "first_k": 1}]],
            r"component 1 \(verifier\): Filter: Pairwise compares the cand",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, layers: list[Any], told: str) -> None:
    model = ScriptedModel(obliging)
    with pytest.raises(BadInput, match=told) as error:
        read(tmp_path, {"name": "x", "layers": layers}, model)
    assert "\n" not in str(error.value)
    assert not model.calls


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{", r"c.json' is no JSON: "),
        ("[]", r"c.json': an object with layers is needed, not \[\]"),
        (
            '{"layers": [[{"type": "generator", "model": "a"}]], "layer": 1}',
            "unknown field 'layer'; did you mean 'layers'",
        ),
        ('{"name": 3, "layers": []}', "c.json: name=3; a text is needed"),
        ('{"layers": {"a": 1}}', "layers=.*; a list of layers is needed"),
        ("{}", "layers=null"),
    ],
)
def test_what_is_no_config(tmp_path: Path, given: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        read(tmp_path, given)


def test_files_and_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nope.json' cannot be read: No such file"):
        from_archon(tmp_path / "nope.json", ScriptedModel())
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="is no JSON"):
        from_archon(tmp_path / "binary.json", ScriptedModel())
    with pytest.raises(BadInput, match=r"component 1 \(generator\): no model for 'a'; models has 'b', 'c'"):
        graph_of(config(), {"b": ScriptedModel(), "c": ScriptedModel()})
    for wrong in (lambda name: None, 3, lambda name: ScriptedModel, {"a": "lab/small"}):
        with pytest.raises(BadInput, match=r"for 'a' models gives .*, which is no model"):
            graph_of(config(), wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"\(critic\): 'b' is .*, which writes nothing; give a model"):
        graph_of(config({**C, "model": "b"}, F), {"a": ScriptedModel(), "b": ScriptedReward()})
    with pytest.raises(BadInput, match=r"needs a Model for its role 'judge'"):
        graph_of(config({**R, "model": "b", "verifier": "pairwise"}), {"a": ScriptedModel(), "b": ScriptedReward()})


def test_a_verifier_of_ones_own_in_a_file(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from reasonweave.orchestrator import Candidate, Score\n"
        "class Even:\n"
        "    async def score(self, candidates, run):\n"
        "        return [Score(float(int(c.answer) % 2 == 0)) for c in candidates]\n"
        "def rule(candidate: Candidate) -> float:\n"
        "    return 1.0\n"
    )
    model = ScriptedModel(obliging)
    graph = graph_of(config({**V, "verifier": f"{own}:Even"}), model)
    assert answers(last(graph.nodes["2-verifier"].part, numbers(1, 2, 3, 4))) == [2, 4]  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="is a plain function; name a Rule of it"):
        graph_of(config({**V, "verifier": f"{own}:rule"}), model)


# Whole configs: promises, budgets, failures.


@pytest.mark.parametrize("script", [obliging, reasoner], ids=["obliging", "deaf"])
def test_configs_keep_a_strategys_promises(script: Callable[[Request], str], problem: Problem) -> None:
    for strategy in (archon(ScriptedModel(script)), from_archon(EXAMPLE, ScriptedModel(script))):
        check_strategy(strategy, problem, budgets=(0, 1, 50, 300, 1000, 2000, 4000))


def test_each_component_keeps_them_alone(problem: Problem) -> None:
    model = ScriptedModel(obliging)
    samples = BestOfN(whole(model, max_tokens=30), n=3, max_steps=1)
    judge = VerifierRecipe.named("unit-tests").make(model)
    for part in (
        Critic(model),
        Ranker(model, 2),
        Ranked(judge, 1, first_k=1),
        Filter(ReasonedVerdict(model), first_k=1),
        Fuser(model, 2),
        UnitTestGenerator(model),
    ):
        check_strategy(chain(samples, part, majority), problem, budgets=(0, 1, 60, 200, 400))


def test_an_answer_comes_with_any_budget_that_has_room_for_one() -> None:
    """What an unlimited run answers comes as soon as nothing is cut short."""
    model = ScriptedModel(obliging)
    free = solve("q", from_archon(EXAMPLE, model), seed=1)
    whole_run = 0
    for tokens in range(1200, 9000, 300):
        result = solve("q", from_archon(EXAMPLE, model), seed=1, budget=Budget(tokens=tokens))
        assert result.tokens <= tokens
        assert result.answer is not None
        assert result.stopped is not None or result.answer == free.answer
        whole_run += result.stopped is None
    assert whole_run > 0


def test_where_the_editor_cannot_be_paid_the_writers_vote() -> None:
    editor = ScriptedModel(obliging, name="editor", role="large")
    writers = ScriptedModel(lambda r: obliging(r) if sign_of(r) else f"\\boxed{{{r.seed % 2}}}", name="w")
    models = {"editor": editor, "writer-a": writers, "writer-b": writers}
    graph = from_archon(EXAMPLE, lambda name: models[name])
    result = solve("q", graph, seed=1, budget=Budget(large=Budget(tokens=0)))
    assert not editor.calls
    assert result.stopped is not None
    assert [sign_of(r) for batch in writers.calls for r in batch] == [""] * 6 + ["Write one response"]
    (fused,) = [r for batch in writers.calls for r in batch if sign_of(r)]
    old = [worth(text) for text in shown(fused)]
    votes = Counter([*old, sum(old)])  # the fusion votes too
    assert sorted(answers(result.candidates)) == sorted(votes.elements())
    assert votes[int(result.answer or -1)] == max(votes.values())


def test_one_generator_of_two_and_every_judge_may_fail() -> None:
    for broken in ("writer-b", "editor"):
        models = {name: ScriptedModel(obliging, name=name) for name in ("editor", "writer-a", "writer-b")}
        models[broken] = Broken(name=broken)
        result = solve("q", from_archon(EXAMPLE, models), seed=4)
        assert result.answer is not None
        assert "down" in result.errors
        wrote = [r for batch in models["writer-a"].calls for r in batch if not sign_of(r)]
        assert len(wrote) == 3
        if broken == "writer-b":
            assert result.answer == str(sum(1 + r.seed % 9 for r in wrote))  # a ranking of three keeps all


def test_a_layer_whose_fusers_all_fail_passes_one_candidate_on() -> None:
    model = ScriptedModel(instead(Write_one="?"))
    two = {"name": "x", "layers": [[{**G, "samples": 5}], [F, F], [V]]}
    events: list[Event] = []
    result = solve("q", graph_of(two, model), seed=2, trace=events.append)
    votes = Counter(1 + r.seed % 9 for r in model.calls[0])
    assert len(result.candidates) == 1
    assert votes[int(result.answer or 0)] == max(votes.values())
    assert errors(result.candidates) == ["no new response could be made or read"]
    asked_for = [e.path[0] for e in events if isinstance(e, Generated)]
    assert asked_for.count("2-fuser-1") == asked_for.count("2-fuser-2") == 2
    assert "3-verifier" not in asked_for  # one alone is not verified


def test_the_text_of_a_config_is_the_whole_of_it() -> None:
    """Each field of it that has a meaning shows in the graph's repr, which is the same for the same config."""
    model = ScriptedModel(obliging)
    given = json.loads(EXAMPLE.read_text())
    text = repr(from_archon(EXAMPLE, model))
    assert text == repr(graph_of(copy.deepcopy(given), model))
    inert = {
        "generator": {"top_k"},
        "critic": {"samples", "top_k"},
        "ranker": {"samples"},
        "fuser": {"top_k"},
        "verifier": {"samples", "top_k"},
        "unit_test_generator": {"samples", "top_k"},
        "unit_test_evaluator": {"samples", "temperature", "unit_test_cap"},
    }
    skipped = {"type", "model", "model_type", "no_system", "ranker_batch_size", "batch_num", "max_context_length"}
    other = {
        "temperature": 0.33,
        "max_tokens": 333,
        "samples": 33,
        "top_k": 33,
        "first_k": 33,
        "unit_test_cap": 33,
        "threshold": 0.33,
        "use_critiques": False,
        "length_control": False,
        "remove_unit_tests_from_prompt": False,
        "first_pass": True,
        "verifier": "self-check",
        "options": {"most": 33},
    }
    for at, layer in enumerate(given["layers"]):
        for field_name in set(FIELDS[layer[0]["type"]]) - skipped:
            changed = copy.deepcopy(given)
            changed["layers"][at][0][field_name] = other[field_name]
            if field_name == "options" and layer[0]["type"] != "unit_test_evaluator":
                changed["layers"][at][0]["verifier"] = "pairwise"
            same = repr(graph_of(changed, model)) == text
            assert same == (field_name in inert[layer[0]["type"]]), (layer[0]["type"], field_name)


def test_the_preset(tmp_path: Path) -> None:
    model = ScriptedModel(obliging, name="large")
    without = archon(model)
    assert isinstance(without, Graph)
    assert names_of(without) == ["1-generator", "2-critic", "3-ranker", "4-fuser", "conclude"]
    result = solve("q", without, seed=5)
    assert result.answer == str(sum(sorted(1 + r.seed % 9 for r in model.calls[0])[-3:]))
    assert [len(batch) for batch in model.calls] == [6, 1, 1, 1]
    assert repr(archon(model, config=str(EXAMPLE))) == repr(from_archon(EXAMPLE, model))
    with pytest.raises(BadInput, match="cannot be read"):
        archon(model, config=str(tmp_path / "none.json"))


def test_on_the_lab_whose_models_know_no_english_the_vote_decides() -> None:
    model = open_model("lab/small")
    first = Graph()
    part = BestOfN(whole(model, temperature=0.7, max_tokens=160), n=4, max_steps=1)
    first.add("vote", majority, after=first.add("1-generator", part))
    sampled = {"model": "m", "max_tokens": 160}
    layers = [{**sampled, "type": "ranker", "top_k": 4}, {**sampled, "type": "fuser"}]
    whole_config = {"layers": [[{**sampled, "type": "generator", "samples": 4}], *([layer] for layer in layers)]}
    problem = Problem("Start with 3. A: Add 4. B: Multiply the result of A by 2. What is the result?", "p")
    vote = solve(problem, first, seed=6)
    result = solve(problem, graph_of(whole_config, model), seed=6)
    assert result.answer == vote.answer
    assert result.confidence == vote.confidence
