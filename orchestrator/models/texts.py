"""Token ids of the texts that a model has seen, and what vLLM says about the tokens it wrote."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.types import Context, FinishReason, Message, Token

Ids = tuple[int, ...]
TEMPLATE = 64
"""Tokens that a chat template may add before it has been seen, on top of 16 a message."""


class Tokenizing(Protocol):
    """Whoever renders chats and tokenizes texts: a server, or a tokenizer at hand."""

    whole_pieces: bool
    """Whether a text's pieces, tokenized one by one, are the text tokenized: true of byte-level tokenizers."""

    async def render(self, messages: Sequence[Message], session: int) -> Ids:
        """A chat with the assistant's next turn opened."""

    async def tokenize(self, text: str, session: int) -> Ids:
        """A text, nothing added."""

    async def detokenize(self, ids: Ids, session: int) -> str:
        """The text of these ids, special tokens included."""


class Texts:
    """Remembers ids, so that each text is rendered and tokenized once.

    What a model wrote is remembered with the ids it wrote; a text that goes on from a known one is tokenized from there.
    """

    def __init__(self, tokenizer: Tokenizing) -> None:
        self.tokenizer = tokenizer
        self._known: dict[tuple[Message, ...], dict[str, Ids]] = {}
        self._rendered: dict[tuple[Message, ...], str] = {}
        self._users: dict[int, set[tuple[Message, ...]]] = {}

    def ids(self, context: Context) -> Ids | None:
        """The ids of a context, None where it has not been learned."""
        return self._known.get(context.messages, {}).get(context.prefix)

    def remember(self, context: Context, written: str, ids: Ids) -> None:
        """These are the ids of this context with `written` after it."""
        self._known.setdefault(context.messages, {})[context.prefix + written] = ids

    def use(self, session: int, contexts: Iterable[Context]) -> None:
        """Note which chats a session needs; `forget` drops those that no session needs any more."""
        self._users.setdefault(session, set()).update(context.messages for context in contexts)

    def forget(self, session: int) -> None:
        """A session is over."""
        dropped = self._users.pop(session, set())
        for messages in dropped - set().union(*self._users.values()):
            self._known.pop(messages, None)
            self._rendered.pop(messages, None)

    async def learn(self, contexts: Iterable[Context], session: int) -> None:
        """Find the ids of contexts that are not known yet: at most two requests each, all at the same time."""
        missing = {context for context in contexts if self.ids(context) is None}
        heads = {Context(context.messages) for context in missing}
        await together(self._render(head, session) for head in heads if self.ids(head) is None)
        await together(self._extend(context, session) for context in missing if self.ids(context) is None)

    async def _render(self, head: Context, session: int) -> None:
        self.remember(head, "", await self.tokenizer.render(head.messages, session))

    async def _extend(self, context: Context, session: int) -> None:
        known = self._known[context.messages]
        if self.tokenizer.whole_pieces:
            start = max((text for text in known if context.prefix.startswith(text)), key=len)
            rest = await self.tokenizer.tokenize(context.prefix[len(start) :], session)
            self.remember(context, "", known[start] + rest)
            return
        if context.messages not in self._rendered:
            self._rendered[context.messages] = await self.tokenizer.detokenize(known[""], session)
        text = self._rendered[context.messages] + context.prefix
        self.remember(context, "", await self.tokenizer.tokenize(text, session))


def tagged(steps: Sequence[str], tag: str) -> str:
    """Steps as a process reward model reads them: a tag after each. A tag in the text would be a step of its own.

    >>> tagged(["a\\n\\n", "b#c"], "#")
    'a#bc#'
    """
    return "".join(step.replace(tag, "").strip() + tag for step in steps)


def reason_of(choice: dict[str, Any]) -> FinishReason:
    """vLLM says in `stop_reason` which stop string or token it was; without one, `stop` is the model's own end."""
    match choice.get("finish_reason"):
        case "stop":
            return "stop" if isinstance(choice.get("stop_reason"), str) else "eos"
        case "length":
            return "length"
        case _:
            return "error"


def finite(value: Any) -> float | None:
    """A number, or None for what is missing, nan or infinite."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def prefix_of(told: Any, ids: Sequence[int], head: int) -> tuple[Token, ...]:
    """The tokens of a prompt from `head` on, with the log-probabilities that vLLM gives for prompts; () where it gave none."""
    if not isinstance(told, list) or len(told) != len(ids):
        return ()
    made = []
    for token, entry in zip(ids[head:], told[head:], strict=True):
        found = (entry or {}).get(str(token)) or (entry or {}).get(token) or {}
        made.append(Token(str(found.get("decoded_token") or ""), finite(found.get("logprob"))))
    return tuple(made)


def tokens_of(told: Any, top: int) -> tuple[Token, ...]:
    """Tokens from a completion's `logprobs`; missing or broken log-probabilities are None."""
    if not told or not told.get("tokens"):
        return ()
    logprobs = told.get("token_logprobs") or [None] * len(told["tokens"])
    tops = told.get("top_logprobs") or [None] * len(told["tokens"])
    made = []
    for text, logprob, alternatives in zip(told["tokens"], logprobs, tops, strict=False):
        known = [(t, lp) for t, raw in (alternatives or {}).items() if (lp := finite(raw)) is not None]
        best = tuple(sorted(known, key=lambda pair: -pair[1])[:top])
        made.append(Token(text, finite(logprob), best))
    return tuple(made)
