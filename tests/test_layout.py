"""The rules of the house, read off the source: layers, packages, exports, what may be caught and yielded where."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOPS = ("orchestrator", "strategies", "verifiers", "tasks")
FILES = [file for top in TOPS for file in sorted((ROOT / top).rglob("*.py"))]
ALLOWED = {
    "orchestrator": {"orchestrator"},
    "strategies": {"orchestrator", "strategies"},
    "verifiers": {"orchestrator", "verifiers"},
    "tasks": {"orchestrator", "verifiers", "tasks"},
}


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=name)
def test_layers(file: Path) -> None:
    top = file.relative_to(ROOT).parts[0]
    ours = {
        module.split(".")[1] for module in imports(ast.parse(file.read_text())) if module.startswith("reasonweave.")
    }
    assert ours <= ALLOWED[top], f"{name(file)} imports {ours - ALLOWED[top]}"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_import_of_our_own_inside_a_function(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = {m for m in imports(node) if m.startswith("reasonweave")}
            assert not inner, f"{name(file)}: {node.name} imports {inner}"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_file_is_too_long(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 600


def enters(node: ast.AsyncWith) -> str:
    return " ".join(ast.unparse(item.context_expr) for item in node.items)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_strategies_never_yield_in_a_task_group_nor_swallow_the_budget(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.AsyncWith) and ("TaskGroup" in enters(node) or "timeout" in enters(node)):
            assert not any(isinstance(inner, ast.Yield) for inner in ast.walk(node)), f"{name(file)}:{node.lineno}"
        if isinstance(node, ast.ExceptHandler) and file.relative_to(ROOT).parts[0] == "strategies":
            caught = ast.unparse(node.type) if node.type else "BaseException"
            swallows = {"OverBudget", "ReasonweaveError", "Exception", "BaseException"} & set(
                caught.replace(",", " ").split()
            )
            assert not swallows, f"{name(file)}:{node.lineno} catches {caught}"
    if name(file) != "orchestrator/drive.py":
        assert "except OverBudget" not in file.read_text()


@pytest.mark.parametrize("file", [f for f in FILES if name(f).startswith(("strategies", "verifiers"))], ids=name)
def test_verifiers_are_asked_in_one_place(file: Path) -> None:
    """`scored` asks them, so that one that breaks its promises takes nothing with it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            called = node.value.func
            assert not (isinstance(called, ast.Attribute) and called.attr == "score"), f"{name(file)}:{node.lineno}"


def test_listed_packages_are_the_packages_on_disk() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    on_disk = {"reasonweave." + ".".join(f.parent.relative_to(ROOT).parts) for f in FILES if f.name == "__init__.py"}
    assert listed == on_disk
    for file in FILES:
        assert (file.parent / "__init__.py").exists(), f"{name(file)} is in no package"


@pytest.mark.parametrize("top", TOPS)
def test_bare_imports_from_the_checkout_are_refused(top: str) -> None:
    asked = [sys.executable, "-c", f"import {top}"]
    ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"import reasonweave.{top}, not {top}" in ended.stderr


@pytest.mark.parametrize("top", TOPS)
def test_exports_exist(top: str) -> None:
    module = importlib.import_module(f"reasonweave.{top}")
    exported = getattr(module, "__all__", [])
    assert sorted(exported) == list(exported) or top == "orchestrator"
    assert all(hasattr(module, item) for item in exported)


def test_the_core_needs_no_torch() -> None:
    heavy = "torch", "transformers", "vllm", "matplotlib", "scipy"
    code = (
        f"import sys, reasonweave.orchestrator, reasonweave.tasks.cli; print([m for m in {heavy} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert found.stdout.strip() == "[]"
