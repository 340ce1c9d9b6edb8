"""Programs judged by running them: tests given with the problem, in a sandbox."""

from __future__ import annotations

import ast
import functools
import json
import math
import re
import textwrap
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeAlias, TypeVar

from reasonweave.orchestrator import sandbox as sandboxes
from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.errors import BadInput, OverBudget
from reasonweave.orchestrator.models.base import Late, within
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.sandbox import Sandbox, Verdict, printable
from reasonweave.orchestrator.types import Candidate, Problem, Score, Usage, shown

_T = TypeVar("_T")
_FENCE = re.compile(r"[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<word>[^\s`]*)[^`]*")
_PYTHON = ("python", "py", "python3")

TOGETHER = 4
"""The asserts on one program share a run of the sandbox, which may take as long as this many of them may."""


@dataclass(frozen=True, slots=True)
class Stdio:
    """A test: what a program reads on standard input, and what it has to write on standard output."""

    stdin: str
    stdout: str


Test: TypeAlias = str | Stdio
"""A test: Python that calls what the program defines, and raises where that is wrong; or input and output."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A test tried on a program: whether it passed, and why not, in one line.

    `touched` says that the test called the program; `unusable` that the test itself cannot be run.
    """

    test: Test
    passed: bool
    told: str
    touched: bool = True
    unusable: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a candidate: its program, None where its text has none, and each test tried on it.

    `error` says why it could not be judged. With `whole`, a program that fails a single test scores 0. `notes` tell of tests that
    were dropped.
    """

    program: str | None
    tried: tuple[Tried, ...] = ()
    error: str | None = None
    whole: bool = False
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> Score:
        """The share of the tests that passed, 0 to 1; 0 without a program; nan where it could not be judged."""
        if self.error is not None:
            return Score(math.nan, error=self.error)
        share = sum(each.passed for each in self.tried) / len(self.tried) if self.tried else 0.0
        return Score(float(share == 1.0) if self.whole else share)


def program_in(text: str) -> str | None:
    r"""The program in a solution: its last closed code block that says it is Python, else its last one that says nothing.

    What stands in the solution's thinking does not count.

    >>> program_in("So:\n```python\nprint(6)\n```\nIt prints\n```\n6\n```\n")
    'print(6)\n'
    """
    python: str | None = None
    plain: str | None = None
    opened, body = None, list[str]()
    for line in after_thinking(text).splitlines():
        fence = _FENCE.fullmatch(line)
        if opened is None or (
            fence and fence["word"] and fence["fence"] == opened["fence"]
        ):  # the one before never closed
            opened, body = fence, []
        elif fence and fence["fence"].startswith(opened["fence"]) and not fence["word"]:
            code = textwrap.dedent("".join(f"{each}\n" for each in body))
            if opened["word"].lower() in _PYTHON:
                python = code
            elif not opened["word"]:
                plain = code
            opened = None
        else:
            body.append(line)
    return plain if python is None else python


def same_output(expected: str, written: str) -> bool:
    r"""Do two outputs say the same? White space at the ends of lines and of the whole is not compared.

    >>> same_output("1 2\n3\n", "1 2 \n3"), same_output("1 2", "1  2")
    (True, False)
    """
    return [each.rstrip() for each in expected.rstrip().splitlines()] == [
        each.rstrip() for each in written.rstrip().splitlines()
    ]


def parsed(text: str) -> ast.Module:
    """Python as a syntax tree; raises `SyntaxError` where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on escapes in strings, say: the test's matter
            return ast.parse(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None


def separate(text: str) -> tuple[str, ...]:
    r"""The tests in a Python text: one for each `assert` at its top level, which runs after all that stands before it.

    What is asserted before is evaluated again, for what it does to what the tests have made, and counts no more; where they
    make nothing but imports, functions and classes it is left out. What stands last without an assert is one more test, and
    so is a text without any.

    >>> separate("import math\nassert f(1) == 2\nassert f(2) == 3")
    ('import math\nassert f(1) == 2', 'import math\nassert f(2) == 3')
    """
    body = parsed(text).body
    made = [node for node in body if not isinstance(node, ast.Assert) and not _inert(node)]
    before, tests, pending = list[str](), list[str](), False
    for node in body:
        if isinstance(node, ast.Assert):
            tests.append("\n".join([*before, ast.unparse(node)]))
            if made:
                before.append(f"try:\n    {ast.unparse(node.test)}\nexcept Exception:\n    pass")
            pending = False
        else:
            before.append(ast.unparse(node))
            pending = pending or not _inert(node)
    return (*tests, "\n".join(before)) if pending or not tests else tuple(tests)


def _inert(node: ast.stmt) -> bool:
    """A statement that does nothing by itself: an import, a definition, a text."""
    definition = isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return definition or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def read_tests(given: object, where: str) -> tuple[Test, ...]:
    """Tests as users write them, each as what it is; raises `BadInput`, naming `where`.

    A text is Python, of which each `assert` is a test (`separate`). Else it is a list, each item a test: a text of Python as
    it stands, a `Stdio`, a pair (input, output), or a mapping with the keys stdin and stdout, or input and output.
    """
    try:
        if isinstance(given, str):
            found: tuple[Test, ...] = separate(given) if given.strip() else ()
        elif isinstance(given, Sequence):
            found = tuple(_test(each) for each in given)
        else:
            raise BadInput(f"{type(given).__name__} is neither a text of Python nor a list")
        for each in found:
            if isinstance(each, str):
                parsed(each)
    except (BadInput, SyntaxError) as error:
        raise BadInput(f"{where}: these tests cannot be read: {error}") from None
    if not found:
        raise BadInput(f"{where}: there are no tests; give asserts, or pairs of input and output")
    return found


def _test(given: object) -> Test:
    if isinstance(given, str | Stdio):
        return given
    if isinstance(given, Mapping):
        for pair in (("stdin", "stdout"), ("input", "output")):
            if all(isinstance(given.get(key), str) for key in pair):
                return Stdio(given[pair[0]], given[pair[1]])
    if isinstance(given, Sequence) and len(given) == 2 and all(isinstance(each, str) for each in given):
        return Stdio(*given)
    raise BadInput(f"{given!r:.80} is neither Python nor a pair of texts (input, output)")


@functools.cache
def _judge() -> tuple[str, dict[str, str]]:
    """The program that runs asserts in the sandbox, and the files that it imports there."""
    folder = Path(sandboxes.__file__).parent
    package = "reasonweave/orchestrator"
    files = {f"{package}/{name}": (folder / name).read_text() for name in ("_sandbox_wire.py", "_sandbox_hosted.py")}
    empty = {"reasonweave/__init__.py": "", f"{package}/__init__.py": ""}
    return (folder / "_sandbox_asserts.py").read_text(), files | empty


async def try_asserts(sandbox: Sandbox, program: str, tests: Sequence[str]) -> tuple[Tried, ...] | str:
    """Try asserts on a program, each on a fresh process of it, all in one run of the sandbox; or say why it could not be.

    The tests run in another process than the program, so it is not the program that compares. An assert that takes longer than
    the limit has failed; a program that breaks another limit has failed it and those after it.
    """
    judge, files = _judge()
    limits, count = sandbox.limits, len(tests)
    longer = min(count, TOGETHER)
    cpu = limits.seconds if limits.cpu is None else limits.cpu
    whole = replace(
        limits,
        seconds=longer * limits.seconds + 1.0,
        cpu=longer * cpu + 1.0,
        processes=limits.processes + 2,  # the judge, and what starts the program for it
        output=max(limits.output, 8192 * count),
    )
    ran = await sandbox.run(
        judge,
        args=[str(limits.seconds)],
        files={**files, "candidate.py": program},
        stdin=json.dumps(list(tests)),
        limits=whole,
    )
    ready, *lines = ran.stdout.split("\n")
    if ran.verdict is Verdict.NOT_RUN or ready != "ready":
        return ran.told
    tried = list[Tried]()
    for test, line in zip(tests, lines, strict=False):
        try:
            passed, told, touched, unusable = json.loads(line)
        except ValueError:  # the judge was stopped while it wrote
            break
        tried.append(Tried(test, passed, printable(told), touched, unusable))
    return (*tried, *(Tried(test, False, ran.told) for test in tests[len(tried) :]))


async def try_stdio(
    sandbox: Sandbox, program: str, test: Stdio, same: Callable[[str, str], bool] = same_output
) -> Tried | str:
    """Run a program on a test's input and compare what it writes; or say why it could not be. Its exit status has to be 0."""
    ran = await sandbox.run(program, stdin=test.stdin)
    if ran.verdict is Verdict.NOT_RUN:
        return ran.told
    if ran.verdict is not Verdict.OK:
        return Tried(test, False, ran.told)
    if same(test.stdout, ran.stdout):
        return Tried(test, True, "passed")
    return Tried(test, False, f"it wrote {ran.stdout[:100]!r}, not {test.stdout[:100]!r}")


async def in_time(run: Run, work: Awaitable[_T]) -> _T:
    """Await what costs no tokens within the run's seconds. Raises `OverBudget` where they end first."""
    try:
        return await within(run.ledger.deadline, work)
    except Late:
        refused = run.ledger.refusal("", Usage(), run.path)
        raise refused or OverBudget(what="seconds", asked=0, left=0, limit=run.ledger.limit, path=run.path) from None


@dataclass(frozen=True)
class CodeCheck:
    """Run the candidate's program against given tests, in a sandbox.

    The program is in the text's last ```` ```python ```` block (`program_in`); one without any scores 0. `tests`, else the
    problem's ``meta["tests"]``, are asserts or pairs of input and output (`read_tests`). The score is the share of the tests
    that pass; with `all_or_nothing` 1 where all do, else 0. `same` compares an output with what was expected, first.

    A program that breaks a limit, of time for one, fails the test that it did it in. A sandbox that could not be started gives
    nan; so does an assert that cannot be run. `judged` tells what happened in each test. Equal programs run once.

    Raises `BadInput` where a problem has no tests or some that cannot be read, and where the sandbox is not whole and may not
    be `unsafe`; `OverBudget` where the run's seconds end first.

    Costs: no tokens; about 0.06 s for asserts, 0.04 s for each pair, and what the program takes.
    Needs: Linux with user namespaces, or ``Sandbox(unsafe=True)``.
    """

    sandbox: Sandbox = field(default_factory=Sandbox)
    tests: str | tuple[Test, ...] | None = None
    all_or_nothing: bool = False
    same: Callable[[str, str], bool] = same_output

    __repr__ = shown

    patience: ClassVar[float] = math.inf
    """What it runs has limits of its own."""

    def __post_init__(self) -> None:
        if self.tests is not None:
            read_tests(self.tests, "CodeCheck(tests=…)")

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [judged.score for judged in await self.judged(candidates, run)]

    async def judged(self, candidates: Sequence[Candidate], run: Run) -> list[Judged]:
        """What became of each candidate, test by test, in order."""
        asked = [(program_in(c.text), self._tests(c.problem)) for c in candidates]
        distinct = list(dict.fromkeys(asked))
        found = await in_time(run, together(self._judged(program, tests) for program, tests in distinct))
        answers = dict(zip(distinct, found, strict=True))
        return [answers[each] for each in asked]

    def _tests(self, problem: Problem) -> tuple[Test, ...]:
        if self.tests is not None:
            return read_tests(self.tests, "CodeCheck(tests=…)")
        where = f"problem {problem.id or problem.prompt[:40]!r}"
        if "tests" not in problem.meta:
            raise BadInput(f"{where}: no tests; give CodeCheck(tests=…) or Problem(…, meta={{'tests': …}})")
        return read_tests(problem.meta["tests"], f"{where}, meta['tests']")

    async def _judged(self, program: str | None, tests: tuple[Test, ...]) -> Judged:
        if program is None:
            return Judged(None)
        asserts = [test for test in tests if isinstance(test, str)]
        found = await try_asserts(self.sandbox, program, asserts) if asserts else ()
        if isinstance(found, str):
            return Judged(program, error=found)
        tried = list(found)
        if unusable := next((each for each in tried if each.unusable), None):
            number = tests.index(unusable.test) + 1
            return Judged(program, tuple(tried), f"test {number} cannot be run: {unusable.told}")
        for test in tests:
            if self.all_or_nothing and not all(each.passed for each in tried):
                break
            if isinstance(test, Stdio):
                result = await try_stdio(self.sandbox, program, test, self.same)
                if isinstance(result, str):
                    return Judged(program, tuple(tried), result)
                tried.append(result)
        return Judged(program, tuple(tried), whole=self.all_or_nothing)
