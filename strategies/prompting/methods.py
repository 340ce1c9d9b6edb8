"""Prompt-level methods over the parts of this package, a few lines each. Prompts are our own words."""

from __future__ import annotations

from typing import Any

from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.strategies.prompting.asking import Listing
from reasonweave.strategies.prompting.listing import AtOnce, InOrder
from reasonweave.strategies.prompting.stages import Stage, Stages
from reasonweave.strategies.prompting.wording import Reworded

RE_READ = """\
{problem}

The same question a second time, so that nothing in it is missed:

{problem}"""

REFLECT = """\
{problem}

Work in two parts. First, between <think> and </think>, think step by step until you have a result; then go back over your
steps, between <reflection> and </reflection>, look for slips and for what you left out, and put right what you find. After
</think> write the solution that holds after this, with its final answer in the form that the problem asks for."""

SUBQUESTIONS = """\
{problem}

Do not solve this yet. Which smaller questions have to be answered on the way? List at most {count} of them, from the easiest
to the hardest, so that each can be answered with the help of those before it. Write one a line, numbered, and nothing else."""

SUBANSWER = """\
{problem}

{pairs}Do not solve the whole yet. Answer this one question about it, briefly: {item}"""

AFTER_SUBANSWERS = """\
{problem}

These questions on the way to it have been answered:

{pairs}Solve the problem itself now, with the help of these answers."""

SKELETON = """\
{problem}

Plan an answer to this; do not write it. List its points only, {count} at most, each in three to five words, one a line,
numbered, and nothing else."""

EXPAND = """\
{problem}

An answer to this is planned in these points:
{items}

Somebody else writes each of the others. Write what belongs to point {number}, "{item}", in one or two sentences, without a
heading."""

MODULES = """\
- Cut it into parts that can be dealt with one by one.
- Find out what is given, what is wanted, and what is not said.
- Bring it into a simpler form, or try a smaller case first.
- Go backwards from what is wanted to what is given.
- Look for a pattern, a symmetry, or something that does not change.
- Write it as equations, a table or a drawing.
- Go through all cases, the extreme ones too.
- Question what one takes for granted.
- Compare with a problem whose solution is known.
- Propose a solution and look for what would contradict it.
- Look at it from another side, or by another method, and compare the results.
- Check each step before the next, and the result against the question."""
"""Ways of thinking to choose from; the paper has 39."""

SELECT = f"""\
{{problem}}

Do not solve this. Here are ways of thinking about problems:
{MODULES}

Which of them, three to seven, help with this one? Copy those, one a line."""

ADAPT = """\
{problem}

Do not solve this. These ways of thinking were chosen for it:
{chosen}

Say each of them anew, so that it tells what to do in this very problem. One a line."""

COMPOSE = """\
{problem}

Do not solve this. It is to be dealt with in these ways:
{adapted}

Make a form of them that only has to be filled in to solve the problem: one line for each thing to be worked out, in order,
with its name and what belongs there, the final answer last."""

FOLLOW = """\
{problem}

Solve it by filling in this form, line by line, the final answer in the form that the problem asks for:
{structure}"""


def re_reading(policy: StepPolicy) -> Reworded:
    """Re-reading, RE2 (Xu et al., 2023, arXiv 2309.06275): the question is asked twice, one after the other."""
    return Reworded(policy, RE_READ)


def cot_reflection(policy: StepPolicy) -> Reworded:
    """Chain of thought with reflection (optillm): one prompt asks for thinking, a look back at it, and the solution."""
    return Reworded(policy, REFLECT)


def least_to_most(model: Model, most: int = 6, **options: Any) -> InOrder:
    """Least-to-most (Zhou et al., 2022, arXiv 2205.10625): sub-questions from easy to hard, each answered after those before
    it, then the problem. `options` are those of `InOrder`."""
    return InOrder(Listing(model, SUBQUESTIONS, most), SUBANSWER, AFTER_SUBANSWERS, **options)


def skeleton_of_thought(model: Model, most: int = 10, **options: Any) -> AtOnce:
    """Skeleton-of-thought (Ning et al., 2023, arXiv 2307.15337): the points of an answer first, then all of them written at
    once. For answers in prose that come sooner; not for what has to be reasoned out. `options` are those of `AtOnce`."""
    return AtOnce(Listing(model, SKELETON, most), EXPAND, **options)


def self_discover(model: Model, **options: Any) -> Stages:
    """Self-discover (Zhou et al., 2024, arXiv 2402.03620): choose ways of thinking, adapt them, make a form of them, fill it
    in. `options` are those of `Stages`."""
    stages = Stage("chosen", SELECT), Stage("adapted", ADAPT), Stage("structure", COMPOSE)
    return Stages(model, stages, FOLLOW, **options)
