"""Votes on what tools are called, for agents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from reasonweave.orchestrator.protocols import Aggregator
from reasonweave.orchestrator.tool_calls import By, ToolCalls
from reasonweave.orchestrator.types import Candidates, shown
from reasonweave.strategies.aggregators.vote import majority


@dataclass(frozen=True)
class ToolCallVote:
    r"""A vote on the calls of tools, whatever the problem's own answers are: by name, or by name and arguments.

    `by`, `excluded` and `ordered` are as in `ToolCalls`. The winner's calls are returned in the words of a candidate, as JSON:
    among the candidates that stand behind the winner, what was set aside is decided by the same vote in its turn, first
    the arguments that count, then those that do not; what is even then is drawn by the set's seed. Candidates without a call, or
    with one that cannot be read, abstain. The confidence is that of `vote` on what was compared: of the name alone, by name.

    Problems with the answers `ToolCalls(…)` can be put to every other vote just as well.

    >>> from reasonweave.orchestrator.types import Candidate, Problem, Step
    >>> def turn(arguments):
    ...     call = f'{{"name": "add", "arguments": {arguments}}}'
    ...     return Candidate(Problem("q"), (Step(call, "m", 9),))
    >>> vote = ToolCallVote()(Candidates((turn('{"a": 1}'), turn('{"a": 1.0}'), turn('{"a": 1}'), turn('{}'))))
    >>> vote.answer, vote.confidence
    ('{"name": "add", "arguments": {"a": 1}}', 0.75)
    """

    by: By = "arguments"
    excluded: tuple[str, ...] = ()
    ordered: bool = False
    vote: Aggregator = majority

    def __post_init__(self) -> None:
        ToolCalls(self.by, self.excluded, self.ordered)  # says what is wrong with them

    __repr__ = shown

    def __call__(self, candidates: Candidates) -> Candidates:
        compared = ToolCalls(self.by, self.excluded, self.ordered)
        vote = self.vote(_read(candidates, compared))
        words, behind = vote.answer, candidates
        finer = ToolCalls("arguments", self.excluded, self.ordered), ToolCalls(ordered=self.ordered)
        for space, next_space in pairwise((compared, *finer)):
            if words is not None:
                behind = _behind(words, _read(behind, space))
                words = self.vote(_read(behind, next_space)).answer or words
        return replace(vote, items=candidates.items, answer=words)


def _read(candidates: Candidates, space: ToolCalls) -> Candidates:
    """The same candidates as answers in this space."""
    return replace(candidates, items=tuple(replace(c, problem=replace(c.problem, answers=space)) for c in candidates))


def _behind(words: str, candidates: Candidates) -> Candidates:
    """Those that give this answer."""
    given = ((c, c.answer, c.problem.answers) for c in candidates)
    return replace(candidates, items=tuple(c for c, a, space in given if a is not None and space.same(a, words)))


def tool_call_vote(candidates: Candidates) -> Candidates:
    """`ToolCallVote` as it is by default: by name and all arguments, in any order."""
    return ToolCallVote()(candidates)
