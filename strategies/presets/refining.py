"""Presets that refine: an answer, something said of it, and a better one."""

from __future__ import annotations

import math

from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.strategies.aggregators.vote import best, majority
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.presets.common import STEPS, steps
from reasonweave.strategies.refining.chain_of_verification import VerificationQuestions
from reasonweave.strategies.refining.dser import dser as self_evolving_lines
from reasonweave.strategies.refining.feedback import Critic, Scores, no_verdict
from reasonweave.strategies.refining.feedback_edit import EDIT_PROMPT, FeedbackEdit
from reasonweave.strategies.refining.iad import IAD, IAD_PROMPT
from reasonweave.strategies.refining.plangen import ConstraintCheck
from reasonweave.strategies.refining.refine import REFINE_PROMPT, History, Refine, better
from reasonweave.strategies.refining.reflexion import LESSON_PROMPT, RETRY_PROMPT
from reasonweave.strategies.refining.reflexion import reflexion as attempts_with_lessons
from reasonweave.strategies.refining.writing import Prompted, Refined, Writer
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.best_of_n import BestOfN
from reasonweave.strategies.searches.refiners import Redo


def self_refine(
    small: Model,
    *,
    rounds: int = 4,
    history: int = 4,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    feedback_tokens: int = 1024,
) -> Strategy:
    """Self-Refine (Madaan et al., 2023): an answer, the model's own feedback, a refined answer, until it calls one right.

    At most `rounds` refinements of a greedy answer, each written after the last `history` answers and what was said of them.
    """
    draft = BestOfN(whole(small, temperature=0.0, max_tokens=max_tokens), n=1, max_steps=1)
    critic = Critic(small, temperature=temperature, max_tokens=feedback_tokens)
    loop = Refine(Prompted(small, REFINE_PROMPT, temperature, max_tokens), critic, rounds, recall=History(history))
    return chain(draft, loop, majority, finish=ForceAnswer(small))


def feedback_edit(
    small: Model,
    large: Model,
    judge: Model,
    prm: Verifier,
    *,
    n: int = 4,
    remarks: int = 2,
    edits: int = 2,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    feedback_tokens: int = 1024,
) -> Strategy:
    """Feedback and edit (Wang et al., 2025): n drafts, a critic's remarks on each, edits by an editor; the best answers.

    `small` writes the drafts, `judge` comments on them (`large` does, where the command line names nobody else), `large` edits.
    """
    strategy = FeedbackEdit(
        Prompted(small, EDIT_PROMPT, temperature, max_tokens),
        Critic(judge, temperature=temperature, max_tokens=feedback_tokens),
        Prompted(large, EDIT_PROMPT, temperature, max_tokens),
        n,
        remarks,
        edits,
        verifier=prm,
    )
    return chain(strategy, best, finish=ForceAnswer(small))


def iad(
    small: Model,
    prm: Verifier,
    *,
    n: int = 4,
    rounds: int = 4,
    target: float = math.inf,
    words: bool = False,
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Iterative agent decoding (Chakraborty et al., 2025): n answers a round after the best and worst so far; the best answers.

    It ends early at a score of `target`. With `words` the model reads both and what the verifier says; without, the best one is
    written anew from its weakest step on.
    """
    writer = _writer(small, words, IAD_PROMPT, max_steps, temperature, max_tokens)
    return chain(IAD(writer, Scores(prm, target), n, rounds), best, finish=ForceAnswer(small))


def dser(
    small: Model,
    prm: Verifier,
    *,
    n: int = 8,
    rounds: int = 16,
    late: int = 10,
    heed: bool = False,
    threshold: float = 0.5,
    words: bool = False,
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """DSER (Liu et al., 2025) with a verifier: n lines of verify and refine; the `late` last answers of each vote.

    With `heed`, an answer with a score of `threshold` stands. With `words` the model reads what the verifier says; without, it
    writes an answer anew from its weakest step on.
    """
    writer = _writer(small, words, REFINE_PROMPT, max_steps, temperature, max_tokens)
    lines = self_evolving_lines(writer, Scores(prm, threshold), n=n, rounds=rounds, late=late, heed=heed)
    return chain(lines, majority, finish=ForceAnswer(small))


def self_evolving(
    small: Model,
    *,
    n: int = 8,
    rounds: int = 16,
    late: int = 10,
    heed: bool = False,
    temperature: float = 0.6,
    max_tokens: int = 1024,
    feedback_tokens: int = 1024,
) -> Strategy:
    """DSER (Liu et al., 2025): n lines of self-verification in words and refinement; the `late` last answers of each vote.

    With `heed`, an answer that the model calls right stands, and is verified again in the next round.
    """
    writer = Prompted(small, REFINE_PROMPT, temperature, max_tokens)
    critic = Critic(small, temperature=temperature, max_tokens=feedback_tokens)
    lines = self_evolving_lines(writer, critic, n=n, rounds=rounds, late=late, heed=heed)
    return chain(lines, majority, finish=ForceAnswer(small))


def reflexion(
    small: Model,
    prm: Verifier,
    *,
    rounds: int = 3,
    threshold: float = 0.5,
    memory: int = 3,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    feedback_tokens: int = 256,
) -> Strategy:
    """Reflexion (Shinn et al., 2023): attempts until one is given `threshold`, with a lesson from each failure; the best answers.

    At most `rounds` further attempts, each after the last attempt and the last `memory` lessons.
    """
    writer = Prompted(small, RETRY_PROMPT, temperature, max_tokens)
    critic = Critic(small, LESSON_PROMPT, temperature, feedback_tokens, no_verdict)
    loop = attempts_with_lessons(writer, Scores(prm, threshold), critic, rounds=rounds, memory=memory)
    return chain(loop, best, finish=ForceAnswer(small))


def chain_of_verification(
    small: Model,
    *,
    questions: int = 5,
    temperature: float = 0.0,
    max_tokens: int = 1024,
    feedback_tokens: int = 512,
) -> Strategy:
    """Chain of verification (Dhuliawala et al., 2023): a draft, questions about it answered without it, a revised answer."""
    check = VerificationQuestions(small, most=questions, max_tokens=feedback_tokens)
    loop = Refine(Prompted(small, REFINE_PROMPT, temperature, max_tokens), check, rounds=1)
    return chain(loop, majority, finish=ForceAnswer(small))


def plangen(
    small: Model,
    large: Model,
    *,
    rounds: int = 5,
    threshold: float = 0.95,
    n: int = 1,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    feedback_tokens: int = 1024,
) -> Strategy:
    """PlanGEN's refinement (Parmar et al., 2025): answers refined until the large model finds the problem's constraints met.

    It checks against the constraints that it draws from the problem, and is satisfied with a score of `threshold`.
    """
    check = ConstraintCheck(large, threshold, feedback_tokens)
    loop = Refine(Prompted(small, REFINE_PROMPT, temperature, max_tokens), check, rounds, n, accept=better)
    return chain(loop, best, finish=ForceAnswer(small))


def _writer(model: Model, words: bool, prompt: str, max_steps: int, temperature: float, max_tokens: int) -> Writer:
    """Answers written anew after words, or without any from the weakest step on."""
    if words:
        return Prompted(model, prompt, temperature, max_tokens)
    return Refined(Redo(steps(model, temperature, max_tokens), max_steps))
