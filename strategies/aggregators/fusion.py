"""Fusion: a panel of answers, a judge's analysis of them, and one answer written after both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from reasonweave.orchestrator.answers import after_thinking, json_objects
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidates, Sampling
from reasonweave.strategies.aggregators.judging import (
    Desk,
    check_prompts,
    concluded,
    entrants,
    judged,
    new_solution,
    shuffled,
    unjudged,
)

ANALYSIS_PROMPT = """\
A panel of {count} answered the same problem, each without knowing of the others. The answers are numbered [1] to [{count}].

Problem:
{problem}

{solutions}

Compare the answers; do not solve the problem. Reply with one JSON object and nothing else. It has these five keys, each with a
list of at most two short sentences, which may be empty:
"consensus": what all or most of them say
"contradictions": where they say opposite things, with their numbers
"partial_coverage": what only some of them deal with
"unique_insights": what is right and only one of them has, with its number
"blind_spots": what none of them deals with"""

FUSION_PROMPT = """\
A panel of {count} answered the same problem, each without knowing of the others. The answers are numbered [1] to [{count}].

Problem:
{problem}

{solutions}
{analysis}
Write the best answer to the problem that you can. Where the panel agrees, have a reason before you say otherwise; where it does
not, settle who is right. Put the whole answer, without a word about the panel, between these two tags:
<solution>
</solution>"""

ANALYSIS = "\nA judge compared them:\n{analysis}\n"
"""How an analysis is put into the second prompt."""

TOPICS = "consensus", "contradictions", "partial_coverage", "unique_insights", "blind_spots"
POINTS, LENGTH = 2, 400
"""Points kept of each topic, and characters of each point."""


@dataclass(frozen=True)
class Fusion:
    """Fusion of a panel's answers, as in vLLM's semantic router: `judge` (None: `model` itself) compares them in JSON, then
    `model` writes a new answer with that and the panel's answers before it. Two calls.

    The panel is the candidates. Fewer than `quorum` usable ones are not fused; where not all fit a model's context, as many as
    do are taken, drawn by the seed. A comparison that cannot be read is left out. A reply without its tags, or without an answer
    where the panel has one, leaves it at the panel's vote, and the winner's `Score.error` says so. The confidence is the share of
    the votes cast, the new answer's among them, that it has; None for free text.
    """

    model: Model
    judge: Model | None = None
    quorum: int = 2
    temperature: float = 0.6
    max_tokens: int = 2048
    analysis_tokens: int = 1024
    analysis_prompt: str = ANALYSIS_PROMPT
    prompt: str = FUSION_PROMPT

    def __post_init__(self) -> None:
        if self.quorum < 1:
            raise BadInput(f"Fusion(quorum={self.quorum}): 1 or more")
        check_prompts(self, self.analysis_prompt, self.prompt)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        if not (able := entrants(roots)):
            return
        seed = run.seed("ties")
        yield concluded(roots, unjudged(able, seed))
        if len(able) < self.quorum:
            return
        panel = shuffled(able, run.seed("order"))
        analyst = Desk(self.judge or self.model, self.analysis_prompt, Sampling(0.0, max_tokens=self.analysis_tokens))
        found = await analyst.ask_most(panel, run.child("analysis"), least=self.quorum)
        analysis = analysis_in(found.text) if found else None
        shown = filled(ANALYSIS, analysis=json.dumps(analysis, ensure_ascii=False, indent=1)) if analysis else ""
        writer = Desk(self.model, self.prompt, Sampling(self.temperature, max_tokens=self.max_tokens))
        reply = await writer.ask_most(panel, run.child("fusion"), least=self.quorum, analysis=shown)
        made = new_solution(panel, reply, self.model.name) if reply else None
        if made is None:
            yield concluded(roots, unjudged(able, seed), told="no new answer could be made or read")
        else:
            yield judged(replace(roots, items=(*roots, made)), [made], seed)


def analysis_in(text: str) -> dict[str, list[str]] | None:
    """The first JSON object in a reply that has one of the `TOPICS`, cut to what was asked for; None where there is none.

    >>> analysis_in('Here it is: {"consensus": ["It is 4.", "", "Two and two."], "mood": "good", "blind_spots": "none"}')
    {'consensus': ['It is 4.', 'Two and two.'], 'blind_spots': ['none']}
    """
    for found in json_objects(after_thinking(text)):
        if any(topic in found for topic in TOPICS):
            points = {topic: _points(found[topic]) for topic in TOPICS if topic in found}
            return {topic: some for topic, some in points.items() if some}
    return None


def _points(value: Any) -> list[str]:
    """The first points of a topic, which may be one text or a list of texts."""
    listed = value if isinstance(value, list) else [value]
    return [each.strip()[:LENGTH] for each in listed if isinstance(each, str) and each.strip()][:POINTS]
