"""Any JSONL file as a task: one object a line, `problem` (or `question`, `prompt`) and `answer` (or `target`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Problem
from reasonweave.tasks.base import Example, is_text
from reasonweave.verifiers.math_answers import MathAnswers

QUESTIONS = ("problem", "question", "prompt")
ANSWERS = ("answer", "target")
GROUPS = ("level", "subject", "type")
FOR_VERIFIERS = ("tests", "statements", "constraints")
"""Fields that go into `Problem.meta`, where verifiers read them and no model does."""
INSTRUCTION = "\n\nReason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class JsonlTask:
    r"""Problems of a local file. A GSM8K answer (a solution that ends in ``#### 42``) is cut to what follows the hashes.

    Answers are compared by meaning (`MathAnswers`). `instruction` is added after each question. Raises `BadInput`, with the
    line's number, for a line that is no JSON object, lacks a question or an answer, or has the id of another.
    """

    path: Path
    instruction: str = INSTRUCTION

    @property
    def name(self) -> str:
        return self.path.stem

    def examples(self, limit: int | None = None) -> list[Example]:
        try:
            lines = self.path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        except OSError as error:
            raise BadInput(f"{self.path}: cannot be read ({error.strerror})") from error
        found: list[Example] = []
        seen: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if limit is not None and len(found) >= limit:
                break
            if line.strip():
                example = self._example(number, line)
                if (first := seen.setdefault(example.problem.id, number)) != number:
                    raise BadInput(f"{self.path}, line {number}: the id {example.problem.id!r} is that of line {first}")
                found.append(example)
        if not found:
            raise BadInput(f"{self.path}: there is no problem in it")
        return found

    def _example(self, number: int, line: bytes) -> Example:
        where = f"{self.path}, line {number}"
        try:
            data = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadInput(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from None
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: cannot be read ({error})") from None
        if not isinstance(data, dict):
            raise BadInput(f"{where}: a {type(data).__name__}, not an object")
        question = _first(data, QUESTIONS)
        answer = _first(data, ANSWERS)
        if not isinstance(question, str) or not question.strip():
            raise BadInput(f"{where}: no question; one of the fields {', '.join(QUESTIONS)} must hold text")
        if not is_text(question):
            raise BadInput(f"{where}: the question holds half a character (a lone surrogate)")
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        usable = isinstance(answer, str | int | float) and not isinstance(answer, bool)
        target = str(answer).rpartition("####")[2].strip() if usable else ""
        if not target or target in ("nan", "inf", "-inf"):
            raise BadInput(f"{where}: no answer; one of the fields {', '.join(ANSWERS)} must hold text or a number")
        identity = data.get("id", data.get("unique_id", number))
        told = {name: data[name] for name in FOR_VERIFIERS if data.get(name) is not None}
        space = MathAnswers(lenient=True)
        problem = Problem(question.strip() + self.instruction, f"{self.name}-{identity}", space, told)
        return Example(problem, target, str(_first(data, GROUPS) or ""))


def _first(data: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first of these fields that is there and not null."""
    return next((data[name] for name in names if data.get(name) is not None), None)
