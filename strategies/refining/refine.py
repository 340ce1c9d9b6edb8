"""The loop of answer, remark and revision: Self-Refine, DSER, Reflexion, chain of verification and PlanGEN are presets of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Problem, shown
from reasonweave.strategies.refining.feedback import NOTHING_SAID, Feedback, Remark
from reasonweave.strategies.refining.writing import Reading, Writer
from reasonweave.strategies.searches.live import begin, value

REFINE_PROMPT = """\
A problem was solved, and the solution was looked at.

Problem:
{problem}

Solutions so far, the newest last:

{solutions}

What was remarked:

{remarks}

Write a new, complete solution of the problem: mend what was rightly objected to, keep what is right, and check it yourself,
since the remarks may be wrong too. It stands on its own, without a word about the remarks or the earlier solutions, and
ends with its answer in the form that the problem asks for."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of answers to a problem, each written after the one before it.

    `stood` is the answer that stood after each round, the draft first, so that one that stands for three rounds is there
    three times. `told` are the remarks so far, each with the answer that it is on. `passed` says how often in a row the
    answer that stands now was called right.
    """

    problem: Problem
    stood: tuple[Candidate, ...]
    told: tuple[tuple[Candidate, Remark], ...] = ()
    passed: int = 0

    @property
    def now(self) -> Candidate:
        """The answer that stands."""
        return self.stood[-1]

    @property
    def answered(self) -> bool:
        """Is there anything to go on with?"""
        return bool(self.now.steps) and not self.now.failed

    @property
    def heard(self) -> bool:
        """Was anything remarked on the answer that stands?"""
        return bool(self.told) and self.told[-1][0] is self.now

    def then(self, candidate: Candidate) -> Line:
        """After another round, in which this answer stands."""
        return replace(self, stood=(*self.stood, candidate))

    def rather(self, candidate: Candidate) -> Line:
        """With this answer in the place of the one that stands."""
        return replace(self, stood=(*self.stood[:-1], candidate), passed=0)

    def hearing(self, remark: Remark) -> Line:
        """With a remark on the answer that stands, which has its score from then on."""
        judged = remark.on(self.now)
        told = (*self.told, (judged, remark))
        return replace(self, stood=(*self.stood[:-1], judged), told=told, passed=self.passed + 1 if remark.right else 0)

    def takes(self, candidate: Candidate) -> bool:
        """Can this answer take the place of the one that stands? Where it says something, and did not fail; and it answers where
        that one does, and is finished where that one is: a failed request, or a budget that ends, takes nothing away."""
        if candidate.failed or not candidate.steps:
            return False
        return not self.answered or _whole(candidate) >= _whole(self.now)


def _whole(candidate: Candidate) -> tuple[bool, bool]:
    return candidate.answer is not None, candidate.done


Recall: TypeAlias = Callable[[Line], Reading]
"""What the next answer of a line is written from."""

Acceptance: TypeAlias = Callable[[Candidate, Candidate], bool]
"""Whether a revision, the second, takes the place of the answer before it; both have the feedback's scores."""

Show: TypeAlias = Callable[[Sequence[Line]], Candidates]
"""The answers of all lines that count."""


def latest(line: Line) -> Reading:
    """The answer that stands, and the last remark on it."""
    return Reading(line.problem, (line.now,), (line.told[-1][1].text or NOTHING_SAID,) if line.heard else ())


@dataclass(frozen=True)
class History:
    """The last `most` answers that were remarked on, the newest last, and the remarks, each with the number of its answer."""

    most: int = 4

    def __post_init__(self) -> None:
        if self.most < 1:
            raise BadInput(f"History(most={self.most}): 1 or more")

    def __call__(self, line: Line) -> Reading:
        pairs = line.told[-self.most :]
        if len(pairs) < 2:
            return latest(line)
        remarks = (f"On [{i}]: {remark.text or NOTHING_SAID}" for i, (_, remark) in enumerate(pairs, 1))
        return Reading(line.problem, tuple(answer for answer, _ in pairs), tuple(remarks))


def better(before: Candidate, revision: Candidate) -> bool:
    """A revision with a higher score; what could not be scored is below every number."""
    return value(revision) > value(before)


def current(lines: Sequence[Line]) -> Candidates:
    """The answer that stands in each line."""
    return Candidates(tuple(line.now for line in lines))


def every(lines: Sequence[Line]) -> Candidates:
    """All answers that have stood, line by line, each once with its last score."""
    kept = [{c.steps: c for c in line.stood} for line in lines]
    return Candidates(tuple(c for line in kept for c in line.values()))


