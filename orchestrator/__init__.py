"""The core: problems and candidates, models and budgets, graphs and runs.

from reasonweave.orchestrator import Budget, chain, open_model, solve
"""

if __name__ == "orchestrator":
    raise ImportError("install the project (pip install -e .) and import reasonweave.orchestrator, not orchestrator")

from reasonweave.orchestrator.answers import BoxedAnswers, FreeText
from reasonweave.orchestrator.budget import Budget, Ledger, Rates, Reserve
from reasonweave.orchestrator.conditions import sure, unsure
from reasonweave.orchestrator.drawing import draw_run
from reasonweave.orchestrator.drive import drive, driven
from reasonweave.orchestrator.errors import (
    BadInput,
    GraphError,
    ModelError,
    NotFound,
    OverBudget,
    ReasonweaveError,
    SeedReuse,
    UserError,
)
from reasonweave.orchestrator.graph import Graph, Node, chain, check, joined, parallel
from reasonweave.orchestrator.happened import Happened, account
from reasonweave.orchestrator.models.base import Model, Rating, Request, RewardModel
from reasonweave.orchestrator.models.spec import open_model
from reasonweave.orchestrator.outline import outline
from reasonweave.orchestrator.protocols import (
    Aggregator,
    AnswerSpace,
    Condition,
    Finish,
    StepPolicy,
    Strategy,
    Verifier,
)
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.shares import Share
from reasonweave.orchestrator.solve import Result, asolve, solve
from reasonweave.orchestrator.solve_each import Batch, asolve_each, solve_each
from reasonweave.orchestrator.space import Between, Fixed, OneOf
from reasonweave.orchestrator.tool_calls import ToolCall, ToolCalls, calls_in
from reasonweave.orchestrator.trace import Jsonl, Tracer
from reasonweave.orchestrator.types import (
    Candidate,
    Candidates,
    Completion,
    Context,
    Message,
    Problem,
    Sampling,
    Score,
    Step,
    Token,
    Usage,
)

__all__ = [
    "Aggregator",
    "AnswerSpace",
    "BadInput",
    "Batch",
    "Between",
    "BoxedAnswers",
    "Budget",
    "Candidate",
    "Candidates",
    "Completion",
    "Condition",
    "Context",
    "Finish",
    "Fixed",
    "FreeText",
    "Graph",
    "GraphError",
    "Happened",
    "Jsonl",
    "Ledger",
    "Message",
    "Model",
    "ModelError",
    "Node",
    "NotFound",
    "OneOf",
    "OverBudget",
    "Problem",
    "Rates",
    "Rating",
    "ReasonweaveError",
    "Request",
    "Reserve",
    "Result",
    "RewardModel",
    "Run",
    "Sampling",
    "Score",
    "SeedReuse",
    "Share",
    "Step",
    "StepPolicy",
    "Strategy",
    "Token",
    "ToolCall",
    "ToolCalls",
    "Tracer",
    "Usage",
    "UserError",
    "Verifier",
    "account",
    "asolve",
    "asolve_each",
    "calls_in",
    "chain",
    "check",
    "draw_run",
    "drive",
    "driven",
    "joined",
    "open_model",
    "outline",
    "parallel",
    "solve",
    "solve_each",
    "sure",
    "unsure",
]
