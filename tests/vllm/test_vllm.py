"""The lab's checkpoints on real vLLM: three backends, one behaviour. Run with `make test-vllm`.

Servers are started by the launcher, as `reasonweave up` does. Greedy texts and rewards of server and embedded engine agree,
every registered workflow runs on both, prefixes are cached, and what is asked of a model holds.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import modest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Completion,
    Context,
    Ledger,
    Model,
    Problem,
    RewardModel,
    Run,
    Sampling,
    Score,
    Step,
    Token,
    Usage,
    asolve,
)
from reasonweave.orchestrator._sync import wait
from reasonweave.orchestrator.models.engine import EngineModel, EngineRewardModel
from reasonweave.orchestrator.models.launch import python_with_vllm, running
from reasonweave.orchestrator.models.reward_formats import StepTags
from reasonweave.orchestrator.models.roles import RoleSpec, load
from reasonweave.orchestrator.models.spec import open_model
from reasonweave.orchestrator.registry import VerifierRecipe, Workflow, names
from reasonweave.orchestrator.scoring import scored
from reasonweave.orchestrator.testing import check_model
from reasonweave.strategies import Sample, whole
from reasonweave.tasks.lab.problems import problems
from reasonweave.tasks.lab.task import CHECKPOINTS
from reasonweave.tasks.opening import fill

pytestmark = [
    pytest.mark.vllm,
    *(  # vLLM and torch, in this process, warn of what is theirs
        pytest.mark.filterwarnings(f"ignore::{warning}")
        for warning in (
            "DeprecationWarning",
            "FutureWarning",
            "UserWarning",
            "ResourceWarning",
            "pytest.PytestUnraisableExceptionWarning",
        )
    ),
]
try:
    python_with_vllm()
except BadInput:
    pytest.skip("no vLLM here: run with `make test-vllm`", allow_module_level=True)

MODELS = Path(__file__).parents[2] / "examples" / "models.lab.toml"
CHAINS = problems(24)
PROBLEMS = [Problem(chain.text) for chain in CHAINS]
CONTEXTS = [Context(problem.messages) for problem in PROBLEMS]
GREEDY = Sampling(temperature=0.0, max_tokens=200)
NGRAM = {"speculative-config": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}}


@pytest.fixture(scope="session")
def served() -> Iterator[dict[str, RoleSpec]]:
    with running(load(MODELS), print) as found:
        yield found


@pytest.fixture(scope="session")
def models(served: dict[str, RoleSpec]) -> Iterator[dict[str, Model | RewardModel]]:
    opened = {role: spec.open(role) for role, spec in served.items()}
    yield opened
    for model in opened.values():
        wait(model.aclose())


@pytest.fixture(scope="session")
def embedded() -> dict[str, Model | RewardModel]:
    return {role: open_model(f"lab/{role}", role=role) for role in ("small", "large", "prm")}


def ask(model: Any, contexts: list[Context], sampling: Sampling = GREEDY, run: Run | None = None) -> list[Completion]:
    return wait(model.generate(contexts, run or Run(1), sampling=sampling))


@pytest.mark.parametrize("role", ["small", "large"])
def test_greedy_texts_counts_and_logprobs_agree(models: dict[str, Any], embedded: dict[str, Any], role: str) -> None:
    theirs, ours = ask(models[role], CONTEXTS), ask(embedded[role], CONTEXTS)
    assert [c.text for c in theirs] == [c.text for c in ours]
    assert [c.finish_reason for c in theirs] == [c.finish_reason for c in ours]
    for a, b in zip(theirs, ours, strict=True):
        assert (a.usage.prompt, a.usage.completion) == (b.usage.prompt, b.usage.completion)
        worst = max(
            abs(x.logprob - y.logprob) for x, y in zip(a.tokens, b.tokens, strict=True) if x.logprob is not None
        )
        assert worst < 1e-3


@pytest.mark.parametrize("backend", ["models", "engines"])
def test_what_was_written_is_read_with_the_same_log_probabilities(
    request: pytest.FixtureRequest, backend: str, embedded: dict[str, Any]
) -> None:
    """`prefix_logprobs`: every backend says of a text what its author said."""
    written = ask(embedded["small"], CONTEXTS[:6], Sampling(temperature=1.0, max_tokens=80))
    texts = [Context(context.messages, c.text) for context, c in zip(CONTEXTS, written, strict=False)]
    reading = Sampling(temperature=0.0, max_tokens=1, prefix_logprobs=True)
    for model in (request.getfixturevalue(backend)["small"], embedded["small"]):
        for answer, c in zip(ask(model, texts, reading, Run(4)), written, strict=True):
            assert "".join(token.text for token in answer.prefix) == c.text
            for mine, theirs in zip(answer.prefix, c.tokens, strict=False):
                assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-3)


def test_rewards_agree(models: dict[str, Any], embedded: dict[str, Any]) -> None:
    solutions = ask(embedded["small"], CONTEXTS, Sampling(temperature=0.8, max_tokens=200))
    candidates = [
        Candidate(problem, tuple(Step(part + "\n\n", "m", 1) for part in c.text.split("\n\n")))
        for problem, c in zip(PROBLEMS, solutions, strict=True)
    ]
    theirs, ours = (wait(found["prm"].rate(candidates, Run(2))) for found in (models, embedded))
    for a, b in zip(theirs, ours, strict=True):
        assert a.error is None
        assert a.steps == pytest.approx(b.steps, abs=1e-3)


@pytest.mark.parametrize("backend", ["models", "engines"])
@pytest.mark.parametrize(
    "name", ["prm", "judge", "self-check", "self-evaluation", "brainstormed-check", "confidence", "steps"]
)
def test_verifiers_say_the_same_on_every_backend(
    request: pytest.FixtureRequest, embedded: dict[str, Any], backend: str, name: str
) -> None:
    policy = whole(embedded["small"], max_tokens=200, top_logprobs=20)
    candidates = wait(policy.extend([Candidate(problem) for problem in PROBLEMS[:8]], Run(7)))
    recipe = VerifierRecipe.named(name)

    def scores(models: dict[str, Any]) -> list[Score]:
        run = Run(8, ledger=Ledger())
        found = wait(scored(recipe.make(**fill(recipe, models)), candidates, run))
        assert run.ledger.held == Usage()
        return found

    for theirs, ours in zip(scores(request.getfixturevalue(backend)), scores(embedded), strict=True):
        assert theirs.value == pytest.approx(ours.value, abs=1e-2 if name == "judge" else 2e-3, nan_ok=True)
        assert theirs.steps == pytest.approx(ours.steps, abs=2e-3, nan_ok=True)
        assert (theirs.error is None) == (not math.isnan(theirs.value))


@pytest.mark.parametrize("role", ["small", "large"])
def test_the_models_contract_holds(models: dict[str, Any], role: str) -> None:
    check_model(models[role], prompt=PROBLEMS[0].prompt)


def cached_by_step(model: Any) -> list[int]:
    run = Run(3, ledger=Ledger())

    async def steps() -> list[int]:
        policy, cached = Sample(model, temperature=0.0), []
        (candidate,) = await policy.extend([Candidate(PROBLEMS[4])], run.child(0))
        for step in range(1, 4):
            before = run.ledger.spent.cached
            (candidate,) = await policy.extend([candidate], run.child(step))
            cached.append(run.ledger.spent.cached - before)
        return cached

    return wait(steps())


def test_the_second_step_finds_its_prefix_cached(models: dict[str, Any]) -> None:
    assert all(found > 0 for found in cached_by_step(models["large"]))


def test_steps_are_what_a_whole_solution_is(models: dict[str, Any]) -> None:
    async def by_steps(problem: Problem, run: Run) -> str:
        candidate = Candidate(problem)
        for step in range(20):
            (candidate,) = await Sample(models["large"], temperature=0.0).extend([candidate], run.child(step))
            if candidate.done:
                break
        return candidate.text

    whole = ask(models["large"], CONTEXTS[:6])
    assert [wait(by_steps(p, Run(4, (i,)))) for i, p in enumerate(PROBLEMS[:6])] == [c.text for c in whole]


@pytest.mark.parametrize("backend", ["models", "engines", "embedded"])
@pytest.mark.parametrize("name", names("workflow"))
@pytest.mark.parametrize("budget", [None, Budget(tokens=300), Budget(seconds=30)])
def test_every_workflow_runs_on_every_backend(
    request: pytest.FixtureRequest, backend: str, name: str, budget: Budget | None
) -> None:
    workflow = Workflow.named(name)
    parts = fill(workflow, request.getfixturevalue(backend))
    for problem in PROBLEMS[: 3 if budget is None else 1]:
        result = wait(asolve(problem, workflow.make(**parts, **modest(workflow)), budget=budget, seed=5))
        assert result.errors == ()
        assert result.answer is not None or result.candidates.abstains
        assert budget is None or budget.tokens is None or result.tokens <= budget.tokens


def test_the_same_seed_gives_the_same_text_and_another_seed_another(models: dict[str, Any]) -> None:
    warm = Sampling(temperature=1.0, max_tokens=60)
    first, again, other = (ask(models["small"], CONTEXTS[:1] * 4, warm, Run(seed)) for seed in (1, 1, 2))
    assert [c.text for c in first] == [c.text for c in again]
    assert [c.text for c in first] != [c.text for c in other]
    assert len({c.text for c in first}) > 1


def test_a_run_out_of_time_keeps_what_came(models: dict[str, Any]) -> None:
    ask(models["large"], CONTEXTS[:1])  # the first request of a server takes longer than the second that follows
    run = Run(6, ledger=Ledger(Budget(seconds=1.0)))
    answers = ask(
        models["large"], [Context(p.messages, "1 ") for p in PROBLEMS], Sampling(temperature=2.0, max_tokens=400), run
    )
    assert {c.finish_reason for c in answers} & {"budget", "eos", "length"}
    assert not run.ledger.busy


def under_way(model: Any) -> float:
    """Requests that the server says it is computing, or has waiting."""
    with urllib.request.urlopen(f"{model.endpoint.roots[0]}/metrics") as told:
        lines = told.read().decode().splitlines()
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting{")
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))


def test_a_watch_cuts_a_stream_and_the_server_stops_computing_it(models: dict[str, Any]) -> None:
    def fifth() -> Callable[[Token], bool]:
        seen = itertools.count(1)
        return lambda token: next(seen) >= 5

    async def rambling(run: Run, cancel: bool) -> list[Completion]:
        begun = asyncio.Event()

        def heard() -> Callable[[Token], bool]:
            return lambda token: begun.set() is not None

        contexts = [Context(p.messages, "1 ") for p in PROBLEMS[:8]]
        long = Sampling(temperature=2.0, max_tokens=400)
        watch = heard if cancel else fifth
        task = asyncio.create_task(models["small"].generate(contexts, run, sampling=long, watch=watch))
        if cancel:  # with the first token, however busy the machine is
            first = asyncio.create_task(begun.wait())
            await asyncio.wait({task, first}, return_when=asyncio.FIRST_COMPLETED)
            first.cancel()
            task.cancel()
            return [c for c in await asyncio.gather(task, return_exceptions=True) if isinstance(c, Completion)]
        return await task

    for cancel in (False, True):
        run = Run(12, ledger=Ledger())
        answers = wait(rambling(run, cancel))
        ended = time.monotonic()
        while under_way(models["small"]) > 0:
            assert time.monotonic() - ended < 5
            time.sleep(0.05)
        assert run.ledger.held == Usage()
        assert 0 < run.ledger.cut.completion < 8 * 300
        assert run.ledger.saved.completion == run.ledger.cut.calls * 400 - run.ledger.cut.completion
        if not cancel:
            cut = [c for c in answers if c.finish_reason == "cancelled"]
            assert len(cut) > 4  # but for some that end by themselves at once
            assert {len(c.tokens) for c in cut} == {5}


def test_ngram_speculation_changes_no_greedy_text(embedded: dict[str, Any]) -> None:
    spec = load(MODELS)["large"]
    with running({"large": spec.model_copy(update={"vllm": spec.vllm | NGRAM})}, print) as found:
        model = found["large"].open("large")
        assert [c.text for c in ask(model, CONTEXTS)] == [c.text for c in ask(embedded["large"], CONTEXTS)]
        wait(model.aclose())


def test_nothing_is_left_when_the_launcher_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from reasonweave.orchestrator.models.launch import Fleet\n"
        "from reasonweave.orchestrator.models.roles import load\n"
        f"fleet = Fleet({{'small': load(Path({str(MODELS)!r}))['small']}})\n"
        "fleet.start(stay=False)\n"
        "print(fleet.servers[0].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    supervisor = int(process.stdout.readline())
    time.sleep(3)
    children = _descendants(supervisor)
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 30
    while time.monotonic() < end and any(_there(pid) for pid in (supervisor, *children)):
        time.sleep(0.2)
    assert not any(_there(pid) for pid in (supervisor, *children))


def _descendants(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split()
    parents = dict(zip(map(int, found[::2]), map(int, found[1::2]), strict=True))
    return [child for child in parents if pid in _line(child, parents)]


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    line = []
    while (pid := parents.get(pid, 0)) > 0:
        line.append(pid)
    return line


def _there(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("backend", ["models", "engines"])
def test_hundreds_of_prompts_at_once(request: pytest.FixtureRequest, backend: str) -> None:
    crowd = [Context(chain.messages) for chain in (Problem(c.text) for c in problems(300))]
    answers = ask(request.getfixturevalue(backend)["small"], crowd, Sampling(max_tokens=8), Run(9))
    assert {c.finish_reason for c in answers} <= {"length", "eos"}


def test_usage_adds_up_to_what_the_ledger_says(models: dict[str, Any]) -> None:
    run = Run(8, ledger=Ledger())
    answers = ask(models["small"], CONTEXTS[:5] * 3, Sampling(max_tokens=100), run)
    assert run.ledger.spent == Usage.total([a.usage for a in answers])
    assert run.ledger.spent.calls == 15


# The engine in this process.


@pytest.fixture(scope="session")
def engines() -> Iterator[dict[str, Model | RewardModel]]:
    common = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024}
    found: dict[str, Model | RewardModel] = {
        role: EngineModel(str(CHECKPOINTS / f"lab-{role}"), role=role, block_size=32, **common)
        for role in ("small", "large")
    }
    pooler = {"pooling_type": "STEP", "step_tag_id": 383}
    found["prm"] = EngineRewardModel(
        str(CHECKPOINTS / "lab-prm"), StepTags(system=None), role="prm", pooler_config=pooler, **common
    )
    yield found
    for model in found.values():
        wait(model.aclose())


@pytest.mark.parametrize("role", ["small", "large"])
def test_the_engine_agrees_with_the_embedded_one(engines: dict[str, Any], embedded: dict[str, Any], role: str) -> None:
    theirs, ours = ask(engines[role], CONTEXTS), ask(embedded[role], CONTEXTS)
    assert [c.text for c in theirs] == [c.text for c in ours]
    for a, b in zip(theirs, ours, strict=True):
        assert (a.finish_reason, a.usage.prompt, a.usage.completion) == (
            b.finish_reason,
            b.usage.prompt,
            b.usage.completion,
        )
        assert all(abs((x.logprob or 0) - (y.logprob or 0)) < 1e-3 for x, y in zip(a.tokens, b.tokens, strict=True))


def test_the_engines_rewards_agree(engines: dict[str, Any], embedded: dict[str, Any]) -> None:
    candidates = [Candidate(p, (Step("A: 1 + 1 = 2\n\n", "m", 1), Step("B: 2", "m", 1))) for p in PROBLEMS[:8]]
    theirs, ours = (wait(found["prm"].rate(candidates, Run(2))) for found in (engines, embedded))
    for a, b in zip(theirs, ours, strict=True):
        assert a.steps == pytest.approx(b.steps, abs=1e-3)


@pytest.mark.parametrize("role", ["small", "large"])
def test_the_engine_keeps_a_models_promises(engines: dict[str, Any], role: str) -> None:
    check_model(engines[role], prompt=PROBLEMS[0].prompt)


def test_the_engine_finds_the_second_steps_prefix_cached(engines: dict[str, Any]) -> None:
    assert all(found > 0 for found in cached_by_step(engines["large"]))