@dataclass(frozen=True)
class Refine:
    """Answer, remark, revision, and so on: `n` lines of answers side by side (None: one a root), at most `rounds` revisions each.

    A root that has an answer is the first answer of its lines; for others `writer` writes one. Each round, `feedback`
    comments on the answers that stand and have no remark yet; a line whose answer is called right `confirm` times in a row
    is over (inf: never: what is called right stands, and is asked about again in the next round); the other answers are
    revised by `writer` from what `recall` gives it. A revision takes the place of the answer before it, or with `accept`,
    where that holds. Remarks that could not be made or read keep no line from going on: the revision is written without
    them.

    `show` says which answers count: `current`, `every`, `Late`. The last revisions are read by nobody; `end` comments on
    them, where their scores matter. Feedback and writer are asked once a round about all lines.
    """

    writer: Writer
    feedback: Feedback
    rounds: int = 4
    n: int | None = None
    recall: Recall = latest
    accept: Acceptance | None = None
    confirm: float = 1
    show: Show = current
    end: Feedback | None = None
    __repr__ = shown

    def __post_init__(self) -> None:
        if self.rounds < 1 or (self.n is not None and self.n < 1) or not self.confirm >= 1:
            raise BadInput(
                f"Refine(rounds={self.rounds}, n={self.n}, confirm={self.confirm}): all are 1 or more; confirm may be inf"
            )

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        if not roots.items:
            return
        lines = [Line(root.problem, (root,)) for root in begin(roots, self.n or len(roots))]
        lines = await self._drafted(lines, run.child("draft"))
        yield self.show(lines)
        for t in range(1, self.rounds + 1):
            here = run.child("round", t)
            unheard = [i for i, line in enumerate(lines) if line.answered and not self._over(line)]
            unheard = [i for i in unheard if not lines[i].heard or lines[i].passed]
            lines = await _told(self.feedback, lines, unheard, here.child("feedback"))
            yield self.show(lines)
            if all(self._over(line) for line in lines):
                return
            made = await self._revised(lines, here.child("write"))
            waits = self.accept is not None
            rivals = {i: new for i, new in made.items() if waits and lines[i].answered}
            lines = [line.then(line.now if i in rivals else made.get(i, line.now)) for i, line in enumerate(lines)]
            yield self.show(lines)
            if rivals:
                lines = await self._compared(lines, rivals, here.child("check"))
                yield self.show(lines)
        if self.end is not None and (left := [i for i, line in enumerate(lines) if line.answered and not line.heard]):
            yield self.show(await _told(self.end, lines, left, run.child("end")))

    def _over(self, line: Line) -> bool:
        return line.passed >= self.confirm

    async def _drafted(self, lines: list[Line], run: Run) -> list[Line]:
        """The lines with a first answer each."""
        bare = [i for i, line in enumerate(lines) if not (line.answered and any(_whole(line.now)))]
        if bare:
            made = await self.writer.write([Reading(lines[i].problem) for i in bare], run)
            for i, new in zip(bare, made, strict=True):
                if lines[i].takes(new) or not lines[i].now.steps:
                    lines[i] = lines[i].rather(new)
        return lines

    async def _revised(self, lines: Sequence[Line], run: Run) -> dict[int, Candidate]:
        """The revisions that can take a place, by line. An answer that is called right is not revised; where there is none, a new
        one is asked for."""
        going = [i for i, line in enumerate(lines) if not line.passed]
        readings = [self.recall(lines[i]) if lines[i].answered else Reading(lines[i].problem) for i in going]
        made = await self.writer.write(readings, run) if going else []
        return {i: new for i, new in zip(going, made, strict=True) if lines[i].takes(new)}

    async def _compared(self, lines: Sequence[Line], rivals: dict[int, Candidate], run: Run) -> list[Line]:
        """The lines with the revisions that are accepted."""
        remarks = await self.feedback.comment(list(rivals.values()), run)
        after = list(lines)
        for (i, new), remark in zip(rivals.items(), remarks, strict=True):
            if self.accept is not None and self.accept(after[i].now, remark.on(new)):
                after[i] = after[i].rather(new).hearing(remark)
        return after


async def _told(feedback: Feedback, lines: Sequence[Line], some: Sequence[int], run: Run) -> list[Line]:
    """The lines, some of them with a remark on the answer that stands."""
    after = list(lines)
    if some:
        remarks = await feedback.comment([lines[i].now for i in some], run)
        for i, remark in zip(some, remarks, strict=True):
            after[i] = lines[i].hearing(remark)
    return after
