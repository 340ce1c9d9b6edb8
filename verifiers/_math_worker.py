"""A process that compares two expressions with math-verify; run as a script, it imports nothing of this package.

It reads requests from its standard input and answers on its standard output, each a length of four bytes and as much JSON: the
seconds, the reference and the answer in LaTeX, and whether *i* is the imaginary unit; true, false, or a word for why it cannot
say. Before an answer it says which stage it is in, so that a hang can be blamed on one expression. It ends at the end of its
input, and by a signal of its own when a comparison takes too long on the processor; no signal handler, and so nothing that
computes, can keep it from that.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from typing import IO, Any

LENGTH = struct.Struct(">I")
PATIENCE = 3
"""How much longer a comparison may take by the clock than on the processor, before somebody gives it up."""


def receive(stream: IO[bytes]) -> Any:
    """The next message; EOFError at the end."""
    header = _exactly(stream, LENGTH.size)
    return json.loads(_exactly(stream, LENGTH.unpack(header)[0]))


def send(stream: IO[bytes], message: Any) -> None:
    """One message."""
    body = json.dumps(message).encode()
    rest = memoryview(LENGTH.pack(len(body)) + body)
    while rest:  # a raw stream may take a part
        rest = rest[stream.write(rest) :]
    stream.flush()


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = stream.read(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def serve(memory: int) -> None:
    """Answer until there is nothing more to read. `memory`: the most bytes of address space."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    if timed := hasattr(signal, "setitimer"):
        for deadly in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(deadly, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGALRM})

    def limit(seconds: float) -> None:
        if timed:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds + 2 if seconds else 0)

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        pass
    try:
        compare = _comparison()
    except Exception as error:
        send(out, f"{type(error).__name__}: {error}")
        return
    send(out, "ready")
    while True:
        try:
            seconds, gold, answer, imaginary = receive(sys.stdin.buffer)
        except EOFError:
            return
        limit(seconds)
        try:
            verdict = compare(gold, answer, imaginary, lambda stage: send(out, stage))
        except MemoryError:
            verdict = "memory"
        except Exception as error:
            verdict = type(error).__name__
        limit(0)
        send(out, verdict)


def _comparison() -> Any:
    from latex2sympy2_extended.latex2sympy2 import (  # type: ignore[import-untyped]
        ConversionConfig,
        NormalizationConfig,
        latex2sympy,
    )
    from math_verify.grader import verify  # type: ignore[import-untyped]
    from sympy import Expr, Symbol, simplify  # type: ignore[import-untyped]

    tidy = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    names = ConversionConfig(lowercase_symbols=False)
    read: dict[tuple[str, bool], Any] = {}

    def reading(text: str, imaginary: bool) -> Any:
        if (text, imaginary) not in read:
            if len(read) > 256:
                read.clear()
            real = None if imaginary else True
            expression = latex2sympy(
                text, is_real=real, convert_degrees=False, normalization_config=tidy, conversion_config=names
            )
            with contextlib.suppress(Exception):
                expression.evalf(15)  # what cannot be evaluated hangs here, and not with whatever it is compared with
            read[text, imaginary] = expression
        return read[text, imaginary]

    def compare(gold: str, answer: str, imaginary: bool, stage: Any) -> bool:
        stage("gold")
        one = reading(gold, imaginary)
        stage("answer")
        other = reading(answer, imaginary)
        stage("both")
        if verify(one, other, timeout_seconds=None, allow_set_relation_comp=True):
            return True
        lone = isinstance(one, Symbol) or isinstance(other, Symbol)  # which it compares by name alone
        return bool(lone and isinstance(one, Expr) and isinstance(other, Expr) and simplify(one - other) == 0)

    compare(
        "1", r"\frac{x}{2}", False, lambda stage: None
    )  # what sympy and the parser do once is in no comparison's time
    return compare


if __name__ == "__main__":
    serve(int(sys.argv[1]))
