"""Reflexion: attempts until a check passes, with a short lesson from each failure kept in memory."""

from __future__ import annotations

from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput
from reasonweave.strategies.refining.feedback import Critic, Explained, Feedback
from reasonweave.strategies.refining.refine import Line, Refine, every
from reasonweave.strategies.refining.writing import Reading, Writer

LESSON_PROMPT = """\
Here are a problem, an attempt at it that did not pass a check, and what the check said.

Problem:
{problem}

Attempt:
{solution}

The check:
{remarks}

In two or three sentences: what went wrong in this attempt, and what is to be done differently next time? Do not solve the
problem."""

RETRY_PROMPT = """\
You have tried to solve this problem before, and did not pass the check.

Problem:
{problem}

Your last attempt:
{solution}

What you have learned from your attempts, the newest last:
{remarks}

Solve the problem anew, with this in mind. Write a complete solution that stands on its own and ends with its answer in the
form that the problem asks for."""


@dataclass(frozen=True)
class Lessons:
    """The last attempt, and the lessons of the last `most` attempts: Reflexion's memory, which held 1 to 3 of them."""

    most: int = 3

    def __post_init__(self) -> None:
        if self.most < 1:
            raise BadInput(f"Lessons(most={self.most}): 1 or more")

    def __call__(self, line: Line) -> Reading:
        lessons = [remark.text for _, remark in line.told if remark.text]
        return Reading(line.problem, (line.now,), tuple(lessons[-self.most :]))


def reflexion(
    writer: Writer, check: Feedback, critic: Critic, *, rounds: int = 3, memory: int = 3, n: int | None = None
) -> Refine:
    """Reflexion (Shinn et al., 2023, arXiv 2303.11366): an attempt, and as long as `check` does not call it right, a lesson by
    `critic` and another attempt, at most `rounds` of these.

    All attempts come out, each with the score of `check`; follow it with `best`. The critic is asked with `LESSON_PROMPT`,
    or another that has {problem}, {solution} and {remarks}, what the check said; of what passes nothing is learned.
    """
    return Refine(writer, Explained(check, critic), rounds, n, Lessons(memory), show=every, end=check)
