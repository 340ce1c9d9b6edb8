"""Chain of verification: questions about an answer, each of them answered by who does not see it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Completion, Context, Message, Sampling
from reasonweave.strategies.aggregators.judging import presented
from reasonweave.strategies.refining.feedback import Remark, silence, unsaid

QUESTIONS_PROMPT = """\
Here are a problem and an answer to it, which may be wrong.

Problem:
{problem}

Answer:
{solution}

Write at most {count} short questions that would bring a mistake in this answer to light: each about one fact or one step
that the answer rests on. Whoever answers a question sees nothing but that question, so it has to hold all that is needed,
and must not give away what this answer says. One question a line, each ending in a question mark, and nothing else."""

ANSWER_PROMPT = """\
Answer this question briefly, and only as far as you are sure.

{question}"""

_NUMBER = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):]|Q\d*[.:])\s*(.+)$")


def questions_in(text: str, most: int) -> tuple[str, ...]:
    """The questions of a reply, each once: its lines that end in a question mark, else those with a number or a bullet.

    >>> questions_in("Here are some:\\n1. What is 2 + 2?\\n- Is 7 prime?\\n2. What is 2 + 2?", 5)
    ('What is 2 + 2?', 'Is 7 prime?')
    """
    lines = [line.strip() for line in after_thinking(text).splitlines() if line.strip()]
    plain = [(found[1].strip() if (found := _NUMBER.match(line)) else line, found is not None) for line in lines]
    asked = [words.strip("*_ ") for words, _ in plain if words.strip("*_ ").endswith("?")]
    return tuple(dict.fromkeys(asked or [words for words, numbered in plain if numbered]))[:most]


@dataclass(frozen=True)
class VerificationQuestions:
    """Chain-of-Verification's check (CoVe, Dhuliawala et al., 2023, arXiv 2309.11495), in its factored form.

    `model` reads an answer and asks up to `most` questions about what it rests on; `answerer` (None: `model`) answers each
    of them apart, greedily, shown nothing of the answer. The remark has the questions with what was replied, and no
    verdict. Questions without a reply are left out; where there are no questions, or no replies, there is no remark.

    Two calls, 1 + `most` requests an answer; equal questions are asked once. `answer_prompt` may have {problem} in it besides
    {question}.
    """

    model: Model
    answerer: Model | None = None
    most: int = 5
    max_tokens: int = 512
    prompt: str = QUESTIONS_PROMPT
    answer_prompt: str = ANSWER_PROMPT

    def __post_init__(self) -> None:
        if self.most < 1 or "{solution}" not in self.prompt or "{question}" not in self.answer_prompt:
            raise BadInput(
                f"VerificationQuestions(most={self.most}): 1 or more; prompt needs {{solution}} in it, answer_prompt {{question}}"
            )

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        sampling = Sampling(0.0, max_tokens=self.max_tokens)
        contexts = [self._plan(c) for c in candidates]
        plans = await self.model.generate(contexts, run.child("plan"), sampling=sampling)
        asked = [questions_in(plan.text, self.most) for plan in plans]
        put = [self._question(c, question) for c, own in zip(candidates, asked, strict=True) for question in own]
        replies = iter(await asked_once(self.answerer or self.model, put, run.child("answer"), sampling))
        return [
            self._remark(plan, own, list(islice(replies, len(own)))) for plan, own in zip(plans, asked, strict=True)
        ]

    def _plan(self, candidate: Candidate) -> Context:
        parts = {"problem": candidate.problem.prompt, "solution": presented(candidate), "count": str(self.most)}
        return Context((Message("user", filled(self.prompt, **parts)),))

    def _question(self, candidate: Candidate, question: str) -> Context:
        asked = filled(self.answer_prompt, question=question, problem=candidate.problem.prompt)
        return Context((Message("user", asked),))

    def _remark(self, plan: Completion, questions: Sequence[str], replies: Sequence[Completion]) -> Remark:
        if not questions:
            why = "no question could be read" if plan.text else silence(plan)
            return unsaid(f"{self.model.name}: {why}")
        said = [(question, after_thinking(reply.text)) for question, reply in zip(questions, replies, strict=True)]
        if not (told := [f"Question: {question}\nReply: {words}" for question, words in said if words]):
            name = (self.answerer or self.model).name
            return unsaid(f"{name}: none of {len(questions)} questions was answered: {silence(replies[0])}")
        return Remark("\n\n".join(told))
