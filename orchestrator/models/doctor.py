"""What works with a served model, what will be slower or is unavailable, and how to switch it on: `reasonweave doctor`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from reasonweave.orchestrator.errors import ModelError, ReasonweaveError, described, first_of
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.models.reward_server import ServerRewardModel
from reasonweave.orchestrator.models.roles import RoleSpec
from reasonweave.orchestrator.models.server import ServerModel
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Completion, Context, Problem, Sampling, Step

PROBLEM = Problem("Start with 17. A: Add 28. B: Multiply by 2. C: Subtract 19. What is the result?")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a report: what was looked at, whether it is well (None: only told), what was found, what to do."""

    name: str
    well: bool | None
    told: str
    todo: str = ""


async def examine(role: str, spec: RoleSpec) -> AsyncIterator[Check]:
    """Look at one role's model, a few dozen tokens' worth. Stops at what makes the rest impossible."""
    try:
        model = spec.open(role)
    except ReasonweaveError as error:
        yield Check("opened", False, str(error))
        return
    reached = False
    try:
        if isinstance(model, ServerModel | ServerRewardModel):
            async for check in _server(model):
                reached = True
                yield check
        else:
            yield Check("model", True, f"{spec} in this process")
        if isinstance(model, RewardModel):
            yield await _rewards(model)
        elif not isinstance(model, ServerModel) or (model.able is not None and model.able.completions):
            async for check in _generation(model):
                yield check
        else:
            async for check in _chat(model):
                yield check
    except Exception as raised:  # a report says what is wrong, whatever it is
        why = described(first_of(raised))
        if reached:
            yield Check("asked", False, why)
        else:
            todo = "is the server up, and is this its address?" if "reach" in why else ""
            yield Check("reachable", False, why, todo)
    finally:
        await model.aclose()


async def _server(model: ServerModel | ServerRewardModel) -> AsyncIterator[Check]:
    able = await model.abilities()
    yield Check("reachable", True, f"{model.endpoint}, {f'vLLM {able.version}' if able.version else 'not vLLM'}")
    yield Check("model", True, f"{able.model}, context {able.context_length or 'unknown'}")
    if isinstance(model, ServerModel):
        if able.completions:
            pieces = "exact" if able.whole_pieces else "text is tokenized anew at each step"
            yield Check("steps", True, f"/v1/completions on token ids; continuation {pieces}")
        else:
            todo = "use a vLLM server for step-wise strategies"
            yield Check(
                "steps", False, "chat completions only: whole answers, no step strategies, no forced finish", todo
            )
        if model.priority is not None and "priority" not in able.fields:
            yield Check("priority", False, "the server does not know it", "vLLM with --scheduling-policy priority")
    if not model.rates.active:
        yield Check("FLOPs", False, "active parameters unknown, so FLOPs count as 0", "set `active` in the models file")


async def _ask(model: Model, label: str, sampling: Sampling, prefix: str = "", run: Run | None = None) -> Completion:
    where = (run or Run(7)).child(label)
    (answer,) = await model.generate([Context(PROBLEM.messages, prefix)], where, sampling=sampling)
    if answer.finish_reason == "error":
        raise ModelError(str(answer.error))
    return answer


async def _generation(model: Model) -> AsyncIterator[Check]:
    run = Run(7)
    sampled = Sampling(temperature=0.8, max_tokens=24, top_logprobs=20)
    try:
        first = await _ask(model, "one", sampled, run=run)
    except ModelError as error:
        yield Check("log-probabilities", False, str(error), "vLLM: --max-logprobs 20")
        sampled = replace(sampled, top_logprobs=0)
        first = await _ask(model, "plain", sampled, run=run)
    again = await _ask(model, "one" if sampled.top_logprobs else "plain", sampled, run=Run(7))
    top = len(first.tokens[0].top) if first.tokens else 0
    if top >= 10:
        yield Check("log-probabilities", True, f"of the chosen token and {top} alternatives")
    elif sampled.top_logprobs:
        told = f"{top} alternatives a token: judges and confidence votes need ten or more"
        yield Check("log-probabilities", False, told, "vLLM: --max-logprobs 20")
    same = first.text == again.text
    told = "the same seed gave the same text twice" if same else "the same seed gave two different texts"
    todo = "" if same else "vLLM: VLLM_BATCH_INVARIANT=1; exact repetition comes from replay"
    yield Check("seeds", same, told, todo)
    step = Sampling(temperature=0.0, max_tokens=200, stop=(DELIMITER,))
    written = await _ask(model, "step", step, run=run)
    kept = written.finish_reason != "stop" or written.text.endswith(DELIMITER)
    yield Check("stop strings", kept, "kept in the text" if kept else "cut off, so step delimiters are lost")
    more = await _ask(model, "more", step, written.text, run=run)
    told = f"{more.usage.cached} of {more.usage.prompt} prompt tokens cached on the second step"
    todo = (
        "" if more.usage.cached else "vLLM: --enable-prompt-tokens-details shows them; a short prompt may fit no block"
    )
    yield Check("prefix cache", more.usage.cached > 0, told, todo)
    greedy = Sampling(temperature=0.0, max_tokens=24)
    cool = Sampling(temperature=0.01, max_tokens=24)
    straight, cooled = await _ask(model, "greedy", greedy, run=run), await _ask(model, "cool", cool, run=run)
    sane = straight.text == cooled.text
    told = "sampling at temperature 0.01 agrees with greedy decoding" if sane else "it disagrees with greedy decoding"
    todo = "" if sane else "switch token-level speculation off and look again: some builds corrupt sampled text"
    yield Check("sampling", sane, told, todo)


async def _chat(model: ServerModel) -> AsyncIterator[Check]:
    answer = await _ask(model, "one", Sampling(temperature=0.0, max_tokens=24))
    yield Check("generation", True, f"{answer.usage.completion} tokens: {answer.text[:40]!r}")


async def _rewards(model: RewardModel) -> Check:
    steps = tuple(Step(text + DELIMITER, "doctor", 0) for text in ("A: 17 + 28 = 45", "B: 45 * 2 = 91"))
    (score,) = await model.rate([Candidate(PROBLEM, steps)], Run(7))
    if score.error:
        return Check("rewards", False, score.error)
    told = ", ".join(f"{value:.3f}" for value in score.steps or (score.value,))
    return Check("rewards", True, f"a right step and a wrong one score {told}")


async def report(specs: Mapping[str, RoleSpec]) -> AsyncIterator[tuple[str, Check]]:
    """All roles in turn."""
    for role, spec in specs.items():
        async for check in examine(role, spec):
            yield role, check
