"""What several test files share."""

from __future__ import annotations

from typing import Any

from reasonweave.orchestrator import Candidate, Problem, Score, Step
from reasonweave.orchestrator.registry import Workflow


def said(answer: str | None, score: float | None = None) -> Candidate:
    """A finished candidate that gives this answer (None: gives none)."""
    text = f"\\boxed{{{answer}}}" if answer is not None else "I do not know"
    return Candidate(Problem("q"), (Step(text, "test", 3),), done=True, score=None if score is None else Score(score))


MODEST: dict[str, Any] = {
    "n": 4,
    "width": 2,
    "beams": 2,
    "samples": 2,
    "rollouts": 2,
    "breadth": 2,
    "layers": 2,
    "sweeps": 2,
    "expansions": 12,
    "most": 2,
    "least": 1,
    "block": 24,
    "blocks": 2,
    "moves": 2,
    "gamma": 2,
    "judge_tokens": 96,
    "rounds": 2,
    "remarks": 1,
    "edits": 1,
    "feedback_tokens": 64,
    "summary_tokens": 64,
    "critique_tokens": 64,
    "note_tokens": 64,
    "questions": 2,
    "agents": 2,
    "drafts": 2,
    "schedule": "4",
    "observations": 2,
}


def modest(workflow: Workflow, **further: Any) -> dict[str, Any]:
    """Options that make a workflow cheap enough for a slow backend, as far as it has them; what is 1 stays 1."""
    wanted = {
        name: value for name, value in (MODEST | further).items() if type(workflow.options.get(name)) is type(value)
    }
    return {n: v if isinstance(v, str) else min(v, workflow.options[n]) for n, v in wanted.items()}
