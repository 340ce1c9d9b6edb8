"""What the symbolic step checker is worth on the lab, beside the majority and the lab's reward model: docs/verifiers/steps.md.

    python benchmarks/steps.py [--limit 200] [--n 8] [--no-prm]
    python benchmarks/steps.py --references FOLDER      solutions written by people, in gsm8k.jsonl, math500.jsonl, …

Solutions of lab/small at temperature 0.8. A step's label says whether the running value after it is the true one. Best-of-n
takes a solution of the highest value; where several share it, the mean over them. Intervals are 95 %, bootstrap over
problems. The reward model takes most of the time, about a minute for 200 problems on two cores.

In reference solutions hardly anything should be blamed: what is gets printed. And the last number of three right claims in
ten is changed where it stands: how many are blamed then?
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reasonweave.orchestrator import Candidate, Run, Score, open_model
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.strategies import whole
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.stats import auc, bootstrap
from reasonweave.tasks.lab.task import LabTask
from reasonweave.verifiers import ProcessReward
from reasonweave.verifiers.claims import Claim, claims, read
from reasonweave.verifiers.prm import average
from reasonweave.verifiers.steps import StepCheck

CHECKS: dict[str, Verifier] = {
    "`StepCheck()`": StepCheck(),
    "`carried=1`: each step for itself": StepCheck(carried=1.0),
    "`carried=0`": StepCheck(carried=0.0),
    "`unsourced=0.5`": StepCheck(unsourced=0.5),
    "`reduce=average`": StepCheck(average),
}


COLUMNS = (
    "step AUC",
    "wrong steps below 1",
    "right steps below 1",
    "right steps at 0",
    "outcome AUC",
    "best-of-n",
    "weighted vote",
    "steps/s",
)


REFERENCES = {"gsm8k": "answer", "math500": "solution", "olympiadbench": "solution", "aime24": "solution"}
"""Files of solutions, and where they are in a line."""


def references(folder: Path) -> None:
    """The checker on solutions that people wrote, as they are and with numbers changed."""
    rng = random.Random(0)
    print("| references | solutions | claims read | blamed | changed numbers found |")
    print("|---|---|---|---|---|")
    for name, key in REFERENCES.items():
        if not (file := folder / f"{name}.jsonl").exists():
            continue
        solutions = [str(text) for line in file.read_text().splitlines() if (text := joined(json.loads(line)[key]))]
        told, blamed, found = 0, list[str](), list[bool]()
        for solution in solutions:
            passages = solution.split("\n\n")
            for passage, some in zip(passages, read(passages), strict=True):
                told += sum(claim.verdict != "open" for claim in some)
                blamed += [f"{claim.text!r}: {claim.why}" for claim in some if claim.verdict == "wrong"]
                right = [claim for claim in some if claim.verdict == "right" and claim.result is not None]
                found += [hit for claim in right if (hit := changed(passage, claim, rng)) is not None]
        print(f"| {name} | {len(solutions):,} | {told:,} | {len(blamed)} | {np.mean(found):.1%} of {len(found):,} |")
        print("\n".join(f"<!-- {each} -->" for each in blamed))


def joined(solution: str | list[str]) -> str:
    """A solution as one text; some sets have it as a list, or as a list in JSON."""
    if isinstance(solution, str) and solution.startswith("["):
        try:
            solution = json.loads(solution)
        except ValueError:
            return str(solution)
    return solution if isinstance(solution, str) else "\n\n".join(solution)


def changed(passage: str, claim: Claim, rng: random.Random) -> bool | None:
    """Is a claim blamed once its last number is another one? None for those that are left as they are."""
    number = re.search(r"(\d+)[^\d\n]{0,30}$", claim.text)
    if number is None or rng.random() >= 0.3 or len(number[1]) >= 10:
        return None
    other = int(number[1]) + rng.choice([1, -1, 2, 10, -10, 3])
    if other < 0:
        return None
    at = claim.start + number.start(1)
    told = claims(passage[:at] + str(other) + passage[at + len(number[1]) :])
    return any(each.verdict == "wrong" and each.start <= at < each.end for each in told)


def told(found: np.ndarray, form: str = "{:.1f}", scale: float = 100.0) -> str:
    """A mean over problems with its interval."""
    low, high = bootstrap(lambda rows: float(found[rows].mean()), range(len(found)), draws=2000)
    return f"{form.format(scale * found.mean())} [{form.format(scale * low)}, {form.format(scale * high)}]"


def best(values: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of each problem, how often a solution of the highest value is right."""
    return np.array([row_right[row == row.max()].mean() for row, row_right in zip(values, right, strict=True)])


