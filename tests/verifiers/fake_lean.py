#!/usr/bin/env python3
"""Stands in for `lean --json FILE` in tests: knows sums of whole numbers, four tactics and sorry, and answers as Lean does.

A theorem is ``theorem NAME : A = B := PROOF`` with sums on both sides. ``norm_num`` and ``rfl`` prove what is true,
``native_decide`` proves it with an axiom more, ``believe`` "proves" anything with an axiom of its own. For mischief: ``sleep``
starts a child and waits, ``flood`` writes without end, ``hog`` takes memory, ``lie`` prints what ``#print axioms`` would, and
``silent`` keeps that from being printed.
"""

import ast
import json
import operator
import os
import re
import subprocess
import sys
import time
from pathlib import Path

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
THEOREM = re.compile(r"theorem (\w+) : (.*?) := (.*?)(?=\n#print|\ntheorem|\Z)", re.DOTALL)


def worth(node: ast.AST) -> int:
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](worth(node.left), worth(node.right))
    assert isinstance(node, ast.Constant)
    return node.value


def say(severity: str, line: int, text: str) -> None:
    said = {
        "severity": severity,
        "pos": {"line": line, "column": 0},
        "endPos": None,
        "fileName": "Step.lean",
        "data": text,
        "caption": "",
    }
    print(json.dumps(said), flush=True)


def misbehave(proof: str) -> None:
    if "sleep" in proof:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(os.environ["HOME"], "child").write_text(str(child.pid))
        time.sleep(600)
    if "flood" in proof:
        while True:
            print("x" * 100_000)
    if "hog" in proof:
        bytearray(8 * 2**30)


def main() -> int:
    if sys.argv[1:] == ["--version"]:
        print("Lean (version 4.99.0, a stand-in for tests)")
        return 0
    assert sys.argv[1] == "--json"
    text = Path(sys.argv[2]).read_text()
    if "import Mathlib" in text and not Path(os.environ["HOME"], "mathlib").exists():
        say(
            "error",
            1,
            "unknown module prefix 'Mathlib'\n\nNo directory 'Mathlib' or file 'Mathlib.olean' in the search path entries",
        )
        return 1
    rests: dict[str, str | None] = {}
    failed = False
    for match in THEOREM.finditer(text):
        name, claim, proof = match.groups()
        line = text[: match.start()].count("\n") + 1
        misbehave(proof)
        try:
            left, right = (worth(ast.parse(side.strip(" ()"), mode="eval").body) for side in claim.split("="))
        except (SyntaxError, ValueError, KeyError, AssertionError):
            say("error", line, "unexpected token; expected term")
            failed = True
            continue
        tactics = proof.split()
        if "lie" in tactics:
            say("information", line + 1, f"'{name}' does not depend on any axioms")
        if "sorry" in tactics:
            say("warning", line, "declaration uses 'sorry'")
            rests[name] = "sorryAx"
        elif "believe" in tactics:
            rests[name] = "propext, Test.believe"
        elif left == right and any(each in tactics for each in ("norm_num", "rfl", "native_decide")):
            rests[name] = {"rfl": None, "norm_num": "propext,\n Classical.choice"}.get(tactics[-1], "Lean.ofReduceBool")
        else:
            say("error", line, f"unsolved goals\n⊢ {claim}")
            failed = True
    for match in re.finditer(r"^#print axioms (\w+)", text, re.MULTILINE):
        if match[1] in rests and "silent" not in text:
            axioms = rests[match[1]]
            told = "does not depend on any axioms" if axioms is None else f"depends on axioms: [{axioms}]"
            say("information", text[: match.start()].count("\n") + 1, f"'{match[1]}' {told}")
    return int(failed)


sys.exit(main())
