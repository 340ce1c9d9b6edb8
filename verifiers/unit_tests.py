"""Unit tests of answers, given or written by a model: statements that a model checks (Archon; Saad-Falcon et al., 2024,
arXiv 2409.15254), and asserts that programs are run against (CodeT; Chen et al., 2022, arXiv 2207.10397)."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.sandbox import Sandbox
from reasonweave.orchestrator.types import Candidate, Completion, Context, Message, Problem, Sampling, Score
from reasonweave.verifiers._once import Once
from reasonweave.verifiers.code import Judged, Tried, in_time, parsed, program_in, try_asserts
from reasonweave.verifiers.judge import unanswered

STATEMENTS_PROMPT = """\
Below is a problem that somebody will answer. Write unit tests for the answer: short statements in plain words, each of which a
good answer makes true and a bad one may not. Each is about one thing, can be decided by reading the answer alone, and does not
depend on the others. Write at most {count}, the most important first.

Problem:
{problem}

Reply with a JSON list of strings and nothing else, such as
["The answer mentions the units.", "The answer gives a single number."]"""

EVALUATION_PROMPT = """\
Below are a problem, an answer to it, and {count} unit tests of the answer, which are statements about it.

Problem:
{problem}

Answer:
{answer}

Unit tests:
{tests}

For each unit test, say in a sentence or two whether it is true of this answer. Then end with one line for each, in this form:
Unit Test #1: [Passed]
Unit Test #2: [Failed]"""

ASSERTS_PROMPT = """\
Below is a programming problem. Do not solve it. Write tests for a solution in Python: `assert` statements, one a line, that call
what the problem asks for with concrete arguments and compare with the result that is right. Cover ordinary cases and edge cases;
write only what you are sure of; import what you use. Write at most {count}.

Problem:
{problem}

Reply with one ```python code block that has the assert statements and nothing else."""

_HEADER = re.compile(r"unit\s+test\s*#?\s*(\d{1,6})[\s*_`]*:", re.IGNORECASE)
_MARK = re.compile(r"\W*(passed|failed)\b")
_BULLET = re.compile(r"\s*(?:[-*•]|\(?\d+[.):])\s+(.+)")


async def _once(
    known: Once[Problem, tuple[str, ...]],
    problem: Problem,
    run: Run,
    write: Callable[[Run], Awaitable[tuple[str, ...] | str]],
) -> tuple[str, ...] | str:
    """The tests of a problem, written first where there are none yet; or why there are none, which is not remembered."""
    failed = ""

    async def find(problems: list[Problem], here: Run) -> dict[Problem, tuple[str, ...]]:
        nonlocal failed
        written = await write(here)
        if isinstance(written, str):
            failed = written
            return {}
        return {problem: written}

    return (await known.all([problem], run, find)).get(problem, failed)


def _check(part: object, most: int, max_tokens: int, prompts: Mapping[str, tuple[str, ...]]) -> None:
    name = type(part).__name__
    if most < 1 or max_tokens < 1:
        raise BadInput(f"{name}(most={most}, max_tokens={max_tokens}): both are 1 or more")
    for prompt, places in prompts.items():
        for place in places:
            if f"{{{place}}}" not in getattr(part, prompt):
                raise BadInput(f"{name}({prompt}=…): it has no place for {{{place}}}")


async def _asked(model: Model, prompt: str, run: Run, max_tokens: int) -> Completion:
    """What a model answers to one question, greedily."""
    context = Context((Message("user", prompt),))
    (answer,) = await model.generate([context], run, sampling=Sampling(temperature=0.0, max_tokens=max_tokens))
    return answer


def _silence(answer: Completion) -> str:
    return answer.error or ("the budget ended" if answer.finish_reason == "budget" else "no answer came")


