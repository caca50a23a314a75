"""Making verbatim text harmless where it is shown (layer 2): terminals, XML and Markdown obey what they print."""

from __future__ import annotations

import re

# C0 except tab and line feed, DEL and C1; separators that end lines; bidirectional marks, which reorder what is
# read (CVE-2021-42574); surrogates and non-characters, which XML 1.0 forbids
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
_MARKDOWN = re.compile(r"([\\`*_\[\]#!|<>~&@:$])")
_PUNCTUATION = re.compile(r"[^\w\s.,·()/+-]")
_FENCES = re.compile("`+")


def visible(text: str) -> str:
    r"""Return the text with every character that acts instead of showing written as ``\x1b`` or ``\u202e``."""
    return _INVISIBLE.sub(_code, text.replace("\r\n", "\n"))


def _code(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def one_line(text: str) -> str:
    """Return the text on one line, line feeds and tabs as blanks."""
    return " ".join(visible(text).split())


def markdown(text: str) -> str:
    """Return the text on one line for Markdown, a table's cell included."""
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def markup(text: str) -> str:
    """Return the text on one line for HTML within Markdown, where either might read it."""
    return _PUNCTUATION.sub(lambda match: f"&#{ord(match[0])};", one_line(text))


def fenced(text: str) -> str:
    """Return a Markdown block that shows the text verbatim, whatever it holds."""
    shown = visible(text).rstrip("\n")
    fence = "`" * max(3, *(len(run) + 1 for run in _FENCES.findall(shown)), 3)
    return f"{fence}text\n{shown}\n{fence}"


def tail(text: str, *, lines: int) -> str:
    """Return the last `lines` lines, and how many stand before them."""
    kept = text.rstrip("\n").split("\n")
    if len(kept) <= lines:
        return "\n".join(kept)
    return "\n".join((f"({len(kept) - lines} lines before)", *kept[-lines:]))


def indented(text: str, by: str) -> str:
    """Return the text with `by` in front of every line."""
    return "\n".join(by + line for line in text.split("\n"))
