"""Unit tests in words: a model writes what a good answer does, the problem is put with that, and answers are ranked by it.

Who checks answers against unit tests is any verifier that reads a problem's ``meta["statements"]``, as the registered
`unit-tests`.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import Around, scored
from reasonweave.orchestrator.types import Candidate, Candidates, Context, Message, Problem, Sampling, Score
from reasonweave.strategies.archon.asking import ATTEMPTS, check_counts, worth_another
from reasonweave.strategies.archon.carried import WithTests, plain

TESTS_PROMPT = """\
Below is a problem that somebody is about to answer. Write unit tests by which the answer can be judged: {count} at most,
the most important first. Each is one statement about the answer that a good answer makes true, such as "The answer states
…" or "The answer uses …", with the result that you expect in it, and can be checked by reading the answer alone.

Problem:
{problem}

Reply with a list of texts in double quotes, in square brackets, and with nothing else."""

ADDED = "{problem}\n\nA good answer passes these unit tests:\n{tests}"
"""The problem's prompt with its unit tests."""

_ITEM = re.compile(r"\s*(?:[-*•]|\(?\d+[.):])\s+(.+)")


def unit_tests_in(text: str, most: int) -> tuple[str, ...]:
    """The unit tests of a reply: its list of texts, else its bulleted or numbered lines; the first `most` that differ.

    >>> unit_tests_in('Here: ["It is [5].", "It is short."]', 8), unit_tests_in("Tests:\\n1. It is 5.\\n- It is short.", 1)
    (('It is [5].', 'It is short.'), ('It is 5.',))
    """
    said = after_thinking(text)
    items = _listed(said) or [line[1].strip("\"', ") for line in map(_ITEM.fullmatch, said.splitlines()) if line]
    return tuple(dict.fromkeys(each.strip() for each in items if each.strip()))[:most]


def _listed(text: str) -> list[str]:
    """The first list of texts in a text, in JSON or, if it ends with the last bracket, in Python."""
    end = text.rfind("]") + 1
    readers: tuple[Callable[[int], object], ...] = (
        lambda start: json.JSONDecoder().raw_decode(text, start)[0],
        lambda start: ast.literal_eval(text[start:end]),
    )
    for bracket in itertools.islice(re.finditer(r"\[", text[:end]), 20):
        for read in readers:
            try:
                found = read(bracket.start())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list) and found and all(isinstance(each, str) for each in found):
                return found
    return []


@dataclass(frozen=True)
class UnitTestGenerator:
    """Archon's unit-test generator: `model` writes at most `most` unit tests of an answer, from the problem alone, and the
    problem goes on with them in its prompt (a `WithTests` one), so that all who come after it see them.

    Once a problem; a reply without any is asked for once more, and then the problem stays as it is. Where its
    ``meta["statements"]`` has some already, these are taken and nobody is asked. Candidates keep what they have written.
    """

    model: Model
    most: int = 8
    temperature: float = 0.7
    max_tokens: int = 2048
    prompt: str = TESTS_PROMPT
    added: str = ADDED

    def __post_init__(self) -> None:
        check_counts(self, most=self.most)
        for prompt, blank in ((self.prompt, "{problem}"), (self.added, "{problem}"), (self.added, "{tests}")):
            if blank not in prompt:
                raise BadInput(f"UnitTestGenerator: the prompt {prompt!r} has no {blank} in it")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        problems = list(dict.fromkeys(plain(c.problem) for c in roots))
        tests: dict[Problem, tuple[str, ...]] = {p: given for p in problems if (given := _given(p))}
        left = [p for p in problems if p not in tests]
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        for attempt in range(ATTEMPTS):
            if not left:
                break
            here = run.child("write", attempt)
            contexts = [self._context(problem) for problem in left]
            work = self.model.generate(contexts, here, sampling=sampling)
            replies = await work if attempt == 0 else await afforded(work, here)
            unread: list[Problem] = []
            for problem, reply in zip(left, replies or [], strict=replies is not None):
                if found := unit_tests_in(reply.text, self.most):
                    tests[problem] = found
                elif worth_another(reply, sampling):
                    unread.append(problem)
            left = unread
        yield roots.of_items([self._with(c, tests.get(plain(c.problem), ())) for c in roots])

    def _context(self, problem: Problem) -> Context:
        return Context((Message("user", filled(self.prompt, problem=problem.prompt, count=self.most)),))

    def _with(self, candidate: Candidate, tests: Sequence[str]) -> Candidate:
        """The candidate as an answer to the problem with these unit tests; as it is where there are none."""
        if not tests:
            return candidate
        asked = plain(candidate.problem)
        prompt = filled(self.added, problem=asked.prompt, tests="\n".join(f"- {test}" for test in tests))
        meta = {**asked.meta, "statements": tuple(tests)}
        return replace(candidate, problem=WithTests(prompt, asked.id, asked.answers, meta, plain=asked))


def _given(problem: Problem) -> tuple[str, ...]:
    """The unit tests that a problem brings; whoever checks answers against them says what is wrong with them."""
    given = problem.meta.get("statements", ())
    listed = isinstance(given, Sequence) and not isinstance(given, str)
    return tuple(given) if listed and all(isinstance(each, str) for each in given) else ()


@dataclass(frozen=True)
class AsAsked(Around):
    """A verifier that is shown the problem without the unit tests in its prompt; it has them still as ``meta["statements"]``."""

    verifier: Verifier

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return await scored(self.verifier, [_bare(c) for c in candidates], run)


def _bare(candidate: Candidate) -> Candidate:
    asked = plain(candidate.problem)
    return replace(candidate, problem=replace(asked, meta={**asked.meta, **candidate.problem.meta}))
