"""A verifier that remembers what it said, by content."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import Around, is_relative, name_of, scored
from reasonweave.orchestrator.types import Candidate, Score


@dataclass(frozen=True)
class Cached(Around):
    """A verifier's scores, remembered by problem and by the texts of the steps, `most` of them, the ones not asked for longest
    forgotten first. Equal candidates of one call are judged once.

    For verifiers that read the text alone: one that reads log-probabilities may be told another candidate's. What could not be
    judged is asked again. A verifier that asks a model then answers as it did the first time, whatever the run's seed.
    Raises `BadInput` for a verifier whose scores depend on the other candidates.

    Costs: what the verifier costs, once a distinct candidate.
    """

    verifier: Verifier
    most: int = 10_000
    _known: OrderedDict[Hashable, Score] = field(default_factory=OrderedDict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise BadInput(f"Cached(most={self.most}): 1 or more is needed")
        if is_relative(self.verifier):
            told = "its scores depend on the other candidates, so that none can be remembered"
            raise BadInput(f"Cached({name_of(self.verifier)}): {told}")

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        keys: list[Hashable] = [(c.problem, repr(c.problem.meta), c.passages, c.done) for c in candidates]
        found = {key: self._known[key] for key in keys if key in self._known}
        missing = {key: c for key, c in zip(keys, candidates, strict=True) if key not in found}
        fresh = await scored(self.verifier, list(missing.values()), run)
        found.update(zip(missing, fresh, strict=True))
        for key in found:
            if not math.isnan(found[key].value):
                found[key] = self._known.setdefault(key, found[key])  # another call may have been quicker
                self._known.move_to_end(key)
        while len(self._known) > self.most:
            self._known.popitem(last=False)
        return [found[key] for key in keys]
