"""What of the earlier answers a model is shown: the end of a long one, and as many as fit its context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Context, Message, Sampling, Step, shown
from reasonweave.strategies.policies.sample import continued
from reasonweave.strategies.refining.writing import Excerpt, Prompted, Reading, Writer, conclusion

CUT_MARK = "[…] "
"""What stands before the end of a text whose beginning was left out."""
MARGIN = 8
"""Tokens by which a source may be longer among others, with its number, than it was when it was written."""


def ending(text: str, length: int) -> str:
    """The last `length` characters of a text, marked where that is not all of it.

    >>> ending("abcdef", 2), ending("abcdef", 6)
    ('[…] ef', 'abcdef')
    """
    return text if length >= len(text) else CUT_MARK + text[len(text) - length :]


def longest(text: str, fits: Callable[[str], bool]) -> str:
    """The longest ending that fits, by bisection; where not even one character does, that one.

    >>> longest("a b c d e f", lambda text: len(text.split()) <= 3)
    '[…]  e f'
    """
    if fits(text):
        return text
    low, high = 1, len(text)  # low is what is taken, high is too long
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(ending(text, middle)) else (low, middle)
    return ending(text, low)


@dataclass(frozen=True)
class Tail:
    """An excerpt that shows at most the last `characters` of another one, `of`. ReMoM counts four characters a token."""

    characters: int
    of: Excerpt = conclusion
    __repr__ = shown

    def __post_init__(self) -> None:
        if self.characters < 1:
            raise BadInput(f"Tail(characters={self.characters}): 1 or more")

    def __call__(self, candidate: Candidate) -> str:
        return ending(self.of(candidate), self.characters)


@dataclass(frozen=True)
class TokenTail:
    """An excerpt that shows at most the last `tokens` of another one, `of`, as `model` counts them: exactly where it can, else by
    its upper bound, so that less is shown. The mark of what is left out counts too."""

    model: Model
    tokens: int
    of: Excerpt = conclusion
    __repr__ = shown

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise BadInput(f"TokenTail(tokens={self.tokens}): 1 or more")

    def __call__(self, candidate: Candidate) -> str:
        frame = _count(self.model, "")
        return longest(self.of(candidate), lambda text: _count(self.model, text) - frame <= self.tokens)


def fitting(writer: Prompted, reading: Reading) -> Reading:
    """The reading without what does not fit the context of the writer's model: sources are left out, from the last one on, until
    they, the prompt and a reply (at most half of the context) fit. One is shown at least, if need be only its end.

    A source that the model wrote itself counts what it took to write; other texts count as the model counts them, which with
    servers is an upper bound (UTF-8 bytes). Remarks are never cut.
    """
    model, sources = writer.model, reading.sources
    if model.context_length is None or not sources:
        return reading
    room = model.context_length - min(writer.max_tokens, model.context_length // 2)

    def taken(*shown: Candidate) -> int:
        """Tokens of the prompt with these sources."""
        return model.count(writer.context(replace(reading, sources=shown)))

    sizes = [_size(writer, source) for source in sources]
    frame = taken(_saying(sources[0], ""))

    def fits(n: int) -> bool:
        return frame + sum(sizes[:n]) <= room or taken(*sources[:n]) <= room

    if fits(len(sources)):
        return reading
    low, high = 0, len(sources)  # so many fit, so many do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if low:
        return replace(reading, sources=sources[:low])
    end = longest(writer.excerpt(sources[0]), lambda text: taken(_saying(sources[0], text)) <= room)
    return replace(reading, sources=(_saying(sources[0], end),))


def _size(writer: Prompted, source: Candidate) -> int:
    """The most tokens that a source takes among others."""
    own = bool(source.steps) and all(step.author == writer.model.name for step in source.steps)
    counted = _count(writer.model, writer.excerpt(source))
    return MARGIN + (min(counted, source.tokens) if own else counted)


def door(writer: Writer) -> object:
    """Who is asked in one call: prompted writers that have one model and one sampling, else one writer."""
    if type(writer) is Prompted:
        return id(writer.model), writer.temperature, writer.max_tokens
    return id(writer)


async def write(asked: Sequence[tuple[Writer, Reading]], run: Run) -> list[Candidate]:
    """What each of these writers makes of its reading, in order, in one call: they have one `door`. Prompted ones are shown what
    fits their model's context."""
    first = asked[0][0]
    if isinstance(first, Prompted):
        await first.model.ready(run)
    readings = [fitting(writer, reading) if isinstance(writer, Prompted) else reading for writer, reading in asked]
    if type(first) is not Prompted:
        return await first.write(readings, run)
    parts = [
        (writer, reading) for (writer, _), reading in zip(asked, readings, strict=True) if isinstance(writer, Prompted)
    ]
    sampling = Sampling(first.temperature, max_tokens=first.max_tokens)
    written = await first.model.generate([w.context(r) for w, r in parts], run, sampling=sampling)
    return [
        continued(Candidate(reading.problem), completion, first.model.name, whole=True)
        for reading, completion in zip(readings, written, strict=True)
    ]


@dataclass(frozen=True)
class WhilePaid:
    """A policy that ends all candidates as they are where a limit leaves nothing for their next step.

    For refiners that write step by step (`Redo`): without it, the limit that stops the unfinished ones takes those along that are
    finished and wait for them.
    """

    policy: StepPolicy

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        extended = await afforded(self.policy.extend(candidates, run), run)
        return [replace(c, done=True) for c in candidates] if extended is None else extended


def _count(model: Model, text: str) -> int:
    return model.count(Context((Message("user", text),)))


def _saying(candidate: Candidate, text: str) -> Candidate:
    """A stand-in for a candidate, with another text."""
    return replace(candidate, steps=(Step(text, "", 0),))
