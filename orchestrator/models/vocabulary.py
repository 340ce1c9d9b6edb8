"""A checkpoint's tokenizer, byte by byte."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer


class Vocabulary:
    """A tokenizer.json: text to ids and back, byte by byte, so that a text's tokens can be told apart exactly."""

    def __init__(self, folder: Path, ends: Sequence[int]) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.ends = frozenset(ends)
        special = {i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        table = _byte_table()
        self.pieces = [b""] * (max(self.tokenizer.get_vocab().values()) + 1)
        for text, i in self.tokenizer.get_vocab().items():
            if i not in special:
                known = all(c in table for c in text)
                self.pieces[i] = bytes(table[c] for c in text) if known else text.encode()
        self._encode = functools.lru_cache(maxsize=8192)(self._encode_now)

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """The tokenizer of a checkpoint folder, and the tokens that its configuration says end a text."""
        config = json.loads((folder / "config.json").read_text())
        generation = folder / "generation_config.json"
        chosen = json.loads(generation.read_text()).get("eos_token_id") if generation.exists() else None
        ends = chosen if chosen is not None else config.get("eos_token_id")
        return cls(folder, ends if isinstance(ends, list) else [ends])

    def _encode_now(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(self, text: str) -> tuple[int, ...]:
        return self._encode(text)


def _byte_table() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes, read backwards."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}
