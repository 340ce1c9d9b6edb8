"""How wide a text is, and where to break it, without a font at hand: by the widths of DejaVu Sans, wider than most."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

_REGULAR = {
    0.32: "' ,.ijlIJ",
    0.39: "/:;\\|f-()[]t",
    0.46: '!r"',
    0.53: "*_`sz?",
    0.58: "cLFk",
    0.64: "vxyPTYaoeESbdghnpqu$0123456789{}",
    0.7: "KAVBRXZC",
    0.79: "UHNDG&OQ",
    0.86: "w#+<=>^~M→≥≤≈×",
    1.0: "%mW@",
}
_BOLD = {
    0.38: "' ,.ijlIJ/|\\",
    0.46: ":;-f!()[]",
    0.52: 'tr_`"*',
    0.6: "?zcs",
    0.69: "LvxyakoEFTe",
    0.73: "$0123456789hnu{}SYbdgpqCPZ",
    0.78: "BAKRVX",
    0.87: "UGD#+<=>HN^~OQ&→≥≤≈×",
    0.92: "w",
    1.1: "%@MmW",
}


def _table(widths: dict[float, str]) -> dict[str, float]:
    return {letter: width for width, letters in widths.items() for letter in letters}


_WIDTHS = {False: _table(_REGULAR), True: _table(_BOLD)}


@lru_cache(maxsize=4096)
def _letter(letter: str, bold: bool) -> float:
    """The width of a letter as a share of the font's size."""
    known = _WIDTHS[bold]
    if letter in known:
        return known[letter]
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(letter) in ("W", "F"):
        return 1.1 if letter.isalpha() else 1.4
    plain = unicodedata.normalize("NFD", letter)[0]
    return known.get(plain, 1.1)


def width(text: str, size: float, *, bold: bool = False) -> float:
    """At most how wide a text is, in the unit of the font's size.

    >>> width("WWW", 10) > width("iii", 10) > 0 == width("", 10)
    True
    """
    return size * sum(_letter(letter, bold) for letter in text)


def wrapped(text: str, size: float, most: float, *, bold: bool = False, lines: int | None = None) -> list[str]:
    """A text in lines that are at most so wide: broken at blanks, after signs where a word is too long, and anywhere in the last
    resort. What does not go into `lines` of them is cut, and ends with "…".

    >>> wrapped("one two three", 10, 50)
    ['one two', 'three']
    """
    found, line = list[str](), ""
    for word in _words(text):
        for piece in _pieces(word, size, most, bold):
            if line and width((line + piece).rstrip(), size, bold=bold) > most:
                found.append(line.rstrip())
                line = piece.lstrip()
            else:
                line += piece
    found += [line.rstrip()] if line.strip() or not found else []
    if lines is None or len(found) <= lines:
        return found
    last = found[lines - 1]
    while last and width(last + "…", size, bold=bold) > most:
        last = last[:-1]
    return [*found[: lines - 1], last.rstrip() + "…"]


def _words(text: str) -> list[str]:
    """Words with the blanks after them; a number and its % are one."""
    words, word = list[str](), ""
    for letter in text:
        if word and word[-1] == " " and letter not in " %":
            words.append(word)
            word = ""
        word += letter
    return [*words, word] if word else words


def _pieces(word: str, size: float, most: float, bold: bool) -> list[str]:
    """A word in pieces that fit into a line."""
    if width(word.rstrip(), size, bold=bold) <= most:
        return [word]
    pieces, piece, after = list[str](), "", 0
    for letter in word:
        while piece and width(piece + letter, size, bold=bold) > most:
            at = after or len(piece)
            pieces.append(piece[:at])
            piece, after = piece[at:], 0
        piece += letter
        if letter in "/-_.,:;=)(|":
            after = len(piece)
    return [*pieces, piece]
