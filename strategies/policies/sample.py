"""Ask one model for the next step, or for the whole rest of a solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Watching
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import CUT, DELIMITER, Candidate, Completion, Sampling, Step, Token


@dataclass(frozen=True)
class Sample:
    r"""One model continues each candidate: by one step that ends with `until`, or with `until=None` to its own end.

    `temperature`, `top_p`, `top_k` and `max_tokens` (a ceiling a call) are as in `Sampling`. A whole solution is cut into
    steps at each ``\n\n``, so that verifiers see the same steps either way. With `top_logprobs`, steps keep their tokens and
    that many alternatives (`Step.told`), for policies and votes that read uncertainty.

    A candidate is done when the model ends by itself, with an answer or without, when it fills the model's context, and when a
    whole solution reaches its ceiling. A step cut by its ceiling is open: the next call goes on in the middle of it. One whose
    `watch` does not want the rest is done there, its last step labelled "cut" (`Candidate.cut`).
    """

    model: Model
    until: str | None = DELIMITER
    temperature: float = 0.8
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    top_logprobs: int = 0
    watch: Watching | None = None

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """One call for all; candidates with the same text share one prompt, each with a seed of its own."""
        contexts = [candidate.context for candidate in candidates]
        stop = (self.until,) if self.until else ()
        sampling = Sampling(self.temperature, self.top_p, self.top_k, self.max_tokens, stop, self.top_logprobs)
        completions = await self.model.generate(contexts, run, sampling=sampling, watch=self.watch)
        return [self._extended(c, written) for c, written in zip(candidates, completions, strict=True)]

    def _extended(self, candidate: Candidate, written: Completion) -> Candidate:
        return continued(candidate, written, self.model.name, whole=self.until is None, told=self.top_logprobs > 0)


def continued(candidate: Candidate, written: Completion, author: str, *, whole: bool, told: bool = False) -> Candidate:
    """A candidate with what a model wrote after it, cut into steps. `whole` says that the call was for the rest of a solution."""
    full = written.finish_reason == "length" and (whole or not written.text)
    if written.finish_reason == "error":
        return replace(candidate, done=True, failed=written.error or "request failed")
    if written.finish_reason == "budget" and not written.text:
        return candidate
    cut_off = written.finish_reason == "cancelled"
    done = full or cut_off or written.finish_reason == "eos"
    steps = split(written, author, told=told)
    if cut_off:
        steps = (*steps[:-1], replace(steps[-1], label=CUT, open=True)) if steps else (Step("", author, 0, label=CUT),)
    return candidate.extend(*steps, done=done) if steps else replace(candidate, done=done)


def whole(
    model: Model,
    *,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    top_logprobs: int = 0,
    watch: Watching | None = None,
) -> Sample:
    """A policy that writes whole solutions, one call each: what best-of-n and self-consistency sample from."""
    return Sample(
        model, until=None, temperature=temperature, max_tokens=max_tokens, top_logprobs=top_logprobs, watch=watch
    )


def usable(before: Candidate, drafts: Sequence[Candidate]) -> list[Candidate]:
    """The drafts that wrote something and did not fail; where there is none, those that did not fail, else all of them."""
    written = [d for d in drafts if len(d.steps) > len(before.steps) and not d.failed]
    return written or [d for d in drafts if not d.failed] or list(drafts)


def labelled(before: Candidate, after: Candidate, first: str, further: str | None = None) -> Candidate:
    """The candidate with a label on the steps that are new: `first` on the first of them, `further` (the same) on the others."""
    kept = len(before.steps)
    labels = [first] + [first if further is None else further] * (len(after.steps) - kept - 1)
    new = [replace(step, label=label) for step, label in zip(after.steps[kept:], labels, strict=False)]
    return replace(after, steps=(*after.steps[:kept], *new))


def put_in(candidate: Candidate, text: str, author: str = "", tokens: int = 0, *, label: str) -> Candidate:
    """A candidate with text that a strategy writes for it, cut into steps as a model's is, the last one open."""
    steps = candidate.steps
    if steps and not steps[-1].text.endswith(DELIMITER):
        steps = (*steps[:-1], replace(steps[-1], open=True))
    parts = [part for part in _parts(text) if part]
    counts = [0] * (len(parts) - 1) + [tokens]
    made = [
        Step(part, author, count, 0.0 if not author else None, open=not part.endswith(DELIMITER), label=label)
        for part, count in zip(parts, counts, strict=True)
    ]
    return replace(candidate, steps=(*steps, *made), done=False, score=None)


def split(written: Completion, author: str, *, told: bool = False) -> tuple[Step, ...]:
    r"""A completion as steps: cut after each ``\n\n``, tokens and log-probabilities counted to the step they end in.

    A token across a boundary belongs to the later step. A last step that the model did not end itself is open. `told` keeps
    the tokens.

    Without tokens (a server that tells none), the completion's count goes to the last step.
    """
    if not (texts := [part for part in _parts(written.text) if part]):
        return ()
    if not written.tokens:
        counts = [0] * max(0, len(texts) - 1) + [written.usage.completion]
        return _opened([Step(text, author, count) for text, count in zip(texts, counts, strict=False)], written)
    ends, end = [], 0
    for text in texts:
        end += len(text)
        ends.append(end)
    mine: list[list[Token]] = [[] for _ in texts]
    reached, at = 0, 0
    for token in written.tokens:
        reached += len(token.text)
        while at < len(ends) - 1 and reached > ends[at]:
            at += 1
        mine[at].append(token)
    steps = [
        Step(text, author, len(part), _sum(part), tuple(part) if told else ())
        for text, part in zip(texts, mine, strict=True)
    ]
    return _opened(steps, written)


def _opened(steps: list[Step], written: Completion) -> tuple[Step, ...]:
    cut = written.finish_reason in ("length", "budget") and not written.text.endswith(DELIMITER)
    return (*steps[:-1], replace(steps[-1], open=True)) if cut else tuple(steps)


def _sum(tokens: Sequence[Token]) -> float | None:
    logprobs = [token.logprob for token in tokens]
    return None if None in logprobs else sum(p for p in logprobs if p is not None)


def _parts(text: str) -> list[str]:
    parts = text.split(DELIMITER)
    return [part + DELIMITER for part in parts[:-1]] + parts[-1:]
