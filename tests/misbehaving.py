"""A real HTTP server that speaks enough of vLLM's dialect for the client, and misbehaves on demand.

It tokenizes by character, renders chats as ChatML, and answers with `reply`. `faults` are taken one a request to the
generating routes, until they are used up; a fault is a function that writes whatever it likes to the connection.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

Fault = Callable[[asyncio.StreamWriter], Awaitable[None]]
GENERATING = ("/v1/completions", "/v1/chat/completions", "/pooling", "/classify", "/v1/embeddings")


class Misbehaving:
    def __init__(self, *, chat_only: bool = False, latency: float = 0.0, host: str = "127.0.0.1") -> None:
        self.chat_only, self.latency, self.host = chat_only, latency, host
        self.reply = "A: 1 + 1 = 2\n\nThe answer is \\boxed{2}"
        self.opening = "<assistant>"
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.change: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.open = self.most = self.aborted = self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def generations(self) -> list[dict[str, Any]]:
        return [body for path, body, _ in self.asked if path in GENERATING]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                path = head[0].split(" ")[1]
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
                body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
                self.asked.append((path, body, headers))
                await self.answer(path, body, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def answer(
        self, path: str, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if path not in GENERATING:
            await send(writer, self.about(path, body))
            return
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if self.faults or self.always:
                await (self.faults.pop(0) if self.faults else self.always)(writer)  # type: ignore[misc]
                return
            gone = asyncio.create_task(reader.read(1))
            await asyncio.wait({gone}, timeout=self.latency)
            if gone.done():
                self.aborted += 1
                raise ConnectionResetError
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            if body.get("n", 1) > 1 and body.get("temperature") == 0:  # as vLLM does
                told = {"error": {"message": "n must be 1 when using greedy sampling"}}
                await send(writer, told, "400 Bad Request")
            elif body.get("stream"):
                await self.stream(body, writer)
            else:
                await send(writer, self.change(self.generated(path, body)))
        finally:
            self.open -= 1

    def about(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "tiny", "max_model_len": None if self.chat_only else 400}]}
        if self.chat_only:
            return None
        if path == "/version":
            return {"version": "0.0"}
        if path == "/openapi.json":
            fields = (
                "prompt",
                "model",
                "max_tokens",
                "n",
                "logprobs",
                "include_stop_str_in_output",
                "return_token_ids",
            )
            fields += (
                "add_special_tokens",
                "cache_salt",
                "priority",
                "session_id",
                "top_k",
                "temperature",
                "top_p",
                "seed",
                "stop",
            )
            schema = {"CompletionRequest": {"properties": {field: {} for field in fields}}}
            return {"paths": {route: {} for route in ("/tokenize", *GENERATING)}, "components": {"schemas": schema}}
        if path == "/tokenize":
            text = body.get("prompt")
            if text is None:
                text = "".join(f"<{m['role']}>{m['content']}\n" for m in body["messages"])
                text += self.opening if body.get("add_generation_prompt") else ""
            return {"tokens": [ord(c) for c in text], "count": len(text), "token_strs": list(text)}
        return None

    def text(self, body: dict[str, Any]) -> tuple[str, str, str | None]:
        """What is generated, why it ends, and at which stop string."""
        text, reason, at = self.reply, "stop", None
        for stop in body.get("stop") or ():
            if stop in text:
                text, at = text[: text.index(stop) + len(stop)], stop
        if len(text) > body["max_tokens"]:
            text, reason, at = text[: body["max_tokens"]], "length", None
        return text, reason, at

    def generated(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/pooling":
            rows = [[0.1, 0.9] for c in body["input"] if c == ord("#")]
            return {"data": [{"data": rows}], "usage": {"prompt_tokens": len(body["input"])}}
        if path == "/classify":
            return {"data": [{"probs": [0.25, 0.75]}], "usage": {"prompt_tokens": len(body["input"])}}
        if path == "/v1/embeddings":  # a value a token: how many were before it
            values = [float(i) for i in range(len(body["input"]))]
            return {"data": [{"embedding": values}], "usage": {"prompt_tokens": len(body["input"])}}
        n = body.get("n", 1)
        if path == "/v1/chat/completions":
            message = {"role": "assistant", "content": self.reply, "reasoning": "hm"}
            choices = [{"index": i, "message": message, "finish_reason": "stop"} for i in range(n)]
            return {"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": 5 * n}}
        text, reason, at = self.text(body)
        choice = {
            "text": text,
            "finish_reason": reason,
            "stop_reason": at,
            "token_ids": [ord(c) for c in text],
            "logprobs": {
                "tokens": list(text),
                "token_logprobs": [-0.5] * len(text),
                "top_logprobs": [{"2": -0.1}] * len(text),
            },
        }
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(text) * n}
        return {"choices": [{"index": i, **choice} for i in range(n)], "usage": usage}

    async def stream(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        whole = self.generated("/v1/completions", body)["choices"][0]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for i, char in enumerate(whole["text"]):
            last = i + 1 == len(whole["text"])
            piece = {
                "index": 0,
                "text": char,
                "token_ids": [ord(char)],
                "finish_reason": whole["finish_reason"] if last else None,
            }
            piece["logprobs"] = {"tokens": [char], "token_logprobs": [-0.5], "top_logprobs": [None]}
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": i + 1}
            chunk(writer, b"data: " + json.dumps({"choices": [piece], "usage": usage}).encode() + b"\n\n")
            await writer.drain()
            await asyncio.sleep(self.latency / 10)
        chunk(writer, b"data: [DONE]\n\n")
        chunk(writer, b"")
        await writer.drain()


async def send(writer: asyncio.StreamWriter, answer: Any, status: str = "200 OK", extra: str = "") -> None:
    status = "404 Not Found" if answer is None else status
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{extra}content-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def status(code: str, *, after: float | None = None, said: str = "no") -> Fault:
    """Answer with this status, and a Retry-After of so many seconds."""

    async def fault(writer: asyncio.StreamWriter) -> None:
        extra = "" if after is None else f"retry-after: {after}\r\n"
        await send(writer, {"error": {"message": said}}, code, extra)

    return fault


async def reset(writer: asyncio.StreamWriter) -> None:
    """Begin an answer and hang up."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()
    raise ConnectionResetError


async def truncated(writer: asyncio.StreamWriter) -> None:
    """Answer with half a JSON object."""
    await send(writer, b'{"choices": [{"te')


async def stall(writer: asyncio.StreamWriter) -> None:
    """Say nothing for half a minute."""
    await asyncio.sleep(30)


@contextmanager
def serving(server: Misbehaving) -> Iterator[Misbehaving]:
    """Run a server in a thread of its own."""
    ready, over = threading.Event(), threading.Event()

    async def listen() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=1000)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        while not await asyncio.to_thread(over.wait, 0.5):
            pass
        listening.close()

    thread = threading.Thread(target=lambda: asyncio.run(listen()), daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield server
    finally:
        over.set()
        thread.join(10)
