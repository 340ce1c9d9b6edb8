"""Every workflow on a real chat model that writes English prose. Run with `make test-english`.

The model (SmolLM2-135M-Instruct, from the package registry) can hardly calculate. It plays every role: it samples, it redoes, it
judges. What is checked is what a good model would not change: records, usage, traces, steps and budgets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import modest

from reasonweave.orchestrator import Budget, Candidate, Context, Ledger, Model, Run, Sampling, Score, Usage, asolve
from reasonweave.orchestrator._sync import wait
from reasonweave.orchestrator.models.launch import running
from reasonweave.orchestrator.models.roles import RoleSpec
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.registry import Workflow, names
from reasonweave.orchestrator.scoring import range_of, scored
from reasonweave.orchestrator.trace import Event, Generated, Rated
from reasonweave.orchestrator.types import DELIMITER
from reasonweave.strategies import Sample
from reasonweave.tasks.evaluation.records import Header, Log, Record
from reasonweave.tasks.evaluation.runner import evaluate
from reasonweave.tasks.jsonl import JsonlTask
from reasonweave.tasks.opening import fill
from reasonweave.verifiers import (
    BrainstormedCheck,
    Constraints,
    Pairwise,
    RoundTrip,
    Rubric,
    SelfCheck,
    SelfEvaluation,
    StatementTests,
    Tournament,
    UtilityDigit,
)

FOLDER = Path(os.environ.get("REASONWEAVE_ENGLISH", ""))
pytestmark = pytest.mark.english
if not (FOLDER / "config.json").exists():
    pytest.skip("no English model here: run with `make test-english`", allow_module_level=True)

TASK = JsonlTask(Path(__file__).with_name("problems.jsonl"))
EXAMPLES = TASK.examples(2)
CEILING = 96


@pytest.fixture(scope="session")
def served() -> Iterator[RoleSpec]:
    options = {"dtype": "bfloat16", "enforce-eager": True, "max-model-len": 2048, "block-size": 32}
    with running({"small": RoleSpec(model=str(FOLDER), active=1.35e8, vllm=options)}, print) as found:
        yield found["small"]


@pytest.fixture(scope="session")
def roles(served: RoleSpec) -> Iterator[dict[str, Model]]:
    opened = {role: served.open(role) for role in ("small", "large", "prm")}
    yield opened  # type: ignore[misc]
    for model in opened.values():
        wait(model.aclose())


def made(workflow: Workflow, roles: dict[str, Model]) -> Strategy:
    """The workflow with this model in each role; as a judge where a verifier is asked for."""
    return workflow.make(
        **fill(workflow, roles), **modest(workflow, n=2, max_tokens=CEILING, max_steps=6, expansions=6)
    )


@pytest.mark.parametrize("name", names("workflow"))
def test_every_workflow_keeps_true_records(name: str, roles: dict[str, Model], tmp_path: Path) -> None:
    workflow = Workflow.named(name)
    header = Header(
        workflow=name, strategy="", options={}, task=TASK.name, limit=None, seed=1, budget="", models={}, packages={}
    )
    log = Log(tmp_path / "records.jsonl", header)
    records = wait(
        evaluate(made(workflow, roles), EXAMPLES, budget=None, seed=1, connections=5, log=log, done=lambda record: None)
    )
    log.close()
    kept = [Record.model_validate_json(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()[1:]]
    assert sorted(kept, key=lambda record: record.index) == records
    for record, example in zip(records, EXAMPLES, strict=True):
        assert record.error is None
        assert (record.id, record.target) == (example.problem.id, example.target)
        assert record.answer is not None or record.abstained
        assert record.solution
        spent = Usage.total([call.usage for call in record.calls])
        assert spent == Usage.total(list(record.model_usage.values()))
        assert 0 < spent.completion <= spent.tokens
        assert spent.flops == pytest.approx(2 * 1.35e8 * (spent.tokens - spent.cached))


@pytest.mark.parametrize("name", names("workflow"))
def test_every_workflow_keeps_to_a_budget(name: str, roles: dict[str, Model]) -> None:
    flow = made(Workflow.named(name), roles)
    for limit in (500,):
        events: list[Event] = []
        result = wait(asolve(EXAMPLES[0].problem, flow, budget=Budget(tokens=limit), seed=2, trace=events.append))
        assert result.errors == ()
        assert 0 < result.tokens <= limit
        calls = [event for event in events if isinstance(event, Generated | Rated)]
        assert Usage.total([event.usage for event in calls]) == result.total


def test_paragraphs_are_steps_and_the_text_goes_on(roles: dict[str, Model]) -> None:
    policy = Sample(roles["small"], temperature=0.0, max_tokens=CEILING)

    async def write(run: Run) -> Candidate:
        candidate = Candidate(EXAMPLES[0].problem)
        for step in range(4):
            (candidate,) = await policy.extend([candidate], run.child(step))
            if candidate.done:
                break
        return candidate

    candidate = wait(write(Run(3)))
    assert candidate.text.strip()
    assert "<|im_" not in candidate.text
    assert all(step.text.count(DELIMITER) <= 1 and step.tokens > 0 for step in candidate.steps)
    whole = Sampling(temperature=0.0, max_tokens=sum(step.tokens for step in candidate.steps))
    (once,) = wait(roles["small"].generate([Context(candidate.problem.messages)], Run(4), sampling=whole))
    assert candidate.text.startswith(once.text) or once.text.startswith(candidate.text)


JUDGES: dict[str, Callable[[Model], Verifier]] = {
    "digit": UtilityDigit,
    "self-check": SelfCheck,
    "brainstormed": BrainstormedCheck,
    "self-evaluation": lambda model: SelfEvaluation(model, 1.0),
    "pairwise": Pairwise,
    "tournament": Tournament,
    "rubric": lambda model: Rubric(model, max_tokens=CEILING),
    "constraints": lambda model: Constraints(model, max_tokens=CEILING),
    "unit-tests": lambda model: StatementTests(model, max_tokens=CEILING),
    "round-trip": lambda model: RoundTrip(model, 2, max_tokens=CEILING),
}


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_that_would_rather_talk_gives_a_score_or_says_why_not(roles: dict[str, Model], name: str) -> None:
    verifier = JUDGES[name](roles["large"])
    lowest, highest = range_of(verifier)

    async def judged() -> list[Score]:
        run = Run(5, ledger=Ledger())
        policy = Sample(roles["small"], until=None, max_tokens=CEILING)
        candidates = await policy.extend([Candidate(EXAMPLES[0].problem)] * 3, run.child("write"))
        scores = await scored(verifier, candidates, run.child("judge"))
        assert run.ledger.held == Usage()
        return scores

    for score in wait(judged()):
        assert lowest <= score.value <= highest or score.error, score
