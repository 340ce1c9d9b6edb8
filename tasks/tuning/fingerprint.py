"""Which workflow is it? Two option sets that make the same parts are one."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import blake2b

import numpy as np

from reasonweave.orchestrator.graph import Graph
from reasonweave.orchestrator.models.base import Model, RewardModel


def fingerprint(part: object) -> str:
    """16 letters that are the same for equal strategies, in every process: all that they are made of counts, functions by name,
    code and what they close over.

    >>> def above(limit): return lambda found: found.confidence > limit
    >>> fingerprint(above(0.5)) == fingerprint(above(0.5)), fingerprint(above(0.5)) == fingerprint(above(0.6))
    (True, False)
    """
    digest = blake2b(digest_size=8)
    for word in _words(part, frozenset()):
        digest.update(word.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _words(part: object, above: frozenset[int]) -> Iterator[str]:
    """Everything in a part, in one order."""
    if part is None or isinstance(part, str | int | float | bytes | complex):
        yield f"{type(part).__name__} {part!r}"
        return
    if id(part) in above:
        yield "again"
        return
    within = above | {id(part)}
    name = f"{type(part).__module__}.{type(part).__qualname__}"
    if isinstance(part, Model | RewardModel):
        yield f"{part.role} {part.name}"
    elif isinstance(part, types.MethodType):
        yield f"method {part.__func__.__qualname__}"
        yield from _words(part.__self__, within)
    elif isinstance(part, types.FunctionType):
        yield f"function {part.__module__}.{part.__qualname__}"
        yield from _code(part.__code__)
        closed = [cell.cell_contents for cell in part.__closure__ or () if not _empty(cell)]
        yield from _all([*closed, part.__defaults__, part.__kwdefaults__], within)
    elif isinstance(part, type | types.BuiltinFunctionType):
        yield f"{part.__module__}.{part.__qualname__}"
    elif isinstance(part, partial):
        yield "partial"
        yield from _all([part.func, part.args, part.keywords], within)
    elif isinstance(part, Graph):
        yield "graph"
        yield from _all([part.nodes, part.finish, repr(part)], within)
    elif isinstance(part, np.ndarray):
        yield f"array {part.dtype} {part.shape} {part.tobytes().hex()}"
    elif isinstance(part, Mapping):
        yield f"{len(part)} pairs"
        for key, value in part.items():
            yield from _all([key, value], within)
    elif isinstance(part, list | tuple):
        yield f"{type(part).__name__} of {len(part)}"
        yield from _all(part, within)
    elif isinstance(part, set | frozenset):
        yield f"set of {len(part)}"
        yield from sorted(" ".join(_words(each, within)) for each in part)
    elif dataclasses.is_dataclass(part):
        yield name
        for known in dataclasses.fields(part):
            yield known.name
            yield from _words(getattr(part, known.name), within)
    elif hasattr(part, "__dict__") and type(part).__repr__ is object.__repr__:
        yield name
        yield from _words(vars(part), within)
    else:
        yield f"{name} {part!r}"


def _all(parts: object, above: frozenset[int]) -> Iterator[str]:
    for part in parts:  # type: ignore[attr-defined]
        yield from _words(part, above)


def _code(code: types.CodeType) -> Iterator[str]:
    """What a function does, line numbers apart."""
    yield code.co_code.hex()
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


def _empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is _MISSING
    except ValueError:
        return True


_MISSING = object()