def statements_in(text: str, most: int) -> tuple[str, ...]:
    """The statements of a reply: its last list of texts, in JSON or Python, else its bulleted or numbered lines; at most `most`.

    >>> statements_in('Here: ["It has units.", "It is short."]', 8), statements_in("1. It has units.", 8)
    (('It has units.', 'It is short.'), ('It has units.',))
    """
    said = after_thinking(text)
    found = _listed(said) or [
        line[1].strip().strip("\"',") for line in map(_BULLET.fullmatch, said.splitlines()) if line
    ]
    return tuple(dict.fromkeys(each.strip() for each in found if each.strip()))[:most]


def _listed(text: str) -> list[str]:
    """The last list of texts in a text, from its bracket to the last bracket after which it can be read."""
    end = text.rfind("]") + 1
    start = text.rfind("[", 0, end)
    for _ in range(100):  # a reply of brackets alone is no reason to read it as often as it has brackets
        if start < 0:
            break
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(text[start:end])
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list) and found and all(isinstance(each, str) for each in found):
                return found
        start = text.rfind("[", 0, start)
    return []


def verdicts_in(text: str, count: int) -> dict[int, bool]:
    """Which of `count` unit tests a reply says passed, and which failed.

    The last line that names a test counts; one that says both, or neither, says nothing.

    >>> verdicts_in("Unit Test #1: [Failed]? No.\\nUnit Test #1: [Passed]\\nUnit Test #2: maybe", 2)
    {1: True}
    """
    said = after_thinking(text)
    headers = list(_HEADER.finditer(said))
    ends = [header.start() for header in headers[1:]] + [len(said)] * bool(headers)
    last = {
        int(header[1]): said[header.end() : end].split("\n")[0].lower()
        for header, end in zip(headers, ends, strict=True)
    }
    marks = {number: _MARK.match(line) for number, line in sorted(last.items()) if 1 <= number <= count}
    both = {number for number, line in last.items() if "passed" in line and "failed" in line}
    return {number: mark[1] == "passed" for number, mark in marks.items() if mark and number not in both}


