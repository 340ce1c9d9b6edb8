from __future__ import annotations

import pytest

from reasonweave.orchestrator import Problem


@pytest.fixture
def problem() -> Problem:
    return Problem("Start with 3. A: Add 4. What is the result?", "p")
