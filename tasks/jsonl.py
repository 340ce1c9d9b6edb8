"""Any JSONL file as a task: one object a line, `problem` (or `question`, `prompt`) and `answer` (or `target`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.answers import BoxedAnswers
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Problem
from reasonweave.tasks.base import Example

QUESTIONS = ("problem", "question", "prompt")
ANSWERS = ("answer", "target")
GROUPS = ("level", "subject", "type")
INSTRUCTION = "\n\nReason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class JsonlTask:
    r"""Problems of a local file. A GSM8K answer (a solution that ends in ``#### 42``) is cut to what follows the hashes.

    `instruction` is added after each question. Raises `BadInput`, with the line's number, for a line that is no JSON
    object or lacks a question or an answer.
    """

    path: Path
    instruction: str = INSTRUCTION

    @property
    def name(self) -> str:
        return self.path.stem

    def examples(self, limit: int | None = None) -> list[Example]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{self.path}: cannot be read ({error})") from error
        found: list[Example] = []
        for number, line in enumerate(lines, 1):
            if limit is not None and len(found) >= limit:
                break
            if line.strip():
                found.append(self._example(number, line))
        if not found:
            raise BadInput(f"{self.path}: there is no problem in it")
        return found

    def _example(self, number: int, line: str) -> Example:
        where = f"{self.path}, line {number}"
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(data, dict):
            raise BadInput(f"{where}: a {type(data).__name__}, not an object")
        question = _first(data, QUESTIONS)
        answer = _first(data, ANSWERS)
        if not isinstance(question, str) or not question.strip():
            raise BadInput(f"{where}: no question; one of the fields {', '.join(QUESTIONS)} must hold text")
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        if not isinstance(answer, str | int | float) or isinstance(answer, bool) or not str(answer).strip():
            raise BadInput(f"{where}: no answer; one of the fields {', '.join(ANSWERS)} must hold text or a number")
        target = str(answer).rpartition("####")[2].strip()
        identity = data.get("id", data.get("unique_id", number))
        problem = Problem(question.strip() + self.instruction, f"{self.name}-{identity}", BoxedAnswers(lenient=True))
        return Example(problem, target, str(_first(data, GROUPS) or ""))


def _first(data: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((data[name] for name in names if name in data), None)
