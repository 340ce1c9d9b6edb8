from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from reasonweave.orchestrator import Problem

# How long an example takes depends on what else the machine does; benchmarks/ is the place for timings.
settings.register_profile("reasonweave", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("reasonweave")


@pytest.fixture
def problem() -> Problem:
    return Problem("Start with 3. A: Add 4. What is the result?", "p")