def voted(values: np.ndarray, answers: Sequence[Sequence[str | None]], examples: Sequence[Example]) -> np.ndarray:
    """Of each problem, whether the answer with the greatest sum of values is right; ties share."""
    found = []
    for row, given, example in zip(values, answers, examples, strict=True):
        sums: dict[str, float] = defaultdict(float)
        for value, answer in zip(row, given, strict=True):
            if answer is not None:
                sums[answer] += value
        top = [answer for answer, total in sums.items() if total == max(sums.values())]
        found.append(float(np.mean([example.correct(answer) for answer in top])) if top else 0.0)
    return np.array(found)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=200, help="problems")
    parser.add_argument("--n", type=int, default=8, help="solutions of each")
    parser.add_argument("--no-prm", action="store_true", help="leave the reward model out")
    parser.add_argument(
        "--references", type=Path, metavar="FOLDER", help="solutions that people wrote, instead of the lab"
    )
    options = parser.parse_args()
    if options.references:
        references(options.references)
        return
    task, n, run = LabTask(), options.n, Run()
    examples = task.examples(options.limit)
    small, prm = open_model("lab/small", role="small"), open_model("lab/prm", role="prm")
    assert isinstance(small, Model)
    assert isinstance(prm, RewardModel)
    empty = [Candidate(example.problem) for example in examples for _ in range(n)]
    solved = await whole(small).extend(empty, run.child("sample"))
    answers = [[each.answer for each in solved[k : k + n]] for k in range(0, len(solved), n)]
    right = np.array([[e.correct(a) for a in given] for e, given in zip(examples, answers, strict=True)])
    labels = np.concatenate(
        [task.step_labels(examples[k // n], each.passages) for k, each in enumerate(solved)]
    ).astype(bool)
    print(f"{len(examples)} problems, {n} solutions each: {told(right.mean(axis=1))} % right")
    print(f"{len(labels)} steps, {labels.mean():.0%} of them right")
    print(f"majority of {n}: {told(voted(np.ones_like(right, dtype=float), answers, examples))} %\n")
    print(f"| verifier | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    verifiers = CHECKS if options.no_prm else CHECKS | {"the lab's reward model": ProcessReward(prm)}
    for name, verifier in verifiers.items():
        began = time.perf_counter()
        scores = await verifier.score(solved, run.child(name))
        report(name, scores, labels, right, answers, examples, len(labels) / (time.perf_counter() - began))


def report(
    name: str,
    scores: Sequence[Score],
    labels: np.ndarray,
    right: np.ndarray,
    answers: Sequence[Sequence[str | None]],
    examples: Sequence[Example],
    speed: float,
) -> None:
    steps = np.concatenate([score.steps for score in scores])
    values = np.array([score.value for score in scores]).reshape(right.shape)
    checked = len(set(steps.tolist())) < 10
    cells = [
        f"{auc(steps, labels):.3f}",
        f"{(steps[~labels] < 1).mean():.1%}" if checked else "–",
        f"{(steps[labels] < 1).mean():.1%}" if checked else "–",
        f"{(steps[labels] == 0).mean():.1%}",
        f"{auc(values.ravel(), right.ravel()):.3f}",
        told(best(values, right)),
        told(voted(values, answers, examples)),
        f"{speed:,.0f}",
    ]
    print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    asyncio.run(main())
