"""LEAP (Zhang et al., 2024, arXiv 2402.05403): mistakes on examples, principles from the mistakes, an answer by the
principles."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import AnswerSpace
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Problem, Sampling
from reasonweave.strategies.prompting.asking import asked, needs, said
from reasonweave.strategies.prompting.wording import Words

FIND_EXAMPLES = """\
Here is what somebody was asked:

{problem}

Are there solved examples in it, questions that come with their answers, before the question that is really asked? Copy each as
Q: its question
A: its answer
Where there are none, write NONE and nothing else. Answer nothing yourself."""

ATTEMPT = """\
{question}

Think step by step, and put the final answer in \\boxed{}."""

LESSON = """\
A question:
{question}

An attempt at it:
{attempt}

Its right answer:
{answer}

Where does the attempt go wrong, and what follows from that for other questions of the kind? Write one principle, in a sentence
or two, that does not speak of this question. If the attempt is right after all, write NONE and nothing else."""

CONDENSE = """\
These principles were learnt from mistakes:
{lessons}

Say the same in {count} principles at most, one a line, numbered, without what is said twice or holds for one case only."""

BY_PRINCIPLES = """\
{examples}These principles keep from common mistakes:
{principles}

{problem}"""

BY_EXAMPLES = """\
{examples}{problem}"""

SHOWN = "Q: {question}\nA: {answer}\n\n"
"""How a given example is shown."""

_ENTRY = re.compile(r"^\W*(Q|A|Question|Answer)\W{1,4}(.*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its answer, worked out or not; in a worked one, the answer is what the problem's answer space finds."""

    question: str
    answer: str


@dataclass(frozen=True)
class Leap:
    """A preparation: principles are learnt from the model's own mistakes on examples, and put before the problem.

    Without `examples` those are used that the problem's text itself brings, which the model is asked for. Each is attempted
    `tries` times without the others; an attempt whose answer is the example's, by the problem's answer space, is no mistake,
    and equal answers to an example are one. From each mistake a principle is drawn, and at most `most` are made of all. Copies
    of a problem share them.

    Without examples, and where there are no mistakes on those that the problem brings, it is put as it is; where there are
    none on given ones, after the examples. Principles that cannot be condensed are taken as they are (the paper's low-level
    ones).

    `attempt` has {question}; `lesson` has {question}, {attempt}, {answer}; `condense` has {lessons}, {count}; `final` has
    {problem}, {principles}, {examples}.
    """

    model: Model
    examples: tuple[Example, ...] = ()
    tries: int = 4
    most: int = 5
    find: str = FIND_EXAMPLES
    attempt: str = ATTEMPT
    lesson: str = LESSON
    condense: str = CONDENSE
    final: str = BY_PRINCIPLES
    temperature: float = 0.8
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.tries < 1 or self.most < 1:
            raise BadInput(f"Leap(tries={self.tries}, most={self.most}): both are 1 or more")
        needs(self, "find prompt", self.find, "problem")
        needs(self, "attempt prompt", self.attempt, "question")
        needs(self, "lesson prompt", self.lesson, "question", "attempt", "answer")
        needs(self, "condense prompt", self.condense, "lessons")
        needs(self, "final question", self.final, "problem", "principles")

    async def prepare(self, problems: Sequence[Problem], run: Run) -> list[Words]:
        """For each distinct problem with E examples and M mistakes: 1 (for the examples, where none are given) + E·tries + M +
        1 requests, in four calls."""
        distinct = list(dict.fromkeys(problems))
        known = await self._examples(distinct, run.child("examples"))
        mistakes = await self._mistakes(distinct, known, run.child("attempt"))
        lessons = await self._lessons(mistakes, run.child("lesson"))
        listed = ["\n".join(f"- {lesson}" for lesson in some) for some in lessons]
        prompts = [filled(self.condense, lessons=some, count=self.most) if some else None for some in listed]
        condensed = await asked(self.model, prompts, run.child("condense"), self._sampling)
        words = {
            problem: self._words(problem, known[k], said(condensed[k]) or listed[k])
            for k, problem in enumerate(distinct)
        }
        return [words[problem] for problem in problems]

    def _words(self, problem: Problem, known: Sequence[Example], principles: str) -> Words:
        given = [filled(SHOWN, question=each.question, answer=each.answer) for each in self.examples]
        told = {"problem": problem.prompt, "examples": "".join(given), "principles": principles}
        if principles:
            return Words(filled(self.final, **told))
        return Words(filled(BY_EXAMPLES, **told)) if given else Words(None, "no mistakes" if known else "no examples")

    async def _examples(self, problems: Sequence[Problem], run: Run) -> list[tuple[Example, ...]]:
        if self.examples:
            return [self.examples] * len(problems)
        prompts = [filled(self.find, problem=problem.prompt) for problem in problems]
        replies = await asked(self.model, prompts, run, Sampling(0.0, max_tokens=self.max_tokens))
        return [examples_in(said(reply)) for reply in replies]

    async def _mistakes(
        self, problems: Sequence[Problem], known: Sequence[Sequence[Example]], run: Run
    ) -> list[list[tuple[Example, str]]]:
        """For each problem, its examples with wrong attempts at them, those with another answer each."""
        plan = [(k, each) for k, some in enumerate(known) for each in some for _ in range(self.tries)]
        prompts = [filled(self.attempt, question=each.question) for _, each in plan]
        found: list[dict[Hashable, tuple[Example, str]]] = [{} for _ in problems]
        for (k, each), reply in zip(plan, await asked(self.model, prompts, run, self._sampling), strict=True):
            text, space = said(reply), problems[k].answers
            answer = space.extract(text) if text else None
            if text and not _right(each, answer, space):
                key: Hashable = text if answer is None else space.canonical(answer)
                found[k].setdefault((each, answer is None, key), (each, text))
        return [list(some.values()) for some in found]

    async def _lessons(self, mistakes: Sequence[Sequence[tuple[Example, str]]], run: Run) -> list[list[str]]:
        prompts = [
            filled(self.lesson, question=each.question, attempt=attempt, answer=each.answer)
            for some in mistakes
            for each, attempt in some
        ]
        replies = iter(await asked(self.model, prompts, run, self._sampling))
        drawn = [[" ".join(said(next(replies)).split()) for _ in some] for some in mistakes]
        return [[lesson for lesson in some if lesson and not _none(lesson)] for some in drawn]

    @property
    def _sampling(self) -> Sampling:
        return Sampling(self.temperature, max_tokens=self.max_tokens)


def _right(example: Example, answer: str | None, space: AnswerSpace) -> bool:
    """Is this the example's answer?"""
    return answer is not None and space.same(space.extract(example.answer) or example.answer, answer)


def _none(text: str) -> bool:
    return re.fullmatch(r"\W*none\W*", text, re.IGNORECASE) is not None


def examples_in(text: str) -> tuple[Example, ...]:
    r"""Examples as Q: and A: entries, which may run over several lines; a question without an answer is none.

    >>> examples_in("Q: 1 + 1?\nA: 2\n\n**Q:** 2 +\n2?\n**A:** four\nQ: 9?")
    (Example(question='1 + 1?', answer='2'), Example(question='2 +\n2?', answer='four'))
    """
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if match := _ENTRY.match(line):
            found.append((match[1][0].upper(), [match[2]]))
        elif found:
            found[-1][1].append(line)
    entries = [(kind, "\n".join(lines).strip()) for kind, lines in found]
    pairs = itertools.pairwise(entries)
    return tuple(Example(q, a) for (first, q), (then, a) in pairs if (first, then) == ("Q", "A") and q and a)
