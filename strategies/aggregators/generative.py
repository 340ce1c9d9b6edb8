"""Aggregation by a model that reads the candidates: it chooses one of them, or writes a new one after them.

Where there are more candidates than it should see at once, or than fit its context, they go to it in windows, and what comes out
of these in windows again, until one is left: all are used. The candidates that result are scored by the judge: with the share of
the repeats that each of them won. Where replies could not be read, the winner's `Score.error` says how many.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Completion, Sampling
from reasonweave.strategies.aggregators.judging import Desk, alone, check_prompts, knockout, new_solution, unanimous

CONSISTENT_PROMPT = """\
A problem was answered {count} times, by writers who did not know of each other. The responses are numbered [1] to [{count}].

Problem:
{problem}

{solutions}

Which response agrees best with what most of the responses say? Compare their content and their results; length and style do not
matter. Give your reason in a few sentences. Then end with one line that has this form, N being the number of that response:
Judgment: N"""

SELECT_PROMPT = """\
Here are a problem and {count} attempts to solve it, numbered [1] to [{count}]. Some of them may be wrong.

Problem:
{problem}

{solutions}

Which of them is the most likely to be right? See where they part ways, and check the steps there yourself. That many say the same
does not make it right. Give your reasons, and then end with one line that has this form, N being the number of the best one:
Judgment: N"""

SYNTHESIS_PROMPT = """\
Here are a problem and {count} attempts to solve it, numbered [1] to [{count}]. Each of them may be wrong, in part or in whole.

Problem:
{problem}

{solutions}

Check the solutions against each other, keep what is right in them and mend what is not. Then write one new, complete solution of
the problem that stands on its own, without a word about the solutions above, between these two tags:
<solution>
</solution>"""

VERDICT = r"judge?ment\W*?:[\s*_`#(\[]*(?:solution|response)?[\s*_`#(\[]*(\d+)"
"""How a judgement is read: the number in the last match counts, case aside."""


@dataclass(frozen=True)
class UniversalSelfConsistency:
    """Universal self-consistency (USC; Chen et al., 2023, arXiv 2311.17311): `model` reads all answers and says which one agrees
    most with the others.

    No answer is compared with another but by the model, so it works for free text (`FreeText` answers). One call, at
    `temperature` 0, as long as all fit the model's context; else a knockout over as few windows as will do. Where all give one
    answer, none. The confidence is the chosen answer's share of the votes cast; None for free text.
    """

    model: Model
    temperature: float = 0.0
    max_tokens: int = 1024
    prompt: str = CONSISTENT_PROMPT
    verdict: str = VERDICT

    def __post_init__(self) -> None:
        check_prompts(self, self.prompt)
        _check_verdict(self.verdict)

    def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        desk = Desk(self.model, self.prompt, Sampling(self.temperature, max_tokens=self.max_tokens))
        read = partial(_chosen, self.verdict)
        return knockout(desk, read, roots, run, window=max(2, len(roots)), repeats=1, settled=unanimous)


@dataclass(frozen=True)
class GenSelect:
    """Generative selection (GenSelect; Moshkov et al., 2025, arXiv 2504.16891; Toshniwal et al., 2025, arXiv 2507.17797): `model`
    compares up to `window` solutions at a time and says which is the best; a knockout over windows leaves one.

    All of it is done `repeats` times, in other orders, and the answer that wins most often is the answer. The confidence is its
    share of the repeats that could be judged; with a single one, its share of the votes cast, as in self-consistency, None for
    free text. N solutions take about N / (`window` − 1) calls a repeat. Where all give one answer, none.
    """

    model: Model
    window: int = 8
    repeats: int = 1
    temperature: float = 0.6
    max_tokens: int = 2048
    prompt: str = SELECT_PROMPT
    verdict: str = VERDICT

    def __post_init__(self) -> None:
        _check_numbers(self, self.window, self.repeats)
        check_prompts(self, self.prompt)
        _check_verdict(self.verdict)

    def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        desk = Desk(self.model, self.prompt, Sampling(self.temperature, max_tokens=self.max_tokens))
        read = partial(_chosen, self.verdict)
        return knockout(desk, read, roots, run, window=self.window, repeats=self.repeats, settled=unanimous)


@dataclass(frozen=True)
class GenSynthesis:
    """Generative synthesis (GenSynthesis of NeMo-Skills; also Archon's fuser, arXiv 2409.15254): `model` reads up to `window`
    solutions at a time and writes a new one; what comes out of several windows goes into a synthesis again.

    New solutions join the set. One without the tags, or without an answer where its sources have one, is none, and its window
    falls back on its vote. With `repeats` > 1 there are several syntheses, of which the majority decides; confidence as in
    `GenSelect`, the new solutions being among the votes cast.
    """

    model: Model
    window: int = 8
    repeats: int = 1
    temperature: float = 0.6
    max_tokens: int = 2048
    prompt: str = SYNTHESIS_PROMPT

    def __post_init__(self) -> None:
        _check_numbers(self, self.window, self.repeats)
        check_prompts(self, self.prompt)

    def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        desk = Desk(self.model, self.prompt, Sampling(self.temperature, max_tokens=self.max_tokens))
        read = partial(new_solution, author=self.model.name)
        return knockout(desk, read, roots, run, window=self.window, repeats=self.repeats, settled=alone)


def _chosen(verdict: str, some: Sequence[Candidate], reply: Completion) -> Candidate | None:
    """The candidate that a judge has named last; None where it named none that is there."""
    named = list(re.finditer(verdict, after_thinking(reply.text), re.IGNORECASE))
    said = named[-1][1] if named else None
    number = int(said) if said and said.isdecimal() and len(said) <= 6 else 0
    return some[number - 1] if 1 <= number <= len(some) else None


def _check_numbers(part: object, window: int, repeats: int) -> None:
    if window < 2 or repeats < 1:
        raise BadInput(
            f"{type(part).__name__}(window={window}, repeats={repeats}): a window holds 2 or more, repeats are 1 or more"
        )


def _check_verdict(verdict: str) -> None:
    try:
        groups = re.compile(verdict).groups
    except re.error as error:
        raise BadInput(f"verdict={verdict!r}: no regular expression ({error})") from error
    if groups < 1:
        raise BadInput(f"verdict={verdict!r}: it needs a group, as in 'Judgment: (\\d+)', for the number")
