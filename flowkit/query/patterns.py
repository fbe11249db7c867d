"""Regular expressions from users: one engine for every evaluator, bounded before it runs.

The engine is RE2 (package ``google-re2``, extra ``server``), because its time is linear in the text
for every pattern and its memory has a hard bound, so that no pattern can hang a process that serves
others. The other candidate, ``regex``, is faster per search and knows more of Java, but its time
limit holds for matching only: compiling is unbounded, a pattern can still burn the whole limit on
every text, and a time limit makes an answer depend on the load of the machine, which no two
evaluators could agree on. The price of RE2: look-around and back-references are refused
(``dialect.py``), and a microsecond per search.

Rules of this module: RE2 is imported on first use; a pattern is bounded in characters and in size
(counted repeats written out) before it is compiled, and in program memory while it is. A search
costs at worst the size of the pattern times the length of the text; ``search`` refuses a product
beyond ``limits.regex_work_max`` and raises for no other reason.

Source: protocol 4.3 (flags), 4.5.6, 4.5.13.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from flowkit import limits
from flowkit.errors import FilterError, LimitError
from flowkit.query.dialect import translate
from flowkit.query.nodes import REGEX_FLAGS

__all__ = ["Pattern", "compile", "search"]


_PLAIN = re.compile(r"[\w \-,;:'\"<>=~!@%&/]*")
"""Patterns of letters, digits and signs that mean nothing special outside a class."""


class Pattern:
    """A compiled pattern.

    Attributes:
        source: the pattern and its flags as a filter writes them, for errors.
        found_in: whether the pattern is found in a text given as UTF-8.
        bytes_max: the longest text that it is searched in.
    """

    __slots__ = ("bytes_max", "found_in", "source")

    def __init__(
        self, source: str, found_in: Callable[[bytes], bool], bytes_max: int = sys.maxsize
    ) -> None:
        self.source = source
        self.found_in = found_in
        self.bytes_max = bytes_max

    def __repr__(self) -> str:
        return f"<pattern {self.source}>"


def search(compiled: Pattern, text: str) -> bool:
    """Whether the pattern is found anywhere in *text*; half a surrogate pair matches nothing.

    Raises:
        FilterError: the text is too long for a pattern of that size.
    """
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > compiled.bytes_max:
        raise FilterError(
            f"filter: the pattern {_cut(compiled.source)} is too costly to search in a text"
            f" of {len(data)} bytes, it may take {compiled.bytes_max}",
            hint="a shorter pattern may take longer texts",
        )
    return compiled.found_in(data)


@lru_cache(maxsize=limits.regex_cache_entries)
def compile(pattern: str, flags: str = "") -> Pattern:  # noqa: A001 - the verb of every regex library
    """The compiled form of a pattern of a filter; the same one for the same text.

    Args:
        pattern: Java's dialect, at most ``limits.regex_pattern_chars_max`` characters.
        flags: letters of ``REGEX_FLAGS``.

    Raises:
        FilterError: the pattern is malformed, too costly, or uses what the engine lacks; names the
            construct and its place. Also when the engine is not installed.
        LimitError: the pattern is too long.
    """
    if len(pattern) > limits.regex_pattern_chars_max:
        raise LimitError(
            "filter: the regular expression",
            size=len(pattern),
            limit=limits.regex_pattern_chars_max,
            unit="characters",
        )
    for letter in flags:
        if letter not in REGEX_FLAGS:
            raise FilterError(
                f"filter: unknown regex flag {letter!r}", hint=f"one of {REGEX_FLAGS}"
            )
    source = f"/{pattern}/{flags}"
    plain = _plain_finder(pattern, flags)
    if plain is not None:
        return Pattern(source, plain)
    translated, size = translate(pattern, flags)
    return Pattern(source, _finder(translated, source), limits.regex_work_max // max(size, 1))


def _plain_finder(pattern: str, flags: str) -> Callable[[bytes], bool] | None:
    """A search for a pattern that stands for itself, which needs no engine; None for any other.

    ``bytes.lower`` folds ASCII and nothing else, as the flag ``i`` does without ``u``.
    """
    if not _PLAIN.fullmatch(pattern) or "x" in flags or {"i", "u"} <= set(flags):
        return None
    plain = pattern.encode()
    if "i" not in flags:
        return lambda text: plain in text
    folded = plain.lower()
    return lambda text: folded in text.lower()


def _finder(translated: str, source: str) -> Callable[[bytes], bool]:
    """A search over UTF-8 by RE2."""
    re2 = _engine()
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = limits.regex_program_bytes_max
    try:
        compiled = re2.compile(translated.encode(), options)
    except re2.error as error:
        said = error.args[0] if error.args else "refused"
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise FilterError(f"filter: the pattern {_cut(source)} cannot be used: {reason}") from None
    return _bare(compiled, re2) or (lambda text: compiled.search(text) is not None)


def _bare(compiled: Any, re2: Any) -> Callable[[bytes], bool] | None:
    """The engine's own match call: half the time of ``search``, which builds a match object.

    None where this release of the package has no such call; then the public one is used.
    """
    bare = getattr(compiled, "_regexp", None)
    anchor = getattr(re2, "_Anchor", None)
    if bare is None or anchor is None or not hasattr(bare, "Match"):
        return None
    match, unanchored = bare.Match, anchor.UNANCHORED

    def found_in(text: bytes) -> bool:
        return bool(match(unanchored, text, 0, len(text))[0][0] >= 0)

    return found_in


def _cut(source: str, chars: int = 80) -> str:
    return source if len(source) <= chars else source[: chars - 1] + "…"


def _engine() -> Any:
    try:
        return import_module("re2")
    except ImportError:
        raise FilterError(
            "filter: regular expressions need the package google-re2",
            hint="pip install 'flowkit[server]'",
        ) from None
