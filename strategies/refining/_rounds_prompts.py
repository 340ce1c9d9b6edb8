"""What the presets of `Rounds` ask for: prompts with {problem}, {solutions}, {count}, and where there are some {remarks}."""

from __future__ import annotations

REFINE_PROMPT = """\
Here are a problem and an attempt to solve it, which may be wrong.

Problem:
{problem}

Attempt:
{solution}

Check it step by step. Keep what is right, mend what is not, and start anew if it leads nowhere. Then write the whole solution,
and end with the answer in the form that the problem asks for."""

AGGREGATE_PROMPT = """\
Here are a problem and earlier attempts to solve it ({count} of them), numbered from [1]. Each may be wrong, in part or in whole,
and that several say the same does not make it right.

Problem:
{problem}

{solutions}

See where they part ways and settle who is right, take over what holds, and go another way if none of them gets anywhere. Then
write one whole solution that stands on its own, and end with the answer in the form that the problem asks for."""

SUMMARY_PROMPT = """\
Here are a problem and earlier attempts to solve it ({count} of them), numbered from [1]. Some may be wrong.

Problem:
{problem}

{solutions}

Write notes for somebody who will try again and cannot see these attempts: what they agree on and what they do not, with the
reasons given; results in between that can be relied on; errors found; ways not tried yet; and each answer given, with the number
of attempts that give it. Be short. Do not solve the problem anew."""

WORKSPACE_PROMPT = """\
Here are a problem and what is left of earlier attempts to solve it. It may be wrong, in part or in whole.

Problem:
{problem}

{remarks}{solutions}

Use it where it holds, settle what it leaves open, and trust your own reasoning where it says something else. Then write one
whole solution that stands on its own, and end with the answer in the form that the problem asks for."""

CRITIQUE_PROMPT = """\
Here are a problem and answers to it ({count} of them), numbered from [1], by different writers.

Problem:
{problem}

{solutions}

Say of each answer, by its number, what is right in it and what is wrong or missing. Say where they contradict each other, and
who is right there. Do not write an answer of your own."""

SYNTHESIS_PROMPT = """\
Here are a problem and answers to it ({count} of them), numbered from [1], by different writers. They may be wrong or one-sided.

Problem:
{problem}

{solutions}

{remarks}

Write the best answer to the problem that you can: judge what they say before you take it over, and copy nobody as a whole. It
stands on its own, and ends with the answer in the form that the problem asks for."""

DEBATE_PROMPT = """\
You and others have each given an answer to a problem. Here are {count} answers: [1] is your own, any further ones are theirs.

Problem:
{problem}

{solutions}

Take the others' reasoning as advice: where theirs and yours differ, find out who is right, and change your mind only for a
reason. Then give your answer again, with its reasoning, and end with it in the form that the problem asks for."""
