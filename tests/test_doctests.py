"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEED_TORCH = {"train.py", "train_prm.py"}
MODULES = [
    "reasonweave." + ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for top in ("orchestrator", "strategies", "verifiers", "tasks")
    for file in sorted((ROOT / top).rglob("*.py"))
    if file.name not in NEED_TORCH and ">>>" in file.read_text()
]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried > 0
    assert failed == 0
