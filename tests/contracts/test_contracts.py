"""Laws tested over everything that is registered: a new part gets these tests by its entry point."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from reasonweave.orchestrator import (
    Candidate,
    Candidates,
    Completion,
    Model,
    Problem,
    Request,
    RewardModel,
    Run,
    Score,
    Verifier,
    testing,
)
from reasonweave.orchestrator.registry import VerifierRecipe, Workflow, names
from reasonweave.orchestrator.sandbox import Sandbox
from reasonweave.orchestrator.testing import (
    ContractBroken,
    ScriptedModel,
    ScriptedReward,
    check_model,
    check_policy,
    check_strategy,
    check_verifier,
)
from reasonweave.orchestrator.types import DELIMITER, Step, Token
from reasonweave.strategies import Sample, whole
from reasonweave.verifiers import PrefixReward, ProcessReward, UtilityDigit


def build(name: str) -> Any:
    """A workflow over scripted models, whatever roles it asks for."""
    workflow = Workflow.named(name)
    parts: dict[str, Any] = {}
    for role, kind in workflow.roles.items():
        if kind is Model:
            parts[role] = ScriptedModel(name=role)
        else:
            assert kind is Verifier, f"{name}: what is a {kind}?"
            parts[role] = ProcessReward(ScriptedReward(name=role))
    return workflow.make(**parts)


@pytest.mark.parametrize("name", names("workflow"))
def test_every_workflow_keeps_its_promises(name: str, problem: Problem) -> None:
    check_strategy(build(name), problem)


def test_models_keep_theirs() -> None:
    check_model(ScriptedModel())


@pytest.mark.parametrize("policy", [Sample(ScriptedModel()), whole(ScriptedModel())], ids=["step", "whole"])
def test_policies_keep_theirs(policy: Sample, problem: Problem) -> None:
    check_policy(policy, problem)


def judge(request: Request) -> str:
    """Answers each verifier's question in the form that it asks for; what it says depends on what it is shown."""
    shown = "\n".join(m.content for m in request.context.messages) + request.context.prefix
    mark = len(shown) % 10
    for sign, reply in (
        ("Unit Test #1", "Unit Test #1: [Passed]\nUnit Test #2: [Failed]"),
        ("unit tests for the answer", '["It has a number.", "It is short."]'),
        ("assert", "```python\nassert solve(2) == 4\nassert solve(3) == 9\n```"),
        ("was replaced by", f"\\boxed{{{mark}}}"),
        (
            '"met"',
            json.dumps({"constraints": [{"met": True, "why": ""}, {"met": False, "why": ""}], "score": 10 * mark}),
        ),
        ("List the constraints", '{"constraints": ["It is right.", "It is short."]}'),
        ("Grade the solution", json.dumps({"result": mark, "steps": 3, "complete": 9})),
        ("digit", str(mark)),
        ("True or False", ("True", "False")[mark % 2]),
        ("The last step above is (", "AB"[mark % 2]),
        ("[A] and [B]", "AB"[mark % 2]),
    ):
        if sign in shown:
            return reply
    return "7"


PROGRAMS = ("def solve(n):\n    return n * n", "def solve(n):\n    return 4", "print(1)")


def judgeable(name: str, problem: Problem) -> list[Candidate]:
    """Candidates that a verifier can judge: programs for those that run them, solutions for all others."""
    if name in ("code", "assert-tests"):
        problem = Problem("Write solve(n).", meta={"tests": ["assert solve(2) == 4", "assert solve(3) == 9"]})
        texts = [f"```python\n{program}\n```" for program in PROGRAMS]
    else:
        problem = Problem("What is 1 + 1?")
        texts = ["1 + 1 = 2\n\nso \\boxed{2}", "1 + 1 = 3\n\nso \\boxed{3}", "\\boxed{2}"]
    told = (Token("x", -0.5, (("x", -0.5), ("y", -1.0))), Token("y", -1.0, (("y", -1.0), ("x", -2.0))))
    made = []
    for text in texts:
        parts = text.split(DELIMITER)
        steps = [Step(part + DELIMITER, "m", 2, -1.5, told) for part in parts[:-1]] + [
            Step(parts[-1], "m", 2, -1.5, told)
        ]
        made.append(Candidate(problem, tuple(steps), done=True))
    return made


def verifier_of(name: str) -> Verifier:
    """A registered verifier over scripted models."""
    recipe = VerifierRecipe.named(name)
    parts = {
        role: ScriptedReward() if kind is RewardModel else ScriptedModel(judge) for role, kind in recipe.roles.items()
    }
    return recipe.make(**parts)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", names("verifier"))
