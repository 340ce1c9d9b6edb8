"""Refinement: loops in which new answers are written after reading earlier ones, and what was remarked on them."""

from reasonweave.strategies.refining._rounds_fitting import Tail, TokenTail, WhilePaid
from reasonweave.strategies.refining.chain_of_verification import VerificationQuestions
from reasonweave.strategies.refining.dser import Late, TwoStates, dser
from reasonweave.strategies.refining.feedback import (
    Confirmed,
    Critic,
    Explained,
    Feedback,
    Remark,
    Scores,
    Unheeded,
    verdict_in,
    weakest_step,
)
from reasonweave.strategies.refining.feedback_edit import FeedbackEdit
from reasonweave.strategies.refining.iad import IAD
from reasonweave.strategies.refining.plangen import ConstraintCheck
from reasonweave.strategies.refining.reads import (
    Critiqued,
    Everything,
    Others,
    Past,
    RandomK,
    Reads,
    Summarized,
    TopK,
    so_far,
)
from reasonweave.strategies.refining.refine import History, Line, Refine, better, current, every
from reasonweave.strategies.refining.reflexion import Lessons, reflexion
from reasonweave.strategies.refining.rounds import Rounds, Weighted, all_rounds, equally, first_only, in_turn, newest
from reasonweave.strategies.refining.writing import Prompted, Reading, Refined, Writer, conclusion, full_text

__all__ = [
    "IAD",
    "Confirmed",
    "ConstraintCheck",
    "Critic",
    "Critiqued",
    "Everything",
    "Explained",
    "Feedback",
    "FeedbackEdit",
    "History",
    "Late",
    "Lessons",
    "Line",
    "Others",
    "Past",
    "Prompted",
    "RandomK",
    "Reading",
    "Reads",
    "Refine",
    "Refined",
    "Remark",
    "Rounds",
    "Scores",
    "Summarized",
    "Tail",
    "TokenTail",
    "TopK",
    "TwoStates",
    "Unheeded",
    "VerificationQuestions",
    "Weighted",
    "WhilePaid",
    "Writer",
    "all_rounds",
    "better",
    "conclusion",
    "current",
    "dser",
    "equally",
    "every",
    "first_only",
    "full_text",
    "in_turn",
    "newest",
    "reflexion",
    "so_far",
    "verdict_in",
    "weakest_step",
]
