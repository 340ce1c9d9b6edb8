"""A real HTTP server that streams completions and chats token by token, and notes when a client leaves before the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from misbehaving import Misbehaving, chunk


class Streaming(Misbehaving):
    """Writes what `script` makes of a request, a token each `pace` seconds, `together` of them in a piece."""

    def __init__(
        self,
        script: Callable[[dict[str, Any]], list[str]] = lambda body: [f" {i}" for i in range(200)],
        *,
        pace: float = 0.01,
        together: int = 1,
        logprobs: bool = True,
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.script, self.pace, self.together, self.logprobs = script, pace, together, logprobs
        self.breaks: list[int] = []
        """After how many tokens the next streams break off, one each."""
        self.politely = False
        """Whether a stream that breaks off ends as HTTP wants it, or hangs up."""
        self.readers: set[asyncio.Task[bytes]] = set()
        """Who is being streamed to, as far as the server has read."""
        self.left: list[tuple[float, int]] = []
        """When a client left in the middle of a stream, and how many tokens it had been sent."""

    async def answer(
        self, path: str, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not body.get("stream"):
            await super().answer(path, body, reader, writer)
            return
        self.open += 1
        gone = asyncio.create_task(reader.read(1))
        self.readers.add(gone)
        gone.add_done_callback(self.readers.discard)
        tokens, sent = self.script(body)[: body["max_tokens"]], 0  # before anybody else is heard
        await self.look()
        breaks = self.breaks.pop(0) if self.breaks else None
        try:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            while sent < len(tokens):
                await asyncio.wait({gone}, timeout=self.pace)
                if sent == breaks and self.politely:
                    break
                if gone.done() or sent == breaks:
                    raise ConnectionResetError
                piece = tokens[sent : sent + self.together]
                sent += len(piece)
                self.say(writer, self.piece(path, body, piece, sent))
                await writer.drain()
        except ConnectionError:
            if sent != breaks:
                self.left.append((time.monotonic(), sent))
            writer.transport.abort()
            raise
        finally:
            self.open -= 1
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        reason = "length" if len(tokens) == body["max_tokens"] else "stop"
        last = {"delta": {}} if "chat" in path else {"text": "", "token_ids": []}
        usage = {"prompt_tokens": self.prompt(body), "completion_tokens": len(tokens)}
        if sent == len(tokens):
            self.say(writer, {"choices": [{"index": 0, **last, "finish_reason": reason}]})
            self.say(writer, {"choices": [], "usage": usage})
        chunk(writer, b"data: [DONE]\n\n")
        chunk(writer, b"")
        await writer.drain()

    async def look(self) -> None:
        """Count the clients at a moment when all that was sent so far is read: a request that waited to be accepted may be one
        that its client has left since, and whose end stands unread behind it."""
        for _ in range(8):
            await asyncio.sleep(0)
        self.most = max(self.most, len(self.readers))

    def piece(self, path: str, body: dict[str, Any], tokens: list[str], sent: int) -> dict[str, Any]:
        text = "".join(tokens)
        if "chat" in path:
            told = [{"token": t, "logprob": -0.5, "top_logprobs": [{"token": t, "logprob": -0.5}]} for t in tokens]
            logprobs = {"content": told} if body.get("logprobs") and self.logprobs else None
            return {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}]}
        told = {"tokens": tokens, "token_logprobs": [-0.5] * len(tokens), "top_logprobs": [{t: -0.5} for t in tokens]}
        choice = {"index": 0, "text": text, "token_ids": [7] * len(tokens), "logprobs": told, "finish_reason": None}
        return {"choices": [choice], "usage": {"prompt_tokens": self.prompt(body), "completion_tokens": sent}}

    def prompt(self, body: dict[str, Any]) -> int:
        return len(body["prompt"]) if "prompt" in body else 9

    def say(self, writer: asyncio.StreamWriter, piece: dict[str, Any]) -> None:
        chunk(writer, b"data: " + json.dumps(piece).encode() + b"\n\n")
