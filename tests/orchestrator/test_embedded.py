"""The embedded engine on the shipped checkpoints: batching, caching, seeds, stops, limits. `tests/live` compares it with
independent implementations."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import modest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Completion,
    Context,
    Ledger,
    Message,
    ModelError,
    Problem,
    Run,
    Sampling,
    Step,
    asolve,
    solve,
)
from reasonweave.orchestrator.models import embedded, qwen2
from reasonweave.orchestrator.models.embedded import EmbeddedModel, EmbeddedRewardModel
from reasonweave.orchestrator.models.pick import pick
from reasonweave.orchestrator.models.qwen2 import Qwen2, cores, invariant_rows, read_tensors, spread
from reasonweave.orchestrator.registry import Workflow, names
from reasonweave.orchestrator.testing import check_model, check_strategy
from reasonweave.strategies import ForceAnswer, best_of_n
from reasonweave.tasks.lab.problems import problems
from reasonweave.tasks.lab.task import CHECKPOINTS, LabTask
from reasonweave.tasks.opening import fill
from reasonweave.verifiers import ProcessReward

CHAINS = problems(40)
CONTEXTS = [Context(Problem(chain.text).messages) for chain in CHAINS]


@pytest.fixture(scope="module")
def large() -> Iterator[EmbeddedModel]:
    model = EmbeddedModel(CHECKPOINTS / "lab-large", role="large")
    yield model
    model.engine.close()


@pytest.fixture(scope="module")
def prm() -> Iterator[EmbeddedRewardModel]:
    model = EmbeddedRewardModel(CHECKPOINTS / "lab-prm", role="prm")
    yield model
    model.engine.close()


def ask(model: EmbeddedModel, contexts: list[Context], run: Run | None = None, **sampling: object) -> list[Completion]:
    return asyncio.run(model.generate(contexts, run or Run(), sampling=Sampling(**sampling)))  # type: ignore[arg-type]


def test_it_keeps_a_models_promises(large: EmbeddedModel) -> None:
    check_model(large, prompt=CHAINS[0].text)


def test_it_solves_easy_problems(large: EmbeddedModel) -> None:
    """Greedy, on 8 two-step problems; at 95 % a problem, fewer than 5 right has probability below 1e-3."""
    easy = [c for c in CHAINS if c.level == 1][:8]
    answers = ask(large, [Context(Problem(c.text).messages) for c in easy], temperature=0.0)
    assert sum(f"\\boxed{{{c.answer}}}" in a.text for c, a in zip(easy, answers, strict=True)) >= 5
    assert all(a.finish_reason == "eos" for a in answers)


def seeded(model: EmbeddedModel, which: list[int], **sampling: object) -> dict[int, Completion]:
    """The completions of some prompts, each with the seed that belongs to the prompt, in one concurrent wave."""

    async def main() -> list[list[Completion]]:
        calls = [
            model.generate([CONTEXTS[i]], Run(7, ("p", i)), sampling=Sampling(**sampling))  # type: ignore[arg-type]
            for i in which
        ]
        return list(await asyncio.gather(*calls))

    return {i: found[0] for i, found in zip(which, asyncio.run(main()), strict=True)}


def test_a_sequence_does_not_depend_on_its_company(large: EmbeddedModel) -> None:
    """Bit for bit, log-probabilities too: alone, in threes, and all forty together."""
    sampling = {"temperature": 0.8, "max_tokens": 120, "top_logprobs": 3}
    together = seeded(large, list(range(40)), **sampling)
    threes = seeded(large, [5, 17, 39], **sampling)
    for i in (5, 17, 39):
        alone = seeded(large, [i], **sampling)[i]
        assert alone.tokens == threes[i].tokens == together[i].tokens


def test_samples_of_one_prompt_differ_by_seed_and_share_its_prefill(large: EmbeddedModel) -> None:
    answers = ask(large, [CONTEXTS[4]] * 8, temperature=1.5, max_tokens=60)
    assert len({a.text for a in answers}) > 1
    prompt = large.count(CONTEXTS[4])
    assert [a.usage.cached for a in answers] == [0] + [prompt] * 7
    again = ask(large, [CONTEXTS[4]] * 8, temperature=1.5, max_tokens=60)
    assert [a.tokens for a in answers] == [a.tokens for a in again]


def test_step_by_step_is_the_whole_solution(large: EmbeddedModel) -> None:
    """Greedy: stop at each delimiter and go on from the text. Blocks of the prefix come from the cache."""
    whole = ask(large, [CONTEXTS[3]], temperature=0.0, max_tokens=300)[0]
    run, text, cached = Run(1), "", []
    for turn in range(20):
        context = Context(CONTEXTS[3].messages, text)
        sampling = Sampling(temperature=0.0, max_tokens=300, stop=("\n\n",))
        (step,) = asyncio.run(large.generate([context], run.child(turn), sampling=sampling))
        text += step.text
        cached.append(step.usage.cached)
        if step.finish_reason == "eos":
            break
        assert step.text.endswith("\n\n")
    assert text == whole.text
    assert cached[0] == 0
    assert all(c > 0 and c % 16 == 0 for c in cached[1:])


def test_the_cache_belongs_to_one_run(large: EmbeddedModel) -> None:
    first, second = Run(1), Run(1)
    asyncio.run(large.generate([CONTEXTS[2]], first.child("a"), sampling=Sampling(max_tokens=4)))
    (warm,) = asyncio.run(large.generate([CONTEXTS[2]], first.child("b"), sampling=Sampling(max_tokens=4)))
    (cold,) = asyncio.run(large.generate([CONTEXTS[2]], second.child("b"), sampling=Sampling(max_tokens=4)))
    assert warm.usage.cached > 0
    assert cold.usage.cached == 0
    assert cold.text == warm.text


def test_stop_strings_stay_and_what_follows_goes(large: EmbeddedModel) -> None:
    (answer,) = ask(large, [CONTEXTS[0]], temperature=0.0, stop=("= ",))
    assert answer.text.endswith("= ")
    assert answer.finish_reason == "stop"
    assert answer.usage.completion == len(answer.tokens)


def test_top_logprobs_are_sorted_and_hold_the_greedy_token(large: EmbeddedModel) -> None:
    (answer,) = ask(large, [CONTEXTS[0]], temperature=0.0, top_logprobs=5, max_tokens=10)
    for token in answer.tokens:
        assert token.logprob is not None
        assert len(token.top) == 5
        assert [lp for _, lp in token.top] == sorted((lp for _, lp in token.top), reverse=True)
        assert token.top[0] == (token.text, pytest.approx(token.logprob))


def test_the_context_ends_a_sequence_and_a_prompt_that_fills_it_gets_nothing(large: EmbeddedModel) -> None:
    long = Context((Message("user", CHAINS[0].text),), "1 " * 480)
    room = 1024 - large.count(long)
    assert 0 < room < 60
    (answer,) = ask(large, [long], temperature=1.0, max_tokens=500, stop=())
    assert answer.finish_reason in ("length", "eos")
    assert answer.usage.completion <= room
    (none,) = ask(large, [Context(long.messages, "1 " * 600)])
    assert (none.text, none.finish_reason, none.usage.completion) == ("", "length", 0)


def test_a_deadline_ends_a_generation_with_what_there_is(large: EmbeddedModel) -> None:
    run = Run(ledger=Ledger(Budget(seconds=0.3)))
    began = time.monotonic()
    contexts = [Context(c.messages, "1 ") for c in CONTEXTS] * 3
    answers = asyncio.run(large.generate(contexts, run, sampling=Sampling(temperature=5.0, max_tokens=900)))
    assert time.monotonic() - began < 10
    cut = [a for a in answers if a.finish_reason == "budget"]
    assert cut
    assert run.ledger.spent.completion == sum(a.usage.completion for a in answers) > 0


def test_cancelling_is_charged_what_was_produced_and_frees_the_engine(large: EmbeddedModel) -> None:
    run = Run(ledger=Ledger())

    async def main() -> None:
        call = large.generate(CONTEXTS * 3, run, sampling=Sampling(temperature=5.0, max_tokens=900))
        task = asyncio.create_task(call)
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert 0 < run.ledger.spent.completion < 120 * 900
        began = time.monotonic()
        await large.generate(CONTEXTS[:1], Run(), sampling=Sampling(max_tokens=2))
        assert time.monotonic() - began < 5

    asyncio.run(main())
    assert run.ledger.held.tokens == 0


def test_a_broken_batch_fails_its_callers_and_not_the_engine(
    large: EmbeddedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Qwen2, *arguments: object) -> object:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Qwen2, "decode", broken)
        (answer,) = ask(large, CONTEXTS[:1])
        assert answer.finish_reason == "error"
        assert "no room" in (answer.error or "")
    assert ask(large, CONTEXTS[:1], max_tokens=3)[0].finish_reason == "length"


def test_a_closed_engine_says_so() -> None:
    model = EmbeddedModel(CHECKPOINTS / "lab-small")
    model.engine.close()
    (answer,) = ask(model, CONTEXTS[:1])
    assert "is closed" in (answer.error or "")
    with pytest.raises(ModelError):
        asyncio.run(model.engine.submit(None, None))  # type: ignore[arg-type]


def candidate(*steps: str) -> Candidate:
    return Candidate(Problem(CHAINS[0].text), tuple(Step(s + "\n\n", "m", 1) for s in steps))


def test_rewards_judge_each_step_and_not_the_company(prm: EmbeddedRewardModel) -> None:
    chain = CHAINS[0]
    texts, value = [], chain.start
    for letter, (symbol, operand), result in zip("ABCD", chain.operations, chain.values, strict=False):
        texts.append(f"{letter}: {value} {symbol} {operand} = {result}")
        value = result
    right = candidate(*texts)
    wrong = candidate(*texts[:-1], texts[-1] + "9")
    both = asyncio.run(prm.rate([right, wrong, right], Run(1)))
    alone = asyncio.run(prm.rate([wrong], Run(1)))
    assert len(both[0].steps) == len(texts)
    assert both[0] == both[2]
    assert both[1].steps == pytest.approx(alone[0].steps, abs=1e-5)
    assert both[0].value > both[1].value
    assert all(0 <= p <= 1 for p in both[0].steps)


def test_the_same_records_at_any_concurrency(prm: EmbeddedRewardModel) -> None:
    small = EmbeddedModel(CHECKPOINTS / "lab-small", role="small")
    flow = best_of_n(small, ProcessReward(prm), n=4)
    examples = LabTask().examples(12)

    async def run(connections: int) -> list[tuple[object, ...]]:
        gate = asyncio.Semaphore(connections)

        async def one(i: int) -> tuple[object, ...]:
            async with gate:
                result = await asolve(examples[i].problem, flow, seed=i)
                return result.answer, result.confidence, result.text, tuple(result.usage.items())

        return list(await asyncio.gather(*(one(i) for i in range(12))))

    one, eight, all_ = (asyncio.run(run(n)) for n in (1, 8, 64))
    small.engine.close()
    assert one == eight == all_


@pytest.mark.parametrize("name", names("workflow"))
def test_presets_on_real_models_keep_budgets_and_answer_wherever_one_token_was_affordable(
    name: str, prm: EmbeddedRewardModel, large: EmbeddedModel
) -> None:
    workflow = Workflow.named(name)
    parts = fill(workflow, {"small": large, "large": large, "prm": prm})
    flow = workflow.make(**parts, **modest(workflow, max_tokens=160))  # in words, these models ramble to their ceiling
    problem = Problem(CHAINS[7].text)
    check_strategy(flow, problem)
    forced = large.count(Context(problem.messages, ForceAnswer(large).cue)) + 1
    free = solve(problem, flow).tokens
    for tokens in (0, 1, 50, forced - 1, forced, 500, free // 2, free):
        result = solve(problem, flow, budget=Budget(tokens=tokens))
        assert result.tokens <= tokens
        abstained = result.answer is None and result.candidates.abstains
        assert abstained or (result.answer is not None) == (tokens >= forced), (tokens, result)


# Sampling, by itself.

LOGITS = np.array([[2.0, 1.0, 0.0, -1.0]], np.float32)


def frequencies(sampling: Sampling, n: int = 20_000) -> np.ndarray:
    draws = np.random.default_rng(0).random(n)
    chosen, _, _ = pick(np.repeat(LOGITS, n, axis=0), [sampling] * n, draws.tolist())
    return np.bincount(chosen, minlength=4) / n


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_the_softmax_says(temperature: float) -> None:
    """20,000 draws; five standard errors, so a false alarm in a million."""
    expected = np.exp(LOGITS[0] / temperature)
    expected /= expected.sum()
    error = 5 * np.sqrt(expected * (1 - expected) / 20_000)
    assert (abs(frequencies(Sampling(temperature=temperature)) - expected) < error).all()


def test_top_k_and_top_p_cut_the_tail() -> None:
    assert (frequencies(Sampling(temperature=1.0, top_k=2))[2:] == 0).all()
    assert (frequencies(Sampling(temperature=1.0, top_k=2))[:2] > 0).all()
    assert frequencies(Sampling(temperature=1.0, top_p=0.5))[0] == 1  # the first token alone has 0.64
    assert (frequencies(Sampling(temperature=1.0, top_p=0.7)) > 0).tolist() == [True, True, False, False]
    assert frequencies(Sampling(temperature=0.0))[0] == 1


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=20), st.floats(0, 1, exclude_max=True))
def test_a_choice_is_in_range_and_logprobs_are_at_temperature_one(row: list[float], draw: float) -> None:
    logits = np.array([row], np.float32)
    chosen, logprobs, tops = pick(logits, [Sampling(temperature=0.7, top_logprobs=2)], [draw])
    exact = logits[0].astype(float) - np.log(np.exp(logits[0].astype(float)).sum())
    assert logprobs[0] == pytest.approx(exact[chosen[0]])
    assert tops[0][0][1] == pytest.approx(exact.max())


# Weights.


@given(st.integers(1, 40), st.integers(2, 64), st.integers(2, 64))
@settings(max_examples=20, deadline=None)
def test_rows_in_blocks_have_the_same_bits_anywhere(n: int, inner: int, outer: int) -> None:
    rng = np.random.default_rng(inner * 100 + outer)
    weight = rng.standard_normal((inner, outer)).astype(np.float32)
    tile = invariant_rows([weight])
    rows = rng.standard_normal((n, inner)).astype(np.float32)
    padded = np.zeros((-(-n // tile) * tile, inner), np.float32)
    padded[:n] = rows
    product = np.matmul(padded.reshape(-1, tile, inner), weight).reshape(-1, outer)
    lone = np.zeros((tile, inner), np.float32)
    lone[0] = rows[-1]
    assert np.array_equal(np.matmul(lone, weight)[0], product[n - 1])


@given(n=st.integers(0, 9))
def test_spreading_work_keeps_the_order(n: int) -> None:
    assert spread(lambda item: item * item, list(range(n))) == [i * i for i in range(n)]


def test_an_error_in_spread_work_arrives_after_all_of_it_has_ended() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 0:
            raise ValueError("first")
        time.sleep(0.02)
        done.append(item)

    with pytest.raises(ValueError, match="first"):
        spread(work, list(range(cores())))
    assert len(done) == cores() - 1


def test_idle_buffers_are_given_back(large: EmbeddedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "IDLE", 0.05)
    ask(large, CONTEXTS[:2], Run(3), max_tokens=40)
    assert large.engine._buckets
    began = time.monotonic()
    while large.engine._buckets and time.monotonic() - began < 5:
        time.sleep(0.02)
    assert not large.engine._buckets
    assert ask(large, CONTEXTS[:1], Run(3), max_tokens=40)[0].text


def test_other_architectures_and_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no checkpoint in"):
        EmbeddedModel(tmp_path)
    config = json.loads((CHECKPOINTS / "lab-small" / "config.json").read_text())
    for file in (CHECKPOINTS / "lab-small").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    with pytest.raises(BadInput, match="plain Qwen2"):
        EmbeddedModel(tmp_path)
    with pytest.raises(BadInput, match="no score head"):
        EmbeddedRewardModel(CHECKPOINTS / "lab-small")


def test_half_precision_checkpoints_are_read(tmp_path: Path) -> None:
    header = {
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "h": {"dtype": "F16", "shape": [1], "data_offsets": [4, 6]},
    }
    head = json.dumps(header).encode()
    data = np.array([0x3FC0, 0xC000], "<u2").tobytes() + np.array([0.5], "<f2").tobytes()
    (tmp_path / "x.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
    found = read_tensors(tmp_path / "x.safetensors")
    assert found["b"].tolist() == [1.5, -2.0]
    assert found["h"].tolist() == [0.5]


# What must neither hang nor take others down.


def test_an_error_while_prompts_are_computed_fails_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = EmbeddedModel(CHECKPOINTS / "lab-small")

    def broken(*args: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(model.engine.network.__class__, "prefill", broken)
    (answer,) = asyncio.run(asyncio.wait_for(one(model), 10))
    assert "no room" in str(answer.error)
    monkeypatch.undo()
    (answer,) = asyncio.run(asyncio.wait_for(one(model), 10))
    assert answer.error is None
    model.engine.close()


async def one(model: EmbeddedModel) -> list[Completion]:
    return await model.generate(CONTEXTS[:1], Run(), sampling=Sampling(max_tokens=5))


def test_closing_ends_calls_in_flight() -> None:
    async def close() -> list[Completion]:
        model = EmbeddedModel(CHECKPOINTS / "lab-small")
        asked = asyncio.create_task(model.generate(CONTEXTS[:1] * 64, Run(), sampling=Sampling(max_tokens=900)))
        await asyncio.sleep(0.05)
        await model.aclose()
        return await asyncio.wait_for(asked, 10)

    assert all(c.finish_reason in ("error", "eos") for c in asyncio.run(close()))


def test_a_call_cancelled_after_its_prompt_was_computed_pays_for_it(large: EmbeddedModel) -> None:
    ledger = Ledger()

    async def cancel() -> None:
        asked = asyncio.create_task(
            large.generate(CONTEXTS[:1] * 100, Run(ledger=ledger), sampling=Sampling(max_tokens=900))
        )
        while not large.engine._running():  # noqa: ASYNC110 - the engine's thread has no event to wait for
            await asyncio.sleep(0.001)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    asyncio.run(cancel())
    assert ledger.spent.prompt >= large.count(CONTEXTS[0])
    assert not ledger.busy


def test_a_prompt_that_fills_the_context_says_so(large: EmbeddedModel) -> None:
    (answer,) = ask(large, [Context(Problem("1 + " * 600).messages)])
    assert answer.finish_reason == "error"
    assert "fill the context of 1024" in str(answer.error)


def test_a_solution_too_long_for_the_reward_model_loses_its_own_score(prm: EmbeddedRewardModel) -> None:
    problem = Problem(CHAINS[0].text)
    long, short = (Candidate(problem, (Step(text, "m", 1),)) for text in ("A: 1 + 1 = 2 " * 120, "A: 1 + 1 = 2"))
    first, second = asyncio.run(prm.rate([long, short], Run()))
    assert np.isnan(first.value)
    assert "does not fit" in str(first.error)
    assert 0 <= second.value <= 1
    assert second.error is None


@pytest.mark.parametrize("used", [1, 2, 8])
def test_what_ratings_cost_does_not_depend_on_the_cores(used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qwen2, "cores", lambda: used)
    model, ledger = EmbeddedRewardModel(CHECKPOINTS / "lab-prm"), Ledger()
    problem = Problem(CHAINS[0].text)
    candidates = [Candidate(problem, (Step(f"A: 1 + {i} = 2", "m", 1),)) for i in range(8)]
    asyncio.run(model.rate(candidates, Run(ledger=ledger)))
    head = model.engine.vocabulary.encode(f"<|im_start|>user\n{problem.prompt}<|im_end|>\n<|im_start|>assistant\n")
    assert ledger.spent.cached == 7 * (len(head) // 16 * 16)
    model.engine.close()


def test_rating_step_by_step_pays_for_the_new_steps_alone(prm: EmbeddedRewardModel) -> None:
    problem = Problem(CHAINS[0].text)
    texts = ["A: 1 + 1 = 2\n\n", "B: 2 + 40 = 42\n\n", "C: 42 - 7 = 36\n\n", "The answer is 36"]
    steps = [Step(text, "m", 1) for text in texts]
    ledger, run = Ledger(), Run(1)
    growing = []
    for k in range(1, 5):
        (score,) = asyncio.run(prm.rate([Candidate(problem, tuple(steps[:k]))], replace(run.child(k), ledger=ledger)))
        growing.append(score)
    (again,) = asyncio.run(prm.rate([Candidate(problem, tuple(steps))], replace(run.child("again"), ledger=ledger)))
    whole = Ledger()
    (fresh,) = asyncio.run(prm.rate([Candidate(problem, tuple(steps))], Run(2, ledger=whole)))
    assert again == growing[-1]
    for k, score in enumerate(growing, 1):
        assert score.steps == pytest.approx(fresh.steps[:k], abs=1e-5)
    computed = ledger.spent.prompt - ledger.spent.cached
    assert computed < 1.5 * whole.spent.prompt  # blocks of 16 tokens are computed again, and nothing else
    run.session.close()


def test_a_tag_in_a_solution_is_no_step(prm: EmbeddedRewardModel) -> None:
    (score,) = asyncio.run(prm.rate([Candidate(Problem("q"), (Step("a<extra_0>b", "m", 1),))], Run()))
    assert len(score.steps) == 1


def test_rating_nothing_is_counted_as_it_is_computed(prm: EmbeddedRewardModel) -> None:
    ledger = Ledger()
    asyncio.run(prm.rate([Candidate(Problem("q"))], Run(ledger=ledger)))
    assert ledger.spent.prompt == prm.count(Problem("q"), ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{bad"),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("model.safetensors", "short"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", None),
        ("config.json", None),
    ],
)
def test_a_broken_checkpoint_is_named(tmp_path: Path, name: str, content: str | None) -> None:
    shutil.copytree(CHECKPOINTS / "lab-small", tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    if content is not None:
        (tmp_path / "model" / name).write_text(content)
    with pytest.raises(BadInput, match="model"):
        EmbeddedModel(tmp_path / "model")


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS / "lab-small", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"hidden_size": 128}))
    with pytest.raises(BadInput, match="shape"):
        EmbeddedModel(tmp_path / "model")


def test_what_was_written_is_read_with_the_same_log_probabilities(large: EmbeddedModel) -> None:
    context = Context(Problem(CHAINS[0].text).messages)
    (written,) = ask(large, [context], temperature=1.0, max_tokens=60)
    half = written.text[: len(written.text) // 2]
    reading = Sampling(temperature=0.0, max_tokens=1, prefix_logprobs=True)
    for text in (written.text, half):
        run = Run(3)
        asyncio.run(
            large.generate([Context(context.messages, half)], run.child("warm"), sampling=Sampling(max_tokens=1))
        )
        (read,) = asyncio.run(large.generate([Context(context.messages, text)], run.child("read"), sampling=reading))
        assert "".join(token.text for token in read.prefix) == text
        for mine, theirs in zip(read.prefix, written.tokens, strict=False):
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_nothing_is_read_that_was_not_asked_for(large: EmbeddedModel) -> None:
    (answer,) = ask(large, [Context(Problem(CHAINS[0].text).messages, "A: ")], max_tokens=1)
    assert answer.prefix == ()
