"""The embedded engine against transformers, an independent implementation of the same architecture."""

from __future__ import annotations

import asyncio

import pytest

from reasonweave.orchestrator import Candidate, Completion, Context, Problem, Run, Sampling, Step
from reasonweave.orchestrator.models.embedded import EmbeddedModel, EmbeddedRewardModel, render, render_rating
from reasonweave.tasks.lab.problems import problems
from reasonweave.tasks.lab.task import CHECKPOINTS

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
torch = pytest.importorskip("torch", reason="run with `make live`")
transformers = pytest.importorskip("transformers", reason="run with `make live`")

PROMPTS = 200


@pytest.mark.parametrize("name", ["lab-small", "lab-large"])
def test_greedy_tokens_are_equal_and_logprobs_within_a_thousandth(name: str) -> None:
    contexts = [Context(Problem(chain.text).messages) for chain in problems(PROMPTS)]
    ours = asyncio.run(greedy(name, contexts))
    theirs = transformers.Qwen2ForCausalLM.from_pretrained(CHECKPOINTS / name, dtype=torch.float32).eval()
    vocabulary = EmbeddedModel(CHECKPOINTS / name).engine.vocabulary
    worst = 0.0
    for context, answer in zip(contexts, ours, strict=True):
        prompt = list(vocabulary.encode(render(context)))
        with torch.no_grad():
            out = theirs.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt)),
                max_new_tokens=200,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        ids = out.sequences[0, len(prompt) :].tolist()
        text = b"".join(vocabulary.pieces[i] for i in ids if i not in vocabulary.ends).decode()
        assert text == answer.text
        assert len(ids) == len(answer.tokens)
        for logits, i, token in zip(out.logits, ids, answer.tokens, strict=True):
            worst = max(worst, abs(torch.log_softmax(logits[0].double(), -1)[i].item() - token.logprob))
    print(f"{name}: largest difference of a log-probability {worst:.2e}")
    assert worst < 1e-3


async def greedy(name: str, contexts: list[Context]) -> list[Completion]:
    model = EmbeddedModel(CHECKPOINTS / name)
    answers = await model.generate(contexts, Run(0), sampling=Sampling(temperature=0.0, max_tokens=200))
    await model.aclose()
    return answers


def test_auto_tokenizer_builds_the_same_ids_and_the_same_chat() -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(CHECKPOINTS / "lab-large")
    ours = EmbeddedModel(CHECKPOINTS / "lab-large").engine.vocabulary
    odd = [
        "Wait, A: 3 + 4 = 7\n\n",
        "  two  spaces\tand\r\nlines\n\n\n",
        "naïve 中文 🙂",
        r"\boxed{12}.",
        "I'm, they'll 12345",
    ]
    for text in [*odd, *(chain.text for chain in problems(50))]:
        assert list(ours.encode(text)) == theirs(text).input_ids
    problem = Problem(problems(1)[0].text)
    chat = [{"role": m.role, "content": m.content} for m in problem.messages]
    rendered = theirs.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert rendered == render(Context(problem.messages))


def test_rewards_agree_with_a_plain_torch_network() -> None:
    from safetensors.torch import load_file

    folder = CHECKPOINTS / "lab-prm"
    tensors = load_file(folder / "model.safetensors")
    config = transformers.Qwen2Config.from_pretrained(folder)
    trunk = transformers.Qwen2Model(config).eval()
    trunk.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    model = EmbeddedRewardModel(folder)
    chains = problems(40)
    steps = [[f"{i}: {c.start} + {i} = {c.start + i}\n\n" for i in range(1 + k % 4)] for k, c in enumerate(chains)]
    candidates = [
        Candidate(Problem(c.text), tuple(Step(text, "m", 1) for text in texts))
        for c, texts in zip(chains, steps, strict=True)
    ]
    ours = asyncio.run(model.rate(candidates, Run(0)))
    (tag,) = model.engine.vocabulary.encode("<extra_0>")
    for candidate, texts, score in zip(candidates, steps, ours, strict=True):
        ids = torch.tensor([model.engine.vocabulary.encode(render_rating(candidate.problem, texts))])
        with torch.no_grad():
            hidden = trunk(input_ids=ids).last_hidden_state[0][ids[0] == tag]
            inner = torch.relu(hidden @ tensors["score.0.weight"].T + tensors["score.0.bias"])
            expected = torch.softmax(inner @ tensors["score.2.weight"].T + tensors["score.2.bias"], -1)[:, 1]
        assert score.steps == pytest.approx(expected.tolist(), abs=1e-4)
