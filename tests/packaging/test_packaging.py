"""sdist → wheel → a clean environment outside the checkout: everything imports, and the lab runs."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.packaging

IMPORTS = """
import importlib, pkgutil, reasonweave
skipped = {"reasonweave.tasks.lab.train", "reasonweave.tasks.lab.train_prm"}  # the extra `train`
found = [m.name for m in pkgutil.walk_packages(reasonweave.__path__, "reasonweave.") if m.name not in skipped]
for name in found:
    importlib.import_module(name)
print(len(found))
"""


def run(*command: str | Path, cwd: Path) -> str:
    ended = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


def test_the_distribution_installs_and_runs_anywhere(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (sdist,), (wheel,) = (tmp_path / "dist").glob("*.tar.gz"), (tmp_path / "dist").glob("*.whl")
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/README.md") for name in archive.getnames())
    inside = zipfile.ZipFile(wheel).namelist()
    for model in ("lab-small", "lab-large", "lab-prm"):
        assert f"reasonweave/tasks/lab/checkpoints/{model}/model.safetensors" in inside
    assert not [
        name for name in inside if name.split("/")[0] in ("orchestrator", "strategies", "verifiers", "tasks", "tests")
    ]
    assert sum(1 for name in inside if name.endswith("py.typed")) == 4
    python = tmp_path / "env" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)
    assert int(run(python, "-W", "error", "-c", IMPORTS, cwd=tmp_path)) > 40
    told = run(tmp_path / "env" / "bin" / "reasonweave", "eval", "--task", "lab", "--limit", "5", cwd=tmp_path)
    for workflow in ("single", "self-consistency", "best-of-n"):
        assert workflow in told
    the_example_plugin_is_found_and_used(python, tmp_path)


def the_example_plugin_is_found_and_used(python: Path, tmp_path: Path) -> None:
    """Its verifier, workflow, task and models, by name, from a package of its own."""
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        ROOT / "examples" / "plugin",
        cwd=tmp_path,
    )
    reasonweave = tmp_path / "env" / "bin" / "reasonweave"
    told = " ".join(run(reasonweave, "list", "verifiers", cwd=tmp_path).split())
    assert "example-plugin Does a lab solution carry out the operations" in told
    assert "costs nothing needs no model from reasonweave-example-plugin 0.1.0; -V seconds=5.0" in told
    chosen = ("eval", "best-of-n", "--task", "lab", "--verifier", "example-plugin", "-V", "seconds=9", "--limit", "5")
    assert "best-of-n" in run(reasonweave, *chosen, "--log-dir", "one", cwd=tmp_path)
    (records,) = (tmp_path / "one").glob("*/best-of-n.jsonl")
    head, *lines = (json.loads(line) for line in records.read_text().splitlines())
    assert head["verifiers"] == {"prm": "example-plugin seconds=9.0"}
    assert all(0 <= sample["score"] <= 1 for line in lines for sample in line["samples"])
    assert not any("lab-prm" in line["model_usage"] for line in lines)
    own = ("eval", "example-plugin", "--task", "example-plugin", "--limit", "3", "--small", "example-plugin/small")
    assert "sums, 3 problems" in run(reasonweave, *own, "--large", "lab/large", "--log-dir", "two", cwd=tmp_path)