def test_every_verifier_keeps_its_promises(name: str, problem: Problem) -> None:
    if name == "formal":
        pytest.skip("needs Lean; tests/verifiers/test_formal.py checks it against a stand-in")
    if name in ("code", "assert-tests") and not Sandbox().probe().whole:
        pytest.skip("no whole sandbox here")
    check_verifier(verifier_of(name), problem, candidates=judgeable(name, problem))


@pytest.mark.parametrize("name", names("verifier"))
def test_every_verifier_says_what_it_is_costs_and_needs(name: str) -> None:
    recipe = VerifierRecipe.named(name)
    assert 20 < len(recipe.summary) < 140
    assert recipe.told("Costs")
    assert all(kind in (Model, RewardModel) for kind in recipe.roles.values())


@pytest.mark.parametrize(
    "verifier",
    [PrefixReward(ScriptedReward()), ProcessReward(ScriptedReward()), UtilityDigit(ScriptedModel(["7"]))],
    ids=["prefix", "prm", "digit"],
)
def test_verifiers_keep_theirs(verifier: Verifier, problem: Problem) -> None:
    check_verifier(verifier, problem)


# The checks themselves must be able to fail.


class Liar(ScriptedModel):
    """Claims fewer prompt tokens than it uses."""

    def count(self, context: Any) -> int:
        return 1

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        answers = await super()._generate(requests)
        return [Completion(a.text, a.finish_reason, self.rates.price(prompt=50, completion=2)) for a in answers]


class Moody(ScriptedModel):
    """Answers differently every time."""

    def __init__(self) -> None:
        super().__init__([str(i) for i in range(100)])


@pytest.mark.parametrize("model", [Liar(), Moody()], ids=["liar", "moody"])
def test_a_bad_model_is_caught(model: Model) -> None:
    with pytest.raises(ContractBroken):
        check_model(model)


@dataclass(frozen=True)
class Rewriter:
    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        return list(candidates[:2])


def test_a_bad_policy_is_caught(problem: Problem) -> None:
    with pytest.raises(ContractBroken, match="3 candidates became 2"):
        check_policy(Rewriter(), problem)


@dataclass(frozen=True)
class Positional:
    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(float(i)) for i in range(len(candidates))]


def test_a_bad_verifier_is_caught(problem: Problem) -> None:
    with pytest.raises(ContractBroken, match="order"):
        check_verifier(Positional(), problem)


@dataclass(frozen=True)
class Forgetful:
    """Gives another result on every run."""

    model: Model
    seen: list[int] = field(default_factory=list)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        self.seen.append(1)
        await Sample(self.model).extend(list(roots), run.child("x", len(self.seen)))
        yield roots.repeat(len(self.seen))


def test_a_bad_strategy_is_caught(problem: Problem) -> None:
    with pytest.raises(ContractBroken, match="same seed"):
        check_strategy(Forgetful(ScriptedModel()), problem)


@dataclass(frozen=True)
class Faulty:
    """A verifier with one fault."""

    fault: str
    highest: float = 1.0
    seen: list[int] = field(default_factory=list)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.seen.append(1)
        if self.fault == "moody":
            return [Score(1 / len(self.seen))] * len(candidates)
        if self.fault == "company":
            return [Score(1 / (1 + len(candidates)))] * len(candidates)
        values = {"high": 2.0, "nan": math.nan}.get(self.fault, 0.5)
        return [Score(values)] * (len(candidates) - (self.fault == "short"))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("moody", "other scores the second time"),
        ("company", "scores depend on the other candidates; a verifier that compares has relative = True"),
        ("high", "gave a score of 2, outside -inf to 1"),
        ("nan", "gave nan without saying why"),
        ("short", "3 candidates got"),
    ],
)
def test_each_fault_of_a_verifier_is_caught(fault: str, told: str, problem: Problem) -> None:
    with pytest.raises(ContractBroken, match=told):
        check_verifier(Faulty(fault), problem)


def test_one_that_will_not_be_cancelled_is_caught(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "PATIENT", 0.1)

    @dataclass(frozen=True)
    class Stubborn:
        async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
            end = asyncio.get_running_loop().time() + 0.5
            while candidates and asyncio.get_running_loop().time() < end:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
            return [Score(0.5)] * len(candidates)

    with pytest.raises(ContractBroken, match="after it was cancelled"):
        check_verifier(Stubborn(), problem)
