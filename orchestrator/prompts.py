"""Prompts with blanks."""

from __future__ import annotations

import re

_BLANK = re.compile(r"\{(\w+)\}")


def filled(template: str, **parts: object) -> str:
    """A prompt with its blanks filled in; other braces stay, those in what is filled in too.

    >>> filled("{problem}: {a} {}", problem="{a}?", a="4")
    '{a}?: 4 {}'
    """
    return _BLANK.sub(lambda blank: str(parts.get(blank[1], blank[0])), template)
