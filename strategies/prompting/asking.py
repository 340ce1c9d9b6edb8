"""Questions on the way to a solution: how they are asked, and how a reply is read, as a text or as a list.

What comes back is never a solution and never a step of one. It is paid for like any other call, and goes into later prompts
without its thinking. Where the budget has no room for a question, a request fails, or a reply cannot be read, there is no
reply (""), and who asked goes on without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Completion, Context, Message, Sampling

_NUMBERED = re.compile(r"\s*(?:\*\*|#+\s*)?(?:[(\[]?\d{1,2}[.):\]]+|[A-Za-z]{1,12} ?\d{1,2}[.):]+)(?:\*\*)?\s+(\S.*)")
_BULLET = re.compile(r"\s*[-*+•]\s+(\S.*)")

NOTHING = Completion("", "budget")
"""The reply to a question that was not asked."""


async def asked(model: Model, prompts: Sequence[str | None], run: Run, sampling: Sampling) -> list[Completion]:
    """The model's replies to these prompts, all in one call; `NOTHING` for None, and for all where the budget has no room."""
    contexts = [Context((Message("user", prompt),)) for prompt in prompts if prompt is not None]
    replies = iter(await afforded(model.generate(contexts, run, sampling=sampling), run) or ())
    return [NOTHING if prompt is None else next(replies, NOTHING) for prompt in prompts]


def said(reply: Completion) -> str:
    """What a reply says after its thinking; "" where it failed, or is nothing but thinking."""
    return "" if reply.finish_reason == "error" else after_thinking(reply.text)


def listed(text: str) -> list[str]:
    r"""The items of a list in a text: its numbered lines; where it has none, those with a bullet. [] where there is no list.

    A line that goes on with an item (indented, or right after it) belongs to it; what else stands around the list does not.
    Bold signs are taken off, and an item that is there twice counts once.

    >>> listed("Sure:\n1. **What** is 3 + 4?\n2) And\n   times two?\n\nThat is all."), listed("- a\n- A\n* b"), listed("Seven.")
    (['What is 3 + 4?', 'And times two?'], ['a', 'b'], [])
    """
    for mark in (_NUMBERED, _BULLET):
        items, goes_on = list[str](), False
        for line in text.split("\n"):
            if match := mark.match(line):
                items.append(match[1].strip())
                goes_on = True
            elif not line.strip():
                goes_on = False
            elif items and (goes_on or line[0] in " \t"):
                items[-1] += f" {line.strip()}"
        if items:
            distinct = {" ".join(item.casefold().split()): item for item in reversed([_plain(item) for item in items])}
            return [item for item in reversed(distinct.values()) if item]
    return []


def _plain(item: str) -> str:
    return item.replace("**", "").strip()


@dataclass(frozen=True)
class Listing:
    """A question whose reply is a list of at most `most` items, such as sub-questions, points, observations.

    `prompt` has {problem} and {count} in it, and what else is told with a question. Of a reply that was cut, the last item is
    not taken, unless it is the only one.
    """

    model: Model
    prompt: str
    most: int = 6
    temperature: float = 0.8
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.most < 1:
            raise BadInput(f"Listing(most={self.most}): 1 or more")
        needs(self, "prompt", self.prompt, "problem")

    async def lists(self, told: Sequence[Mapping[str, str]], run: Run) -> list[list[str]]:
        """The list for each of these, in order, one call for all; [] where none can be read."""
        prompts = [filled(self.prompt, **({"count": str(self.most)} | dict(parts))) for parts in told]
        replies = await asked(self.model, prompts, run, Sampling(self.temperature, max_tokens=self.max_tokens))
        return [self._read(reply) for reply in replies]

    def _read(self, reply: Completion) -> list[str]:
        items = listed(said(reply))
        if reply.finish_reason in ("length", "budget") and len(items) > 1:
            items = items[:-1]
        return items[: self.most]


def numbered(items: Sequence[str]) -> str:
    """Items as a list that a model is shown.

    >>> print(numbered(["odd", "prime"]))
    1. odd
    2. prime
    """
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))


def needs(part: object, name: str, prompt: str, *blanks: str) -> None:
    """Raises `BadInput` for a prompt in which one of these blanks is missing."""
    missing = [f"{{{blank}}}" for blank in blanks if f"{{{blank}}}" not in prompt]
    if missing:
        raise BadInput(f"{type(part).__name__}: the {name} {prompt!r} has no {' and no '.join(missing)} in it")
