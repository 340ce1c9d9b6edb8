r"""The answer space of mathematics: what a solution answers, and whether two answers are the same.

Exact keys decide what they can (numbers, surds, polynomials, tuples, sets, intervals, units, words); the rest is for math-verify
(Kydlíček and Gandenberger, 2025), in processes that are killed when they take too long. The rules, and where each comes from, are
in ``docs/verifiers/math-answers.md``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass

from reasonweave.orchestrator.answers import BoxedAnswers, box_end
from reasonweave.orchestrator.errors import BadInput
from reasonweave.verifiers._math_reading import read
from reasonweave.verifiers._math_sameness import same
from reasonweave.verifiers._math_workers import shared

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BARE_BOX = re.compile(r"\\boxed\s*(-?\d+(?:\.\d+)?|[a-zA-Z](?![a-zA-Z]))")
_BETWEEN = re.compile(
    r"[\s$)\\]*(?:,\s*)?(?:(?:\\text\s*\{\s*)?(?:and|or)(?:\s*\})?|,)[\s$(\\]*(?:\\?[a-zA-Z](?:_\{?\w+\}?)?\s*=\s*)?"
)


@dataclass(frozen=True, slots=True)
class MathAnswers:
    r"""Mathematical answers in ``\boxed{…}``, compared by what they mean: ``\frac12``, ``0.5`` and ``1/2`` are one.

    `extract` takes the last complete box, or the last ones where "and", "or" or a comma is all that stands between them; with
    `lenient`, else what follows the last "answer is" or ``####``. `same` reads the reference first and never raises.
    Each pair of expressions that needs algebra may take `deadline` seconds of a processor; what is not decided by then is the
    same only if its keys are.

    Costs: nothing of a budget; some 0.1 ms a comparison, 10 to 100 ms where algebra is needed.
    """

    lenient: bool = False
    deadline: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.deadline < float("inf"):
            raise BadInput(f"MathAnswers: deadline is {self.deadline}; give the seconds a comparison may take, above 0")

    def extract(self, text: str) -> str | None:
        boxes = _last_boxes(text)
        if boxes is None and self.lenient:
            return BoxedAnswers(lenient=True).extract(text)
        return boxes

    def canonical(self, answer: str) -> Hashable:
        return read(answer).key

    def same(self, a: str, b: str) -> bool:
        return same(read(a), read(b), lambda gold, answer: shared().same(gold, answer, self.deadline))


def _last_boxes(text: str) -> str | None:
    r"""The last complete box, with those before it from which only a joining word separates it; ``\boxed 5`` where there is none.

    >>> _last_boxes(r"$x=\boxed{3}$ or $x=\boxed{5}$."), _last_boxes(r"\boxed{1}. So \boxed{2}"), _last_boxes(r"\boxed 7")
    ('3, 5', '2', '7')
    """
    found, end = list[str](), None
    for match in reversed(list(_BOX.finditer(text))):
        size = box_end(text[match.end() :])
        if size is None or not (content := text[match.end() : match.end() + size - 1].strip("$ \n")):
            continue
        if end is not None and not _BETWEEN.fullmatch(text, match.end() + size, end):
            break
        if content not in found:
            found.insert(0, content)
        end = match.start()
    if not found and (bare := list(_BARE_BOX.finditer(text))):
        return bare[-1][1]
    return ", ".join(found) or None