@dataclass(frozen=True)
class StatementTests:
    """Unit tests in words, each checked by a model (Archon): the share of them that the candidate's answer passes.

    The statements are `statements`, else the problem's ``meta["statements"]``, else `author` (`evaluator` where there is none)
    writes at most `most` of them, once a problem and run, from the problem alone; who answers does not see them. `evaluator`
    reasons about all statements in one reply, and ends with a line ``Unit Test #i: [Passed]`` or ``[Failed]`` for each. Both
    are asked greedily. A statement without such a line leaves the candidate unjudged: nan, saying which; so do a reply that did
    not come and statements that could not be read.

    Costs: a reply of up to `max_tokens` tokens a candidate, and one a problem where the statements are written.
    """

    evaluator: Model
    author: Model | None = None
    statements: tuple[str, ...] | None = None
    most: int = 8
    max_tokens: int = 1024
    prompt: str = STATEMENTS_PROMPT
    evaluation_prompt: str = EVALUATION_PROMPT
    _known: Once[Problem, tuple[str, ...]] = field(default_factory=Once, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = {"prompt": ("problem",), "evaluation_prompt": ("problem", "answer", "tests")}
        _check(self, self.most, self.max_tokens, places)
        if self.statements is not None:
            _given(self.statements, "StatementTests(statements=…)")

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        problems = list(dict.fromkeys(c.problem for c in candidates))
        work = (self._tests(problem, run.child("write", i)) for i, problem in enumerate(problems))
        tests = dict(zip(problems, await together(work), strict=True))
        contexts = [self._context(c, found) for c in candidates if not isinstance(found := tests[c.problem], str)]
        sampling = Sampling(temperature=0.0, max_tokens=self.max_tokens)
        answers = iter(await asked_once(self.evaluator, contexts, run.child("evaluate"), sampling))
        return [
            Score(math.nan, error=found) if isinstance(found := tests[c.problem], str) else _share(found, next(answers))
            for c in candidates
        ]

    async def _tests(self, problem: Problem, run: Run) -> tuple[str, ...] | str:
        """The statements of a problem, or why there are none."""
        if self.statements is not None:
            return self.statements
        if "statements" in problem.meta:
            return _given(
                problem.meta["statements"], f"problem {problem.id or problem.prompt[:40]!r}, meta['statements']"
            )

        async def write(here: Run) -> tuple[str, ...] | str:
            prompt = filled(self.prompt, problem=problem.prompt, count=self.most)
            answer = await _asked(self.author or self.evaluator, prompt, here, self.max_tokens)
            if unanswered(answer):
                return f"no unit tests were written: {_silence(answer)}"
            return (
                statements_in(answer.text, self.most)
                or "no unit tests could be read in the reply that should have them"
            )

        return await _once(self._known, problem, run, write)

    def _context(self, candidate: Candidate, tests: Sequence[str]) -> Context:
        listed = "\n".join(f"Unit Test #{i}: {test}" for i, test in enumerate(tests, 1))
        answer = after_thinking(candidate.text)
        values = {"problem": candidate.problem.prompt, "answer": answer, "tests": listed, "count": len(tests)}
        return Context((Message("user", filled(self.evaluation_prompt, **values)),))


def _given(statements: object, where: str) -> tuple[str, ...]:
    found = list(statements) if isinstance(statements, Sequence) and not isinstance(statements, str) else []
    if not found or not all(isinstance(each, str) and each.strip() for each in found):
        raise BadInput(f"{where}: give a list of statements, texts such as 'The answer gives a single number.'")
    return tuple(found)


def _share(tests: Sequence[str], answer: Completion) -> Score:
    if unanswered(answer):
        return Score(math.nan, error=f"the unit tests were not evaluated: {_silence(answer)}")
    verdicts = verdicts_in(answer.text, len(tests))
    missing = [str(i) for i in range(1, len(tests) + 1) if i not in verdicts]
    if missing:
        return Score(math.nan, error=f"the evaluation says nothing of unit test {', '.join(missing)} of {len(tests)}")
    return Score(sum(verdicts.values()) / len(tests))


def asserts_in(text: str, most: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    r"""The asserts of a reply, at most `most`, each with the reply's imports before it; also, of what cannot be read, the lines.

    They stand in the reply's program, else in the reply as it is, at the top level or in functions that have nothing else. One
    that is no Python costs the others nothing.

    >>> asserts_in("```python\nassert f(1) == 2\nassert f(2 == 3\n```", 8)
    (('assert f(1) == 2',), ('assert f(2 == 3',))
    """
    code = program_in(text)
    code = after_thinking(text) if code is None else code
    try:
        nodes, broken = parsed(code).body, list[str]()
    except SyntaxError:
        nodes, broken = _line_by_line(code)
    imports = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    found = [each for node in nodes for each in _asserts(node)]
    tests = ("\n".join([*imports, ast.unparse(node)]) for node in found)
    return tuple(dict.fromkeys(tests))[:most], tuple(broken)


def _line_by_line(code: str) -> tuple[list[ast.stmt], list[str]]:
    nodes, broken = list[ast.stmt](), list[str]()
    for line in map(str.strip, code.splitlines()):
        if re.match(r"(?:assert|import|from)\b", line):
            try:
                nodes += parsed(line).body
            except SyntaxError:
                broken += [line] if line.startswith("assert") else []
    return nodes, broken


def _asserts(node: ast.stmt) -> list[ast.Assert]:
    if isinstance(node, ast.Assert):
        return [node]
    if isinstance(node, ast.FunctionDef) and not node.args.args:
        inner = [each for each in node.body if isinstance(each, ast.Assert)]
        return inner if len(inner) == len(node.body) else []
    return []


@dataclass(frozen=True)
class AssertTests:
    """Unit tests that a model writes and that run: the share of the asserts that the candidate's program passes.

    `author` writes at most `most` asserts, greedily, once a problem and run, from the problem alone. They run in the sandbox
    against the program of each candidate (`program_in`; none scores 0), as in `CodeCheck`. Tests that say nothing are
    dropped, and do not count for any candidate of the call: what is no Python, what cannot be run, what passes without calling
    the program, and, where there are two different programs or more, what none of them passes (as in CodeT, which trusts what
    tests and programs agree on). Where none is left, the candidates with a program get nan, and `error` says why. `judged` tells
    what happened in each test, and has the dropped ones in its `notes`.

    Raises what `CodeCheck` raises.

    Costs: a reply of up to `max_tokens` tokens a problem; about 0.06 s a candidate, and what the program takes.
    Needs: Linux with user namespaces, or ``Sandbox(unsafe=True)``.
    """

    author: Model
    sandbox: Sandbox = field(default_factory=Sandbox)
    most: int = 8
    max_tokens: int = 1024
    prompt: str = ASSERTS_PROMPT
    _known: Once[Problem, tuple[str, ...]] = field(default_factory=Once, init=False, repr=False, compare=False)

    relative: ClassVar[bool] = True
    """Which tests count depends on the other candidates in the call."""

    patience: ClassVar[float] = math.inf
    """What it runs has limits of its own."""

    def __post_init__(self) -> None:
        _check(self, self.most, self.max_tokens, {"prompt": ("problem",)})

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [judged.score for judged in await self.judged(candidates, run)]

    async def judged(self, candidates: Sequence[Candidate], run: Run) -> list[Judged]:
        """What became of each candidate, test by test, in order."""
        programs: dict[Problem, dict[str, Judged]] = {}
        for c in candidates:
            found = programs.setdefault(c.problem, {})
            if (program := program_in(c.text)) is not None:
                found[program] = Judged(program)
        work = (
            self._judged(problem, list(found), run.child("write", i))
            for i, (problem, found) in enumerate(programs.items())
        )
        answers = dict(zip(programs, await together(work), strict=True))
        return [Judged(None) if (p := program_in(c.text)) is None else answers[c.problem][p] for c in candidates]

    async def _judged(self, problem: Problem, programs: Sequence[str], run: Run) -> dict[str, Judged]:
        """Each of a problem's programs judged."""
        if not programs:
            return {}

        async def write(here: Run) -> tuple[str, ...] | str:
            prompt = filled(self.prompt, problem=problem.prompt, count=self.most)
            answer = await _asked(self.author, prompt, here, self.max_tokens)
            if unanswered(answer):
                return f"no tests were written: {_silence(answer)}"
            tests, broken = asserts_in(answer.text, self.most)
            return (*tests, *broken) or "no asserts could be read in the reply that should have them"

        written = await _once(self._known, problem, run, write)
        if isinstance(written, str):
            return {program: Judged(program, error=written) for program in programs}
        tests, notes = list[str](), list[str]()
        for test in written:
            try:
                parsed(test)
                tests.append(test)
            except SyntaxError as error:
                notes.append(_dropped(test, f"it is no Python: {error.msg}"))
        return await self._tried(programs, tests, notes, run)

    async def _tried(
        self, programs: Sequence[str], tests: Sequence[str], notes: list[str], run: Run
    ) -> dict[str, Judged]:
        work = (try_asserts(self.sandbox, program, tests) for program in programs) if tests else ()
        tried = dict(zip(programs, await in_time(run, together(work)), strict=False))
        could = [found for found in tried.values() if not isinstance(found, str)]
        kept = []
        for i, test in enumerate(tests):
            why = _useless([found[i] for found in could])
            kept += [] if why else [i]
            notes += [_dropped(test, why)] if why else []
        judged = {}
        for program in programs:
            found = tried.get(program, ())
            error = found if isinstance(found, str) else None if kept else f"no test is left: {'; '.join(notes)}"
            results = () if isinstance(found, str) else tuple(found[i] for i in kept)
            judged[program] = Judged(program, results, error, notes=tuple(notes))
        return judged


def _useless(tried: Sequence[Tried]) -> str | None:
    """Why a test tells nothing of these programs; None where it does."""
    if tried and all(each.unusable for each in tried):
        return f"it cannot be run: {tried[0].told}"
    if any(each.passed and not each.touched for each in tried):
        return "it passes without the program"
    if len(tried) > 1 and not any(each.passed for each in tried):
        return "no program passes it"
    return None


def _dropped(test: str, why: str) -> str:
    return f"{test.splitlines()[-1]!r:.80} dropped: {why}"
